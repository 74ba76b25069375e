"""UCI Machine Learning Repository #517: shoulder implants of four makers (Urban et al. 2020).

A folder per maker, or one folder with the maker in the file name (`Cofield.12.jpg`). The published archive names no
patients; `groups.csv` beside them (columns file, manufacturer, group_id, label_conflict) joins repeats of one patient
and marks a film that stands under two makers.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from xrayssl.data.annotations.tables import read_csv
from xrayssl.data.corpora.folder import films_below, from_classes
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
MAKERS = ["Cofield", "Depuy", "Tornier", "Zimmer"]
_FLAGS = {"0": False, "1": True, "False": False, "True": True}


def manifest(root: Path) -> Manifest:
    """Reads the corpus; the task is the maker, four classes.

    Args:
        root: With the makers' folders or the films themselves, or with `dataset/` holding them; and, if you have it,
            `groups.csv`.

    Raises:
        UserError: If a maker has no film, a film has no or two makers, or groups.csv lacks a column or a film.
    """
    films = root / "dataset" if (root / "dataset").is_dir() else root
    paths = films_below(films)
    table = pd.DataFrame({"path": [str(path) for path in paths], "maker": [_maker(path) for path in paths]})
    missing = [maker for maker in MAKERS if maker not in set(table["maker"])]
    if missing:
        raise UserError(f"{films}: no film of the maker {missing[0]!r} of the UCI shoulder corpus.")
    table["patient"] = ["uci_" + path.stem for path in paths]
    groups = root / "groups.csv"
    if groups.exists():
        table = _grouped(table, groups)
    else:
        log.warning("%s is missing: every film counts as its own patient, though some patients repeat.", groups)
    return from_classes(table, "uci_shoulder", table.pop("maker"), MAKERS)


def _maker(path: Path) -> str:
    """By its folder, else by the first word of its name; where both name one, they must agree."""
    said = {name for name in (path.parent.name, path.name.split(".")[0]) if name in MAKERS}
    if len(said) != 1:
        raise UserError(f"{path}: folder and name tell {'two makers' if said else 'none of ' + ', '.join(MAKERS)}.")
    return said.pop()


def _grouped(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    groups = read_csv(path, ("file", "group_id", "label_conflict"))
    groups.index = pd.Index(groups["file"].map(lambda file: Path(file).name))
    _check_groups(groups, table, path)
    films = groups.loc[table["path"].map(lambda film: Path(film).name)]
    conflict = films["label_conflict"].map(_FLAGS).to_numpy(bool)
    if conflict.any():
        log.info("Left out %d films that stand under two makers.", int(conflict.sum()))
    return table.assign(patient=films["group_id"].to_numpy())[~conflict].reset_index(drop=True)


def _check_groups(groups: pd.DataFrame, table: pd.DataFrame, path: Path) -> None:
    twice = groups.index[groups.index.duplicated()]
    unknown = [film for film in table["path"] if Path(film).name not in groups.index]
    unclear = groups["file"][~groups["label_conflict"].isin(list(_FLAGS))]
    if len(twice):
        raise UserError(f"{path}: the film {twice[0]} has more than one line.")
    if unknown:
        raise UserError(f"{path}: no line for the film {unknown[0]}.")
    if len(unclear):
        raise UserError(f"{path}: label_conflict of {unclear.iloc[0]} must be 0 or 1.")
