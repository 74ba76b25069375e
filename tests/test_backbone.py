import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import checkpoint_filter_fn

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError

FAMILIES = {
    "vit_tiny_patch16_224": (192, (4, 4)),
    "resnet18": (512, (2, 2)),
    "densenet121": (1024, (2, 2)),
    "efficientnet_b0": (320, (2, 2)),
    "convnext_atto": (320, (2, 2)),
    "mobilenetv3_small_050": (288, (2, 2)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_one_grid_of_the_width_it_says(name):
    backbone = Backbone(name, 64).eval()
    grid_BDhw = backbone(torch.rand(2, 1, 64, 64))
    assert grid_BDhw.shape == (2, backbone.width, *backbone.grid_size) == (2, FAMILIES[name][0], *FAMILIES[name][1])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_encoding_every_patch_is_the_plain_forward(name):
    backbone = Backbone(name, 56 if "14" in name else 64).eval()
    image = torch.rand(2, 1, *backbone.img_size)
    every = torch.arange(backbone.grid_size[0] * backbone.grid_size[1]).expand(2, -1)
    tokens = backbone.encode_visible(image, every)[:, backbone.network.num_prefix_tokens :]
    assert torch.allclose(tokens, backbone(image).flatten(2).transpose(1, 2), atol=1e-5)


def test_the_maps_of_all_layers_end_in_the_plain_encoding():
    backbone, image = Backbone("vit_tiny_patch16_224", 64).eval(), torch.rand(2, 1, 64, 64)
    visible = torch.tensor([[0, 5, 9], [1, 2, 15]])
    maps = backbone.encode_layers(image, visible)
    assert len(maps) == 13
    assert torch.equal(maps[-1], backbone.encode_visible(image, visible))
    assert torch.equal(maps[0][:, 1:], backbone._embed(image, visible))


@pytest.mark.parametrize(("name", "idle"), [
    ("resnet18", set()), ("vit_tiny_patch16_224", set()), ("convnext_atto", {"head.norm.weight", "head.norm.bias"}),
    ("efficientnet_b0", {"conv_head.weight", "bn2.weight", "bn2.bias"}),
])  # fmt: skip
def test_what_the_grid_does_not_pass_through_is_not_trained(name, idle):
    network = Backbone(name, 32).network
    assert {key for key, value in network.named_parameters() if not value.requires_grad} == idle


def test_hidden_pixels_cannot_change_the_encoding():
    backbone, image = Backbone("vit_tiny_patch16_224", 64).eval(), torch.rand(1, 1, 64, 64)
    visible, changed = torch.tensor([[0, 5]]), image.clone()
    changed[..., 32:] = 9.0
    assert torch.equal(backbone.encode_visible(image, visible), backbone.encode_visible(changed, visible))


def test_a_cnn_refuses_to_encode_single_patches():
    with pytest.raises(ValueError, match="take a ViT"):
        Backbone("resnet18", 32).encode_visible(torch.rand(1, 1, 32, 32), torch.tensor([[0]]))


def test_a_mistyped_network_gets_a_suggestion():
    with pytest.raises(UserError, match="Did you mean 'resnet18'"):
        Backbone("resnet18s", 32)


def test_grey_values_are_normalised_on_the_device():
    backbone = Backbone("resnet18", 32, mean=0.4, std=0.2)
    image = torch.tensor([0, 102, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    assert torch.allclose(backbone.normalize(image).flatten(), torch.tensor([-2.0, 0.0, 3.0]), atol=1e-6)


def test_pretrained_weights_that_cannot_be_had_are_one_sentence(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(UserError, match=r"resnet18 cannot be had \(no network\).*--model\.init_from PATH"):
        Backbone("resnet18", 32, pretrained=True)


def test_compiling_changes_neither_results_nor_names():
    plain, compiled = (Backbone("vit_tiny_patch16_224", 32).eval() for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    compiled.compile(backend="eager")
    image, visible = torch.rand(1, 1, 32, 32), torch.tensor([[0, 3]])
    assert torch.allclose(compiled(image), plain(image), atol=1e-5)
    assert torch.allclose(compiled.encode_visible(image, visible), plain.encode_visible(image, visible), atol=1e-5)
    assert set(compiled.state_dict()) == set(plain.state_dict())


def test_a_vit_whose_positions_count_a_token_we_do_not_know_is_refused():
    distilled = Backbone("deit_tiny_distilled_patch16_224", 32)
    with pytest.raises(ValueError, match="cannot encode single patches"):
        distilled.encode_visible(torch.rand(1, 1, 32, 32), torch.tensor([[0]]))


def test_films_that_patches_do_not_divide_are_refused():
    with pytest.raises(UserError, match=r"40 x 40 px cannot be cut into the 16 x 16 patches.*--data\.img_size"):
        Backbone("vit_tiny_patch16_224", 40)


def test_a_network_without_stochastic_depth_is_named():
    with pytest.raises(UserError, match=r"densenet121 has no stochastic depth; set --model\.drop_path 0"):
        Backbone("densenet121", 32, drop_path=0.2)


@pytest.mark.parametrize("rate", [-0.1, 1, 2])
def test_a_drop_path_that_is_no_rate_is_refused(rate):
    with pytest.raises(UserError, match="drop_path"):
        Backbone("vit_tiny_patch16_224", 32, drop_path=rate)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_films_of_another_size_get_what_a_network_of_that_size_with_resampled_positions_gives(name):
    side = 14 if "14" in name else 16
    backbone, image = Backbone(name, 4 * side).eval(), torch.rand(2, 1, 2 * side, 3 * side)
    other = Backbone(name, (2 * side, 3 * side)).eval()
    other.network.load_state_dict(checkpoint_filter_fn(backbone.network.state_dict(), other.network))
    torch.testing.assert_close(backbone(image), other(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "size", "word"), [
    ("swin_tiny_patch4_window7_224", (64, 64), "one size only"), ("vit_tiny_patch16_224", (40, 40), "Tiles of 40 x 40"),
])  # fmt: skip
def test_a_network_that_cannot_see_another_size_says_so(name, size, word):
    with pytest.raises(UserError, match=word):
        Backbone(name, 224).check_size("Tiles", size)


def test_convolutions_run_in_the_quick_layout_and_are_handed_on_in_the_usual_one(tmp_path):
    backbone = Backbone("resnet18", 32)
    assert backbone.network.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(
        value.is_contiguous() for value in load_file(handoff.save(backbone, tmp_path / "b.safetensors")).values()
    )
