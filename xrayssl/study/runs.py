"""Read what a run left behind; a run directory that makes no sense is refused with a sentence."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from xrayssl.border import FILE as BORDER
from xrayssl.errors import UserError
from xrayssl.study.record import SERIES, has_intervals, mapping, read_figures, read_json


@dataclass(frozen=True)
class Predictions:
    """What a network said of each film: predictions.parquet."""

    table: pd.DataFrame
    task: str
    classes: list[str]

    def matrix(self, kind: str) -> np.ndarray:
        """The columns `label/...` or `probability/...`, float64 (N, K)."""
        return self.table[[f"{kind}/{name}" for name in self.classes]].to_numpy(np.float64)


@dataclass(frozen=True)
class Run:
    """One run directory.

    Args:
        folder: The directory.
        record: run.json.
        curves: metrics.csv; empty if there is none.
        figures: metrics.json of the test, or the run's own if it has intervals.
        tested: run.json of the test, or the run's own.
        predictions: What was said of the test films, or None.
    """

    folder: Path
    record: dict[str, Any]
    curves: pd.DataFrame
    figures: dict[str, Any] | None
    tested: dict[str, Any]
    predictions: Predictions | None

    @property
    def name(self) -> str:
        """The config's name, or the directory's."""
        return str(self.record.get("config") or self.folder.name)

    @property
    def data(self) -> dict[str, Any]:
        """What the run learned from."""
        return mapping(self.record, "data")

    @property
    def phantoms(self) -> bool:
        """Whether any film was drawn by the computer."""
        corpora = [mapping(record, "data").get("corpora", ()) for record in (self.record, self.tested)]
        return any("phantom" in str(name).lower() for names in corpora for name in names)

    @property
    def parents(self) -> list[str]:
        """Checksums of the weights it started from, nearest last."""
        entries = self.record.get("parents") or []
        return [str(entry.get("sha256") if isinstance(entry, dict) else entry) for entry in entries]

    @property
    def marked(self) -> list[str]:
        """Checksums of those among them whose checkpoint was selected on test films."""
        return [str(checksum) for checksum in self.record.get("selected_on_test") or ()]

    @property
    def border(self) -> dict[str, Any]:
        """What a control of rotation found; empty for other runs."""
        path = self.folder / BORDER
        return read_json(path) if path.is_file() else {}

    @cached_property
    def weights(self) -> str | None:
        """Checksum of the backbone it produced."""
        path = self.folder / "backbone.safetensors"
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def pictures(self) -> dict[str, list[Path]]:
        """Pictures by subject (`reconstruction`), each subject by ascending epoch."""
        subjects: dict[str, list[Path]] = {}
        for path in sorted(self.folder.glob("figures/*.png"), key=lambda path: _natural(path.stem)):
            subjects.setdefault(re.sub(r"[-_]?(epoch|step)?[-_=]?\d+$", "", path.stem), []).append(path)
        return subjects


def read_run(folder: Path) -> Run:
    """Read a run directory, or the folder of a cross-validation as one run.

    Raises:
        UserError: If it is no such directory, or one of its files does not hold what it should.
    """
    if not (folder / "run.json").is_file() and (folder / SERIES).is_file():
        return _read_pool(folder)
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder} is not a run directory: it has no run.json. Name a folder that a run has written.")
    test = folder / "test" if (folder / "test" / "metrics.json").is_file() else folder
    record = read_json(folder / "run.json")
    figures = read_figures(test / "metrics.json")
    return Run(
        folder,
        record,
        _curves(folder / "metrics.csv"),
        figures if figures and (test != folder or has_intervals(figures)) else None,
        read_json(test / "run.json") if test != folder and (test / "run.json").is_file() else record,
        _predictions(test / "predictions.parquet"),
    )


def _read_pool(folder: Path) -> Run:
    """What the folds of a cross-validation share, and the figures and predictions of their pool."""
    series, figures = read_json(folder / SERIES), read_figures(folder / "metrics.json")
    verb = series.get("verb")
    if verb != "folds":
        raise UserError(f"{folder} holds the runs of `xrayssl {verb}`, whose table and picture lie there; name a run.")
    if not figures or not mapping(figures, "folds").get("figures"):
        raise UserError(f"{folder}: not all folds are tested, so there is no pool of them yet; `xrayssl folds` goes on "
                        "with them. Or name one of its runs.")  # fmt: skip
    names = [str(fold["run"]) for fold in figures["folds"]["figures"]]
    places = [folder / name / part / "run.json" for name in names for part in ("", "test")]
    records = [read_json(path) for path in places if path.is_file()]
    first = records[0] if records else {}
    record = {**first, **{name: series.get(name) for name in ("started", "git", "machine")}}
    record |= {"config": f"{first.get('config') or folder.name} in {len(names)} folds",
               "command": ["xrayssl", "folds", *(series.get("asked") or [])],
               "seconds": sum(one.get("seconds") or 0 for one in records),
               "data": {**mapping(first, "data"), "checksum": None}}  # fmt: skip
    return Run(folder, record, pd.DataFrame(), figures, record, _predictions(folder / "predictions.parquet"))


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _curves(path: Path) -> pd.DataFrame:
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame()
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a table of numbers ({error}).") from None
    numbers: pd.DataFrame = table.apply(pd.to_numeric, errors="coerce")
    return numbers.replace([np.inf, -np.inf], np.nan)


def _predictions(path: Path) -> Predictions | None:
    if not path.is_file():
        return None
    try:
        content = pyarrow.parquet.read_table(path)
        meta = json.loads((content.schema.metadata or {}).get(b"xrayssl", b"null"))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}); test the run again.") from None
    if not isinstance(meta, dict) or not isinstance(meta.get("classes"), list):
        raise UserError(f"{path} does not name its classes; test the run again.")
    wanted = ["index", "film", "patient"]
    wanted += [f"{kind}/{name}" for kind in ("label", "probability") for name in meta["classes"]]
    if missing := [name for name in wanted if name not in content.column_names]:
        raise UserError(f"{path} lacks the column {missing[0]!r}; test the run again.")
    return Predictions(content.to_pandas(), str(meta.get("task")), [str(name) for name in meta["classes"]])
