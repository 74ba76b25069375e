"""COVIDx: chest films of several collections with and without COVID-19, from V2 to CXR-4 (Wang et al., Scientific
Reports 10:19549, 2020)."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from xrayssl.data.annotations.tables import films_here
from xrayssl.data.corpora.folder import from_classes
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
TWO, THREE = ["negative", "positive"], ["normal", "pneumonia", "COVID-19"]
_NAMES = {name.lower(): name for name in (*TWO, *THREE)}
_LINE = re.compile(rf"(.+?)\s+(\S+)\s+({'|'.join(map(re.escape, _NAMES))})(?:\s+(\S+))?", re.IGNORECASE)
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_COLUMNS = ("patient", "film", "class", "source")


def manifest(
    root: Path,
    classes: Literal[2, 3] | None = None,
    version: str | None = None,
    sources: Sequence[str] | None = None,
) -> Manifest:
    """Reads train.txt, val.txt where there is one, and test.txt, a film a line: patient, file, class and, from V3 on,
    source. Films lie in train, val and test, or all beside the lists.

    The class can be told from the source, for one collection has all the healthy and another all the ill: look at
    figures within a source before you believe them. The sources stay in the manifest's column `source`. `rsna` films
    are NIH ChestX-ray14's: when this corpus is the test, keep its test.txt out of pretraining on that one (see
    `xrayssl.data.exclusion`).

    Args:
        root: Of the corpus.
        classes: 2 (negative, positive) or 3 (normal, pneumonia, COVID-19); a list with 3 can be read as 2. null: as
            many as the lists have.
        version: Of the lists, where they are called train_COVIDx9A.txt: "COVIDx9A".
        sources: Keep the films of these collections alone, such as rsna.

    Raises:
        UserError: If a list is missing, a line tells no class, or none of the films is here.
    """
    if classes not in (None, 2, 3):
        raise UserError(f"covidx: classes is 2, 3 or null, not {classes!r}.")
    lists = {split: root / f"{split}{f'_{version}' if version else ''}.txt" for split in ("train", "val", "test")}
    there = [(split, path) for split, path in lists.items() if split != "val" or path.is_file()]
    table = pd.concat([_listed(path, root, split) for split, path in there], ignore_index=True)
    table = _from(_whole_patients(table, root), sources, root)
    names = _vocabulary(table["class"], classes, root)
    labels = table["class"].where(
        table["class"].isin(names), table["class"].eq("COVID-19").map({True: "positive", False: "negative"})
    )
    table = films_here(table.assign(label=labels), root)
    return from_classes(table.drop(columns=["film", "class", "label"]), "covidx", table["label"], names)


def _listed(path: Path, root: Path, split: str) -> pd.DataFrame:
    """A row per line of a list: path, patient, split, class and source."""
    if not path.is_file():
        others = sorted(found.stem.removeprefix(f"{split}_") for found in root.glob(f"{split}_*.txt"))
        hint = f" Set the option version to one of {', '.join(others)}." if others else ""
        raise UserError(f"{path}: this list of COVIDx is missing.{hint}")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the list cannot be read as text ({error}).") from None
    rows = [(number, line, _LINE.fullmatch(line)) for number, line in enumerate(lines, 1) if line]
    for number, line, found in rows:
        if not found:
            raise UserError(f"{path}: line {number}, {line!r}, is not patient, file, class and source.")
    table = pd.DataFrame([found.groups() for *_, found in rows if found], columns=list(_COLUMNS), dtype=str)
    folder = root / split if (root / split).is_dir() else root
    return table.assign(
        path=f"{folder}/" + table["film"], patient="covidx_" + table["patient"], split=split,
        source=_source(table), **{"class": table["class"].str.lower().map(_NAMES)},
    )  # fmt: skip


def _source(table: pd.DataFrame) -> pd.Series:
    """Where a film is from. Lists write rnsa as well as rsna, and nothing for films under the name RSNA gave them."""
    unnamed = table["film"].str.fullmatch(rf"{_UUID}\.\w+").map({True: "rsna", False: ""})
    return table["source"].where(table["source"].notna(), unnamed).str.lower().replace("rnsa", "rsna")


def _whole_patients(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Without training and validation films of patients who are tested: V6 and V7B have some."""
    rank = table["split"].map({"train": 0, "val": 1, "test": 2})
    kept = rank == rank.groupby(table["patient"]).transform("max")
    if not kept.all():
        names = table["patient"][~kept].unique()
        log.warning("%s: left out %d films of %d patients, such as %s, of whom others are for validation or testing.",
                    root, (~kept).sum(), len(names), names[0])  # fmt: skip
    return table[kept].reset_index(drop=True)


def _from(table: pd.DataFrame, sources: Sequence[str] | None, root: Path) -> pd.DataFrame:
    if sources is None:
        return table
    there = sorted(table["source"].unique())
    foreign = [name for name in sources if name not in there]
    if foreign or not sources:
        raise UserError(f"{root}: no film is from {(foreign or ['nowhere'])[0]!r}; sources are {', '.join(there)}.")
    return table[table["source"].isin(list(sources))].reset_index(drop=True)


def _vocabulary(found: pd.Series, classes: int | None, root: Path) -> list[str]:
    there = set(found)
    if there & set(TWO) and there & set(THREE):
        raise UserError(f"{root}: some lists have two classes and others three; use lists of one version.")
    if there & set(TWO) and classes == 3:
        raise UserError(f"{root}: these lists have two classes, negative and positive; set classes to 2.")
    return TWO if classes == 2 or there & set(TWO) else THREE
