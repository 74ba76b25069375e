"""Whether a classifier serves everybody: the headline figures by sex, age and view."""

from collections.abc import Mapping
from typing import Any

from xrayssl.study import figures
from xrayssl.study.markup import Markup, element, join
from xrayssl.study.words import amount, decimal, interval

TITLES = {"sex": "Sex", "age": "Age", "view": "View"}
FIGURE = "auroc_macro"


def subgroups(content: Mapping[str, Any]) -> Markup | None:
    """A forest of macro AUROCs, a row per group; None where nothing is known of anybody.

    Args:
        content: Of metrics.json.
    """
    kinds = {kind: groups for kind, groups in (content.get("subgroups") or {}).items() if len(groups) > 1}
    entries = [each["metrics"][FIGURE] for groups in kinds.values() for each in groups.values() if _measured(each)]
    if not entries:
        return None
    scale = figures.forest_scale(entries)
    rows = [
        _row(TITLES.get(kind, kind), name, each, scale)
        for kind, groups in kinds.items()
        for name, each in groups.items()
    ]
    axis = element("tr", element("td"), element("td", figures.forest_axis(scale), class_="plot"))
    return join(
        [
            element("h4", "Macro AUROC by group"),
            element("table", element("tbody", rows, axis), class_="trees"),
            element("p", NOTE, class_="note"),
        ]
    )


NOTE = (
    "Intervals of each group by itself. A mean over classes is one over those that the group has with and without, "
    "which may be fewer; groups of fewer than 10 patients are counted, not measured."
)


def _measured(group: Mapping[str, Any]) -> bool:
    return ((group.get("metrics") or {}).get(FIGURE) or {}).get("value") is not None


def _row(kind: str, name: str, group: Mapping[str, Any], scale: figures.Scale) -> Markup:
    measured = _measured(group)
    entry = group["metrics"][FIGURE] if measured else {"value": None}
    span = interval(entry) if measured else None
    return element(
        "tr",
        element("td", f"{TITLES.get(kind, kind)}: {name or 'not known'}"),
        element("td", figures.forest_row(entry, scale), class_="plot"),
        element(
            "td",
            decimal(entry["value"]) if measured else "not measured",
            element("span", f" ({span})", class_="interval") if span else None,
            class_="figure",
        ),
        element("td", amount(group.get("films"), "film", group.get("patients")), class_="number"),
    )
