import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from xrayssl.explain.statistics import (
    BANDS,
    center_offset,
    center_shift,
    edge_energy,
    empty_rate,
    entropy,
    gini,
    measured,
    radial_profile,
)

GRIDS = [(7, 7), (14, 14), (5, 8), (1, 1)]
MAPS = st.tuples(st.integers(2, 6), st.integers(2, 6)).flatmap(
    lambda grid: arrays(np.float64, (2, *grid), elements=st.floats(0, 1e3).map(lambda value: round(value, 3)))
)


def one_hot(grid, row, column):
    map_1hw = np.zeros((1, *grid))
    map_1hw[0, row, column] = 3.0
    return map_1hw


def noise(grid=(5, 8), count=4):
    return np.random.default_rng(0).exponential(size=(count, *grid)).astype(np.float32)


def same(found, expected):
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_uniform_map_is_the_null(grid):
    found = measured(np.full((2, *grid), 0.1, np.float32))
    expected = {f"edge_energy_{band}": 1 for band in BANDS}
    expected |= {"center_offset": 0, "center_dy": 0, "center_dx": 0, "gini": 0}
    same(found, expected | {"entropy": np.nan if grid == (1, 1) else 1})
    np.testing.assert_allclose(radial_profile(np.ones((1, *grid)), 3), 1)


def test_a_single_cell_is_the_other_end():
    corner, middle = measured(one_hot((4, 8), 0, 7)), measured(one_hot((5, 5), 2, 2))
    same(
        corner,
        {"edge_energy_0.0625": 5 / 8 / (1 - 0.875**2), "edge_energy_0.125": 1 / 0.4375, "entropy": 0, "gini": 31 / 32},
    )
    same(corner, {"center_dy": -1.5 / np.sqrt(20), "center_dx": 3.5 / np.sqrt(20), "center_offset": np.sqrt(14.5 / 20)})
    same(middle, {"edge_energy_0.125": 0, "center_offset": 0, "entropy": 0, "gini": 24 / 25})


@pytest.mark.parametrize("band", [0.05, *BANDS, 0.5])
@pytest.mark.parametrize("grid", [(7, 7), (5, 8)])
def test_the_border_is_what_a_fine_grid_of_points_finds(grid, band):
    fine = np.kron(noise(grid), np.ones((1, 80, 80)))
    away = [np.abs((np.arange(length) + 0.5) / length - 0.5) for length in fine.shape[1:]]
    inside = np.maximum(away[0][:, None], away[1]) > 0.5 - band
    expected = fine[:, inside].sum(1) / fine.sum((1, 2)) / inside.mean()
    np.testing.assert_allclose(edge_energy(noise(grid), band), expected, rtol=1e-5)


def test_a_band_of_an_eighth_is_more_than_two_fifths_of_the_area():
    border = np.ones((1, 8, 8))
    border[:, 1:-1, 1:-1] = 0
    assert border.mean() == 0.4375 and edge_energy(border, 0.125)[0] == pytest.approx(1 / 0.4375)


@settings(max_examples=50, deadline=None)
@given(MAPS, st.sampled_from(BANDS), st.floats(1e-200, 1e200))
def test_no_number_depends_on_the_scale_and_no_border_on_a_flip(maps, band, scale):
    same(measured(maps * scale), measured(maps))
    for axis in (1, 2):
        np.testing.assert_allclose(edge_energy(np.flip(maps, axis), band), edge_energy(maps, band), atol=1e-9)
    np.testing.assert_allclose(edge_energy(maps.swapaxes(1, 2), band), edge_energy(maps, band), atol=1e-9)


def test_the_rings_hold_the_whole_energy_and_the_outermost_is_the_border():
    profile = radial_profile(noise(), 4)
    areas = np.diff((np.arange(5) / 4) ** 2)
    np.testing.assert_allclose(profile @ areas, 1)
    np.testing.assert_allclose(profile[:, -1], edge_energy(noise(), 0.125))
    np.testing.assert_allclose(radial_profile(one_hot((9, 9), 4, 4), 3), [[9, 0, 0]], atol=1e-12)


def test_the_centre_of_mass_is_that_of_a_loop():
    maps, found = noise(), center_shift(noise())
    for map_hw, (dy, dx) in zip(maps, found, strict=True):
        mass = sum(map_hw[i, j] * np.array([i - 2, j - 3.5]) for i in range(5) for j in range(8)) / map_hw.sum()
        assert (dy, dx) == pytest.approx(tuple(2 * mass / np.sqrt(25 + 64)), rel=1e-5)
    np.testing.assert_allclose(center_shift(maps[:, ::-1, ::-1]), -found)
    np.testing.assert_allclose(center_offset(maps), np.linalg.norm(found, axis=1))


def test_entropy_is_scipys_and_gini_the_mean_difference_of_all_pairs():
    flat = noise().reshape(4, -1).astype(float)
    np.testing.assert_allclose(entropy(noise()), stats.entropy(flat, axis=1) / np.log(40))
    pairs = np.abs(flat[:, :, None] - flat[:, None]).mean((1, 2))
    np.testing.assert_allclose(gini(noise()), pairs / (2 * flat.mean(1)))


def test_empty_maps_are_counted_and_have_no_numbers():
    maps = noise()
    maps[1] = 0
    assert empty_rate(maps) == 0.25 and np.isnan(empty_rate(maps[:0]))
    for values in [*measured(maps).values(), *radial_profile(maps).T]:
        assert np.isnan(values).tolist() == [False, True, False, False]
    same(measured(maps[2:]), {name: values[2:] for name, values in measured(maps).items()})


def test_no_film_has_no_number():
    assert {values.shape for values in measured(np.zeros((0, 7, 7))).values()} == {(0,)}


@pytest.mark.parametrize("wrong", [np.ones((7, 7)), np.full((1, 2, 2), -1.0), np.full((1, 2, 2), np.nan)])
def test_what_is_no_raw_map_is_refused(wrong):
    with pytest.raises(ValueError, match=r"raw maps|given as \(N, h, w\)"):
        measured(wrong)


@pytest.mark.parametrize("band", [0, 0.6, float("nan")])
def test_a_border_that_is_none_is_refused(band):
    with pytest.raises(ValueError, match="at most"):
        edge_energy(noise(), band)
