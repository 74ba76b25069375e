"""Label efficiency: the table of a classifier's figures by how much it learned from, and the curves as SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from xrayssl.files import appearing, write_json
from xrayssl.study.figures import LABEL_GAP, heights, number
from xrayssl.study.markup import Markup, element

TABLE, FIGURES, PICTURE = "efficiency.csv", "efficiency.json", "efficiency.svg"
LEVEL = 0.95
NOTE = (
    "mean over seeds, each of which draws the films and starts the training; low and high are Student's t interval of "
    "that mean, which is over draws and trainings, not over patients: those of each run are in its metrics.json."
)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 56, 150, 48, 44
COLORS = ("#1b6ca8", "#c4501b", "#3c7d3c", "#7a4fa0", "#8a6d00", "#a03060")
STYLE = "text{font:13px system-ui,sans-serif;fill:#222}.rule{stroke:#ddd}.axis{fill:#555}.mark{fill:#b3541e}"
XMLNS = "http://www.w3.org/2000/svg"
SELECTED = "Checkpoints were selected on the test films: these figures are too good"
Amount = Literal["fraction", "shots"]


@dataclass(frozen=True)
class Result:
    """One finished training.

    Args:
        start: Name of what it started from.
        amount: Fraction, or shots.
        seed: Of draw and training.
        run: Its folder, with the folder `test`.
    """

    start: str
    amount: float
    seed: int
    run: Path


def write(folder: Path, results: Sequence[Result], kind: Amount, metric: str) -> pd.DataFrame:
    """Writes efficiency.csv, efficiency.json and efficiency.svg.

    Args:
        folder: Where to.
        results: At least one.
        kind: What the amounts are.
        metric: That is drawn.

    Returns:
        The table: a row per start, amount and metric.
    """
    runs = [_of_run(result) for result in results]
    table = summarised(runs).rename(columns={"amount": kind})
    with appearing(folder / TABLE) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    write_json(folder / FIGURES, {"version": 1, "amount": kind, "level": LEVEL, "note": NOTE, "table": rows,
                                  "runs": runs})  # fmt: skip
    with appearing(folder / PICTURE) as partial:
        partial.write_text(drawn(table[table["metric"] == metric], kind, metric), encoding="utf-8")
    return table


def _of_run(result: Result) -> dict[str, Any]:
    figures = json.loads((result.run / "test" / "metrics.json").read_text(encoding="utf-8"))
    data = json.loads((result.run / "run.json").read_text(encoding="utf-8")).get("data", {})
    return {"start": result.start, "amount": result.amount, "seed": result.seed, "run": result.run.name,
            "training": data.get("splits", {}).get("train"), "selected_on": figures.get("selected_on", "val"),
            "metrics": {name: entry["value"] for name, entry in figures["metrics"].items()}}  # fmt: skip


def summarised(runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Mean over seeds of every figure, with its interval.

    Args:
        runs: With start, amount, seed, training (films), metrics (name to value or None), and selected_on (split that
            chose the checkpoint; "val" where it is not said).

    Returns:
        start, amount, metric, films (learned from, mean over seeds), seeds (that have the figure), mean, low, high, sd,
        selected_on ("test" if any of these runs was); low, high and sd are NaN for a single seed.
    """
    rows = [{"start": run["start"], "amount": run["amount"], "films": run["training"], "metric": name, "value": value,
             "selected_on": run.get("selected_on", "val")}
            for run in runs for name, value in run["metrics"].items()]  # fmt: skip
    long = pd.DataFrame(rows)
    long["value"], long["films"] = (pd.to_numeric(long[name]).astype(float) for name in ("value", "films"))
    grouped = long.groupby(["start", "amount", "metric"], sort=False)
    found = grouped.agg(
        films=("films", "mean"),
        seeds=("value", "count"),
        mean=("value", "mean"),
        sd=("value", "std"),
        selected_on=("selected_on", "min"),
    )  # "test" before "val": one such run marks the mean
    several = found["seeds"].clip(lower=2)
    half = stats.t.ppf((1 + LEVEL) / 2, several - 1) * found["sd"] / np.sqrt(several)
    found = found.reset_index()
    least = found["metric"].map(lambda name: -1.0 if name.startswith("kappa") else 0.0).to_numpy()
    greatest = found["metric"].map(lambda name: 2.0 if name.startswith("brier") else 1.0).to_numpy()
    low, high = found["mean"] - half.to_numpy(), found["mean"] + half.to_numpy()  # no further than a figure can be
    found = found.assign(low=np.maximum(low, least), high=np.minimum(high, greatest))
    columns = ["start", "amount", "metric", "films", "seeds", "mean", "low", "high", "sd", "selected_on"]
    return found[columns].sort_values(["metric", "start", "amount"], kind="stable", ignore_index=True)


def told(folder: Path, metric: str) -> str:
    """The curves for a terminal."""
    # as text and with "" alone for what is unknown, or a start called 1.50 or null would have another name
    table = pd.read_csv(folder / TABLE, dtype={"start": str}, keep_default_na=False, na_values=[""])
    shown = table[table["metric"] == metric]
    kind = table.columns[1]
    lines = [f"{row['start']:<16}{row[kind]:>8g}  {_interval(row)}  {_seeds(row['seeds'])}{_selected(row)}" for _, row
             in shown.iterrows()]  # fmt: skip
    lines += [f"{SELECTED}."] if _marked(shown) else []
    names = sorted({name for name in table["metric"] if "/" not in name})
    head = f"{metric} by {kind}, mean over seeds with its {LEVEL:.0%} interval" if lines else (
        f"no training has the figure {metric!r}; they have {', '.join(names)}")  # fmt: skip
    return "\n".join([head, *lines, f"\nThe table and the curves are in {folder}.\n"])


