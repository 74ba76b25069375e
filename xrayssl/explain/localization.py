"""Whether maps point to where a finding is known to be.

A region is the share of each cell that boxes or a mask cover (`regions`), a map is raw (`statistics`). Every number is
one per film, NaN where the map is empty or the region is: empty maps are to be counted (`statistics.empty_rate`), or a
network that is silent about hard films seems better. A uniform map (`nulls.uniform`) gives the null of chance by area;
where findings have usual places, a centred Gaussian and the regions of other patients are the harder ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import maximum_filter
from scipy.stats import rankdata

from xrayssl.explain.statistics import flat, normalised
from xrayssl.statistics.resampling import Floats, by_patient, ratio

SHARES = tuple(step / 20 for step in range(1, 20))
"""Of a map's maximum: where it may be cut in two."""
Overlap = Callable[[ArrayLike, ArrayLike, ArrayLike], Floats]


def localized(map_Nhw: ArrayLike, region_Nhw: ArrayLike) -> dict[str, Floats]:
    """Every number that needs no threshold, by its name; see the functions.

    Returns:
        Arrays (N,) under `energy_in_region`, `relative_energy`, `pointing_game` and `pixel_auprc`.
    """
    named = (energy_in_region, relative_energy, pointing_game, pixel_auprc)
    return {number.__name__: number(map_Nhw, region_Nhw) for number in named}


def energy_in_region(map_Nhw: ArrayLike, region_Nhw: ArrayLike) -> Floats:
    """The share of the energy that lies in the region: the energy-based pointing game (Wang et al. 2020, Score-CAM,
    arXiv:1910.01279).

    The paper enlarges the map to the film; here cells that lie in the region in part count by their area inside.

    Returns:
        (N,), 0..1; the region's share of the area for a uniform map.
    """
    density_Nhw, region_Nhw = _both(map_Nhw, region_Nhw)
    found: Floats = (density_Nhw * region_Nhw).sum(axis=(1, 2))
    return found


def relative_energy(map_Nhw: ArrayLike, region_Nhw: ArrayLike) -> Floats:
    """`energy_in_region` divided by the region's share of the area: 1 for a uniform map, whatever the region's size.

    Returns:
        (N,), 0 or more; the smaller the region, the greater it can be.
    """
    _, area_Nhw = _both(map_Nhw, region_Nhw)
    return ratio(energy_in_region(map_Nhw, region_Nhw), area_Nhw.mean(axis=(1, 2)))


def pointing_game(map_Nhw: ArrayLike, region_Nhw: ArrayLike, tolerance: float = 0.0) -> Floats:
    """Whether the maximum lies in the region (Zhang et al. 2016, arXiv:1608.00507).

    A maximum is known no better than its cell, so it hits with the share of the cell that the region covers; of several
    equal ones each is as likely to be meant. That makes the hit a probability, and its value for a uniform map the
    region's share of the area. The paper's tolerance is 15 pixels; here it is in cells, from middle to middle.

    Args:
        map_Nhw: Raw.
        region_Nhw: Shares of cells, 0..1.
        tolerance: How many cells away the region may be, 0 or more.

    Returns:
        (N,), 0..1.
    """
    density_Nhw, region_Nhw = _both(map_Nhw, region_Nhw)
    top_Nhw = density_Nhw == density_Nhw.max(axis=(1, 2), keepdims=True)
    reached_Nhw = maximum_filter(region_Nhw, footprint=_disc(tolerance)[None], mode="constant")
    return ratio((top_Nhw * reached_Nhw).sum(axis=(1, 2)), top_Nhw.sum(axis=(1, 2)))


def _disc(radius: float) -> np.ndarray:
    away = np.arange(-int(radius), int(radius) + 1)
    disc: np.ndarray = np.hypot(away[:, None], away) <= radius
    return disc


def iou(map_Nhw: ArrayLike, region_Nhw: ArrayLike, share_N: ArrayLike = 0.5) -> Floats:
    """Intersection over union of the region and the map, cut at a share of its own maximum.

    Args:
        map_Nhw: Raw.
        region_Nhw: Shares of cells, 0..1.
        share_N: Of the maximum, above 0 and at most 1: one for all films, or one each, as `chosen_threshold` gives.

    Returns:
        (N,), 0..1.
    """
    common_N, detected_N, area_N = _areas(map_Nhw, region_Nhw, share_N)
    return ratio(common_N, detected_N + area_N - common_N)


def iobb(map_Nhw: ArrayLike, region_Nhw: ArrayLike, share_N: ArrayLike = 0.5) -> Floats:
    """Intersection over what was detected, the area of the map above a share of its own maximum (Wang et al. 2017,
    ChestX-ray8, arXiv:1705.02315).

    The paper draws a box about every island of the map; here the cells themselves count, which no box makes larger. It
    rewards small detections: choose the share by `iou`.

    Args:
        map_Nhw: Raw.
        region_Nhw: Shares of cells, 0..1.
        share_N: See `iou`.

    Returns:
        (N,), 0..1.
    """
    common_N, detected_N, _ = _areas(map_Nhw, region_Nhw, share_N)
    return ratio(common_N, detected_N)


