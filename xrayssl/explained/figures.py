"""The numbers of a collection of maps, each beside its nulls: what explain.json says of one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xrayssl.comparison.inference import adjust
from xrayssl.explain import localization, nulls, statistics
from xrayssl.explain.nulls import GAUSSIAN, OTHERS, RANDOM
from xrayssl.explained.collection import Collection
from xrayssl.explained.overlaps import overlaps
from xrayssl.statistics.resampling import Floats

RINGS = 5
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
    told = nulls.compare_all(pairs, collection.patients, resamples=nulls.MANY)
    each = [numbers(map_Nhw, collection.region) for map_Nhw in random_weights]
    random = nulls.compare_networks({name: (own[name], [one[name] for one in each]) for name in own if each},
                                    collection.patients)  # fmt: skip
    told |= {(name, RANDOM): one for name, one in random.items()}
    rows = [_row(name, told) for name in own]
    adjust([one for row in rows for one in row["nulls"].values()])
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
    region = collection.region
    found = {name: numbers(map_Nhw, region) for name, map_Nhw in nulls.blind(collection.map_Nhw.shape).items()}
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
        "overlaps": overlaps(collection, random_weights),
        "profile": profile(collection, random_weights),
    }  # fmt: skip
