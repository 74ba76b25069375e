"""MURA v1.1: 40,561 upper-extremity films of 14,863 studies, each study normal or abnormal (Rajpurkar et al. 2018,
arXiv:1712.06957)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from xrayssl.data.annotations.lookup import on_disk
from xrayssl.data.annotations.tables import read_csv
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
PARTS = ("ELBOW", "FINGER", "FOREARM", "HAND", "HUMERUS", "SHOULDER", "WRIST")
_SPLITS = {"train": "train", "valid": "test"}  # the official test set was never published
_FILM = (
    r"(?P<folder>(?P<official>train|valid)/XR_(?P<part>[A-Z]+)/(?P<patient>patient\d+)"
    r"/(?P<study>study\d+)_(?P<outcome>positive|negative))/(?P<name>[^/]+)$"
)


def manifest(
    root: Path,
    body_parts: Sequence[str] | str = ("SHOULDER",),
    task: Literal["multiclass", "multilabel"] = "multiclass",
) -> Manifest:
    """Reads the official layout, `train/XR_SHOULDER/patient00001/study1_positive/image1.png`; the official valid set
    becomes the test set, validation is cut from train by patient, and predictions are scored by study.

    Films are those of train_image_paths.csv and valid_image_paths.csv (one path a line, no header) that are on the
    disk, or without these lists all that are; `._*` are no films. A patient is one patient in all body parts.

    Args:
        root: The folder MURA-v1.1, or the one it lies in.
        body_parts: ELBOW, FINGER, FOREARM, HAND, HUMERUS, SHOULDER, WRIST, or "all".
        task: "multiclass" (normal or abnormal: gives Cohen's kappa, by which MURA is compared) or "multilabel" (the one
            finding abnormal, to be learned beside others).

    Raises:
        UserError: If a body part is unknown, a line of a list is no MURA path, or none of the films is here.
    """
    parts = _parts(body_parts)
    if task not in ("multiclass", "multilabel"):
        raise UserError(f"mura: task must be multiclass or multilabel, not {task!r}.")
    root = root / "MURA-v1.1" if (root / "MURA-v1.1").is_dir() else root
    films = pd.concat([_listed(root, name, parts) for name in _SPLITS], ignore_index=True)
    films["path"] = str(root) + "/" + films["folder"] + "/" + films["name"]
    here = on_disk(films["path"])
    if not here.any():
        raise UserError(f"{root}: no film of {', '.join(parts)} of MURA below train or valid.")
    log.info("%s: %d of %d films of %s are here.", root, here.sum(), len(here), ", ".join(parts))
    films = films[here].reset_index(drop=True)
    patient = "mura_" + films["patient"]
    table = pd.DataFrame({"path": films["path"], "corpus": "mura", "patient": patient,
                          "study": patient + "_" + films["part"] + "_" + films["study"], "view": "",
                          "split": films["official"].map(_SPLITS)})  # fmt: skip
    abnormal = (films["outcome"] == "positive").astype(float)
    table = table.assign(**({"normal": 1 - abnormal} if task == "multiclass" else {}), abnormal=abnormal)
    return Manifest(table, list(table.columns[6:]), task, score="study")


def _parts(asked: Sequence[str] | str) -> list[str]:
    if not isinstance(asked, list | tuple):
        asked = PARTS if str(asked).lower() == "all" else [str(asked)]
    parts = [str(part).upper().removeprefix("XR_") for part in asked]
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise UserError(f"mura: body_parts must be all, or some of {', '.join(PARTS)}, not {list(asked)}.")
    return list(dict.fromkeys(parts))


def _listed(root: Path, official: str, parts: list[str]) -> pd.DataFrame:
    """The films of a list, or without it those of the folders, taken apart."""
    path = root / f"{official}_image_paths.csv"
    if path.exists():
        lines = read_csv(path, ("film",), names=("film",))["film"]
    else:
        log.warning("%s is missing: the films are those below the folder %s.", path, official)
        lines = pd.Series(_below(root, official, parts), dtype=str)
    films = lines.str.extract(_FILM)
    wrong = films.index[films["folder"].isna()]
    if len(wrong):
        raise UserError(f"{path}: line {wrong[0] + 1}, {lines[wrong[0]]!r}, is no path of a film of MURA.")
    return films[films["part"].isin(parts) & ~films["name"].str.startswith(".")]


def _below(root: Path, official: str, parts: list[str]) -> list[str]:
    places = (root / official / f"XR_{part}" for part in parts)
    paths = (path for place in places for path in place.glob("patient*/study*_*/*.png"))
    return sorted(path.relative_to(root).as_posix() for path in paths)
