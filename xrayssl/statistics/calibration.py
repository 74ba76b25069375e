"""Whether probabilities are what they say, and the temperature that makes them so."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax

from xrayssl.statistics.resampling import Floats, Ints, Part, by_patient, distinct, ratio

BINS = 15  # of equal width, as in Guo et al. 2017
LIMITS = (0.01, 100.0)  # of the temperature; where classes are told apart without a mistake, it would go to 0
Task = Literal["multilabel", "multiclass"]


def calibration(
    probability_N: Floats, scaled_N: Floats | None, outcome_N: Floats, error_N: Floats, patient_N: Ints, patients: int
) -> Part:
    """The expected calibration error over bins of equal width (Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599,
    equation 3) before and after scaling, and the Brier score (Brier 1950).

    Args:
        probability_N: Of what may come true.
        scaled_N: After temperature scaling; None leaves `ece_scaled` out.
        outcome_N: Whether it did, 1 or 0.
        error_N: What the film adds to the Brier score.
        patient_N: Number of each film's patient.
        patients: M of them.
    """
    kinds = {"ece": probability_N} | ({} if scaled_N is None else {"ece_scaled": scaled_N})
    count = len(kinds) * BINS
    row = [BINS * number + bins(p) for number, p in enumerate(kinds.values())]
    row += [np.full(len(patient_N), count), np.full(len(patient_N), count + 1)]
    value = [*(p - outcome_N for p in kinds.values()), error_N, np.ones(len(patient_N))]
    who = np.tile(patient_N, len(row))
    sums = by_patient(np.concatenate(row), who, (count + 2, patients), np.concatenate(value))
    support = dict.fromkeys([*kinds, "brier"], distinct(patient_N))
    return Part(sums, partial(_calibration, names=list(kinds)), support)


def _calibration(sums_CR: Floats, names: list[str]) -> dict[str, Floats]:
    *_, error, total = sums_CR
    gaps = np.split(np.abs(sums_CR[:-2]), len(names))
    return {name: ratio(gap.sum(0), total) for name, gap in zip(names, gaps, strict=True)} | {
        "brier": ratio(error, total)
    }


def bins(probability_N: Floats) -> Ints:
    """Number of each probability's bin; a bin holds its lower edge, the last one both."""
    found: Ints = np.searchsorted(np.arange(1, BINS) / BINS, probability_N, "right")
    return found


def reliability(probability_N: Floats, outcome_N: Floats) -> list[dict[str, Any]]:
    """The bins that hold films, for a reliability diagram.

    Args:
        probability_N: Of what may come true.
        outcome_N: Whether it did, 1 or 0.

    Returns:
        Edges, number of films, their mean probability and how often it came true.
    """
    number = bins(probability_N)
    return [
        {
            "low": k / BINS,
            "high": (k + 1) / BINS,
            "films": int((number == k).sum()),
            "confidence": float(probability_N[number == k].mean()),
            "frequency": float(outcome_N[number == k].mean()),
        }
        for k in np.unique(number)
    ]


def scaled(probability_NK: Floats, temperature: float, task: Task) -> Floats:
    """Probabilities whose logits are divided by a temperature (Guo et al. 2017, section 4.2)."""
    logits_NK = logits(probability_NK, task) / temperature
    return np.asarray(expit(logits_NK) if task == "multilabel" else softmax(logits_NK, axis=1))


def logits(probability_NK: Floats, task: Task) -> Floats:
    """Logits of probabilities that were rounded to float32, where 1 may stand for anything that is nearer to 1 than to
    the next number below: those stay finite."""
    sure = 1 - 2.0**-25 if task == "multilabel" else 1.0
    safe = np.clip(probability_NK, float(np.finfo(np.float32).tiny), sure)
    found: Floats = np.log(safe) - (np.log1p(-safe) if task == "multilabel" else 0)
    return found


def fit_temperature(probability_NK: Floats, label_NK: Floats, task: Task) -> float | None:
    """The temperature with the smallest mean cross-entropy on these films, within `LIMITS`.

    Args:
        probability_NK: As the network says them.
        label_NK: 1, 0 or NaN: multilabel takes every known label of every class, multiclass films of a known class.

    Returns:
        None if nothing is known.
    """
    if task == "multilabel":
        known = ~np.isnan(label_NK)
        signed = logits(probability_NK, task)[known] * (2 * label_NK[known] - 1)
    else:
        rows = (label_NK == 1).any(axis=1)
        signed, true = logits(probability_NK[rows], task), label_NK[rows] == 1
    if signed.size == 0:
        return None

    def entropy(log_temperature: float) -> float:
        divided = signed / np.exp(log_temperature)
        return -float(np.mean(log_expit(divided) if task == "multilabel" else log_softmax(divided, axis=1)[true]))

    found = minimize_scalar(entropy, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
