import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from xrayssl.callbacks import BackboneExport, Reconstructions
from xrayssl.callbacks.reconstructions import (
    LINE,
    captioned,
    measured_share,
    reconstruction_picture,
    reconstruction_sheet,
    row_names,
    titled,
    visibility_sheet,
)
from xrayssl.errors import UserError
from xrayssl.handoff import FILE, describe
from xrayssl.masking import Map, Masking, visible_share
from xrayssl.methods import DVAE, MAEPretrain, MaskedCNNPretrain, RotationProxy

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "enable_checkpointing": False}  # fmt: skip


def tiny(masking=None, **options):
    options = {"img_size": 32, "decoder_width": 32, "decoder_heads": 2, "decoder_depth": 1, **options}
    return MAEPretrain(backbone="vit_tiny_patch16_224", masking=masking or Masking(0.5), **options)


def figures(folder):
    return sorted(path.name for path in (folder / "figures").iterdir())


@pytest.fixture
def run(tmp_path, chest):
    callbacks = [Reconstructions(films=2, every=2), BackboneExport(git="abc")]
    Trainer(default_root_dir=tmp_path, max_epochs=3, limit_train_batches=1, callbacks=callbacks, **QUIET).fit(
        tiny(), datamodule=chest
    )
    return tmp_path


def test_the_first_every_second_and_the_last_epoch_have_a_picture_and_masks_that_stay_one(run):
    names = [*(f"reconstruction-epoch000{epoch}.png" for epoch in (1, 2, 3)), "visible-epoch0000.png"]
    assert figures(run) == names
    assert cv2.imread(str(run / "figures" / names[0]), cv2.IMREAD_GRAYSCALE).shape == (4 * 128, 96 + 2 * 128)


def test_a_ratio_that_changes_is_drawn_as_it_changes(tmp_path, chest):
    fit = {"max_epochs": 2, "limit_train_batches": 1, "callbacks": [Reconstructions(films=1, every=1)], **QUIET}
    Trainer(default_root_dir=tmp_path, **fit).fit(tiny(Masking(0.25, ratio_end=0.75)), datamodule=chest)
    assert figures(tmp_path)[2:] == [f"visible-epoch000{epoch}.png" for epoch in (0, 1, 2)]


@pytest.mark.parametrize("validation", [{}, {"limit_val_batches": 0}, {"num_sanity_val_steps": 0}])
def test_a_training_that_ends_within_an_epoch_has_its_pictures(validation, tmp_path, chest):
    method = tiny()
    fit = {"max_steps": 2, "callbacks": [Reconstructions(films=2)], **validation, **QUIET}
    Trainer(default_root_dir=tmp_path, **fit).fit(method, datamodule=chest)
    assert figures(tmp_path) == ["reconstruction-epoch0001.png", "visible-epoch0000.png"]
    assert all(part.training for part in method.modules())


def test_the_last_picture_is_of_the_averaged_network(tmp_path, chest, monkeypatch):
    seen = []
    monkeypatch.setattr(MAEPretrain, "reconstruct", lambda self, image: seen.append(
        (self._averaging.shown, self.training)) or (image, image > 9))  # fmt: skip
    fit = {"max_steps": 1, "callbacks": [Reconstructions()], **QUIET}
    Trainer(default_root_dir=tmp_path, **fit).fit(tiny(ema=0.9), datamodule=chest)
    assert seen == [(True, False)]


def test_the_backbone_for_the_next_stage_says_where_it_comes_from(run, chest):
    facts = describe(run / FILE)
    assert (facts["method"], facts["git"], facts["parents"]) == ("MAEPretrain", "abc", [])
    assert facts["data"] == chest.manifest.checksum()


def test_the_visible_map_is_black_where_patches_are_hidden_and_white_where_most_are_seen():
    method = tiny(Masking(0.5, kind="center", floor=0.01, sigma=0.2), img_size=112)
    map_HW = visibility_sheet(method, side=70)[-70:, 96 : 96 + 70]
    assert map_HW[35, 35] < 128 < map_HW[2, 2]
    assert map_HW.max() == 255


