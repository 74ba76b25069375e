import numpy as np
import pytest
from scipy import stats

from xrayssl.comparison.inference import between, hedges, hierarchical, holm, over_seeds

VALUES = np.array([0.80, 0.83, 0.85])
STILL = np.repeat(VALUES[:, None], 50, axis=1)


def moving(scale, seeds=3, resamples=400):
    """Resamples that move all seeds alike."""
    return np.zeros((seeds, 1)) + scale * np.random.default_rng(0).normal(size=resamples)


def test_without_variation_over_patients_it_is_students_t_over_seeds():
    found, expected = over_seeds(VALUES, STILL), stats.ttest_1samp(VALUES, 0)
    assert (found.t, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, 2))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_two_recipes_give_the_f_test_of_obuchowski_and_rockette():
    rng = np.random.default_rng(1)
    theta, cloud = (
        rng.normal(0.8, 0.02, (2, 4)),
        rng.normal(size=(2, 1, 500)) * 0.02 + rng.normal(size=(2, 4, 500)) * 0.01,
    )
    found = over_seeds(theta[0] - theta[1], cloud[0] - cloud[1])
    flat = np.cov(cloud.reshape(8, -1)).reshape(2, 4, 2, 4)
    pairs = [(j, k) for j in range(4) for k in range(4) if j != k]
    cov2 = np.mean([flat[i, j, i, k] for i in range(2) for j, k in pairs])
    cov3 = np.mean([flat[i, j, 1 - i, k] for i in range(2) for j, k in pairs])
    mst = 4 * theta.mean(1).var(ddof=1)
    rest = theta - theta.mean(1, keepdims=True) - theta.mean(0) + theta.mean()
    mstr = (rest**2).sum() / 3
    error = mstr + max(4 * (cov2 - cov3), 0)
    assert found.t**2 == pytest.approx(mst / error)
    assert found.df == pytest.approx(error**2 / (mstr**2 / 3))


def test_what_patients_move_in_all_seeds_widens_the_interval_and_gives_degrees_of_freedom():
    alone, found = over_seeds(VALUES, STILL), over_seeds(VALUES, STILL[:, :1] + moving(0.05))
    assert found.error > alone.error and found.df > alone.df


def test_few_patients_count_for_fewer_degrees_of_freedom_and_a_wider_interval():
    many, few = (over_seeds(VALUES, VALUES[:, None] + moving(0.05), patients) for patients in (np.inf, 10))
    assert few.df < many.df and few.high - few.low > many.high - many.low


def test_a_covariance_below_zero_counts_as_none():
    cloud = np.array([[0.1, -0.1, 0.1, -0.1], [-0.1, 0.1, -0.1, 0.1]])
    assert between(cloud) < 0
    assert over_seeds(VALUES[:2], cloud).df == pytest.approx(1)


def test_resamples_without_the_figure_are_left_out():
    cloud = VALUES[:, None] + moving(0.05)
    assert between(np.concatenate([cloud, np.full((3, 9), np.nan)], axis=1)) == pytest.approx(between(cloud))


def test_one_seed_and_equal_values_have_no_interval():
    assert over_seeds(VALUES[:1], STILL[:1]).low is None
    assert over_seeds(np.zeros(3), np.zeros((3, 50))).p is None


def test_seeds_alike_with_a_known_covariance_have_the_normal_interval():
    cloud = np.tile(np.random.default_rng(0).normal(size=500), (2, 1))
    told = over_seeds(np.array([0.5, 0.5]), cloud)
    assert told.df == np.inf and told.high - told.value == pytest.approx(1.96 * cloud[0].std(ddof=1), rel=1e-3)


def test_the_two_level_bootstrap_holds_seeds_and_patients():
    low, high = hierarchical(STILL)
    assert (low, high) == pytest.approx((0.80, 0.85), abs=0.011)
    wide = hierarchical(VALUES[:, None] + moving(0.1))
    assert wide[1] - wide[0] > high - low
    assert hierarchical(STILL[:1]) is None


def test_holm_steps_down_and_never_falls():
    assert holm([0.01, 0.04, 0.03, None]) == [0.03, pytest.approx(0.06), pytest.approx(0.06), None]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_effect_size_is_in_standard_deviations_between_seeds():
    assert hedges(VALUES + 0.1, VALUES) == pytest.approx((1 - 3 / 15) * 0.1 / VALUES.std(ddof=1))
    assert hedges(VALUES[:1], VALUES[:1]) is None
    assert hedges(np.ones(3), np.zeros(3)) is None
