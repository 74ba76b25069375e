"""ROC and precision-recall curves as rows of numbers, at the same levels in every run.

Weights & Biases lays such curves of several runs over one another, and takes their mean over seeds. Its own tables of
curves hold the path of a file in the user's home; rows hold nothing but numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

LEVELS = np.linspace(0.0, 1.0, 101)
ROC, PRECISION = "roc", "precision_recall"
AXES = {ROC: "false_positive_rate", PRECISION: "recall"}
"""What each curve runs over."""
Row = tuple[str, dict[str, float]]


def log(run: Any, rows: Sequence[Row]) -> None:
    """Logs rows that run over something else than steps.

    Args:
        run: Of Weights & Biases.
        rows: Each with the name of what it runs over.
    """
    for axis, first in dict(rows).items():
        for name in first:
            along = None if name == axis else axis
            run.define_metric(name, step_metric=along, hidden=along is None, summary="none")
    for _, row in rows:
        run.log(dict(row))


def sensitivity(probability_N: Any, label_N: Any) -> np.ndarray:
    """The true positive rate at each of `LEVELS` of the false positive rate, exact between the curve's corners.

    Args:
        probability_N: Of films whose label is known.
        label_N: 1 or 0, both of them present.
    """
    false, true, _ = roc_curve(label_N, probability_N, drop_intermediate=False)
    left = np.searchsorted(false, LEVELS, side="right") - 1  # the highest corner at or before a level
    right = np.minimum(left + 1, len(false) - 1)
    width = np.where(false[right] > false[left], false[right] - false[left], 1.0)
    return np.asarray(true[left] + (LEVELS - false[left]) / width * (true[right] - true[left]))


def precision(probability_N: Any, label_N: Any) -> np.ndarray:
    """The precision where the recall first reaches each of `LEVELS`: at the highest threshold that does.

    Between thresholds precision is not linear (Davis & Goadrich 2006), so nothing is interpolated.

    Args:
        probability_N: Of films whose label is known.
        label_N: 1 or 0, both of them present.
    """
    found, recall, _ = precision_recall_curve(label_N, probability_N)
    return np.asarray(found[::-1][np.searchsorted(recall[::-1], LEVELS, side="left").clip(1)])


def rows(probability_NK: Any, label_NK: Any, classes: Sequence[str], split: str) -> Iterator[Row]:
    """Rows to log, each with the name of what it runs over, such as `test_roc/false_positive_rate`.

    A class of which only one outcome is known is left out.

    Args:
        probability_NK: Of films or studies.
        label_NK: 1, 0 or NaN.
        classes: Names of the K columns.
        split: That was measured.
    """
    for curve, measure in ((ROC, sensitivity), (PRECISION, precision)):
        axis = f"{split}_{curve}/{AXES[curve]}"
        found = {axis: LEVELS} | {
            f"{split}_{curve}/{name}": measure(chance[known], truth[known])
            for name, chance, truth in zip(classes, np.asarray(probability_NK).T, np.asarray(label_NK).T, strict=True)
            if len(np.unique(truth[known := ~np.isnan(truth)])) == 2
        }
        if len(found) > 1:
            for values in zip(*found.values(), strict=True):
                yield axis, dict(zip(found, map(float, values), strict=True))
