import cv2
import pytest
from lightning.pytorch import Trainer

from xrayssl.callbacks import BackboneExport, Reconstructions
from xrayssl.handoff import FILE, describe
from xrayssl.masking import Masking
from xrayssl.methods import MAEPretrain


@pytest.fixture
def run(tmp_path, chest):
    method = MAEPretrain(
        backbone="vit_tiny_patch16_224", img_size=32, masking=Masking(0.5), decoder_width=32, decoder_heads=2
    )
    callbacks = [Reconstructions(films=2, every=2), BackboneExport(git="abc")]
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    Trainer(default_root_dir=tmp_path, max_epochs=3, limit_train_batches=1, callbacks=callbacks,
            enable_checkpointing=False, **options).fit(method, datamodule=chest)  # fmt: skip
    return tmp_path


def test_the_first_every_second_and_the_last_epoch_have_a_picture(run):
    names = sorted(path.name for path in (run / "figures").iterdir())
    assert names == [f"reconstruction-epoch000{epoch}.png" for epoch in (1, 2, 3)]
    assert cv2.imread(str(run / "figures" / names[0]), cv2.IMREAD_GRAYSCALE).shape == (4 * 32, 96 + 2 * 32)


def test_the_backbone_for_the_next_stage_says_where_it_comes_from(run, chest):
    facts = describe(run / FILE)
    assert (facts["method"], facts["git"], facts["parents"]) == ("MAEPretrain", "abc", [])
    assert facts["data"] == chest.manifest.checksum()
