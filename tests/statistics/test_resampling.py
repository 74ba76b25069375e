"""Resamples are what a seed says, and intervals move outwards where percentiles are known to fail."""

import numpy as np
import pytest
from scipy import stats

from xrayssl.statistics.resampling import by_patient, draws, effective, expanded, extreme, interval


def test_patients_are_drawn_as_often_as_there_are_patients():
    weight = np.concatenate(list(draws(7, 40, seed=0)), axis=1)
    assert weight.shape == (7, 40) and (weight.sum(0) == 7).all()
    assert 0.3 < (weight == 0).mean() < 0.42  # (1 - 1 / 7) ** 7 = 0.34


def test_the_first_resamples_are_the_same_however_many_follow():
    few, many = (np.concatenate(list(draws(9, count, seed=3)), axis=1) for count in (40, 70))
    np.testing.assert_array_equal(few, many[:, :40])
    assert len({column.tobytes() for column in many.T}) > 65
    assert not np.array_equal(few, np.concatenate(list(draws(9, 40, seed=4)), axis=1))


def test_sums_by_patient_are_those_of_a_loop():
    row, patient, value = [0, 1, 1, 0, 1], np.array([2, 0, 2, 2, 2]), [1.0, 2.0, 3.0, 4.0, 5.0]
    assert by_patient(row, patient, (2, 3), value).toarray().tolist() == [[0, 0, 5], [2, 0, 8]]


def test_percentiles_move_outwards_with_few_patients_as_the_t_distribution_does():
    assert expanded(0.025, 10) == pytest.approx(stats.norm.cdf(-2.262157 * np.sqrt(10 / 9)), abs=1e-6)
    assert 0.0249 < expanded(0.025, 10_000) < 0.025


def test_a_mean_over_classes_rests_on_its_rarest_one_where_that_one_decides():
    assert effective([7]) == pytest.approx(7)
    assert 3 < effective([3, *[300] * 13]) < 4
    assert effective([30, 30]) == pytest.approx(59)  # two samples of equal variance: 29 + 29 degrees of freedom


def test_a_mean_over_classes_is_as_wide_as_its_rare_class_demands():
    cloud = np.random.default_rng(0).normal(0.8, 0.02, 4000)
    found = interval("auroc_macro", 0.8, cloud, [1, 4, 300], 0.95)  # a class of a single patient adds no variation
    tail = expanded(0.025, effective([4, 300]))
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(cloud, [tail, 1 - tail])))
    assert tail < 0.01


@pytest.mark.parametrize("patients", [3, 40])
def test_the_bound_of_a_perfect_score_is_where_chance_gives_one_in_forty(patients):
    low, high = extreme(1.0, [patients], 0.95)
    assert high == 1 and low**patients == pytest.approx(0.025)
    assert low == pytest.approx(stats.binomtest(patients, patients).proportion_ci(0.95).low)  # Clopper and Pearson
    assert extreme(0.0, [patients], 0.95) == (0, pytest.approx(1 - low))


def test_a_perfect_mean_is_bounded_by_the_mean_of_its_classes():
    assert extreme(1.0, [1, 4], 0.95)[0] == pytest.approx((0.025 + 0.025**0.25) / 2)


def test_one_patient_shows_no_variation():
    found = interval("auroc/a", 0.7, np.linspace(0, 1, 50), [1], 0.95)
    assert found == {"value": 0.7, "low": None, "high": None}


def test_a_calibration_error_keeps_the_spread_of_its_resamples_and_not_their_noise():
    cloud = np.random.default_rng(0).normal(0.09, 0.01, 4000)
    found = interval("ece/a", 0.05, cloud, [10**6], 0.95)
    assert (found["low"], found["high"]) == pytest.approx((0.05 - 0.0196, 0.05 + 0.0196), abs=0.002)
    assert interval("ece", 0.001, cloud, [10**6], 0.95)["low"] == 0
