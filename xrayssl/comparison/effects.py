"""What is told of every recipe, and of every difference to the reference: the rows of comparison.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from xrayssl.comparison.inference import LEVEL, Estimate, adjust, hedges, hierarchical, over_seeds
from xrayssl.comparison.naming import limits
from xrayssl.comparison.tested import Measured
from xrayssl.statistics.resampling import Floats, effective, interval

SEEDS, WITHIN = "seeds and patients", "within-checkpoint only"
Cell = dict[str, dict[int, Measured]]
"""Recipe to its runs by seed: of one network and one amount of labels."""


def cells(runs: Sequence[Measured]) -> dict[tuple[str, float], Cell]:
    """Runs by network and amount of labels, the greatest amount first; recipes in the order of the runs."""
    found: dict[tuple[str, float], Cell] = {}
    for run in runs:
        entry = run.entry
        cell = found.setdefault((entry.network, entry.amount), {})
        cell.setdefault(entry.recipe, {})[entry.seed] = run
    order = list(dict.fromkeys(network for network, _ in found))
    return {key: found[key] for key in sorted(found, key=lambda key: (-key[1], order.index(key[0])))}


def recipes(found: Mapping[tuple[str, float], Cell]) -> list[dict[str, Any]]:
    """A row per recipe, network and amount, with every metric."""
    return [_recipe(name, network, amount, cell[name]) for (network, amount), cell in found.items() for name in cell]


def _recipe(name: str, network: str, amount: float, runs: Mapping[int, Measured]) -> dict[str, Any]:
    seeds = sorted(runs)
    metrics = dict.fromkeys(metric for seed in seeds for metric in runs[seed].value)
    return {
        "recipe": name,
        "network": network,
        "fraction": amount,
        "seeds": seeds,
        "scope": SEEDS if len(seeds) > 1 else WITHIN,
        "selected_on": min(run.selected_on for run in runs.values()),  # "test" before "val"
        "shared_pretraining": _shared(list(runs.values())),
        "metrics": {metric: _mean(metric, runs) for metric in metrics},
    }


def _shared(runs: Sequence[Measured]) -> bool:
    """Whether several seeds start from the same weights."""
    starts = [run.entry.parents[-1] for run in runs if run.entry.parents]
    return len(set(starts)) < len(starts)


def _mean(metric: str, runs: Mapping[int, Measured]) -> dict[str, Any]:
    """A metric over the seeds that have it."""
    known = {seed: run for seed, run in sorted(runs.items()) if not np.isnan(run.value.get(metric, np.nan))}
    per_seed = {str(seed): (run.value[metric] if seed in known else None) for seed, run in sorted(runs.items())}
    if not known:
        return {**dict.fromkeys(("value", "low", "high", "sd", "df", "bootstrap")), "per_seed": per_seed}
    value, cloud, patients = _stacked(metric, list(known.values()))
    if len(runs) == 1:
        (run,) = known.values()
        told = Estimate(**interval(metric, run.value[metric], run.cloud[metric], run.support[metric], LEVEL))  # type: ignore[arg-type]
    else:
        told = over_seeds(value, cloud, patients)
    low, high = _bounded(metric, told)
    sd = float(value.std(ddof=1)) if len(value) > 1 else None
    return {"value": told.value, "low": low, "high": high, "sd": sd, "df": told.df, "per_seed": per_seed,
            "bootstrap": _both(cloud)}  # fmt: skip


def _stacked(metric: str, runs: Sequence[Measured]) -> tuple[Floats, Floats, float]:
    """Figures (S,), resamples (S, R), and as how many patients those behind the metric count."""
    support = [patients for patients in runs[0].support[metric] if patients > 1]
    values = np.array([run.value[metric] for run in runs]), np.stack([run.cloud[metric] for run in runs])
    return (*values, effective(support) if support else 1.0)


def _both(cloud: Floats) -> dict[str, float] | None:
    found = hierarchical(cloud)
    return {"low": found[0], "high": found[1]} if found else None


def _bounded(metric: str, told: Estimate) -> tuple[float | None, float | None]:
    """An interval that goes no further than a figure can."""
    if told.low is None or told.high is None:
        return None, None
    least, greatest = limits(metric)
    return max(told.low, least), min(told.high, greatest)


def differences(found: Mapping[tuple[str, float], Cell], reference: str) -> list[dict[str, Any]]:
    """A row per recipe and metric, against the reference on the same network and with as many labels.

    p is adjusted over all recipes and networks of an amount of labels, for each metric.
    """
    rows = [row for key, cell in found.items() if reference in cell for row in _against(key, cell, reference)]
    for amount, metric in dict.fromkeys((row["fraction"], row["metric"]) for row in rows):
        adjust([row for row in rows if (row["fraction"], row["metric"]) == (amount, metric)])
    return rows


def _against(key: tuple[str, float], cell: Cell, reference: str) -> Iterator[dict[str, Any]]:
    for name, runs in cell.items():
        seeds = sorted(runs.keys() & cell[reference].keys())
        if name == reference or not seeds:
            continue
        pairs = [(runs[seed], cell[reference][seed]) for seed in seeds]
        for metric in [one for one in pairs[0][0].value if all(one in run.value for pair in pairs for run in pair)]:
            kept = [pair for pair in pairs if not any(np.isnan(run.value[metric]) for run in pair)]
            if kept:
                about = {"recipe": name, "reference": reference, "network": key[0], "fraction": key[1]}
                yield about | {"metric": metric} | _difference(metric, kept, len(seeds) == 1)


def _difference(metric: str, pairs: Sequence[tuple[Measured, Measured]], single: bool) -> dict[str, Any]:
    ours, theirs = (_stacked(metric, [pair[side] for pair in pairs]) for side in (0, 1))
    apart, cloud, patients = ours[0] - theirs[0], ours[1] - theirs[1], min(ours[2], theirs[2])
    if single:
        support = pairs[0][0].support[metric]
        span = interval("difference", float(apart[0]), cloud[0], support, LEVEL)
        told = Estimate(float(apart[0]), span["low"], span["high"])
    else:
        told = over_seeds(apart, cloud, patients)
    row = asdict(told)
    row.pop("error")
    return {
        "seeds": [pair[0].entry.seed for pair in pairs],
        "scope": WITHIN if single else SEEDS,
        "selected_on": min(run.selected_on for pair in pairs for run in pair),
        **row,
        "p_holm": None,
        "effect": hedges(ours[0], theirs[0]),
        "bootstrap": _both(cloud),
    }
