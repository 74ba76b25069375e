"""Decisions agree with scikit-learn under any weights of patients."""

import numpy as np
import pytest
import sklearn.metrics as reference

from xrayssl.statistics.agreement import DECISIONS, agreement, decisions, rates
from xrayssl.statistics.resampling import draws

PATIENT = np.repeat(range(20), 4)


def test_weighted_agreement_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    true, said = random.integers(0, 3, 80), random.integers(0, 4, 80)  # the fourth class is never true
    part = agreement(said, true, 4, PATIENT, 20)
    weight_MR = next(draws(20, 6, seed=2))
    found = part.metrics(part.sums @ weight_MR)
    for number, weight in enumerate(weight_MR.T):
        films = {"sample_weight": weight[PATIENT]}
        assert found["accuracy"][number] == pytest.approx(reference.accuracy_score(true, said, **films))
        assert found["kappa"][number] == pytest.approx(reference.cohen_kappa_score(true, said, **films))
        recall = reference.recall_score(true, said, average=None, labels=range(3), **films)
        assert found["balanced_accuracy"][number] == pytest.approx(recall.mean())


def test_weighted_decisions_are_those_of_scikit_learn():
    random = np.random.default_rng(1)
    label, called = (random.random(80) < 0.3).astype(float), random.random(80) < 0.5
    label[:7] = np.nan
    part, weight_MR = decisions(called, label, PATIENT, 20), next(draws(20, 5, seed=2))
    found = part.metrics(part.sums @ weight_MR)
    assert set(found) == set(DECISIONS) == set(part.support)
    for number, weight in enumerate(weight_MR.T):
        weighted = {"sample_weight": weight[PATIENT][7:]}
        for name, theirs in (
            ("f1", reference.f1_score), ("ppv", reference.precision_score), ("kappa", reference.cohen_kappa_score)
        ):  # fmt: skip
            assert found[name][number] == pytest.approx(theirs(label[7:], called[7:], **weighted))


def test_what_cannot_be_divided_is_undefined():
    nobody_ill = rates(np.array([[0.0], [0.0], [2.0], [3.0]]))
    assert np.isnan([nobody_ill[name][0] for name in ("sensitivity", "f1", "balanced_accuracy")]).all()
    assert nobody_ill["specificity"][0] == 0.6 and nobody_ill["ppv"][0] == 0
    nobody_called = rates(np.array([[0.0], [2.0], [0.0], [3.0]]))
    assert np.isnan(nobody_called["ppv"][0]) and nobody_called["f1"][0] == 0


def test_decisions_rest_on_the_patients_that_show_them():
    label, called = np.array([1.0, 1, 1, 0, 0]), np.array([True, False, True, False, False])
    support = decisions(called, label, np.array([0, 0, 1, 2, 3]), 4).support
    assert [support[name] for name in ("sensitivity", "specificity", "ppv", "npv", "accuracy")] == [2, 2, 2, 3, 4]
