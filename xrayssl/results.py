"""What an evaluation leaves in its run: predictions.parquet and metrics.json, both versioned.

predictions.parquet: index, film, patient, study, split, and label/<class> and probability/<class> per class; its
schema says the version, the task and the classes under the key `xrayssl`. metrics.json: see `intervals.evaluate`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from xrayssl.files import appearing, write_json
from xrayssl.metrics import Gathered, evaluate

VERSION = 1
PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"


def write(
    folder: Path, table: pd.DataFrame, films: Gathered, task: str, classes: list[str], split: str
) -> dict[str, Any]:
    """Writes the predictions of a split, and their figures with intervals.

    Args:
        folder: Of the run.
        table: The manifest's rows, found by `films.index`; path, patient, study and split are read.
        films: Every film once; probability (N, K) and label (N, K).
        task: "multilabel" or "multiclass".
        classes: Names of the K columns.
        split: That was evaluated.

    Returns:
        The content of metrics.json.
    """
    predictions = write_predictions(folder, table, films, task, classes)
    figures = evaluate(films.probability, films.label, np.asarray(predictions["patient"]), task, classes, split=split)
    write_json(folder / METRICS, figures)
    return figures


def summary(figures: dict[str, Any]) -> str:
    """The figures of metrics.json for a terminal: a line each, with its interval."""
    level = figures["interval"]["level"]
    size = f"{figures['films']} films of {figures['patients']} patients"
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
