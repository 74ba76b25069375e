"""The numbers of a collection of maps, each beside its nulls: what explain.json says of one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xrayssl.comparison.inference import holm
from xrayssl.explain import localization, nulls, statistics
from xrayssl.explained.collection import Collection
from xrayssl.statistics.resampling import Floats

UNIFORM, GAUSSIAN, RANDOM, OTHERS = "uniform", "centred_gaussian", "random_weights", "other_patients"
OVERLAPS = {"iou": localization.iou, "iobb": localization.iobb}
LEAST = (0.1, 0.25, 0.5)
"""Overlaps above which a film counts as hit."""
RINGS = 5
SEED, RESAMPLES = 0, 10_000
"""So many that p can be small after Holm."""
Numbers = dict[str, Floats]


def numbers(map_Nhw: Floats, region: Mapping[str, Floats]) -> Numbers:
    """Every number of each map, by its name, those of a region with `/` and the region behind: (N,).

    Args:
        map_Nhw: Raw.
        region: Name to region_Nhw, NaN where a film has none.
    """
    found = statistics.measured(map_Nhw)
    for name, region_Nhw in region.items():
        has_N = ~np.isnan(region_Nhw).any(axis=(1, 2))
        values = localization.localized(map_Nhw[has_N], region_Nhw[has_N])
        found |= {f"{number}/{name}": spread(value, np.asarray(has_N)) for number, value in values.items()}
    return found


def spread(value: Floats, has_N: np.ndarray) -> Floats:
    """Values of some films among all of them, NaN elsewhere."""
    found = np.full(len(has_N), np.nan)
    found[has_N] = value
    return found


def beside_nulls(collection: Collection, random_weights: Sequence[Floats]) -> list[dict[str, Any]]:
    """A row per number: its mean with an interval over patients, and its difference to each null.

    p is adjusted by Holm over all numbers and nulls of the table.

    Args:
        collection: Of the network.
        random_weights: Maps of the same films and classes by networks with random weights, each (N, h, w).
    """
    own, null = numbers(collection.map_Nhw, collection.region), null_numbers(collection)
    pairs: dict[Any, Any] = {(name, ""): (value_N, 0.0) for name, value_N in own.items()}
    pairs |= {(name, which): (value_N, values[name]) for name, value_N in own.items() for which, values in null.items()
              if name in values and _says_something(which, name)}  # fmt: skip
    told = nulls.compare_all(pairs, collection.patients, resamples=RESAMPLES)
    each = [numbers(map_Nhw, collection.region) for map_Nhw in random_weights]
    random = nulls.compare_networks({name: (own[name], [one[name] for one in each]) for name in own if each},
                                    collection.patients)  # fmt: skip
    told |= {(name, RANDOM): one for name, one in random.items()}
    rows = [_row(name, told) for name in own]
    every = [one for row in rows for one in row["nulls"].values()]
    for one, adjusted in zip(every, holm([one["p"] for one in every]), strict=True):
        one["p_holm"] = adjusted
    return rows


def _row(name: str, told: Mapping[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    kept = ("value", "low", "high", "films", "patients", "left_out")
    return {"name": name, **{key: told[name, ""][key] for key in kept},
            "nulls": {which: one for (number, which), one in told.items() if number == name and which}}  # fmt: skip


def _says_something(null: str, name: str) -> bool:
    """A uniform map has no offset, and all its cells alike: of entropy and Gini it is the unit, not a null."""
    of_area = name.startswith(("edge_energy", "energy_in", "relative", "pointing", "pixel"))
    return of_area or (null == GAUSSIAN and name.startswith(("entropy", "gini")))


def null_numbers(collection: Collection) -> dict[str, Numbers]:
    """Every number of the nulls that need no other network, of each map, by the null's name."""
    shape, region = collection.map_Nhw.shape, collection.region
    grid = shape[1], shape[2]
    found: dict[str, Numbers] = {
        UNIFORM: numbers(np.broadcast_to(nulls.uniform(grid), shape), region),
        GAUSSIAN: numbers(np.broadcast_to(nulls.centred_gaussian(grid), shape), region),
    }
    if region and len({*collection.patients}) > 1:
        found[OTHERS] = {}
        for name, region_Nhw in region.items():
            order = collection.others(collection.full & ~np.isnan(region_Nhw).any(axis=(1, 2)))
            others = numbers(collection.swapped(order), {name: region_Nhw})
            found[OTHERS] |= {number: values for number, values in others.items() if "/" in number}
    return found


