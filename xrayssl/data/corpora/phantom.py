"""The phantom corpus: radiographs rendered from physics on first use, so that everything runs without data."""

from __future__ import annotations

import json
import logging
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from xrayssl.data.annotations.boxes import of_films
from xrayssl.data.manifest import BOX_COLUMNS, COLUMNS, Manifest
from xrayssl.data.phantom import RENDERER_VERSION, Film, classes, render
from xrayssl.errors import UserError
from xrayssl.files import appearing_folder, cache

log = logging.getLogger(__name__)

TABLE = "films.parquet"
FOLDER = re.compile(rf"(\w+)-(\w+)-\d+x(\d+)px-seed(\d+)-v{RENDERER_VERSION}")
# Patients are random already: dealing them out in turn keeps 60/15/25 for any number of films.
TURNS = [
    "train", "test", "train", "val", "train", "train", "test", "train", "test", "train",
    "train", "val", "train", "test", "train", "train", "test", "train", "val", "train",
]  # fmt: skip


def manifest(
    root: Path | None,
    *,
    body: str = "chest",
    films: int = 600,
    seed: int = 0,
    size: int = 256,
    task: str | None = None,
    split: bool = True,
) -> Manifest:
    """Renders the corpus once, then lists it.

    Args:
        root: Folder for the rendered corpora; None is the user's cache.
        body: "chest" or "shoulder".
        films: Number of films, at least 1.
        seed: Seed of the patients.
        size: Shorter side of a film in pixels, at least 16.
        task: "findings" or, for the shoulder, "implant" (its default).
        split: Comes with a test split of its own, as a published corpus; false leaves that to `--data.fold` and such.

    Returns:
        The manifest, split by patient.

    Raises:
        UserError: If an option makes no sense.
    """
    try:
        names = classes(body, task)
    except ValueError as error:
        raise UserError(f"phantom: {error}.") from error
    if films < 1 or size < 16:
        raise UserError(f"phantom: films must be at least 1 and size at least 16, not {films} and {size}.")
    task = task or ("implant" if body == "shoulder" else "findings")
    parent = cache("phantom") if root is None else Path(root)
    folder = parent / f"{body}-{task}-{films}x{size}px-seed{seed}-v{RENDERER_VERSION}"
    if not (folder / TABLE).is_file():
        _write(folder, body, films, seed, size, task)
    table = pd.read_parquet(folder / TABLE)
    table["path"] = [str(folder / name) for name in table["path"]]
    if not split:
        table["split"] = ""
    kind: Literal["multiclass", "multilabel"] = "multiclass" if task == "implant" else "multilabel"
    return Manifest(table[[*COLUMNS, *names]], list(names), kind, _boxes(table))


def rendered(path: str) -> bool:
    """Whether a file is a film of this corpus."""
    return FOLDER.fullmatch(Path(path).parent.name) is not None


@lru_cache(maxsize=512)
def outlines(path: str) -> dict[str, np.ndarray]:
    """Renders a film of this corpus again, for the outlines of its findings and anatomy.

    Args:
        path: Of the film.

    Returns:
        Name to mask, bool (H, W).
    """
    found = FOLDER.fullmatch(Path(path).parent.name)
    assert found is not None, path
    body, task, size, seed = found.groups()
    return render(body, int(seed), int(Path(path).stem), int(size), task=task).masks


def _boxes(table: pd.DataFrame) -> pd.DataFrame:
    """A row per box, in fractions, out of the column of JSON objects that hold a film's boxes in pixels."""
    rows = [(path, name, *box) for path, text in zip(table["path"], table["boxes"], strict=True)
            for name, box in json.loads(text).items()]  # fmt: skip
    return of_films(pd.DataFrame(rows, columns=list(BOX_COLUMNS)))


def _write(folder: Path, body: str, films: int, seed: int, size: int, task: str) -> None:
    """Renders into a sibling folder that is then renamed, so that `folder` exists complete or not at all."""
    log.info("Rendering %d %s phantoms into %s (once).", films, body, folder)
    turns = tqdm(range(films), desc=f"{body} phantoms", unit="film", leave=False, disable=not sys.stderr.isatty())
    with appearing_folder(folder, TABLE) as draft:
        rows = [_save(draft, index, render(body, seed, index, size, task=task)) for index in turns]
        pd.DataFrame(rows).to_parquet(draft / TABLE, index=False)


def _save(folder: Path, index: int, film: Film) -> dict[str, object]:
    """Writes one film as PNG; returns its row of the table."""
    name = f"{index:06d}.png"
    Image.fromarray(film.pixels).save(folder / name, compress_level=1)
    split = TURNS[int(film.patient.rsplit("-", 1)[1]) % len(TURNS)]
    row = {
        "path": name,
        "corpus": "phantom",
        "patient": film.patient,
        "study": film.study,
        "view": film.view,
        "split": split,
        "boxes": json.dumps(film.boxes),
    }
    return row | {label: float(value) for label, value in film.labels.items()}
