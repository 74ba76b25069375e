"""The one table every corpus becomes: a row per film, split by patient."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from xrayssl.errors import UserError

log = logging.getLogger(__name__)
COLUMNS = ("path", "corpus", "patient", "study", "view", "split")
SPLITS = ("train", "val", "test")
Task = Literal["multilabel", "multiclass"]


@dataclass(frozen=True)
class Manifest:
    """What a corpus is, as a table.

    Args:
        table: One row per film with the columns path, corpus, patient, study, view, split (one of train, val,
            test, or empty: still to be assigned) and one float column per class: 1 present, 0 absent, NaN unknown.
        classes: Names of the label columns, in the order of the network's outputs.
        task: "multilabel" (independent findings), "multiclass" (exactly one class holds), or None (no labels).

    Raises:
        UserError: If a column is missing, a split or label is outside its vocabulary, or a patient, or a file,
            stands in two splits.
    """

    table: pd.DataFrame
    classes: list[str] = field(default_factory=list)
    task: Task | None = None

    def __post_init__(self) -> None:
        problems = [*_missing_columns(self), *_foreign_values(self)] or _leaks(self.table)
        if problems:
            raise UserError(*problems)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def patients(self) -> int:
        """Number of distinct patients."""
        return int(self.table["patient"].nunique())

    def labels(self) -> np.ndarray:
        """All labels as float32 (N, K), NaN where unknown."""
        return self.table[self.classes].to_numpy(np.float32).reshape(len(self), len(self.classes))

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split, int64 (N,)."""
        return np.flatnonzero((self.table["split"] == split).to_numpy())

    def checksum(self) -> str:
        """SHA-256 over films, patients, splits and labels; independent of where the corpus lies."""
        names = self.table["path"].map(lambda path: "/".join(str(path).split("/")[-2:]))
        content = self.table.assign(path=names)[["path", "corpus", "patient", "split", *self.classes]]
        return hashlib.sha256(pd.util.hash_pandas_object(content, index=False).to_numpy().tobytes()).hexdigest()


def _missing_columns(manifest: Manifest) -> list[str]:
    missing = [name for name in (*COLUMNS, *manifest.classes) if name not in manifest.table.columns]
    return [f"The manifest lacks the column {name!r}." for name in missing]


def _foreign_values(manifest: Manifest) -> list[str]:
    if _missing_columns(manifest):
        return []
    table, problems = manifest.table, []
    for split in sorted(set(table["split"]) - {*SPLITS, ""}):
        film = table["path"][table["split"] == split].iloc[0]
        problems.append(f"{film}: the split {split!r} is none of train, val, test.")
    for name in manifest.classes:
        known = table[name].isin([0.0, 1.0]) | table[name].isna()
        if not known.all():
            row = table[~known].iloc[0]
            problems.append(f"{row['path']}: the label {name!r} is {row[name]!r}; write 1, 0 or leave it empty.")
    return problems + _not_exclusive(manifest)


def _not_exclusive(manifest: Manifest) -> list[str]:
    if manifest.task != "multiclass" or not len(manifest):
        return []
    labels = manifest.labels()
    known = ~np.isnan(labels).any(axis=1)
    wrong = np.flatnonzero(known & (np.nansum(labels, axis=1) != 1))
    path = manifest.table["path"]
    return [f"{path.iloc[i]}: a multi-class film needs exactly one class." for i in wrong[:1]]


def _leaks(table: pd.DataFrame) -> list[str]:
    assigned = table[table["split"] != ""]
    problems = []
    for column in ("patient", "path"):
        splits = assigned.groupby(column)["split"].nunique()
        for name in splits.index[splits > 1][:5]:
            where = assigned[assigned[column] == name].drop_duplicates("split")
            films = ", ".join(f"{path} ({split})" for path, split in zip(where["path"], where["split"], strict=True))
            problems.append(f"The {column} {name!r} stands in more than one split: {films}. Keep it in one.")
    return problems


def join(manifests: Sequence[Manifest]) -> Manifest:
    """Puts several corpora into one manifest; a finding that a corpus does not know is NaN there.

    Labels that pose different tasks (multi-label beside multi-class) cannot be learned together: they are left out,
    which pretraining does not mind.
    """
    tasks = {manifest.task for manifest in manifests} - {None}
    table = pd.concat([manifest.table for manifest in manifests], ignore_index=True)
    if len(tasks) > 1:
        log.warning("The corpora mix a multi-label and a multi-class task: their labels are left out.")
        return Manifest(table[list(COLUMNS)])
    classes = list(dict.fromkeys(name for manifest in manifests for name in manifest.classes))
    if tasks == {"multiclass"}:
        labelled = table[classes].max(axis=1) == 1
        table.loc[labelled, classes] = table.loc[labelled, classes].fillna(0.0)
    return Manifest(table, classes, next(iter(tasks), None))


def select(manifest: Manifest, classes: Sequence[str] | None) -> Manifest:
    """Keeps the named classes, in the named order (None: all); of a multi-class task, only their films.

    Raises:
        UserError: If a name is outside the corpus's vocabulary.
    """
    if classes is None:
        return manifest
    unknown = [name for name in classes if name not in manifest.classes]
    if unknown:
        known = ", ".join(manifest.classes) or "none"
        raise UserError(*(f"The label {name!r} is not in these corpora; they know: {known}." for name in unknown))
    table = manifest.table
    if manifest.task == "multiclass":
        elsewhere = table[manifest.classes].notna().any(axis=1) & (table[list(classes)].max(axis=1) != 1)
        table = table[~elsewhere].reset_index(drop=True)
    return Manifest(table, list(classes), manifest.task)