def means(several: Sequence[Numbers]) -> dict[str, float]:
    """Mean of each number over maps, and over networks that have it."""
    each: dict[str, list[float]] = {}
    for values in several:
        for name, value_N in values.items():
            each.setdefault(name, []).extend(value_N[~np.isnan(value_N)].tolist())
    return {name: float(np.mean(known)) for name, known in each.items() if known}


def overlaps(collection: Collection) -> dict[str, Any]:
    """IoU and IoBB of each region at the threshold that the other patients' films choose, with hit rates.

    Returns:
        Region to "share" (the median threshold), and each overlap to its mean with an interval, and hit rates. Regions
        of one patient have none.
    """
    found = {}
    for name, region_Nhw in collection.region.items():
        has_N = ~np.isnan(region_Nhw).any(axis=(1, 2)) & region_Nhw.any(axis=(1, 2)) & collection.full
        map_Nhw, covered_Nhw, patient_N = collection.map_Nhw[has_N], region_Nhw[has_N], collection.patients[has_N]
        if len({*patient_N}) < 2:
            continue
        share_N = localization.chosen_threshold(map_Nhw, covered_Nhw, patient_N)
        usable = np.nan_to_num(share_N, nan=0.5)
        found[name] = {"share": float(np.nanmedian(share_N)), "films": int(has_N.sum())} | {
            overlap: _overlap(measure(map_Nhw, covered_Nhw, usable), patient_N) for overlap, measure in OVERLAPS.items()
        }
    return found


def _overlap(value_N: Floats, patient_N: np.ndarray) -> dict[str, Any]:
    told = nulls.compare(value_N, 0.0, patient_N)
    rates = {str(least): _rate(localization.hits(value_N, least)) for least in LEAST}
    return {key: told[key] for key in ("value", "low", "high")} | {"hits": rates}


def _rate(hit_N: Floats) -> float | None:
    known = hit_N[~np.isnan(hit_N)]
    return float(known.mean()) if len(known) else None


def profile(collection: Collection, random_weights: Sequence[Floats]) -> dict[str, list[float | None]]:
    """Mean density in rings from the middle outwards, relative to a uniform map, of the network and its nulls."""
    grid = collection.map_Nhw.shape[1], collection.map_Nhw.shape[2]
    maps = {"network": collection.map_Nhw, GAUSSIAN: nulls.centred_gaussian(grid)[None]}
    if random_weights:
        maps[RANDOM] = np.concatenate(list(random_weights))
    return {name: _mean_rings(map_Nhw) for name, map_Nhw in maps.items()}


def _mean_rings(map_Nhw: Floats) -> list[float | None]:
    rings = statistics.radial_profile(map_Nhw, RINGS)
    known = rings[~np.isnan(rings[:, 0])]
    return [float(value) for value in known.mean(axis=0)] if len(known) else [None] * RINGS


def summary(collection: Collection, random_weights: Sequence[Floats]) -> dict[str, Any]:
    """All of that, as explain.json has it."""
    map_Nhw, table = collection.map_Nhw, collection.table
    return {
        "maps": len(table), "films": int(table["row"].nunique()), "patients": int(table["patient"].nunique()),
        "grid": list(map_Nhw.shape[1:]),
        "right": int((table["right"] == 1).sum()),
        "empty_rate": statistics.empty_rate(map_Nhw),
        "empty_rate_random_weights": (
            float(np.mean([statistics.empty_rate(one) for one in random_weights])) if random_weights else None
        ),
        "numbers": beside_nulls(collection, random_weights),
        "overlaps": overlaps(collection),
        "profile": profile(collection, random_weights),
    }  # fmt: skip
