"""Networks alone, as timm, torchvision and programs that nobody published write them."""

import pytest
import timm
import torch
import torchvision
from layouts import (
    args,
    colours,
    convnext,
    convnext_grid,
    grid,
    linear,
    resnet,
    same,
    shaken,
    under,
    vit,
    vit_grid,
    written,
)
from safetensors.torch import save_file

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError

IMAGE = colours(size=64)
NETWORK, FEATURES = resnet()


@torch.no_grad()
def of_timm(name, **options):
    network = shaken(timm.create_model(name, num_classes=5, **options))
    return network, network.forward_intermediates(IMAGE, indices=1, norm=True, intermediates_only=True)[0]


def test_a_network_of_an_unknown_family_sees_films_as_timm_says(tmp_path):
    """EfficientNet-Lite was trained at mean and std 0.5, others at ImageNet's."""
    save_file(of_timm("tf_efficientnet_lite0")[0].state_dict(), tmp_path / "x.safetensors")
    _, report = grid(tmp_path / "x.safetensors", tmp_path, "tf_efficientnet_lite0", IMAGE)
    assert "mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5: timm's for tf_efficientnet_lite0" in report


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "resnet26d", "convnextv2_atto"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_timms_files_are_read_as_they_are(tmp_path, name, suffix):
    network, theirs = of_timm(name)
    path = tmp_path / f"x{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(network.state_dict(), path)
    ours, report = grid(path, tmp_path, name, IMAGE)
    assert same(ours, theirs)
    assert "0 missing" in report


def test_a_classifier_of_timm_brings_timms_statistics(tmp_path):
    network, theirs = of_timm("vit_tiny_patch16_224", img_size=64)
    ours, report = grid(network.state_dict(), tmp_path, "vit_tiny_patch16_224", IMAGE)
    assert same(ours, theirs)
    assert "mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5: timm's for vit_tiny_patch16_224" in report


def test_the_moving_average_that_timm_saves_is_taken_as_timm_does(tmp_path):
    network, theirs = of_timm("resnet18")
    blank = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    content = {"state_dict": blank, "state_dict_ema": network.state_dict(), "args": args(), "metric": 70.0}
    ours, report = grid(content, tmp_path, "resnet18", IMAGE)
    assert same(ours, theirs)
    assert "moving average" in report


def torchvision_vit():
    options = {"image_size": 64, "patch_size": 16, "num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}
    network = torchvision.models.VisionTransformer(**options).eval()
    torch.nn.init.normal_(network.class_token)
    tokens = torch.cat([network.class_token.expand(2, -1, -1), network._process_input(IMAGE)], dim=1)
    return network, network.encoder(tokens)[:, 1:].mT.unflatten(2, (4, 4)), "vit_tiny_patch16_224"


def torchvision_resnet():
    return NETWORK, FEATURES(IMAGE), "resnet18"


def torchvision_densenet():
    network = shaken(torchvision.models.densenet121())
    return network, torch.relu(network.features(IMAGE)), "densenet121"


def torchvision_convnext():
    network = shaken(torchvision.models.convnext_tiny())
    for name, value in network.named_parameters():
        if name.endswith("layer_scale"):
            value.uniform_(0.1, 0.5)
    return network, network.features(IMAGE), "convnext_tiny"


@pytest.mark.parametrize(
    "make", [torchvision_vit, torchvision_resnet, torchvision_densenet, torchvision_convnext], ids=lambda f: f.__name__
)
def test_torchvisions_networks_give_torchvisions_features(tmp_path, make):
    with torch.no_grad():
        network, theirs, name = make()
    ours, report = grid(network.state_dict(), tmp_path, name, IMAGE)
    assert same(ours, theirs)
    assert "torchvision's names" in report
    assert handoff.describe(tmp_path / "weights")["architecture"] == name


def test_torchvisions_old_densenets_have_a_dot_in_their_names_and_no_counters(tmp_path):
    network = shaken(torchvision.models.densenet121())
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    old = {}
    for name, value in state.items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.") if "denselayer" in name else name
        old[name] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    ours, report = grid(old, tmp_path, "densenet121", IMAGE)
    with torch.no_grad():
        assert same(ours, torch.relu(network.features(IMAGE)))
    assert "121 counters of batches are not in the file" in report


def test_the_authors_convnext_2_is_read_with_its_response_normalisation(tmp_path):
    tensors = convnext((40, 80, 160, 320), (2, 2, 6, 2), version=2)
    head = {"norm.weight": torch.ones(320), "norm.bias": torch.zeros(320), **linear("head", 320, 5)}
    ours, report = grid({"model": tensors | head}, tmp_path, "convnextv2_atto", IMAGE)
    assert same(ours, convnext_grid(tensors, IMAGE))
    assert "head: 2" in report


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.backbone.", "net.trunk."])
def test_what_wraps_a_network_is_taken_off(tmp_path, prefix):
    content = {"state_dict": under(prefix, NETWORK.state_dict())}
    ours, _ = grid(content, tmp_path, "resnet18", IMAGE)
    with torch.no_grad():
        assert same(ours, FEATURES(IMAGE))


def test_a_compiled_part_of_a_network_is_found(tmp_path):
    tensors = vit(grid=4)
    ours, _ = grid(under("encoder._orig_mod.", tensors), tmp_path, "vit_tiny_patch16_224", IMAGE)
    assert same(ours, vit_grid(tensors, IMAGE))


def test_a_lightning_checkpoint_of_another_program_is_read(tmp_path):
    state = under("model.", NETWORK.state_dict()) | {"criterion.weight": torch.ones(5)}
    content = {"pytorch-lightning_version": "2.4.0", "state_dict": state, "hyper_parameters": {"lr": 1.0}}
    ours, report = grid(content, tmp_path, "resnet18", IMAGE)
    with torch.no_grad():
        assert same(ours, FEATURES(IMAGE))
    assert "layout: Lightning, ResNet" in report and "criterion: 1" in report


def test_half_precision_becomes_single(tmp_path):
    tensors = {name: value.half() for name, value in NETWORK.state_dict().items()}
    backbone = Backbone("resnet18", 64, in_chans=3)
    handoff.load(backbone, written(tmp_path, tensors))
    assert backbone.network.conv1.weight.dtype == torch.float32
    assert torch.equal(backbone.network.conv1.weight, NETWORK.conv1.weight.half().float())


def test_names_that_nobody_knows_are_said_to_be_so(tmp_path):
    path = written(tmp_path, {"a.weight": torch.ones(2), "b": torch.ones(1)})
    with pytest.raises(UserError, match="no network that xrayssl knows, nor those of resnet18"):
        handoff.load(Backbone("resnet18", 32), path)
    with pytest.raises(UserError, match="name its timm network"):
        handoff.describe(path)


def test_a_container_within_itself_ends(tmp_path):
    content = {"state_dict": NETWORK.state_dict(), "loop": []}
    content["loop"].append(content["loop"])
    assert handoff.read(written(tmp_path, content)).others == {"fc": 2}
