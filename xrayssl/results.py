"""What an evaluation leaves in its run: predictions.parquet and metrics.json, both versioned; see docs/results.md."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from xrayssl.errors import UserError
from xrayssl.files import appearing, write_json
from xrayssl.metrics import Gathered, evaluate
from xrayssl.statistics import calibration
from xrayssl.statistics.delong import delong
from xrayssl.statistics.intervals import VERSION, confidence, labelled
from xrayssl.statistics.operating import Operating
from xrayssl.statistics.subgroups import subgroups

__all__ = ["METRICS", "PREDICTIONS", "VERSION", "by_study", "summary", "write", "write_predictions"]
PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"
PREDICTIONS_VERSION = 1  # of predictions.parquet; `VERSION` is that of metrics.json
SECONDARY = "DeLong 1988, which takes films as independent: too narrow where patients have several"
STUDY = ["corpus", "patient", "study"]  # what names a study
GROUPED = ("sex", "age", "view")
Unit = Literal["film", "study"]
Chosen = Literal["val", "test"]


def write(
    folder: Path,
    table: pd.DataFrame,
    films: Gathered,
    task: str,
    classes: list[str],
    split: str,
    unit: Unit = "film",
    *,
    tuned: Operating | None = None,
    selected_on: Chosen = "val",
) -> dict[str, Any]:
    """Writes the predictions of a split, and their figures with intervals.

    Args:
        folder: Of the run.
        table: The manifest's rows, found by `films.index`; path, patient, study, split, view and, where they are,
            sex and age are read.
        films: Every film once; probability (N, K) and label (N, K).
        task: "multilabel" or "multiclass".
        classes: Names of the K columns.
        split: That was evaluated.
        unit: What is scored: each film, or each study.
        tuned: Thresholds and temperature, fitted on other films (or studies, where these are scored). None: the
            figures that need them do not exist.
        selected_on: Split on which the checkpoint was chosen; "test" makes every figure too good, and is said.

    Returns:
        The content of metrics.json.

    Raises:
        UserError: If a probability is not a number, or films of one study are of different classes.
    """
    write_predictions(folder, table, films, task, classes, selected_on)
    units = films if unit == "film" else by_study(films, table, task)
    figures = _figures(units, _rows(films, table, unit), task, classes, split, tuned)
    figures |= {"unit": unit, "selected_on": selected_on}
    if unit == "study":
        figures |= {"studies": figures["films"], "films": len(films.index)}
    write_json(folder / METRICS, figures)
    return figures


def _rows(films: Gathered, table: pd.DataFrame, unit: Unit) -> pd.DataFrame:
    """The table's rows of what is scored; for a study its first film's, without a view that its films do not share."""
    rows = table.iloc[films.index]
    if unit == "film":
        return rows
    study = rows.groupby(STUDY, sort=False)
    first = study.head(1)
    torn = {name: study[name].nunique(dropna=False).to_numpy() > 1 for name in GROUPED if name in rows}
    return first.assign(**{name: first[name].mask(apart) for name, apart in torn.items()})


def _figures(
    units: Gathered, rows: pd.DataFrame, task: str, classes: Sequence[str], split: str, tuned: Operating | None
) -> dict[str, Any]:
    """The content of metrics.json; `rows` are the table's for the films (or studies) that are scored."""
    patient = rows["patient"].to_numpy()
    fitted: dict[str, Any] = {"threshold": tuned.threshold, "temperature": tuned.temperature} if tuned else {}

    def measured(some: Any) -> dict[str, Any]:
        probability, label = units.probability[some], units.label[some]
        return evaluate(probability, label, patient[some], task, classes, split=split, **fitted)

    figures = measured(slice(None))
    figures["interval"]["secondary"] = SECONDARY
    pairs = zip(classes, units.probability.T, units.label.T, strict=True)
    known = np.flatnonzero(labelled(units.label.astype(np.float64), task))
    return figures | {
        "operating": asdict(tuned) if tuned else None,
        "calibration": _calibration(units.probability[known], units.label[known], task, classes, tuned),
        "delong": {name: delong(chance, truth) for name, chance, truth in pairs},
        "subgroups": subgroups(rows.iloc[known], lambda films: measured(known[films])),
    }


