"""VinDr-CXR: 18,000 postero-anterior chest films in DICOM, 15,000 of them read by three radiologists each and 3,000 by
consensus of five; 22 findings with boxes and 6 diagnoses (Nguyen et al., Scientific Data 9:429, 2022)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from xrayssl.data.annotations.boxes import of_films, sides
from xrayssl.data.annotations.lookup import by_stem, present
from xrayssl.data.annotations.tables import read_csv
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
FINDINGS = [
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding",
]  # fmt: skip
KAGGLE = [
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration",
    "Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "No finding",
]  # fmt: skip
_LABELS = ("image_labels_train.csv", "image_labels_test.csv")
_CORNERS = ["x_min", "y_min", "x_max", "y_max"]
_RENAMED = {"Other disease": "Other diseases"}  # as the test table calls it
_OUTCOMES = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0, "": np.nan}


def manifest(root: Path, readers: Literal["majority", "any", "all"] = "majority", unlabelled: bool = False) -> Manifest:
    """Reads the layout of PhysioNet (`annotations/image_labels_train.csv` and so on) or of Kaggle (`train.csv`, 14
    findings; its test films have no labels).

    Films of the tables that are not on the disk are left out. Boxes are those of all readers, of findings that the
    film has; they need the films in DICOM, whose headers tell their size. No table names patients: every film counts
    as its own.

    Args:
        root: Of the corpus, with the folders train and test.
        readers: A finding holds if the "majority" (more than half) of a film's readers see it, "any", or "all" of them.
        unlabelled: Add the films in test that no table has (Kaggle's) to those for training, for pretraining.

    Raises:
        UserError: If a table or column is missing, a value is none that belongs there, or none of the films is here.
    """
    if readers not in ("majority", "any", "all"):
        raise UserError(f"vindr: readers must be majority, any or all, not {readers!r}.")
    shares, boxes, source = _physionet(root) or _kaggle(root)
    holds = {"majority": shares > 0.5, "any": shares > 0, "all": shares == 1}[readers]
    labels = holds.astype(float).where(shares.notna()).reset_index()
    labels = present(labels, "image_id", by_stem(root / "train", root / "test"), source)
    table = pd.concat([_table(labels), labels[shares.columns]], axis=1)
    if unlabelled:
        table = pd.concat([table, _unlabelled(root, labels["image_id"])], ignore_index=True)
    log.info("%s: VinDr-CXR names no patients; every film counts as its own.", root)
    found = [_boxes(rows, labels.set_index("image_id"), path) for path, rows in boxes.items()]
    return Manifest(table, list(shares.columns), "multilabel", pd.concat(found, ignore_index=True) if found else None)


_Read = tuple[pd.DataFrame, dict[Path, pd.DataFrame], Path]
"""Share of a film's readers who see each finding, by image_id and split; rows of the tables with boxes; the table."""


def _physionet(root: Path) -> _Read | None:
    places = (root / "annotations", root)
    folder = next((place for place in places if any((place / name).exists() for name in _LABELS)), None)
    if folder is None:
        return None
    official = (folder / _LABELS[1]).exists()
    if not official:
        log.warning("%s is missing: test films are drawn anew, and figures do not compare.", folder / _LABELS[1])
    shares, boxes = [], {}
    for split, name in zip(("train", "test"), _LABELS, strict=True):
        if (folder / name).exists():
            votes = read_csv(folder / name, ("image_id",)).rename(columns=_RENAMED)
            share = _votes(votes, folder / name).groupby(votes["image_id"]).mean()
            shares.append(share.assign(split=split if official else "").set_index("split", append=True))
        annotations = folder / f"annotations_{split}.csv"
        if annotations.exists():
            boxes[annotations] = read_csv(annotations, ("image_id", "class_name"))
    return pd.concat(shares), boxes, folder / _LABELS[0]


def _kaggle(root: Path) -> _Read:
    path = root / "train.csv"
    if not path.exists():
        raise UserError(f"{root}: neither annotations/{_LABELS[0]} of VinDr-CXR nor Kaggle's train.csv is here.")
    rows = read_csv(path, ("image_id", "class_name", "rad_id"))
    foreign = sorted(set(rows["class_name"]) - set(KAGGLE))
    if foreign:
        raise UserError(f"{path}: the finding {foreign[0]!r} is none of the {len(KAGGLE)} of this table.")
    seen = rows.drop_duplicates(["image_id", "rad_id", "class_name"])
    votes = pd.crosstab(seen["image_id"], seen["class_name"]).reindex(columns=KAGGLE, fill_value=0)
    share = votes.div(rows.groupby("image_id")["rad_id"].nunique(), axis=0)
    return share.assign(split="").set_index("split", append=True), {path: rows}, path


def _votes(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    missing = [f"{path}: the column {name!r} is missing." for name in FINDINGS if name not in table]
    if missing:
        raise UserError(*missing)
    for name in FINDINGS:
        wrong = table.index[~table[name].isin(list(_OUTCOMES))]
        if len(wrong):
            raise UserError(f"{path}: {name!r} is {table[name][wrong[0]]!r} in line {wrong[0] + 2}; it must be 0 or 1.")
    return table[FINDINGS].apply(lambda column: column.map(_OUTCOMES))


def _unlabelled(root: Path, known: pd.Series) -> pd.DataFrame:
    films = {name: path for name, path in by_stem(root / "test").items() if name not in set(known)}
    return _table(pd.DataFrame({"image_id": list(films), "path": list(films.values()), "split": "train"}, dtype=str))


def _table(films: pd.DataFrame) -> pd.DataFrame:
    patient = "vindr_" + films["image_id"]
    return pd.DataFrame({"path": films["path"], "corpus": "vindr", "patient": patient, "study": patient, "view": "PA",
                         "split": films["split"]})  # fmt: skip


def _boxes(rows: pd.DataFrame, films: pd.DataFrame, source: Path) -> pd.DataFrame:
    """The boxes in fractions: those of films that are here, in DICOM, and of findings that hold."""
    drawn = sides(rows[rows["image_id"].isin(films.index)], _CORNERS, source, corners=True)
    film = films.loc[rows.loc[drawn.index, "image_id"]]
    drawn = drawn.assign(label=rows.loc[drawn.index, "class_name"], path=film["path"].to_numpy())
    column = film.columns.get_indexer(drawn["label"])
    holds = (column >= 0) & (film.to_numpy(object)[np.arange(len(film)), column] == 1.0)
    dicom = drawn["path"].str.lower().str.endswith((".dicom", ".dcm")).to_numpy(bool)
    if not dicom.all():
        log.warning("%s: %d boxes are left out; they count in the pixels of the DICOM files, and their films are none.",
                    source, int((~dicom).sum()))  # fmt: skip
    return of_films(drawn[holds & dicom])
