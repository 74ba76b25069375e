"""The comparison as rows of words, which the terminal, Markdown, LaTeX and the page share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xrayssl.comparison.naming import amount_words, chance, effect, figure, lower_is_better, signed, span

REFERENCE = "reference"


@dataclass(frozen=True)
class Line:
    """One recipe on one network, by one metric.

    Args:
        recipe: Its name.
        metric: Its key.
        row: Of `recipes`.
        entry: The metric's in that row.
        difference: Of `differences`, or None.
        reference: Whether it is the reference.
    """

    recipe: str
    metric: str
    row: dict[str, Any]
    entry: dict[str, Any]
    difference: dict[str, Any] | None
    reference: bool

    @property
    def marked(self) -> str:
        """Split that chose the checkpoints."""
        return str(self.row["selected_on"])

    @property
    def mean(self) -> tuple[str, str]:
        """Figure and interval in words."""
        return figure(self.entry["value"], self.marked), span(self.entry)

    @property
    def apart(self) -> tuple[str, str]:
        """Difference and interval in words."""
        if self.difference is None:
            return (REFERENCE if self.reference else "–"), ""
        return signed(self.difference["value"], self.difference["selected_on"]), span(self.difference)

    @property
    def p(self) -> str:
        """Adjusted p in words."""
        return "" if self.reference else chance((self.difference or {}).get("p_holm"))

    @property
    def g(self) -> str:
        """Effect size in words."""
        return "" if self.reference else effect((self.difference or {}).get("effect"))


def lines(content: dict[str, Any], network: str, fraction: float, metrics: Sequence[str]) -> list[Line]:
    """A line per metric and recipe of one table; ordered by the headline if it may be, else as named.

    Args:
        content: Of comparison.json.
        network: Of the table.
        fraction: Likewise.
        metrics: Those wanted.
    """
    here = [row for row in content["recipes"] if (row["network"], row["fraction"]) == (network, fraction)]
    apart = {(one["recipe"], one["metric"]): one for one in content["differences"]
             if (one["network"], one["fraction"]) == (network, fraction)}  # fmt: skip
    rows = _ordered(here, content["headline"]) if ranked(content, network, fraction) else here
    return [Line(row["recipe"], metric, row, row["metrics"][metric], apart.get((row["recipe"], metric)),
                 row["recipe"] == content["reference"])
            for metric in metrics for row in rows if metric in row["metrics"]]  # fmt: skip


def _ordered(rows: Sequence[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    def place(row: dict[str, Any]) -> float:
        value = row["metrics"].get(metric, {}).get("value")
        return float("inf") if value is None else value if lower_is_better(metric) else -value

    return sorted(rows, key=place)


def ranked(content: dict[str, Any], network: str, fraction: float) -> bool:
    """Whether the recipes of a table may be ordered by their figures."""
    return any(table["ranked"] for table in content["tables"]
               if (table["network"], table["fraction"]) == (network, fraction))  # fmt: skip


def heading(content: dict[str, Any], fraction: float) -> str:
    """What stands above the tables of one amount of labels."""
    words = amount_words(fraction, content["amount"])
    return words[0].upper() + words[1:]


def scope(line: Line) -> str:
    """`3 seeds`, or that there is one."""
    count = len(line.row["seeds"])
    return f"{count} seeds" if count > 1 else "within-checkpoint only"
