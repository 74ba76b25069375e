"""What each run said of the same test films, ready for shared resamples of their patients."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xrayssl.comparison.selection import Entry
from xrayssl.errors import UserError, noting, refuse
from xrayssl.metrics import Gathered
from xrayssl.results import by_study
from xrayssl.statistics.intervals import Prepared, prepare
from xrayssl.statistics.resampling import Floats, resampled
from xrayssl.study.runs import Run, read_run

RESAMPLES, SEED = 1000, 0
CLOSE = 1e-4  # of a recomputed figure: probabilities are kept in single precision


@dataclass(frozen=True)
class Tested:
    """A run and its test films.

    Args:
        entry: Which run.
        figures: metrics.json.
        films: Their paths without what all of them share, sorted; so that a corpus may have moved.
        patient: Of what is scored.
        units: What is scored, films or studies.
        ready: Sorted for weights of patients.
    """

    entry: Entry
    figures: dict[str, Any]
    films: list[str]
    patient: np.ndarray
    units: Gathered
    ready: Prepared

    @property
    def selected_on(self) -> str:
        """Split that chose the checkpoint."""
        return str(self.figures.get("selected_on") or "val")


@dataclass(frozen=True)
class Measured:
    """The figures of a run.

    Args:
        entry: Which run.
        selected_on: Split that chose the checkpoint.
        value: By metric; NaN where undefined.
        cloud: By metric, in each resample; the same patients for every run.
        support: By metric, independent patients behind it, of each class.
    """

    entry: Entry
    selected_on: str
    value: dict[str, float]
    cloud: dict[str, Floats]
    support: dict[str, list[int]]


def read(entries: Sequence[Entry]) -> list[Tested]:
    """Reads the tests of runs.

    Args:
        entries: Tested ones.

    Raises:
        UserError: If a test cannot be read, or they are not of the same films, labels, classes and unit.
    """
    problems: list[str] = []
    found: list[Tested] = []
    for entry in entries:
        with noting(problems):
            found.append(_read(entry))
    refuse(problems)
    for one in found[1:]:
        if difference := _different(found[0], one):
            raise UserError(f"{found[0].entry.run} and {one.entry.run} cannot be compared: their {difference}.")
    return found


def measure(tested: Tested, resamples: int = RESAMPLES) -> Measured:
    """Every metric that its predictions give, on the films and in each resample."""
    ready = tested.ready
    value = {name: float(one[0]) for name, one in ready.measure(np.ones((ready.patients, 1))).items()}
    known = {name: entry["value"] for name, entry in tested.figures["metrics"].items()}
    if wrong := [name for name in value if not _agree(value[name], known.get(name, value[name]))]:
        raise UserError(f"{tested.entry.run}: {wrong[0]} in metrics.json does not follow from predictions.parquet; "
                        "test the run again.")  # fmt: skip
    cloud = resampled(ready.measure, ready.patients, resamples if ready.patients > 1 else 0, SEED)
    return Measured(tested.entry, tested.selected_on, value, cloud, ready.support)


def _agree(value: float, known: float | None) -> bool:
    return (np.isnan(value) and known is None) or (known is not None and abs(value - known) <= CLOSE)


def _read(entry: Entry) -> Tested:
    run = read_run(entry.run)
    if run.predictions is None or run.figures is None:
        raise UserError(f"{entry.run} has no predictions of its test; test the run again.")
    table, classes, task = run.predictions.table, run.predictions.classes, run.predictions.task
    films = _films(table)
    order = np.argsort(films, kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    units = _units(run, table)
    patient = table["patient"].astype(str).to_numpy()[units.index]
    operating = {} if entry.folds else run.figures.get("operating") or {}
    ready = prepare(units.probability, units.label, patient, task, classes, threshold=operating.get("threshold"),
                    temperature=operating.get("temperature"))  # fmt: skip
    return Tested(entry, run.figures, list(films[order]), patient, units, ready)


def _films(table: pd.DataFrame) -> np.ndarray:
    """Paths below the folder that holds all of these films."""
    paths = [str(path) for path in table["film"]]
    shared = os.path.commonpath(paths) if len(paths) > 1 else os.path.dirname("".join(paths))
    return np.array([os.path.relpath(path, shared) for path in paths])


def _units(run: Run, table: pd.DataFrame) -> Gathered:
    """What is scored, by rows of the table."""
    assert run.predictions is not None
    assert run.figures is not None
    names = run.predictions.classes
    kinds = [table[[f"{kind}/{name}" for name in names]].to_numpy(np.float32) for kind in ("probability", "label")]
    films = Gathered(np.arange(len(table)), *kinds)
    if run.figures.get("unit", "film") == "film":
        return films
    return by_study(films, table.assign(corpus=""), run.predictions.task)


def _different(first: Tested, other: Tested) -> str:
    """In what two tests differ, or nothing."""
    one, two = first.figures, other.figures
    for key, words in (("task", "tasks differ"), ("classes", "classes differ"), ("unit", "films and studies are mixed"),
                       ("split", "splits differ")):  # fmt: skip
        if one.get(key) != two.get(key):
            return f"{words} ({_brief(one.get(key))} and {_brief(two.get(key))})"
    if first.films != other.films or not np.array_equal(first.patient, other.patient):
        return f"test films are not the same ({len(first.films):,} and {len(other.films):,} films)"
    if not np.array_equal(first.units.label, other.units.label, equal_nan=True):
        return "test films have different labels"
    return ""


def _brief(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