def hits(value_N: Floats, least: float) -> Floats:
    """Whether an overlap is above T, 1 or 0, and NaN where there is none; the mean is the hit rate at T."""
    return np.where(np.isnan(value_N), np.nan, value_N > least)


def _areas(map_Nhw: ArrayLike, region_Nhw: ArrayLike, share_N: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Cells that the cut map shares with the region, those that it has, and those of the region."""
    density_Nhw, region_Nhw = _both(map_Nhw, region_Nhw)
    share_N11 = np.broadcast_to(np.asarray(share_N, dtype=np.float64), len(density_Nhw))[:, None, None]
    if not ((share_N11 > 0) & (share_N11 <= 1)).all():
        raise ValueError("A map is cut at a share of its maximum above 0 and at most 1.")
    detected_Nhw = density_Nhw >= share_N11 * density_Nhw.max(axis=(1, 2), keepdims=True)
    areas = detected_Nhw * region_Nhw, detected_Nhw, region_Nhw
    common_N, detected_N, area_N = (np.where(_unknown(density_Nhw), np.nan, one.sum(axis=(1, 2))) for one in areas)
    return common_N, detected_N, area_N


def chosen_threshold(
    map_Nhw: ArrayLike,
    region_Nhw: ArrayLike,
    patient_N: ArrayLike,
    overlap: Overlap = iou,
    shares: Sequence[float] = SHARES,
) -> Floats:
    """Where to cut each film's map: at the share of the maximum that serves the films of all other patients best.

    It is chosen anew for every patient (leave one patient out), since a share that was chosen on the very films it is
    measured on makes the measure too good.

    Args:
        map_Nhw: Raw.
        region_Nhw: Shares of cells, 0..1.
        patient_N: Any label that is equal for films of one patient.
        overlap: Whose mean over films is to be greatest.
        shares: To choose from; of equal ones the first.

    Returns:
        Share of each film (N,), for `iou` and `iobb`.

    Raises:
        ValueError: If a patient is without others that have a map and a region.
    """
    names, who_N = np.unique(np.asarray(patient_N), return_inverse=True)
    value_SN = np.stack([overlap(map_Nhw, region_Nhw, share) for share in shares])
    known = np.flatnonzero(~np.isnan(value_SN[0]))
    row_SN = np.repeat(np.arange(len(shares)), len(known))
    sums = by_patient(row_SN, np.tile(who_N[known], len(shares)), (len(shares), len(names)), value_SN[:, known].ravel())
    count_M = np.bincount(who_N[known], minlength=len(names))
    if (count_M.sum() == count_M).any():
        raise ValueError("A threshold is chosen on other patients; give films of two or more, with maps and regions.")
    total_SM = sums.toarray()
    of_others_SM = total_SM.sum(axis=1, keepdims=True) - total_SM
    return np.asarray(shares, dtype=np.float64)[of_others_SM.argmax(axis=0)][who_N]


def pixel_auprc(map_Nhw: ArrayLike, region_Nhw: ArrayLike) -> Floats:
    """Average precision of finding the region's cells by the map's values, the area under precision and recall.

    A cell that the region covers in part is that much positive and the rest negative, at the same value; where every
    cell is covered wholly or not at all, this is the usual average precision.

    Returns:
        (N,), 0..1; the region's share of the area for a uniform map.
    """
    density_Nhw, region_Nhw = _both(map_Nhw, region_Nhw)
    value_NL, region_NL = flat(np.nan_to_num(density_Nhw)), flat(region_Nhw)
    called_NL = rankdata(-value_NL, method="max", axis=1).astype(np.intp)  # cells at least as great as each
    falling_NL = np.argsort(-value_NL, axis=1, kind="stable")
    hit_NL = np.cumsum(np.take_along_axis(region_NL, falling_NL, 1), axis=1)
    precision_NL = np.take_along_axis(hit_NL, called_NL - 1, 1) / called_NL
    found_N = ratio((region_NL * precision_NL).sum(axis=1), region_NL.sum(axis=1))
    return np.where(_unknown(density_Nhw), np.nan, found_N)


def _unknown(density_Nhw: Floats) -> np.ndarray:
    """Which films lack a map or a region."""
    unknown: np.ndarray = np.isnan(density_Nhw[:, 0, 0])
    return unknown


def _both(map_Nhw: ArrayLike, region_Nhw: ArrayLike) -> tuple[Floats, Floats]:
    """Maps whose cells sum to 1, NaN where map or region is empty, and the regions.

    Raises:
        ValueError: If they have different shapes, or a region is no share.
    """
    density_Nhw, area_Nhw = normalised(map_Nhw), np.asarray(region_Nhw, dtype=np.float64)
    if density_Nhw.shape != area_Nhw.shape:
        raise ValueError(f"Maps {density_Nhw.shape} and regions {area_Nhw.shape} must have the same cells.")
    if not ((area_Nhw >= 0) & (area_Nhw <= 1)).all():
        raise ValueError("A region is the share of each cell that is covered, 0 to 1; `regions` makes it.")
    return np.where(area_Nhw.any(axis=(1, 2), keepdims=True), density_Nhw, np.nan), area_Nhw
