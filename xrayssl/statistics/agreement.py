"""How decisions agree with the truth: at a threshold, or by the most probable class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from xrayssl.statistics.resampling import Floats, Ints, Part, by_patient, distinct, ratio

DECISIONS = ("sensitivity", "specificity", "ppv", "npv", "f1", "accuracy", "balanced_accuracy", "kappa")


def decisions(
    called_N: NDArray[np.bool_], label_N: Floats, patient_N: Ints, patients: int, names: Sequence[str] = DECISIONS
) -> Part:
    """Metrics of one class at a threshold; unknown labels (NaN) are left out.

    Args:
        called_N: Whether the probability reaches the threshold.
        label_N: 1, 0 or NaN.
        patient_N: Number of each film's patient.
        patients: M of them.
        names: Of the metrics that are wanted.
    """
    known = np.flatnonzero(~np.isnan(label_N))
    called, ill, who = called_N[known], label_N[known] == 1, patient_N[known]
    sides = [distinct(who[side]) for side in (ill, ~ill, called, ~called)]
    both = min(sides[:2])
    support = [*sides, min(sides[0], sides[2]), distinct(who), both, both]
    sums = by_patient(2 * ~ill + ~called, who, (4, patients))
    wanted = {name: count for name, count in zip(DECISIONS, support, strict=True) if name in names}
    return Part(sums, lambda sums_CR: {name: found for name, found in rates(sums_CR).items() if name in wanted}, wanted)


def rates(sums_4R: Floats) -> dict[str, Floats]:
    """Metrics of a two-by-two table.

    Args:
        sums_4R: True positives, false negatives, false positives and true negatives.

    Returns:
        Arrays (R,) by the names of `DECISIONS`, NaN where undefined; F1 also where no film has the finding.
    """
    hit, missed, false, rightly = sums_4R
    ill, well, total = hit + missed, false + rightly, sums_4R.sum(0)
    sensitivity, specificity = ratio(hit, ill), ratio(rightly, well)
    accuracy = ratio(hit + rightly, total)
    chance = ratio(ill * (hit + false) + well * (missed + rightly), total**2)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": ratio(hit, hit + false),
        "npv": ratio(rightly, missed + rightly),
        "f1": ratio(2 * hit, (ill > 0) * (2 * hit + missed + false)),
        "accuracy": accuracy,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "kappa": ratio(accuracy - chance, 1 - chance),
    }


def agreement(predicted_N: Ints, true_N: Ints, classes: int, patient_N: Ints, patients: int) -> Part:
    """Accuracy, balanced accuracy and kappa of the most probable class.

    Args:
        predicted_N: Number of the predicted class.
        true_N: Of the true one.
        classes: K of them.
        patient_N: Number of each film's patient.
        patients: M of them.
    """
    right = np.flatnonzero(predicted_N == true_N)
    row = np.concatenate([true_N, classes + predicted_N, 2 * classes + true_N[right]])
    who = np.concatenate([patient_N, patient_N, patient_N[right]])
    present = np.unique(true_N)
    rarest = min((distinct(patient_N[true_N == k]) for k in present), default=0)
    support = {"accuracy": distinct(patient_N), "balanced_accuracy": rarest, "kappa": distinct(patient_N)}
    return Part(by_patient(row, who, (3 * classes, patients)), partial(_agreement, present=present), support)


def _agreement(sums_CR: Floats, present: Ints) -> dict[str, Floats]:
    """Accuracy, balanced accuracy (mean recall of the classes present) and Cohen's unweighted kappa (Cohen 1960).

    A resample that lacks a class has no balanced accuracy, because a mean over fewer classes estimates something else.

    Args:
        sums_CR: Films that are of each class, that are said to be, and both.
        present: Classes that occur in the whole test set.
    """
    true_KR, predicted_KR, right_KR = np.split(sums_CR, 3)
    total = true_KR.sum(0)
    accuracy = ratio(right_KR.sum(0), total)
    chance = ratio((true_KR * predicted_KR).sum(0), total**2)
    recall = ratio(right_KR[present], true_KR[present])
    balanced = recall.mean(0) if len(present) else np.full_like(total, np.nan)
    return {"accuracy": accuracy, "balanced_accuracy": balanced, "kappa": ratio(accuracy - chance, 1 - chance)}
