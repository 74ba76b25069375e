"""Whether a store is what it was when it was made, and whether its raw files still are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from xrayssl.data import store
from xrayssl.data.corpora import gather
from xrayssl.data.parallel import in_order
from xrayssl.data.prepare.preparation import fingerprint
from xrayssl.data.store import file_sha256
from xrayssl.errors import UserError

SHOWN = 5
"""Films that are named; of the others there is a count."""


@dataclass
class Finding:
    """What a check of a store found.

    Args:
        sentence: The result in a line.
        problems: A sentence each.
    """

    sentence: str = ""
    problems: list[str] = field(default_factory=list)


class Film(NamedTuple):
    """What the index says of a film."""

    path: str
    shard: int
    offset: int
    height: int
    width: int
    pixels_sha256: str
    sha256: str


class Verdict(NamedTuple):
    """What became of a film: its stored pixels are as they were; its raw file is there, and as it was."""

    whole: bool
    there: bool
    same: bool


def verify(root: Path, workers: int) -> Finding:
    """Checks every checksum of a store, and of the raw files that are there.

    Args:
        root: Of the store.
        workers: Processes that read.

    Raises:
        UserError: If the folder is no store.
    """
    known = store.facts(root)
    problems = _parts(root, known)
    if problems:  # without these the films cannot be found
        return Finding(f"{root}: damaged.", problems)
    index = pd.read_parquet(root / store.INDEX)
    films = [Film(*row) for row in index[list(Film._fields)].itertuples(index=False)]
    dtype = np.dtype(known["dtype"])
    verdicts = list(in_order(partial(_check, root, dtype.itemsize), films, workers, f"Verifying {known['corpus']}"))
    damaged = [film.path for film, verdict in zip(films, verdicts, strict=True) if not verdict.whole]
    stale = [film.path for film, verdict in zip(films, verdicts, strict=True) if verdict.there and not verdict.same]
    problems += _named(root, damaged, "stored films are not what they were; make the store anew")
    problems += _named(root, stale, "raw files have changed since the store was made; make the store anew")
    problems += _moved_on(root, known)
    raw = sum(verdict.there for verdict in verdicts)
    state = f"{len(films):,} films checked, {len(damaged)} damaged; {raw:,} raw files are here, {len(stale)} changed."
    return Finding(f"{root}: {state}", problems)


def _parts(root: Path, known: dict[str, Any]) -> list[str]:
    return store.missing(root, known) + store.changed(root, known, list(known["checksums"]))


def _check(root: Path, itemsize: int, film: Film) -> Verdict:
    whole = True
    if film.shard >= 0:
        with (root / store.shard_name(film.shard)).open("rb") as file:
            file.seek(film.offset)
            pixels = file.read(film.height * film.width * itemsize)
        whole = hashlib.sha256(pixels).hexdigest() == film.pixels_sha256
    raw = Path(film.path)
    if not film.sha256 or not raw.is_file():
        return Verdict(whole, raw.is_file(), not film.sha256)
    return Verdict(whole, True, file_sha256(raw) == film.sha256)


def _named(root: Path, films: list[str], what: str) -> list[str]:
    if not films:
        return []
    more = f" and {len(films) - SHOWN} more" if len(films) > SHOWN else ""
    return [f"{root}: {len(films)} {what}: {', '.join(films[:SHOWN])}{more}."]


def _moved_on(root: Path, known: dict[str, Any]) -> list[str]:
    """Whether the corpus, where it is still there, lists other films, labels or splits by now."""
    if known["root"] is None or not Path(known["root"]).exists():
        return []
    try:
        (manifest,) = gather({known["corpus"]: {"root": known["root"], **known["options"]}})
    except UserError as error:
        return [f"{root}: its corpus cannot be read any more: {error}"]
    if fingerprint(manifest) == known["manifest"]:
        return []
    return [f"{root}: the films, labels or splits of {known['root']} have changed since; make the store anew."]
