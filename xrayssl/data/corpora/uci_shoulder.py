"""UCI Machine Learning Repository #517: shoulder implants of four makers (Urban et al. 2020).

A folder per maker. The published archive names no patients; `groups.csv` beside the folders (columns file,
manufacturer, group_id, label_conflict) joins repeats of one patient and marks a film that stands under two makers.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from xrayssl.data.corpora.folder import films_below, from_classes
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
MAKERS = ["Cofield", "Depuy", "Tornier", "Zimmer"]


def manifest(root: Path) -> Manifest:
    """Reads the corpus; the task is the maker, four classes.

    Args:
        root: With the makers' folders, or with `dataset/` and optionally `groups.csv`.

    Raises:
        UserError: If a maker's folder is missing, or groups.csv lacks a column or a film.
    """
    films = root / "dataset" if (root / "dataset").is_dir() else root
    missing = [maker for maker in MAKERS if not (films / maker).is_dir()]
    if missing:
        raise UserError(f"{films}: the folder {missing[0]!r} of the UCI shoulder corpus is missing.")
    paths = [path for maker in MAKERS for path in films_below(films / maker)]
    table = pd.DataFrame({"path": [str(path) for path in paths], "maker": [path.parent.name for path in paths]})
    table["patient"] = table["path"].map(lambda path: "uci_" + Path(path).stem)
    groups = root / "groups.csv"
    if groups.exists():
        table = _grouped(table, groups, films)
    else:
        log.warning("%s is missing: every film counts as its own patient, though some patients repeat.", groups)
    return from_classes(table, "uci_shoulder", table.pop("maker"), MAKERS)


def _grouped(table: pd.DataFrame, path: Path, films: Path) -> pd.DataFrame:
    groups = pd.read_csv(path)
    for column in ("file", "group_id", "label_conflict"):
        if column not in groups.columns:
            raise UserError(f"{path}: the column {column!r} is missing.")
    groups.index = groups["file"].map(
        lambda name: str(films.parent / name if name.startswith("dataset") else films / name)
    )
    unknown = sorted(set(table["path"]) - set(groups.index))
    if unknown:
        raise UserError(f"{path}: no line for the film {unknown[0]}.")
    table["patient"] = table["path"].map(groups["group_id"])
    conflict = table["path"].map(groups["label_conflict"]).astype(bool)
    if conflict.any():
        log.info("Left out %d films that stand under two makers.", int(conflict.sum()))
    return table[~conflict].reset_index(drop=True)
