"""MoCo, SwAV, BYOL, SparK: a ResNet somewhere in a file."""

import pytest
import torch
import torchvision
from layouts import colours, convnext, convnext_grid, draw, grid, linear, optimizer, resnet, same, under, vit, written

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError

IMAGE = colours()
NETWORK, FEATURES = resnet()
STATE = {name: value for name, value in NETWORK.state_dict().items() if not name.startswith("fc.")}
OTHER = {name: torch.zeros_like(value) for name, value in STATE.items()}
NUMBERED = torch.nn.Sequential(*list(NETWORK.children())[:-1]).state_dict()
BLANK = {name: torch.zeros_like(value) for name, value in NUMBERED.items()}

MOCO = {
    "epoch": 200, "arch": "resnet50", "optimizer": optimizer(),
    "state_dict": {
        **under("module.encoder_q.", STATE), **linear("module.encoder_q.fc.0", 512, 512),
        **under("module.encoder_k.", OTHER), **linear("module.encoder_k.fc.0", 512, 512),
        "module.queue": draw(128, 8), "module.queue_ptr": torch.zeros(1),
    },
}  # fmt: skip
MOCO3 = {"state_dict": under("module.base_encoder.", STATE) | under("module.momentum_encoder.", OTHER)}
SWAV = under("module.", {**STATE, **linear("projection_head.0", 512, 64), "prototypes.weight": draw(30, 128)})
SPARK = {
    "arch": "resnet18", "is_pretrain": True, "args": "{}", "optimizer": optimizer(),
    "module": {
        **under("sparse_encoder.sp_cnn.", STATE), "mask_tokens.0": draw(1, 512, 1, 1), "norm_black": draw(1, 3, 4, 4),
        **under("densify_norms.0.", {"weight": draw(512)}), "dense_decoder.proj.bias": draw(3), "config": {"sbn": True},
    },
}  # fmt: skip
BYOLS = {
    "state dicts of online and target": {
        "online_network_state_dict": under("encoder.", NUMBERED) | linear("projetion.net.0", 512, 512),
        "target_network_state_dict": under("encoder.", BLANK),
        "optimizer_state_dict": optimizer(),
    },
    "one model": {
        "model": under("module.online_network.encoder.", NUMBERED)
        | under("module.target_network.encoder.", BLANK)
        | linear("module.predictor.predictor.l1", 256, 4096)
    },
    "a learner around a network": under("net.", OTHER)
    | under("online_encoder.net.", STATE)
    | under("target_encoder.net.", OTHER)
    | linear("online_predictor.0", 256, 4096),
    "Lightning, momentum copy behind": {
        "pytorch-lightning_version": "2.1",
        "state_dict": under("backbone.", NUMBERED)
        | under("backbone_momentum.", BLANK)
        | linear("prediction_head.layers.0", 512, 512),
    },
    "Lightning, momentum copy before": {
        "state_dict": under("momentum_backbone.", OTHER) | under("backbone.", STATE) | linear("predictor.0", 512, 512)
    },
    "Lightning, online network": {
        "state_dict": under("online_network.encoder.", STATE) | under("target_network.encoder.", OTHER)
    },
    "a backbone of its own": {"online_backbone": STATE, "target_backbone": OTHER, "online_classifier": {}},
}


def features(content, folder):
    ours, report = grid(content, folder, "resnet18", IMAGE)
    with torch.no_grad():
        return same(ours, FEATURES(IMAGE)), report


def test_the_query_encoder_of_moco_is_taken_and_not_the_key_encoder(tmp_path):
    equal, report = features(MOCO, tmp_path)
    assert equal
    assert "layout: MoCo v2" in report and "encoder_k: 122" in report and "queue: 1" in report


def test_the_base_encoder_of_moco_3_is_taken(tmp_path):
    assert features(MOCO3, tmp_path)[0]


def test_moco_3s_small_vit_is_refused_because_no_shape_tells_its_heads(tmp_path):
    content = {"state_dict": under("module.base_encoder.", vit(width=384, depth=1))}
    with pytest.raises(UserError, match="12 attention heads where timm's has 6"):
        handoff.load(Backbone("vit_small_patch16_224", 32), written(tmp_path, content))


@pytest.mark.parametrize("content", [SWAV, {"state_dict": SWAV, "epoch": 800}], ids=["released", "training"])
def test_swav_is_told_by_its_prototypes(tmp_path, content):
    equal, report = features(content, tmp_path)
    assert equal
    assert "layout: SwAV" in report and "prototypes: 1" in report and "projection_head: 2" in report


def test_the_padding_layer_of_swavs_resnet_changes_nothing():
    inner = torch.nn.functional.pad(IMAGE, (1, 1, 1, 1))
    with torch.no_grad():
        split = torch.nn.functional.conv2d(inner, NETWORK.conv1.weight, stride=2, padding=2)
        assert torch.equal(split, NETWORK.conv1(IMAGE))


@pytest.mark.parametrize("name", BYOLS)
def test_the_online_network_of_a_byol_is_taken(tmp_path, name):
    equal, report = features(BYOLS[name], tmp_path)
    assert equal, report
    assert "layout: BYOL" in report


def test_a_densenet_in_a_sequence_is_known(tmp_path):
    network = torchvision.models.densenet121().eval()
    content = {"model": under("online_network.encoder.", torch.nn.Sequential(network.features).state_dict())}
    ours, _ = grid(content, tmp_path, "densenet121", IMAGE)
    with torch.no_grad():
        assert same(ours, torch.relu(network.features(IMAGE)))


def test_the_encoder_in_sparks_wrapper_is_taken(tmp_path):
    equal, report = features(SPARK, tmp_path)
    assert equal
    assert "layout: SparK, pretraining" in report and "densify_norms: 1" in report


def test_a_released_spark_resnet_has_plain_names(tmp_path):
    assert features(STATE, tmp_path)[0]


@pytest.mark.parametrize("prefix", ["", "sparse_encoder.sp_cnn."])
def test_a_spark_convnext_needs_no_last_norm_as_no_feature_passes_through_it(tmp_path, prefix):
    tensors = convnext()
    ours, report = grid({"module": under(prefix, tensors)}, tmp_path, "convnext_tiny", IMAGE)
    assert same(ours, convnext_grid(tensors, IMAGE))
    assert "head.norm.weight and head.norm.bias are not in the file" in report


def test_nothing_says_which_of_two_networks_to_take(tmp_path):
    content = under("left.", STATE) | under("right.", OTHER)
    with pytest.raises(UserError, match=r"several networks \('left\.', 'right\.'\)"):
        handoff.load(Backbone("resnet18", 32), written(tmp_path, content))
