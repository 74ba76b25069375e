"""What the page about recipes has beside the comparison: nulls, repeatability, agreement of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xrayssl.comparison.naming import chance, metric_name, signed, span
from xrayssl.explained.plots import WORDS
from xrayssl.study.markup import Markup, element
from xrayssl.study.words import decimal

SEEDS = (
    "Mean rank correlation of the maps of a film by two seeds, and of two seeds' maps of different patients' films of "
    "the same class. Intervals are over patients, for these very networks."
)
NETWORKS = (
    "Rank correlation of the maps of a film by two networks of one recipe, at the coarser grid, and of maps of "
    "different patients' films."
)


def of_recipes(content: Mapping[str, Any]) -> list[Markup]:
    """Sections of the page.

    Args:
        content: Of explain.json of several recipes.
    """
    found = [
        _nulls(content),
        _alike("Do the trainings of a recipe look at the same place?", content["repeatability"], SEEDS),
        _alike("Do two networks look at the same place?", content["agreement"], NETWORKS),
    ]
    return [one for one in found if one is not None]


def _nulls(content: Mapping[str, Any]) -> Markup | None:
    """What maps that know nothing of the films give."""
    names = [name for name in content["metrics"] if any(name in row["numbers"] for row in content["nulls"])]
    if not names:
        return None
    rows = [(row["network"], WORDS[row["null"]], *(decimal(row["numbers"].get(name)) for name in names))
            for row in content["nulls"]]  # fmt: skip
    return _section("What nothing learned gives", "Means over the same films.",
                    ("Network", "Null", *map(metric_name, names)), rows)  # fmt: skip


def _alike(title: str, found: Sequence[Mapping[str, Any]], note: str) -> Markup | None:
    if not found:
        return None
    rows = [
        (f"{one['recipe']} ({' and '.join(one.get('networks', [one.get('network')]))})", str(one["seeds"]),
         decimal(one["value"]), decimal(one["null"]), f"{signed(one['difference'])} ({span(one)})",
         chance(one["p_holm"]))
        for one in found
    ]  # fmt: skip
    titles = ("Recipe", "Seeds", "Same film", "Other patients", "Difference (95 % interval)", "p (Holm)")
    return _section(title, note, titles, rows)


def _section(title: str, note: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    head = element("thead", element("tr", [element("th", one, scope="col") for one in titles]))
    body = element("tbody", [element("tr", [element("td", cell) for cell in row]) for row in rows])
    table = element("div", element("table", head, body, class_="full"), class_="wide-table", tabindex="0")
    return element("section", element("h2", title), element("p", note, class_="note"), table, class_="run")
