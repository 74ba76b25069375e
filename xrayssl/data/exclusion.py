"""Films that must not be learned from: lists of them keep the test films of one stage out of the others.

A list is a file:

* text, one entry a line: a film's name (with or without folders and suffix), `patient:<id>`, or `sha256:<hex>` of the
  file; `#` begins a comment. The `test.txt` of COVIDx and the `test_list.txt` of NIH are such lists as they are.
* `.csv`, `.csv.gz` or `.parquet` with a column film or path, or patient, or both: a run's `predictions.parquet` and the
  `index.parquet` of a store are such lists.
* `.json`: the official table of the RSNA pneumonia challenge that tells under which name of NIH ChestX-ray14 a film
  was published (`pneumonia-challenge-dataset-mappings_2018.json`). Beside other lists it translates: a film that they
  name goes under its other name, too. So COVIDx's `test.txt` and this file keep the `rsna` films that COVIDx is
  tested on out of NIH. By itself it lists all its films.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.data.annotations.tables import read_csv
from xrayssl.data.manifest import Manifest
from xrayssl.data.radiograph import SUFFIXES
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
_COVIDX = re.compile(r".+\s(\S+)\s+(positive|negative|normal|pneumonia|COVID-19)(\s+\S+)?", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COLUMNS = ("film", "path", "patient")
_RUNNING = 7
"""Digits of a name up to which it is a running number, which says nothing without its folder."""


@dataclass
class Listed:
    """What one file lists.

    Args:
        path: Of the file.
        films: Names without suffix, with as many folders as are given, to where in the file they stand.
        patients: As a manifest names them.
        checksums: SHA-256 of files.
        other_names: Of a mapping, both ways.
    """

    path: Path
    films: dict[str, str] = field(default_factory=dict)
    patients: set[str] = field(default_factory=set)
    checksums: set[str] = field(default_factory=set)
    other_names: dict[str, str] = field(default_factory=dict)


def exclude(manifest: Manifest, files: Sequence[str | Path]) -> Manifest:
    """Leaves the listed films and patients out of what is learned from; the test split stays as it is.

    Call it on a manifest that is split: who is tested must not depend on these lists. A film is known by its name
    without suffix. Where films of a corpus share that name (`view1_frontal`), or it is a mere running number, as many
    of its folders must be the same as tell it from the others.

    Args:
        manifest: Of one or more corpora.
        files: The lists.

    Returns:
        The manifest without the films of train, of val and without a split that are listed.

    Raises:
        UserError: If a list cannot be read, or names a film that could be several.
    """
    lists = _translated([_read(Path(file).expanduser()) for file in files])
    if not lists:
        return manifest
    names, learned = _Names(manifest.table), (manifest.table["split"] != "test").to_numpy()
    gone = np.zeros(len(manifest), bool)
    for listed in lists:
        found = _matches(manifest.table, names, listed, learned)
        left, stay = int((found & learned).sum()), int((found & ~learned).sum())
        level = logging.INFO if found.any() else logging.WARNING
        log.log(level, "%s: %d films left out; %d listed ones are test films, and stay.", listed.path, left, stay)
        gone |= found & learned
    _tell_relatives(manifest.table["patient"], gone, learned)
    return manifest.keep(~gone)


def _tell_relatives(patients: pd.Series, gone: np.ndarray, learned: np.ndarray) -> None:
    others = int((patients.isin(patients[gone]).to_numpy() & learned & ~gone).sum())
    if others:
        log.warning("%d films that no list names are of the same patients, and stay; a line patient:<id> leaves all of "
                    "a patient out.", others)  # fmt: skip


def _matches(table: pd.DataFrame, names: _Names, listed: Listed, learned: np.ndarray) -> np.ndarray:
    """Which films are listed, bool (N,)."""
    found = names.match(listed) | table["patient"].isin(listed.patients).to_numpy()
    if listed.checksums:
        found[learned] |= _checksums(table[learned], listed.path).isin(listed.checksums).to_numpy()
    return found


def _checksums(table: pd.DataFrame, asker: Path) -> pd.Series:
    """SHA-256 of every film: as a store has them, otherwise from the files."""
    known = table["sha256"] if "sha256" in table else pd.Series("", table.index)
    paths = table["path"][known == ""]
    if len(paths):
        log.info("%s: reading %d films for their checksums.", asker, len(paths))
    with ThreadPoolExecutor(8) as pool:
        read = pd.Series(list(pool.map(_checksum, paths)), paths.index, dtype=object)
    return known.where(known != "", read)


def _checksum(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: the film cannot be read ({error.strerror}).") from None


class _Names:
    """What tells each film of a table from the others of its corpus: its name, with as many folders as it needs."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.parts = [_bare(path).split("/") for path in table["path"]]
        self.stems = pd.Series([parts[-1] for parts in self.parts], dtype=object)
        self.depth = np.ones(len(table), int)
        corpus, rows = table["corpus"].to_numpy(object), np.arange(len(table))
        while len(rows):
            keys = pd.Series([(corpus[row], *self.parts[row][-self.depth[row] :]) for row in rows])
            rows = rows[keys.duplicated(keep=False).to_numpy()]
            rows = rows[[self.depth[row] < len(self.parts[row]) for row in rows]]
            self.depth[rows] += 1

    def match(self, listed: Listed) -> np.ndarray:
        """Which films are listed, bool (N,)."""
        bare = {film for film in listed.films if "/" not in film}
        placed = [film.split("/") for film in listed.films if "/" in film]
        found = np.array(self.stems.isin(bare))
        self._refuse_several(found, listed)
        number = self.stems.str.fullmatch(rf"\d{{1,{_RUNNING}}}").to_numpy(bool)
        depth = np.maximum(self.depth, np.where(number, 2, 1))
        for deep in np.unique(depth) if placed else ():
            tails = {tuple(parts[-deep:]) for parts in placed}
            rows = np.flatnonzero(depth == deep)
            found[rows] |= [tuple(self.parts[row][-deep:]) in tails for row in rows]
        return found

    def _refuse_several(self, found: np.ndarray, listed: Listed) -> None:
        several = np.flatnonzero(found & (self.depth > 1))
        if len(several):
            name = self.stems.iloc[several[0]]
            count = int((self.stems == name).sum())
            raise UserError(f"{listed.films[name]}: {name!r} could be any of {count} films; write its folders, too.")


