"""Intersections of cut maps with boxes and masks, beside those of maps that know nothing of the film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xrayssl.comparison.inference import adjust
from xrayssl.explain import localization, nulls
from xrayssl.explain.nulls import OTHERS, RANDOM
from xrayssl.explained.collection import Collection
from xrayssl.statistics.resampling import Floats

OVERLAPS = {"iou": localization.iou, "iobb": localization.iobb}
LEAST = (0.1, 0.25, 0.5)
"""Overlaps above which a film counts as hit."""
UNCUT = 0.5
"""Share of the maximum for a patient for whom no other chose one: there is no map to be cut."""


def overlaps(collection: Collection, random_weights: Sequence[Floats] = ()) -> dict[str, Any]:
    """IoU and IoBB of each region at the threshold that the other patients' films choose, with hit rates and nulls.

    Every null is cut where it serves best on other patients, as the network's maps are: a fair rival.

    Args:
        collection: Of the network.
        random_weights: Maps of the same films and classes by networks with random weights, each (N, h, w).

    Returns:
        Region to "films", "share" (the median threshold), and each overlap to its mean with an interval, "hits" (rates)
        and "nulls", p adjusted by Holm over region and overlap. Regions of one patient have none.
    """
    found = {}
    for name, region_Nhw in collection.region.items():
        has_N = ~np.isnan(region_Nhw).any(axis=(1, 2)) & region_Nhw.any(axis=(1, 2)) & collection.full
        if len({*collection.patients[has_N]}) > 1:
            found[name] = _of_region(collection, region_Nhw[has_N], has_N, [one[has_N] for one in random_weights])
    adjust([null for one in found.values() for overlap in OVERLAPS for null in one[overlap]["nulls"].values()])
    return found


def _of_region(
    collection: Collection, region_Nhw: Floats, has_N: np.ndarray, random_weights: Sequence[Floats]
) -> dict[str, Any]:
    patient_N = collection.patients[has_N]
    share_N, own = _cut(collection.map_Nhw[has_N], region_Nhw, patient_N)
    rivals = {name: _cut(map_Nhw, region_Nhw, patient_N)[1] for name, map_Nhw in _rivals(collection, has_N).items()}
    each = [_cut(map_Nhw, region_Nhw, patient_N)[1] for map_Nhw in random_weights if map_Nhw.any()]
    pairs = {(overlap, name): (own[overlap], rival[overlap]) for overlap in OVERLAPS for name, rival in rivals.items()}
    told = nulls.compare_all(pairs, patient_N, resamples=nulls.MANY)
    if each:
        random = {overlap: (own[overlap], [one[overlap] for one in each]) for overlap in OVERLAPS}
        told |= {(overlap, RANDOM): one for overlap, one in nulls.compare_networks(random, patient_N).items()}
    rows = {overlap: _row(own[overlap], patient_N, {which: one for (known, which), one in told.items()
                                                    if known == overlap}) for overlap in OVERLAPS}  # fmt: skip
    return {"share": float(np.median(share_N)), "films": len(patient_N)} | rows


def _rivals(collection: Collection, has_N: np.ndarray) -> dict[str, Floats]:
    """Maps that know nothing of these films."""
    others_Nhw = collection.swapped(collection.others(has_N))[has_N]
    return nulls.blind(others_Nhw.shape) | {OTHERS: others_Nhw}


def _cut(map_Nhw: Floats, region_Nhw: Floats, patient_N: np.ndarray) -> tuple[Floats, dict[str, Floats]]:
    """Threshold of each film, chosen on other patients, and its overlaps there."""
    try:
        share_N = localization.chosen_threshold(map_Nhw, region_Nhw, patient_N)
    except ValueError:  # all maps but one patient's are empty
        share_N = np.full(len(map_Nhw), UNCUT)
    return share_N, {overlap: measure(map_Nhw, region_Nhw, share_N) for overlap, measure in OVERLAPS.items()}


def _row(value_N: Floats, patient_N: np.ndarray, against: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    told = nulls.compare(value_N, 0.0, patient_N)
    rates = {str(least): _rate(localization.hits(value_N, least)) for least in LEAST}
    return {key: told[key] for key in ("value", "low", "high")} | {"hits": rates, "nulls": dict(against)}


def _rate(hit_N: Floats) -> float | None:
    known = hit_N[~np.isnan(hit_N)]
    return float(known.mean()) if len(known) else None
