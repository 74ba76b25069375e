"""CheXpert: 224,316 chest films of 65,240 patients, labelled from their reports with 14 findings (Irvin et al., AAAI
2019); 234 films labelled by three radiologists (`valid`) and 668 by five (`test`)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from xrayssl.data.annotations.demographics import ages, sexes
from xrayssl.data.annotations.labels import FINDINGS, Uncertain, policies, resolve, vocabulary
from xrayssl.data.annotations.tables import films_here, of_views, read_csv
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
_FILM = r"(?P<patient>patient\d+)/(?P<study>study\d+)(?:/(?P<film>[^/]+))?$"
_COLUMNS = ["path", "patient", "study", "view", "split", "sex", "age"]
_TEST = ("test.csv", "test_labels.csv", "groundtruth.csv")
_FRONTAL, _LATERAL = ("AP", "PA", "LL", "RL", "frontal"), ("lateral",)


def manifest(
    root: Path,
    classes: int = 14,
    uncertain: Uncertain = "official",
    blank: Literal["zeros", "ignore"] = "zeros",
    views: str | Sequence[str] = "frontal",
    valid_as: Literal["val", "test"] | None = None,
) -> Manifest:
    """Reads train.csv, valid.csv and the test set's table (test.csv, test_labels.csv or groundtruth.csv), and the films
    of v1.0 (as one tree, or in the four batches as they are downloaded) or of -small.

    What the tables write before `patient00001` does not matter. The test set's tables tell no sex, age or view: its
    views are in the names of its films; groundtruth.csv, which labels studies, counts for each of their films.

    Args:
        root: The folder of the tables, or the one that holds `CheXpert-v1.0...` folders.
        classes: 14, or the 5 of the competition.
        uncertain: What -1 counts as: "official", "ones", "zeros", "ignore", or a mapping of findings to one of the
            last three; see `xrayssl.data.annotations.labels`.
        blank: What no mark counts as: "zeros" (absent, as in the paper) or "ignore" (unknown).
        views: "frontal", "lateral", "all", or of AP, PA, LL, RL, lateral those wanted.
        valid_as: The official valid set is for "val" or "test". null: val if the test set is here, otherwise test, as
            papers without the test set have it; validation is then cut from train by patient. With "test", the
            official test set is left out.

    Raises:
        UserError: If an option makes no sense, no table is here, a column is missing, a mark or path is none, or none
            of the films is here.
    """
    names, policy = vocabulary("chexpert", classes), policies("chexpert", uncertain, blank)
    if valid_as not in (None, "val", "test"):
        raise UserError(f"chexpert: valid_as is val, test or null, not {valid_as!r}.")
    bases = [root, *sorted(path for path in root.glob("CheXpert*") if path.is_dir())]
    sources = _sources(bases, valid_as)
    if not sources:
        raise UserError(f"{root}: train.csv of CheXpert is missing.")
    patients = _patients(bases)
    parts = [_part(path, split, patients) for path, split in sources]
    marked = [resolve(part, names, policy, blank, path) for part, (path, _) in zip(parts, sources, strict=True)]
    table = pd.concat(parts, ignore_index=True)[_COLUMNS].assign(corpus="chexpert")
    table[names] = pd.concat(marked, ignore_index=True)
    return Manifest(films_here(of_views(table, views, _FRONTAL, _LATERAL, root), root), list(names), "multilabel")


def _sources(bases: Sequence[Path], valid_as: str | None) -> list[tuple[Path, str]]:
    """The tables that are here, with the split that their films are for."""
    train, valid, *tests = ([path for base in bases if (path := base / name).is_file()][:1]
                            for name in ("train.csv", "valid.csv", *_TEST))  # fmt: skip
    test = next((found for found in tests if found), [])
    if test and valid_as == "test":
        log.info("%s: left out, for valid.csv is the test set.", test[0])
        test = []
    valid_split = valid_as or ("val" if test else "test")
    if valid:
        log.info("%s: this is the %s set.", valid[0], {"val": "validation"}.get(valid_split, valid_split))
    return [
        (path, split) for split, paths in (("train", train), (valid_split, valid), ("test", test)) for path in paths
    ]


def _patients(bases: Sequence[Path]) -> dict[str, str]:
    """Folder of every patient, wherever it lies: below train, valid and test, or a batch."""
    found: dict[str, str] = {}
    for folder in (base / part for base in bases for part in (".", "train", "valid", "test")):
        for name in os.listdir(folder) if folder.is_dir() else ():
            if name.startswith("patient"):
                if name in found:
                    raise UserError(
                        f"{folder}: {name} lies in {Path(found[name]).parent}, too; set root to one of them."
                    )
                found[name] = os.path.join(folder, name)
    return found


def _part(path: Path, split: str, patients: dict[str, str]) -> pd.DataFrame:
    """A row per film of one table: path, patient, study, view, split and the marks."""
    key = "Study" if path.name == "groundtruth.csv" else "Path"
    also = ("Frontal/Lateral", "AP/PA", "Sex", "Age", *FINDINGS)
    if path.name in _TEST:
        table = read_csv(path, (key,), also=also)
    else:
        table = read_csv(path, (key, "Frontal/Lateral"), also=also, blank=FINDINGS)
    names = table[key].str.extract(_FILM)
    foreign = table.index[names["study"].isna() | (names["film"].isna() & (key == "Path"))]
    if len(foreign):
        raise UserError(f"{path}: {table[key][foreign[0]]!r} in line {foreign[0] + 2} is no film of CheXpert.")
    table = table.join(names)
    home = [patients.get(name) or os.path.join(path.parent, name) for name in table["patient"]]
    folder = pd.Series(home, table.index, dtype=str) + "/" + table["study"]
    table = table.assign(folder=folder) if key == "Path" else _films_of_studies(table.assign(folder=folder))
    study = "chexpert_" + table["patient"] + "_" + table["study"]
    blank = pd.Series("", table.index)
    return table.assign(path=table["folder"] + "/" + table["film"], view=_views(table), study=study,
                        patient="chexpert_" + table["patient"], split=split, sex=sexes(table.get("Sex", blank)),
                        age=ages(table.get("Age", blank)))  # fmt: skip


def _films_of_studies(table: pd.DataFrame) -> pd.DataFrame:
    """A row per film instead of one per study; the index still tells the line."""
    films = [_visible(folder) or ["view1_frontal.jpg"] for folder in table["folder"]]
    return table.assign(film=pd.Series(films, table.index)).explode("film")


def _visible(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith(".")) if os.path.isdir(folder) else []


def _views(table: pd.DataFrame) -> pd.Series:
    """AP, PA, LL, RL or "frontal" of frontal films, otherwise "lateral"; without columns, by the film's name."""
    named = table["film"].str.extract(r"_(frontal|lateral)", expand=False).fillna("")
    side = table["Frontal/Lateral"].str.lower() if "Frontal/Lateral" in table else named
    position = table["AP/PA"] if "AP/PA" in table else pd.Series("", table.index)
    return position.where((side == "frontal") & (position != ""), side)
