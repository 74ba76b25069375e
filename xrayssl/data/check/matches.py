"""Which films belong together that should be apart: copies, and patients, in more than one split or stage."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xrayssl.data.check.duplicates import look_alikes

LATER = "later test"
"""The split of films that another stage is tested on."""
GUARDED = {"": 0, "train": 0, "val": 1, "test": 2, LATER: 3}
"""Splits by how much it harms if their films are learned from; of two copies the one that is guarded less has to go."""
PAIR = ["first", "second", "how", "similarity"]
"""Two row numbers, what joins them ("same file", "look-alike", "mirrored", "inverted", ...), and how closely, 0-1."""


def copies(table: pd.DataFrame, thumbnails_NHW: np.ndarray, workers: int) -> pd.DataFrame:
    """Finds the films that are copies of another, by checksum and by sight.

    Args:
        table: As `survey` makes it.
        thumbnails_NHW: Of its films, uint8 (N, 64, 64).
        workers: Processes.

    Returns:
        The columns of PAIR; of files that are the same, each with the first.
    """
    checksums = table["checksum"].reset_index(drop=True)
    known = checksums[checksums != ""]
    first = pd.Series(known.index, known).groupby(level=0).first()
    again = known[known.duplicated()]
    equal = list(zip(first[again], again.index, ["same file"] * len(again), [1.0] * len(again), strict=True))
    shows = np.ptp(thumbnails_NHW, axis=(1, 2)) > 0
    single = np.array([row for row in first.sort_values() if shows[row]], int)
    pairs = look_alikes(thumbnails_NHW if len(single) == len(table) else thumbnails_NHW[single], workers)
    alike = [(single[a], single[b], how or "look-alike", round(similarity, 3)) for a, b, similarity, how in pairs]
    return pd.DataFrame([*equal, *alike], columns=PAIR)


def leaks(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Finds the films that are learned from although a copy of them, or their patient, is kept to measure by.

    Args:
        table: With the columns patient and split.
        pairs: As `copies` finds them.

    Returns:
        The columns of PAIR; first is the film that has to go, second the best guarded of its copies.
    """
    guard = table["split"].map(GUARDED).to_numpy(int)
    group = _groups(len(table), pairs)
    order = np.lexsort((np.arange(len(table)), -guard, group))
    best = order[np.searchsorted(group[order], np.arange(group.max(initial=-1) + 1))][group]
    first = np.flatnonzero((guard < GUARDED["test"]) & (guard < guard[best]))
    direct = {tuple(sorted(pair[:2])): pair[2:] for pair in pairs[PAIR].itertuples(index=False, name=None)}
    found = [
        (row, best[row], *direct.get(tuple(sorted((row, best[row]))), ("copy of a copy", np.nan))) for row in first
    ]
    learned = guard < GUARDED["test"]
    later = table[table["split"] == LATER].drop_duplicates("patient")
    row_of = pd.Series(later.index, later["patient"])
    patients = table["patient"]
    known = np.flatnonzero(learned & patients.isin(row_of.index).to_numpy() & (guard >= guard[best]))
    found += [(row, row_of[patients.iloc[row]], "same patient", np.nan) for row in known]
    return pd.DataFrame(found, columns=PAIR)


def described(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The same pairs with names in place of row numbers, the closest first."""
    pairs = pairs.sort_values("similarity", ascending=False, kind="stable")
    one, other = table.iloc[pairs["first"].to_numpy(int)], table.iloc[pairs["second"].to_numpy(int)]
    columns = {"film": one["path"], "split": one["split"], "other": other["path"], "other_split": other["split"]}
    same = one["patient"].to_numpy() == other["patient"].to_numpy()
    values = {name: column.to_numpy() for name, column in columns.items()}
    return pd.DataFrame({**values, "how": pairs["how"].to_numpy(), "similarity": pairs["similarity"].to_numpy(),
                         "same_patient": same})  # fmt: skip


def to_leave_out(table: pd.DataFrame, leaks: pd.DataFrame) -> pd.DataFrame:
    """The films that must not be learned from, as a list that --data.exclude takes: columns path and reason."""
    told = described(table, leaks)
    return pd.DataFrame({"path": told["film"], "reason": told["how"] + " in " + told["other_split"]})


def _groups(films: int, pairs: pd.DataFrame) -> np.ndarray:
    """Number of the group of copies that each film is in, int (N,)."""
    group = np.arange(films)
    for first, second in zip(pairs["first"], pairs["second"], strict=True):
        group[group == group[second]] = group[first]
    return np.unique(group, return_inverse=True)[1]
