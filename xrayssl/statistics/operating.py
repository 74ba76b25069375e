"""What is fitted on validation films and then only used: thresholds and the temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xrayssl.metrics import Gathered
from xrayssl.statistics.calibration import Task, fit_temperature
from xrayssl.statistics.resampling import Floats


@dataclass(frozen=True)
class Operating:
    """Where a classifier is operated.

    Args:
        rule: How thresholds are chosen: "youden" makes sensitivity + specificity as great as can be.
        split: Of the films it was fitted on.
        films: How many of them are labelled (studies, where studies are scored).
        threshold: By class: the finding is called where the probability, as predicted, is at least this. None: the
            films do not have both outcomes.
        temperature: By which logits are divided; None if no film is labelled.
    """

    rule: Literal["youden"]
    split: str
    films: int
    threshold: dict[str, float | None]
    temperature: float | None


def fit(films: Gathered, task: Task, classes: Sequence[str], split: str = "val") -> Operating:
    """Fits thresholds and temperature.

    Args:
        films: Predictions and labels of what is scored: of studies, see `results.by_study`, where studies are.
        task: Kind of labels; a class of a "multiclass" task has its threshold against all others.
        classes: K names.
        split: Of the films.
    """
    probability, label = films.probability.astype(np.float64), films.label.astype(np.float64)
    known = ~np.isnan(label).all(axis=1) if task == "multilabel" else (label == 1).any(axis=1)
    pairs = zip(classes, probability[known].T, label[known].T, strict=True)
    thresholds = {name: youden(chance, truth) for name, chance, truth in pairs}
    temperature = fit_temperature(probability, label, task)
    return Operating("youden", split, int(known.sum()), thresholds, temperature)


def youden(probability_N: Floats, label_N: Floats) -> float | None:
    """The threshold with the greatest sensitivity + specificity (Youden 1950), halfway to the probability below it.

    Of several as good the highest is taken; where all do harm, the lowest, with which each of these films is called.

    Args:
        probability_N: Of one class.
        label_N: 1, 0 or NaN (left out).

    Returns:
        None without both outcomes.
    """
    ill, well = (np.sort(probability_N[label_N == outcome]) for outcome in (1, 0))
    if not len(ill) or not len(well):
        return None
    level = np.unique(np.concatenate([ill, well]))
    # Counts in one denominator, so that equally good thresholds are exactly equal.
    called_ill, called_well = (len(side) - np.searchsorted(side, level) for side in (ill, well))
    index = called_ill * len(well) - called_well * len(ill)
    best = len(level) - 1 - int(index[::-1].argmax())
    return float((level[best - 1] + level[best]) / 2 if best else level[0])
