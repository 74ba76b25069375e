"""The folds of a cross-validation in the report: the figures of each beside those of their pool."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xrayssl.study.markup import Markup, element, join
from xrayssl.study.outcome import HEADLINES
from xrayssl.study.words import amount, decimal, interval


def folds(content: Mapping[str, Any]) -> Markup | None:
    """A table of the folds' own headline figures, with mean and standard deviation; None where there are no folds.

    Args:
        content: Of metrics.json.
    """
    known = content.get("folds") or {}
    each: Sequence[Mapping[str, Any]] = known.get("figures") or ()
    if not each:
        return None
    names = [name for name in HEADLINES if name in known["mean"]]
    titles = ["Fold", "Test films", *(HEADLINES[name] for name in names)]
    means = [join([decimal(known["mean"][name]), _number(known, name)]) for name in names]
    spreads = [decimal(known["sd"][name]) for name in names]
    rows = [[one["run"], _size(one), *(_figure(one["metrics"].get(name)) for name in names)] for one in each]
    rows += [["Mean", None, *means], ["Standard deviation", None, *spreads]]
    head = element("thead", element("tr", [element("th", title) for title in titles]))
    table = element("table", head, element("tbody", [_row(titles, cells) for cells in rows]), class_="decisions")
    return join(
        [
            element("h3", "The folds by themselves"),
            element("div", table, class_="wide-table"),
            element("p", " ".join(_notes(known, each)), class_="note"),
        ]
    )


def _row(titles: Sequence[str], cells: Sequence[object]) -> Markup:
    named, *further = zip(cells, titles, strict=True)
    return element("tr", element("td", named[0]), [element("td", cell, data_label=title) for cell, title in further])


def _size(fold: Mapping[str, Any]) -> Markup:
    patients = amount(fold.get("patients"), "patient")
    return join([amount(fold.get("films"), "film"), element("small", patients) if patients else None])


def _figure(entry: Mapping[str, float | None] | None) -> Markup | None:
    if entry is None:
        return None
    words = interval(entry)
    return join([decimal(entry.get("value")), element("small", words) if words else None])


def _number(known: Mapping[str, Any], name: str) -> Markup | None:
    """Over how many folds a mean is, where some do not have the figure."""
    count = known["folds_with"][name]
    return element("small", f"of {amount(count, 'fold')}") if count < known["count"] else None


def _notes(known: Mapping[str, Any], each: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the pool is, what its folds lack, and where they are."""
    yield str(known.get("note") or "").replace("`", "")
    for name, numbers in (known.get("without_threshold") or {}).items():
        yield f"No threshold for {name} in {_listed(numbers)}: the validation films there lack an outcome."
    yield f"Each fold is a run in a folder of its own here: {', '.join(str(one['run']) for one in each)}."


def _listed(numbers: Sequence[int]) -> str:
    return f"fold{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
