import copy
from contextlib import nullcontext

import pytest
import torch
from explainable import films, network
from torch import nn

from xrayssl.explain import cam
from xrayssl.explain.kinds import KINDS, explain, layer_named
from xrayssl.explain.occlusion import occlusion
from xrayssl.explain.rollout import rollout

SIZE = (64, 96)
AUTOCAST = {"device_type": "cpu", "dtype": torch.bfloat16}


def refused(*args, **kwargs):
    raise AssertionError("the compiled code ran")


def frozen(method):
    return method.requires_grad_(False)


def trained(method):
    return method.train()


def compiled(method):
    for part in (method, method.backbone, method.backbone.network):
        part._compiled_call_impl = refused
    return method


def checkpointed(method):
    method.backbone.network.set_grad_checkpointing(True)
    return method.train()


@pytest.fixture(scope="module")
def expected():
    method = network("test_vit", SIZE, drop_path=0.2)
    return {kind: explain(kind, method, films(2, SIZE), [0, 2]) for kind in KINDS}


@pytest.mark.parametrize("state", [frozen, trained, compiled, checkpointed])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_any_state_has_the_same_maps_and_stays_in_it(kind, state, expected):
    method = state(network("test_vit", SIZE, drop_path=0.2))
    method.head.eval()
    method.head.linear.weight.grad = torch.ones_like(method.head.linear.weight)
    hook = method.backbone.grid.register_forward_hook(lambda *_: None)
    before, weights, draw = told(method), copy.deepcopy(method.state_dict()), torch.random.get_rng_state()
    found, logit = explain(kind, method, films(2, SIZE), [0, 2])
    assert torch.equal(found, expected[kind][0]) and torch.equal(logit, expected[kind][1])
    assert told(method) == before and torch.equal(torch.random.get_rng_state(), draw)
    assert all(torch.equal(value, weights[name]) for name, value in method.state_dict().items())
    assert (method.head.linear.weight.grad == 1).all() and list(method.backbone.grid._forward_hooks) == [hook.id]


def told(method):
    """Of every part: mode, hooks, compiled code; of every weight: whether it has and takes a gradient."""
    parts = [
        (part.training, len(part._forward_hooks), len(part._forward_pre_hooks), part._compiled_call_impl)
        for part in method.modules()
    ]
    return parts, [(weight.requires_grad, weight.grad is None) for weight in method.parameters()]


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, lambda: torch.autocast(**AUTOCAST)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_context_changes_nothing(kind, guard, expected):
    method = network("test_vit", SIZE)
    with guard():
        found, logit = explain(kind, method, films(2, SIZE) + 0, [0, 2])
    assert torch.equal(found, expected[kind][0]) and not found.requires_grad and not logit.requires_grad


@pytest.mark.parametrize("backbone", ["test_vit", "resnet18"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bfloat16_model_has_the_maps_of_its_weights_in_float32(kind, backbone):
    if (kind, backbone) == ("rollout", "resnet18"):
        return
    method = network(backbone, SIZE).bfloat16()
    found, logit = explain(kind, method, films(1, SIZE).bfloat16(), [1])
    exact, _ = explain(kind, copy.deepcopy(method).float(), films(1, SIZE).bfloat16().float(), [1])
    assert torch.equal(found, exact) and found.dtype == logit.dtype == torch.float32 and found.max() > 0
    assert {value.dtype for value in method.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("backbone", ["test_vit", "resnet18", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_films_of_any_shape_lie_on_the_grid_and_are_not_negative(kind, backbone):
    method = network(backbone, SIZE)
    with pytest.raises(ValueError, match="Rollout") if kind == "rollout" and backbone != "test_vit" else nullcontext():
        found, logit = explain(kind, method, films(2, SIZE), [2, 0, 1])
        assert found.shape == (2, 3, *method.backbone.grid_size) and found.min() >= 0
        assert found.max() > 0 or (kind, backbone[:4]) == ("grad_cam_plus_plus", "swin")
        torch.testing.assert_close(logit, method(films(2, SIZE))[:, [2, 0, 1]].detach(), atol=1e-5, rtol=1e-5)


def test_each_kind_is_what_its_name_says():
    method, image = network("test_vit"), films()
    at = (method, method.backbone.grid, image, [1])
    for kind in ("grad_cam", "grad_cam_plus_plus", "hires_cam"):
        assert torch.equal(explain(kind, method, image, [1])[0], cam.maps(*at, getattr(cam, kind))[0])
    assert torch.equal(explain("occlusion", method, image, [1])[0], occlusion(*at)[0].relu())
    assert torch.equal(explain("rollout", method, image, [1, 2])[0][:, 1], rollout(method, image)[0])


def test_a_map_is_of_the_layer_that_is_given():
    method = network()
    layer = layer_named(method, "backbone.network.layer3")
    for kind in ("grad_cam", "occlusion"):
        assert explain(kind, method, films(1), [1], layer)[0].shape == (1, 1, 4, 4)
    with pytest.raises(ValueError, match="leave the layer out"):
        explain("rollout", network("test_vit"), films(1), [1], layer)


def test_an_unknown_kind_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"'score_cam'; choose grad_cam, .*, rollout or occlusion"):
        explain("score_cam", network("test_vit"), films(1), [0])


@pytest.mark.parametrize("classes", [[], [3], [-1, 0]])
def test_classes_that_there_are_not_are_refused(classes):
    with pytest.raises(ValueError, match="numbers 0 to 2, not"):
        explain("grad_cam", network("test_vit"), films(1), classes)


def test_hires_cam_before_a_normalisation_is_refused_for_it_is_rounding_alone():
    method = network("test_vit", pooling="attentive")
    nn.init.normal_(method.head.pool.query)
    noise = cam.maps(method, method.backbone.grid, films(), [0], cam.hires_cam)[0].max()
    assert noise < 1e-4 * cam.maps(method, method.backbone.grid, films(), [0])[0].max()
    with pytest.raises(ValueError, match="take grad_cam"):
        explain("hires_cam", method, films(), [0])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("layer3", "did you mean backbone.network.layer3"), ("backbone.network.laeyr3", "backbone.network.layer3"),
     ("backbone.network.fc3", "backbone.network"), ("", "backbone.grid"), ("zzz", "backbone.grid")],
)  # fmt: skip
def test_a_layer_that_there_is_not_is_refused_with_near_names(name, hint):
    with pytest.raises(ValueError, match=f"no layer '{name}'; .*{hint}"):
        layer_named(network(), name)
