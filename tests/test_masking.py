import re

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayssl.errors import UserError
from xrayssl.maps import _chosen, _laid, block_map, center_map, grid_map, image_map, uniform_map
from xrayssl.masking import Map, Masking, draw_patches, hidden_count, mask_of, visible_share

KINDS = ["uniform", "center", "block", "grid"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def prior(tmp_path):
    """A picture that is white on its left half."""
    picture = np.zeros((40, 60), np.uint8)
    picture[:, :30] = 255
    cv2.imwrite(str(tmp_path / "prior.png"), picture)
    return str(tmp_path / "prior.png")


def masks(masking, grid, batch):
    """True where a patch is hidden, (B, h, w)."""
    _, hidden_BM = masking.draw(grid, batch)
    return mask_of(hidden_BM, grid[0] * grid[1]).unflatten(1, grid)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.9, 176), (0.75, 147), (0.5, 98)])
def test_every_film_hides_exactly_the_rounded_share(ratio, hidden):
    visible_BV, hidden_BM = draw_patches(uniform_map((14, 14)), ratio, batch=5)
    assert hidden_BM.shape == (5, hidden)
    assert (torch.cat([visible_BV, hidden_BM], 1).sort(1).values == torch.arange(196)).all()


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(1, 20), st.integers(1, 20), st.floats(0.05, 0.95))
def test_every_kind_hides_exactly_the_rounded_share_of_any_grid(kind, rows, columns, ratio):
    patches = rows * columns
    if not 0 < round(ratio * patches) < patches:
        return
    visible_BV, hidden_BM = Masking(ratio, kind=kind).draw((rows, columns), 3)
    assert hidden_BM.shape == (3, round(ratio * patches))
    assert (torch.cat([visible_BV, hidden_BM], 1).sort(1).values == torch.arange(patches)).all()


def test_a_uniform_map_hides_every_patch_equally_often():
    _, hidden_BM = draw_patches(uniform_map((6, 6)), 0.75, batch=20_000)
    share_L = mask_of(hidden_BM, 36).float().mean(0)
    assert (share_L - 0.75).abs().max() < 0.02


@pytest.mark.parametrize(("hide", "sign"), [(True, 1), (False, -1)])
def test_a_centre_map_hides_or_keeps_the_centre_more_often(hide, sign):
    _, hidden_BM = draw_patches(center_map((7, 7), hide=hide), 0.5, batch=5_000)
    share_hw = mask_of(hidden_BM, 49).float().mean(0).reshape(7, 7)
    assert sign * (share_hw[3, 3] - share_hw[0, 0]) > 0.1


