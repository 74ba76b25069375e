"""Calibration agrees with loops over films, and the temperature with a search over many."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from xrayssl.statistics.calibration import BINS, LIMITS, calibration, fit_temperature, reliability, scaled
from xrayssl.statistics.resampling import draws

PATIENT = np.repeat(range(25), 4)


def films(seed=0, count=100):
    """Probabilities of which many stand on the edges of bins, and what came true."""
    random = np.random.default_rng(seed)
    probability = np.where(random.random(count) < 0.3, random.integers(0, 16, count) / 15, random.random(count))
    return probability, (random.random(count) < probability**2).astype(float)


def slowly(probability, outcome, weight):
    """The expected calibration error, a bin after another; a bin holds its lower edge."""
    total = 0.0
    for k in range(BINS):
        inside = [i for i, p in enumerate(probability) if k / BINS <= p and (p < (k + 1) / BINS or k == BINS - 1)]
        n = sum(weight[i] for i in inside)
        if n:
            confidence = sum(weight[i] * probability[i] for i in inside) / n
            frequency = sum(weight[i] * outcome[i] for i in inside) / n
            total += n / sum(weight) * abs(confidence - frequency)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_calibration_errors_under_weights_are_those_of_a_loop(seed):
    (before, outcome), after = films(seed), films(seed + 10)[0]
    part = calibration(before, after, outcome, (before - outcome) ** 2, PATIENT, 25)
    weight_MR = next(draws(25, 4, seed))
    found = part.metrics(part.sums @ weight_MR)
    for number, weight in enumerate(weight_MR.T[:, PATIENT]):
        assert found["ece"][number] == pytest.approx(slowly(before, outcome, weight))
        assert found["ece_scaled"][number] == pytest.approx(slowly(after, outcome, weight))
        assert found["brier"][number] == pytest.approx(np.average((before - outcome) ** 2, weights=weight))


def test_reliability_bins_hold_every_film_and_give_the_calibration_error():
    probability, outcome = films()
    found = reliability(probability, outcome)
    assert sum(each["films"] for each in found) == 100
    assert all(each["low"] <= each["confidence"] <= each["high"] for each in found)
    error = sum(each["films"] / 100 * abs(each["confidence"] - each["frequency"]) for each in found)
    assert error == pytest.approx(slowly(probability, outcome, np.ones(100)))


def test_the_temperature_of_findings_is_the_best_of_many():
    random = np.random.default_rng(0)
    logit_NK = random.normal(size=(400, 3)) * 2
    label_NK = (random.random((400, 3)) < expit(logit_NK / 2.5)).astype(float)
    label_NK[random.random((400, 3)) < 0.2] = np.nan
    known = ~np.isnan(label_NK)
    entropy = {t: log_loss(label_NK[known], expit(logit_NK[known] / t)) for t in np.linspace(2.6, 3.6, 101)}
    found = fit_temperature(expit(logit_NK), label_NK, "multilabel")
    assert found == pytest.approx(min(entropy, key=entropy.get), abs=0.011)


def test_the_temperature_of_classes_is_the_best_of_many():
    random = np.random.default_rng(0)
    logit_NK = random.normal(size=(500, 4)) * 3
    true = np.array([random.choice(4, p=p) for p in softmax(logit_NK / 1.8, axis=1)])
    label_NK = np.eye(4)[true]
    label_NK[:20] = np.nan  # not known
    entropy = {t: log_loss(true[20:], softmax(logit_NK[20:] / t, axis=1)) for t in np.linspace(1.4, 2.2, 81)}
    found = fit_temperature(softmax(logit_NK, axis=1), label_NK, "multiclass")
    assert found == pytest.approx(min(entropy, key=entropy.get), abs=0.011)


def test_scaling_divides_the_logits():
    logit_NK = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(scaled(expit(logit_NK), 3.0, "multilabel"), expit(logit_NK / 3))
    np.testing.assert_allclose(scaled(softmax(logit_NK, axis=1), 3.0, "multiclass"), softmax(logit_NK / 3, axis=1))


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_certain_probabilities_stay_finite(task):
    probability = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    temperature = fit_temperature(probability, probability[[0, 1, 0]], task)  # the last one is wrong
    assert 1 < temperature <= LIMITS[1]
    assert np.isfinite(scaled(probability, temperature, task)).all()


def test_a_network_without_a_mistake_reaches_the_limit_and_one_without_labels_has_no_temperature():
    probability, label = np.array([[0.6], [0.4]]), np.array([[1.0], [0.0]])
    assert fit_temperature(probability, label, "multilabel") == pytest.approx(LIMITS[0], rel=1e-3)
    assert fit_temperature(probability, label * np.nan, "multilabel") is None
