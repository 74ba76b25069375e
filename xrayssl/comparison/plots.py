"""The figures of a comparison as SVG: seeds as dots, differences as a forest, curves of classes and over labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xrayssl.comparison.curves import mean_curve
from xrayssl.comparison.naming import figure
from xrayssl.comparison.tables import Line
from xrayssl.study.figures import Scale, heights, number, ticks
from xrayssl.study.markup import Markup, element

COLORS = ("#2f7fbf", "#d1622b", "#3f9142", "#8d63b8", "#b08900", "#c2477f", "#2a9d9d", "#7a6a58", "#5b6ee1", "#a04a3c")
NEUTRAL = "#7d8790"  # of the reference
BANDS = 3  # lines with their intervals as bands; more of them would cover each other
DASHES = (None, "6 3", "2 2")
Style = Mapping[str, tuple[str, str | None]]
"""Recipe to its colour and dashes."""


def styles(content: Mapping[str, Any]) -> Style:
    """A colour for each recipe, the same on the whole page; beyond ten recipes, with dashes."""
    names = dict.fromkeys(row["recipe"] for row in content["recipes"])
    others = [name for name in names if name != content["reference"]]
    found: dict[str, tuple[str, str | None]] = {
        name: (COLORS[place % len(COLORS)], DASHES[place // len(COLORS) % len(DASHES)])
        for place, name in enumerate(others)
    }
    return found | ({content["reference"]: (NEUTRAL, None)} if content["reference"] else {})


def span(values: Sequence[float | None], share: bool = True, zero: bool = False) -> Scale:
    """An axis of round numbers that holds all of these.

    Args:
        values: None is left out.
        share: Whether they are shares, so that the axis is never shorter than a change that would matter.
        zero: Whether 0 is to be on it.
    """
    known = [value for value in values if value is not None] + ([0.0] if zero else [])
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    missing = max(0.0, (0.1 if share else 0.02) - (high - low)) / 2
    over = max(0.0, high + missing - 1) if share and high <= 1 else 0.0  # nothing lies above 1
    return Scale(ticks(low - missing - over, high + missing - over, 4))


def reach(entries: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """What a forest's axis has to hold: estimates, and intervals but for those much wider than most.

    Args:
        entries: With value, low and high.
    """
    known = [one for one in entries if one["low"] is not None]
    halves = [(one["high"] - one["low"]) / 2 for one in known]
    most = 3 * float(np.median(halves)) if halves else 0.0
    ends = [
        end for one in known for end in (max(one["low"], one["value"] - most), min(one["high"], one["value"] + most))
    ]
    return [*(one["value"] for one in entries), *ends]


def seeds_row(line: Line, scale: Scale, style: Style) -> Markup:
    """Seeds as dots, above their mean as a diamond with its interval."""
    color = style[line.recipe][0]
    values = [value for value in line.entry["per_seed"].values() if value is not None]
    dots = [
        element("circle", cx=scale.percent(value), cy=7, r=3, fill_opacity=0.7, style=f"fill:{color}")
        for value in values
    ]
    return _row([dots, *_interval(line.entry, scale, color, 19)], 28)


def forest_row(line: Line, scale: Scale, style: Style) -> Markup:
    """A difference and its interval, beside the line of no difference."""
    zero = scale.percent(0)
    marks = [element("line", x1=zero, x2=zero, y1=0, y2="100%", class_="chance")]
    if line.difference:
        marks += _interval(line.difference, scale, style[line.recipe][0], 12)
    return _row(marks, 24)


def _interval(entry: Mapping[str, Any], scale: Scale, color: str, y: float) -> Iterator[Markup]:
    first, last = scale.marks[0], scale.marks[-1]
    if entry["low"] is not None:
        ends = scale.percent(max(entry["low"], first)), scale.percent(min(entry["high"], last))
        yield element("line", x1=ends[0], x2=ends[1], y1=y, y2=y, stroke=color, stroke_width=2)
        for beyond, tick, way in ((entry["low"] < first, first, -1), (entry["high"] > last, last, 1)):
            if beyond:  # an arrow: the interval goes on
                arrow = element("path", d=f"M0 {y - 5}L{6 * way} {y}L0 {y + 5}Z", style=f"fill:{color}")
                yield element("svg", arrow, x=scale.percent(tick), y=0, overflow="visible")
    if entry["value"] is not None:  # a nested svg takes the percentage, so that the diamond keeps its shape
        shape = element("path", d=f"M0 {y - 6}L6 {y}L0 {y + 6}L-6 {y}Z", style=f"fill:{color}")
        yield element("svg", shape, x=scale.percent(entry["value"]), y=0, overflow="visible")


def _row(marks: object, height: int) -> Markup:
    return element("svg", marks, class_="forest", width="100%", height=height, role="presentation")


def axis(scale: Scale) -> Markup:
    """The axis below the rows."""
    labels = [element("text", number(tick, scale.marks).replace("-", "−"), x=scale.percent(tick), y=16,
                      text_anchor="middle") for tick in scale.marks]  # fmt: skip
    rule = element("line", x1="0%", x2="100%", y1=0.5, y2=0.5, class_="rule")
    return element("svg", rule, labels, class_="forest axis", width="100%", height=20, role="presentation")


@dataclass(frozen=True)
class Panel:
    """A plot with two axes.

    Args:
        width: In units of the picture.
        height: Likewise.
        x: Ticks across.
        y: Ticks upwards.
        place: Puts the numbers across on another scale.
        left: Room beside the plot; likewise top, right and bottom.
        inset: Room inside it, left and right of the outermost ticks.
    """

    width: int
    height: int
    x: Sequence[float]
    y: Sequence[float]
    place: Callable[[Any], Any] = lambda value: value
    left: int = 40
    top: int = 8
    right: int = 24
    bottom: int = 36
    inset: float = 0.0

    def points(self, x: Any, y: Any) -> str:
        """The `points` of a line."""
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(self.across(x), self.up(y), strict=True))

    def across(self, value: Any) -> Any:
        """Horizontal position."""
        first, last = self.place(self.x[0]), self.place(self.x[-1])
        share = (self.place(np.asarray(value, float)) - first) / ((last - first) or 1.0)
        return self.left + self.inset + (self.width - self.left - self.right - 2 * self.inset) * share

    def up(self, value: Any) -> Any:
        """Vertical position; what lies outside is drawn at the edge."""
        inside = np.clip(np.asarray(value, float), self.y[0], self.y[-1])
        share = (inside - self.y[0]) / (self.y[-1] - self.y[0])
        return self.height - self.bottom - (self.height - self.top - self.bottom) * share

    def drawn(self, words: str, below: str, labels: Sequence[str], *marks: object) -> Markup:
        """The whole picture.

        Args:
            words: What it shows, for those who cannot see it.
            below: Name of the axis across.
            labels: Of its ticks.
            *marks: Lines and bands.
        """
        right, floor = self.width - self.right, self.height - self.bottom
        rules = [element("line", x1=self.left, x2=right, y1=float(self.up(y)), y2=float(self.up(y)), class_="rule")
                 for y in self.y]  # fmt: skip
        sides = [element("text", number(y, self.y), x=self.left - 7, y=float(self.up(y)) + 4, text_anchor="end")
                 for y in self.y]  # fmt: skip
        feet = [element("text", label, x=float(self.across(x)), y=floor + 16, text_anchor="middle")
                for x, label in zip(self.x, labels, strict=True)]  # fmt: skip
        name = element("text", below, x=(self.left + right) / 2, y=self.height - 3, text_anchor="middle")
        return element("svg", element("title", words), rules, sides, feet, name, marks, class_="panel", role="img",
                       viewBox=f"0 0 {self.width} {self.height}")  # fmt: skip


def class_panel(rows: Sequence[dict[str, Any]], kind: str, style: Style, title: str) -> Markup:
    """ROC or precision-recall curves of one class and network.

    Args:
        rows: Of comparison.json's curves.
        kind: "roc" or "pr".
        style: Of recipes.
        title: For those who cannot see it.
    """
    marks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    panel = Panel(270, 256, marks, marks)
    share = rows[0]["prevalence"]
    level = ([0, 1], [0, 1]) if kind == "roc" else ([0, 1], [share, share])
    drawn: list[Markup] = [element("polyline", points=panel.points(*level), class_="chance")]
    for name in dict.fromkeys(row["recipe"] for row in rows):
        seeds = [row for row in rows if row["recipe"] == name]
        thin = (0.7, 0.45) if len(seeds) > 1 else (1.6, 0.9)
        parts = [_line(panel, row[kind]["x"], row[kind]["y"], style[name], *thin) for row in seeds]
        mean = [_line(panel, *mean_curve(seeds, kind), style[name], 2.2)] if len(seeds) > 1 else []
        drawn.append(element("g", parts, mean, data_recipe=name))
    below = "1 − specificity (upwards: sensitivity)" if kind == "roc" else "recall (upwards: precision)"
    return panel.drawn(title, below, [f"{x:g}" for x in marks], *drawn)


def _line(panel: Panel, x: Any, y: Any, style: tuple[str, str | None], width: float, opacity: float = 1.0) -> Markup:
    return element("polyline", points=panel.points(x, y), stroke_dasharray=style[1], stroke_opacity=opacity,
                   style=f"stroke:{style[0]};stroke-width:{width}")  # fmt: skip


def efficiency_panel(rows: Sequence[dict[str, Any]], metric: str, kind: str, style: Style, title: str) -> Markup:
    """A metric over amounts of labels, a line per recipe with its interval as a band; amounts are logarithmic.

    Args:
        rows: Of comparison.json's recipes, of one network.
        metric: That is drawn.
        kind: What the amounts are.
        style: Of recipes.
        title: For those who cannot see it.
    """
    known = [row for row in rows if row["metrics"].get(metric, {}).get("value") is not None]
    amounts = sorted({row["fraction"] for row in known})
    ends = [row["metrics"][metric][key] for row in known for key in ("value", "low", "high")]
    inside = [value for value in ends if value is not None]
    names = list(dict.fromkeys(row["recipe"] for row in known))
    inset = 5.0 * (len(names) + 1) / 2 if len(names) > BANDS else 0.0
    panel = Panel(470, 300, amounts, heights(metric, min(inside), max(inside)), np.log, inset=inset)
    drawn = []
    for place, name in enumerate(names):
        line = sorted((row for row in known if row["recipe"] == name), key=lambda row: float(row["fraction"]))
        shift = None if len(names) <= BANDS else 5.0 * (place - (len(names) - 1) / 2)
        drawn.append(element("g", list(_banded(panel, line, metric, style[name], shift)), data_recipe=name))
    labels = [f"{amount:g}" if kind == "shots" else f"{100 * amount:g} %" for amount in amounts]
    below = "films per class" if kind == "shots" else "share of the labelled training patients"
    return panel.drawn(title, below, _apart(panel, labels), *drawn)


def _apart(panel: Panel, labels: Sequence[str]) -> list[str]:
    """The ticks' labels without those that would touch the one to their right; the last one stays."""
    kept, free = [""] * len(labels), math.inf
    for place in reversed(range(len(labels))):
        middle, half = float(panel.across(panel.x[place])), 3.6 * len(labels[place]) + 3
        if middle + half <= free:
            kept[place], free = labels[place], middle - half
    return kept


