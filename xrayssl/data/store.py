"""The store: a corpus read, windowed and resized once, in memory-mapped shards with an index beside them.

A folder with store.json (what it was made from, and how), index.parquet (the corpus's manifest and each film's place),
boxes.parquet if the corpus has boxes, shard-00000.bin and so on (bare pixels, row by row), and quarantine.csv (films
that could not be read, and why). `xrayssl prepare` writes it; `--data.corpora.NAME FOLDER` reads it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

VERSION = 1
FACTS, INDEX, BOXES, QUARANTINE = "store.json", "index.parquet", "boxes.parquet", "quarantine.csv"
PLACE = ["shard", "offset", "height", "width"]
"""Where a film lies: number of the shard (-1: set aside as unreadable), first byte, and sides in pixels."""
UNSEEN = ["pixels_sha256", "film_bytes", "film_height", "film_width", "crop_top", "crop_left", "crop_height",
          "crop_width", "spacing_row", "spacing_column"]  # fmt: skip
"""Columns of the index that no manifest needs."""


def is_store(root: object) -> bool:
    """Whether a folder is a finished store."""
    return isinstance(root, str | Path) and (Path(root).expanduser() / FACTS).is_file()


def shard_name(number: int) -> str:
    """File of a shard."""
    return f"shard-{number:05d}.bin"


def facts(root: Path) -> dict[str, Any]:
    """What a store says about itself.

    Raises:
        UserError: If that cannot be read, or was written by another version.
    """
    try:
        known = json.loads((root / FACTS).read_text(encoding="utf-8"))
        version = known["version"]
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{root}: this is no store, or its {FACTS} is damaged.") from None
    if version != VERSION:
        raise UserError(f"{root}: a store of version {version}, not {VERSION}; make it anew with `xrayssl prepare`.")
    return dict(known)


def manifest(root: str | Path, corpus: str, options: Mapping[str, Any]) -> Manifest:
    """Opens a store in place of the corpus's own files.

    Args:
        root: Of the store.
        corpus: Under whose name it is opened.
        options: Of the corpus, of which there must be none: labels were settled when the store was made.

    Returns:
        The corpus's manifest as it gave it, with the places of the films.

    Raises:
        UserError: If it is a store of another corpus, options are given, or a part of it is missing or has changed.
    """
    root = Path(root).expanduser().absolute()
    known = facts(root)
    problems = [*_misused(root, known, corpus, options), *missing(root, known)]
    problems = problems or changed(root, known, (INDEX, BOXES))
    if problems:
        raise UserError(*problems)
    seen = [name for name in pq.read_schema(root / INDEX).names if name not in UNSEEN]
    table = pd.read_parquet(root / INDEX, columns=seen).assign(store=str(root), dtype=known["dtype"])
    boxes = pd.read_parquet(root / BOXES) if known["boxes"] else None
    return Manifest(table, known["classes"], known["task"], boxes, known["score"])


def _misused(root: Path, known: dict[str, Any], corpus: str, options: Mapping[str, Any]) -> list[str]:
    problems = []
    if known["corpus"] != corpus:
        name = known["corpus"]
        problems.append(f"{root}: this is a store of the corpus {name!r}; open it with --data.corpora.{name} {root}.")
    if options:
        problems.append(
            f"{root}: the options of the corpus {corpus!r} were settled when this store was made; leave out "
            f"{', '.join(options)}, or make another store."
        )
    return problems


def missing(root: Path, known: dict[str, Any]) -> list[str]:
    """A sentence for each part of a store that is not there, or not as long as it was."""
    problems = []
    parts = [INDEX, *([BOXES] if known["boxes"] else [])]
    sizes = {**dict.fromkeys(parts), **{shard_name(i): size for i, size in enumerate(known["shards"])}}
    for name, size in sizes.items():
        path = root / name
        if not path.is_file():
            problems.append(f"{path}: this part of the store is missing.")
        elif size is not None and path.stat().st_size != size:
            problems.append(f"{path}: this part of the store has {path.stat().st_size:,} bytes, not {size:,}.")
    return problems


def changed(root: Path, known: dict[str, Any], names: Sequence[str]) -> list[str]:
    """A sentence for each of these parts that is there and has another checksum than it had."""
    sums = known["checksums"]
    return [
        f"{root / name}: this part of the store has changed."
        for name in names
        if name in sums and (root / name).is_file() and file_sha256(root / name) != sums[name]
    ]


def file_sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def readable(manifest: Manifest) -> Manifest:
    """Leaves out films that could not be read when their store was made; split first, or they would change the draw."""
    if "shard" not in manifest.table:
        return manifest
    aside = manifest.table["shard"].fillna(0) < 0
    return manifest.keep(~aside.to_numpy()) if aside.any() else manifest


def other_windows(manifest: Manifest, window: str, limits: Sequence[float]) -> list[str]:
    """A sentence for each store among the corpora that was windowed in another way than is asked for."""
    problems = []
    for root in _roots(manifest):
        known = facts(Path(root))
        if (known["window"], known["limits"]) != (window, list(limits)):
            problems.append(
                f"{root}: this store was made with --data.window {known['window']} --data.limits {known['limits']}, "
                f"not {window} {list(limits)}; repeat its own here, or make another store."
            )
    return problems


def too_small(manifest: Manifest, side: int) -> list[str]:
    """A sentence for each store among the corpora whose films would be enlarged to this short side in pixels."""
    known = {root: facts(Path(root))["size"] for root in _roots(manifest)}
    return [
        f"{root}: this store keeps {size} pixels of the short side, and the network is fed {side}: its films are "
        f"enlarged. Make another with `xrayssl prepare --size {side}` or more."
        for root, size in known.items()
        if size < side
    ]


def _roots(manifest: Manifest) -> list[str]:
    stored = manifest.table["store"] if "store" in manifest.table else pd.Series([], dtype=str)
    return [root for root in stored.dropna().unique() if root]


class StoredFilms:
    """Pixels of a manifest's films that lie in stores. Shards are mapped when first needed, once per process.

    Args:
        table: Of a manifest; rows without a store, or a table without these columns, have no pixels here.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        stored = table.reindex(columns=["store", "dtype", *PLACE])
        code, roots = pd.factorize(stored["store"].where(stored["store"] != ""))
        self.roots = [str(root) for root in roots]
        deep = (stored["dtype"] == "uint16").to_numpy()
        place = stored[PLACE].fillna(0).to_numpy(np.int64)
        self.places = np.column_stack([code, deep, place]).astype(np.int64) if self.roots else None
        self._shards: dict[tuple[int, int], np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}

    def pixels(self, row: int) -> np.ndarray | None:
        """One film.

        Args:
            row: Of the manifest.

        Returns:
            uint8 (H, W), not to be written to; None if the film is in no store.

        Raises:
            UserError: If it was set aside when its store was made, or the store has lost it.
        """
        if self.places is None:
            return None
        root, deep, shard, offset, height, width = self.places[row].tolist()
        if root < 0:
            return None
        data = self._shards.get((root, shard))
        if data is None:
            data = self._shards[root, shard] = self._map(root, shard)
        film = data[offset : offset + (height * width << deep)]
        if film.size != height * width << deep:
            raise UserError(f"{self.roots[root]}: {shard_name(shard)} has lost its end; `xrayssl prepare --verify` it.")
        if not deep:
            return film.reshape(height, width)
        return cv2.convertScaleAbs(film.view(np.uint16).reshape(height, width), alpha=1 / 257)  # 65535 = 257 * 255

    def _map(self, root: int, shard: int) -> np.ndarray:
        folder = Path(self.roots[root])
        if shard < 0:
            raise UserError(f"{folder / QUARANTINE} lists this film, and why it could not be read.")
        try:
            with (folder / shard_name(shard)).open("rb") as file:
                return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise UserError(f"{folder}: {shard_name(shard)} cannot be opened ({error}).") from None
