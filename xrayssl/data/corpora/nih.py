"""NIH ChestX-ray14: 112,120 frontal chest films with 14 findings (Wang et al., CVPR 2017)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.data.corpora.folder import films_below
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

FINDINGS = [
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
]  # fmt: skip
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")


def manifest(root: Path) -> Manifest:
    """Reads the official layout: Data_Entry_2017*.csv, train_val_list.txt, test_list.txt and the images.

    Films are found by their stem, in `images/` or `images_001/images/` to `images_012/images/`; those of the table
    that are not on the disk are left out, since many groups hold a part. Validation is cut from the official
    train_val list by patient; the corpus has no such split.

    Args:
        root: Of the corpus.

    Raises:
        UserError: If the table or a column is missing, or a finding is outside the vocabulary of 14.
    """
    entries = _entries(root)
    films = {path.stem: str(path) for path in films_below(root) if path.parent.name == "images"}
    stems = entries["Image Index"].str.rsplit(".", n=1).str[0]
    entries = entries.assign(path=stems.map(films)).dropna(subset="path").reset_index(drop=True)
    if entries.empty:
        raise UserError(f"{root}: none of the films in Data_Entry_2017 lies in an images folder here.")
    table = pd.DataFrame({"path": entries["path"], "corpus": "nih"})
    table["patient"] = "nih_" + entries["Patient ID"].astype(str)
    table["study"] = table["patient"] + "_" + entries.get("Follow-up #", pd.Series("0", entries.index)).astype(str)
    table["view"] = entries.get("View Position", "")
    table["split"] = _official_split(root, entries["Image Index"])
    return Manifest(table.assign(**_findings(entries)), FINDINGS, "multilabel")


def _entries(root: Path) -> pd.DataFrame:
    found = sorted(root.glob("Data_Entry_2017*.csv"))
    if not found:
        raise UserError(f"{root}: Data_Entry_2017.csv of the NIH corpus is missing.")
    # a comma inside a column name splits the header in two, and rows may end in empty columns
    entries = pd.read_csv(found[0], index_col=False, dtype=str, usecols=lambda name: not name.startswith("Unnamed"))
    for column in _COLUMNS:
        if column not in entries.columns:
            raise UserError(f"{found[0]}: the column {column!r} is missing.")
    return entries


def _findings(entries: pd.DataFrame) -> dict[str, np.ndarray]:
    tokens = entries["Finding Labels"].str.split("|")
    known = {*FINDINGS, "No Finding"}
    for film, names in zip(entries["Image Index"], tokens, strict=True):
        foreign = set(names) - known
        if foreign:
            raise UserError(f"{film}: the finding {sorted(foreign)[0]!r} is none of the 14 of this corpus.")
    return {name: tokens.map(lambda names, name=name: float(name in names)).to_numpy(float) for name in FINDINGS}


def _official_split(root: Path, films: pd.Series) -> pd.Series:
    split = pd.Series("", films.index)
    for name, value in (("train_val_list.txt", "train"), ("test_list.txt", "test")):
        path = root / name
        if path.exists():
            split[films.isin(path.read_text().split())] = value
    return split
