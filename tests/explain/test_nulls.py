import numpy as np
import pytest
from scipy import integrate, stats

from xrayssl.explain.nulls import (
    SIGMA,
    centred_gaussian,
    compare,
    compare_all,
    compare_networks,
    other_patients,
    random_maps,
    uniform,
)
from xrayssl.explain.regions import area_mean
from xrayssl.explain.statistics import center_offset, edge_energy, entropy
from xrayssl.statistics.resampling import draws, expanded

RNG = np.random.default_rng(0)
PATIENT = RNG.integers(0, 12, 40)
VALUE = 1 + RNG.normal(0.3, 0.5, 40) + 0.5 * RNG.normal(size=12)[PATIENT]
MEANS = ("value", "null", "difference", "low", "high", "p")


def test_a_cell_has_the_gaussians_mean_over_its_area():
    def density(y, x):
        return np.exp(-(((y - 0.5) ** 2 + (x - 0.5) ** 2) / (2 * 0.2**2)))

    expected = [[integrate.dblquad(density, j / 4, (j + 1) / 4, i / 3, (i + 1) / 3)[0] for j in range(4)]
                for i in range(3)]  # fmt: skip
    np.testing.assert_allclose(centred_gaussian((3, 4), 0.2), expected / np.mean(expected), rtol=1e-6)


def test_two_grids_have_the_same_gaussian():
    np.testing.assert_allclose(area_mean(centred_gaussian((14, 15)), (7, 5)), centred_gaussian((7, 5)))


def test_it_is_between_a_point_and_the_uniform_map():
    np.testing.assert_allclose(centred_gaussian((5, 8), 1e3), uniform((5, 8)), atol=1e-6)
    assert centred_gaussian((5, 5), 1e-3)[2, 2] == 25
    maps = np.stack([centred_gaussian((14, 14), sigma) for sigma in (0.1, SIGMA, 0.5)])
    assert (np.diff(edge_energy(maps, 0.125)) > 0).all() and (edge_energy(maps, 0.125) < 1).all()
    np.testing.assert_allclose(center_offset(maps), 0, atol=1e-12)


def test_noise_is_another_map_for_every_film_and_seed():
    maps = random_maps(3, (4, 5), seed=1)
    assert maps.shape == (3, 4, 5) and maps.min() > 0 and len({one.tobytes() for one in maps}) == 3
    assert (maps == random_maps(3, (4, 5), seed=1)).all() and (maps != random_maps(3, (4, 5), seed=2)).all()
    assert 0.8 < entropy(random_maps(50, (14, 14))).mean() < 1


def test_every_film_of_another_patient_is_drawn_as_often():
    patient = np.array(["b", "a", "b", "c", "b"])
    drawn = np.stack([other_patients(patient, seed) for seed in range(2000)])
    assert (patient[drawn] != patient).all()
    for film, who in enumerate(patient):
        count = np.bincount(drawn[:, film], minlength=5)[patient != who]
        assert stats.chisquare(count).pvalue > 1e-3


def test_one_patient_has_no_other():
    with pytest.raises(ValueError, match="two or more"):
        other_patients(["a", "a"])


def test_within_a_group_it_is_another_patient_of_it_or_nobody():
    patient, group = ["a", "b", "a", "c", "c"], ["x", "x", "y", "y", "z"]
    drawn = np.stack([other_patients(patient, seed, group) for seed in range(50)])
    assert (drawn == [1, 0, 3, 2, -1]).all()


def test_the_interval_is_that_of_patients_drawn_with_replacement():
    weight = np.concatenate(list(draws(12, 200, seed=3)), axis=1)
    patient = np.unique(PATIENT, return_inverse=True)[1]
    means = [np.repeat(VALUE - 1, times[patient].astype(int)).mean() for times in weight.T]
    tail = expanded(0.025, 12)
    found = compare(VALUE, 1.0, PATIENT, resamples=200, seed=3)
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(means, [tail, 1 - tail])))
    assert (found["value"], found["difference"]) == pytest.approx((VALUE.mean(), VALUE.mean() - 1))
    assert (found["null"], found["films"], found["patients"], found["left_out"]) == (1, 40, 12, 0)


def test_p_falls_below_what_the_interval_leaves_just_when_it_excludes_zero():
    for null in VALUE.mean() + np.array([-0.2, -0.1, 0.05, 0.15]):
        p = compare(VALUE, null, PATIENT, resamples=4000)["p"]
        ends = [compare(VALUE, null, PATIENT, resamples=4000, level=1 - p + step) for step in (-0.004, 0.004)]
        assert [one["low"] < 0 < one["high"] for one in ends] == [False, True] and 0.01 < p < 0.9


