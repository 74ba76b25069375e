"""What the runs below a folder are, and how good: a row each, read from their JSON files alone."""

from __future__ import annotations

import csv
import fnmatch
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xrayssl.errors import UserError
from xrayssl.recipes import nearest
from xrayssl.study.record import mapping, read_figures, read_json

RECORD, FIGURES, CURVES = "run.json", "metrics.json", "metrics.csv"
TRACES = ("checkpoints", "config.yaml", CURVES)
"""What shows that a folder without a run.json was a run's."""
SKIPPED = ("wandb", "checkpoints", "figures")
HEADLINES = ("auroc_macro", "val/auroc", "val/loss", "train/loss")
"""The figure that a list shows, the first that a run has."""
LOWER = ("loss", "brier", "ece")
"""Parts of names of metrics of which less is better."""
FIELDS = ("started", "run", "config", "verb", "method", "backbone", "corpora", "seed", "parent", "outcome", "group",
          "seconds", "split")  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One run.

    Args:
        run: Its folder, below the one that was asked for.
        record: Its run.json.
        split: That its figures are of: "test" if it was tested, else "val".
        metrics: Figures by name, without those that do not exist.
        parent: Folder of the run whose weights it started from, or the beginning of their checksum; None for none.
    """

    run: str
    record: dict[str, Any]
    split: str = "val"
    metrics: dict[str, float] = field(default_factory=dict)
    parent: str | None = None

    @property
    def corpora(self) -> list[str]:
        """Names of its corpora."""
        return list(mapping(mapping(self.record, "data"), "corpora"))

    @property
    def fields(self) -> dict[str, Any]:
        """What can be filtered and sorted by, besides metrics."""
        found = {name: self.record.get(name) for name in FIELDS}
        own = {"run": self.run, "corpora": self.corpora, "parent": self.parent, "split": self.split}
        return found | own

    @property
    def headline(self) -> tuple[str, float] | None:
        """Name and value of the figure that a list shows."""
        return next(((name, self.metrics[name]) for name in HEADLINES if name in self.metrics), None)


def read(folder: Path) -> tuple[list[Row], list[str]]:
    """Reads every run below a folder.

    Returns:
        The runs, newest first, and a sentence about each folder that is broken.
    """
    rows: list[Row] = []
    problems: list[str] = []
    for run in runs(folder):
        try:
            rows.append(_row(run, folder))
        except UserError as error:
            problems.extend(error.messages)
    made = {str(row.record["weights"]): row.run for row in rows if row.record.get("weights")}
    rows = [_with_parent(row, made) for row in rows]
    return sorted(rows, key=lambda row: str(row.record.get("started") or ""), reverse=True), problems


def runs(folder: Path) -> Iterator[Path]:
    """Folders of runs, and those that look like one; what is inside a run, such as its test, is a part of it."""
    for place, below, files in os.walk(folder):
        if RECORD in files or any(name in below or name in files for name in TRACES):
            below.clear()
            yield Path(place)
        below[:] = sorted(name for name in below if name not in SKIPPED and not name.startswith("."))


def _row(run: Path, folder: Path) -> Row:
    if not (run / RECORD).is_file():
        raise UserError(
            f"{run} has no {RECORD}, so it is not known what it was; the run may have been interrupted early."
        )
    record = read_json(run / RECORD)
    tested = read_figures(run / "test" / FIGURES)
    figures = tested or read_figures(run / FIGURES)
    split = "test" if tested else str((figures or {}).get("split") or "val")
    known = {name: entry["value"] for name, entry in (figures or {}).get("metrics", {}).items()}
    metrics = {name: float(value) for name, value in known.items() if value is not None}
    name = os.path.relpath(run, folder)
    return Row(name if name != "." else run.name, record, split, metrics if figures else curves(run / CURVES))


def curves(path: Path) -> dict[str, float]:
    """The best of each validation figure that a training logged which left no metrics.json; empty for none."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            table = list(csv.DictReader(lines))
        names = [name for name in (table[0] if table else {}) if name and name.startswith("val/")]
        known = {name: [float(row[name]) for row in table if row.get(name)] for name in names}
    except (OSError, ValueError, csv.Error):  # a training that is under way writes it just now
        return {}
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in known.items()}
    return {name: (min if lower(name) else max)(values) for name, values in finite.items() if values}


def lower(metric: str) -> bool:
    """Whether less of a metric is better."""
    return any(part in LOWER for part in metric.replace("/", "_").split("_"))


def _with_parent(row: Row, made: dict[str, str]) -> Row:
    parents = row.record.get("parents") or []
    if not parents:
        return row
    checksum = str(parents[-1]["sha256"] if isinstance(parents[-1], dict) else parents[-1])
    return Row(row.run, row.record, row.split, row.metrics, made.get(checksum, checksum[:12]))


def filtered(rows: Iterable[Row], filters: Sequence[str]) -> list[Row]:
    """Runs that meet every filter.

    Args:
        rows: All of them.
        filters: KEY=VALUE with `*` for anything: a field, or a path into run.json such as data.films; of several
            corpora one has to meet it.

    Raises:
        UserError: If a filter is none, or no run has its key.
    """
    found, problems = list(rows), []
    for word in filters:
        key, equals, value = word.partition("=")
        if not key or not equals:
            problems.append(f"--filter {word}: write KEY=VALUE, such as config=finetune_shoulder.")
        elif found and key not in FIELDS and all(_at(row.record, key) is None for row in found):
            problems.append(f"--filter {word}: no run has {key!r}.{nearest(key, list(FIELDS))}")
        else:
            found = [row for row in found if _meets(row, key, value)]
    if problems:
        raise UserError(*problems)
    return found


def _meets(row: Row, key: str, wanted: str) -> bool:
    value = row.fields[key] if key in FIELDS else _at(row.record, key)
    values = value if isinstance(value, list) else [value]
    return any(fnmatch.fnmatchcase("" if one is None else str(one), wanted) for one in values)


def _at(record: Any, path: str) -> Any:
    for part in path.split("."):
        record = record.get(part) if isinstance(record, dict) else None
    return record


def ordered(rows: Sequence[Row], key: str) -> list[Row]:
    """Runs sorted by a metric, the best first, or by a field; those without it come last.

    Raises:
        UserError: If no run has it.
    """
    if key in FIELDS:
        known = [row for row in rows if row.fields[key] is not None]
        late = key in ("started", "seconds")  # the newest and the longest first
        found = sorted(known, key=lambda row: _comparable(row.fields[key]), reverse=late)
    else:
        known = [row for row in rows if key in row.metrics]
        found = sorted(known, key=lambda row: row.metrics[key], reverse=not lower(key))
    if rows and not found:
        names = [*FIELDS, *dict.fromkeys(name for row in rows for name in row.metrics)]
        raise UserError(f"--sort {key}: no run has it.{nearest(key, names)}")
    return [*found, *(row for row in rows if not any(row is one for one in known))]


def _comparable(value: Any) -> tuple[int, float, str]:
    """Numbers before words, so that any two can be compared."""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))
