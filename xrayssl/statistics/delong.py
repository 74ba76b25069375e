"""The standard error of an AUROC by placements, as a secondary to the patient bootstrap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from xrayssl.statistics.resampling import Interval


def delong(probability_N: ArrayLike, label_N: ArrayLike, level: float = 0.95) -> Interval:
    """AUROC of one class with DeLong's interval (DeLong et al. 1988), by midranks in O(n log n) (Sun and Xu 2014).

    It takes films as independent: with several films of a patient it is too narrow. Unknown labels (NaN) are left out.

    Args:
        probability_N: Of the class.
        label_N: 1, 0 or NaN.
        level: Coverage aimed at, 0..1.

    Returns:
        "value", "low" and "high", cut to 0..1; no interval with fewer than two films of an outcome, or without
        variance, as after a perfect score.
    """
    probability, label = np.asarray(probability_N, dtype=np.float64), np.asarray(label_N, dtype=np.float64)
    positive, negative = probability[label == 1], probability[label == 0]
    if not len(positive) or not len(negative):
        return {"value": None, "low": None, "high": None}
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    above = (ranks[: len(positive)] - stats.rankdata(positive)) / len(negative)
    below = 1 - (ranks[len(positive) :] - stats.rankdata(negative)) / len(positive)
    value, error = float(above.mean()), 0.0
    if len(positive) > 1 and len(negative) > 1:
        error = float(np.sqrt(above.var(ddof=1) / len(positive) + below.var(ddof=1) / len(negative)))
    if error == 0:
        return {"value": value, "low": None, "high": None}
    low, high = np.clip(stats.norm.interval(level, value, error), 0, 1)
    return {"value": value, "low": float(low), "high": float(high)}
