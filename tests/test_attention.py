"""The layers whose backward pass is written by hand, against timm's, which torch differentiates."""

import copy

import pytest
import torch
from timm.layers import Attention, Mlp
from timm.models.vision_transformer import Block

from xrayssl.attention import QuickAttention, QuickMlp, attend, project, quicken
from xrayssl.backbone import Backbone


def blocks(**kwargs):
    torch.manual_seed(0)
    plain = torch.nn.Sequential(*(Block(48, 4, qkv_bias=True, **kwargs) for _ in range(2)))
    quick = copy.deepcopy(plain)
    quicken(quick)
    return plain, quick


def gradients(network, half=False):
    """Output and all gradients of a batch, by name."""
    torch.manual_seed(1)
    network.zero_grad()
    x, weight = torch.randn(3, 10, 48, requires_grad=True), torch.randn(3, 10, 48)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = network(x)
    (y * weight).sum().backward()
    return {"output": y.detach(), "input": x.grad, **{name: p.grad for name, p in network.named_parameters()}}


@pytest.mark.parametrize("options", [{}, {"init_values": 0.1}, {"drop_path": 0.5}, {"proj_bias": False}])
def test_quick_layers_equal_plain_ones_and_so_do_their_gradients(options):
    plain, quick = (gradients(network) for network in blocks(**options))
    for name, value in plain.items():
        torch.testing.assert_close(quick[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: name + text)


def test_under_autocast_quick_gradients_are_as_near_to_the_truth_as_plain_ones():
    networks = blocks()
    truth = gradients(networks[0])
    plain, quick = (gradients(network, half=True) for network in networks)
    for name, value in truth.items():
        wrong = {kind: (found[name] - value).norm() for kind, found in (("plain", plain), ("quick", quick))}
        assert 0 < wrong["quick"] < 1.5 * wrong["plain"] + 1e-3 * value.norm(), name


def test_gradients_stay_in_the_precision_of_the_weights_under_autocast():
    _, quick = blocks()
    assert {value.dtype for name, value in gradients(quick, half=True).items() if name != "output"} == {torch.float32}


def test_names_weights_and_hooks_stay():
    plain, quick = blocks()
    assert quick.state_dict().keys() == plain.state_dict().keys()
    assert type(quick[0].attn) is QuickAttention and type(quick[0].mlp) is QuickMlp


@pytest.mark.parametrize("part", ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.act", "mlp.fc2"])
def test_a_hook_put_on_a_part_later_is_called_in_training(part):
    _, quick = blocks()
    seen = []
    quick[0].get_submodule(part).register_forward_hook(lambda *_: seen.append(1))
    quick(torch.randn(1, 3, 48, requires_grad=True))
    assert seen == [1]


class Adapter(torch.nn.Module):
    """Stands in the place of a layer, as low-rank adapters do."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.more = inner, torch.nn.Parameter(torch.zeros(inner.out_features))

    def forward(self, x):
        return self.inner(x) + self.more


def test_an_adapter_put_in_the_place_of_a_layer_learns():
    _, quick = blocks()
    quick[0].attn.qkv, quick[0].mlp.fc1 = Adapter(quick[0].attn.qkv), Adapter(quick[0].mlp.fc1)
    quick(torch.randn(1, 3, 48, requires_grad=True)).sum().backward()
    assert quick[0].attn.qkv.more.grad is not None and quick[0].mlp.fc1.more.grad is not None


def test_dropout_that_is_switched_on_later_drops():
    _, quick = blocks()
    x = torch.randn(1, 3, 48, requires_grad=True)
    quick[0].mlp.drop1.p = 0.9
    assert not torch.equal(quick(x), quick(x))


def test_gradients_by_function_transforms_are_those_of_plain_layers():
    plain, quick = blocks()
    x = torch.randn(2, 5, 48)
    found = [torch.func.grad(lambda x, network=network: network(x).pow(2).sum())(x) for network in (plain, quick)]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


def test_long_sequences_do_not_hold_their_scores(monkeypatch):
    _, quick = blocks()
    monkeypatch.setattr("xrayssl.attention._mix", None)
    quick(torch.randn(1, 513, 48, requires_grad=True)).sum().backward()
    quick[0].attn.answer(torch.randn(1, 513, 48, requires_grad=True), 5).sum().backward()


def test_weights_of_double_precision_get_gradients_of_double_precision():
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    x = torch.randn(30, 6, dtype=torch.float64, requires_grad=True)
    project(x, weight, None).pow(3).sum().backward()
    torch.testing.assert_close(weight.grad, 3 * (x @ weight.T).pow(2).T @ x, rtol=1e-13, atol=0)


def test_evaluation_runs_the_layers_of_timm_with_their_hooks():
    _, quick = blocks()
    seen = []
    quick.eval()[1].mlp.act.register_forward_hook(lambda *_: seen.append(1))
    quick(torch.randn(1, 3, 48, requires_grad=True))
    assert seen == [1]


@pytest.mark.parametrize("odd", [{"qk_norm": True}, {"attn_drop": 0.1}, {"proj_drop": 0.1}, {"scale_attn_norm": True}])
def test_layers_with_options_that_are_not_known_stay_as_they_are(odd):
    _, quick = blocks(**odd)
    assert type(quick[0].attn) is Attention


@pytest.mark.parametrize("odd", [{"act_layer": torch.nn.SiLU}, {"proj_drop": 0.1}, {"scale_mlp_norm": True}])
def test_perceptrons_with_options_that_are_not_known_stay_as_they_are(odd):
    _, quick = blocks(**odd)
    assert type(quick[0].mlp) is Mlp


def test_a_mask_is_obeyed():
    _, quick = blocks()
    x, mask = torch.randn(1, 4, 48, requires_grad=True), torch.ones(4, 4, dtype=torch.bool).tril()
    first = quick[0].attn(x, attn_mask=mask)[:, 0]
    torch.testing.assert_close(first, quick[0].attn(x[:, :1]).squeeze(1))


def test_answering_for_the_last_tokens_is_the_end_of_answering_for_all():
    _, quick = blocks()
    x = torch.randn(2, 7, 48, requires_grad=True)
    torch.testing.assert_close(quick[0].attn.answer(x, 3), quick[0].attn(x)[:, -3:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_a_projection_and_attention_have_the_gradients_that_finite_differences_tell(bias):
    torch.manual_seed(0)
    shapes = [(2, 3, 8), (8, 8), (8,), (2, 5, 8), (16, 8), (16,)]
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def network(x, weight, b, context, weight2, b2):
        query, pair = project(x, weight, b if bias else None), project(context, weight2, b2 if bias else None)
        return attend(query, pair, 2)

    assert torch.autograd.gradcheck(network, leaves)


def test_every_block_of_a_vit_is_quickened_and_no_cnn_minds():
    vit = Backbone("vit_tiny_patch16_224", 32).network
    assert {type(block.attn) for block in vit.blocks} == {QuickAttention}
    Backbone("resnet18", 32)


def test_a_second_derivative_is_refused_rather_than_wrong():
    x, weight = torch.randn(2, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(project(x, weight, None).pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
