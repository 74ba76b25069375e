"""RSNA Pneumonia Detection Challenge 2018: 26,684 frontal chest films of NIH ChestX-ray14 in DICOM, read anew for lung
opacities that suggest pneumonia, with boxes (Shih et al., Radiology: Artificial Intelligence 1(1):e180041, 2019)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from xrayssl.data.annotations.boxes import sides, with_area
from xrayssl.data.annotations.lookup import by_stem, present
from xrayssl.data.annotations.tables import read_csv
from xrayssl.data.manifest import COLUMNS, Manifest, in_fractions
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
CLASSES = ["Normal", "No Lung Opacity / Not Normal", "Lung Opacity"]
SIDE = 1024
"""Pixels of the films' width and height, all of them; the boxes count in these."""
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
_LABELS, _DETAILS = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"


def manifest(root: Path, task: Literal["pneumonia", "classes"] = "pneumonia", unlabelled: bool = False) -> Manifest:
    """Reads stage_2_train_images, stage_2_train_labels.csv (a row per box) and stage_2_detailed_class_info.csv.

    The films are NIH ChestX-ray14's: keep them out of pretraining on that corpus when this one is the test. The
    challenge calls every film a patient, though some NIH patients have several; with RSNA's own
    pneumonia-challenge-dataset-mappings_2018.json beside the tables, films are grouped by NIH patient.

    Args:
        root: Of the corpus.
        task: "pneumonia" (one finding, yes or no) or "classes" (Normal, No Lung Opacity / Not Normal, Lung Opacity).
        unlabelled: Add stage_2_test_images, which have no labels, to the films for training: for pretraining.

    Raises:
        UserError: If a table or column is missing, a film's rows contradict each other, or none of the films is here.
    """
    if task not in ("pneumonia", "classes"):
        raise UserError(f"rsna: task must be pneumonia or classes, not {task!r}.")
    rows = read_csv(root / _LABELS, ("patientId", "Target"))
    films = _one_row(rows[["patientId", "Target"]], root / _LABELS, {"0", "1"})
    films = present(films, "patientId", by_stem(root / "stage_2_train_images"), root / _LABELS)
    classes = ["Pneumonia"] if task == "pneumonia" else CLASSES
    boxes = _boxes(rows, films, root / _LABELS).assign(label=classes[-1])
    films = films.join(_labels(films, root, classes))
    if unlabelled:
        more = by_stem(root / "stage_2_test_images")
        other = pd.DataFrame({"patientId": list(more), "path": list(more.values())}, dtype=str)
        films = pd.concat([films, other], ignore_index=True)
    patient = _patients(root, films["patientId"])
    free = patient.isin(patient[films["Target"].notna()])  # other films of these patients go where they go
    table = films.assign(corpus="rsna", patient=patient, study="rsna_" + films["patientId"], view="",
                         split=np.where(free, "", "train"))  # fmt: skip
    return Manifest(table[[*COLUMNS, *classes]], classes, "multilabel" if task == "pneumonia" else "multiclass", boxes)


def _one_row(rows: pd.DataFrame, path: Path, values: set[str]) -> pd.DataFrame:
    """A row per film of a table that repeats it for every box."""
    name = rows.columns[1]
    foreign = rows.index[~rows[name].isin(list(values))]
    if len(foreign):
        allowed = ", ".join(sorted(values))
        raise UserError(f"{path}: {name!r} is {rows[name][foreign[0]]!r} in line {foreign[0] + 2}, none of {allowed}.")
    once = rows.drop_duplicates()
    torn = once["patientId"][once["patientId"].duplicated()]
    if len(torn):
        raise UserError(f"{path}: the rows of the film {torn.iloc[0]} differ in {name!r}.")
    return once.reset_index(drop=True)


def _labels(films: pd.DataFrame, root: Path, classes: list[str]) -> pd.DataFrame:
    opaque = films["Target"] == "1"
    if len(classes) == 1:
        return pd.DataFrame({classes[0]: opaque.astype(float)})
    rows = read_csv(root / _DETAILS, ("patientId", "class"))
    detail = _one_row(rows[["patientId", "class"]], root / _DETAILS, set(CLASSES)).set_index("patientId")["class"]
    found = films["patientId"].map(detail)
    wrong = films["patientId"][found.isna() | ((found == "Lung Opacity") != opaque)]
    if len(wrong):
        raise UserError(f"{root / _DETAILS}: the film {wrong.iloc[0]} is missing, or contradicts {_LABELS}.")
    return pd.DataFrame({name: (found == name).astype(float) for name in classes})


def _boxes(rows: pd.DataFrame, films: pd.DataFrame, source: Path) -> pd.DataFrame:
    path = rows["patientId"].map(films.set_index("patientId")["path"])
    boxed = rows[(rows["Target"] == "1") & path.notna()]
    drawn = sides(boxed, ["x", "y", "width", "height"], source)
    return with_area(in_fractions(drawn.assign(path=path, label=""), SIDE, SIDE))


def _patients(root: Path, films: pd.Series) -> pd.Series:
    mapping = root / MAPPING
    if not mapping.exists():
        log.warning("%s is missing: every film counts as its own patient, though some NIH patients have several.",
                    mapping)  # fmt: skip
        return "rsna_" + films
    try:
        nih = {entry["subset_img_id"]: entry["img_id"].split("_")[0] for entry in json.loads(mapping.read_text())}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{mapping}: this is not RSNA's list of films with subset_img_id and img_id.") from None
    known = films.map(nih)
    return "rsna_" + known.where(known.notna(), films)
