"""What an evaluation leaves in its run: predictions.parquet and metrics.json, both versioned.

predictions.parquet: index, film, patient, study, split, and label/<class> and probability/<class> per class; its
schema says the version, the task and the classes under the key `xrayssl`. metrics.json: see `intervals.evaluate`; and
`unit`, what was scored, "film" or "study". With "study" it has `studies`, how many, and `counts` and `unlabelled` count
studies; predictions.parquet still has a row per film.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from xrayssl.errors import UserError
from xrayssl.files import appearing, write_json
from xrayssl.metrics import Gathered, evaluate

VERSION = 1
PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"
Unit = Literal["film", "study"]


def write(
    folder: Path, table: pd.DataFrame, films: Gathered, task: str, classes: list[str], split: str, unit: Unit = "film"
) -> dict[str, Any]:
    """Writes the predictions of a split, and their figures with intervals.

    Args:
        folder: Of the run.
        table: The manifest's rows, found by `films.index`; path, patient, study and split are read.
        films: Every film once; probability (N, K) and label (N, K).
        task: "multilabel" or "multiclass".
        classes: Names of the K columns.
        split: That was evaluated.
        unit: What is scored: each film, or each study.

    Returns:
        The content of metrics.json.

    Raises:
        UserError: If a probability is not a number, or films of one study are of different classes.
    """
    write_predictions(folder, table, films, task, classes)
    scored = films if unit == "film" else by_study(films, table, task)
    patient = table["patient"].to_numpy()[scored.index]
    figures = evaluate(scored.probability, scored.label, patient, task, classes, split=split) | {"unit": unit}
    if unit == "study":
        figures |= {"studies": figures["films"], "films": len(films.index)}
    write_json(folder / METRICS, figures)
    return figures


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
    study = rows.groupby(["corpus", "patient", "study"], sort=False).ngroup().to_numpy()
    _, first = np.unique(study, return_index=True)
    probability = pd.DataFrame(films.probability.astype(np.float64)).groupby(study).mean().to_numpy()
    label = pd.DataFrame(films.label).groupby(study).max().to_numpy()  # skips NaN, unless there is nothing else
    torn = np.flatnonzero((label == 1).sum(axis=1) > 1)
    if task == "multiclass" and len(torn):
        name = rows["study"].iloc[first[torn[0]]]
        raise UserError(f"The films of the study {name!r} are of different classes: it cannot be scored as one.")
    return Gathered(films.index[first], probability.astype(np.float32), label.astype(np.float32))


def summary(figures: dict[str, Any]) -> str:
    """The figures of metrics.json for a terminal: a line each, with its interval."""
    level = figures["interval"]["level"]
    studies = f" in {figures['studies']} studies" if "studies" in figures else ""
    size = f"{figures['films']} films{studies} of {figures['patients']} patients"
    head = f"{figures['split']}: {size}, {level:.0%} intervals over patients"
    lines = [f"  {name:<28}{_spell(**entry)}" for name, entry in figures["metrics"].items()]
    undefined = ", ".join(figures["undefined"])
    return "\n".join([head, *lines, *([f"  undefined, one outcome is missing: {undefined}"] if undefined else [])])


def _spell(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f}" + (f"  ({low:.3f} to {high:.3f})" if low is not None else "")


def write_predictions(
    folder: Path, table: pd.DataFrame, films: Gathered, task: str, classes: list[str]
) -> pd.DataFrame:
    """Writes predictions.parquet, and returns its content; see `write`."""
    rows = table.iloc[films.index]
    predictions = pd.DataFrame({"index": films.index, "film": rows["path"].map(os.path.abspath).to_numpy()})
    for column in ("patient", "study", "split"):
        predictions[column] = rows[column].to_numpy()
    for kind, values in (("label", films.label), ("probability", films.probability)):
        for name, column in zip(classes, values.T, strict=True):
            predictions[f"{kind}/{name}"] = column
    _write_parquet(predictions, folder / PREDICTIONS, {"version": VERSION, "task": task, "classes": classes})
    return predictions


def _write_parquet(table: pd.DataFrame, path: Path, header: dict[str, Any]) -> None:
    arrow = pyarrow.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), b"xrayssl": json.dumps(header).encode()})
    with appearing(path) as partial:
        pyarrow.parquet.write_table(arrow, partial)
