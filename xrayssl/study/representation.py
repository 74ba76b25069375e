"""What the report says of a representation while it was learned: its health, the probes, and the verdict in words."""

from collections.abc import Mapping

import pandas as pd

from xrayssl.health import FIGURES, REMEDY, Health, judge
from xrayssl.study import figures
from xrayssl.study.markup import Markup, element, join
from xrayssl.study.runs import Run
from xrayssl.study.words import amount, decimal

MEASURES = {
    "std": "Standard deviation (1: all directions alike)",
    "rank": "Effective rank",
    "alignment": "Distance between two views of a film",
    "uniformity": "Uniformity (0: one point)",
    "embedding_std": "Standard deviation of the embeddings",
    "knn_auroc": "Nearest neighbours, AUROC",
    "linear_auroc": "Linear probe, AUROC",
}
PROBES = {"linear_auroc": "linear probe", "knn_auroc": "nearest neighbours"}


def representation(run: Run) -> Markup | None:
    """Curves of health and probes over the epochs, and whether the representation has collapsed."""
    panels = figures.curve_panels(run.curves, ("probe", "health"))
    told = verdict(run.curves, run.record.get("outcome") == "finished")
    if not panels and told is None:
        return None
    names = dict(MEASURES)
    if films := probed(run):
        names |= {name: f"{names[name]}, {amount(films, 'film')}" for name in PROBES}
    drawn = panelled(panels, names) if panels else None
    return join([element("h3", "Representation"), told, drawn])


def verdict(table: pd.DataFrame, ended: bool = False) -> Markup | None:
    """The verdict in words, with the remedy where there is need of one; nothing where health was not measured.

    Args:
        table: metrics.csv.
        ended: Whether the training went to its end.
    """
    found = history(table)
    if not found:
        return None
    films = table["health/films"].max() if "health/films" in table else float("nan")
    result = judge(found, None if pd.isna(films) else int(films), ended)
    if result.collapsed or (ended and result.state == "doubtful"):
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


def probed(run: Run) -> int | None:
    """How many films the probes are measured on, as far as metrics.csv knows."""
    known = run.curves[figures.FILMS].dropna() if figures.FILMS in run.curves else ()
    return int(max(known)) if len(known) else None


def learned(run: Run) -> str | None:
    """What the probes did during the training, in plain words."""
    columns = {words: f"probe/{name}" for name, words in PROBES.items() if f"probe/{name}" in run.curves}
    known = {words: run.curves[column].dropna().tolist() for words, column in columns.items()}
    parts = [f"from {decimal(v[0])} to {decimal(v[-1])} ({words})" for words, v in known.items() if len(v) > 1]
    if not parts:
        return None
    where = f" on {amount(probed(run), 'probe film')}" if probed(run) else ""
    first = ", counted from before the training" if figures.before_training(run.curves).any() else ""
    return f"the AUROC of its frozen features{where} went {' and '.join(parts)}{first}"