def _bare(name: str) -> str:
    """Without the suffix of a film; a UID keeps its last number."""
    name = str(name).replace("\\", "/").strip("/")
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and dot + suffix.lower() in SUFFIXES else name


def _read(path: Path) -> Listed:
    name = path.name.lower()
    if not path.is_file():
        hint = "a folder; a list is a file, such as index.parquet of a store" if path.is_dir() else "not there"
        raise UserError(f"{path}: this list of films to leave out is {hint}.")
    if name.endswith(".json"):
        return _mapping(path)
    if name.endswith((".csv", ".csv.gz", ".parquet")):
        return _from_table(path, _parquet(path) if name.endswith(".parquet") else read_csv(path, ()))
    return _from_lines(path)


def _from_lines(path: Path) -> Listed:
    listed = Listed(path)
    for number, entry in _entries(path):
        kind, _, value = (part.strip() for part in entry.partition(":"))
        if kind not in ("patient", "sha256"):
            known = _COVIDX.fullmatch(entry)
            listed.films.setdefault(_bare(known.group(1) if known else entry), f"{path}: line {number}")
        elif kind == "patient" and value:
            listed.patients.add(value)
        elif kind == "sha256" and _SHA256.fullmatch(value.lower()):
            listed.checksums.add(value.lower())
        else:
            wanted = "64 digits from 0 to f" if kind == "sha256" else "whom"
            raise UserError(f"{path}: line {number} is {entry!r}; write {wanted} after the colon.")
    return listed


def _entries(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the list cannot be read as text ({error}).") from None
    for number, line in enumerate(text.splitlines(), 1):
        entry = re.split(r"(?:^|\s)#", line)[0].strip()
        if entry:
            yield number, entry


def _from_table(path: Path, table: pd.DataFrame) -> Listed:
    """Of a table without names and patients, not even the checksums say what they are of."""
    films = table.get("film", table.get("path"))
    if films is None and "patient" not in table:
        raise UserError(f"{path}: the table has neither a column film or path nor one of patients.")
    rows = enumerate(films if films is not None else (), 1)
    patients = set(table["patient"]) - {""} if "patient" in table else set()
    return Listed(path, {_bare(film): f"{path}: row {row}" for row, film in rows if film}, patients)


def _parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the table cannot be read ({str(error).strip().rstrip('.')}).") from None
    return table[[name for name in _COLUMNS if name in table]].fillna("").astype(str)


def _mapping(path: Path) -> Listed:
    try:
        pairs = [(_bare(row["subset_img_id"]), _bare(row["img_id"])) for row in json.loads(path.read_bytes())]
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{path}: this is not the table of the RSNA challenge, a list of objects with subset_img_id and img_id."
        ) from None
    return Listed(path, other_names=dict(pairs) | {name: uid for uid, name in pairs})


def _translated(lists: Sequence[Listed]) -> list[Listed]:
    """The lists with every film under both its names; mappings alone are lists of all their films."""
    mappings = [listed for listed in lists if listed.other_names]
    rest = [listed for listed in lists if not listed.other_names]
    if not rest:
        return [Listed(mapping.path, dict.fromkeys(mapping.other_names, str(mapping.path))) for mapping in mappings]
    for mapping in mappings:
        count = sum(_translate(listed, mapping.other_names) for listed in rest)
        log.log(
            logging.INFO if count else logging.WARNING, "%s: %d listed films have another name.", mapping.path, count
        )
    return rest


def _translate(listed: Listed, other_names: dict[str, str]) -> int:
    twins = {
        other_names[stem]: where
        for film, where in listed.films.items()
        if (stem := film.rsplit("/", 1)[-1]) in other_names
    }
    listed.films = twins | listed.films
    return len(twins)
