"""CIFAR-10: 60,000 photographs of 32 px in ten classes (Krizhevsky 2009), in grey, for a sanity run of a method."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from xrayssl.data.manifest import COLUMNS, Manifest
from xrayssl.errors import UserError
from xrayssl.files import appearing_folder, cache

log = logging.getLogger(__name__)
TABLE = "films.parquet"
FOLDER = "cifar-10-batches-py"


def manifest(root: Path) -> Manifest:
    """Reads the folder that torchvision downloads, and writes its pictures as grey PNG into the user's cache, once.

    The official test batch is the test set; every picture counts as its own patient.

    Args:
        root: The folder with `cifar-10-batches-py`, or that folder itself.

    Raises:
        UserError: If it is not there, or its checksums do not agree.
    """
    folder = cache("cifar10", "grey-v1")
    if not (folder / TABLE).is_file():
        _write(folder, root.parent if root.name == FOLDER else root)
    table = pd.read_parquet(folder / TABLE)
    table["path"] = str(folder) + "/" + table["path"]
    return Manifest(table, [name for name in table.columns if name not in COLUMNS], "multiclass")


def _write(folder: Path, root: Path) -> None:
    parts = {split: _photographs(root, split == "train") for split in ("train", "test")}
    classes = parts["train"].classes
    log.info("Writing %d grey pictures into %s (once).", sum(map(len, parts.values())), folder)
    with appearing_folder(folder, TABLE) as draft:
        rows = [row for split, part in parts.items() for row in _pictures(draft, split, part)]
        table = pd.DataFrame(rows, columns=["path", "patient", "class"])
        table = table.assign(corpus="cifar10", study=table["patient"], view="",
                             split=table["path"].str.partition("/")[0])  # fmt: skip
        labels = {name: (table["class"] == index).astype(float) for index, name in enumerate(classes)}
        table[list(COLUMNS)].assign(**labels).to_parquet(draft / TABLE, index=False)


def _photographs(root: Path, train: bool) -> Any:
    from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]

    try:
        return CIFAR10(str(root), train=train, download=False)
    except (RuntimeError, OSError):  # it checks every file against its known checksum before it unpickles one
        raise UserError(
            f"{root}: {FOLDER} of CIFAR-10 is not here, or damaged. torchvision.datasets.CIFAR10(root, download=True) "
            "fetches it."
        ) from None


def _pictures(draft: Path, split: str, part: Any) -> list[tuple[str, str, int]]:
    """Saves one split; returns path, patient and class of each picture."""
    (draft / split).mkdir()
    rows = []
    progress = tqdm(part, desc=f"CIFAR-10 {split}", unit="film", leave=False, disable=not sys.stderr.isatty())
    for index, (picture, kind) in enumerate(progress):
        name = f"{split}/{index:05d}.png"
        picture.convert("L").save(draft / name, compress_level=1)
        rows.append((name, f"cifar10_{split}{index:05d}", kind))
    return rows
