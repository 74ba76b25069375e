import pytest
import torch
from lightning.pytorch import Trainer
from tokenizers import untrained
from torch.nn.functional import conv2d, layer_norm, linear

from xrayssl.callbacks.reconstructions import reconstruction_sheet
from xrayssl.errors import UserError
from xrayssl.masking import Map, Masking
from xrayssl.methods import MAEPretrain
from xrayssl.optim import Optim
from xrayssl.patches import patchify, unpatchify

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "enable_checkpointing": False}  # fmt: skip
SMALL = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}


def tiny(size=64, **kwargs):
    torch.manual_seed(4)
    options = {**SMALL, "masking": Masking(0.75), **kwargs}
    return MAEPretrain(**{"backbone": "vit_tiny_patch16_224", "img_size": size, **options}).eval()


def transformer(tokens_BSD, block, heads):
    """A pre-norm transformer block, written out."""
    width = tokens_BSD.shape[-1]
    normed = layer_norm(tokens_BSD, (width,), block.norm1.weight, block.norm1.bias, 1e-6)
    parts = linear(normed, block.attn.qkv.weight, block.attn.qkv.bias).split(width, dim=-1)
    mixed = []
    for query, key, value in zip(*(part.split(width // heads, dim=-1) for part in parts), strict=True):
        mixed.append((query @ key.transpose(1, 2) / (width // heads) ** 0.5).softmax(-1) @ value)
    tokens_BSD = tokens_BSD + linear(torch.cat(mixed, -1), block.attn.proj.weight, block.attn.proj.bias)
    normed = layer_norm(tokens_BSD, (width,), block.norm2.weight, block.norm2.bias, 1e-6)
    inner = torch.nn.functional.gelu(linear(normed, block.mlp.fc1.weight, block.mlp.fc1.bias))
    return tokens_BSD + linear(inner, block.mlp.fc2.weight, block.mlp.fc2.bias)


def slow_encoding(method, image_BCHW, shuffle_BL, kept):
    """He et al. 2021: all patches are embedded, shuffled, and the first ones kept."""
    vit, width = method.backbone.network, method.backbone.width
    embedded = conv2d(image_BCHW, vit.patch_embed.proj.weight, vit.patch_embed.proj.bias, stride=16)
    embedded = embedded.flatten(2).transpose(1, 2) + vit.pos_embed[:, 1:]
    kept_BV = shuffle_BL[:, :kept]
    visible = torch.stack([tokens[rows] for tokens, rows in zip(embedded, kept_BV, strict=True)])
    tokens = torch.cat([(vit.cls_token + vit.pos_embed[:, :1]).expand(len(visible), 1, width), visible], 1)
    for block in vit.blocks:
        tokens = transformer(tokens, block, heads=3)
    return layer_norm(tokens, (width,), vit.norm.weight, vit.norm.bias, 1e-6)


def slow_prediction(method, encoded_BSD, shuffle_BL):
    """Mask tokens are appended, the sequence is put back in order, and every patch is predicted."""
    decoder, width = method.decoder, method.decoder.mask_token.shape[-1]
    tokens = linear(encoded_BSD, decoder.embed.weight, decoder.embed.bias)
    missing = shuffle_BL.shape[1] + 1 - tokens.shape[1]
    whole = torch.cat([tokens[:, 1:], decoder.mask_token.expand(len(tokens), missing, -1)], 1)
    restore_BL = shuffle_BL.argsort(1)
    whole = torch.stack([film[order] for film, order in zip(whole, restore_BL, strict=True)]) + decoder.position_1LE
    tokens = torch.cat([tokens[:, :1], whole], 1)
    for block in decoder.blocks:
        tokens = transformer(tokens, block, heads=2)
    tokens = layer_norm(tokens, (width,), decoder.norm.weight, decoder.norm.bias, 1e-6)
    return linear(tokens, decoder.predict.weight, decoder.predict.bias)[:, 1:]


def slow_loss(prediction_BLP, image_BCHW, mask_BL, standardize):
    """Mean square per patch, averaged over the hidden ones."""
    patches = image_BCHW.unfold(2, 16, 16).unfold(3, 16, 16).flatten(4).flatten(2, 3)[:, 0]
    if standardize:
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        patches = (patches - mean) / (variance + 1e-6) ** 0.5
    error_BL = ((prediction_BLP - patches) ** 2).mean(-1)
    return (error_BL * mask_BL).sum() / mask_BL.sum()


@pytest.mark.parametrize("target", ["pixels", "norm_pixels"])
@torch.no_grad()
def test_encoding_prediction_and_loss_are_those_of_a_slow_implementation_at_224_px(target):
    method, image = tiny(224, target=target, decoder_depth=2), torch.randn(3, 1, 224, 224)
    for parameter in method.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))  # zeros of the start would hide a bias that is left out
    torch.manual_seed(1)
    loss = method.losses({"image": image})["loss"]
    torch.manual_seed(1)
    visible_BV, hidden_BM = method.masking.draw((14, 14), 3)
    shuffle_BL = torch.cat([visible_BV, hidden_BM], 1)
    mask_BL = torch.ones(3, 196).scatter(1, visible_BV, 0.0)
    encoded_BSD = slow_encoding(method, image, shuffle_BL, visible_BV.shape[1])
    prediction_BLP = slow_prediction(method, encoded_BSD, shuffle_BL)
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(method.backbone.encode_visible(image, visible_BV), encoded_BSD, **close)
    hidden_BMP = prediction_BLP.gather(1, hidden_BM[..., None].expand(-1, -1, 256))
    torch.testing.assert_close(method.predict_hidden(image, visible_BV, hidden_BM), hidden_BMP, **close)
    torch.testing.assert_close(loss, slow_loss(prediction_BLP, image, mask_BL, target == "norm_pixels"), **close)


@torch.no_grad()
def test_an_encoder_with_mask_tokens_runs_over_the_whole_film():
    method, image = tiny(encoder_mask_tokens=True), torch.randn(2, 1, 64, 64)
    visible_BV, hidden_BM = method.masking.draw((4, 4), 2)
    vit = method.backbone.network
    embedded = vit.patch_embed(image)
    for film, hidden in zip(embedded, hidden_BM, strict=True):
        film[hidden] = method.mask_token[0, 0]
    whole = vit.norm(vit.blocks(torch.cat([vit.cls_token.expand(2, 1, -1), embedded], 1) + vit.pos_embed))
    decoder = method.decoder
    tokens = decoder.embed(whole)
    tokens[:, 1:] += decoder.position_1LE
    predicted = decoder.predict(decoder.norm(decoder.blocks(tokens)))[:, 1:]
    expected = predicted.gather(1, hidden_BM[..., None].expand(-1, -1, 256))
    torch.testing.assert_close(method.predict_hidden(image, visible_BV, hidden_BM), expected, atol=1e-5, rtol=1e-5)


def test_a_mask_token_of_the_encoder_learns_and_that_of_the_decoder_rests():
    method = tiny(encoder_mask_tokens=True)
    method.losses({"image": torch.randn(2, 1, 64, 64)})["loss"].backward()
    assert method.mask_token.grad.abs().sum() > 0
    idle = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_hidden_pixels_do_not_change_what_is_predicted(decoder):
    method, image = tiny(decoder=decoder), torch.randn(2, 1, 64, 64)
    visible_BV, hidden_BM = method.masking.draw((4, 4), 2)
    other = patchify(image, (16, 16)).scatter(1, hidden_BM[..., None].expand(-1, -1, 256), 9.0)
    changed = unpatchify(other, (16, 16), (4, 4))
    first, second = (method.predict_hidden(films, visible_BV, hidden_BM) for films in (image, changed))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("fraction", "decoded"), [(1.0, 12), (0.25, 3), (0.01, 1)])
@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_a_training_step_decodes_the_fraction_asked_for_and_validation_all(decoder, fraction, decoded):
    method, asked = tiny(decoder=decoder, decode_fraction=fraction), []
    inner = method.decoder.forward
    method.decoder.forward = lambda encoded, visible, hidden: asked.append(hidden) or inner(encoded, visible, hidden)
    for training in (True, False):
        method.train(training).losses({"image": torch.randn(2, 1, 64, 64)})
    assert [hidden.shape[1] for hidden in asked] == [decoded, 12]
    assert (asked[0].diff(dim=1) > 0).all()


def test_decoded_patches_are_drawn_evenly_from_the_hidden_ones():
    method, asked = tiny(decoder="cross", decode_fraction=0.25), []
    method.predict_hidden = lambda image, visible, hidden: (
        asked.append((visible, hidden)) or torch.zeros(*hidden.shape, 256)
    )
    for _ in range(20):
        method.train().losses({"image": torch.zeros(100, 1, 64, 64)})
    assert not any((hidden[:, :, None] == visible[:, None]).any() for visible, hidden in asked)
    share = torch.cat([hidden for _, hidden in asked]).flatten().bincount(minlength=16) / 2000
    assert (share - 0.75 * 0.25).abs().max() < 0.04


def test_the_loss_of_a_cross_decoded_fraction_is_that_of_all_on_average():
    method, image = tiny(decoder="cross", decode_fraction=0.25), torch.randn(8, 1, 64, 64).cumsum(2)
    with torch.no_grad():
        losses = [sum(method.losses({"image": image})["loss"] for _ in range(40)) / 40
                  for _ in (method.train(), method.eval())]  # fmt: skip
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=0.02)


def test_the_ratio_follows_the_steps_and_validation_takes_its_end(chest, tmp_path, monkeypatch):
    method, drawn = tiny(32, masking=Masking(0.25, ratio_end=0.75)).train(), []
    inner = method.target.loss
    method.target.loss = lambda p, t: drawn.append((method.training, p.shape[1])) or inner(p, t)
    Trainer(default_root_dir=tmp_path, max_steps=4, num_sanity_val_steps=0, **QUIET).fit(method, datamodule=chest)
    assert [count for training, count in drawn if training] == [1, 2, 2, 2]  # of 4 patches, at 25, 37.5, 50, 62.5 %
    assert {count for training, count in drawn if not training} == {3}


def test_principal_components_are_fitted_before_training_and_kept_in_the_checkpoint(chest, tmp_path):
    method = tiny(32, target="pca", pca_components=9)
    Trainer(default_root_dir=tmp_path, max_epochs=1, **QUIET).fit(method, datamodule=chest)
    state = method.state_dict()
    axes_PK = state["target.axes_PK"]
    torch.testing.assert_close(axes_PK.T @ axes_PK, torch.eye(9), atol=1e-5, rtol=0)
    assert method.decoder.predict.out_features == 9


def test_predicting_tokens_learns_and_names_the_tokenizer_among_the_ancestors(chest, tmp_path):
    _, path = untrained(tmp_path / "dvae.ckpt")
    method = tiny(32, target="tokens", tokenizer=path, optim=Optim(lr=1e-3, warmup_epochs=0))
    before = {name: value.clone() for name, value in method.target.state_dict().items()}
    Trainer(default_root_dir=tmp_path, max_epochs=1, **QUIET).fit(method, datamodule=chest)
    assert all(torch.equal(value, before[name]) for name, value in method.target.state_dict().items())
    assert [parent["method"] for parent in method.parents] == ["DVAE"]


def test_a_perfect_prediction_reconstructs_the_film():
    method, image = tiny(target="norm_pixels"), torch.randn(2, 1, 64, 64)
    method.predict_hidden = lambda films, visible, hidden: method.target(films, hidden)
    filled, mask = method.reconstruct(image)
    assert torch.allclose(filled, image, atol=1e-5)
    assert mask.float().mean() == 0.75


@pytest.mark.parametrize("kwargs", [{}, {"decoder": "cross"}, {"decoder": "cross", "decoder_fusion": True},
                                    {"encoder_mask_tokens": True}])  # fmt: skip
def test_visible_patches_pass_through_a_reconstruction_unchanged(kwargs):
    method, image = tiny(**kwargs), torch.randn(2, 1, 64, 64)
    filled, mask = method.reconstruct(image)
    assert torch.equal(filled[~mask], image[~mask])
    assert not torch.isclose(filled[mask], image[mask]).all()


def test_a_reconstruction_sheet_has_four_rows_and_draws_the_same_masks_each_time():
    method, films = tiny(), torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8)
    sheet = reconstruction_sheet(method, films)
    assert sheet.shape == (4 * 64, 3 * 64)
    assert (sheet == reconstruction_sheet(method, films)).all()


def test_a_cnn_is_refused_with_a_network_that_would_do():
    with pytest.raises(UserError, match=r"--model\.backbone vit_small_patch16_224, or for a CNN .*spark_chest\)\.$"):
        MAEPretrain(backbone="resnet18", img_size=32)


@pytest.mark.parametrize("start", [None, "another stage"])
def test_positions_are_fixed_and_everything_else_learns(start):
    frozen = [name for name, parameter in tiny(init_from=start).named_parameters() if not parameter.requires_grad]
    assert frozen == ["backbone.network.pos_embed"]


SIZES = [("vit_tiny_patch16_224", 512), ("vit_small_patch32_224", 384), ("vit_small_patch8_224", 224),
         ("vit_base_patch16_224", 384), ("vit_large_patch16_224", 224), ("vit_base_patch8_224", (224, 288)),
         ("vit_large_patch32_224", 512), ("vit_tiny_patch16_224", (256, 320))]  # fmt: skip


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_every_size_of_vit_patch_and_film_is_built_as_it_should(name, size, monkeypatch):
    patch = int(name.split("patch")[1].split("_")[0])
    height, width = (size, size) if isinstance(size, int) else size
    monkeypatch.setattr(
        "xrayssl.backbone.Backbone._observe",
        lambda self: (self.network.num_features, (height // patch, width // patch)),
    )
    with torch.device("meta"):
        method = MAEPretrain(backbone=name, img_size=size, **SMALL)
    count = (height // patch) * (width // patch)
    assert method.backbone.network.pos_embed.shape[1] == count + 1
    assert method.decoder.position_1LE.shape[1] == count
    assert method.target.width == patch * patch


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", (32, 64)), ("vit_small_patch32_224", (96, 64)),
                                            ("vit_small_patch8_224", (16, 40))])  # fmt: skip
@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_films_need_not_be_square_and_patches_not_of_16_pixels(name, size, decoder):
    method = tiny(size, backbone=name, decoder=decoder, masking=Masking(0.5, kind="block"))
    method.train().losses({"image": torch.randn(2, 1, *size)})["loss"].backward()
    filled, mask = method.reconstruct(torch.randn(2, 1, *size))
    assert filled.shape == mask.shape == (2, 1, *size)


@pytest.mark.parametrize("wrong", [{"decoder_depth": 0}, {"decoder_depth": 13}, {"decoder_width": 33}])
@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_a_decoder_that_cannot_be_is_refused(decoder, wrong):
    with pytest.raises(UserError, match=r"--model\.decoder_"):
        tiny(decoder=decoder, **wrong)


@pytest.mark.parametrize(("wrong", "said"), [
    ({"decode_fraction": 0.0}, "decode_fraction"), ({"decode_fraction": 1.5}, "decode_fraction"),
    ({"encoder_mask_tokens": True, "decoder": "cross"}, "decoder self"),
    ({"decoder_fusion": True}, "decoder cross"),
    ({"encoder_mask_tokens": True, "decode_fraction": 0.5}, "decode_fraction 1"),
    ({"target": "tokens"}, r"model\.tokenizer RUN.*dvae_chest"),
    ({"tokenizer": "run"}, "not norm_pixels; leave it out or set the target"),
    ({"masking": Masking(0.75, ratio_end=0.99)}, "hides 16 of 16"),
])  # fmt: skip
def test_options_that_do_not_go_together_are_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        tiny(**wrong)


def test_every_option_that_cannot_be_is_told_at_once_in_whole_sentences():
    wrong = {"decoder_depth": 13, "decoder_width": 100, "decoder_heads": 16, "decode_fraction": 2.0, "target": "pca"}
    with pytest.raises(UserError) as caught:
        tiny(**wrong, pca_components=999, masking=Masking(0.999))
    told = caught.value.messages
    keys = ("decode_fraction", "decoder_depth", "decoder_width", "masking.ratio", "pca_components")
    assert [sentence.split(" ")[0].rstrip(":") for sentence in told] == [f"--model.{key}" for key in keys]
    assert all(sentence.endswith(".") for sentence in told)


def test_a_tokenizer_for_another_size_is_refused_when_the_model_is_made(tmp_path):
    _, path = untrained(tmp_path / "dvae.ckpt", size=32)
    with pytest.raises(UserError, match="32 x 32 px, a grid of 2 x 2, the model on films of 64 x 64 px"):
        tiny(64, target="tokens", tokenizer=path)


@pytest.mark.parametrize("changed", [{"masking": Masking(0.5)}, {"target": "norm_pixels"},
                                     {"masking": Masking(0.75, plus=(Map(kind="center"),))}])  # fmt: skip
def test_a_run_that_goes_on_with_other_masks_or_targets_is_refused(changed, chest, tmp_path):
    options = {"target": "pixels", "optim": Optim(warmup_epochs=0)}
    trainer = Trainer(default_root_dir=tmp_path, max_epochs=1, limit_train_batches=1, **QUIET)
    trainer.fit(tiny(32, **options), datamodule=chest)
    trainer.save_checkpoint(tmp_path / "cut.ckpt")
    other = Trainer(default_root_dir=tmp_path, max_epochs=2, limit_train_batches=1, **QUIET)
    with pytest.raises(UserError, match=r"model\.(masking|target)"):
        other.fit(tiny(32, **{**options, **changed}), datamodule=chest, ckpt_path=tmp_path / "cut.ckpt")
