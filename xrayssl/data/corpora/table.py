"""Anyone's own table: a line per film, its path, and whatever labels, patients, studies, views and splits it has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from xrayssl.data.annotations.boxes import of_films, sides, with_area
from xrayssl.data.annotations.demographics import ages, sexes
from xrayssl.data.annotations.lookup import Located, locate
from xrayssl.data.annotations.outcomes import UNCERTAIN, candidates, labels_of
from xrayssl.data.annotations.spreadsheet import SUFFIXES, Sheet, read_sheet
from xrayssl.data.corpora.folder import SPLIT_WORDS
from xrayssl.data.manifest import Manifest, Score, Task, in_fractions
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
PATH = ("path", "film", "filepath", "filename", "file", "imagepath", "image", "imagefile", "imageid")
PATIENT = ("patient", "patientid", "patientnumber", "subject", "subjectid", "pid")
STUDY = ("study", "studyid", "studyinstanceuid", "accession", "accessionnumber", "exam", "examid")
VIEW = ("view", "viewposition", "projection")
SPLIT = ("split",)
SEX = ("sex", "gender", "patientsex", "patientgender")
AGE = ("age", "patientage")
_SHOWN = 20  # labels in a log line
_SIDES = ("left", "top", "width", "height")


def manifest(
    root: Path,
    labels: str | Sequence[str] | None = None,
    task: Task | None = None,
    uncertain: Literal["ones", "zeros", "ignore"] | None = None,
    path: str | None = None,
    patient: str | None = None,
    study: str | None = None,
    view: str | None = None,
    split: str | None = None,
    sex: str | None = None,
    age: str | None = None,
    films: str | None = None,
    missing: Literal["raise", "skip"] = "raise",
    boxes: str | None = None,
    score: Score = "film",
) -> Manifest:
    """Reads a CSV (comma, semicolon or tab; also .csv.gz) or parquet table with a line per film.

    Columns are found by their usual names, such as path, image or file_name; patient_id or subject; study, view,
    split, sex, age, whatever their case; or name yours ("" takes none). Without a patient column every study is a
    patient, and without that every film.

    Args:
        root: The table, or a folder that holds one.
        labels: Columns of 1, 0 and blanks (unknown), or one column with the name of each film's class, or with the
            names of its findings, with | or ; between them. null: the films are unlabelled.
        task: "multilabel" (findings that stand each alone) or "multiclass" (exactly one holds); null: classes if a
            column of single names is given, otherwise findings.
        uncertain: What a label of -1 counts as: "ones", "zeros" or "ignore" (unknown); null refuses it.
        path: Column with the films' paths. Suffixes may be left out, and folders where names are unique.
        patient: Column; a patient is in one split only.
        study: Column; films of one exam.
        view: Column; such as PA.
        split: Column with train, val (valid, validation, dev), test, or blank for films yet to be assigned.
        sex: Column with F or female, M or male, or something else for unknown; for figures by subgroup.
        age: Column with years, or as DICOM writes them (058Y, 007M); likewise.
        films: Folder that paths start from, itself seen from the table's folder. null: the table's folder.
        missing: "raise" names films that are not on the disk, "skip" leaves them out.
        boxes: A second table, seen from the table's folder, with the same column of paths and label, left, top, width,
            height; in fractions of the film if none of these numbers is above 1, otherwise in its pixels.
        score: What a prediction is scored for: each "film" or each "study".

    Raises:
        UserError: If the table does not tell what it should; all that is wrong with its columns at once.
    """
    _check({"uncertain": (uncertain, (None, *UNCERTAIN)), "missing": (missing, ("raise", "skip")),
            "score": (score, ("film", "study")), "task": (task, (None, "multilabel", "multiclass"))})  # fmt: skip
    sheet = read_sheet(_file(root, boxes))
    asked = {"path": (path, PATH), "patient": (patient, PATIENT), "study": (study, STUDY), "view": (view, VIEW),
             "split": (split, SPLIT), "sex": (sex, SEX), "age": (age, AGE)}  # fmt: skip
    named = [str(name) for name in labels] if isinstance(labels, list | tuple) else [str(labels)] * (labels is not None)
    columns, problems = _columns(sheet, asked, score)
    try:
        found = labels_of(sheet, named, task, uncertain)
    except UserError as error:
        problems += error.messages
    if problems:
        raise UserError(*problems)
    names = sheet.table[columns["path"]]
    located = _located(sheet, names, films, missing)
    table = _table(sheet, columns, located.paths).join(found.table)
    if score == "study" and found.task == "multiclass":
        _refuse_torn_studies(sheet, table, list(found.table.columns))
    _tell(sheet, columns, list(found.table.columns), named, int(located.here.sum()))
    drawn = None if boxes is None else _boxes(sheet, names, located, boxes)
    table = table if located.here.all() else table[located.here].reset_index(drop=True)
    return Manifest(table, list(found.table.columns), found.task, drawn, score)


def _check(options: dict[str, tuple[str | None, tuple[str | None, ...]]]) -> None:
    problems = [f"table: {name} must be {', '.join(str(value or 'null') for value in allowed)}, not {given!r}."
                for name, (given, allowed) in options.items() if given not in allowed]  # fmt: skip
    if problems:
        raise UserError(*problems)


def _file(root: Path, boxes: str | None) -> Path:
    if not root.is_dir():
        return root
    other = None if boxes is None else root / boxes
    files = sorted(path for path in root.iterdir() if path.name.lower().endswith(SUFFIXES) and path != other)
    tables = [path for path in files if not path.name.startswith(".") and path.suffix != ".txt"]
    if len(tables) != 1:
        names = f"it holds {', '.join(path.name for path in tables[:5])}" if tables else "there is none in it"
        raise UserError(f"{root}: name the table itself, for {names}.")
    return tables[0]


def _columns(
    sheet: Sheet, asked: dict[str, tuple[str | None, tuple[str, ...]]], score: str
) -> tuple[dict[str, str], list[str]]:
    """The columns that are there, by what they are for; and what is wrong with them."""
    found, problems = {}, []
    for option, (name, usual) in asked.items():
        try:
            column = sheet.column(name, usual, option)
        except UserError as error:
            problems += error.messages
            continue
        if column is not None:
            found[option] = column
    if not problems and "path" not in found:
        problems.append(f"{sheet.path}: which column holds the films' paths? Set path to one.{sheet.hint('path')}")
    if not problems and score == "study" and "study" not in found:
        problems.append(f"{sheet.path}: score: study needs a column of studies; set study.{sheet.hint('study')}")
    for column in (found[option] for option in ("path", "patient") if option in found):
        blank = np.flatnonzero(sheet.table[column] == "")
        if len(blank):
            problems.append(f"{sheet.where(blank[0])}: {column!r} is empty.")
    return found, problems


def _located(sheet: Sheet, names: pd.Series, films: str | None, missing: str) -> Located:
    """Where the films are, each once; those that are missing are named, or left out."""
    found = locate(names.tolist(), sheet.path.parent / Path(films or "").expanduser())
    for row, several in found.unclear.items():
        raise UserError(f"{sheet.where(row)}: the film {names[row]!r} could be {several[0]} or {several[1]}; write "
                        "more of its path, or set films to its folder.")  # fmt: skip
    twice = np.flatnonzero(pd.Series(found.paths).duplicated())
    if len(twice):
        line = sheet.lines[found.paths.index(found.paths[twice[0]])]
        raise UserError(
            f"{sheet.where(twice[0])}: the film {names[twice[0]]!r} is that of line {line}, too; a film has one line."
        )
    lost = names[~found.here]
    if len(lost) and (missing == "raise" or not found.here.any()):
        first = f"such as {', '.join(lost[:3])} (looked for {found.paths[lost.index[0]]})"
        mend = 'To leave them out, set missing to "skip".' if found.here.any() else _start(films)
        raise UserError(f"{sheet.path}: {len(lost)} of {len(names)} films are missing, {first}. {mend}")
    if len(lost):
        log.warning("%s: left out %d films that are missing, such as %s.", sheet.path, len(lost), ", ".join(lost[:3]))
    return found


def _start(films: str | None) -> str:
    if films is not None and Path(films).expanduser().is_dir():
        return f"films is seen from the table's folder; write {Path(films).expanduser().absolute()}."
    return "Set films to the folder that the paths start from."


def _table(sheet: Sheet, columns: dict[str, str], paths: list[str]) -> pd.DataFrame:
    """The columns of a manifest."""
    blank = pd.Series("", sheet.table.index, dtype=str)
    text = {option: sheet.table.get(columns.get(option, ""), blank) for option in ("path", "study", "view", "split")}
    study = text["study"].where(text["study"] != "", text["path"])
    patient = sheet.table[columns["patient"]] if "patient" in columns else study
    told = {name: read(sheet.table[columns[name]]) for name, read in (("sex", sexes), ("age", ages)) if name in columns}
    return pd.DataFrame({"path": pd.Series(paths, dtype=str), "corpus": "table", "patient": patient,
                         "study": study if "study" in columns else patient, "view": text["view"],
                         "split": _splits(sheet, text["split"]), **told})  # fmt: skip


def _splits(sheet: Sheet, text: pd.Series) -> pd.Series:
    split = text.str.lower().map({**SPLIT_WORDS, "dev": "val", "": ""})
    wrong = np.flatnonzero(split.isna())
    if len(wrong):
        said, words = text[wrong[0]], ", ".join(SPLIT_WORDS)
        raise UserError(f"{sheet.where(wrong[0])}: {text.name!r} is {said!r}, no split; splits are {words}, or blank.")
    return split


def _refuse_torn_studies(sheet: Sheet, table: pd.DataFrame, classes: list[str]) -> None:
    seen = table.groupby(["patient", "study"], sort=False)[classes].max()
    torn = seen.index[(seen == 1).sum(axis=1) > 1]
    if len(torn):
        raise UserError(
            f"{sheet.path}: the films of the study {torn[0][1]!r} are of different classes; score them by film."
        )


def _tell(sheet: Sheet, columns: dict[str, str], classes: list[str], named: list[str], films: int) -> None:
    """Says what was taken for what."""
    roles = ", ".join(f"{option} from {name!r}" for option, name in columns.items())
    shown = ", ".join(classes[:_SHOWN]) + (f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else "")
    log.info("%s: %d films; %s; labels: %s.", sheet.path, films, roles, shown or "none")
    possible = [] if named else candidates(sheet, list(columns.values()))
    if possible:
        log.info("%s: these columns could be labels: %s. Name them with labels.", sheet.path, ", ".join(possible))
    if "patient" not in columns:
        log.warning("%s: no column of patients: every %s counts as one, and a patient's films may be in two splits. "
                    "Name it with patient.", sheet.path, "study" if "study" in columns else "film")  # fmt: skip


def _boxes(sheet: Sheet, names: pd.Series, located: Located, file: str) -> pd.DataFrame:
    """The boxes of films that are here, in fractions."""
    second = read_sheet(sheet.path.parent / Path(file).expanduser())
    name = second.column(str(names.name) if names.name in second.table else None, PATH, "path")
    if name is None or "label" not in second.table:
        raise UserError(f"{second.path}: boxes need the columns {names.name}, label, {', '.join(_SIDES)}.")
    rows = second.table.set_axis(second.lines - 2)  # so that messages tell its lines
    drawn = sides(rows, _SIDES, second.path)
    known = zip(names, np.where(located.here, located.paths, ""), strict=True)
    path = rows[name].map(dict(known))[drawn.index]
    strange = path.index[path.isna()]
    if len(strange):
        film = rows[name][strange[0]]
        raise UserError(f"{second.path}, line {strange[0] + 2}: the film {film!r} of a box is not in {sheet.path}.")
    drawn = drawn.assign(path=path, label=rows["label"])[path != ""]
    largest = float(drawn[list(_SIDES)].to_numpy().max(initial=0.0))
    if 1 < largest <= 2:
        raise UserError(f"{second.path}: the largest number of its boxes is {largest}: neither fractions nor pixels.")
    return of_films(drawn) if largest > 1 else with_area(in_fractions(drawn, 1.0, 1.0))
