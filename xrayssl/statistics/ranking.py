"""How well probabilities rank films: exact areas under the ROC and the precision-recall curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xrayssl.statistics.resampling import Floats, Ints, Part, by_patient, distinct, ratio


def discrimination(probability_N: ArrayLike, label_N: ArrayLike, patient_N: Ints, patients: int) -> Part:
    """`auroc` and `auprc` of one class; unknown labels (NaN) are left out.

    The films are sorted once by the probabilities that positive films have, its levels: a sum for the negatives below
    each level, one for those at it, and one for its positives, 3 U + 1 sums for U levels.

    Args:
        probability_N: Of the class.
        label_N: 1, 0 or NaN.
        patient_N: Number of each film's patient.
        patients: M of them.
    """
    probability, label = np.asarray(probability_N, dtype=np.float64), np.asarray(label_N, dtype=np.float64)
    positive, negative = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    levels, level = np.unique(probability[positive], return_inverse=True)
    between = sum(np.searchsorted(levels, probability[negative], side) for side in ("left", "right"))
    row = np.concatenate([between, 2 * len(levels) + 1 + level])
    who = patient_N[np.concatenate([negative, positive])]
    pairs = disjoint_pairs(patient_N[positive], patient_N[negative])
    return Part(by_patient(row, who, (3 * len(levels) + 1, patients)), areas, {"auroc": pairs, "auprc": pairs})


def disjoint_pairs(positive: Ints, negative: Ints) -> int:
    """How many pairs of a patient with, and one without a finding can be formed of which none shares a patient."""
    both = distinct(np.concatenate([positive, negative]))
    return min(distinct(positive), distinct(negative), both // 2)


def areas(sums_CR: Floats) -> dict[str, Floats]:
    """The AUROC is the Mann-Whitney probability, ties counting one half; the AUPRC is average precision, the mean over
    positive films of the precision among those that rank as high.

    Args:
        sums_CR: See `discrimination`.

    Returns:
        Two arrays (R,); NaN where a resample lacks one of the outcomes.
    """
    levels = len(sums_CR) // 3
    not_above_RU = sums_CR[: 2 * levels + 1].cumsum(0)
    positive_UR, below_UR, to_level_UR = sums_CR[2 * levels + 1 :], not_above_RU[:-1:2], not_above_RU[1::2]
    negatives_R, positives_R = not_above_RU[-1], positive_UR.sum(0)
    wins_R = np.einsum("ur,ur->r", positive_UR, below_UR + to_level_UR) / 2
    hit_UR = positive_UR[::-1].cumsum(0)[::-1]
    called_UR = hit_UR + (negatives_R - below_UR)
    # A level that is drawn zero times may have nothing at or above it: its precision is 0/0 and its weight is 0.
    precision_UR = np.divide(hit_UR, called_UR, out=np.zeros_like(hit_UR), where=called_UR > 0)
    gained_R = np.einsum("ur,ur->r", positive_UR, precision_UR)
    return {
        "auroc": ratio(wins_R, positives_R * negatives_R),
        "auprc": ratio(gained_R, positives_R * (negatives_R > 0)),
    }


def auroc(probability_N: ArrayLike, label_N: ArrayLike) -> float:
    """Exact AUROC of one class; NaN labels are left out, and NaN is returned when one outcome is missing."""
    part = discrimination(probability_N, label_N, np.zeros(np.shape(label_N), dtype=np.intp), 1)
    return float(areas(part.sums @ np.ones((1, 1)))["auroc"][0])
