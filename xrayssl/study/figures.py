"""The figures of the report as SVG: training curves and the forest of intervals."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xrayssl.study.markup import Markup, element

Floats = NDArray[np.float64]
Line = tuple[Floats, Floats]

WIDTH, HEIGHT = 390, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 108, 10, 36  # on the right the longest label, "train 9.4e-6", in the widest of typefaces
FILMS = "probe/films"  # a number, no curve
POINTS = 400  # of one line
LEAST_SHARE, LEAST_CHANGE = 0.1, 0.05  # the least height of an axis: of shares such as AUROC, and relative to others
LABEL_GAP = 14  # the least distance between two labels at the lines' ends


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that span `low` to `high`, at steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def number(value: float, near: Sequence[float] = ()) -> str:
    """A tick's label, with as many decimals as its neighbours need."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    steps = np.diff(near) if len(near) > 1 else [1.0]
    return f"{value:,.{max(0, -math.floor(math.log10(abs(steps[0])) + 1e-9))}f}"


def short(value: float) -> str:
    """Three digits, or two and a power of ten: `0.847`, `9.4e-6`."""
    plain = f"{value:.3g}"
    return re.sub(r"e([-+])0*", r"e\1", f"{value:.1e}").replace("e+", "e") if "e" in plain else plain


@dataclass(frozen=True)
class Frame:
    """Where numbers lie on a panel."""

    x: list[float]
    y: list[float]

    def across(self, value: Any) -> Any:
        """Numbers to horizontal positions."""
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x[0]) / (self.x[-1] - self.x[0])

    def up(self, value: Any) -> Any:
        """Numbers to vertical positions."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.y[0]) / (self.y[-1] - self.y[0])


def curve_panels(table: pd.DataFrame, splits: Sequence[str] = ("train", "val")) -> dict[str, Markup]:
    """One panel for each thing measured during training, with a line for each split that measured it.

    Args:
        table: metrics.csv: columns epoch, step and `split/measure`; rows are sparse.
        splits: Those that are drawn.

    Returns:
        Panels by measure, the loss first.
    """
    lines: dict[str, dict[str, Line]] = {}
    for column in table.columns:
        split, _, measure = column.partition("/")
        if measure.endswith("_step") and column.removesuffix("_step") + "_epoch" in table:
            continue
        known = table[column].notna()
        drawn = split in splits and not column.endswith("/films")
        if drawn and measure and "/" not in measure and known.sum() > 0:
            x = _epochs(table)[known.to_numpy()]
            order = np.argsort(x, kind="stable")
            line = _thin(x[order]), _thin(table[column][known].to_numpy(np.float64)[order])
            lines.setdefault(measure.removesuffix("_epoch").removesuffix("_step"), {})[split] = line
    measures = sorted(lines, key=lambda name: (name != "loss", "val" not in lines[name]))
    unit = "step" if _short(table) else "epoch"
    return {name: _panel(name, lines[name], unit) for name in measures if _drawable(lines[name])}


def _thin(values: Floats) -> Floats:
    """Means of neighbours where there are more points than the panel can show."""
    if len(values) <= POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, POINTS)])


def _drawable(lines: Mapping[str, Line]) -> bool:
    return max(len(x) for x, _ in lines.values()) > 1


def _short(table: pd.DataFrame) -> bool:
    """Whether training lasted less than two epochs, so that steps tell more."""
    return "step" in table and not ("epoch" in table and table["epoch"].max() >= 1)


def heights(measure: str, low: float, high: float) -> list[float]:
    """Ticks of a vertical axis that does not make much of little: as high as a change that would matter."""
    share = "auroc" in measure or "accuracy" in measure
    missing = max(0.0, (LEAST_SHARE if share else LEAST_CHANGE * max(abs(low), abs(high))) - (high - low))
    low, high = low - missing / 2, high + missing / 2
    over = max(0.0, high - 1) if share else 0.0
    return ticks(low - over, high - over)


def before_training(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows that were measured before the first step: they belong to no epoch."""
    if "step" not in table or "epoch" not in table:
        return np.zeros(len(table), bool)
    return (table["epoch"].isna() & (table["step"] == 0)).to_numpy()


def _epochs(table: pd.DataFrame) -> Floats:
    """Where each row lies on the horizontal axis: epochs completed, or steps in a short run; 0 is before the first."""
    rows = np.arange(1, len(table) + 1, dtype=np.float64)
    if "step" not in table:
        return table["epoch"].to_numpy(np.float64) + 1 if "epoch" in table else rows
    steps = table["step"].ffill().bfill().to_numpy(np.float64) + 1
    steps[before_training(table)] = 0
    return steps if _short(table) else steps * (table["epoch"].max() + 1) / steps.max()


