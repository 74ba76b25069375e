"""Collections of maps on the disk."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xrayssl.explained.collection import Collection
from xrayssl.files import appearing, write_json

FACTS, FILMS, MAPS = "facts.json", "films.parquet", "maps.npz"


def save(collection: Collection, folder: Path) -> None:
    """Writes a collection into a folder, the facts last: where they are, everything is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS).unlink(missing_ok=True)  # of other maps
    with appearing(folder / FILMS) as partial:
        collection.table.to_parquet(partial, index=False)
    arrays = {"map": collection.map_Nhw.astype(np.float32)}
    arrays |= {f"region/{name}": region_Nhw.astype(np.float32) for name, region_Nhw in collection.region.items()}
    with appearing(folder / MAPS) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_json(folder / FACTS, collection.facts)


def load(folder: Path, wanted: Mapping[str, Any]) -> Collection | None:
    """Reads a collection, if there is one that was made from just this.

    Args:
        folder: Where it was saved.
        wanted: Its facts.
    """
    try:
        found = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if found != json.loads(json.dumps(wanted)):
            return None
        with np.load(folder / MAPS) as arrays:
            region = {name.removeprefix("region/"): arrays[name].astype(np.float64) for name in arrays.files
                      if name.startswith("region/")}  # fmt: skip
            return Collection(pd.read_parquet(folder / FILMS), arrays["map"].astype(np.float64), region, found)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
