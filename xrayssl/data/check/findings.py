"""`xrayssl data check`: what lies in corpora, what is wrong with it, and what leaks from test to training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xrayssl.data.check.contact_sheet import by_class, by_pair, draw
from xrayssl.data.check.matches import LATER, copies, described, leaks, to_leave_out
from xrayssl.data.check.survey import FACTS, Corpora, View, survey, together
from xrayssl.data.check.tally import tally
from xrayssl.data.manifest import COLUMNS
from xrayssl.files import appearing, write_json

SHEET, REPORT, FILMS, COPIES, LEAKS, LEAVE_OUT = (
    "sheet.png", "report.json", "films.csv", "copies.csv", "leaks.csv", "exclude.csv"
)  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """What a check found.

    Args:
        corpora: The films, with the columns of FACTS; those of a later test behind the others.
        pairs: Copies, with the columns of PAIR.
        leaks: Films to leave out, with the columns of PAIR.
        compared: Whether there was a later test to compare with.
    """

    corpora: Corpora
    pairs: pd.DataFrame
    leaks: pd.DataFrame
    compared: bool

    @property
    def own(self) -> pd.DataFrame:
        """The films that the check is about."""
        table = self.corpora.table
        return table[table["split"] != LATER]

    @property
    def unreadable(self) -> pd.DataFrame:
        """Films that cannot be read."""
        return self.corpora.table[self.corpora.table["problem"] != ""]

    @property
    def fine(self) -> bool:
        """Whether nothing has to be done before training."""
        return not len(self.leaks) and not len(self.unreadable)


def check(corpora: Corpora, later: Corpora | None, view: View, workers: int, by_sight: bool = True) -> Findings:
    """Reads every film and compares it with every other.

    Args:
        corpora: The films.
        later: Those of which another stage is tested on the test split; the others are of no concern.
        view: How to read them.
        workers: Processes.
        by_sight: Look for copies whose files differ, too.
    """
    both = corpora if later is None else _with_later(corpora, later)
    table, thumbnails_NHW = survey(both.table, view, workers)
    if not by_sight:
        thumbnails_NHW = np.zeros_like(thumbnails_NHW)
    pairs = copies(table, thumbnails_NHW, workers)
    return Findings(replace(both, table=table), pairs, leaks(table, pairs), later is not None)


def _with_later(corpora: Corpora, later: Corpora) -> Corpora:
    test = later.table[later.table["split"] == "test"].assign(split=LATER)
    return replace(corpora, table=together([corpora.table, test]))


def save(findings: Findings, folder: Path, view: View, workers: int) -> list[str]:
    """Writes the lists, the report and the contact sheet.

    Args:
        findings: Of a check.
        folder: Where to.
        view: How to read the films of the sheet.
        workers: Processes.

    Returns:
        Names of the files written.
    """
    table = findings.corpora.table
    tables = {FILMS: table[[*COLUMNS, *FACTS]]}
    if len(findings.pairs):
        tables[COPIES] = described(table, findings.pairs)
    if len(findings.leaks):
        tables |= {LEAKS: described(table, findings.leaks), LEAVE_OUT: to_leave_out(table, findings.leaks)}
    for name, content in tables.items():
        with appearing(folder / name) as partial:
            content.to_csv(partial, index=False)
    write_json(folder / REPORT, report(findings))
    rows = [*by_pair(table, findings.pairs, "copies"), *by_class(replace(findings.corpora, table=findings.own))]
    draw(rows, findings.corpora, view, workers, folder / SHEET)
    return [SHEET, REPORT, *tables]


def report(findings: Findings) -> dict[str, Any]:
    """Everything that was counted, as JSON."""
    own, pairs = findings.own, described(findings.corpora.table, findings.pairs)
    corpora = findings.corpora.classes.items()
    return {
        "version": 1,
        "corpora": {name: tally(own[own["corpus"] == name], classes) for name, classes in corpora},
        "unreadable": dict(zip(findings.unreadable["path"], findings.unreadable["problem"], strict=True)),
        "copies": _kinds(pairs),
        "leaks": _kinds(described(findings.corpora.table, findings.leaks)),
        "compared_with_a_later_test": findings.compared,
    }


def _kinds(pairs: pd.DataFrame) -> dict[str, Any]:
    apart = pairs["split"] != pairs["other_split"]
    return {
        "pairs": len(pairs),
        "how": {str(how): int(count) for how, count in pairs["how"].value_counts().items()},
        "across_splits": int(apart.sum()),
        "of_different_patients": int((~pairs["same_patient"].astype(bool)).sum()),
    }
