"""Exact classification metrics with patient-bootstrap intervals, in numpy alone.

Every metric is a function of one integer weight per patient: weight 1 for everybody is the test set as it is,
and a bootstrap resample is the same films with other weights. So each class is sorted once, and a resample
costs only sums.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xrayssl.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Metrics = Callable[[Floats], dict[str, Floats]]  # weight_RM -> metric name -> value_R

_CHUNK = 2**20  # weights held at once: 8 MB an array, whatever the number of resamples


class Ranking(NamedTuple):
    """The known films of one class, sorted once by probability; films are named by their patient's number."""

    negative: Ints  # patient of each film without the finding, by ascending probability
    positive: Ints  # patient of each film with the finding, by ascending probability
    below: Ints  # for each positive: how many negatives have a lower probability
    beaten: Ints  # for each positive: how many negatives have a lower or equal probability
    weaker: Ints  # for each positive: how many positives have a lower probability

    @property
    def defined(self) -> bool:
        """Whether both outcomes occur."""
        return len(self.negative) > 0 and len(self.positive) > 0


def rank(probability_N: ArrayLike, label_N: ArrayLike, patient_N: Ints) -> Ranking:
    """Sort the films of one class; unknown labels (NaN) are left out."""
    probability, label = np.asarray(probability_N, dtype=np.float64), np.asarray(label_N, dtype=np.float64)
    sides = []
    for outcome in (0.0, 1.0):
        side = np.flatnonzero(label == outcome)
        sides.append(side[np.argsort(probability[side], kind="stable")])
    negative, positive = (probability[side] for side in sides)
    return Ranking(
        patient_N[sides[0]],
        patient_N[sides[1]],
        np.searchsorted(negative, positive, "left"),
        np.searchsorted(negative, positive, "right"),
        np.searchsorted(positive, positive, "left"),
    )


def weighted_auroc(ranking: Ranking, weight_RM: Floats) -> Floats:
    """Area under the ROC curve as the Mann-Whitney probability, ties counting one half.

    Args:
        ranking: The films of one class.
        weight_RM: How often each of M patients is drawn in each of R resamples.

    Returns:
        (R,); NaN where a resample lacks one of the outcomes.
    """
    negatives = _running_sum(weight_RM[:, ranking.negative])
    weight = weight_RM[:, ranking.positive]
    wins = (negatives[:, ranking.below] + negatives[:, ranking.beaten]) / 2
    return _ratio((weight * wins).sum(1), weight.sum(1) * negatives[:, -1])


def weighted_auprc(ranking: Ranking, weight_RM: Floats) -> Floats:
    """Area under the precision-recall curve as average precision: the mean precision at each positive film.

    Args:
        ranking: The films of one class.
        weight_RM: How often each of M patients is drawn in each of R resamples.

    Returns:
        (R,); NaN where a resample lacks one of the outcomes.
    """
    negatives = _running_sum(weight_RM[:, ranking.negative])
    weight = weight_RM[:, ranking.positive]
    positives = _running_sum(weight)
    hit = positives[:, -1:] - positives[:, ranking.weaker]
    called = hit + negatives[:, -1:] - negatives[:, ranking.below]
    # A film drawn zero times may be called zero times: its precision is 0/0 and its weight is 0.
    gained = np.divide(weight * hit, called, out=np.zeros_like(hit), where=called > 0).sum(1)
    return _ratio(gained, positives[:, -1] * (negatives[:, -1] > 0))


def auroc(probability_N: ArrayLike, label_N: ArrayLike) -> float:
    """Exact AUROC of one class; NaN labels are left out, and NaN is returned when one outcome is missing."""
    alone = np.zeros(np.shape(label_N), dtype=np.intp)
    return float(weighted_auroc(rank(probability_N, label_N, alone), np.ones((1, 1)))[0])


def confusion(predicted_N: Ints, true_N: Ints, patient_N: Ints, classes: int, weight_RM: Floats) -> Floats:
    """Weighted counts of (true, predicted) pairs, (R, K, K)."""
    cell = true_N * classes + predicted_N
    order = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[order], return_index=True)
    count_RKK = np.zeros((len(weight_RM), classes * classes))
    count_RKK[:, cells] = np.add.reduceat(weight_RM[:, patient_N[order]], starts, axis=1)
    return count_RKK.reshape(-1, classes, classes)


