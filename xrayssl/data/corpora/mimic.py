"""MIMIC-CXR-JPG: 377,110 chest films of 65,379 patients, labelled from their reports with 14 findings (Johnson et al.,
arXiv:1901.07042)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from xrayssl.data.annotations.demographics import OLDEST, sexes
from xrayssl.data.annotations.labels import FINDINGS, Uncertain, policies, resolve, vocabulary
from xrayssl.data.annotations.tables import films_here, of_views, read_csv
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
_KEYS = ("subject_id", "study_id")
_SPLITS = {"train": "train", "validate": "val", "test": "test"}
_FRONTAL, _LATERAL = ("AP", "PA"), ("LATERAL", "LL")


def manifest(
    root: Path,
    classes: int = 14,
    uncertain: Uncertain = "official",
    blank: Literal["zeros", "ignore"] = "zeros",
    views: str | Sequence[str] = "frontal",
    labeller: Literal["chexpert", "negbio"] = "chexpert",
) -> Manifest:
    """Reads mimic-cxr-2.0.0-{split,metadata,chexpert}.csv[.gz] and files/p10/p10000032/s50414267/<film>.jpg.

    With patients.csv[.gz] of MIMIC-IV beside the tables, whose dates are shifted alike, films have a sex and an age.

    The split is the official one. Labels are the labeller's, in the test split, too; a study that it did not label
    (there are a few) has unknown ones.

    Args:
        root: The folder of the tables and of `files`.
        classes: 14, or the 5 of the CheXpert competition.
        uncertain: What -1 counts as: "official", "ones", "zeros", "ignore", or a mapping of findings to one of the
            last three; see `xrayssl.data.annotations.labels`.
        blank: What no mark counts as: "zeros" (absent) or "ignore" (unknown).
        views: "frontal" (AP and PA), "lateral" (LATERAL and LL), "all", or a list of views as the metadata name them.
        labeller: Whose labels: "chexpert" or "negbio".

    Raises:
        UserError: If an option makes no sense, a table or column is missing, tables do not fit each other, a mark is
            none, or none of the films is here.
    """
    names, policy = vocabulary("mimic", classes), policies("mimic", uncertain, blank)
    if labeller not in ("chexpert", "negbio"):
        raise UserError(f"mimic: labeller is chexpert or negbio, not {labeller!r}.")
    films = _films(root)
    films = films_here(of_views(films, views, _FRONTAL, _LATERAL, root), root)
    films[names] = _labels(_table(root, labeller), films, names, policy, blank)
    films = _with_patients(films, root)
    return Manifest(films.drop(columns=["dicom_id", "seen", *_KEYS]), list(names), "multilabel")


def _table(root: Path, name: str) -> Path:
    found = [path for suffix in ("csv.gz", "csv") for path in sorted(root.glob(f"mimic-cxr-*-{name}.{suffix}"))]
    if not found:
        raise UserError(f"{root}: mimic-cxr-2.0.0-{name}.csv.gz of MIMIC-CXR-JPG is missing.")
    return found[0]


def _films(root: Path) -> pd.DataFrame:
    """A row per film of the split table: path, corpus, patient, study, view, split, the keys, and its date (seen)."""
    source, metadata = _table(root, "split"), _table(root, "metadata")
    films = read_csv(source, ("dicom_id", *_KEYS, "split"), also=())
    foreign = films.index[~films["split"].isin(list(_SPLITS))]
    if len(foreign):
        split = films["split"][foreign[0]]
        raise UserError(f"{source}: the split {split!r} in line {foreign[0] + 2} is none of {', '.join(_SPLITS)}.")
    views = read_csv(metadata, ("dicom_id",), also=("StudyDate",), blank=("ViewPosition",))
    views = _once(views, ["dicom_id"], metadata)
    view = films["dicom_id"].map(views["ViewPosition"])
    if view.isna().any():
        raise UserError(f"{metadata}: no row for the film {films['dicom_id'][view.isna()].iloc[0]} of {source.name}.")
    seen = films["dicom_id"].map(views["StudyDate"]) if "StudyDate" in views else ""
    subject, study = films["subject_id"], films["study_id"]
    folder = f"{root}/files/p" + subject.str[:2] + "/p" + subject + "/s" + study
    return films.assign(path=folder + "/" + films["dicom_id"] + ".jpg", corpus="mimic", patient="mimic_" + subject,
                        study="mimic_" + study, view=view, split=films["split"].map(_SPLITS), seen=seen)  # fmt: skip


def _with_patients(films: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Adds sex and age, if the table of patients is here: age in the anchor year plus the years since."""
    found = [path for name in ("patients.csv.gz", "patients.csv") if (path := root / name).is_file()]
    if not found:
        return films
    columns = ("gender", "anchor_age", "anchor_year")
    patients = _once(read_csv(found[0], ("subject_id", *columns), also=()), ["subject_id"], found[0])
    known = patients.reindex(films["subject_id"]).set_axis(films.index)
    age, anchor, seen = (pd.to_numeric(column, errors="coerce")
                         for column in (known["anchor_age"], known["anchor_year"], films["seen"].str[:4]))  # fmt: skip
    years = (age + seen - anchor).astype(float)
    return films.assign(sex=sexes(known["gender"]), age=years.where(years.between(0, OLDEST)))


def _labels(source: Path, films: pd.DataFrame, names: Sequence[str], policy: dict[str, str], blank: str) -> np.ndarray:
    """Labels of every film's study, float (N, K)."""
    marks = read_csv(source, _KEYS, also=(), blank=FINDINGS)
    labels = resolve(marks, names, policy, blank, source)
    labels.index = _once(marks, list(_KEYS), source).index
    studies = pd.MultiIndex.from_frame(films[list(_KEYS)])
    unlabelled = int((~studies.isin(labels.index)).sum())
    if unlabelled:
        log.info("%s: no labels for the studies of %d films.", source, unlabelled)
    return labels.reindex(studies).to_numpy()


def _once(table: pd.DataFrame, keys: list[str], source: Path) -> pd.DataFrame:
    """The table by its keys, each of which must stand once."""
    twice = np.flatnonzero(table.duplicated(keys))
    if len(twice):
        name = " ".join(table[keys].iloc[twice[0]])
        raise UserError(f"{source}: the {keys[-1].replace('_id', '')} {name} stands in line {twice[0] + 2} again.")
    return table.set_index(keys)
