"""Where the films of a table lie."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from xrayssl.data.corpora.folder import film_files
from xrayssl.data.radiograph import SUFFIXES
from xrayssl.errors import UserError

log = logging.getLogger(__name__)


def by_stem(*folders: Path) -> dict[str, str]:
    """Path of every film below those of the folders that are there, by its name without the suffix.

    Raises:
        UserError: If a name stands for two films.
    """
    paths = sorted(path for folder in folders if folder.is_dir() for path in film_files(folder))
    found = {os.path.splitext(os.path.basename(path))[0]: path for path in paths}
    if len(found) < len(paths):
        for path in paths:
            stem = os.path.splitext(os.path.basename(path))[0]
            if found[stem] != path:
                raise UserError(f"The film {stem} is here more than once, {path} and {found[stem]}; keep one.")
    return found


def present(table: pd.DataFrame, stem: str, films: Mapping[str, str], where: Path) -> pd.DataFrame:
    """The rows whose film is on the disk, with its `path`: many groups hold a part of a corpus.

    Args:
        table: A row per film.
        stem: Column with the film's name, without suffix.
        films: Paths by that name, see `by_stem`.
        where: The table came from, for messages.

    Raises:
        UserError: If none is.
    """
    path = table[stem].map(films)
    here = table.assign(path=path)[path.notna()].reset_index(drop=True)
    if here.empty:
        raise UserError(f"{where}: none of its {len(table)} films, such as {table[stem].iloc[0]}, lies here.")
    log.info("%s: %d of its %d films are here.", where, len(here), len(table))
    return here


def on_disk(paths: Iterable[str]) -> np.ndarray:
    """Which paths are there, bool (N,), with one look into each folder."""
    inside: dict[str, set[str]] = {}
    here = []
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder not in inside:
            inside[folder] = _inside(folder)
        here.append(name in inside[folder])
    return np.array(here, bool)


def _inside(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder or "/"))
    except (FileNotFoundError, NotADirectoryError):
        return set()


class Located(NamedTuple):
    """Where the films of a table are."""

    paths: list[str]  # of every film, or where it was looked for
    here: np.ndarray  # bool (N,); which are there
    unclear: dict[int, list[str]]  # rows whose name could be several films


def locate(names: Sequence[str], folder: Path) -> Located:
    """Finds the films that a table names: from the folder, without their suffix, or where it is unique by name alone.

    Args:
        names: As the table has them; a backslash separates folders as a slash does.
        folder: That relative names start from.
    """
    start = os.path.abspath(folder) + "/"
    names = [name.replace("\\", "/") for name in names]
    paths = [name if name.startswith("/") else start + name for name in names]
    paths = [os.path.normpath(path) if "/." in path or "//" in path else path for path in paths]
    here, unclear = on_disk(paths), {}
    if here.all() or not folder.is_dir():
        return Located(paths, here, {})
    known = _by_any_name(start)
    for row in np.flatnonzero(~here):
        films = known.get(_bare(names[row].removeprefix("./")), [])
        if len(films) == 1:
            paths[row], here[row] = films[0], True
        elif films:
            unclear[int(row)] = sorted(films)
    return Located(paths, here, unclear)


def _bare(name: str) -> str:
    """Without a film's suffix; a UID's last number is none."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def _by_any_name(start: str) -> dict[str, list[str]]:
    """Every film below a folder, by its path from there and by its mere name, both without suffix."""
    known: dict[str, list[str]] = defaultdict(list)
    for path in film_files(Path(start)):
        name = _bare(path[len(start) :])
        for key in {name, name.rpartition("/")[2]}:
            known[key].append(path)
    return known
