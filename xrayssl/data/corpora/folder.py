"""Anyone's own films: a folder of images or DICOMs, with labels from the names of its folders, or none.

`train`, `val` and `test` anywhere in the path are the split; the folder a film lies in is its class, unless it is
one of these, the root, or named like a container ("images", "unlabelled..."): then the film has no label.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.data.manifest import Manifest, Task
from xrayssl.data.radiograph import SUFFIXES
from xrayssl.errors import UserError

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_CONTAINER = re.compile(r"(un)?label+ed.*|unlabel+ed.*|images?|films?|data|dicoms?|pngs?", re.IGNORECASE)


def manifest(root: Path, patient: str | None = None) -> Manifest:
    """Reads a folder and everything below it.

    Args:
        root: Of the films.
        patient: Regular expression; what it matches in a film's path below root (its first group, if it has one)
            is the patient. null: every film is a patient of its own.

    Raises:
        UserError: If there is no film, or the expression matches not every film.
    """
    paths = films_below(root)
    names = [path.relative_to(root) for path in paths]
    table = pd.DataFrame({"path": [str(path) for path in paths]})
    table["patient"] = [_patient(name, patient, root) for name in names]
    table["split"] = [
        next((_SPLITS[part.lower()] for part in name.parts if part.lower() in _SPLITS), "") for name in names
    ]
    labels = pd.Series([_label(name) for name in names])
    classes = sorted(labels.dropna().unique())
    return from_classes(table, "folder", labels, classes if len(classes) > 1 else [])


def films_below(root: Path) -> list[Path]:
    """All films below a folder, sorted; hidden files (such as `._*`) are none.

    Raises:
        UserError: If there is none.
    """
    found = sorted(
        path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        raise UserError(f"{root}: no film below this folder (looked for {', '.join(sorted(SUFFIXES))}).")
    return found


def from_classes(
    table: pd.DataFrame, corpus: str, labels: pd.Series, classes: Sequence[str], task: Task = "multiclass"
) -> Manifest:
    """Completes a table with path and patient, and one class name (or NaN) per film, to a manifest."""
    table = table.assign(corpus=corpus)
    for column, value in (("study", table["patient"]), ("view", ""), ("split", "")):
        if column not in table:
            table[column] = value
    known = labels.notna().to_numpy()
    for name in classes:
        table[name] = np.where(known, (labels == name).to_numpy(float), np.nan)
    return Manifest(table, list(classes), task if classes else None)


def _patient(name: Path, pattern: str | None, root: Path) -> str:
    if pattern is None:
        return f"{root.name}/{name.with_suffix('')}"
    found = re.search(pattern, str(name))
    if found is None:
        raise UserError(f"{root / name}: the patient expression {pattern!r} matches nothing in this path.")
    return found.group(1) if found.groups() else found.group(0)


def _label(name: Path) -> str | None:
    parent = name.parent.name
    return None if not parent or parent.lower() in _SPLITS or _CONTAINER.fullmatch(parent) else parent
