import cv2
import pytest
import torch
from lightning.pytorch import Trainer

from xrayssl.callbacks import BackboneExport, Reconstructions
from xrayssl.callbacks.reconstructions import reconstruction_sheet, visibility_sheet
from xrayssl.errors import UserError
from xrayssl.handoff import FILE, describe
from xrayssl.masking import Masking
from xrayssl.methods import DVAE, MAEPretrain, RotationProxy


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
    assert names == [f"{name}-epoch000{epoch}.png" for name in ("reconstruction", "visible") for epoch in (1, 2, 3)]
    assert cv2.imread(str(run / "figures" / names[0]), cv2.IMREAD_GRAYSCALE).shape == (4 * 32, 96 + 2 * 32)


def test_the_backbone_for_the_next_stage_says_where_it_comes_from(run, chest):
    facts = describe(run / FILE)
    assert (facts["method"], facts["git"], facts["parents"]) == ("MAEPretrain", "abc", [])
    assert facts["data"] == chest.manifest.checksum()


def test_the_visible_map_is_black_where_patches_are_hidden_and_white_where_most_are_seen():
    masking = Masking(0.5, kind="center", floor=0.01, sigma=0.2)
    method = MAEPretrain(backbone="vit_tiny_patch16_224", img_size=112, masking=masking, decoder_heads=2)
    sheet_HW = visibility_sheet(method, side=70)
    assert sheet_HW.shape == (70, 96 + 70)
    assert sheet_HW[35, 96 + 35] < 128 < sheet_HW[2, 98]
    assert sheet_HW[:, 96:].max() == 255


@pytest.mark.parametrize("target", ["pixels", "norm_pixels", "pca"])
def test_each_target_that_is_predicted_rightly_is_drawn_as_the_film(target):
    method = MAEPretrain(backbone="vit_tiny_patch16_224", img_size=32, masking=Masking(0.5), decoder_heads=2,
                         target=target, pca_components=256)  # fmt: skip
    films = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8)
    method.target.fit([method.backbone.normalize(films)] * 40)
    method.predict_hidden = lambda image, visible, hidden: method.target(image, hidden)
    sheet = torch.from_numpy(reconstruction_sheet(method.eval(), films)).int()
    assert (sheet[64:96] - sheet[:32]).abs().max() <= 1
    assert sheet[96:].min() >= 254
    assert (sheet[32:64] == 128).float().mean() >= 0.5


def test_an_autoencoder_is_drawn_without_a_map_of_masks(tmp_path, chest):
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    method = DVAE(backbone="vit_tiny_patch16_224", img_size=32, codes=8, code_width=8)
    Trainer(default_root_dir=tmp_path, max_epochs=1, limit_train_batches=1, callbacks=[Reconstructions(films=2)],
            enable_checkpointing=False, **options).fit(method, datamodule=chest)  # fmt: skip
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["reconstruction-epoch0001.png"]


def test_a_method_that_reconstructs_nothing_is_refused():
    with pytest.raises(UserError, match="RotationProxy reconstructs nothing"):
        Reconstructions().setup(None, RotationProxy(backbone="resnet18", img_size=32), "fit")
