"""Patients drawn with replacement: metrics as functions of one weight per patient, and intervals from them.

Weight 1 for everybody is the test set as it is, and a bootstrap resample is the same films with other weights. A
metric is a function of sums over films, so that a resample costs a product of a sparse matrix with its weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Interval = dict[str, float | None]
Measure = Callable[[Floats], dict[str, Floats]]

BLOCK = 32  # resamples drawn together: the same ones, however many of them are wanted
THREADS = 8  # at most; each holds a block of weights
EXACT = {"auroc", "sensitivity", "specificity", "ppv", "npv", "f1", "accuracy", "balanced_accuracy"}
"""Metrics whose extremes, 1 and 0, say that every patient was right, or wrong; see `extreme`."""
UPWARD = {"ece", "ece_scaled"}
"""Metrics that every resample raises; see `interval`."""


class Part(NamedTuple):
    """Some metrics of the same films."""

    sums: csr_array  # (C, M): what each patient adds to each of C sums
    metrics: Measure  # sums_CR of R resamples -> name -> value_R, NaN where undefined
    support: dict[str, int]  # name -> independent patients that it rests on


def by_patient(
    row_N: ArrayLike, patient_N: Ints, shape: tuple[int, int], value_N: ArrayLike | None = None
) -> csr_array:
    """What each patient adds to each sum.

    Args:
        row_N: Number of the sum to which a film adds.
        patient_N: Number of its patient.
        shape: Number of sums and of patients.
        value_N: What it adds; 1 unless said.

    Returns:
        Matrix of this shape.
    """
    value = np.ones(len(patient_N)) if value_N is None else np.asarray(value_N, dtype=np.float64)
    return csr_array((value, (np.asarray(row_N, dtype=np.intp), patient_N)), shape=shape)


def draws(patients: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Draws patients with replacement.

    Args:
        patients: M of them.
        resamples: R altogether.
        seed: The same one gives the same resamples; the first ones do not depend on how many follow.

    Yields:
        weight_MR, how often each patient is drawn, for a block of resamples at a time.
    """
    yield from map(partial(_draw, patients, seed), *_blocks(resamples))


def _blocks(resamples: int) -> tuple[list[int], list[int]]:
    """Numbers of the blocks, and how many resamples each has."""
    starts = range(0, resamples, BLOCK)
    return list(range(len(starts))), [min(BLOCK, resamples - start) for start in starts]


def _draw(patients: int, seed: int, block: int, rows: int) -> Floats:
    drawn = np.random.default_rng((seed, block)).integers(patients, size=(rows, patients))
    cell = drawn * rows + np.arange(rows)[:, None]
    return np.bincount(cell.ravel(), minlength=patients * rows).reshape(patients, rows).astype(np.float64)


def resampled(measure: Measure, patients: int, resamples: int, seed: int) -> dict[str, Floats]:
    """The metrics of every resample, by a thread per processor: numpy and scipy let others run meanwhile.

    Args:
        measure: Metrics of weight_MR.
        patients: M of them.
        resamples: R.
        seed: See `draws`.

    Returns:
        Metric -> value_R, whatever the number of threads.
    """

    def drawn(block: int, rows: int) -> dict[str, Floats]:  # here, so that only as many weights are held as threads
        return measure(_draw(patients, seed, block, rows))

    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        parts = [measure(np.ones((patients, 0))), *pool.map(drawn, *_blocks(resamples))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def distinct(patient_N: Ints) -> int:
    """How many patients there are."""
    return int(np.count_nonzero(np.bincount(patient_N)))


def interval(name: str, value: float, cloud_R: Floats, support: Sequence[int], level: float) -> Interval:
    """A percentile interval, and what takes its place at its limits.

    * With few patients percentile intervals are too narrow: the percentiles are moved outwards as Student's t is to
      the normal distribution (Hesterberg 2015, arXiv:1411.5279, section 3.2, "expanded percentile").
    * Where every resample gives the value itself, nothing varies: see `extreme`; other metrics have no interval there.
    * A calibration error grows by resampling, which adds noise to every bin: its resamples are moved back, so that
      their mean is the value. The interval says how much the figure varies, not how much noise is in it already.

    Args:
        name: Of the metric.
        value: On the films themselves; NaN: undefined.
        cloud_R: In each resample, NaN where undefined.
        support: Independent patients that it rests on; a mean over classes: those of each class.
        level: Coverage aimed at, 0..1.

    Returns:
        "value", "low" and "high"; None where they do not exist: a single patient, redrawn, shows no variation.
    """
    if np.isnan(value):
        return {"value": None, "low": None, "high": None}
    usable, several = cloud_R[~np.isnan(cloud_R)], [patients for patients in support if patients > 1]
    if len(usable) < 2 or not several:
        return {"value": value, "low": None, "high": None}
    if value in (0, 1) and np.ptp(usable) == 0:
        low, high = extreme(value, support, level) if kind(name) in EXACT else (None, None)
        return {"value": value, "low": low, "high": high}
    if kind(name) in UPWARD:
        usable = np.maximum(usable - usable.mean() + value, 0)
    tail = expanded((1 - level) / 2, effective(several))
    low, high = np.quantile(usable, [tail, 1 - tail])
    return {"value": value, "low": float(low), "high": float(high)}


def kind(name: str) -> str:
    """The metric without its class: `auroc` of `auroc/Edema` and of `auroc_macro`."""
    return name.partition("/")[0].removesuffix("_macro")


def effective(support: Sequence[int]) -> float:
    """As how many patients those behind each class of a mean count (Satterthwaite 1946): the variance of a class goes
    with 1 / n, so that a rare one decides; of a single class its own number.

    Args:
        support: Patients of each class, more than one.
    """
    patients = np.asarray(support, dtype=np.float64)
    return float(1 + (1 / patients).sum() ** 2 / (1 / (patients**2 * (patients - 1))).sum())


def expanded(tail: float, patients: float) -> float:
    """The percentile to take in place of `tail`, as a share, with so many patients; see `interval`."""
    away = stats.t.ppf(tail, patients - 1) * np.sqrt(patients / (patients - 1))
    return float(stats.norm.cdf(away))


def extreme(value: float, support: Sequence[int], level: float) -> tuple[float, float]:
    """Interval of a metric that is 1 or 0 in every resample: what the truth can be where that happens by chance.

    If one pair (or film) of each of n independent patients is right with the probability s, all are with s^n: the
    interval holds every s for which this is at least the tail's share (Clopper and Pearson 1934). An AUROC has as many
    pairs without a common patient as the rarer outcome has patients. A mean over classes lies above the mean of their
    bounds, because the classes are perfect all at once.

    Args:
        value: 1 or 0.
        support: Independent patients; of each class for a mean over them.
        level: Coverage aimed at, 0..1.

    Returns:
        Low and high.
    """
    bound = float(np.mean([((1 - level) / 2) ** (1 / max(1, patients)) for patients in support]))
    return (bound, 1.0) if value else (0.0, 1 - bound)


def ratio(part: Floats, whole: Floats | Ints) -> Floats:
    """part / whole, NaN where whole is 0."""
    quotient: Floats = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return quotient
