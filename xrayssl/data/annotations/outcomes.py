"""Labels out of columns that people write: 1, 0 and blank, or the name of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from xrayssl.data.annotations.spreadsheet import Sheet
from xrayssl.data.manifest import COLUMNS, SUBGROUPS, Task
from xrayssl.errors import UserError

UNCERTAIN = {"ones": 1.0, "zeros": 0.0, "ignore": np.nan}
_OUTCOMES = {"1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0, "": np.nan}
_DOUBTS = ("-1", "-1.0")
RESERVED = frozenset({*COLUMNS, *SUBGROUPS, "store", "shard", "offset", "height", "width", "dtype"})
"""Columns of manifests and stores."""
_MARKS = "|;"  # between findings in one cell
_MOST = 200  # more classes than that are measurements, or names


class Labels(NamedTuple):
    """A float column per class (1, 0, NaN unknown), and what kind of task they pose."""

    table: pd.DataFrame
    task: Task | None


def labels_of(sheet: Sheet, columns: Sequence[str], task: Task | None, uncertain: str | None) -> Labels:
    """Reads label columns: each holds 1 (or true, yes), 0 (false, no), -1 (uncertain) or nothing (unknown); or a single
    one holds names: of each film's class, or of its findings, with | or ; between them.

    Args:
        sheet: With the columns.
        columns: Names of labels; none is no task.
        task: "multilabel" or "multiclass"; null: columns of 1 and 0 and lists of names are findings that stand each
            alone, names are classes of which one holds.
        uncertain: "ones", "zeros" or "ignore"; null refuses -1.

    Raises:
        UserError: If a column is missing or a value is none; all of them at once.
    """
    problems = [
        f"{sheet.path}: there is no column {name!r} for labels.{sheet.hint(name)}"
        for name in columns
        if name not in sheet.table
    ]
    problems += [f"labels: the column {name!r} is named twice." for name in {*columns} if list(columns).count(name) > 1]
    problems += [_cannot(sheet, "column", name) for name in columns if name in RESERVED - {*SUBGROUPS}]
    if problems:
        raise UserError(*problems)
    if len(columns) == 1 and (task == "multiclass" or not _outcome(sheet, columns[0]).all()):
        return _of_names(sheet, columns[0], task)  # also of sex: the classes are its values
    problems += [_cannot(sheet, "column", name) for name in columns if name in SUBGROUPS]
    values = {name: _of_outcomes(sheet, name, uncertain, problems) for name in columns}
    if problems:
        raise UserError(*problems)
    return Labels(pd.DataFrame(values, index=sheet.table.index), (task or "multilabel") if columns else None)


def candidates(sheet: Sheet, taken: Sequence[str]) -> list[str]:
    """Columns of nothing but 1, 0 and blanks, with both of the former: they could be labels."""
    free = [name for name in sheet.table.columns if name not in taken]
    return [name for name in free if {"0", "1"} <= {*sheet.table[name].unique()} <= {"0", "1", ""}]


def _outcome(sheet: Sheet, name: str) -> np.ndarray:
    """Which cells are 1, 0, -1 or blank, bool (N,)."""
    code, values = pd.factorize(sheet.table[name])
    return np.array([value.lower() in _OUTCOMES or value in _DOUBTS for value in values], bool)[code]


def _of_outcomes(sheet: Sheet, name: str, uncertain: str | None, problems: list[str]) -> np.ndarray:
    """1, 0 and NaN; what is wrong with the column is added to the problems."""
    wrong = np.flatnonzero(~_outcome(sheet, name))
    code, values = pd.factorize(sheet.table[name])  # a look at each different value instead of each cell
    doubtful = np.isin(values, _DOUBTS)[code]
    if len(wrong):
        said = sheet.table[name].iloc[wrong[0]]
        problems.append(f"{sheet.where(wrong[0])}: the label {name!r} is {said!r}; write 1, 0 or leave it empty.")
    if doubtful.any() and uncertain is None:
        problems.append(
            f"{sheet.where(int(doubtful.argmax()))}: the label {name!r} is -1, uncertain, in {doubtful.sum()} films; "
            "say what it counts as with the option uncertain: ones, zeros or ignore."
        )
    outcome = np.array([_OUTCOMES.get(value.lower(), np.nan) for value in values])[code]
    return np.where(doubtful, UNCERTAIN[uncertain or "ignore"], outcome)


def _of_names(sheet: Sheet, name: str, task: Task | None) -> Labels:
    """Classes by their names; or findings, where cells list several."""
    text = sheet.table[name]
    mark = next((mark for mark in _MARKS if text.str.contains(mark, regex=False).any()), "")
    lists = bool(mark) and task != "multiclass"
    if lists:
        text = text.str.replace(rf"\s*[{mark}]\s*", mark, regex=True)
    each = text.str.split(mark).explode() if lists else text
    classes = each[each != ""].unique().tolist()
    problem = (None if lists else _misread(sheet, name, classes, task)) or _unfit(sheet, name, classes)
    if problem:
        raise UserError(problem)
    ordered = sorted(classes, key=int if all(value.isdecimal() for value in classes) else str)
    holds = text.str.get_dummies(mark) if lists else pd.DataFrame({one: text == one for one in ordered})
    labels = holds[ordered].astype(float)
    labels[text == ""] = np.nan
    return Labels(labels, "multilabel" if lists else "multiclass")


def _misread(sheet: Sheet, name: str, classes: list[str], task: Task | None) -> str | None:
    """Says which value is no outcome, if the column was meant to hold some, or no class."""
    text, numeric = sheet.table[name], all(value.isdecimal() for value in classes)
    if task == "multilabel" or (task is None and text.isin(["0", "1"]).any() and not numeric):
        row = int((~_outcome(sheet, name)).argmax())
        meant = "" if task else ", or, if these are names of classes, set task to multiclass"
        return f"{sheet.where(row)}: the label {name!r} is {text[row]!r}; write 1, 0 or leave it empty{meant}."
    if text.isin(_DOUBTS).any():
        row = int(text.isin(_DOUBTS).to_numpy().argmax())
        return f"{sheet.where(row)}: the class {name!r} is {text[row]!r}; leave it empty where it is unknown."
    return None


def _unfit(sheet: Sheet, name: str, classes: list[str]) -> str | None:
    """Says why these cannot be names of classes, if they cannot."""
    lower = {value.lower(): value for value in classes}
    reserved = [value for value in classes if value in RESERVED]
    twice = [value for value in classes if lower[value.lower()] != value]
    if reserved:
        return _cannot(sheet, "class", reserved[0])
    if twice:
        other = lower[twice[0].lower()]
        return f"{sheet.path}: the classes {twice[0]!r} and {other!r} of {name!r} differ only in case."
    if not 2 <= len(classes) <= _MOST:
        said = f"one value alone, {classes[0]!r}" if len(classes) == 1 else f"{len(classes)} different values"
        return f"{sheet.path}: the label {name!r} has {said if classes else 'no value'}; classes are 2 to {_MOST}."
    return None


def _cannot(sheet: Sheet, what: str, name: str) -> str:
    return f"{sheet.path}: a label's {what} cannot be called {name!r}, which has a meaning of its own; rename it."
