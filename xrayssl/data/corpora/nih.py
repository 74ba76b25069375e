"""NIH ChestX-ray14: 112,120 frontal chest films with 14 findings (Wang et al., CVPR 2017)."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.data.corpora.folder import films_below
from xrayssl.data.manifest import Manifest
from xrayssl.data.tables import read_csv
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
FINDINGS = [
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
]  # fmt: skip
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
_LISTS = (("train_val_list.txt", "train"), ("test_list.txt", "test"))


def manifest(root: Path) -> Manifest:
    """Reads the official layout: Data_Entry_2017*.csv, train_val_list.txt, test_list.txt and the images.

    Films are found by their stem, in `images/`, in `images_001/images/` to `images_012/images/`, or beside the table;
    those of the table that are not on the disk are left out, since many groups hold a part. Validation is cut from
    the official train_val list by patient; the corpus has no such split.

    Args:
        root: Of the corpus.

    Raises:
        UserError: If the table or a column is missing, a finding is outside the vocabulary of 14, or a film stands
            twice in the table, in the lists or on the disk.
    """
    entries = _entries(root)
    table = pd.DataFrame({"path": entries["path"], "corpus": "nih"})
    table["patient"] = "nih_" + entries["Patient ID"].astype(str)
    table["study"] = table["patient"] + "_" + entries.get("Follow-up #", pd.Series("0", entries.index)).astype(str)
    table["view"] = entries.get("View Position", "")
    table["split"] = _official_split(root, entries["stem"])
    return Manifest(table.assign(**_findings(entries)), FINDINGS, "multilabel")


def _entries(root: Path) -> pd.DataFrame:
    """Rows of the table whose film is on the disk, with its path and stem."""
    found = sorted(root.glob("Data_Entry_2017*.csv"))
    if not found:
        raise UserError(f"{root}: Data_Entry_2017.csv of the NIH corpus is missing.")
    entries = read_csv(found[0], _COLUMNS)
    entries["stem"] = entries["Image Index"].map(_stem)
    _refuse_twice(entries["stem"], found[0])
    entries["path"] = entries["stem"].map(_films(root))
    here = entries.dropna(subset="path").reset_index(drop=True)
    if here.empty:
        raise UserError(f"{root}: none of the films in {found[0].name} lies in an images folder here.")
    log.info("%s: %d of the %d films of the table are here.", root, len(here), len(entries))
    return here


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _films(root: Path) -> dict[str, str]:
    films = pd.Series([str(path) for path in films_below(root) if path.parent.name == "images" or path.parent == root])
    stems = films.map(lambda path: Path(path).stem)
    _refuse_twice(stems, root)
    return dict(zip(stems, films, strict=True))


def _refuse_twice(stems: pd.Series, where: Path) -> None:
    twice = stems[stems.duplicated()]
    if len(twice):
        raise UserError(f"{where}: the film {twice.iloc[0]} is here more than once; keep one.")


def _findings(entries: pd.DataFrame) -> dict[str, np.ndarray]:
    tokens = entries["Finding Labels"].map(lambda text: {name.strip() for name in text.split("|")})
    known = {*FINDINGS, "No Finding"}
    for film, names in zip(entries["Image Index"], tokens, strict=True):
        foreign = sorted(names - known)
        if foreign:
            raise UserError(f"{film}: the finding {foreign[0]!r} is none of the 14 of this corpus.")
    return {name: tokens.map(lambda names, name=name: float(name in names)).to_numpy(float) for name in FINDINGS}


def _official_split(root: Path, stems: pd.Series) -> pd.Series:
    split = pd.Series("", stems.index)
    for name, value in _LISTS:
        listed = stems.isin(_listed(root / name))
        both = stems[listed & (split != "")]
        if len(both):
            raise UserError(f"{root / name}: the film {both.iloc[0]} stands in {_LISTS[0][0]} too.")
        split[listed] = value
    return split


def _listed(path: Path) -> set[str]:
    if not path.exists():
        log.warning("%s is missing: its films are split anew, and figures do not compare with published ones.", path)
        return set()
    names = path.read_text().split()
    if not names:
        raise UserError(f"{path}: the list is empty.")
    return {_stem(name) for name in names}
