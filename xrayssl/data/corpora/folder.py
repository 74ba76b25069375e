"""Anyone's own films: a folder of images or DICOMs, with labels from the names of its folders, or none.

`train`, `val` and `test` anywhere in the path are the split; the folder a film lies in is its class, unless it is
one of these, the root, or named like a container ("images", "unlabelled..."): then the film has no label. One class
alone is none: there would be nothing to tell apart.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.data.manifest import COLUMNS, SUBGROUPS, Manifest, Task
from xrayssl.data.radiograph import SUFFIXES, is_dicom
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
               "test": "test", "testing": "test"}  # fmt: skip
"""What people call the splits, in lower case."""
_CONTAINER = re.compile(r"(un)?label+ed.*|images?|films?|data|dicoms?|pngs?", re.IGNORECASE)


def manifest(root: Path, patient: str | None = None) -> Manifest:
    """Reads a folder and everything below it.

    Args:
        root: Of the films.
        patient: Regular expression; what it matches in a film's path below root (its first group, if it has one)
            is the patient. null: every film is a patient of its own.

    Raises:
        UserError: If there is no film, the expression matches not every film, or folders cannot be classes.
    """
    paths = films_below(root)
    names = [path.relative_to(root) for path in paths]
    expression = _compiled(patient)
    table = pd.DataFrame({"path": [str(path) for path in paths]})
    table["patient"] = [_patient(name, expression, root) for name in names]
    table["split"] = [_split(name) for name in names]
    labels = pd.Series([_label(name) for name in names])
    return from_classes(table, "folder", labels, _classes(labels, root))


def films_below(root: Path) -> list[Path]:
    """All films below a folder, sorted; links are followed, hidden files and folders (such as `._*`) left out.

    A film has one of the usual suffixes, or none (or digits, as in a UID) and the preamble of a DICOM file.

    Raises:
        UserError: If there is none.
    """
    found = sorted(map(Path, film_files(root)))
    if not found:
        known = ", ".join(sorted(SUFFIXES))
        raise UserError(f"{root}: no film below this folder (looked for {known}, and DICOM files without a suffix).")
    return found


def film_files(root: Path) -> Iterator[str]:
    """Path of every film below a folder as `films_below` finds them, in no order; there may be none."""
    return (path for path in _visible_files(root) if _is_film(path))


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


def _visible_files(root: Path) -> Iterator[str]:
    for folder, below, names in os.walk(root, followlinks=True, onerror=_refuse):
        below[:] = [name for name in below if not name.startswith(".") and not _leads_back(folder, name)]
        for name in (name for name in names if not name.startswith(".")):
            _check_name(folder, name)
            yield os.path.join(folder, name)


def _check_name(folder: str, name: str) -> None:
    try:
        os.path.join(folder, name).encode()
    except UnicodeEncodeError:
        named = os.fsencode(os.path.join(folder, name)).decode("latin-1")
        raise UserError(f"{named}: this name is not UTF-8, which tables are written in; rename the file.") from None


def _leads_back(folder: str, name: str) -> bool:
    """Whether a link goes to the folder it lies in or to one above: following it would never end."""
    link = os.path.join(folder, name)
    return os.path.islink(link) and f"{os.path.realpath(folder)}/".startswith(f"{os.path.realpath(link)}/")


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: this folder cannot be read ({error.strerror}).")


def _is_film(path: str) -> bool:
    suffix = os.path.splitext(path)[1]
    if suffix.lower() in SUFFIXES:
        return True
    nameless = not suffix or suffix[1:].isdigit()
    return nameless and os.path.basename(path) != "DICOMDIR" and os.path.isfile(path) and is_dicom(Path(path))


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(f"The patient expression {pattern!r} is no regular expression ({error}).") from None


def _patient(name: Path, expression: re.Pattern[str] | None, root: Path) -> str:
    if expression is None:
        return f"{root.name}/{name.with_suffix('') if name.suffix.lower() in SUFFIXES else name}"
    found = expression.search(str(name))
    patient = found and (found.group(1) if expression.groups else found.group(0))
    if not patient:
        raise UserError(f"{root / name}: the patient expression {expression.pattern!r} matches nothing in this path.")
    return patient


def _split(name: Path) -> str:
    return next((SPLIT_WORDS[part.lower()] for part in name.parts[:-1] if part.lower() in SPLIT_WORDS), "")


def _label(name: Path) -> str | None:
    parent = name.parent.name
    return None if not parent or parent.lower() in SPLIT_WORDS or _CONTAINER.fullmatch(parent) else parent


def _classes(labels: pd.Series, root: Path) -> list[str]:
    classes = sorted(labels.dropna().unique())
    reserved = [name for name in classes if name in (*COLUMNS, *SUBGROUPS)]
    if reserved:
        raise UserError(f"{root}: a class cannot be called {reserved[0]!r}; rename these folders.")
    spellings = {name.lower(): name for name in classes}
    twice = [name for name in classes if spellings[name.lower()] != name]
    if twice:
        raise UserError(f"{root}: the folders {twice[0]!r} and {spellings[twice[0].lower()]!r} differ only in case.")
    if len(classes) == 1:
        log.info("All labelled films of %s are of one class, %r: they are taken as unlabelled.", root, classes[0])
    return classes if len(classes) > 1 else []
