import pytest
import torch

from xrayssl.errors import UserError
from xrayssl.methods import RelativePatch

NETWORKS = ["resnet18", "vit_tiny_patch16_224"]


def relative(network="resnet18", **kwargs):
    torch.manual_seed(0)
    return RelativePatch(backbone=network, **{"embedding": 16, "hidden": 32, "img_size": 64, **kwargs}).eval()


@pytest.mark.parametrize("network", NETWORKS)
def test_the_loss_is_that_of_a_slow_recomputation(network):
    method, image, terms, right = relative(network), torch.randn(3, 1, 64, 64), [], []
    torch.manual_seed(7)
    found = method.losses({"image": image})
    torch.manual_seed(7)
    for film in method.tiles(image):
        seen = [method.embed(method.backbone(tile[None]).mean(dim=(2, 3))) for tile in film]
        for side, number in enumerate([0, 1, 2, 3, 5, 6, 7, 8]):
            logits = method.head(torch.cat([seen[4], seen[number]], dim=1))[0]
            terms.append(-logits.log_softmax(dim=0)[side])
            right.append(logits.argmax().item() == side)
    assert found["loss"].item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-3)
    assert found["accuracy"].item() == pytest.approx(sum(right) / 24)


def test_every_tile_passes_the_backbone_once():
    method, seen = relative(), []
    method.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    method.losses({"image": torch.randn(2, 1, 64, 64)})
    assert seen == [(18, 1, 18, 18)]


def test_swapping_two_neighbours_swaps_what_is_seen_of_them():
    method, seen = relative(jitter=0), []
    method.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    image = torch.randn(1, 1, 63, 63)
    other = image.clone()
    other[..., :21, :21], other[..., 42:, 42:] = image[..., 42:, 42:], image[..., :21, :21]
    for film in (image, other):
        method.losses({"image": torch.nn.functional.pad(film, (0, 1, 0, 1))})
    torch.testing.assert_close(seen[0][[0, 7]], seen[1][[7, 0]], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(seen[0][1:7], seen[1][1:7], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_reach_every_weight(network):
    method = relative(network).train()
    method.losses({"image": torch.randn(2, 1, 64, 64)})["loss"].backward()
    assert [name for name, weight in method.named_parameters() if weight.grad is None] == []


def test_how_tiles_are_cut_must_not_change_when_a_run_goes_on():
    changed = relative(jitter=1, tile=16)._settings()
    assert {name for name, value in relative()._settings().items() if changed[name] != value} == {
        "model.jitter", "model.tile"
    }  # fmt: skip


def test_a_head_without_width_is_refused():
    with pytest.raises(UserError, match=r"model\.embedding must be 1 or more, not 0"):
        relative(embedding=0)