@pytest.mark.parametrize("grid", [(14, 14), (7, 7), (3, 20), (1, 5)])
@pytest.mark.parametrize("sigma", [1e-200, 0.05, 0.3, 1.0, 1e200])
@pytest.mark.parametrize("floor", [0.1, 1.0])
def test_the_least_weight_of_a_centre_map_is_the_floor_for_every_width_and_grid(grid, sigma, floor):
    for hide in (True, False):
        weight_hw = center_map(grid, sigma, floor, hide).exp()
        assert weight_hw.amin().item() == pytest.approx(floor, rel=1e-5)
        assert weight_hw.amax().item() == pytest.approx(1, rel=1e-5)
        middle = weight_hw[grid[0] // 2, grid[1] // 2].item()
        assert middle == pytest.approx(floor if hide else 1, rel=1e-5)


def test_a_centre_map_of_patches_that_are_equally_far_prefers_none():
    for grid in ((1, 1), (2, 2), (1, 2)):
        assert len(center_map(grid, floor=0.1).unique()) == 1


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


def test_a_grid_of_75_percent_keeps_one_patch_of_every_two_by_two_at_any_offset():
    mask_Bhw = masks(Masking(0.75, kind="grid"), (8, 8), 50)
    kept_Bhw = (~mask_Bhw).unflatten(2, (4, 2)).unflatten(1, (4, 2)).sum(dim=(2, 4))
    assert (kept_Bhw == 1).all()
    assert len({tuple(map(tuple, (~mask_hw).nonzero().tolist())) for mask_hw in mask_Bhw}) == 4


def test_a_lattice_with_too_many_patches_hides_some_of_its_own_and_nothing_else():
    map_Bhw = grid_map((14, 14), visible=19, batch=20)
    assert 19 < (map_Bhw[0] == 0).sum() < 22
    visible_BV, _ = draw_patches(map_Bhw, 1 - 19 / 196, batch=20)
    assert (map_Bhw.flatten(1).gather(1, visible_BV) == 0).all()


@pytest.mark.parametrize(("grid", "visible", "lines"), [
    ((8, 8), 32, (4, 8)), ((14, 14), 98, (7, 14)), ((14, 14), 49, (7, 7)), ((14, 14), 20, (4, 5)),
    ((8, 12), 24, (4, 6)), ((14, 14), 13, (4, 4)),  # 13 x 1 would be a line
])  # fmt: skip
def test_a_lattice_with_exactly_so_many_patches_is_taken_where_there_is_a_regular_one(grid, visible, lines):
    kept_Bhw = grid_map(grid, visible, batch=3) == 0
    assert {(kept.any(1).sum().item(), kept.any(0).sum().item()) for kept in kept_Bhw} == {lines}


def touching(mask_hw):
    """Number of connected parts of the hidden patches."""
    return cv2.connectedComponents(mask_hw.numpy().astype(np.uint8), connectivity=4)[0] - 1


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_hidden_blocks_hang_together_where_single_patches_do_not(ratio):
    blocks = [touching(mask) for mask in masks(Masking(ratio, kind="block"), (14, 14), 50)]
    visible = [touching(~mask) for mask in masks(Masking(0.5), (14, 14), 50)]
    assert max(blocks) <= 5
    assert np.mean(blocks) < 2.5 < np.mean(visible)


def test_a_film_may_have_one_block_or_several():
    boxes = []
    for mask_hw in masks(Masking(0.3, kind="block"), (14, 14), 200):
        rows, columns = mask_hw.any(1).sum(), mask_hw.any(0).sum()
        boxes.append(rows * columns - mask_hw.sum() < max(rows, columns))  # a rectangle but for its last line
    assert 0.05 < np.mean(boxes) < 0.95


def test_blocks_differ_from_film_to_film():
    mask_Bhw = masks(Masking(0.5, kind="block"), (14, 14), 20)
    assert len({tuple(mask.flatten().tolist()) for mask in mask_Bhw}) > 15


def test_a_map_that_is_added_draws_the_blocks_to_its_place():
    corner = center_map((14, 14), floor=0.05, hide=False)
    shares = [
        (block_map((14, 14), 60, 2_000, prior_hw=prior) < 0).float().mean(0)[7, 7] for prior in (None, corner, -corner)
    ]
    assert shares[1] < shares[0] - 0.05
    assert shares[2] > shares[0] + 0.05


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 2)])
def test_a_box_falls_in_proportion_to_the_inverse_geometric_mean_where_it_adds_something(size):
    torch.manual_seed(0)
    prior_hw, seen_hw = torch.randn(5, 6), torch.zeros(5, 6, dtype=torch.bool)
    seen_hw[:, 2:] = True
    height, width = size
    weights = {
        (row, column): (-prior_hw[row : row + height, column : column + width].mean()).exp()
        for row in range(6 - height)
        for column in range(7 - width)
        if column < 2
    }
    expected = torch.zeros(30).index_put((torch.tensor([6 * row + column for row, column in weights]),),
                                         torch.stack([*weights.values()]))  # fmt: skip
    sizes = (torch.full((20_000,), side) for side in size)
    place_B = _chosen((5, 6), *sizes, prior_hw, seen_hw.expand(20_000, -1, -1))
    torch.testing.assert_close(place_B.bincount(minlength=30) / 20_000, expected / expected.sum(), atol=0.015, rtol=0)


def test_without_a_prior_every_place_inside_the_film_is_as_likely():
    sizes = (torch.full((20_000,), side) for side in (2, 3))
    share_hw = _laid((4, 5), *sizes, None).float().mean(0)
    torch.testing.assert_close(share_hw[0], torch.tensor([1, 2, 3, 2, 1]) / 9, atol=0.015, rtol=0)
    torch.testing.assert_close(share_hw[:, 2], torch.tensor([1, 2, 2, 1]) / 3, atol=0.015, rtol=0)


def test_maps_combine_by_addition(prior):
    both = Masking(0.5, kind="center", plus=(Map(kind="image", path=prior),))
    expected = center_map((6, 8)) + image_map((6, 8), prior)
    torch.testing.assert_close(both.log_weights((6, 8)), expected)