def test_with_a_film_a_patient_p_is_near_students():
    value = RNG.normal(0.35, 1, 30)
    found = compare(value, 0, np.arange(30), resamples=20_000)["p"]
    assert 0.01 < found < 0.2 and found == pytest.approx(stats.ttest_1samp(value, 0).pvalue, rel=0.25)


def test_p_is_two_sided_and_no_less_than_resamples_can_tell():
    below, above = compare(-VALUE, -1, PATIENT), compare(VALUE, 1, PATIENT)
    assert below["difference"] == pytest.approx(-above["difference"]) and below["p"] == pytest.approx(above["p"], rel=1)
    sure = compare(np.linspace(9, 10, 40), 0, np.arange(40), resamples=100)["p"]
    assert 2 / 101 < sure < 0.05 and compare([9, 10, 11], 0, [0, 1, 2])["p"] > 0.05  # three patients show little


def test_where_there_is_nothing_to_tell_p_is_evenly_spread():
    found = [compare(np.random.default_rng(k).normal(size=25), 0, np.arange(25), resamples=300)["p"]
             for k in range(200)]  # fmt: skip
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_against_networks_it_is_a_prediction_of_one_more_with_patients_beside():
    nulls = [
        VALUE * share + noise for share, noise in zip((0.1, 0.2, 0.3), 0.2 * RNG.normal(size=(3, 40)), strict=True)
    ]
    found = compare_networks({"a": (VALUE, nulls)}, PATIENT, resamples=200)["a"]
    weight = np.concatenate(list(draws(12, 200, seed=0)), axis=1)[np.unique(PATIENT, return_inverse=True)[1]]
    apart = np.stack([VALUE - one for one in nulls])
    cloud = (apart @ weight) / weight.sum(axis=0)
    covariance = np.mean([np.cov(cloud[i], cloud[j])[0, 1] for i in range(3) for j in range(3) if i != j]) * 12 / 11
    spread = apart.mean(axis=1).var(ddof=1) * 4 / 3
    df = (spread + covariance) ** 2 / (spread**2 / 2 + covariance**2 / 11)
    half = stats.t.ppf(0.975, df) * (spread + covariance) ** 0.5
    assert (found["low"], found["high"]) == pytest.approx((apart.mean() - half, apart.mean() + half))
    assert found["networks"] == 3 and found["each"] == pytest.approx([one.mean() for one in nulls])


def test_of_networks_of_which_one_speaks_there_is_no_interval():
    found = compare_networks({"a": (VALUE, [VALUE / 2, np.full(40, np.nan)]), "b": (VALUE, [])}, PATIENT)
    assert found["a"]["networks"] == 1 and found["a"]["p"] is None and found["b"]["difference"] is None


def test_films_that_lack_a_number_are_left_out_and_counted():
    value, null = VALUE.copy(), np.full(40, 1.0)
    value[:3], null[2:5] = np.nan, np.nan
    found, without = compare(value, null, PATIENT), compare(value[5:], null[5:], PATIENT[5:])
    assert found.pop("left_out") == 5 and without.pop("left_out") == 0
    assert found == pytest.approx(without, rel=1e-12)


def test_several_numbers_are_told_as_each_by_itself():
    short = np.where(np.arange(40) % 7, VALUE, np.nan)
    found = compare_all({"a": (VALUE, 1.0), ("b", 2): (short, VALUE + 0.1)}, PATIENT, resamples=100)
    assert found["a"] == compare(VALUE, 1.0, PATIENT, resamples=100)
    assert found["b", 2] == compare(short, VALUE + 0.1, PATIENT, resamples=100)


@pytest.mark.parametrize("value", [[np.nan, np.nan], []])
def test_without_any_there_is_no_difference(value):
    found = compare(value, 1.0, ["a"] * len(value))
    assert {found[name] for name in MEANS} == {None} and found["left_out"] == len(value) and found["films"] == 0


def test_one_patient_or_no_resample_has_a_difference_and_no_interval():
    assert [compare(VALUE, 1, PATIENT, resamples=0)[name] for name in ("low", "high", "p")] == [None] * 3
    found = compare([1.5, 2.5], 1, ["a", "a"])
    assert [found[name] for name in MEANS] == [2, 1, 1, None, None, None]


@pytest.mark.parametrize("sigma", [0, -1, float("nan")])
def test_a_width_that_is_none_is_refused(sigma):
    with pytest.raises(ValueError, match="above 0"):
        centred_gaussian((7, 7), sigma)
