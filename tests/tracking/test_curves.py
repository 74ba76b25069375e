import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from xrayssl.tracking import curves


@pytest.fixture
def films():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400).astype(float)
    return np.round(rng.normal(truth, 1.5), 1), truth  # many ties


def test_the_area_under_the_rows_is_the_auroc(films):
    assert auc(curves.LEVELS, curves.sensitivity(*films)) == pytest.approx(roc_auc_score(films[1], films[0]), abs=2e-3)


def test_ties_are_a_slope_and_no_step():
    np.testing.assert_allclose(curves.sensitivity([0.5, 0.5], [0, 1]), curves.LEVELS)


def test_a_perfect_classifier_fills_both_squares():
    assert (curves.sensitivity([0.1, 0.9], [0, 1]) == 1).all() and (curves.precision([0.1, 0.9], [0, 1]) == 1).all()


def test_the_mean_of_the_precisions_is_the_average_precision(films):
    found = average_precision_score(films[1], films[0])
    assert curves.precision(*films)[1:].mean() == pytest.approx(found, abs=0.02)


def test_precision_is_that_of_the_highest_threshold_that_reaches_the_recall():
    chance, truth = [0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]
    found = curves.precision(chance, truth)
    assert (found[:51] == 1).all() and found[51] == found[100] == pytest.approx(2 / 3)


def test_a_class_without_both_outcomes_has_no_curve_and_unknown_labels_do_not_count():
    chance = np.tile([[0.2], [0.7], [0.9]], 2)
    label = np.array([[0, 1], [1, 1], [np.nan, np.nan]])
    found = list(curves.rows(chance, label, ["Mass", "Edema"], "test"))
    assert {name for _, row in found for name in row} == {
        "test_roc/false_positive_rate", "test_roc/Mass", "test_precision_recall/recall", "test_precision_recall/Mass"
    }  # fmt: skip
    assert len(found) == 2 * len(curves.LEVELS)


def test_without_any_class_nothing_is_logged():
    assert list(curves.rows([[0.2]], [[1.0]], ["Mass"], "test")) == []
