"""What the report says of a representation while it was learned: its health, the probes, and the verdict in words."""

from collections.abc import Mapping

import pandas as pd

from xrayssl.health import FIGURES, REMEDY, Health, judge
from xrayssl.study import figures
from xrayssl.study.markup import Markup, element, join
from xrayssl.study.runs import Run

MEASURES = {
    "std": "Standard deviation (1: all directions alike)",
    "rank": "Effective rank",
    "alignment": "Distance between two views of a film",
    "uniformity": "Uniformity (0: one point)",
    "embedding_std": "Standard deviation of the embeddings",
    "knn_auroc": "Nearest neighbours, AUROC",
    "linear_auroc": "Linear probe, AUROC",
}


def representation(run: Run) -> Markup | None:
    """Curves of health and probes over the epochs, and whether the representation has collapsed."""
    panels = figures.curve_panels(run.curves, ("probe", "health"))
    told = verdict(run.curves)
    if not panels and told is None:
        return None
    drawn = panelled(panels, MEASURES) if panels else None
    return join([element("h3", "Representation"), told, drawn])


def verdict(table: pd.DataFrame) -> Markup | None:
    """The verdict in words, with the remedy where there is need of one; nothing where health was not measured."""
    found = history(table)
    if not found:
        return None
    films = table["health/films"].max() if "health/films" in table else float("nan")
    result = judge(found, None if pd.isna(films) else int(films))
    if result.collapsed:
        return element("p", element("strong", result.words), f" {REMEDY}", class_="warning")
    return element("p", result.words, class_="note")


def history(table: pd.DataFrame) -> dict[int, Health]:
    """The figures by completed epochs; what was measured before the training stands in a row without an epoch."""
    if not {"epoch", "health/std"} <= set(table.columns):
        return {}
    rows = table[table["health/std"].notna()].reindex(columns=["epoch", *(f"health/{name}" for name in FIGURES)])
    found = {}
    for epoch, *values in rows.itertuples(index=False):
        known = {name: float(value) for name, value in zip(FIGURES, values, strict=True) if not pd.isna(value)}
        found[0 if pd.isna(epoch) else int(epoch) + 1] = Health(**known)
    return found


def panelled(panels: Mapping[str, Markup], names: Mapping[str, str]) -> Markup:
    """Panels side by side, each below its name."""
    drawn = [element("figure", element("figcaption", names.get(name, name)), panel) for name, panel in panels.items()]
    return element("div", drawn, class_="panels")
