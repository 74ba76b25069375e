"""What lies in corpora, film by film: whether it can be read, its size and depth, its checksum, and a thumbnail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from xrayssl.data.check.duplicates import SIDE, thumbnail
from xrayssl.data.corpora import gather
from xrayssl.data.exclusion import exclude
from xrayssl.data.folds import understood
from xrayssl.data.manifest import COLUMNS, Manifest
from xrayssl.data.parallel import in_order
from xrayssl.data.radiograph import Radiograph, Window, read, window
from xrayssl.data.split import assign
from xrayssl.data.store import PLACE, StoredFilms
from xrayssl.errors import UserError, refuse

TEXT = ["store", "dtype", "sha256"]
SOURCE = ["path", *TEXT, *PLACE]
"""Columns that tell where a film's pixels are."""
FACTS = ["problem", "film_height", "film_width", "bits", "spacing", "checksum"]


@dataclass(frozen=True)
class Corpora:
    """Films of one or more corpora.

    Args:
        table: Those of all manifests, one below the other; a label that a corpus does not know is NaN.
        classes: Of each corpus.
        boxes: Of all films, or None.
    """

    table: pd.DataFrame
    classes: dict[str, list[str]]
    boxes: pd.DataFrame | None = None


@dataclass(frozen=True)
class View:
    """How films are read.

    Args:
        window: As --data.window has it.
        limits: As --data.limits has it.
        first_frame: As --data.first_frame has it.

    Raises:
        UserError: If the limits are no percentiles, as training would say, too.
    """

    window: Window = "voi"
    limits: tuple[float, float] = (0.0, 100.0)
    first_frame: bool = False

    def __post_init__(self) -> None:
        low, high = self.limits
        if not 0 <= low < high <= 100:
            raise UserError(f"--data.limits must be percentiles, 0 <= low < high <= 100, not {self.limits}.")


class Seen(NamedTuple):
    """What one film turned out to be.

    Args:
        problem: Why it cannot be read, or "".
        height: In pixels.
        width: In pixels.
        bits: Of its grey scale, as the file stores it.
        spacing: Of rows, in mm per pixel; NaN where the file does not say.
        checksum: SHA-256 of the file.
        thumbnail: uint8 (64, 64), or None.
    """

    problem: str
    height: int = 0
    width: int = 0
    bits: int = 0
    spacing: float = np.nan
    checksum: str = ""
    thumbnail: np.ndarray | None = None


def opened(corpora: Mapping[str, Any], arguments: Mapping[str, Any]) -> Corpora:
    """Reads corpora and splits each as training would, but keeps the labels of all, whatever their tasks.

    Args:
        corpora: As `gather` takes them.
        arguments: Of the data module: val, test, split_seed, fold and exclude.

    Raises:
        UserError: If a corpus, or a list of films to leave out, is not as it should be.
    """
    fold, unclear = understood(arguments.get("fold"))
    refuse(unclear)
    shares = arguments["val"], arguments["test"], arguments["split_seed"]
    manifests = [assign(manifest, *shares, fold) for manifest in gather(corpora)]
    table = together([manifest.table for manifest in manifests])
    bare = table[[*COLUMNS, *table.columns.intersection(["sha256"])]].fillna("").assign(row=np.arange(len(table)))
    kept = exclude(Manifest(bare), arguments["exclude"] or []).table["row"].to_numpy()
    boxes = [manifest.boxes for manifest in manifests if manifest.boxes is not None]
    classes = {name: manifest.classes for name, manifest in zip(corpora, manifests, strict=True)}
    return Corpora(table.loc[kept].reset_index(drop=True), classes, pd.concat(boxes) if boxes else None)


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of films one below the other; those of raw files are in no store, "", at place 0."""
    table = pd.concat(tables, ignore_index=True)
    text, places = table[table.columns.intersection(TEXT)], table[table.columns.intersection(PLACE)]
    return table.assign(**text.fillna(""), **places.fillna(0).astype(np.int64))


def survey(table: pd.DataFrame, view: View, workers: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Reads every film once, in parallel.

    Args:
        table: Of a manifest.
        view: How to read them.
        workers: Processes.

    Returns:
        The table with the columns of FACTS, and uint8 thumbnails (N, 64, 64), black where a film cannot be read.
    """
    thumbnails_NHW, facts = np.zeros((len(table), SIDE, SIDE), np.uint8), []
    for row, film in enumerate(in_order(partial(seen, view), sources(table), workers, "check")):
        facts.append(film[:-1])
        if film.thumbnail is not None:
            thumbnails_NHW[row] = film.thumbnail
    return table.assign(**pd.DataFrame(facts, columns=FACTS, index=table.index)), thumbnails_NHW


def sources(table: pd.DataFrame) -> Sequence[dict[str, Any]]:
    """Where the pixels of each film are, as small items for parallel processes."""
    places = table[table.columns.intersection(SOURCE)]
    return [dict(zip(places.columns, row, strict=True)) for row in places.itertuples(index=False, name=None)]


def seen(view: View, source: Mapping[str, Any]) -> Seen:
    """Looks at one film."""
    try:
        film = pixels(view, source)
    except UserError as error:
        return Seen(str(error))
    checksum = source["sha256"] if source.get("store") else _checksum(source["path"])
    spacing = film.spacing[0] if film.spacing else np.nan
    height, width = film.pixels.shape
    bits = film.stored_bits or film.bits
    return Seen("", height, width, bits, spacing, checksum, thumbnail(window(film, view.window, view.limits)))


def pixels(view: View, source: Mapping[str, Any]) -> Radiograph:
    """Reads a film from its file, or from its store, where it has been windowed already.

    Raises:
        UserError: If it cannot be read.
    """
    if isinstance(source.get("store"), str) and source["store"]:
        stored = StoredFilms(pd.DataFrame([source])).pixels(0)
        if stored is not None:
            return Radiograph(stored, 8)
    return read(source["path"], voi=view.window == "voi", first_frame=view.first_frame)


def _checksum(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
