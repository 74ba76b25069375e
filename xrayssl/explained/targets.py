"""Which class of a film is explained: its label, what is predicted, or one that is named; never a finding's argmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xrayssl import recipes
from xrayssl.errors import UserError, refuse

LABEL, PREDICTION = RULES = ("label", "prediction")


def checked(asked: Sequence[str], classes: Sequence[str]) -> None:
    """Sees whether these classes can be explained.

    Args:
        asked: `label`, `prediction`, or names of classes.
        classes: Of the network.

    Raises:
        UserError: A sentence about each that cannot be.
    """
    known = [*RULES, *classes]
    problems = [f"--class {name}: the run knows no such class, but {', '.join(classes)}; or say label or prediction."
                f"{recipes.nearest(name, known)}" for name in asked if name not in known]  # fmt: skip
    if len(asked) > 1 and {*asked} & {*RULES}:
        problems.append(f"--class {' '.join(asked)}: give one of {' and '.join(RULES)} alone, or names of classes.")
    refuse(problems)


def chosen(
    asked: Sequence[str],
    classes: Sequence[str],
    task: str,
    label_BK: np.ndarray,
    probability_BK: np.ndarray,
    threshold: Mapping[str, float],
) -> np.ndarray:
    """Which class of which film is explained.

    Args:
        asked: See `checked`.
        classes: Of the network, K of them.
        task: "multiclass": a film's prediction is its most probable class; "multilabel": every finding that reaches
            its threshold, and a label is every finding that is there.
        label_BK: 1, 0, or NaN where unknown.
        probability_BK: Of the network.
        threshold: Of findings; needed for the predictions of findings alone.

    Returns:
        bool (B, K).

    Raises:
        UserError: If findings are to be predicted, and no class has a threshold; one without is never predicted.
    """
    if asked[0] == LABEL:
        return np.asarray(label_BK == 1)
    if asked[0] == PREDICTION:
        return right(classes, task, np.ones_like(label_BK), probability_BK, threshold)
    named_K = np.isin(classes, list(asked))
    return np.broadcast_to(named_K, label_BK.shape)


def right(
    classes: Sequence[str], task: str, label_BK: np.ndarray, probability_BK: np.ndarray, threshold: Mapping[str, float]
) -> np.ndarray:
    """Where a class is there and the network says so, bool (B, K); see `chosen`."""
    if task == "multiclass":
        said_BK = probability_BK == probability_BK.max(axis=1, keepdims=True)
    else:
        least_K = [threshold.get(name, np.nan) for name in classes]
        if np.isnan(least_K).all():
            raise UserError("The run has no thresholds that say which findings are predicted; `xrayssl test --run RUN` "
                            "chooses them on validation films. Or name findings, or label, with --class.")  # fmt: skip
        said_BK = probability_BK >= np.asarray(least_K)
    return np.asarray(said_BK & (label_BK == 1))