def test_the_visible_map_says_what_it_is_and_of_which_ratio_where_that_changes():
    still, changing = (visibility_sheet(tiny(masking)) for masking in (Masking(0.5), Masking(0.5, ratio_end=0.75)))
    assert [len(sheet_HW) - 224 for sheet_HW in (still, changing)] == [LINE + 8, 2 * LINE + 8]
    assert still[: LINE + 8].any() and changing[LINE + 8 : 2 * LINE + 8].any()


@pytest.mark.parametrize("kind", ["uniform", "center"])
def test_patches_that_are_alike_are_drawn_alike_without_the_noise_of_drawing(kind):
    share_hw = measured_share(Masking(0.9, kind=kind), (8, 8))
    assert torch.equal(share_hw, share_hw.flip(0)) and torch.equal(share_hw, share_hw.T)
    assert share_hw.mean().item() == pytest.approx(6 / 64, abs=1e-6)
    if kind == "uniform":
        assert share_hw.unique().numel() == 1


@pytest.mark.parametrize("masking", [Masking(0.75, kind="block"), Masking(0.5, plus=(Map(kind="grid"),))])
def test_the_share_of_masks_that_are_drawn_is_measured_patch_by_patch(masking):
    share_hw = measured_share(masking, (6, 6))
    assert (share_hw - visible_share(masking, (6, 6), draws=4096)).abs().max() < 0.06


def test_what_a_picture_takes_from_the_true_film_stands_beside_it():
    assert row_names(tiny(target="norm_pixels"))[1:3] == [
        "visible,\n50 % hidden",
        "reconstruction,\ntrue mean and\ncontrast",
    ]
    cnn = MaskedCNNPretrain(backbone="test_resnet", img_size=64, masking=Masking(0.75), decoder_width=64)
    assert row_names(cnn)[1:3] == ["visible,\n75 % hidden", "reconstruction,\ntrue mean and\ncontrast"]
    assert row_names(tiny(target="pixels"))[2] == "reconstruction"


def test_an_autoencoders_rows_say_that_it_shows_codes():
    rows = row_names(DVAE(backbone="vit_tiny_patch16_224", img_size=32, codes=8, code_width=8))
    assert "none hidden" in rows[1] and "codes" in rows[2]


def test_small_films_are_enlarged_without_new_greys():
    films, method = torch.randint(0, 256, (1, 1, 32, 32), dtype=torch.uint8), tiny().eval()
    large_HW = reconstruction_picture(method, films, side=224)[:, 96:]
    assert large_HW.shape == (4 * 224, 224)
    assert (large_HW[3::7, 3::7] == reconstruction_sheet(method, films)).all()


def test_text_is_never_cut_off_at_a_narrow_sheet():
    sheet_HW = np.full((40, 10), 255, np.uint8)
    for wide_HW in (titled(sheet_HW, ["a line that is much longer"]), captioned(sheet_HW, ["a name that is longer"])):
        assert wide_HW.shape[1] > 110 and wide_HW.any()
    assert (titled(sheet_HW, ["\u00fc"]) == titled(sheet_HW, ["?"])).all()


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
    method = DVAE(backbone="vit_tiny_patch16_224", img_size=32, codes=8, code_width=8)
    fit = {"max_epochs": 1, "limit_train_batches": 1, "callbacks": [Reconstructions(films=2)], **QUIET}
    Trainer(default_root_dir=tmp_path, **fit).fit(method, datamodule=chest)
    assert figures(tmp_path) == ["reconstruction-epoch0001.png"]


def test_a_method_that_reconstructs_nothing_is_refused():
    with pytest.raises(UserError, match="RotationProxy reconstructs nothing"):
        Reconstructions().setup(None, RotationProxy(backbone="resnet18", img_size=32), "fit")
