from functools import partial

import pytest
import torch
from torch import nn

from xrayssl.backbone import Backbone
from xrayssl.momentum import MomentumNetwork, check_momentum


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def changed(online):
    """The module after something like a step, its batch norm after two batches."""
    online(torch.randn(8, 3))
    online(torch.randn(8, 3))
    with torch.no_grad():
        for parameter in online.parameters():
            parameter += torch.randn_like(parameter)
    return online


def test_a_momentum_network_moves_by_exactly_one_minus_the_momentum():
    online = small()
    target = MomentumNetwork(online)
    before = {name: value.clone() for name, value in target.copy.state_dict().items()}
    target.follow(changed(online), 0.75)
    for name, new in target.copy.state_dict().items():
        own, its = before[name], online.state_dict()[name]
        expected = 0.75 * own + 0.25 * its if own.is_floating_point() else its
        assert not torch.equal(own, its), name
        assert torch.allclose(new, expected, atol=1e-6), name


def test_with_momentum_0_it_becomes_equal_and_with_1_it_stays():
    online = small()
    target = MomentumNetwork(online)
    before = [value.clone() for value in target.parameters()]
    changed(online)
    target.follow(online, 1.0)
    assert all(torch.equal(one, two) for one, two in zip(before, target.parameters(), strict=True))
    target.follow(online, 0.0)
    assert all(torch.equal(value, target.copy.state_dict()[name]) for name, value in online.state_dict().items())


def test_the_copy_of_a_compiled_network_is_compiled_and_runs_its_own_weights(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    online = Backbone("vit_tiny_patch16_224", 32).eval()
    online.compile()
    copy = MomentumNetwork(online).copy
    assert copy._compiled_call_impl is not None
    assert copy._compiled_call_impl is not online._compiled_call_impl
    image, visible = torch.randn(1, 1, 32, 32), torch.tensor([[0, 2]])
    before = copy(image), copy.encode_visible(image, visible)
    assert torch.allclose(before[0], online(image), atol=1e-6)
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.zero_()
    after = copy(image), copy.encode_visible(image, visible)
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


@pytest.mark.parametrize("architecture", ["resnet18", "vit_tiny_patch16_224"])
def test_it_shares_no_tensor_with_what_it_follows_and_answers_alike(architecture):
    online = Backbone(architecture, 32).eval()
    target = MomentumNetwork(online)
    owned = [{tensor.data_ptr() for tensor in (*part.parameters(), *part.buffers())} for part in (online, target)]
    assert not owned[0] & owned[1]
    image = torch.randn(2, 1, 32, 32)
    first = target(image)
    assert torch.equal(first, online(image))
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.zero_()
    assert torch.equal(first, target(image))


def test_it_gets_no_gradient_even_of_an_input_that_has_one():
    target = MomentumNetwork(small())
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert not target(torch.randn(4, 3, requires_grad=True)).requires_grad


def test_it_is_in_training_mode_where_its_owner_is():
    owner = nn.ModuleList([MomentumNetwork(small())])
    rows = 5 + torch.randn(16, 3)
    inside = owner.train()[0](rows)
    assert not torch.allclose(inside, owner.eval()[0](rows), atol=1e-2)


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_a_momentum_outside_its_range_is_named(momentum):
    assert "model.momentum" in check_momentum(momentum)[0]
