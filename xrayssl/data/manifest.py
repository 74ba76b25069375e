"""The one table every corpus becomes: a row per film, split by patient."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from xrayssl.errors import UserError

log = logging.getLogger(__name__)
COLUMNS = ("path", "corpus", "patient", "study", "view", "split")
SUBGROUPS = ("sex", "age")
SPLITS = ("train", "val", "test")
BOX_COLUMNS = ("path", "label", "left", "top", "width", "height")
SIDES = list(BOX_COLUMNS[2:])
Task = Literal["multilabel", "multiclass"]
Score = Literal["film", "study"]


@dataclass(frozen=True)
class Manifest:
    """What a corpus is, as a table.

    Args:
        table: One row per film with the columns path, corpus, patient, study, view, split (one of train, val,
            test, or empty: still to be assigned) and one float column per class: 1 present, 0 absent, NaN unknown.
            Where a corpus knows them, also sex ("F", "M" or "" for unknown) and age (float, years, NaN unknown), for
            figures by subgroup; without these columns they are unknown.
        classes: Names of the label columns, in the order of the network's outputs.
        task: "multilabel" (independent findings), "multiclass" (exactly one class holds), or None (no labels).
        boxes: Where findings lie, a row per box with the columns path and label (a film and a class of this manifest)
            and left, top, width, height in fractions (0-1) of the film's width and height, so that resizing a film
            changes nothing. None: the corpus has none.
        score: What a prediction is scored for: each "film", or each "study" (the mean probability over its films).

    Raises:
        UserError: If a column is missing, a split or label is outside its vocabulary, a patient, or a file, stands
            in two splits, or a box lies outside its film or names a film or class that is not there.
    """

    table: pd.DataFrame
    classes: list[str] = field(default_factory=list)
    task: Task | None = None
    boxes: pd.DataFrame | None = None
    score: Score = "film"

    def __post_init__(self) -> None:
        problems = [*_missing_columns(self), *_foreign_values(self)]
        problems = problems or [*_leaks(self.table), *_wrong_boxes(self)]
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

    def keep(self, rows: np.ndarray) -> Manifest:
        """The same corpus with these rows alone, and their boxes.

        Args:
            rows: bool (N,).
        """
        table = self.table[rows].reset_index(drop=True)
        return replace(self, table=table, boxes=_boxes_of(self.boxes, table, self.classes))

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
    for split in sorted({*table["split"].unique()} - {*SPLITS, ""}):
        film = table["path"][table["split"] == split].iloc[0]
        problems.append(f"{film}: the split {split!r} is none of train, val, test.")
    for name in manifest.classes:
        known = table[name].isin([0.0, 1.0]) | table[name].isna()
        if not known.all():
            row = table[~known].iloc[0]
            problems.append(f"{row['path']}: the label {name!r} is {row[name]!r}; write 1, 0 or leave it empty.")
    return [*problems, *_foreign_people(manifest), *_not_exclusive(manifest)]


def _foreign_people(manifest: Manifest) -> list[str]:
    table = manifest.table
    problems = [f"A class cannot be called {name!r}, which has a meaning of its own; rename it."
                for name in SUBGROUPS if name in manifest.classes]  # fmt: skip
    strange = {} if problems or "sex" not in table else {*table["sex"].unique()} - {"F", "M", ""}
    problems += [f"The sex {value!r} is none of F, M and '' (unknown)." for value in strange]
    if not problems and "age" in table and not pd.api.types.is_float_dtype(table["age"]):
        problems.append("The column 'age' must hold years as float numbers, NaN where they are unknown.")
    return problems


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
    split, _ = pd.factorize(assigned["split"])
    problems = []
    for column in ("patient", "path"):
        code, names = pd.factorize(assigned[column], use_na_sentinel=False)
        last = np.zeros(len(names), int)
        last[code] = split  # of several rows the last one's; half a million must not take long
        for name in names[np.unique(code[split != last[code]])][:5]:
            where = assigned[assigned[column] == name].drop_duplicates("split")
            films = ", ".join(f"{path} ({part})" for path, part in zip(where["path"], where["split"], strict=True))
            problems.append(f"The {column} {name!r} stands in more than one split: {films}. Keep it in one.")
    return problems


def _wrong_boxes(manifest: Manifest) -> list[str]:
    boxes = manifest.boxes
    if boxes is None:
        return []
    missing = [name for name in BOX_COLUMNS if name not in boxes.columns]
    if missing:
        return [f"The boxes lack the column {name!r}." for name in missing]
    sides = boxes[SIDES].to_numpy(float)
    inside = (sides[:, :2] >= 0) & (sides[:, 2:] > 0) & (sides[:, :2] + sides[:, 2:] <= 1 + 1e-6)
    wrong = {
        "its film is not in the manifest": ~_named(boxes["path"], manifest.table["path"]),
        f"the class is none of {', '.join(manifest.classes) or 'those here, for there is none'}": ~boxes["label"].isin(
            manifest.classes
        ),
        "it lies outside the film (left, top, width, height are shares of it, 0-1)": ~inside.all(axis=1),
    }
    first = ((reason, boxes[rows].iloc[0]) for reason, rows in wrong.items() if rows.any())
    return [f"{box['path']}: the box of {box['label']!r} cannot be used: {reason}." for reason, box in first]


def in_fractions(boxes: pd.DataFrame, width: float | pd.Series, height: float | pd.Series) -> pd.DataFrame:
    """Turns boxes in pixels into fractions of their films, cut at the film's edges.

    Args:
        boxes: With the columns of `BOX_COLUMNS`; left, top, width and height in pixels.
        width: Of the films in those pixels: one for all, or one per box.
        height: Likewise.

    Returns:
        Such a table in fractions (0-1). What lies outside its film altogether gets no area, which a manifest refuses.
    """
    near = {"left": boxes["left"] / width, "top": boxes["top"] / height}
    far = {"left": (boxes["left"] + boxes["width"]) / width, "top": (boxes["top"] + boxes["height"]) / height}
    start = {side: values.clip(0.0, 1.0) for side, values in near.items()}
    extent = {name: far[side].clip(0.0, 1.0) - start[side] for name, side in (("width", "left"), ("height", "top"))}
    return boxes[list(BOX_COLUMNS)].assign(**start, **extent)


def _boxes_of(boxes: pd.DataFrame | None, table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame | None:
    """Those of the films and classes given."""
    if boxes is None:
        return None
    return boxes[_named(boxes["path"], table["path"]) & boxes["label"].isin(list(classes))].reset_index(drop=True)


def _named(few: pd.Series, many: pd.Series) -> pd.Series:
    """Which of a few values stand among many: pandas is quick in finding few among many."""
    return few.isin(many[many.isin(few.unique())].unique())


def join(manifests: Sequence[Manifest]) -> Manifest:
    """Puts several corpora into one manifest; a finding that a corpus does not know is NaN there.

    Labels that pose different tasks (multi-label beside multi-class) cannot be learned together: they are left out,
    which pretraining does not mind. Corpora that are scored differently are scored by film.
    """
    if len(manifests) == 1:
        return manifests[0]
    tasks = {manifest.task for manifest in manifests} - {None}
    classes = list(dict.fromkeys(name for manifest in manifests for name in manifest.classes))
    table = _stacked([manifest.table for manifest in manifests], classes)
    if len(tasks) > 1:
        log.warning("The corpora mix a multi-label and a multi-class task: their labels are left out.")
        return Manifest(table.drop(columns=classes))
    if tasks == {"multiclass"}:
        labelled = table[classes].max(axis=1) == 1
        table.loc[labelled, classes] = table.loc[labelled, classes].fillna(0.0)
    boxes = [manifest.boxes for manifest in manifests if manifest.boxes is not None]
    together = pd.concat(boxes, ignore_index=True) if boxes else None
    return Manifest(table, classes, next(iter(tasks), None), together, _score(manifests))


def _stacked(tables: Sequence[pd.DataFrame], classes: Sequence[str]) -> pd.DataFrame:
    """One below the other. Labels and other fractions that a table lacks are unknown (NaN); what else it lacks is empty
    text, or 0."""
    kinds = {str(name): table[name].dtype for table in tables for name in table if name not in (*COLUMNS, *classes)}
    empty = {name: _empty(kind) for name, kind in kinds.items()}
    filled = []  # before they are joined: whole numbers would pass through floats and lose digits
    for table in tables:
        missing = {name: pd.Series(empty[name], table.index, kinds[name]) for name in kinds if name not in table}
        filled.append(table.assign(**missing))
    return pd.concat(filled, ignore_index=True)


def _empty(kind: Any) -> Any:
    if pd.api.types.is_float_dtype(kind):
        return np.nan
    return 0 if pd.api.types.is_numeric_dtype(kind) else ""


def _score(manifests: Sequence[Manifest]) -> Score:
    scores = {manifest.score for manifest in manifests if manifest.task}
    if len(scores) > 1:
        log.warning("Some of the corpora are scored by study, others by film: together they are scored by film.")
    return scores.pop() if len(scores) == 1 else "film"


def select(manifest: Manifest, classes: Sequence[str] | None) -> Manifest:
    """Keeps the named classes, in the named order; of a multi-class task, only their films.

    Args:
        manifest: Of one or more corpora.
        classes: Their names; None keeps all, and of an empty list there is nothing to learn but from the films.

    Raises:
        UserError: If a name is outside the corpus's vocabulary.
    """
    if classes is None:
        return manifest
    unknown = [name for name in classes if name not in manifest.classes]
    if unknown:
        known = ", ".join(manifest.classes) or "none"
        raise UserError(*(f"The label {name!r} is not in these corpora; they know: {known}." for name in unknown))
    table, task = manifest.table, manifest.task if classes else None
    if task == "multiclass":
        elsewhere = table[manifest.classes].notna().any(axis=1) & (table[list(classes)].max(axis=1) != 1)
        table = table[~elsewhere].reset_index(drop=True)
    boxes = _boxes_of(manifest.boxes, table, classes)
    return replace(manifest, table=table, classes=list(classes), task=task, boxes=boxes)