def _panel(measure: str, lines: Mapping[str, Line], unit: str) -> Markup:
    x, y = (np.concatenate(parts) for parts in zip(*lines.values(), strict=True))
    frame = Frame([float(x.min()), float(x.max())], heights(measure, float(y.min()), float(y.max())))
    ends = {split: (frame.across(x[-1]), frame.up(y[-1])) for split, (x, y) in lines.items()}
    words = f"{measure} by {unit}: " + ", ".join(f"{k} ends at {y[-1]:.3g}" for k, (_, y) in lines.items())
    return element(
        "svg",
        element("title", words),
        _grid(frame, unit),
        [_line(frame, split, *line) for split, line in lines.items()],
        [
            element("text", f"{split} {short(lines[split][1][-1])}", x=WIDTH - RIGHT + 8, y=place + 4, class_=split)
            for split, place in _spread({split: y for split, (_, y) in ends.items()}).items()
        ],
        class_="curves",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )


def _grid(frame: Frame, unit: str) -> list[Markup]:
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    across = [tick for tick in ticks(frame.x[0], frame.x[-1], 4) if frame.x[0] <= tick <= frame.x[-1]]
    rules = [element("line", x1=LEFT, x2=right, y1=frame.up(y), y2=frame.up(y), class_="rule") for y in frame.y]
    heights = [element("text", number(y, frame.y), x=LEFT - 8, y=frame.up(y) + 4, text_anchor="end") for y in frame.y]
    marks = [element("text", number(x, across), x=frame.across(x), y=floor + 17, text_anchor="middle") for x in across]
    below = element("text", unit, x=(LEFT + right) / 2, y=HEIGHT - 3, text_anchor="middle", class_="axis")
    return [*rules, *heights, *marks, below]


def _line(frame: Frame, split: str, x: Floats, y: Floats) -> Markup:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(frame.across(x), frame.up(y), strict=True))
    ends = [(x[-1], y[-1], split)] + ([(x[0], y[0], f"{split} before")] if x[0] == 0 else [])
    dots = [element("circle", cx=frame.across(a), cy=frame.up(b), r=3, class_=kind) for a, b, kind in ends]
    return element("g", element("polyline", points=points, class_=split), dots)


def _spread(places: Mapping[str, float]) -> dict[str, float]:
    """Move labels apart just so far that none covers another."""
    order = sorted(places, key=lambda name: places[name])
    put: dict[str, float] = {}
    for name in order:
        lowest = max(put.values(), default=-math.inf) + LABEL_GAP
        put[name] = max(places[name], lowest)
    over = max(0.0, max(put.values()) - (HEIGHT - BOTTOM)) if put else 0.0
    return {name: place - over for name, place in put.items()}


@dataclass(frozen=True)
class Scale:
    """The shared horizontal axis of a forest."""

    marks: list[float]

    def percent(self, value: float) -> str:
        """A position that holds at any width."""
        return f"{100 * (value - self.marks[0]) / (self.marks[-1] - self.marks[0]):.2f}%"


def forest_scale(entries: Sequence[Mapping[str, float | None]]) -> Scale:
    """An axis from chance (0.5) or below, where an interval reaches there, to 1."""
    known = [entry[key] for entry in entries for key in ("value", "low") if entry.get(key) is not None]
    lowest = min([0.5, *(value for value in known if value is not None)])
    return Scale([round(tick / 10, 1) for tick in range(math.floor(lowest * 10 + 1e-9), 11)])


def forest_row(entry: Mapping[str, float | None], scale: Scale, kind: str | None = None) -> Markup:
    """One interval: a line from low to high and a dot at the value.

    Args:
        entry: With value, low and high.
        scale: The forest's.
        kind: "mean" draws a diamond, "few" a hollow dot and a broken line.
    """
    chance = scale.percent(0.5)
    marks = [element("line", x1=chance, x2=chance, y1=0, y2="100%", class_="chance")]
    value, low, high = (entry.get(key) for key in ("value", "low", "high"))
    if low is not None and high is not None:
        marks.append(element("line", x1=scale.percent(low), x2=scale.percent(high), y1=12, y2=12, class_="range"))
    if value is not None:
        marks.append(_diamond(scale.percent(value)) if kind == "mean" else _dot(scale.percent(value)))
    return element("svg", marks, class_=f"forest {kind or ''}".strip(), width="100%", height=24, role="presentation")


def forest_axis(scale: Scale) -> Markup:
    """The axis below the rows."""
    step = math.ceil(len(scale.marks) / 6)
    shown = scale.marks[::-1][::step]
    labels = [element("text", f"{tick:.1f}", x=scale.percent(tick), y=16, text_anchor="middle") for tick in shown]
    ends = element("line", x1="0%", x2="100%", y1=0.5, y2=0.5, class_="rule")
    return element("svg", ends, labels, class_="forest axis", width="100%", height=20, role="presentation")


def _dot(x: str) -> Markup:
    return element("circle", cx=x, cy=12, r=4)


def _diamond(x: str) -> Markup:
    # A nested svg takes the percentage, so that the diamond keeps its shape at any width.
    return element("svg", element("path", d="M0 5L6.5 12L0 19L-6.5 12Z"), x=x, y=0, overflow="visible")
