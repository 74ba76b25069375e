import pytest
import torch

from xrayssl.callbacks.reconstructions import reconstruction_sheet
from xrayssl.masking import Masking
from xrayssl.methods import MAEPretrain
from xrayssl.patches import patchify


def tiny(**kwargs):
    options = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2, "masking": Masking(0.75)}
    return MAEPretrain(backbone="vit_tiny_patch16_224", img_size=64, **{**options, **kwargs}).eval()


def slow_loss(method, image_BCHW, visible_BV, hidden_BM):
    """The loss film by film and patch by patch, with tokens put back in raster order before the decoder."""
    total = []
    for image, visible, hidden in zip(image_BCHW, visible_BV, hidden_BM, strict=True):
        tokens = method.decoder.embed(method.backbone.encode_visible(image[None], visible[None]))
        full = method.decoder.mask_token.expand(1, 16, -1).clone()
        full[:, visible] = tokens[:, 1:]
        whole = torch.cat([tokens[:, :1], full + method.decoder.position_1LE], dim=1)
        decoded = method.decoder.norm(method.decoder.blocks(whole))[:, 1:]
        for patch in hidden:
            row, column = divmod(int(patch), 4)
            pixels = image[0, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].flatten()
            if method.norm_pix:
                pixels = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
            total.append(((method.decoder.predict(decoded[0, patch]) - pixels) ** 2).mean())
    return torch.stack(total).mean()


@pytest.mark.parametrize("norm_pix", [False, True])
def test_the_loss_is_that_of_a_slow_recomputation(norm_pix):
    method, image = tiny(norm_pix=norm_pix), torch.randn(2, 1, 64, 64)
    torch.manual_seed(1)
    loss = method.losses({"image": image})["loss"]
    torch.manual_seed(1)
    assert loss.item() == pytest.approx(slow_loss(method, image, *method.masking.draw((4, 4), 2)).item(), rel=1e-5)


def test_a_perfect_prediction_reconstructs_the_film():
    method, image = tiny(norm_pix=True), torch.randn(2, 1, 64, 64)
    method.predict_hidden = lambda x, visible, hidden: method.target(
        torch.stack([patchify(film[None], (16, 16))[0, row] for film, row in zip(x, hidden, strict=True)])
    )
    filled, mask = method.reconstruct(image)
    assert torch.allclose(filled, image, atol=1e-5)
    assert mask.float().mean() == 0.75


def test_visible_patches_pass_through_a_reconstruction_unchanged():
    method, image = tiny(), torch.randn(2, 1, 64, 64)
    filled, mask = method.reconstruct(image)
    assert torch.equal(filled[~mask], image[~mask])
    assert not torch.isclose(filled[mask], image[mask]).all()


def test_a_reconstruction_sheet_has_four_rows_and_draws_the_same_masks_each_time():
    method, films = tiny(), torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8)
    sheet = reconstruction_sheet(method, films)
    assert sheet.shape == (4 * 64, 3 * 64)
    assert (sheet == reconstruction_sheet(method, films)).all()


def test_a_cnn_is_refused_with_a_network_that_would_do():
    with pytest.raises(ValueError, match="take a ViT"):
        MAEPretrain(backbone="resnet18", img_size=32)


@pytest.mark.parametrize("start", [None, "another stage"])
def test_positions_are_fixed_and_everything_else_learns(start):
    frozen = [name for name, parameter in tiny(init_from=start).named_parameters() if not parameter.requires_grad]
    assert frozen == ["backbone.network.pos_embed"]


def test_films_need_not_be_square():
    method = MAEPretrain(backbone="vit_tiny_patch16_224", img_size=(32, 64), decoder_width=32, decoder_heads=2)
    assert method.losses({"image": torch.randn(2, 1, 32, 64)})["loss"].isfinite()


@pytest.mark.parametrize("wrong", [{"decoder_depth": 0}, {"decoder_depth": 13}, {"decoder_width": 33}])
def test_a_decoder_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="decoder"):
        tiny(**wrong)
