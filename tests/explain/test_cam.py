import copy

import numpy as np
import pytest
import torch
from explainable import films, network
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from xrayssl.explain.cam import grad_cam, grad_cam_plus_plus, hires_cam, maps

NETWORKS = [
    "resnet18", "densenet121", "convnext_atto", "test_vit", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"
]  # fmt: skip


def explained(method, image=None, classes=(0, 2)):
    return maps(method, method.backbone.grid, films() if image is None else image, classes)


def closed_form(method, image):
    """ReLU of the features weighed by the linear layer, a share of 1 / (h w) for each cell."""
    with torch.no_grad():
        grid = method.backbone(image)
        share = method.head.linear.weight / (grid.shape[2] * grid.shape[3])
        return torch.einsum("kd,bdhw->bkhw", share, grid).relu()


@pytest.mark.parametrize("backbone", NETWORKS)
def test_with_mean_pooling_and_a_linear_head_it_is_cam(backbone):
    method = network(backbone)
    expected = closed_form(method, films())[:, [0, 2]]
    found, logit = explained(method)
    assert expected.max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.max()), rtol=0)
    torch.testing.assert_close(logit, method(films())[:, [0, 2]].detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet18", "test_vit", "vit_small_patch14_reg4_dinov2"])
@pytest.mark.parametrize("size", [(56, 56), (56, 112)])
def test_after_its_normalisation_it_is_the_map_of_pytorch_grad_cam(backbone, size):
    size = size if "14" in backbone else tuple(64 * side // 56 for side in size)
    method, image = network(backbone, size), films(2, size)
    found, _ = explained(method, image, [1])
    theirs = by_library(GradCAM, method, image)
    np.testing.assert_allclose(scaled(found[:, 0], size), theirs, atol=1e-4)


def by_library(kind, method, image):
    library = kind(model=(twin := copy.deepcopy(method)), target_layers=[twin.backbone.grid])
    theirs = library(image, targets=[ClassifierOutputTarget(1)] * len(image))
    library.activations_and_grads.release()
    return theirs


def scaled(map_Bhw, size):
    """As the library scales maps."""
    return scale_cam_image(scale_cam_image(map_Bhw.numpy(), size[::-1]))


class Saturated(nn.Module):
    """Pooling whose gradient is another in every place."""

    def forward(self, grid_BDhw):
        return grid_BDhw.tanh().mean(dim=(2, 3))


LIBRARY = [(grad_cam, GradCAM), (grad_cam_plus_plus, GradCAMPlusPlus), (hires_cam, HiResCAM)]


@pytest.mark.parametrize("scale", [1.0, 0.01])  # gradients far above and below the epsilon of Grad-CAM++
@pytest.mark.parametrize(("weigh", "theirs"), LIBRARY)
@pytest.mark.parametrize("backbone", ["resnet18", "test_vit"])
def test_where_gradients_differ_between_places_every_kind_is_that_of_pytorch_grad_cam(backbone, weigh, theirs, scale):
    method, image = network(backbone, (96, 128)), films(2, (96, 128))
    method.head.pool = Saturated()
    method.head.linear.weight.data *= scale
    found, _ = maps(method, method.backbone.grid, image, [1], weigh)
    assert found.flatten(2).std(dim=2).min() > 0
    np.testing.assert_allclose(scaled(found[:, 0], (96, 128)), by_library(theirs, method, image), atol=1e-4)


def test_the_kinds_differ_where_gradients_do_and_with_mean_pooling_hires_cam_is_grad_cam():
    linear, curved = network("test_vit"), network("test_vit")
    curved.head.pool = Saturated()
    for method, alike in ((linear, True), (curved, False)):
        one, other = (maps(method, method.backbone.grid, films(), [0], weigh)[0] for weigh in (grad_cam, hires_cam))
        assert torch.allclose(one, other, atol=1e-5 * float(one.max())) is alike


def test_grad_cam_plus_plus_is_equation_19_where_gradients_are_large():
    torch.manual_seed(0)
    activation, gradient = torch.rand(2, 5, 3, 4) + 0.1, torch.randn(2, 5, 3, 4)
    expected = torch.zeros(2, 3, 4)
    for film in range(2):
        for feature in range(5):
            a, g = activation[film, feature], gradient[film, feature]
            alpha = g**2 / (2 * g**2 + a.sum() * g**3)
            expected[film] += (alpha * g.clamp(min=0)).sum() * a
    torch.testing.assert_close(grad_cam_plus_plus(activation, gradient), expected.clamp(min=0), rtol=1e-3, atol=1e-4)


def test_a_head_that_is_not_linear_is_explained_by_its_gradient():
    method, image = network(), films()
    method.head.linear = nn.Sequential(nn.Linear(512, 8), nn.GELU(), nn.Linear(8, 3))
    grid = method.backbone(image).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(method.head(grid)[:, 2].sum(), grid)
    expected = (gradient.mean((2, 3), keepdim=True) * grid).sum(1).relu().detach()
    torch.testing.assert_close(explained(method)[0][:, 1], expected)


def test_it_is_the_same_for_a_film_alone_and_in_a_batch():
    method = network("test_vit")
    together, alone = explained(method)[0], [explained(method, film[None])[0] for film in films()]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_context_changes_nothing_and_stays(guard):
    method = network("test_vit")
    expected = explained(method)[0]
    with guard():
        image = films() + 0  # an inference tensor, where the caller is in that mode
        grad, half = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        found = explained(method, image)[0]
        assert (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")) == (grad, half)
    assert torch.equal(found, expected) and found.dtype == torch.float32 and found.max() > 0


def test_a_frozen_network_is_explained_and_stays_frozen():
    method = network()
    expected = explained(method)[0]
    method.requires_grad_(False)
    assert torch.equal(explained(method)[0], expected)
    assert not any(parameter.requires_grad for parameter in method.parameters())


def test_a_compiled_network_is_explained_uncompiled_and_stays_compiled():
    def refused(*args, **kwargs):
        raise AssertionError("the compiled code ran")

    method = network()
    expected = explained(method)[0]
    method.backbone._compiled_call_impl = refused
    assert torch.equal(explained(method)[0], expected)
    assert method.backbone._compiled_call_impl is refused


def test_a_bfloat16_network_is_explained_in_float32_and_stays_so():
    method = network("test_vit").bfloat16()
    expected = explained(copy.deepcopy(method).float())[0]
    found = explained(method)[0]
    assert torch.equal(found, expected) and found.dtype == torch.float32
    assert {value.dtype for value in method.parameters()} == {torch.bfloat16}


def test_the_network_is_afterwards_what_it_was():
    method = network("resnet18", drop_path=0.1)
    method.train()
    method.backbone.network.layer1.eval()
    method.backbone.grid.register_forward_hook(lambda *_: None)
    method.head.linear.weight.grad = torch.ones_like(method.head.linear.weight)
    state, modes = copy.deepcopy(method.state_dict()), [part.training for part in method.modules()]
    draw = torch.random.get_rng_state()
    explained(method)
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    assert [part.training for part in method.modules()] == modes
    assert len(method.backbone.grid._forward_hooks) == 1 and torch.equal(torch.random.get_rng_state(), draw)
    assert [n for n, p in method.named_parameters() if p.grad is not None] == ["head.linear.weight"]
    assert (method.head.linear.weight.grad == 1).all()


def test_an_error_inside_leaves_it_so_too():
    method = network().train()
    with pytest.raises(ValueError, match="not a map"):
        maps(method, method.head.linear, films(), [0])
    assert method.training and not method.head.linear._forward_hooks


def test_a_layer_that_is_not_called_once_is_refused():
    method = network()
    with pytest.raises(ValueError, match="called 0 times"):
        maps(method, nn.Identity(), films(), [0])


def test_a_class_that_nothing_speaks_for_has_an_empty_map():
    method = network()
    nn.init.constant_(method.head.linear.weight, -1.0)  # features of a ResNet are 0 or more
    assert explained(method)[0].abs().max() == 0


def test_another_layer_may_be_named():
    method, kept = network(), []
    handle = method.backbone.network.layer3.register_forward_hook(lambda *parts: kept.append(parts[2]))
    (gradient,) = torch.autograd.grad(method(films())[:, 1].sum(), kept)
    handle.remove()
    expected = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).relu().detach()
    found, _ = maps(method, method.backbone.network.layer3, films(), [1])
    torch.testing.assert_close(found[:, 0], expected)
    assert found.shape == (3, 1, 4, 4) and found.max() > 0


def test_a_layer_whose_channels_come_last_is_refused_rather_than_taken_for_a_map():
    method = network("swin_tiny_patch4_window7_224")
    with pytest.raises(ValueError, match=r"\(3, 2, 2, 768\), not a map \(B, D, h, w\) of films of 64 x 64 px"):
        maps(method, method.backbone.network.layers[-1], films(), [0])
