"""Where recipes look, compared over their seeds and over patients, as `xrayssl compare` compares how good they are."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from xrayssl.comparison.comparison import assembled, chosen_reference
from xrayssl.comparison.inference import adjust
from xrayssl.comparison.page import FEWEST
from xrayssl.comparison.selection import Entry, Selection
from xrayssl.comparison.tested import RESAMPLES, SEED, Measured
from xrayssl.errors import UserError
from xrayssl.explain import nulls, sanity
from xrayssl.explained.collection import Collection, alike
from xrayssl.explained.figures import numbers
from xrayssl.files import json_or_nothing
from xrayssl.results import METRICS
from xrayssl.statistics.resampling import Floats, by_patient, ratio, resampled

Found = Sequence[tuple[Entry, Collection]]
HEADLINE = "edge_energy_0.125"
SHOWN = (HEADLINE, "center_offset", "entropy", "gini", "empty_rate")
RIGHT = "right"


def compared(selection: Selection, found: Found, reference: str | None) -> dict[str, Any]:
    """Compares recipes by every number of their maps, and by those of maps of classes that are there and predicted.

    Args:
        selection: The runs.
        found: The maps of each.
        reference: Recipe that the others are compared with; None: the study's, or the first.

    Returns:
        As comparison.json; see docs/comparison.md.

    Raises:
        UserError: If the runs saw different films.
    """
    chosen, first = chosen_reference(selection, reference), found[0][1]
    different = [entry.run for entry, one in found if one.facts["films"] != first.facts["films"]]
    if different:
        raise UserError(f"{found[0][0].run} and {different[0]} cannot be compared: they have different films, splits "
                        "or labels.")  # fmt: skip
    everybody = sorted({patient for _, one in found for patient in one.patients})
    right = right_in_all(found)
    measured = [measure(entry, one, everybody, right[entry.network]) for entry, one in found]
    known = {name for one in measured for name in one.value}
    regions = sorted(name for name in known if name.startswith(("relative_energy", "pointing_game")))
    shown = [name for name in (*SHOWN, *regions, f"{HEADLINE}/{RIGHT}", f"center_offset/{RIGHT}") if name in known]
    facts = {"task": first.facts["task"], "classes": first.facts["names"], "unit": "film",
             "films": int(first.table["row"].nunique()), "patients": len(everybody), "curves": {}}  # fmt: skip
    return assembled(selection, measured, chosen, shown, facts)


def right_in_all(found: Found) -> dict[str, set[tuple[str, str]]]:
    """Film and class of the maps that every run of a network says rightly.

    Recipes that are right about different films would differ by the films.
    """
    each: dict[str, list[set[tuple[str, str]]]] = {}
    for entry, one in found:
        each.setdefault(entry.network, []).append({*one.names(one.table["right"].to_numpy(float) == 1)})
    return {network: set.intersection(*several) for network, several in each.items()}


def measure(
    entry: Entry, collection: Collection, everybody: Sequence[str], right: Container[tuple[str, str]]
) -> Measured:
    """Means over a run's maps, and in each resample of patients.

    Args:
        entry: The run.
        collection: Its maps.
        everybody: All patients, in the order in which they are drawn.
        right: Film and class of the maps of which figures in "right" are.
    """
    value = _with_right(collection, right)
    place = {patient: number for number, patient in enumerate(everybody)}
    who_N = np.array([place[patient] for patient in collection.patients], dtype=np.intp)
    names, value_SN = list(value), np.stack(list(value.values()))
    known_SN = ~np.isnan(value_SN)
    rows = np.repeat(np.arange(len(names)), len(who_N))
    shape, who = (len(names), len(everybody)), np.tile(who_N, len(names))
    sums = by_patient(rows, who, shape, np.where(known_SN, value_SN, 0).ravel())
    counts = by_patient(rows, who, shape, known_SN.astype(float).ravel())

    def means(weight_MR: Floats) -> dict[str, Floats]:
        return dict(zip(names, ratio(sums @ weight_MR, counts @ weight_MR), strict=True))

    whole = {name: float(one[0]) for name, one in means(np.ones((len(everybody), 1))).items()}
    cloud = resampled(means, len(everybody), RESAMPLES if len(everybody) > 1 else 0, SEED)
    support = {name: [len({*who_N[known_N]})] for name, known_N in zip(names, known_SN, strict=True)}
    return Measured(entry, _selected_on(entry), whole, cloud, support)


def _with_right(collection: Collection, right: Container[tuple[str, str]]) -> dict[str, Floats]:
    """Every number, and the same of the maps that all runs say rightly."""
    found = numbers(collection.map_Nhw, collection.region)
    found["empty_rate"] = (~collection.full).astype(float)
    right_N = np.array([name in right for name in collection.names()], dtype=bool)
    joined = {name: f"{name}, {RIGHT}" if "/" in name else f"{name}/{RIGHT}" for name in found}
    return found | {joined[name]: np.where(right_N, value, np.nan) for name, value in found.items()}


def _selected_on(entry: Entry) -> str:
    return str(json_or_nothing(entry.run / "test" / METRICS).get("selected_on") or "val")


def repeatability(found: Found) -> list[dict[str, Any]]:
    """Of each recipe with several seeds, how alike their maps of a film are, beside maps of other patients' films.

    The interval is over patients, for these very networks: pairs of a few trainings say little of another one. So p is
    given from three on, adjusted by Holm over the rows.

    Returns:
        A row per recipe, network and amount of labels: these, "seeds", and what `nulls.compare` says of Spearman's
        correlation.
    """
    groups: dict[tuple[str, str, float], list[Collection]] = {}
    for entry, one in found:
        groups.setdefault((entry.recipe, entry.network, entry.amount), []).append(one)
    usable = {key: several for key, several in groups.items() if len(several) > 1 and alike(several)}
    return _adjusted([
        {"recipe": recipe, "network": network, "fraction": amount, "seeds": len(several)} | _repeated(several)
        for (recipe, network, amount), several in usable.items()
    ])  # fmt: skip


def _adjusted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """p by Holm, of rows with enough seeds for one."""
    for row in rows:
        row["p"] = row["p"] if row["seeds"] >= FEWEST else None
    adjust(rows)
    return rows


def _repeated(several: Sequence[Collection]) -> dict[str, Any]:
    order = several[0].others()
    apart = [sanity.spearman(one.map_Nhw, other.swapped(order)) for one, other in permutations(several, 2)]
    own = sanity.repeatability(np.stack([one.map_Nhw for one in several]))
    return nulls.compare(own, _mean_known(apart), several[0].patients)


def agreement(found: Found) -> list[dict[str, Any]]:
    """Of recipes that two networks have, how alike these networks' maps are, seed by seed; see `repeatability`."""
    keyed = {(entry.recipe, entry.amount, entry.seed, entry.network): one for entry, one in found}
    rows = []
    for recipe, amount in dict.fromkeys((entry.recipe, entry.amount) for entry, _ in found):
        networks = dict.fromkeys(key[3] for key in keyed if key[:2] == (recipe, amount))
        for first, second in combinations(networks, 2):
            pairs = [(one, keyed[recipe, amount, key[2], second]) for key, one in keyed.items()
                     if (key[0], key[1], key[3]) == (recipe, amount, first)
                     and (recipe, amount, key[2], second) in keyed]  # fmt: skip
            about = {"recipe": recipe, "fraction": amount, "networks": [first, second], "seeds": len(pairs)}
            rows += [about | _agreed(pairs)] if pairs and all(alike(pair) for pair in pairs) else []
    return _adjusted(rows)


def _agreed(pairs: Sequence[tuple[Collection, Collection]]) -> dict[str, Any]:
    order = pairs[0][0].others()
    own = [sanity.agreement(one.map_Nhw, other.map_Nhw) for one, other in pairs]
    apart = [sanity.agreement(one.map_Nhw, other.swapped(order)) for one, other in pairs]
    return nulls.compare(_mean_known(own), _mean_known(apart), pairs[0][0].patients)


def _mean_known(values: Sequence[Floats]) -> Floats:
    """Mean over the first axis of what is known, NaN where nothing is."""
    known = ~np.isnan(stacked := np.stack(values))
    return ratio(np.where(known, stacked, 0).sum(axis=0), known.sum(axis=0))
