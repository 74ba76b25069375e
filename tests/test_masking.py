import pytest
import torch

from xrayssl.masking import Masking, center_map, draw_patches, mask_of, uniform_map


@pytest.mark.parametrize(("ratio", "hidden"), [(0.9, 176), (0.75, 147), (0.5, 98)])
def test_every_film_hides_exactly_the_rounded_share(ratio, hidden):
    visible_BV, hidden_BM = draw_patches(uniform_map((14, 14)), ratio, batch=5)
    assert hidden_BM.shape == (5, hidden)
    assert (torch.cat([visible_BV, hidden_BM], 1).sort(1).values == torch.arange(196)).all()


def test_a_uniform_map_hides_every_patch_equally_often():
    _, hidden_BM = draw_patches(uniform_map((6, 6)), 0.75, batch=20_000)
    share_L = mask_of(hidden_BM, 36).float().mean(0)
    assert (share_L - 0.75).abs().max() < 0.02


@pytest.mark.parametrize(("hide", "sign"), [(True, 1), (False, -1)])
def test_a_centre_map_hides_or_keeps_the_centre_more_often(hide, sign):
    _, hidden_BM = draw_patches(center_map((7, 7), hide=hide), 0.5, batch=5_000)
    share_hw = mask_of(hidden_BM, 49).float().mean(0).reshape(7, 7)
    assert sign * (share_hw[3, 3] - share_hw[0, 0]) > 0.1


@pytest.mark.parametrize("floor", [0.5, 0.8])
def test_the_floor_is_how_often_the_centre_is_seen_relative_to_the_border(floor):
    visible_BV, _ = draw_patches(center_map((15, 15), floor=floor, sigma=0.15), 0.9, batch=20_000)
    seen_L = torch.bincount(visible_BV.flatten(), minlength=225) / 20_000
    corners = seen_L[torch.tensor([0, 14, 210, 224])].mean()
    assert seen_L[112] / corners == pytest.approx(floor, abs=0.06)


def test_one_draw_in_proportion_to_the_weights_follows_the_weights():
    weights = torch.tensor([[1.0, 2.0, 5.0]])
    visible_BV, _ = draw_patches(weights.log(), 2 / 3, batch=50_000)
    share = torch.bincount(visible_BV.flatten(), minlength=3) / 50_000
    assert torch.allclose(share, weights[0] / 8, atol=0.01)


@pytest.mark.parametrize("ratio", [0.001, 0.999])
def test_a_ratio_that_leaves_nothing_to_see_or_to_predict_is_refused(ratio):
    with pytest.raises(ValueError, match="some must be hidden"):
        Masking(ratio=ratio).draw((4, 4), 2)


@pytest.mark.parametrize("ratio", [-1, 0.0, 1.0, 3])
def test_a_ratio_outside_its_range_is_refused_when_it_is_chosen(ratio):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Masking(ratio=ratio)


@pytest.mark.parametrize("wrong", [{"sigma": 0}, {"floor": 0}, {"floor": 1.5}])
def test_a_centre_map_outside_its_range_is_refused(wrong):
    with pytest.raises(ValueError, match="floor"):
        center_map((4, 4), **wrong)
