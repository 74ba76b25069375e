"""Exact classification metrics with patient-bootstrap intervals, all of them from one pass over the resamples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xrayssl.errors import UserError
from xrayssl.statistics.agreement import DECISIONS, agreement, decisions
from xrayssl.statistics.calibration import calibration, scaled
from xrayssl.statistics.ranking import auroc, discrimination
from xrayssl.statistics.resampling import EXACT, Floats, Ints, Measure, Part, interval, kind, resampled

__all__ = ["auroc", "evaluate", "prepare"]
VERSION = 2
MEANS = ("auroc", "auprc", "f1", "sensitivity", "specificity", "ece", "ece_scaled", "brier")
"""Metrics whose mean over classes is taken; it is called `<metric>_macro`, or as the metric itself for `PLAIN` ones."""
PLAIN = ("ece", "ece_scaled", "brier")
AGAINST_REST = DECISIONS[:5]  # of a multiclass task: what a threshold for one class among others is asked for
METHOD = "patient bootstrap, expanded percentile"
Parts = dict[str, list[Part]]  # class, or "" for what concerns all of them


def evaluate(
    probability_NK: ArrayLike,
    label_NK: ArrayLike,
    patient_N: ArrayLike,
    task: str,
    classes: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    split: str = "test",
    threshold: Mapping[str, float | None] | None = None,
    temperature: float | None = None,
) -> dict[str, Any]:
    """Measures a classifier on films grouped by patient, with intervals from a patient bootstrap.

    Films of one patient resemble each other, so patients are drawn, not films (Field and Welsh 2007, cluster
    bootstrap). A resample in which a metric is undefined is left out of that metric's interval and counted. For few
    patients and perfect scores see `resampling.interval`.

    Args:
        probability_NK: Probabilities in 0..1.
        label_NK: 1, 0 or NaN (unknown); one 1 a row for multiclass. Films of which nothing is known are
            left out and counted.
        patient_N: Any label that is equal for films of one patient.
        task: "multiclass" or "multilabel".
        classes: K names.
        resamples: 0 leaves the intervals out.
        seed: Of the bootstrap; the same seed gives the same interval.
        level: Coverage aimed at, 0..1.
        split: Name to record.
        threshold: Of each class, fitted on other films: from which probability on it is called. None, of one or of
            all: the metrics of decisions do not exist.
        temperature: Of the scaled probabilities, fitted on other films; None leaves `ece_scaled` out.

    Returns:
        The figures of metrics.json, see docs/results.md; what does not exist is None.

    Raises:
        UserError: If a probability is not a number.
        ValueError: If shapes or task do not fit, or a multiclass row is not one-hot.
    """
    ready = prepare(probability_NK, label_NK, patient_N, task, classes, threshold=threshold, temperature=temperature)
    count = ready.counts
    metrics, how = _with_intervals(ready, resamples, seed, level)
    return {
        "version": VERSION,
        "split": split,
        "task": task,
        "classes": list(classes),
        "films": ready.films,
        "unlabelled": ready.unlabelled,
        "patients": ready.patients,
        "counts": count,
        "metrics": metrics,
        "undefined": ready.undefined,
        "macro_without": {mean: left for mean, kept in ready.means.items() if (left := _without(classes, kept))},
        "interval": {"method": METHOD, "level": level, "resamples": resamples, "seed": seed} | how,
    }


@dataclass(frozen=True)
class Prepared:
    """Films sorted and summed once: every metric for any weights of their patients.

    Args:
        films: Labelled ones.
        unlabelled: Left out.
        patients: M of them.
        counts: Class to its films with and without it.
        parts: See `Part`.
    """

    films: int
    unlabelled: int
    patients: int
    counts: dict[str, dict[str, int]]
    parts: Parts

    @property
    def undefined(self) -> list[str]:
        """Classes that lack an outcome."""
        return [name for name, count in self.counts.items() if not all(count.values())]

    @property
    def means(self) -> dict[str, list[str]]:
        """Name of each mean to the classes it is taken over."""
        return _means(self.parts, set(self.undefined))

    @property
    def measure(self) -> Measure:
        """The function from weight_MR to metric -> value_R."""
        return _measure(self.parts, self.means)

    @property
    def support(self) -> dict[str, list[int]]:
        """Independent patients behind each metric; behind a mean: of each class."""
        return _support(self.parts, self.means)


def prepare(
    probability_NK: ArrayLike,
    label_NK: ArrayLike,
    patient_N: ArrayLike,
    task: str,
    classes: Sequence[str],
    *,
    threshold: Mapping[str, float | None] | None = None,
    temperature: float | None = None,
) -> Prepared:
    """Sorts and sums films by patient; see `evaluate`, also for what it raises."""
    probability, label = np.asarray(probability_NK, dtype=np.float64), np.asarray(label_NK, dtype=np.float64)
    _check(probability, label, np.asarray(patient_N), task, classes)
    known = labelled(label, task)
    probability, label = probability[known], label[known]
    names, patient = np.unique(np.asarray(patient_N)[known], return_inverse=True)
    parts = _parts(probability, label, patient, task, classes, threshold or {}, temperature)
    counts = {name: {"positive": int(p), "negative": int(n)} for name, p, n in _outcomes(label, classes)}
    return Prepared(len(label), int((~known).sum()), len(names), counts, parts)


def labelled(label_NK: Floats, task: str) -> NDArray[np.bool_]:
    """Films of which something is known; for multiclass: the class, not merely one that it is not."""
    unknown = np.isnan(label_NK)
    if task == "multiclass":
        return np.asarray((label_NK == 1).any(1) | ~unknown.any(1))
    return np.asarray(~unknown.all(1))


def confidence(probability_NK: Floats, label_NK: Floats) -> tuple[Floats, Floats]:
    """The greatest probability of each film, and whether that class is the true one."""
    chosen = probability_NK.argmax(1)[:, None]
    return np.take_along_axis(probability_NK, chosen, 1)[:, 0], (
        np.take_along_axis(label_NK, chosen, 1)[:, 0] == 1
    ) * 1.0


def _parts(
    probability_NK: Floats,
    label_NK: Floats,
    patient: Ints,
    task: str,
    classes: Sequence[str],
    threshold: Mapping[str, float | None],
    temperature: float | None,
) -> Parts:
    """Sorts and sums once: the parts of each class, and those of all of them."""
    patients = int(patient.max(initial=-1)) + 1
    again = None if temperature is None else scaled(probability_NK, temperature, task)  # type: ignore[arg-type]
    parts: Parts = {"": []}
    for k, name in enumerate(classes):
        chance, truth = probability_NK[:, k], label_NK[:, k]
        parts[name] = [discrimination(chance, truth, patient, patients)]
        if (least := threshold.get(name)) is not None:
            wanted = DECISIONS if task == "multilabel" else AGAINST_REST
            parts[name].append(decisions(chance >= least, truth, patient, patients, wanted))
        if task == "multilabel" and (known := ~np.isnan(truth)).any():
            after = None if again is None else again[known, k]
            error = (chance - truth)[known] ** 2
            parts[name].append(calibration(chance[known], after, truth[known], error, patient[known], patients))
    if task == "multiclass":
        true = (label_NK == 1).argmax(1)
        parts[""].append(agreement(probability_NK.argmax(1), true, len(classes), patient, patients))
        sure, right = confidence(probability_NK, label_NK)
        after = None if again is None else again.max(1, initial=0)
        error = ((probability_NK - (label_NK == 1)) ** 2).sum(1)
        parts[""].append(calibration(sure, after, right, error, patient, patients))
    return parts


def _means(parts: Parts, undefined: set[str]) -> dict[str, list[str]]:
    """Name of each mean over classes -> classes it is taken over: those with both outcomes, except for calibration."""
    means = {}
    for metric in MEANS:
        kept = [name for name in parts if name and any(metric in part.support for part in parts[name])]
        if kept:
            mean = metric if metric in PLAIN else f"{metric}_macro"
            means[mean] = [name for name in kept if metric in PLAIN or name not in undefined]
    return means


def _without(classes: Sequence[str], kept: Sequence[str]) -> list[str]:
    return [name for name in classes if name not in kept]


def _measure(parts: Parts, means: Mapping[str, Sequence[str]]) -> Measure:
    """The function from weight_MR to metric -> value_R: figures of all classes first, then each class."""

    def measure(weight_MR: Floats) -> dict[str, Floats]:
        each = {name: _joined(part.metrics(part.sums @ weight_MR) for part in parts[name]) for name in parts}
        missing = np.full(weight_MR.shape[1], np.nan)
        every = {
            mean: np.mean([each[name][_single(mean)] for name in kept], axis=0) if kept else missing
            for mean, kept in means.items()
        }
        every |= each.pop("")
        return every | {f"{metric}/{name}": each[name][metric] for name in each for metric in each[name]}

    return measure


def _joined(found: Iterator[dict[str, Floats]]) -> dict[str, Floats]:
    return {metric: values for part in found for metric, values in part.items()}


def _single(mean: str) -> str:
    return mean.removesuffix("_macro")


def _support(parts: Parts, means: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Independent patients behind each metric; behind a mean: of each class."""
    each = {name: {metric: n for part in parts[name] for metric, n in part.support.items()} for name in parts}
    found = {mean: [each[name][_single(mean)] for name in kept] for mean, kept in means.items()}
    found |= {metric: [n] for metric, n in each.pop("").items()}
    return found | {f"{metric}/{name}": [n] for name in each for metric, n in each[name].items()}