def agreement(count_RKK: Floats, present: NDArray[np.bool_]) -> dict[str, Floats]:
    """Accuracy, balanced accuracy (mean recall of the classes present) and Cohen's unweighted kappa.

    Args:
        count_RKK: Counts of (true, predicted) pairs in each resample.
        present: (K,); the classes that occur in the whole test set. A resample that lacks one has no balanced
            accuracy, because a mean over fewer classes estimates something else.

    Returns:
        Three arrays (R,), NaN where undefined.
    """
    total = count_RKK.sum((1, 2))
    true_RK, predicted_RK = count_RKK.sum(2), count_RKK.sum(1)
    correct_RK = np.diagonal(count_RKK, axis1=1, axis2=2)
    accuracy = _ratio(correct_RK.sum(1), total)
    chance = _ratio((true_RK * predicted_RK).sum(1), total**2)
    recall = _ratio(correct_RK[:, present], true_RK[:, present])
    kappa = _ratio(accuracy - chance, 1 - chance)
    return {"accuracy": accuracy, "balanced_accuracy": _mean(recall), "kappa": kappa}


def draws(patients: int, resamples: int, seed: int, rows: int) -> Iterator[Floats]:
    """Draw patients with replacement: yields weight_RM, `rows` resamples at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, rows):
        drawn = generator.integers(patients, size=(min(rows, resamples - start), patients))
        yield np.stack([np.bincount(row, minlength=patients) for row in drawn]).astype(np.float64)


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
) -> dict[str, Any]:
    """Measure a classifier on films grouped by patient, with percentile intervals from a patient bootstrap.

    Films of one patient resemble each other, so patients are drawn, not films (Field and Welsh 2007, cluster
    bootstrap). A resample in which a metric is undefined is left out of that metric's interval and counted. A
    class of which one outcome has a single patient has no interval: one patient, redrawn, shows no variation.
    Two limits remain: with a handful of patients, or a perfect score, percentile intervals are too narrow.

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

    Returns:
        The content of metrics.json; what does not exist is None.

    Raises:
        UserError: If a probability is not a number.
        ValueError: If shapes or task do not fit, or a multiclass row is not one-hot.
    """
    probability, label = np.asarray(probability_NK, dtype=np.float64), np.asarray(label_NK, dtype=np.float64)
    _check(probability, label, np.asarray(patient_N), task, classes)
    known = _labelled(label, task)
    probability, label = probability[known], label[known]
    names, patient = np.unique(np.asarray(patient_N)[known], return_inverse=True)
    measure = _measure(probability, label, patient, task, classes)
    value = {name: float(values[0]) for name, values in measure(np.ones((1, len(names)))).items()}
    cloud = _resample(measure, len(names), resamples, seed, max(1, len(label), len(classes) ** 2))
    for name in _lonely(label, patient, classes):
        cloud[f"auroc/{name}"] = np.empty(0)
    method = {"method": "patient bootstrap, percentile", "level": level, "resamples": resamples, "seed": seed}
    left_out = {name: int(np.isnan(cloud[name]).sum()) for name in value if not np.isnan(value[name])}
    count = {name: {"positive": int(p), "negative": int(n)} for name, p, n in _outcomes(label, classes)}
    return {
        "version": 1,
        "split": split,
        "task": task,
        "classes": list(classes),
        "films": len(label),
        "unlabelled": int((~known).sum()),
        "patients": len(names),
        "counts": count,
        "metrics": {name: _with_interval(value[name], cloud[name], level) for name in value},
        "undefined": [name for name in classes if not all(count[name].values())],
        "interval": method | {"left_out": {name: n for name, n in left_out.items() if n}},
    }


def _resample(measure: Metrics, patients: int, resamples: int, seed: int, size: int) -> dict[str, Floats]:
    """The metrics of every resample, a bounded number of weights at a time; none for a single patient."""
    weights = draws(patients, resamples if patients > 1 else 0, seed, max(1, _CHUNK // size))
    parts = [measure(np.ones((0, patients))), *map(measure, weights)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _labelled(label_NK: Floats, task: str) -> NDArray[np.bool_]:
    """Films of which something is known; for multiclass: the class, not merely one that it is not."""
    unknown = np.isnan(label_NK)
    if task == "multiclass":
        return np.asarray((label_NK == 1).any(1) | ~unknown.any(1))
    return np.asarray(~unknown.all(1))


def _lonely(label_NK: Floats, patient: Ints, classes: Sequence[str]) -> list[str]:
    """Classes of which one outcome is seen in fewer than two patients."""
    fewest = [min(len(np.unique(patient[column == side])) for side in (0, 1)) for column in label_NK.T]
    return [name for name, patients in zip(classes, fewest, strict=True) if patients < 2]


def _outcomes(label_NK: Floats, classes: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    return zip(classes, (label_NK == 1).sum(0), (label_NK == 0).sum(0), strict=True)


def _measure(probability_NK: Floats, label_NK: Floats, patient: Ints, task: str, classes: Sequence[str]) -> Metrics:
    """Sort once; return the function from weights to metrics."""
    rankings = [rank(p, y, patient) for p, y in zip(probability_NK.T, label_NK.T, strict=True)]
    defined = np.array([ranking.defined for ranking in rankings], dtype=bool)
    present = (label_NK == 1).any(0)

    def measure(weight_RM: Floats) -> dict[str, Floats]:
        area_RK = np.stack([weighted_auroc(ranking, weight_RM) for ranking in rankings], 1)
        metrics = {"auroc_macro": _mean(area_RK[:, defined])}
        if task == "multiclass":
            pairs = probability_NK.argmax(1), (label_NK == 1).argmax(1), patient
            metrics |= agreement(confusion(*pairs, len(classes), weight_RM), present)
        else:
            precision_RK = np.stack([weighted_auprc(ranking, weight_RM) for ranking in rankings], 1)
            metrics["auprc_macro"] = _mean(precision_RK[:, defined])
        return metrics | {f"auroc/{name}": area_RK[:, k] for k, name in enumerate(classes)}

    return measure


def _check(probability: Floats, label: Floats, patient: NDArray[Any], task: str, classes: Sequence[str]) -> None:
    if task not in ("multiclass", "multilabel"):
        raise ValueError(f"task is {task!r}; it must be 'multiclass' or 'multilabel'.")
    if not probability.shape == label.shape == (len(patient), len(classes)):
        shapes = f"probability {probability.shape}, label {label.shape}, patient {patient.shape}"
        raise ValueError(f"{shapes} do not fit {len(classes)} classes.")
    if not np.isin(label[~np.isnan(label)], (0, 1)).all():
        raise ValueError("A label must be 1, 0 or NaN (unknown).")
    if task == "multiclass" and not ((label[_labelled(label, task)] == 1).sum(1) == 1).all():
        raise ValueError("A multiclass film must have exactly one true class.")
    if broken := int((~np.isfinite(probability)).any(1).sum()):
        raise UserError(
            f"The network's probabilities are not numbers for {broken} of {len(label)} films: it has "
            "diverged; train again with a lower learning rate."
        )


def _with_interval(value: float, values_R: Floats, level: float) -> dict[str, float | None]:
    usable = values_R[~np.isnan(values_R)]
    if np.isnan(value):
        return {"value": None, "low": None, "high": None}
    if len(usable) < 2:
        return {"value": value, "low": None, "high": None}
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return {"value": value, "low": float(low), "high": float(high)}


def _running_sum(weight_RN: Floats) -> Floats:
    """Cumulative sums that start at 0, (R, N + 1)."""
    sums = np.zeros((len(weight_RN), weight_RN.shape[1] + 1))
    np.cumsum(weight_RN, axis=1, out=sums[:, 1:])
    return sums


def _ratio(part: Floats, whole: Floats | Ints) -> Floats:
    """part / whole, NaN where whole is 0."""
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratio


def _mean(values_RK: Floats) -> Floats:
    """The mean over classes; NaN where there is none, or where one of them is NaN."""
    return _ratio(values_RK.sum(1), np.full(len(values_RK), values_RK.shape[1]))
