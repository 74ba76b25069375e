import pytest
import timm
import torch
from layouts import colours, grid, resnet, same, vit, vit_grid, written
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch.nn import functional as F

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError

NETWORK, FEATURES = resnet()
NORM = ("running_mean", "running_var", "weight", "bias")


IMAGENET = [torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]


def grey():
    """Raw grey films of 0-1, and the same in three channels, each normalised as ImageNet's networks are fed."""
    film = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(4))
    return film, (film - IMAGENET[0]) / IMAGENET[1]


def folded(tensors, folder, network):
    backbone = Backbone(network, 32)
    report, _ = handoff.load(backbone, written(folder, tensors))
    return backbone.eval(), str(report)


def test_colour_is_folded_so_that_a_grey_film_gives_what_its_three_normalised_channels_gave(tmp_path):
    tensors, (film, channels) = vit(), grey()
    backbone, report = folded(tensors, tmp_path, "vit_tiny_patch16_224")
    with torch.no_grad():
        assert same(backbone(backbone.normalize(film)), vit_grid(tensors, channels))
    assert "patch_embed.proj folded from 3 input channels to 1 by their sum" in report
    assert "mean 0.449 and std 0.226: ImageNet's" in report


def test_colour_is_folded_for_a_cnn_whose_norm_takes_the_shift(tmp_path):
    (film, channels), tensors = grey(), dict(NETWORK.state_dict())
    backbone, report = folded(tensors, tmp_path, "resnet18")
    with torch.no_grad():
        ours = backbone.network.bn1(backbone.network.conv1(backbone.normalize(film)))
        mean, variance, weight, bias = (tensors[f"bn1.{name}"] for name in NORM)
        theirs = F.conv2d(channels, tensors["conv1.weight"], stride=2, padding=3)
        theirs = F.batch_norm(theirs, mean, variance, weight, bias)
    assert same(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2])  # at the border either pads zeros of its own
    assert "conv1 folded" in report


def test_a_grey_network_in_three_channels_sees_a_grey_film_as_before_and_keeps_the_models_statistics(tmp_path):
    tensors, film = vit(chans=1), colours()[:, :1]
    ours, report = grid(tensors, tmp_path, "vit_tiny_patch16_224", film.expand(-1, 3, -1, -1), mean=0.3)
    assert same(ours, vit_grid(tensors, film))
    assert "does not tell how its input was normalised" in report


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_positions_are_resampled_to_another_grid_as_timm_does(tmp_path, size):
    backbone, tensors = Backbone("vit_tiny_patch16_224", size), vit(grid=3)
    report, _ = handoff.load(backbone, written(tmp_path, tensors))
    cells = (size[0] // 16, size[1] // 16)
    expected = resample_abs_pos_embed(tensors["pos_embed"], cells, (3, 3))
    assert torch.equal(backbone.network.pos_embed, expected)
    assert f"positions resampled from 3 x 3 to {cells[0]} x {cells[1]} patches" in str(report)


def test_as_many_patches_in_another_shape_are_resampled_too(tmp_path):
    backbone, tensors = Backbone("vit_tiny_patch16_224", (32, 128)), vit(grid=4)
    handoff.load(backbone, written(tmp_path, tensors))
    assert not torch.equal(backbone.network.pos_embed, tensors["pos_embed"])
    assert torch.equal(backbone.network.pos_embed[:, :1], tensors["pos_embed"][:, :1])


def test_another_patch_size_resamples_the_patch_embedding(tmp_path):
    tensors = vit(width=384, depth=12, patch=16, grid=4)
    backbone = Backbone("vit_small_patch32_224", 64, in_chans=3)
    report, _ = handoff.load(backbone, written(tmp_path, tensors))
    expected = resample_patch_embed(tensors["patch_embed.proj.weight"], (32, 32))
    assert torch.equal(backbone.network.patch_embed.proj.weight, expected)
    assert "patch embedding resampled from 16 x 16 to 32 x 32 px" in str(report)


def test_a_position_of_the_class_token_moves_into_the_token_where_the_network_has_none(tmp_path):
    tensors = vit(width=384, depth=12, patch=14)
    scaled = {f"blocks.{n}.ls{i}.gamma": torch.ones(384) for n in range(12) for i in (1, 2)}
    with_registers = tensors | scaled | {"register_tokens": torch.ones(1, 4, 384)}
    backbone = Backbone("vit_small_patch14_reg4_dinov2", 28, in_chans=3)
    handoff.load(backbone, written(tmp_path, with_registers))
    assert torch.equal(backbone.network.cls_token, tensors["cls_token"] + tensors["pos_embed"][:, :1])
    assert torch.equal(backbone.network.pos_embed, tensors["pos_embed"][:, 1:])


def test_a_longer_network_of_the_same_width_is_refused_though_every_name_is_there(tmp_path):
    path = written(tmp_path, timm.create_model("resnet34").state_dict())
    with pytest.raises(UserError, match=r"does not fit resnet18.*does not know.*set --model\.backbone resnet34\.$"):
        handoff.load(Backbone("resnet18", 32), path)


def test_a_deeper_vit_of_the_same_width_is_refused(tmp_path):
    path = written(tmp_path, vit(depth=13))
    with pytest.raises(UserError, match=r"12 tensors that the network does not know, such as 'blocks\.12\."):
        handoff.load(Backbone("vit_tiny_patch16_224", 32), path)


def test_a_lacking_tensor_is_named(tmp_path):
    tensors = vit()
    del tensors["blocks.7.mlp.fc1.bias"]
    with pytest.raises(UserError, match=r"lacks 1 of 150 tensors, such as 'blocks\.7\.mlp\.fc1\.bias'"):
        handoff.load(Backbone("vit_tiny_patch16_224", 32), written(tmp_path, tensors))


def test_a_refused_file_leaves_the_backbone_as_it_was(tmp_path):
    backbone = Backbone("vit_tiny_patch16_224", 32)
    before = handoff.fingerprint(backbone)
    with pytest.raises(UserError):
        handoff.load(backbone, written(tmp_path, vit(depth=11)))
    assert handoff.fingerprint(backbone) == before
