"""`xrayssl runs`: what was trained here, and how good it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xrayssl.dashboards.listing import Row, filtered, ordered, read
from xrayssl.data_request import Options
from xrayssl.errors import UserError
from xrayssl.request import split_equals

USAGE = "[FOLDER] [--filter KEY=VALUE ...] [--sort METRIC] [--json]"
TEXT = """Lists the runs below a folder, newest first: when, what, on what, from which parent, and their best figure, of
the test where there was one. Runs of chains, folds and curves are found, too.

  FOLDER                          (default: runs)
  --filter KEY=VALUE ...          config, method, backbone, corpora, seed, outcome, verb, parent, split, run, or a path
                                  into run.json such as data.films; `*` is anything: --filter method=MAE* seed=0
  --sort METRIC                   such as auroc_macro, auroc/Mass, val/loss, the best first; or started, seconds, config
  --json                          everything, for programs
"""
HEADS = ("started", "run", "method", "backbone", "corpora", "seed", "parent", "outcome", "figure")
BROKEN = 20  # folders that are named


def runs_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl runs`.

    Args:
        argv: The words after it.

    Raises:
        UserError: If there is no such folder, or a filter or a metric makes no sense.
    """
    own = _options().parse_args(split_equals(argv))
    if not own.folder.is_dir():
        raise UserError(f"{own.folder}: there is no such folder; name the one in which runs lie.")
    rows, problems = read(own.folder)
    chosen = filtered(rows, own.filter)
    chosen = ordered(chosen, own.sort) if own.sort else chosen
    sys.stdout.write(as_json(chosen) if own.json else told(chosen, own.sort))
    for sentence in problems[:BROKEN]:
        sys.stderr.write(f"xrayssl: {sentence}\n")
    if len(problems) > BROKEN:
        sys.stderr.write(f"xrayssl: {len(problems) - BROKEN} more folders cannot be read.\n")
    return 0


def _options() -> Options:
    options = Options("runs", USAGE, TEXT)
    options.add_argument("folder", nargs="?", type=Path, default=Path("runs"))
    options.add_argument("--filter", nargs="+", action="extend", default=[])
    options.add_argument("--sort")
    options.add_argument("--json", action="store_true")
    return options


def as_json(rows: Sequence[Row]) -> str:
    """A list of objects: fields, and all metrics."""
    return json.dumps([{**row.fields, "metrics": row.metrics} for row in rows], indent=1, default=str) + "\n"


def told(rows: Sequence[Row], metric: str | None = None) -> str:
    """A line for each run.

    Args:
        rows: In order.
        metric: To show in place of each run's headline, where the run has it.
    """
    if not rows:
        return "No run.\n"
    cells = [HEADS, *(_cells(row, metric) for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(HEADS))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*lines, f"{len(rows)} run{'' if len(rows) == 1 else 's'}"]) + "\n"


def _cells(row: Row, metric: str | None) -> tuple[str, ...]:
    found: dict[str, Any] = row.fields
    started = str(found["started"] or "")[:16].replace("T", " ")
    shown = (metric, row.metrics[metric]) if metric in row.metrics else row.headline
    figure = f"{_named(shown[0], row.split)} {shown[1]:.4g}" if shown else None
    plain = (found[name] for name in HEADS[1:-1] if name != "corpora")
    run, method, backbone, seed, parent, outcome = plain
    values = (started, run, method, backbone, ", ".join(row.corpora), seed, parent, outcome, figure)
    return tuple("-" if value in (None, "") else str(value) for value in values)


def _named(metric: str, split: str) -> str:
    """A metric with its split, which some names have in them."""
    return metric if metric.startswith(("val/", "test/", "train/")) else f"{split} {metric}"
