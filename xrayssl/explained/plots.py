"""The figures of an explanation as SVG: lines of the network beside those of its nulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xrayssl.comparison.plots import Panel
from xrayssl.explain.nulls import GAUSSIAN, OTHERS, RANDOM, UNIFORM
from xrayssl.explain.statistics import BANDS
from xrayssl.explained.figures import RINGS
from xrayssl.study.figures import ticks
from xrayssl.study.markup import Markup, element

NETWORK = "network"
STYLE = {NETWORK: ("#2f7fbf", None), RANDOM: ("#d1622b", "6 3"), GAUSSIAN: ("#7d8790", "2 2")}
WORDS = {NETWORK: "this network", RANDOM: "random weights", GAUSSIAN: "centred Gaussian", UNIFORM: "uniform map",
         OTHERS: "other patients' maps"}  # fmt: skip
IN_SENTENCES = {
    **WORDS,
    RANDOM: "networks with random weights",
    GAUSSIAN: "a centred Gaussian",
    UNIFORM: "a uniform map",
}


def border(numbers: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Energy in the border over its area, by the border's width, with intervals.

    Args:
        numbers: Name to row; see `figures.beside_nulls`.
    """
    rows = [numbers[f"edge_energy_{band}"] for band in BANDS]
    lines = {NETWORK: [row["value"] for row in rows]} | {
        name: [row["nulls"].get(name, {}).get("null") for row in rows] for name in (RANDOM, GAUSSIAN)
    }
    spans = [(band, row["low"], row["high"]) for band, row in zip(BANDS, rows, strict=True) if row["low"] is not None]
    ends = [end for _, *both in spans for end in both]
    labels = [f"{100 * band:g} %" for band in BANDS]
    return _panel("Energy in the border over its area", "width of the border, share of the side", BANDS, labels, lines,
                  ends, spans)  # fmt: skip


def rings(profile: Mapping[str, Sequence[float | None]]) -> Markup:
    """Density from the middle to the border, relative to a uniform map."""
    middles = [(ring + 0.5) / RINGS for ring in range(RINGS)]
    labels = ["middle", *[""] * (RINGS - 2), "border"]
    return _panel("Density from the middle outwards", "ring", middles, labels, profile)


def _panel(
    title: str,
    below: str,
    x: Sequence[float],
    labels: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    ends: Sequence[float] = (),
    spans: Sequence[tuple[float, float, float]] = (),
) -> Markup:
    known = [value for line in lines.values() for value in line if value is not None]
    inside = [*known, *ends, 1.0]
    panel = Panel(470, 280, x, ticks(min(inside), max(inside)), inset=14.0)
    uniform = element("polyline", points=panel.points([x[0], x[-1]], [1, 1]), class_="chance")
    drawn = [_line(panel, x, line, name) for name, line in lines.items() if None not in line and line]
    whiskers = [element("line", x1=float(panel.across(at)), x2=float(panel.across(at)), y1=float(panel.up(low)),
                        y2=float(panel.up(high)), stroke=STYLE[NETWORK][0], stroke_width=1.6)
                for at, low, high in spans]  # fmt: skip
    return panel.drawn(f"{title}; the dotted line is a uniform map", below, labels, uniform, whiskers, drawn)


def _line(panel: Panel, x: Sequence[float], y: Sequence[Any], name: str) -> Markup:
    color, dashes = STYLE[name]
    dots = [element("circle", cx=float(panel.across(at)), cy=float(panel.up(value)), r=3, fill=color)
            for at, value in zip(x, y, strict=True)] if name == NETWORK else None  # fmt: skip
    line = element(
        "polyline", points=panel.points(x, y), stroke_dasharray=dashes, style=f"stroke:{color};stroke-width:2"
    )
    return element("g", line, dots)


def legend(names: Sequence[str]) -> Markup:
    """Which colour is what."""
    return element("p", [element("span", element("i", style=f"background:{STYLE[name][0]}"), WORDS[name])
                         for name in names], class_="legend")  # fmt: skip


def cascade(stages: Sequence[Mapping[str, Any]]) -> Markup:
    """How alike maps stay as weights are lost, from the head downwards."""
    x = list(range(len(stages) + 1))
    values = [1.0, *(stage["similarity"] for stage in stages)]
    known = [(at, value) for at, value in zip(x, values, strict=True) if value is not None]
    others = stages[0]["other_patients"]
    inside = [value for _, value in known] + [0.0, 1.0] + ([others] if others is not None else [])
    panel = Panel(470, 280, x, ticks(min(inside), max(inside)), inset=14.0)
    labels = ["none" if at == 0 else _short(stages[at - 1]["lost"]) for at in x]
    line = _line(panel, [at for at, _ in known], [value for _, value in known], NETWORK)
    level = None
    if others is not None:
        level = element("polyline", points=panel.points([x[0], x[-1]], [others, others]), stroke_dasharray="2 2",
                        style=f"stroke:{STYLE[GAUSSIAN][0]};stroke-width:2")  # fmt: skip
    words = "Rank correlation with the network's maps, as weights are lost from the head downwards"
    return panel.drawn(words, "weights lost down to", _sparse(labels), level, line)


def _short(name: str) -> str:
    return name.replace("stage ", "")


def _sparse(labels: Sequence[str]) -> list[str]:
    """Not so many labels that they touch."""
    step = -(-len(labels) // 8)
    return [label if place % step == 0 or place == len(labels) - 1 else "" for place, label in enumerate(labels)]
