"""Figures of the groups that a test set falls into: sex, age band and view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BANDS = {"0-17": (0, 18), "18-39": (18, 40), "40-59": (40, 60), "60+": (60, 120)}  # years; more is a mistake
FEWEST = 10  # patients that a group needs to have figures
UNKNOWN = "unknown"
Names = NDArray[np.object_]
Evaluate = Callable[[NDArray[np.intp]], dict[str, Any]]


def subgroups(rows: pd.DataFrame, evaluate: Evaluate) -> dict[str, Any]:
    """Headline figures by sex, age and view, as far as the table knows them.

    Args:
        rows: Of the films, in their order; the columns patient, sex, age and view are read where they are.
        evaluate: The content of metrics.json of films by their numbers, see `intervals.evaluate`.

    Returns:
        Kind of group -> group -> films, patients, figures, and what these leave out; see docs/results.md.
    """
    kinds = {"sex": _named(rows, "sex"), "age": _bands(rows), "view": _named(rows, "view")}
    patient = rows["patient"].to_numpy()
    return {
        kind: {group: _figures(np.flatnonzero(name_N == group), patient, evaluate) for group in _ordered(name_N)}
        for kind, name_N in kinds.items()
        if (name_N != UNKNOWN).any()
    }


def _figures(films: NDArray[np.intp], patient_N: NDArray[Any], evaluate: Evaluate) -> dict[str, Any]:
    size = {"films": len(films), "patients": len(np.unique(patient_N[films]))}
    if size["patients"] < FEWEST:
        return {**size, "metrics": {}}
    found = evaluate(films)
    headline = {name: entry for name, entry in found["metrics"].items() if "/" not in name}
    return {**size, "metrics": headline, "undefined": found["undefined"], "macro_without": found["macro_without"]}


def _ordered(name_N: Names) -> list[str]:
    """Names that occur: age bands by age, others by the alphabet, what is unknown last."""
    place = {name: number for number, name in enumerate(BANDS)}
    return sorted(set(name_N), key=lambda name: (name == UNKNOWN, place.get(name, len(BANDS)), name))


def _named(rows: pd.DataFrame, column: str) -> Names:
    values = rows.get(column, pd.Series("", index=rows.index)).astype(object)
    known = values.where(values.notna(), "").astype(str)
    return np.asarray(known.where(known != "", UNKNOWN), dtype=object)


def _bands(rows: pd.DataFrame) -> Names:
    age = rows.get("age", pd.Series(np.nan, index=rows.index)).to_numpy(np.float64)
    band = np.full(len(rows), UNKNOWN, dtype=object)
    for name, (least, below) in BANDS.items():
        band[(age >= least) & (age < below)] = name
    return band
