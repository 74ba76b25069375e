"""The test of one run in the report: headline figures and a forest of AUROCs, with their intervals."""

from collections.abc import Iterator, Mapping
from typing import Any

from xrayssl.study import figures
from xrayssl.study.decisions import decisions
from xrayssl.study.markup import Markup, element, join
from xrayssl.study.reliability import reliability
from xrayssl.study.subgroups import subgroups
from xrayssl.study.words import amount, decimal, interval, level

HEADLINES = {
    "auroc_macro": "Macro AUROC",
    "auprc_macro": "Macro average precision",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "kappa": "Cohen's kappa",
    "ece": "Calibration error",
    "ece_scaled": "after scaling",
}
SELECTED_ON_TEST = (
    "The checkpoint was selected on these very films, as some published tables were: every figure here is too good, "
    "and says nothing of new patients."
)
FEW = 10  # films with one outcome: below this a bootstrap interval is not to be trusted


def outcome(content: Mapping[str, Any]) -> Markup:
    """Headline figures and the forest of AUROCs, with intervals.

    Args:
        content: Of metrics.json.
    """
    entries = content["metrics"]
    tiles = [tile(HEADLINES[name], entries[name]) for name in HEADLINES if name in entries]
    where = amount(content.get("films"), "film", content.get("patients"))
    what = "Validation" if content.get("split") == "val" else "Test"
    sure = any(entry.get("low") is not None for entry in entries.values())
    return join(
        [
            element("h3", what, f": {where}" if where else None, f", with {level(content)}s" if sure else None),
            element("p", SELECTED_ON_TEST, class_="warning") if content.get("selected_on") == "test" else None,
            element("div", tiles, class_="tiles"),
            forest(content),
            element("p", " ".join(caveats(content)), class_="note"),
            decisions(content),
            reliability(content),
            subgroups(content),
        ]
    )


def tile(name: str, entry: Mapping[str, float | None]) -> Markup:
    """One headline figure."""
    return element(
        "div",
        element("span", name),
        element("div", decimal(entry["value"]), class_="value"),
        element("span", interval(entry)),
        class_="tile",
    )


def forest(content: Mapping[str, Any]) -> Markup | None:
    """AUROC of every class with its interval, and of their mean."""
    entries = content["metrics"]
    rows = {str(name): entries[f"auroc/{name}"] for name in content.get("classes") or () if f"auroc/{name}" in entries}
    if not rows:
        return None
    scale = figures.forest_scale(list(rows.values()))
    count = content.get("counts") or {}
    body = [_tree(name, entry, scale, count.get(name)) for name, entry in rows.items()]
    if "auroc_macro" in entries:
        body.insert(0, _tree("Mean over classes", entries["auroc_macro"], scale, None, "mean"))
    axis = element("tr", element("td"), element("td", figures.forest_axis(scale), class_="plot"))
    titles = {
        "": "Class",
        "plot": "AUROC",
        "figure": level(content),
        "number": "with / without" if count else "",
    }
    head = element("tr", [element("th", words, class_=name or None) for name, words in titles.items()])
    return join(
        [
            element("h4", "AUROC by class"),
            element("table", element("thead", head), element("tbody", body, axis), class_="trees"),
        ]
    )


def _tree(name: str, entry: Any, scale: figures.Scale, count: Any, kind: str | None = None) -> Markup:
    span = interval(entry)
    value = decimal(entry["value"]) if entry["value"] is not None else "not defined"
    if isinstance(count, Mapping) and min(count.values()) < FEW:
        kind = "few"
    return element(
        "tr",
        element("td", name),
        element("td", figures.forest_row(entry, scale, kind), class_="plot"),
        element("td", value, element("span", f" ({span})", class_="interval") if span else None, class_="figure"),
        element("td", " / ".join(f"{part:,}" for part in count.values()) if count else None, class_="number"),
        class_=kind,
    )


def caveats(content: Mapping[str, Any]) -> Iterator[str]:
    """How the intervals were made, and what they leave out."""
    how, metrics = content.get("interval", {}), content["metrics"].values()
    method, resamples = how.get("method", "unknown method"), how.get("resamples")
    times = f", {resamples:,} resamples" if isinstance(resamples, int) else ""
    yield f"{level(content).capitalize()}s: {method}{times}. The dotted line is chance."
    if any(0 < min(count.values()) < FEW for count in (content.get("counts") or {}).values()):
        yield f"Hollow dots: fewer than {FEW} films with or without it; such intervals are too narrow."
    undefined = list(content.get("undefined") or ())
    if undefined:
        yield f"Not defined, because only one outcome occurs in the test: {', '.join(map(str, undefined))}."
    without = content.get("macro_without") or {}
    for names in {tuple(names): None for names in without.values() if names and list(names) != undefined}:
        means = ", ".join(metric.removesuffix("_macro") for metric, left in without.items() if tuple(left) == names)
        yield f"Left out of the mean of {means}: {', '.join(map(str, names))}."
    if exact := how.get("exact"):
        yield f"For a perfect or empty score no resample differs: {amount(len(exact), 'interval')} by Clopper-Pearson."
    if unlabelled := content.get("unlabelled"):
        yield f"{amount(unlabelled, 'film')} without a label left out."
    if left_out := how.get("left_out"):
        yield f"Resamples that lacked an outcome are left out (up to {max(left_out.values()):,})."
    if any(entry["low"] is not None and entry["low"] == entry["high"] for entry in metrics):
        yield "An interval without width, as with a perfect score, is no certainty: no resample differed."