def _seeds(count: float) -> str:
    return "1 seed, no interval" if count == 1 else f"{count:.0f} seeds"


def _selected(row: pd.Series) -> str:
    return "  selected on test" if row["selected_on"] == "test" else ""


def _marked(rows: pd.DataFrame) -> bool:
    return "selected_on" in rows and bool((rows["selected_on"] == "test").any())


def _interval(row: pd.Series) -> str:
    if math.isnan(row["mean"]):
        return "undefined"
    return f"{row['mean']:.3f}" + ("" if math.isnan(row["low"]) else f"  ({row['low']:.3f} to {row['high']:.3f})")


def drawn(rows: pd.DataFrame, kind: Amount, metric: str) -> Markup:
    """Curves over a logarithmic axis of amounts, a line per start with its interval as a band.

    Args:
        rows: Of one metric; start, the amount, mean, low and high; and selected_on, if "test" is to be said.
        kind: Name of the column of amounts.
        metric: For the title.
    """
    rows = rows[rows["mean"].notna()]
    amounts = sorted(rows[kind].unique())
    if not amounts:
        return element("svg", element("text", f"no training has {metric}", x=20, y=40), xmlns=XMLNS)
    bounds = rows[["mean", "low", "high"]].to_numpy(float).clip(0, 1)
    levels = heights(metric, float(np.nanmin(bounds)), float(np.nanmax(bounds)))
    axes = _Axes(math.log(amounts[0]), math.log(amounts[-1]), levels[0], levels[-1])
    starts = list(dict.fromkeys(rows["start"]))
    lines = {start: rows[rows["start"] == start].sort_values(kind) for start in starts}
    places = _apart({start: axes.up(line["mean"].iloc[-1]) for start, line in lines.items()})
    curves = [_curve(line, kind, axes, start, color, places[start])
              for (start, line), color in zip(lines.items(), COLORS * len(lines), strict=False)]  # fmt: skip
    title = f"{metric} by {'films per class' if kind == 'shots' else 'share of the training patients'}"
    mark = element("text", f"{SELECTED}.", x=LEFT, y=36, class_="mark") if _marked(rows) else None
    return element("svg", element("style", Markup(STYLE)), element("title", f"{title}. {SELECTED}." if mark else title),
                   element("rect", width=WIDTH, height=HEIGHT, fill="#fff"), element("text", title, x=LEFT, y=20), mark,
                   _grid(axes, levels, amounts, kind), curves, xmlns=XMLNS, role="img",
                   viewBox=f"0 0 {WIDTH} {HEIGHT}", width=WIDTH, height=HEIGHT)  # fmt: skip


@dataclass(frozen=True)
class _Axes:
    """Where numbers lie in the picture."""

    first: float
    last: float
    low: float
    high: float

    def across(self, amount: float) -> float:
        """Horizontal position of an amount."""
        span = (self.last - self.first) or 1.0
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(amount) - self.first) / span

    def up(self, value: float) -> float:
        """Vertical position of a figure."""
        inside = min(max(value, self.low), self.high)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (inside - self.low) / (self.high - self.low)


def _grid(axes: _Axes, levels: Sequence[float], amounts: Sequence[float], kind: Amount) -> list[Markup]:
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    rules = [element("line", x1=LEFT, x2=right, y1=axes.up(y), y2=axes.up(y), class_="rule") for y in levels]
    sides = [element("text", number(y, levels), x=LEFT - 8, y=axes.up(y) + 4, text_anchor="end") for y in levels]
    below = [element("text", f"{amount:g}" if kind == "shots" else f"{amount * 100:g} %", x=axes.across(amount),
                     y=floor + 20, text_anchor="middle") for amount in amounts]  # fmt: skip
    return [*rules, *sides, *below]


def _curve(rows: pd.DataFrame, kind: Amount, axes: _Axes, start: str, color: str, place: float) -> Markup:
    x = [axes.across(amount) for amount in rows[kind]]
    y = [axes.up(value) for value in rows["mean"]]
    banded = rows[rows["low"].notna()]
    upper = [(axes.across(a), axes.up(v)) for a, v in zip(banded[kind], banded["high"], strict=True)]
    lower = [(axes.across(a), axes.up(v)) for a, v in zip(banded[kind], banded["low"], strict=True)]
    band = [element("polygon", points=_points([*upper, *lower[::-1]]), fill=color, fill_opacity=0.15)] if upper else []
    line = element("polyline", points=_points(zip(x, y, strict=True)), fill="none", stroke=color, stroke_width=2)
    dots = [element("circle", cx=a, cy=b, r=3.5, fill=color) for a, b in zip(x, y, strict=True)]
    name = element("text", f"{start} {rows['mean'].iloc[-1]:.3f}", x=x[-1] + 10, y=place + 4, style=f"fill:{color}")
    return element("g", band, line, dots, name)


def _points(places: Any) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _apart(places: dict[str, float]) -> dict[str, float]:
    """Labels moved down just so far that none covers another."""
    put: dict[str, float] = {}
    for name in sorted(places, key=lambda name: places[name]):
        put[name] = max(places[name], max(put.values(), default=-math.inf) + LABEL_GAP)
    return put
