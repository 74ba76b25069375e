"""CSV tables of corpora: as text, with the columns that are needed, or an error that names the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xrayssl.errors import UserError


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Reads a table; every value is text.

    Args:
        path: Of the CSV. Header and rows may end in empty columns, and rows may be longer than the header.
        columns: That must be there, with a value in every row.

    Raises:
        UserError: If the file is missing, empty or no CSV, or a column or value is missing.
    """
    try:
        table = pd.read_csv(path, dtype=str, index_col=False, encoding="utf-8-sig", keep_default_na=False,
                            usecols=lambda name: not name.startswith("Unnamed"))  # fmt: skip
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such table.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the table cannot be read ({str(error).strip().rstrip('.')}).") from None
    missing = [f"{path}: the column {name!r} is missing." for name in columns if name not in table.columns]
    if missing or table.empty:
        raise UserError(*missing or [f"{path}: the table has no rows."])
    return _complete(path, table, columns)


def _complete(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    for name in columns:
        table[name] = table[name].fillna("").str.strip()
        blank = table.index[table[name] == ""]
        if len(blank):
            raise UserError(f"{path}: the column {name!r} is empty in line {blank[0] + 2}.")
    return table
