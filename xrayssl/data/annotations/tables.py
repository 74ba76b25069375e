"""Tables of corpora: read from CSV as text or refused by name, and reduced to the films that are here and wanted."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.errors import UserError

log = logging.getLogger(__name__)


def read_csv(
    path: Path,
    columns: Sequence[str],
    also: Sequence[str] | None = None,
    blank: Sequence[str] = (),
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Reads a table; every value is text.

    Args:
        path: Of the CSV, or of a compressed one (`.csv.gz`). Header and rows may end in empty columns, and rows may be
            longer than the header.
        columns: That must be there, with a value in every row.
        also: Further columns to read where they are there; None reads all.
        blank: Columns that must be there, too, and may be empty.
        names: Of the columns, of a table without a header.

    Raises:
        UserError: If the file is missing, empty or no CSV, or a column or value is missing.
    """
    wanted = None if also is None else {*columns, *blank, *also}
    try:
        table = pd.read_csv(path, dtype=str, index_col=False, encoding="utf-8-sig", keep_default_na=False,
                            usecols=lambda name: name in wanted if wanted else not str(name).startswith("Unnamed"),
                            header="infer" if names is None else None,
                            names=None if names is None else list(names))  # fmt: skip
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such table.") from None
    except IndexError:  # pandas, where a table without a header has more columns than names
        raise UserError(f"{path}: its lines have more than {len(names or ())} cells.") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the table cannot be read ({str(error).strip().rstrip('.')}).") from None
    missing = [f"{path}: the column {name!r} is missing." for name in (*columns, *blank) if name not in table]
    if missing or table.empty:
        raise UserError(*missing or [f"{path}: the table has no rows."])
    return _complete(path, table, columns, 2 if names is None else 1)


def _complete(path: Path, table: pd.DataFrame, columns: Sequence[str], first: int) -> pd.DataFrame:
    for name in table.columns:
        table[name] = table[name].fillna("").str.strip()
    for name in columns:
        blank = table.index[table[name] == ""]
        if len(blank):
            raise UserError(f"{path}: the column {name!r} is empty in line {blank[0] + first}.")
    return table


def numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> pd.DataFrame:
    """Turns columns of text into numbers.

    Args:
        table: As `read_csv` gives it, whole: its index tells the line.
        columns: Of numbers.
        path: Of the table, for messages.

    Raises:
        UserError: If a value is no finite number.
    """
    table = table.copy()
    for name in columns:
        values = pd.to_numeric(table[name], errors="coerce").astype(float)
        wrong = values.index[values.isna() | values.abs().eq(float("inf"))]
        if len(wrong):
            text = table[name].loc[wrong[0]]
            raise UserError(f"{path}: the column {name!r} holds {text!r} in line {wrong[0] + 2}, which is no number.")
        table[name] = values
    return table


def films_here(table: pd.DataFrame, where: Path) -> pd.DataFrame:
    """The rows whose film (column path) is on the disk: many groups hold a part of a corpus.

    Args:
        table: A row per film.
        where: The table came from, for messages.

    Raises:
        UserError: If none is.
    """
    parts = np.array_split(table["path"].to_numpy(object), len(table) // 500 + 1)
    with ThreadPoolExecutor(16) as pool:  # on a network drive each look is mostly waiting
        found = np.concatenate(list(pool.map(_are_files, parts)))
    if not found.any():
        film = table["path"].iloc[0] if len(table) else "any"
        raise UserError(f"{where}: none of its {len(table)} films, such as {film}, is on the disk.")
    log.info("%s: %d of its %d films are here.", where, found.sum(), len(table))
    return table[found].reset_index(drop=True)


def _are_files(paths: np.ndarray) -> np.ndarray:
    return np.fromiter((os.path.isfile(path) for path in paths), bool, len(paths))


def of_views(
    table: pd.DataFrame, views: str | Sequence[str], frontal: Sequence[str], lateral: Sequence[str], where: Path
) -> pd.DataFrame:
    """The rows whose view (column view) is wanted.

    Args:
        table: A row per film.
        views: "frontal", "lateral", "all", or the views' names as the corpus writes them.
        frontal: Names that mean frontal.
        lateral: Names that mean lateral.
        where: The table came from, for messages.

    Raises:
        UserError: If a view is no view of this table.
    """
    if views == "all":
        return table
    known = {"frontal": frontal, "lateral": lateral}
    wanted = known.get(views, [views]) if isinstance(views, str) else list(views)
    there = sorted({*table["view"].unique()} - {""})
    foreign = [view for view in wanted if view not in {*there, *frontal, *lateral}]
    if foreign or not wanted:
        names = ", ".join(["frontal", "lateral", "all", *there])
        raise UserError(f"{where}: no film has the view {(foreign or ['none'])[0]!r}; views are {names}.")
    rows = table["view"].isin(wanted)
    if not rows.any():
        raise UserError(f"{where}: none of its {len(table)} films is of the views {', '.join(wanted)}.")
    log.info("%s: %d of %d films are of the views %s.", where, rows.sum(), len(table), ", ".join(wanted))
    return table[rows].reset_index(drop=True)