@pytest.mark.parametrize("hide", [True, False])
def test_white_in_a_picture_is_hidden_or_kept_more_often(prior, hide):
    share_hw = visible_share(Masking(0.9, kind="image", path=prior, hide=hide), (10, 10))
    dark, white = share_hw[:, 5:].mean(), share_hw[:, :5].mean()
    assert (white / dark if hide else dark / white) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_prior_may_be_of_any_depth_and_size(tmp_path, depth):
    ramp = np.linspace(0, np.iinfo(depth).max, 90).astype(depth)[None].repeat(31, 0)
    cv2.imwrite(str(tmp_path / "ramp.png"), ramp)
    log_weight_hw = image_map((4, 5), str(tmp_path / "ramp.png"), floor=0.25)
    torch.testing.assert_close(log_weight_hw[2].exp(), torch.linspace(1, 0.25, 5), atol=0.01, rtol=0)


def written(folder, content):
    path = folder / "bad.png"
    if isinstance(content, np.ndarray):
        cv2.imwrite(str(path), content)
    elif content is not None:
        path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize(("content", "said"), [
    (None, "no such picture"), (b"", "no readable picture"), (b"\x89PNG\r\n\x1a\nrest", "no readable picture"),
    (np.zeros((8, 8, 3), np.uint8), "grey picture"), (np.full((8, 8), 7, np.uint8), "of one grey"),
])  # fmt: skip
def test_a_prior_that_is_no_use_is_refused_in_one_sentence_that_names_it(tmp_path, content, said):
    with pytest.raises(UserError, match=rf"bad\.png: .*{said}") as caught:
        Masking(kind="image", path=written(tmp_path, content))
    assert len(caught.value.messages) == 1


