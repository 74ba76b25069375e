"""Shards under way: films appended one after the other, so that a killed process loses seconds of work and no more.

A journal says which films are in. It is never ahead of them: pixels reach the disk first. Whatever lies behind its
last whole line is cut off when the work goes on, so that the shards come out as if nothing had happened.
"""

from __future__ import annotations

import csv
import io
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xrayssl.data.store import PLACE, UNSEEN, shard_name
from xrayssl.errors import UserError

JOURNAL = "journal.csv"
SHARD_BYTES = 256 << 20
"""A shard ends before it would outgrow this; what a network drive copies in one go."""
SECONDS = 1.0
"""Work that a killed process may lose."""
_TEXT = ("sha256", "pixels_sha256", "problem")
_SPACING = ("spacing_row", "spacing_column")
_FIELDS = ["row", *PLACE, "sha256", *UNSEEN, "problem"]


@dataclass(frozen=True)
class PreparedFilm:
    """One film as it goes into a store, or why it cannot.

    Args:
        pixels: uint8 or uint16 (H, W), contiguous; None if the film could not be read.
        facts: Values for the columns sha256 and `store.UNSEEN`; a spacing that is not known is left out.
        problem: Why there are no pixels.
    """

    pixels: np.ndarray | None
    facts: dict[str, Any]
    problem: str = ""


class Shards:
    """Appends films to the shards of a folder, going on where an earlier process was.

    Args:
        folder: Of the shards and their journal.
        dtype: "uint8" or "uint16".

    Raises:
        UserError: If the shards are shorter than their journal says.
    """

    def __init__(self, folder: Path, dtype: str) -> None:
        self.folder, self.itemsize = folder, np.dtype(dtype).itemsize
        self.films = self.aside = 0
        self._shard = self._end = 0
        self._journal = (folder / JOURNAL).open("r+b" if (folder / JOURNAL).exists() else "w+b")
        self._pending: list[bytes] = []
        self._committed = time.monotonic()
        self._go_on()
        self._file = self._cut()

    def add(self, film: PreparedFilm) -> None:
        """Appends the next film."""
        place = [-1, 0, 0, 0]
        if film.pixels is not None:
            place = [*self._room(film.pixels.nbytes), *film.pixels.shape]
            self._file.write(film.pixels.data)
            self._end += film.pixels.nbytes
        facts = [film.facts.get(name, "") for name in _FIELDS[5:-1]]
        self._pending.append(_line([self.films, *place, *facts, " ".join(film.problem.split())]))
        self.films += 1
        self.aside += film.pixels is None
        if time.monotonic() - self._committed > SECONDS:
            self.commit()

    def commit(self) -> None:
        """Brings everything so far to the disk: first the pixels, then the lines about them."""
        _sync(self._file)
        self._journal.write(b"".join(self._pending))
        _sync(self._journal)
        self._pending = []
        self._committed = time.monotonic()

    def close(self) -> None:
        """Lets the files go; films that are not committed are made again next time."""
        self._file.close()
        self._journal.close()

    def _room(self, size: int) -> tuple[int, int]:
        if self._end and self._end + size > SHARD_BYTES:
            _sync(self._file)
            self._file.close()
            self._shard, self._end = self._shard + 1, 0
            self._file = (self.folder / shard_name(self._shard)).open("w+b")
        return self._shard, self._end

    def _go_on(self) -> None:
        """Reads the journal up to its last whole line."""
        whole = 0
        for line in self._journal:
            values = _values(line)
            if values is None or values[0] != str(self.films):
                break
            whole += len(line)
            shard, offset, height, width = map(int, values[1:5])
            self.films += 1
            self.aside += shard < 0
            if shard >= 0:
                self._shard, self._end = shard, offset + height * width * self.itemsize
        self._journal.seek(whole)
        self._journal.truncate()

    def _cut(self) -> io.BufferedRandom:
        path = self.folder / shard_name(self._shard)
        file = path.open("r+b" if path.exists() else "w+b")
        if path.stat().st_size < self._end:
            file.close()
            self._journal.close()
            raise UserError(f"{path}: its end is missing; delete {self.folder} and start anew.")
        file.truncate(self._end)
        file.seek(self._end)
        for later in self.folder.glob("shard-*.bin"):  # begun, but not in the journal; it may not be needed any more
            if later.name > path.name:
                later.unlink()
        return file


def read_journal(folder: Path) -> pd.DataFrame:
    """The lines of a finished journal, one row per film."""
    kinds = {**dict.fromkeys(_FIELDS, "int64"), **dict.fromkeys(_TEXT, "str"), **dict.fromkeys(_SPACING, "float64")}
    return pd.read_csv(
        folder / JOURNAL,
        names=[*_FIELDS, "crc"],
        usecols=_FIELDS,
        index_col="row",
        dtype=kinds,
        keep_default_na=False,
        na_values={name: [""] for name in _SPACING},
    )


def _line(values: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    line = text.getvalue().encode()
    return line + b",%d\n" % zlib.crc32(line)


def _values(line: bytes) -> list[str] | None:
    """Those of a whole line; None for one that a dying machine left behind."""
    content, _, crc = line.rpartition(b",")
    if crc != b"%d\n" % zlib.crc32(content):
        return None
    return next(csv.reader([content.decode()]))


def _sync(file: io.BufferedWriter | io.BufferedRandom) -> None:
    file.flush()
    os.fsync(file.fileno())
