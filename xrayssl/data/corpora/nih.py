"""NIH ChestX-ray14: 112,120 frontal chest films with 14 findings (Wang et al., CVPR 2017)."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.data.annotations.boxes import sides, with_area
from xrayssl.data.annotations.demographics import ages, sexes
from xrayssl.data.annotations.tables import read_csv
from xrayssl.data.manifest import BOX_COLUMNS, Manifest, in_fractions
from xrayssl.data.radiograph import SUFFIXES
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
FINDINGS = [
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
]  # fmt: skip
SIDE = 1024
"""Pixels of the published films' width and height, in which the boxes count, whatever size the films here have."""
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
_BOX = ("Bbox [x", "y", "w", "h]")
_LISTS = (("train_val_list.txt", "train"), ("test_list.txt", "test"))


def manifest(root: Path) -> Manifest:
    """Reads the official layout: Data_Entry_2017*.csv, train_val_list.txt, test_list.txt, BBox_List_2017.csv, films.

    Films are found by their stem, in `images/`, in `images_001/images/` to `images_012/images/`, or beside the table;
    those of the table that are not on the disk are left out, since many groups hold a part. Validation is cut from
    the official train_val list by patient; the corpus has no such split. The boxes of 8 findings, all on test films,
    call Infiltration "Infiltrate"; boxes of films that are not here are left out.

    Args:
        root: Of the corpus.

    Raises:
        UserError: If the table or a column is missing, a finding is outside the vocabulary of 14, or a film stands
            twice in the table, in the lists or on the disk, or a box is none.
    """
    entries = _entries(root)
    table = pd.DataFrame({"path": entries["path"], "corpus": "nih"})
    table["patient"] = "nih_" + entries["Patient ID"].astype(str)
    table["study"] = table["patient"] + "_" + entries.get("Follow-up #", pd.Series("0", entries.index)).astype(str)
    table["view"] = entries.get("View Position", "")
    table["split"] = _official_split(root, entries["stem"])
    blank = pd.Series("", entries.index)
    table["sex"] = sexes(entries.get("Patient Gender", blank))
    table["age"] = ages(entries.get("Patient Age", blank))
    boxes = _boxes(root / "BBox_List_2017.csv", entries.set_index("stem")["path"])
    return Manifest(table.assign(**_findings(entries)), FINDINGS, "multilabel", boxes)


def _entries(root: Path) -> pd.DataFrame:
    """Rows of the table whose film is on the disk, with its path and stem."""
    found = sorted(root.glob("Data_Entry_2017*.csv"))
    if not found:
        raise UserError(f"{root}: Data_Entry_2017.csv of the NIH corpus is missing.")
    entries = read_csv(found[0], _COLUMNS, also=("Follow-up #", "View Position", "Patient Age", "Patient Gender"))
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
    """Path of every film by its stem; only the folders that may hold some are looked into, and each but once."""
    folders = [root, *(folder for depth in ("", "*/", "*/*/") for folder in sorted(root.glob(f"{depth}images")))]
    films = [(*os.path.splitext(name), os.path.join(folder, name))
             for folder in folders for name in sorted(os.listdir(folder)) if not name.startswith(".")]  # fmt: skip
    pictures = [(stem, path) for stem, suffix, path in films if suffix.lower() in SUFFIXES]
    _refuse_twice(pd.Series([stem for stem, _ in pictures], dtype=str), root)
    return dict(pictures)


def _refuse_twice(stems: pd.Series, where: Path) -> None:
    twice = stems[stems.duplicated()]
    if len(twice):
        raise UserError(f"{where}: the film {twice.iloc[0]} is here more than once; keep one.")


def _findings(entries: pd.DataFrame) -> dict[str, np.ndarray]:
    codes, texts = pd.factorize(entries["Finding Labels"])  # 112,120 films have 836 combinations
    tokens = [{name.strip() for name in text.split("|")} for text in texts]
    known = {*FINDINGS, "No Finding"}
    for code, names in enumerate(tokens):
        foreign = sorted(names - known)
        if foreign:
            film = entries["Image Index"].iloc[np.argmax(codes == code)]
            raise UserError(f"{film}: the finding {foreign[0]!r} is none of the 14 of this corpus.")
    return {name: np.array([name in names for names in tokens], float)[codes] for name in FINDINGS}


def _boxes(source: Path, paths: pd.Series) -> pd.DataFrame | None:
    """Boxes of the films here, in fractions.

    Args:
        source: The list: a header that splits to 9 names, and rows of 6 values or more.
        paths: Of films by stem.
    """
    if not source.is_file():
        log.info("%s is missing: the films have no boxes.", source)
        return None
    rows = read_csv(source, ("Image Index", "Finding Label", *_BOX), also=())
    label = rows["Finding Label"].replace("Infiltrate", "Infiltration")
    foreign = rows.index[~label.isin(FINDINGS)]
    if len(foreign):
        raise UserError(f"{source}: the finding {label[foreign[0]]!r} in line {foreign[0] + 2} is none of the 14.")
    pixels = sides(rows, _BOX, source).assign(path=rows["Image Index"].map(_stem).map(paths), label=label)
    here = pixels[pixels["path"].notna()]
    log.info("%s: %d of its %d boxes are of films that are here.", source, len(here), len(rows))
    return with_area(in_fractions(here, SIDE, SIDE))[list(BOX_COLUMNS)]


def _official_split(root: Path, stems: pd.Series) -> pd.Series:
    split = pd.Series("", stems.index)
    for name, value in _LISTS:
        listed = stems.isin(_listed(root / name))
        both = stems[listed & (split != "")]
        if len(both):
            raise UserError(f"{root / name}: the film {both.iloc[0]} stands in {_LISTS[0][0]} too.")
        split[listed] = value
    loose = stems[split == ""]
    if len(loose) and (split == "test").any():
        log.warning("%s: %d films, such as %s, stand in neither list and come to training.",
                    root, len(loose), loose.iloc[0])  # fmt: skip
    return split


def _listed(path: Path) -> set[str]:
    if not path.exists():
        log.warning("%s is missing: its films are split anew, and figures do not compare with published ones.", path)
        return set()
    try:
        names = path.read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError:
        raise UserError(f"{path}: the list is not UTF-8 text; save it as such.") from None
    if not names:
        raise UserError(f"{path}: the list is empty.")
    return {_stem(name) for name in names}
