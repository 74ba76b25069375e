"""Areas under curves agree with scikit-learn: ties, unknown labels, weights."""

import math

import numpy as np
import pytest
import sklearn.metrics as reference

from xrayssl.statistics.ranking import auroc, discrimination, disjoint_pairs
from xrayssl.statistics.resampling import draws


def films(seed, count=90):
    """Random films with many tied probabilities; the last quarter of the labels is unknown."""
    random = np.random.default_rng(seed)
    label = (random.random(count) < 0.4).astype(float)
    label[-count // 4 :] = np.nan
    return random.integers(0, 12, count) / 12, label


@pytest.mark.parametrize("seed", range(5))
def test_auroc_with_ties_and_unknown_labels_is_that_of_scikit_learn(seed):
    probability, label = films(seed)
    known = ~np.isnan(label)
    expected = reference.roc_auc_score(label[known], probability[known])
    assert auroc(probability, label) == pytest.approx(expected, abs=1e-12)


def test_auroc_without_both_outcomes_is_not_a_number():
    assert math.isnan(auroc([0.2, 0.3], [1.0, 1.0])) and math.isnan(auroc([0.2, 0.3], [0.0, np.nan]))
    assert math.isnan(auroc([], []))


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(
    ("name", "theirs"), [("auroc", reference.roc_auc_score), ("auprc", reference.average_precision_score)]
)
def test_a_weight_counts_a_patient_as_often_as_it_says(name, theirs, rounded):
    probability, label = films(3)
    if not rounded:
        probability = np.random.default_rng(1).random(90)
    label, patient = np.nan_to_num(label), np.repeat(range(30), 3)
    weight_MR = next(draws(30, 8, seed=1))
    expected = [theirs(label, probability, sample_weight=column[patient]) for column in weight_MR.T]
    part = discrimination(probability, label, patient, 30)
    assert part.metrics(part.sums @ weight_MR)[name] == pytest.approx(expected, abs=1e-12)


def test_a_resample_without_an_outcome_has_no_area():
    part = discrimination([0.1, 0.9], [0.0, 1.0], np.array([0, 1]), 2)
    found = part.metrics(part.sums @ np.array([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0]]))
    np.testing.assert_array_equal(found["auroc"], [np.nan, np.nan, 1])
    np.testing.assert_array_equal(found["auprc"], [np.nan, np.nan, 1])


def test_pairs_that_rest_on_one_patient_count_once():
    assert disjoint_pairs(np.array([0, 0, 1]), np.array([2, 3, 4, 4])) == 2
    assert disjoint_pairs(np.array([0, 1, 2]), np.array([0, 1, 2])) == 1
