"""What follows in the report from thresholds that were chosen on validation films: a table of every class."""

from collections.abc import Mapping
from typing import Any

from xrayssl.study.markup import Markup, element, join
from xrayssl.study.words import amount, decimal, interval

AT_THRESHOLDS = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "f1": "F1",
}
FURTHER = {
    "auprc": "Average precision",
    "ece": "Calibration error",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "kappa": "Cohen's kappa",
}
RULES = {"youden": "the greatest sum of sensitivity and specificity (Youden 1950)"}


def decisions(content: Mapping[str, Any]) -> Markup | None:
    """Tables of every class, what thresholds decide first, each figure with its interval; None where there are none.

    Args:
        content: Of metrics.json.
    """
    operating = content.get("operating") or {}
    thresholds = operating.get("threshold") or {}
    decided, further = _table(content, AT_THRESHOLDS, thresholds), _table(content, FURTHER, {})
    if decided is None and further is None:
        return None
    return join(
        [
            join([element("h4", "Every class at its threshold"), decided]) if decided is not None else None,
            element("p", _how(content), class_="note"),
            join([element("h4", "Further figures of every class"), further]) if further is not None else None,
        ]
    )


def _table(content: Mapping[str, Any], wanted: Mapping[str, str], thresholds: Mapping[str, Any]) -> Markup | None:
    entries, classes = content["metrics"], [str(name) for name in content.get("classes") or ()]
    columns = {key: title for key, title in wanted.items() if any(f"{key}/{name}" in entries for name in classes)}
    if not columns:
        return None
    titles = ["Class", *(["Threshold"] if thresholds else []), *columns.values()]
    named = {key: f"{key}_macro" if f"{key}_macro" in entries else key for key in columns}  # the mean of ece is "ece"
    means = {key: entries[name] for key, name in named.items() if name in entries}
    rows = [_row("Mean over classes", None, means, columns, bool(thresholds))] if means else []
    for name in classes:
        known = {key: entries[f"{key}/{name}"] for key in columns if f"{key}/{name}" in entries}
        rows.append(_row(name, thresholds.get(name), known, columns, bool(thresholds)))
    head = element("thead", element("tr", [element("th", title) for title in titles]))
    return element("div", element("table", head, element("tbody", rows), class_="decisions"), class_="wide-table")


def _row(
    name: str, threshold: float | None, known: Mapping[str, Any], columns: Mapping[str, str], thresholds: bool
) -> Markup:
    cells = [element("td", name)]
    if thresholds:
        cells.append(element("td", decimal(threshold) if threshold is not None else "", data_label="Threshold"))
    for key, title in columns.items():
        entry = known.get(key)
        value = None if entry is None else join([decimal(entry["value"]), _span(entry)])
        cells.append(element("td", value, data_label=title))
    return element("tr", cells)


def _span(entry: Mapping[str, float | None]) -> Markup | None:
    words = interval(entry)
    return element("small", words) if words else None


def _how(content: Mapping[str, Any]) -> str:
    operating, folds = content.get("operating") or {}, content.get("folds")
    if folds:
        return f"Thresholds are those of each of the {folds['count']} folds, chosen on its own validation films."
    if not operating:
        return "No thresholds: they are chosen on validation films, and there was no prediction of any."
    where = amount(operating.get("films"), str(content.get("unit", "film")))
    rule = RULES.get(str(operating.get("rule")), str(operating.get("rule")))
    split = "validation" if operating.get("split") == "val" else str(operating.get("split"))
    return f"Thresholds are those with {rule} on {where} of the {split} split; the films shown here had no part in it."