def _calibration(
    probability: Any, label: Any, task: Any, classes: Sequence[str], tuned: Operating | None
) -> dict[str, Any]:
    """Reliability bins before and after temperature scaling, by class or of the most probable one."""
    chance, truth = probability.astype(np.float64), label.astype(np.float64)
    kinds = {"before": chance}
    if tuned and tuned.temperature is not None:
        kinds["after"] = calibration.scaled(chance, tuned.temperature, task)
    found = {kind: _reliability(values, truth, task, classes) for kind, values in kinds.items()}
    return {"bins": calibration.BINS, "after": None} | found


def _reliability(chance_NK: Any, truth_NK: Any, task: str, classes: Sequence[str]) -> dict[str, Any]:
    if task == "multiclass":
        return {"confidence": calibration.reliability(*confidence(chance_NK, truth_NK))}
    pairs = zip(classes, chance_NK.T, truth_NK.T, strict=True)
    return {name: calibration.reliability(p[~np.isnan(y)], y[~np.isnan(y)]) for name, p, y in pairs}


def by_study(films: Gathered, table: pd.DataFrame, task: str) -> Gathered:
    """Joins the films of each study: the mean of their probabilities, and what is known of any of them.

    Args:
        films: Every film once; probability (N, K) and label (N, K).
        table: The manifest's rows, found by `films.index`; corpus, patient and study are read.
        task: "multilabel" (a finding of one film is one of the study) or "multiclass".

    Returns:
        Every study once, (S, K), under the index of its first film.

    Raises:
        UserError: If films of one study are of different classes.
    """
    rows = table.iloc[films.index]
    study = rows.groupby(STUDY, sort=False).ngroup().to_numpy()
    _, first = np.unique(study, return_index=True)
    probability = pd.DataFrame(films.probability.astype(np.float64)).groupby(study).mean().to_numpy()
    label = pd.DataFrame(films.label).groupby(study).max().to_numpy()  # skips NaN, unless there is nothing else
    torn = np.flatnonzero((label == 1).sum(axis=1) > 1)
    if task == "multiclass" and len(torn):
        name = rows["study"].iloc[first[torn[0]]]
        raise UserError(f"The films of the study {name!r} are of different classes: it cannot be scored as one.")
    return Gathered(films.index[first], probability.astype(np.float32), label.astype(np.float32))


def summary(figures: dict[str, Any]) -> str:
    """The headline figures of metrics.json for a terminal: a line each, with its interval."""
    level = figures["interval"]["level"]
    studies = f" in {figures['studies']} studies" if "studies" in figures else ""
    size = f"{figures['films']} films{studies} of {figures['patients']} patients"
    head = f"{figures['split']}: {size}, {level:.0%} intervals over patients"
    shown = {name: entry for name, entry in figures["metrics"].items() if "/" not in name}
    lines = [f"  {name:<28}{_spell(**entry)}" for name, entry in shown.items()]
    if figures.get("selected_on") == "test":
        lines.append("  The checkpoint was selected on the test films: every figure is too good.")
    if undefined := ", ".join(figures["undefined"]):
        lines.append(f"  undefined, one outcome is missing: {undefined}")
    if untuned := _untuned(figures):
        lines.append(f"  no threshold, the validation lacks an outcome: {untuned}")
    return "\n".join([head, *lines, f"  by class, calibration, subgroups: {METRICS}"])


def _untuned(figures: dict[str, Any]) -> str:
    threshold = (figures.get("operating") or {}).get("threshold", {})
    return ", ".join(name for name, least in threshold.items() if least is None)


def _spell(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f}" + (f"  ({low:.3f} to {high:.3f})" if low is not None else "")


def write_predictions(
    folder: Path, table: pd.DataFrame, films: Gathered, task: str, classes: list[str], selected_on: Chosen = "val"
) -> pd.DataFrame:
    """Writes predictions.parquet, and returns its content; see `write`."""
    rows = table.iloc[films.index]
    predictions = pd.DataFrame({"index": films.index, "film": rows["path"].map(os.path.abspath).to_numpy()})
    for column in ("patient", "study", "split"):
        predictions[column] = rows[column].to_numpy()
    for kind, values in (("label", films.label), ("probability", films.probability)):
        for name, column in zip(classes, values.T, strict=True):
            predictions[f"{kind}/{name}"] = column
    header = {"version": PREDICTIONS_VERSION, "task": task, "classes": classes, "selected_on": selected_on}
    _write_parquet(predictions, folder / PREDICTIONS, header)
    return predictions


def _write_parquet(table: pd.DataFrame, path: Path, header: dict[str, Any]) -> None:
    arrow = pyarrow.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), b"xrayssl": json.dumps(header).encode()})
    with appearing(path) as partial:
        pyarrow.parquet.write_table(arrow, partial)
