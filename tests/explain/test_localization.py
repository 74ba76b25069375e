import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from xrayssl.explain.localization import (
    SHARES,
    chosen_threshold,
    energy_in_region,
    hits,
    iobb,
    iou,
    localized,
    pixel_auprc,
    pointing_game,
    relative_energy,
)

RNG = np.random.default_rng(0)
MAPS = RNG.integers(0, 4, (6, 5, 8)).astype(np.float32)  # with ties
WHOLE = (RNG.random((6, 5, 8)) < 0.3).astype(float)
PART = WHOLE * RNG.random((6, 5, 8))


def grid(*rows):
    return np.array([rows], dtype=float)


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("region", [WHOLE, PART])
def test_of_a_uniform_map_every_number_is_the_regions_share_of_the_area(region):
    found, area = localized(np.full_like(MAPS, 0.3), region), region.mean((1, 2))
    same(found.pop("relative_energy"), np.ones(6))
    assert sorted(found) == ["energy_in_region", "pixel_auprc", "pointing_game"]
    for values in found.values():
        same(values, area)
    same(iobb(np.ones_like(MAPS), region), area)
    same(iou(np.ones_like(MAPS), region), area)


def test_the_map_of_the_region_itself_is_perfect():
    found = localized(WHOLE, WHOLE)
    same(found.pop("relative_energy"), 1 / WHOLE.mean((1, 2)))
    for values in [*found.values(), iou(WHOLE, WHOLE), iobb(WHOLE, WHOLE, 1.0)]:
        same(values, np.ones(6))
    for values in localized(1 - WHOLE, WHOLE).values():
        assert (values < 0.5).all()


def test_energy_is_that_of_a_loop_over_pixels():
    fine = np.kron(MAPS, np.ones((1, 10, 10)))
    region = np.zeros_like(fine)
    region[:, 13:27, 5:48] = 1
    cells = region.reshape(6, 5, 10, 8, 10).mean((2, 4))
    expected = [map_HW[13:27, 5:48].sum() / map_HW.sum() for map_HW in fine]
    same(energy_in_region(MAPS, cells), expected)
    same(relative_energy(MAPS, cells), np.divide(expected, 14 * 43 / 4000))


def test_a_maximum_hits_by_as_much_of_its_cell_as_is_covered_and_equal_ones_share():
    region = grid([1, 0.25, 0], [0, 0, 0])
    assert pointing_game(grid([0, 5, 0], [0, 4, 0]), region)[0] == 0.25
    assert pointing_game(grid([5, 5, 5], [0, 4, 5]), region)[0] == 1.25 / 4


def test_the_tolerance_is_a_circle_of_cells():
    region, corner = grid([1, 0, 0], [0, 0, 0], [0, 0, 0]), grid([0, 0, 0], [0, 9, 0], [0, 0, 0])
    found = [pointing_game(corner, region, cells)[0] for cells in (0, 1, 1.4, 1.5)]
    assert found == [0, 0, 0, 1]


def test_the_overlaps_are_those_of_sets():
    for share in (0.3, 0.7, 1.0):
        found = [(np.argwhere(m >= share * m.max()), np.argwhere(r)) for m, r in zip(MAPS, WHOLE, strict=True)]
        sets = [[set(map(tuple, cells.tolist())) for cells in pair] for pair in found]
        same(iou(MAPS, WHOLE, share), [len(m & r) / len(m | r) for m, r in sets])
        same(iobb(MAPS, WHOLE, share), [len(m & r) / len(m) for m, r in sets])


def test_a_region_that_covers_cells_in_part_overlaps_by_its_area():
    map_1hw, region = grid([3, 2, 0, 0]), grid([0.5, 1, 0.5, 0])
    assert iou(map_1hw, region)[0] == 1.5 / (2 + 2 - 1.5) and iobb(map_1hw, region)[0] == 0.75
    same(iou(np.repeat(map_1hw, 2, 0), np.repeat(region, 2, 0), [0.5, 1.0]), [0.6, 0.5 / 2.5])


def test_hits_lie_above_the_threshold_and_unknown_ones_stay_so():
    np.testing.assert_array_equal(hits(np.array([0.5, 0.6, np.nan]), 0.5), [0, 1, np.nan])


def test_the_threshold_of_a_film_is_the_best_of_all_other_patients():
    patient, sharp = np.array(["a", "b", "a", "c", "b", "b"]), WHOLE * 2 + RNG.random(WHOLE.shape)
    values = np.array([iou(sharp, PART, share) for share in SHARES])
    expected = [SHARES[values[:, patient != one].mean(1).argmax()] for one in patient]
    found = chosen_threshold(sharp, PART, patient)
    same(found, expected)
    assert len(set(found)) > 1


def test_a_films_own_map_has_no_say_in_its_threshold():
    narrow, wide = grid([9, 5, 1, 0]), grid([9, 8, 8, 1])
    region = np.repeat(grid([1, 1, 1, 0]), 3, 0)
    found = chosen_threshold(np.concatenate([narrow, wide, wide]), region, [0, 1, 2], shares=(0.1, 0.5))
    assert found.tolist() == [0.5, 0.1, 0.1]


def test_films_without_map_or_region_choose_nothing_and_get_a_threshold():
    maps, region = MAPS.copy(), WHOLE.copy()
    maps[0], region[1] = 0, 0
    found = chosen_threshold(maps, region, [0, 1, 2, 3, 4, 4])
    same(found[2:], chosen_threshold(maps[2:], region[2:], [2, 3, 4, 4]))
    assert found[0] == found[1] and found[0] in SHARES


def test_one_patient_chooses_no_threshold():
    with pytest.raises(ValueError, match="two or more"):
        chosen_threshold(MAPS, WHOLE, [3] * 6)


def test_the_average_precision_is_scikit_learns():
    expected = [average_precision_score(r.ravel(), m.ravel()) for m, r in zip(MAPS, WHOLE, strict=True)]
    same(pixel_auprc(MAPS, WHOLE), expected)


def test_a_cell_covered_in_part_is_positive_and_negative_by_its_shares():
    expected = [
        average_precision_score([1] * 40 + [0] * 40, np.tile(m.ravel(), 2), sample_weight=[*r.ravel(), *1 - r.ravel()])
        for m, r in zip(MAPS, PART, strict=True)
    ]
    same(pixel_auprc(MAPS, PART), expected)


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-100, 1e100), st.sampled_from([1, 2]))
def test_neither_scale_nor_a_flip_of_both_changes_a_number(scale, axis):
    maps = MAPS.astype(float) * scale
    for name, values in localized(np.flip(maps, axis), np.flip(PART, axis)).items():
        np.testing.assert_allclose(values, localized(MAPS, PART)[name], err_msg=name)


def test_what_has_no_map_or_no_region_has_no_number():
    maps, region = MAPS.copy(), PART.copy()
    maps[2], region[4] = 0, 0
    for values in [*localized(maps, region).values(), iou(maps, region), iobb(maps, region)]:
        assert np.flatnonzero(np.isnan(values)).tolist() == [2, 4]


@pytest.mark.parametrize("wrong", [WHOLE[:, :4], WHOLE * 1.5, WHOLE - 0.1, np.full_like(WHOLE, np.nan)])
def test_what_is_no_region_of_these_maps_is_refused(wrong):
    with pytest.raises(ValueError, match=r"same cells|share of each cell"):
        localized(MAPS, wrong)


@pytest.mark.parametrize("share", [0, 1.2, float("nan")])
def test_a_map_cannot_be_cut_there(share):
    with pytest.raises(ValueError, match="at most 1"):
        iou(MAPS, WHOLE, share)