def _banded(
    panel: Panel, rows: Sequence[dict[str, Any]], metric: str, style: tuple[str, str | None], shift: float | None
) -> Iterator[Markup]:
    """A line with its intervals: as a band, or, among many lines, as whiskers beside each other."""
    x, y = [row["fraction"] for row in rows], [row["metrics"][metric]["value"] for row in rows]
    sure = [(row["fraction"], row["metrics"][metric]) for row in rows if row["metrics"][metric]["low"] is not None]
    across, lower, upper = ([amount for amount, _ in sure], *([one[end] for _, one in sure] for end in ("low", "high")))
    if shift is None and len(sure) > 1:
        points = f"{panel.points(across, upper)} {panel.points(across[::-1], lower[::-1])}"
        yield element("polygon", points=points, fill=style[0], fill_opacity=0.13)
    for amount, low, high in zip(across, lower, upper, strict=True) if shift is not None or len(sure) == 1 else ():
        at = float(panel.across(amount)) + (shift or 0.0)
        yield element("line", x1=at, x2=at, y1=float(panel.up(low)), y2=float(panel.up(high)), stroke=style[0])
    points = " ".join(f"{a + (shift or 0.0):.1f},{b:.1f}" for a, b in zip(panel.across(x), panel.up(y), strict=True))
    yield element("polyline", points=points, stroke_dasharray=style[1], style=f"stroke:{style[0]};stroke-width:2")
    for amount, value, row in zip(x, y, rows, strict=True):
        place = {"cx": float(panel.across(amount)) + (shift or 0.0), "cy": float(panel.up(value))}
        yield element("circle", element("title", figure(value, row["selected_on"])), **place, r=3, fill=style[0])