def _with_intervals(ready: Prepared, resamples: int, seed: int, level: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every metric with its interval, and what is to be told about the intervals."""
    measure, support, patients = ready.measure, ready.support, ready.patients
    value = {name: float(values[0]) for name, values in measure(np.ones((patients, 1))).items()}
    cloud = resampled(measure, patients, resamples if patients > 1 else 0, seed)
    metrics = {name: interval(name, value[name], cloud[name], support[name], level) for name in value}
    left_out = {name: int(np.isnan(cloud[name]).sum()) for name in value if not np.isnan(value[name])}
    exact = [name for name in value if kind(name) in EXACT and _constant(cloud[name], value[name])]
    return metrics, {
        "left_out": {name: n for name, n in left_out.items() if n},
        "exact": [name for name in exact if metrics[name]["low"] is not None],
    }


def _constant(cloud_R: Floats, value: float) -> bool:
    """Whether every resample is as perfect as the films are, or as wrong."""
    return value in (0, 1) and bool((np.isnan(cloud_R) | (cloud_R == value)).all())


def _outcomes(label_NK: Floats, classes: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    return zip(classes, (label_NK == 1).sum(0), (label_NK == 0).sum(0), strict=True)


def _check(probability: Floats, label: Floats, patient: NDArray[Any], task: str, classes: Sequence[str]) -> None:
    if task not in ("multiclass", "multilabel"):
        raise ValueError(f"task is {task!r}; it must be 'multiclass' or 'multilabel'.")
    if not probability.shape == label.shape == (len(patient), len(classes)):
        shapes = f"probability {probability.shape}, label {label.shape}, patient {patient.shape}"
        raise ValueError(f"{shapes} do not fit {len(classes)} classes.")
    if not np.isin(label[~np.isnan(label)], (0, 1)).all():
        raise ValueError("A label must be 1, 0 or NaN (unknown).")
    if task == "multiclass" and not ((label[labelled(label, task)] == 1).sum(1) == 1).all():
        raise ValueError("A multiclass film must have exactly one true class.")
    if broken := int((~np.isfinite(probability)).any(1).sum()):
        raise UserError(
            f"The network's probabilities are not numbers for {broken} of {len(label)} films: it has "
            "diverged; train again with a lower learning rate."
        )
