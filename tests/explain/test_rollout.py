import pytest
import torch
from explainable import films, network
from timm.layers import Attention
from torch.nn.functional import scaled_dot_product_attention

from xrayssl.attention import QuickAttention
from xrayssl.explain.rollout import rolled, rollout

VITS = ["test_vit", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_patch14_reg4_dinov2"]


def network_of(backbone, size=(64, 96)):
    return network(backbone, (56, 84) if "14" in backbone else size)


def slow(method, image):
    """Every block by hand, with an explicit softmax of each head, and the whole product at the end."""
    vit, steps = method.backbone.network, []
    with torch.no_grad():
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(image)))
        for block in vit.blocks:
            attention = block.attn
            query, key, _ = attention.qkv(block.norm1(x)).chunk(3, dim=-1)
            heads = zip(query.chunk(attention.num_heads, -1), key.chunk(attention.num_heads, -1), strict=True)
            scores = torch.stack([q @ k.transpose(1, 2) * attention.head_dim**-0.5 for q, k in heads])
            steps.append(0.5 * scores.softmax(-1).mean(0) + 0.5 * torch.eye(x.shape[1]))
            x = block(x)
    return torch.linalg.multi_dot([steps[-1][0], *[step[0] for step in steps[-2::-1]]])


@pytest.mark.parametrize("backbone", VITS)
def test_it_is_the_product_of_explicit_softmaxes(backbone):
    method = network_of(backbone)
    image = films(2, method.backbone.img_size)
    found, logit = rolled(method, image)
    assert (found[0] - torch.eye(found.shape[1])).abs().max() > 0.1
    torch.testing.assert_close(found[0], slow(method, image[:1]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logit, method(image).detach())


@pytest.mark.parametrize("backbone", VITS)
def test_every_token_holds_one_of_all_and_the_map_what_patches_hold_of_patches(backbone):
    method = network_of(backbone)
    image = films(2, method.backbone.img_size)
    whole, found = rolled(method, image)[0], rollout(method, image)[0]
    prefix = method.backbone.network.num_prefix_tokens
    torch.testing.assert_close(whole.sum(-1), torch.ones(whole.shape[:2]))
    assert found.shape == (2, 4, 6) and (found > 0).all() and prefix > 0
    held = whole[:, prefix:].mean(1)
    torch.testing.assert_close(found.flatten(1), held[:, prefix:])
    torch.testing.assert_close(found.sum((1, 2)), 1 - held[:, :prefix].sum(1))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", [QuickAttention, Attention])
@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_same_with_every_way_of_computing_attention(kind, fused, training):
    method = network("test_vit")
    expected = rollout(method, films())[0]
    for block in method.backbone.network.blocks:
        block.attn.__class__, block.attn.fused_attn = kind, fused
    torch.testing.assert_close(rollout(method.train(training), films())[0], expected)
    assert {block.attn.fused_attn for block in method.backbone.network.blocks} == {fused}


def test_a_patch_that_all_attend_to_is_found_where_it_lies():
    method = network("test_vit", (64, 96))
    for block in method.backbone.network.blocks:  # keys grow along one direction, in which one patch lies far out
        block.attn.qkv.weight.data.zero_()
        block.attn.qkv.bias.data.zero_()
        block.attn.qkv.bias.data[0] = 1.0
        block.attn.qkv.weight.data[64, 5] = 8.0
    prefix = method.backbone.network.num_prefix_tokens
    method.backbone.network.pos_embed.data[:, prefix + 15, 5] += 100.0
    found = rollout(method, films(2, (64, 96)))[0]
    assert (found.flatten(1).argmax(1) == 15).all() and (found[:, 2, 3] > 5 * found.flatten(1).median()).all()


def test_normalised_queries_and_keys_are_those_that_attend():
    method = network("test_vit")
    for block in method.backbone.network.blocks:
        block.attn.q_norm, block.attn.k_norm = (torch.nn.LayerNorm(block.attn.head_dim) for _ in range(2))
    kept, attention = [], method.backbone.network.blocks[0].attn
    handle = attention.qkv.register_forward_hook(lambda *parts: kept.append(parts[2]))
    method.backbone.network.blocks = method.backbone.network.blocks[:1]
    share = 2 * rolled(method, films())[0] - torch.eye(kept[0].shape[1])
    handle.remove()
    query, key, value = kept[0].unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    one_hot = torch.eye(kept[0].shape[1]).expand(*value.shape[:3], -1)
    expected = scaled_dot_product_attention(attention.q_norm(query), attention.k_norm(key), one_hot).mean(1)
    torch.testing.assert_close(share, expected.detach(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (96, 32)])
def test_films_of_another_size_have_a_map_of_another_size(size):
    method = network("test_vit", (64, 96))
    assert rollout(method, films(2, size))[0].shape == (2, size[0] // 16, size[1] // 16)


@pytest.mark.parametrize("backbone", ["resnet18", "swin_tiny_patch4_window7_224", "beit_base_patch16_224"])
def test_a_network_without_plain_attention_is_refused_and_told_what_to_use(backbone):
    with pytest.raises(ValueError, match=rf"Rollout needs a plain ViT .* {backbone} is none; use grad_cam"):
        rollout(network(backbone), films())


def test_an_error_inside_leaves_no_hook():
    method = network("test_vit").train()
    with pytest.raises(RuntimeError):
        rollout(method, films()[:, :, :7])
    assert method.training and not any(part._forward_hooks for part in method.modules())