def test_a_truncated_prior_is_refused(tmp_path, prior):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    content = cv2.imencode(".png", noise)[1].tobytes()
    with pytest.raises(UserError, match="no readable picture"):
        Masking(kind="image", path=written(tmp_path, content[: len(content) // 2]))


def test_a_prior_that_is_even_at_the_size_of_patches_is_refused(tmp_path):
    board = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)
    masking = Masking(kind="image", path=written(tmp_path, board))
    with pytest.raises(UserError, match="prefers none"):
        masking.check((4, 4))


def test_a_picture_is_read_once_and_stays_as_it_was_at_the_start(prior, tmp_path):
    masking = Masking(kind="image", path=prior)
    settings, map_hw = masking.settings(), masking.log_weights((4, 4))
    cv2.imwrite(prior, np.eye(8, dtype=np.uint8))
    assert masking.settings() == settings
    assert torch.equal(masking.log_weights((4, 4)), map_hw)
    assert not torch.equal(masking.log_weights((4, 6))[:, :4], map_hw)


def test_a_map_is_made_once_per_grid_and_on_no_other_device(monkeypatch):
    made = []
    monkeypatch.setattr("xrayssl.maps.center_map", lambda grid, *rest: made.append(grid) or center_map(grid, *rest))
    masking = Masking(kind="center", sigma=0.123)
    with torch.device("meta"):
        masking.log_weights((4, 6))
    for grid in [(4, 6), (6, 4), (4, 6)]:
        assert masking.log_weights(grid).device.type == "cpu"
    assert made == [(1, 1)] * made.count((1, 1)) + [(4, 6), (6, 4)]


@pytest.mark.parametrize(("wrong", "said"), [
    ({"kind": "image"}, r"--model\.masking\.kind image needs a picture; set --model\.masking\.path\.$"),
    ({"kind": "center", "path": "x.png"}, r"--model\.masking\.path goes with the kind image, not center; leave it out"),
])  # fmt: skip
def test_a_picture_goes_with_the_kind_image_alone(wrong, said):
    with pytest.raises(UserError, match=said):
        Masking(**wrong)


def test_every_mistake_of_a_choice_is_told_at_once_with_its_key():
    with pytest.raises(UserError) as caught:
        Masking(kind="image", path="gone.png", floor=0, sigma=-1, ratio=1.0, ratio_end=2)
    keys = [sentence.split(" ")[0] for sentence in caught.value.messages]
    assert keys == [*(f"--model.masking.{name}" for name in ("sigma", "floor")), "gone.png:",
                    *(f"--model.masking.{name}" for name in ("ratio", "ratio_end"))]  # fmt: skip
    assert all(sentence.endswith(".") for sentence in caught.value.messages)


def test_a_mistake_of_a_further_map_is_told_as_its_own():
    with pytest.raises(UserError, match=r"--model\.masking\.plus\.floor must be a share above 0 and up to 1, not 2"):
        Map(kind="center", floor=2)


def test_blocks_and_a_lattice_cannot_both_decide():
    with pytest.raises(UserError, match="take one of them"):
        Masking(kind="block", plus=(Map(kind="grid"),))


def test_the_ratio_goes_linearly_from_its_start_to_its_end():
    masking = Masking(0.5, ratio_end=0.9)
    counts = [masking.draw((10, 10), 2, progress=share)[1].shape[1] for share in (0.0, 0.25, 0.5, 1.0)]
    assert counts == [50, 60, 70, 90]


def test_a_ratio_without_an_end_stays():
    assert Masking(0.5).ratio_at(0.7) == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_of_visible_tokens_counts_draws_and_leaves_the_randomness_alone(kind):
    torch.manual_seed(3)
    share_hw = visible_share(Masking(0.75, kind=kind), (6, 8), draws=500)
    after = torch.rand(1)
    assert share_hw.shape == (6, 8)
    assert share_hw.mean().item() == pytest.approx(0.25)
    assert torch.equal(after, torch.manual_seed(3) and torch.rand(1))


def test_the_map_of_visible_tokens_is_counted_in_parts_of_bounded_size(monkeypatch):
    sizes, draw = [], Masking.draw
    monkeypatch.setattr("xrayssl.masking.CHUNK", 480)
    monkeypatch.setattr(Masking, "draw", lambda self, grid, films, **k: sizes.append(films) or draw(self, grid, films))
    share_hw = visible_share(Masking(0.75), (6, 8), draws=25)
    assert sizes == [10, 10, 5]
    assert share_hw.mean().item() == pytest.approx(0.25)


@pytest.mark.parametrize("ratio", [0.001, 0.999])
def test_a_ratio_that_leaves_nothing_to_see_or_to_predict_is_refused(ratio):
    with pytest.raises(ValueError, match="some must be hidden"):
        Masking(ratio=ratio).draw((4, 4), 2)


@pytest.mark.parametrize("patches", [2, 4, 49, 64, 196, 1023])
def test_the_ratios_that_are_offered_instead_fit(patches):
    with pytest.raises(ValueError, match="some must be hidden") as caught:
        hidden_count(patches, 0.00001)
    least, most = (float(word) for word in re.findall(r"take (\S+) to (\S+)\.$", str(caught.value))[0])
    assert least <= 1.2 / patches
    assert (hidden_count(patches, least), hidden_count(patches, most)) == (1, patches - 1)


def test_a_choice_that_does_not_go_with_a_grid_is_refused_by_its_keys(tmp_path):
    board = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)
    masking = Masking(0.01, kind="image", path=written(tmp_path, board), ratio_end=0.999)
    with pytest.raises(UserError) as caught:
        masking.check((4, 4))
    assert [sentence.split(": ")[0] for sentence in caught.value.messages] == [
        "--model.masking.ratio", "--model.masking.ratio_end", masking.path
    ]  # fmt: skip


@pytest.mark.parametrize("ratio", [-1, 0.0, 1.0, 3])
@pytest.mark.parametrize("name", ["ratio", "ratio_end"])
def test_a_ratio_outside_its_range_is_refused_when_it_is_chosen(name, ratio):
    with pytest.raises(UserError, match=rf"--model\.masking\.{name} must be a share above 0 and below 1, not {ratio}"):
        Masking(**{name: ratio})


@pytest.mark.parametrize("wrong", [{"sigma": 0}, {"floor": 0}, {"floor": 1.5}, {"sigma": np.nan}, {"kind": "centre"}])
def test_a_map_outside_its_range_is_refused(wrong):
    with pytest.raises(UserError, match=rf"--model\.masking\.{next(iter(wrong))} must be"):
        Masking(**{"kind": "center", **wrong})


def test_a_picture_is_known_by_its_content_when_a_run_goes_on(prior, tmp_path):
    moved = tmp_path / "moved.png"
    moved.write_bytes((tmp_path / "prior.png").read_bytes())
    first, second = (Masking(kind="image", path=str(path)).settings() for path in (prior, moved))
    assert first == second
    assert first != Masking(kind="image", path=prior, hide=False).settings()
