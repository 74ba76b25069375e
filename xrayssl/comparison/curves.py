"""ROC and precision-recall curves of every class and seed, thin enough for a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xrayssl.comparison.tested import Tested
from xrayssl.statistics.resampling import Floats

POINTS = 100
GRID = np.linspace(0, 1, 101)


def curves(tested: Sequence[Tested]) -> dict[str, list[dict[str, Any]]]:
    """Curves by class; a class without both outcomes has none.

    Args:
        tested: Runs with the same test films.
    """
    classes = tested[0].figures["classes"]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in classes}
    for one in tested:
        entry = one.entry
        about = {"recipe": entry.recipe, "network": entry.network, "fraction": entry.amount, "seed": entry.seed}
        for name, chance, truth in zip(classes, one.units.probability.T, one.units.label.T, strict=True):
            known = ~np.isnan(truth)
            if 0 < truth[known].sum() < known.sum():
                found[name].append(about | _of_class(chance[known].astype(np.float64), truth[known] == 1))
    return {name: rows for name, rows in found.items() if rows}


def _of_class(chance_N: Floats, truth_N: Any) -> dict[str, Any]:
    """Both curves from one sorting; films of equal probability are called together."""
    order = np.argsort(-chance_N, kind="stable")
    last = np.flatnonzero(np.append(np.diff(chance_N[order]) != 0, True))
    hits = truth_N[order].cumsum()[last].astype(np.float64)
    called = last + 1.0
    recall, false = hits / hits[-1], (called - hits) / (len(order) - hits[-1])
    roc = np.concatenate([[0.0], false]), np.concatenate([[0.0], recall])
    precision = hits / called
    pr = np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])
    return {"roc": _thin(*roc), "pr": _thin(*pr), "prevalence": float(hits[-1] / len(order))}


def _thin(x: Floats, y: Floats) -> dict[str, list[float]]:
    """At most so many points, the ends among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(POINTS, len(x))).round().astype(int))
    return {"x": [round(float(v), 4) for v in x[kept]], "y": [round(float(v), 4) for v in y[kept]]}


def mean_curve(rows: Sequence[dict[str, Any]], kind: str) -> tuple[Floats, Floats]:
    """Mean of several seeds' curves at each position across (vertical average, Fawcett 2006).

    Args:
        rows: Of one recipe and network.
        kind: "roc" or "pr".
    """
    return GRID, np.mean([_at(np.array(row[kind]["x"]), np.array(row[kind]["y"])) for row in rows], axis=0)


def _at(x: Floats, y: Floats) -> Floats:
    """Height of one curve on the grid; where it rises straight up, its top, except at the very end."""
    keep = np.append(np.diff(x) > 0, True)
    return np.asarray(np.interp(GRID, x[keep], y[keep]))
