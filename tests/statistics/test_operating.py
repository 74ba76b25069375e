"""Thresholds are the best there are on the films they are fitted on."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from xrayssl.metrics import Gathered
from xrayssl.statistics.operating import fit, youden


def validation(seed=0, count=80):
    """Three findings: one with gaps and ties, one with ties, one that nobody has."""
    random = np.random.default_rng(seed)
    label = np.stack([random.random(count) < 0.4, random.random(count) < 0.2, np.zeros(count)], 1).astype(np.float32)
    probability = (random.integers(0, 12, label.shape) / 16 + 0.2 * label).astype(np.float32)
    label[:9, 0] = np.nan
    return Gathered(np.arange(count), probability, label)


def sum_of_rates(probability, label, threshold):
    return (probability >= threshold)[label == 1].mean() + (probability < threshold)[label == 0].mean()


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_greater_sum_of_sensitivity_and_specificity(seed):
    films = validation(seed)
    found = fit(films, "multilabel", ["a", "b", "c"])
    for k, name in enumerate("ab"):
        known = ~np.isnan(films.label[:, k])
        probability, label = films.probability[known, k].astype(float), films.label[known, k]
        false, right, _ = roc_curve(label, probability)
        reached = sum_of_rates(probability, label, found.threshold[name])
        assert reached == pytest.approx(1 + (right - false).max())


def test_of_several_best_thresholds_the_highest_is_taken_halfway_to_the_film_below():
    probability, label = np.array([0.1, 0.3, 0.5, 0.9]), np.array([0.0, 1.0, 0.0, 1.0])
    assert youden(probability, label) == 0.7
    assert youden(np.array([0.2, 0.4]), np.array([0.0, 1.0])) == pytest.approx(0.3)


def test_where_nothing_is_better_than_chance_every_film_is_called():
    assert youden(np.full(4, 0.5), np.array([0.0, 1, 0, 1])) == 0.5
    assert youden(np.array([0.1, 0.9]), np.array([1.0, 0.0])) == 0.1


def test_a_class_without_both_outcomes_has_no_threshold():
    found = fit(validation(), "multilabel", ["a", "b", "c"])
    assert found.threshold["c"] is None and None not in (found.threshold["a"], found.threshold["b"])


def test_what_was_fitted_says_where_and_survives_json():
    found = json.loads(json.dumps(asdict(fit(validation(), "multilabel", ["a", "b", "c"]))))
    assert (found["rule"], found["split"], found["films"]) == ("youden", "val", 80)
    assert set(found["threshold"]) == set("abc") and found["temperature"] > 0


def test_films_of_an_unknown_class_are_not_fitted_on():
    random = np.random.default_rng(0)
    label = np.eye(3, dtype=np.float32)[random.integers(3, size=60)]
    probability = random.dirichlet(np.ones(3), 60).astype(np.float32)
    some = fit(Gathered(np.arange(40), probability[:40], label[:40]), "multiclass", list("abc"))
    label[40:] = np.nan
    assert fit(Gathered(np.arange(60), probability, label), "multiclass", list("abc")) == some


def test_no_film_at_all_fits_nothing():
    found = fit(Gathered(np.arange(0), np.empty((0, 1)), np.empty((0, 1))), "multilabel", ["a"])
    assert (found.films, found.threshold, found.temperature) == (0, {"a": None}, None)
