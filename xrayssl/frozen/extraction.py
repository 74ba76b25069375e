"""Features of a manifest's films by a frozen backbone, those known from earlier calls from the disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import xrayssl
from xrayssl import hardware
from xrayssl.callbacks.frozen import some
from xrayssl.data import XrayDataModule
from xrayssl.data.parallel import Progress
from xrayssl.data.store import FACTS, PLACE
from xrayssl.errors import UserError
from xrayssl.features import Pool, check_pool, pooled, settle
from xrayssl.frozen.cache import FeatureCache, Known
from xrayssl.frozen.sources import Source

log = logging.getLogger(__name__)
STATISTICS = 1024  # films from which an untrained CNN's running statistics are measured


@dataclass(frozen=True)
class Features:
    """Features of films.

    Args:
        rows: Of the manifest, ascending: those asked for, less the films that were set aside as unreadable.
        feature_ND: Float32, a row each.
        computed: How many of them were not on the disk.
    """

    rows: np.ndarray
    feature_ND: Tensor
    computed: int

    def of(self, rows: np.ndarray) -> Features:
        """Those of some of the rows, where there are any."""
        kept = np.isin(self.rows, rows)
        return Features(self.rows[kept], self.feature_ND[torch.from_numpy(kept)], 0)


class Extraction:
    """The way from films to features, the same for every backbone.

    Args:
        data: The films.
        pool: What of a backbone's output is a film's feature.
        cache: Features of earlier calls. What is found there was computed at the same precision.
    """

    def __init__(self, data: XrayDataModule, pool: Pool, cache: FeatureCache) -> None:
        self.data, self.pool, self.cache = data, pool, cache
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = hardware.precision("auto" if self.device.type == "cuda" else "cpu")

    def __call__(self, source: Source, rows: np.ndarray) -> Features:
        """Features of films as they are measured: their central cut.

        Args:
            source: Of the backbone.
            rows: Of the manifest, ascending.

        Raises:
            UserError: If a film cannot be read, or the backbone has not what is pooled.
            KeyboardInterrupt: With a sentence saying what is kept.
        """
        check_pool(source.backbone, self.pool)
        statistics = self._statistics() if source.untrained else np.empty(0, np.int64)
        films = dict(zip(rows.tolist(), digests(self.data.manifest.table, rows), strict=True))
        key = self._key(source, statistics)
        known = self.cache.read(key)
        place = {film: number for number, film in enumerate(known.films)}
        missing = np.array([row for row, film in films.items() if film not in place], np.int64)
        found = dict(self._computed(source, missing, statistics, key, known, films)) if len(missing) else {}
        there = np.array([row for row, film in films.items() if film in place or row in found], np.int64)
        vectors = [found[row] if row in found else known.feature_ND[place[films[row]]] for row in there.tolist()]
        return Features(there, torch.stack(vectors) if vectors else torch.empty(0, source.backbone.width), len(found))

    def _computed(
        self,
        source: Source,
        rows: np.ndarray,
        statistics: np.ndarray,
        key: dict[str, Any],
        known: Known,
        films: dict[int, bytes],
    ) -> dict[int, Tensor]:
        """Features by row, which are kept on the disk too, also where the work is interrupted."""
        found: dict[int, Tensor] = {}
        try:
            with self._ready(source, statistics):
                for part_B, feature_BD in self._batches(source, rows):
                    found.update(zip(part_B.tolist(), feature_BD, strict=True))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; the features of {len(found):,} of {len(rows):,} films are kept, and the same command "
                "goes on from there."
                if self.cache.folder
                else "interrupted; nothing is kept."
            ) from None
        finally:
            if found:
                new_ND = torch.stack(list(found.values()))
                both_ND = torch.cat([known.feature_ND, new_ND]) if len(known.films) else new_ND
                self.cache.write(key, Known([*known.films, *(films[row] for row in found)], both_ND))
        return found

    def _ready(self, source: Source, statistics: np.ndarray) -> torch.autocast:
        """Puts the backbone where it runs, with the statistics it lacks."""
        source.backbone.to(self.device)
        quickly = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")
        if source.untrained:
            with quickly, torch.no_grad():
                settle(source.backbone, (batch["image"] for batch in self.data.central(statistics)))
        return quickly

    @torch.no_grad()
    def _batches(self, source: Source, rows: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        progress = Progress(source.name, "film", len(rows), 0)
        try:
            for batch in self.data.central(rows):
                yield batch["index"], pooled(source.backbone, batch["image"], self.pool)
                progress.step(len(batch["index"]))
        finally:
            progress.close()

    def _statistics(self) -> np.ndarray:
        rows = some(self.data.manifest, self.data.manifest.rows("train"), STATISTICS)
        if not len(rows):
            raise UserError("An untrained CNN needs training films, to measure its running statistics on.")
        return rows

    def _key(self, source: Source, statistics: np.ndarray) -> dict[str, Any]:
        """All that features of a film depend on beside the film."""
        data, settled = self.data, hashlib.sha256()
        for film in digests(data.manifest.table, statistics):
            settled.update(film)
        return {
            "version": xrayssl.__version__,
            "architecture": source.backbone.architecture,
            "weights": source.fingerprint,
            "statistics": [settled.hexdigest(), data.batch_size] if len(statistics) else None,
            "pool": self.pool,
            "img_size": list(source.backbone.img_size),
            "window": [data.window, list(data.limits), data.first_frame],
            "prepared": {name: getattr(data.augment, name) for name in ("trim", "clahe", "circle")},
            "precision": [self.device.type, self.precision],
        }


def digests(table: pd.DataFrame, rows: np.ndarray) -> list[bytes]:
    """What tells the films of some rows from all others: for a film in a store, the store's record and the place in it;
    for a file, its path (in many corpora patients' films bear the same names), its size and when it was changed."""
    stored = table.reindex(columns=["path", "store", *PLACE]).iloc[rows]
    stores = {root: (Path(root) / FACTS).read_text("utf-8") for root in stored["store"].dropna().unique() if root}
    found = []
    for path, root, *place in stored.itertuples(index=False):
        content = [stores[root], *map(int, place)] if root in stores else _file(path)
        found.append(hashlib.blake2b(json.dumps(content).encode(), digest_size=16).digest())
    return found


def _file(path: str) -> list[Any]:
    try:
        state = os.stat(path)
    except OSError:
        return [path]  # the reader will say so
    return [os.path.abspath(path), state.st_size, state.st_mtime_ns]
