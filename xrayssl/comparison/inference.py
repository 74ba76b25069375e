"""Means and differences of recipes whose readers are training seeds and whose cases are patients.

In radiology, readers read the films of patients by one modality and another; a claim about modalities has to hold for
other readers and other patients (multi-reader multi-case, MRMC). Here a *seed* is the reader: one training of a recipe.
Obuchowski and Rockette (1995, Communications in Statistics 24:285) take the figures of all runs as correlated, because
the same films were tested; Hillis (2007, Statistics in Medicine 26:596; 2014, 33:330) gives the degrees of freedom.

For a single recipe, and for the differences of a pair seed by seed, their analysis is the same few lines. With values
theta_j of r seeds, their variance S^2, and the mean covariance C of two seeds' values over patients:

    Var(mean) = S^2 / r + max(C, 0)        df = Var(mean)^2 / ((S^2 / r)^2 / (r - 1) + max(C, 0)^2 / (m - 1))

S^2 holds what differs from seed to seed, the seeds' own reading of the same patients included; C is what a new set of
patients would move in all seeds alike. For differences C is 2 (Cov2 - Cov3) of Obuchowski and Rockette. Hillis' df
takes C as known; the term with m, the number of patients, is Satterthwaite's (1946) for a C that m patients gave, and C
is m / (m - 1) times that of the resamples, which vary as m patients around their own mean do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from xrayssl.statistics.resampling import Floats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of two.

    Args:
        value: The estimate.
        low: Of its interval; None where there is none.
        high: Likewise.
        error: Its standard error.
        t: value / error.
        df: Degrees of freedom.
        p: Of the hypothesis that it is 0, two-sided.
    """

    value: float
    low: float | None = None
    high: float | None = None
    error: float | None = None
    t: float | None = None
    df: float | None = None
    p: float | None = None


def over_seeds(value_S: Floats, cloud_SR: Floats, patients: float = np.inf, level: float = LEVEL) -> Estimate:
    """Mean over seeds by Obuchowski and Rockette, for other seeds and other patients; see the module.

    Args:
        value_S: Figure of each seed, or its difference to the other recipe's run of that seed.
        cloud_SR: The same in resamples of patients, which all seeds share; NaN where undefined.
        patients: Independent patients that the figure rests on; infinite: the covariance is taken as known.
        level: Coverage aimed at, 0..1.

    Returns:
        Without interval, if there is one seed, or if nothing varies.
    """
    value, seeds = float(value_S.mean()), len(value_S)
    if seeds < 2:
        return Estimate(value)
    of_seeds = float(value_S.var(ddof=1)) / seeds
    of_patients = max(0.0, between(cloud_SR)) / (1 - 1 / max(2.0, patients))
    variance = of_seeds + of_patients
    if variance < 1e-20:
        return Estimate(value)
    unsure = of_seeds**2 / (seeds - 1) + of_patients**2 / max(1.0, patients - 1)
    df = variance**2 / unsure if unsure else np.inf  # seeds alike, and a covariance that is taken as known
    error = variance**0.5
    half = float(stats.t.ppf((1 + level) / 2, df)) * error
    p = float(2 * stats.t.sf(abs(value) / error, df))
    return Estimate(value, value - half, value + half, error, value / error, float(df), p)


def between(cloud_SR: Floats) -> float:
    """Mean covariance, over patients, of two different seeds.

    Args:
        cloud_SR: A figure of each seed in shared resamples; those that lack one are left out.
    """
    known = cloud_SR[:, ~np.isnan(cloud_SR).any(axis=0)]
    if known.shape[1] < 2:
        return 0.0
    covariance = np.cov(known)
    return float((covariance.sum() - np.trace(covariance)) / (len(known) * (len(known) - 1)))


def hierarchical(cloud_SR: Floats, seed: int = 0, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of the mean over seeds, drawn with replacement as patients are (two-level bootstrap).

    It counts what a seed alone makes of patients twice, in the seeds that are drawn and again in the patients: too wide
    where seeds differ by that. And drawn seeds differ by (r - 1) / r of what seeds differ, a third too little for 3:
    too narrow where some trainings are better than others. `benchmarks/comparison.py` has both. It stands beside the
    other interval, and no test is made of it.

    Args:
        cloud_SR: See `over_seeds`.
        seed: Of drawing seeds.
        level: Coverage aimed at, 0..1.
    """
    known = cloud_SR[:, ~np.isnan(cloud_SR).any(axis=0)]
    seeds, resamples = known.shape
    if seeds < 2 or resamples < 2:
        return None
    drawn = np.random.default_rng(seed).integers(seeds, size=(seeds, resamples))
    low, high = np.quantile(np.take_along_axis(known, drawn, 0).mean(axis=0), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_t(value_S: Floats) -> float | None:
    """p of Student's paired t over seeds, which takes these patients as all there are.

    Args:
        value_S: Difference of each seed.
    """
    if len(value_S) < 2 or np.ptp(value_S) == 0:
        return None
    return float(stats.ttest_1samp(value_S, 0.0).pvalue)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p adjusted for as many comparisons as have one (Holm 1979, Scandinavian Journal of Statistics 6:65).

    Args:
        p: Of each comparison; None stays None.
    """
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, (value, place) in enumerate(known):
        least = max(least, min(1.0, value * (len(known) - rank)))
        adjusted[place] = least
    return adjusted


def adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Gives each row its "p_holm", among the "p" of them all."""
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted


def hedges(value_S: Floats, other_S: Floats) -> float | None:
    """Difference of two recipes in standard deviations between seeds: Hedges' g (1981, J. Educ. Stat. 6:107).

    g = (1 - 3 / (8 r - 9)) * (mean - other mean) / sqrt((s^2 + other s^2) / 2), for r seeds of each; the first factor
    is for the s of few seeds, which is too small on average. A g of 2 says how far recipes are apart compared to
    repeating a training, and nothing of patients.

    Args:
        value_S: Figure of each seed.
        other_S: Of the reference.
    """
    seeds = len(value_S)
    if seeds < 2:
        return None
    spread = float(np.sqrt((value_S.var(ddof=1) + other_S.var(ddof=1)) / 2))
    if spread < 1e-10:
        return None
    return float((1 - 3 / (8 * seeds - 9)) * (value_S.mean() - other_S.mean()) / spread)
