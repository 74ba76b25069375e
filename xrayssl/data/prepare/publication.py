"""The last steps of a store: index, boxes and facts beside the finished shards, and its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from xrayssl.data.annotations.boxes import with_area
from xrayssl.data.manifest import Manifest, in_fractions
from xrayssl.data.prepare.shards import read_journal
from xrayssl.data.store import BOXES, FACTS, INDEX, PLACE, QUARANTINE, UNSEEN, file_sha256, shard_name
from xrayssl.errors import UserError
from xrayssl.files import appearing, write_json


def finish(draft: Path, plan: dict[str, Any], manifest: Manifest) -> None:
    """Writes everything but the shards; store.json, which makes it a store, comes last.

    Args:
        draft: Folder with finished shards and their journal.
        plan: What the store was made from, and how.
        manifest: As the corpus gave it.

    Raises:
        UserError: If no film could be read.
    """
    journal = read_journal(draft)
    index, boxes = _index(manifest, journal), manifest.boxes
    stored = index[index["shard"] >= 0]
    if stored.empty:
        raise UserError(f"None of the {len(index)} films can be read, the first because: {journal['problem'].iloc[0]}")
    _write(index, draft / INDEX)
    if boxes is not None:
        _write(_moved(boxes, stored), draft / BOXES)
    aside = pd.DataFrame({"path": index["path"], "reason": journal["problem"]})[index["shard"] < 0]
    with appearing(draft / QUARANTINE) as partial:
        aside.to_csv(partial, index=False, lineterminator="\n")
    parts = [name for name in (INDEX, BOXES, QUARANTINE) if (draft / name).is_file()]
    checksums = {name: file_sha256(draft / name) for name in parts}
    described = {"classes": manifest.classes, "task": manifest.task, "score": manifest.score}
    counts = {"films": len(stored), "quarantined": len(aside), "patients": manifest.patients}
    kinds = {"boxes": boxes is not None, "shards": _sizes(draft), "checksums": checksums}
    write_json(draft / FACTS, {**plan, **described, **counts, **kinds})


def publish(draft: Path, folder: Path) -> None:
    """Takes away what only the work needed, and gives the store its name."""
    for path in draft.iterdir():
        if path.name not in (FACTS, INDEX, BOXES, QUARANTINE) and path.suffix != ".bin":
            path.unlink()
    os.replace(draft, folder)


def _index(manifest: Manifest, journal: pd.DataFrame) -> pd.DataFrame:
    ours = [*PLACE, "sha256", *UNSEEN]
    clash = [name for name in manifest.classes if name in (*ours, "store", "dtype")]
    if clash:
        raise UserError(f"A store needs the column {clash[0]!r} for itself; give that label another name.")
    table = manifest.table.reset_index(drop=True).drop(columns=[*ours, "store", "dtype"], errors="ignore")
    return table.join(journal[ours])


def _moved(boxes: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Boxes in fractions of what was left of their films; those of the border, which is gone, are gone too."""
    film = index.drop_duplicates("path").set_index("path").reindex(boxes["path"]).set_axis(boxes.index)
    trimmed = (film["crop_height"] < film["film_height"]) | (film["crop_width"] < film["film_width"])
    if not trimmed.any():
        return boxes
    pixels, film = boxes[trimmed].copy(), film[trimmed]
    for side, start, length in (("left", "crop_left", "width"), ("top", "crop_top", "height")):
        pixels[side] = pixels[side] * film[f"film_{length}"] - film[start]
        pixels[length] *= film[f"film_{length}"]
    moved = in_fractions(pixels, film["crop_width"], film["crop_height"])
    return with_area(pd.concat([boxes[~trimmed], moved]).sort_index())


def _sizes(draft: Path) -> list[int]:
    count = sum(1 for _ in draft.glob("shard-*.bin"))
    return [(draft / shard_name(number)).stat().st_size for number in range(count)]


def _write(table: pd.DataFrame, path: Path) -> None:
    with appearing(path) as partial:
        table.to_parquet(partial, index=False)
        with partial.open("rb") as file:  # with its bytes on the disk, a crash cannot leave the name alone
            os.fsync(file.fileno())
