"""What a number about maps is compared with: maps that know nothing of the film, and the difference to them.

Two more nulls are made of what a caller has: maps of the same architecture with other weights (`sanity.randomised`),
and the map, or region, of somebody else (`other_patients`), which has the place of a usual finding and not of this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from xrayssl.statistics.resampling import Floats, Ints, by_patient, interval, ratio, resampled

UNIFORM, GAUSSIAN, RANDOM, OTHERS = "uniform", "centred_gaussian", "random_weights", "other_patients"
"""Their names in everything that is written."""
MANY = 10_000
"""Resamples with which p can be small after Holm."""
SIGMA = 0.25
"""Of the centred Gaussian, as a share of the side: the middle half of either side is within one standard deviation."""


def uniform(grid: tuple[int, int]) -> Floats:
    """A map that is 1 in every cell: what areas alone give."""
    return np.ones(grid)


def centred_gaussian(grid: tuple[int, int], sigma: float = SIGMA) -> Floats:
    """A Gaussian about the film's centre: what is known of most films before they are seen.

    Each cell has the Gaussian's mean over its area, so that the maps of two grids tell of the same Gaussian.

    Args:
        grid: Rows and columns of cells.
        sigma: Standard deviation along each side, as a share of that side, above 0.

    Returns:
        map_hw with a mean of 1.

    Raises:
        ValueError: If sigma is not above 0.
    """
    if not sigma > 0:
        raise ValueError(f"The Gaussian's sigma is a share of the side above 0, not {sigma}.")
    rows, columns = (np.diff(stats.norm.cdf(np.linspace(-0.5, 0.5, cells + 1) / sigma)) for cells in grid)
    map_hw = np.outer(rows, columns)
    found: Floats = map_hw / map_hw.mean()
    return found


def blind(shape: tuple[int, ...]) -> dict[str, Floats]:
    """The uniform map and the centred Gaussian, by name, as maps of so many films.

    Args:
        shape: (N, rows, columns).
    """
    grid = shape[1], shape[2]
    return {UNIFORM: np.broadcast_to(uniform(grid), shape), GAUSSIAN: np.broadcast_to(centred_gaussian(grid), shape)}


def random_maps(count: int, grid: tuple[int, int], seed: int = 0) -> Floats:
    """Maps of uniform noise (N, h, w), above 0: every order of the cells is equally likely."""
    return 1 - np.random.default_rng(seed).random((count, *grid))


def other_patients(patient_N: ArrayLike, seed: int = 0, group_N: ArrayLike | None = None) -> Ints:
    """For every film the number of a film of another patient, drawn evenly from all of these.

    Args:
        patient_N: Any label that is equal for films of one patient.
        seed: Of the draw.
        group_N: Films are drawn within a group, such as the class that is explained, so that the map of another finding
            is no null; None: all are one group.

    Returns:
        Numbers (N,); -1 where the group has no other patient.

    Raises:
        ValueError: If there are no groups, and all films are of one patient.
    """
    if group_N is None:
        return _others(np.asarray(patient_N), seed)
    patient, group, found = np.asarray(patient_N), np.asarray(group_N), np.full(len(np.asarray(patient_N)), -1)
    for one in np.unique(group):
        inside = np.flatnonzero(group == one)
        if len(np.unique(patient[inside])) > 1:
            found[inside] = inside[_others(patient[inside], seed)]
    return found


def _others(patient_N: np.ndarray, seed: int) -> Ints:
    _, who_N, size_M = np.unique(patient_N, return_inverse=True, return_counts=True)
    if len(size_M) < 2:
        raise ValueError("Films of another patient are drawn; give films of two or more.")
    by_who_N, end_M = np.argsort(who_N, kind="stable"), np.cumsum(size_M)
    away_N = np.random.default_rng(seed).integers(len(who_N) - size_M[who_N])
    found: Ints = by_who_N[(end_M[who_N] + away_N) % len(who_N)]
    return found


def compare(
    value_N: ArrayLike,
    null_N: ArrayLike,
    patient_N: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """The mean difference of films to their null, with an interval and a test over patients drawn with replacement.

    Films of one patient resemble each other, so patients are drawn (`statistics.resampling`). The p is twice the least
    tail for which the interval excludes 0, so that the two never disagree by more than the resamples' own noise; with
    few patients it is widened as the interval is, and it is never below what the number of resamples can tell. It holds
    for this network alone: one more training is another.

    Args:
        value_N: A number about the map of each film, NaN where there is none.
        null_N: The same number of its null; one for all films, such as 1 for an area null, or one each.
        patient_N: Any label that is equal for films of one patient.
        resamples: Of patients; 0 leaves interval and p out.
        seed: Of drawing them.
        level: Coverage aimed at, 0..1.

    Returns:
        "value" and "null", the means over films that have both; "difference", "low", "high" and "p" (two-sided), None
        where they do not exist; "films" and "patients" behind them, and "left_out", the films that lack one.
    """
    pairs = {"": (value_N, null_N)}
    return compare_all(pairs, patient_N, resamples=resamples, seed=seed, level=level)[""]


def compare_all(
    pairs: Mapping[Any, tuple[ArrayLike, ArrayLike]],
    patient_N: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[Any, dict[str, Any]]:
    """Several numbers of the same films, in the same resamples of patients.

    Args:
        pairs: Name to a number and its null; see `compare`, as everything else.
        patient_N: Likewise.
        resamples: Likewise. The least p is 2 / (resamples + 1): where many are adjusted for each other, take more.
        seed: Likewise.
        level: Likewise.
    """
    patient, apart = np.asarray(patient_N), {}
    for name, (value_N, null_N) in pairs.items():
        value = np.asarray(value_N, dtype=np.float64)
        apart[name] = value, np.broadcast_to(np.asarray(null_N, dtype=np.float64), value.shape)
    cloud = _resampled({name: value - null for name, (value, null) in apart.items()}, patient, resamples, seed)
    return {name: _told(*both, patient, cloud.get(name, np.empty(0)), level) for name, both in apart.items()}


def compare_networks(
    pairs: Mapping[Any, tuple[ArrayLike, Sequence[ArrayLike]]],
    patient_N: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[Any, dict[str, Any]]:
    """Numbers of films against those that several networks with random weights give, as one of which this might pass.

    Random networks differ from each other as trained ones do, and patients know nothing of that. What is asked is
    whether this network is another draw of them, so that its figure less their mean has the variance

        S^2 (1 + 1 / K) + max(C, 0)

    with S^2 between the means of K networks, and C the mean covariance of two of the differences over patients, as
    Obuchowski and Rockette (1995) have it for readers; degrees of freedom are Satterthwaite's (1946). With few networks
    only large differences are told.

    Args:
        pairs: Name to a number, and the same number of the same films by each network; NaN where there is none.
        patient_N: See `compare`, as everything else.
        resamples: Likewise.
        seed: Likewise.
        level: Likewise.

    Returns:
        As `compare`, with "networks", the number of those that say anything, and "each", their means. With fewer than
        two, or a single patient, there is no interval and no p.
    """
    patient, found = np.asarray(patient_N), {}
    apart = {(name, place): np.asarray(value_N, dtype=np.float64) - np.asarray(null_N, dtype=np.float64)
             for name, (value_N, several) in pairs.items() for place, null_N in enumerate(several)}  # fmt: skip
    cloud = _resampled(apart, patient, resamples, seed)
    for name, (value_N, several) in pairs.items():
        usable = [place for place in range(len(several)) if not np.isnan(apart[name, place]).all()]
        told = [compare(value_N, several[place], patient, resamples=0) for place in usable]
        clouds = [cloud[name, place] for place in usable] if cloud else []
        found[name] = _over_networks(told, clouds, level) | {"networks": len(usable)}
    return found


def _over_networks(told: Sequence[Mapping[str, Any]], clouds: Sequence[Floats], level: float) -> dict[str, Any]:
    if not told:
        return {**dict.fromkeys(("value", "null", "difference", "low", "high", "p", "films", "patients", "left_out")),
                "each": []}  # fmt: skip
    means = {key: float(np.mean([one[key] for one in told])) for key in ("value", "null", "difference")}
    size = {key: min(one[key] for one in told) for key in ("films", "patients")}
    size["left_out"] = max(one["left_out"] for one in told)
    ends = dict.fromkeys(("low", "high", "p"))
    if len(told) > 1 and clouds and len(clouds[0]):
        ends = _predicted(np.array([one["difference"] for one in told]), np.stack(clouds), size["patients"], level)
    return {**means, **ends, **size, "each": [one["null"] for one in told]}


def _predicted(apart_K: Floats, cloud_KR: Floats, patients: int, level: float) -> dict[str, Any]:
    """Interval and p of the mean difference; see `compare_networks`."""
    count, known_KR = len(apart_K), cloud_KR[:, ~np.isnan(cloud_KR).any(axis=0)]
    shared = np.cov(known_KR)[~np.eye(count, dtype=bool)].mean() * patients / max(1, patients - 1)
    of_networks, of_patients = apart_K.var(ddof=1) * (1 + 1 / count), max(0.0, float(shared))
    variance = of_networks + of_patients
    if not variance > 0:
        return dict.fromkeys(("low", "high", "p"))
    df = variance**2 / (of_networks**2 / (count - 1) + of_patients**2 / max(1, patients - 1))
    half, mean = stats.t.ppf((1 + level) / 2, df) * variance**0.5, apart_K.mean()
    p = 2 * stats.t.sf(abs(mean) / variance**0.5, df)
    return {"low": float(mean - half), "high": float(mean + half), "p": float(p)}


def _told(value: Floats, null: Floats, patient: np.ndarray, cloud_R: Floats, level: float) -> dict[str, Any]:
    known = np.flatnonzero(~np.isnan(value - null))
    size = {"films": len(known), "patients": len(np.unique(patient[known])), "left_out": len(value) - len(known)}
    if not len(known):
        return {**dict.fromkeys(("value", "null", "difference", "low", "high", "p")), **size}
    apart = float((value - null)[known].mean())
    told = interval("difference", apart, cloud_R, [size["patients"]], level)
    p = None if told["low"] is None else _two_sided(cloud_R[~np.isnan(cloud_R)], size["patients"])
    means = {"value": float(value[known].mean()), "null": float(null[known].mean()), "difference": apart}
    return {**means, "low": told["low"], "high": told["high"], "p": p, **size}


def _resampled(value: Mapping[Any, Floats], patient: np.ndarray, resamples: int, seed: int) -> dict[Any, Floats]:
    """Mean of each number over the films of patients drawn with replacement, (R,); NaN where these have none."""
    names, who_N = np.unique(patient, return_inverse=True)
    if len(names) < 2 or not value:
        return {}
    value_SN = np.stack(list(value.values()))
    known_SN = ~np.isnan(value_SN)
    row = np.repeat(np.arange(len(value_SN)), len(who_N))
    who, shape = np.tile(who_N, len(value_SN)), (len(value_SN), len(names))
    sums = by_patient(row, who, shape, np.where(known_SN, value_SN, 0).ravel())
    counts = by_patient(row, who, shape, known_SN.astype(np.float64).ravel())

    def means(weight_MR: Floats) -> dict[str, Floats]:
        return {"mean": ratio(sums @ weight_MR, counts @ weight_MR).T}

    return dict(zip(value, resampled(means, len(names), resamples, seed)["mean"].T, strict=True))


def _two_sided(cloud_R: Floats, patients: int) -> float:
    """Twice the tail whose expanded percentile is 0: `resampling.expanded`, the other way round."""
    beyond = min((cloud_R <= 0).sum(), (cloud_R >= 0).sum())
    away = stats.norm.ppf((beyond + 1) / (len(cloud_R) + 1))
    return min(1.0, float(2 * stats.t.cdf(away * np.sqrt((patients - 1) / patients), patients - 1)))
