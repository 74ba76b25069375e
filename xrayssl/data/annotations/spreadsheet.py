"""Tables as people have them: CSV with commas, semicolons or tabs, or parquet; as text, with the line of every row."""

from __future__ import annotations

import csv
import difflib
import gzip
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.errors import UserError

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".parquet", ".pq")
_BLANK = frozenset({"", "nan", "na", "n/a", "<na>", "nat", "null"})  # not "none", which may be a class


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Args:
        path: It was read from.
        table: Its rows, "" where a cell is blank; the index counts from 0.
        lines: Number of each row in the file.
        separator: Between the cells of a line; "" in parquet.
    """

    path: Path
    table: pd.DataFrame
    lines: np.ndarray
    separator: str = ","

    def where(self, row: int) -> str:
        """Names a row for a message."""
        return f"{self.path}, {'line' if self.separator else 'row'} {self.lines[row]}"

    def column(self, asked: str | None, usual: Sequence[str], option: str) -> str | None:
        """Finds a column: the one asked for ("" for none), or else the first of the usual names, whatever their case.

        Raises:
            UserError: If the column asked for is not there.
        """
        if asked == "":
            return None
        if asked is None:
            plain = {re.sub(r"[\s_-]+", "", str(name)).lower(): name for name in reversed(self.table.columns)}
            return next((plain[name] for name in usual if name in plain), None)
        if asked not in self.table:
            raise UserError(f"{self.path}: there is no column {asked!r} for {option}.{self.hint(asked)}")
        return asked

    def hint(self, name: str) -> str:
        """Tells which columns there are, the one that was meant first."""
        names = [str(column) for column in self.table.columns]
        lower = {column.lower(): column for column in reversed(names)}
        close = difflib.get_close_matches(str(name).lower(), lower, n=1)
        meant = f" Did you mean {lower[close[0]]!r}?" if close else ""
        return f"{meant} The columns are: {', '.join(names)}."


def read_sheet(path: Path) -> Sheet:
    """Reads a table whatever its separator.

    Args:
        path: Of a CSV (also `.tsv`, `.txt`, and compressed `.csv.gz`) or parquet file.

    Raises:
        UserError: If it is no such table, has no rows, or its lines do not fit its header.
    """
    if not path.name.lower().endswith(SUFFIXES):
        raise UserError(f"{path}: this is no CSV or parquet file; save the table as CSV (UTF-8).")
    try:
        separator = "" if path.suffix.lower() in (".parquet", ".pq") else _separator(path)
        table = _of_csv(path, separator) if separator else _of_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such table.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: the table is not UTF-8 text; save it as CSV (UTF-8).") from None
    except pd.errors.ParserWarning:
        raise UserError(
            f"{path}: lines have more cells than the header; quote text that holds {separator!r}."
        ) from None
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path}: the table cannot be read ({str(error).strip().rstrip('.')}).") from None
    return _tidy(path, table, separator)


def _separator(path: Path) -> str:
    with (
        gzip.open(path, "rt", encoding="utf-8-sig")
        if path.suffix.lower() == ".gz"
        else path.open(encoding="utf-8-sig") as file
    ):
        head = re.sub(r'"[^"]*"', "", file.readline())
    return max(",;\t|", key=head.count)


def _of_csv(path: Path, separator: str) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # cells behind the last column would be lost
        return pd.read_csv(path, sep=separator, dtype=str, index_col=False, encoding="utf-8-sig",
                           keep_default_na=False, skip_blank_lines=False, quoting=csv.QUOTE_MINIMAL)  # fmt: skip


def _of_parquet(path: Path) -> pd.DataFrame:
    table = pd.read_parquet(path)
    named = table.reset_index() if table.index.name else table.reset_index(drop=True)
    return named.set_axis([str(name) for name in named.columns], axis=1)


def _clean(column: pd.Series) -> pd.Series:
    """As text without spaces around, and "" for what means nothing."""
    code, values = pd.factorize(column)  # a look at each different value instead of each cell; -1 is blank
    text = [str(value).strip() for value in values.tolist()]
    if pd.api.types.is_float_dtype(column):  # whole numbers became fractions because a cell was blank
        text = [value.removesuffix(".0") for value in text]
    clean = ["" if value.lower() in _BLANK else value for value in text]
    return pd.Series(pd.array([*clean, ""], dtype="str").take(code))


def _tidy(path: Path, table: pd.DataFrame, separator: str) -> Sheet:
    table = table.loc[:, [not str(name).startswith("Unnamed:") for name in table.columns]]
    table = table.set_axis([str(name).strip() for name in table.columns], axis=1).apply(_clean)
    lines = np.flatnonzero((table != "").any(axis=1).to_numpy()) if table.size else np.empty(0, int)
    if not len(lines):
        raise UserError(f"{path}: the table has no rows.")
    return Sheet(path, table.iloc[lines].reset_index(drop=True), lines + (2 if separator else 1), separator)
