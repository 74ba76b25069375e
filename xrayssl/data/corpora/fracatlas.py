"""FracAtlas: 4,083 films of hand, leg, hip and shoulder, 717 of them with fractures and their boxes (Abedeen et al.,
Scientific Data 10:521, 2023)."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xrayssl.data.annotations.boxes import with_area
from xrayssl.data.annotations.lookup import by_stem
from xrayssl.data.annotations.tables import read_csv
from xrayssl.data.manifest import COLUMNS, Manifest, in_fractions
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
PARTS = ("hand", "leg", "hip", "shoulder", "mixed")
VIEWS = ("frontal", "lateral", "oblique")
BOXES = Path("Annotations", "COCO JSON", "COCO_fracture_masks.json")
_FOLDERS = {"Fractured": "1", "Non_fractured": "0"}


def manifest(root: Path, body_parts: Sequence[str] | str = ("shoulder",)) -> Manifest:
    """Reads dataset.csv, images/Fractured, images/Non_fractured and the boxes of COCO_fracture_masks.json.

    A film in the folder of the other outcome, or in both (two of the published ones), contradicts itself and is left
    out. The published `Utilities/Fracture Split` holds fractured films alone and is of no use here: the split is ours.
    No table names patients: every film counts as its own, and neighbours by number may be one patient's. Some of the
    published JPEGs are truncated; reading names them, and `--data.on_error quarantine` sets them aside.

    Args:
        root: Of the corpus.
        body_parts: Films that show one of hand, leg, hip, shoulder, mixed; or "all".

    Raises:
        UserError: If a body part is unknown, a table or column is missing, a flag is none, or no film is here.
    """
    parts = _parts(body_parts)
    path = root / "dataset.csv"
    rows = read_csv(path, ("image_id", "fractured", *PARTS, *VIEWS))
    _check(rows, path)
    rows = rows[(rows[parts] == "1").any(axis=1)]
    films = _located(rows, root)
    if films.empty:
        raise UserError(f"{root}: no film of {', '.join(parts)} of FracAtlas in images.")
    log.info("%s: %d films; FracAtlas names no patients, every film counts as its own.", root, len(films))
    name = "fracatlas_" + films["image_id"].map(_stem)
    table = films.assign(corpus="fracatlas", patient=name, study=name, view=_view(films), split="")
    table["fractured"] = films["fractured"].astype(float)
    boxes = _boxes(root / BOXES, films[films["fractured"] == "1"])
    return Manifest(table[[*COLUMNS, "fractured"]], ["fractured"], "multilabel", boxes)


def _parts(asked: Sequence[str] | str) -> list[str]:
    if not isinstance(asked, list | tuple):
        asked = PARTS if str(asked).lower() == "all" else [str(asked)]
    parts = [str(part).lower() for part in asked]
    if not parts or not set(parts) <= set(PARTS):
        raise UserError(f"fracatlas: body_parts must be all, or some of {', '.join(PARTS)}, not {list(asked)}.")
    return list(dict.fromkeys(parts))


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[0]


def _check(rows: pd.DataFrame, path: Path) -> None:
    for name in ("fractured", *PARTS, *VIEWS):
        wrong = rows.index[~rows[name].isin(["0", "1"])]
        if len(wrong):
            raise UserError(f"{path}: {name!r} is {rows[name][wrong[0]]!r} in line {wrong[0] + 2}; it must be 0 or 1.")
    twice = rows["image_id"][rows["image_id"].duplicated()]
    if len(twice):
        raise UserError(f"{path}: the film {twice.iloc[0]} has more than one line.")


def _located(rows: pd.DataFrame, root: Path) -> pd.DataFrame:
    """The rows whose film lies in the folder of its outcome and in no other, with its `path`."""
    places = {outcome: by_stem(root / "images" / folder) for folder, outcome in _FOLDERS.items()}
    lying = [(Path(path).name, path, outcome) for outcome, films in places.items() for path in films.values()]
    found = pd.DataFrame(lying, columns=["image_id", "path", "folder"])
    once = found[~found["image_id"].duplicated(keep=False)]
    films = rows.merge(once, on="image_id")
    agreed = films[films["folder"] == films["fractured"]].reset_index(drop=True)
    torn = len(rows[rows["image_id"].isin(found["image_id"])]) - len(agreed)
    if torn:
        log.warning("%s: left out %d films that lie in the folder of the other outcome, or in both.", root, torn)
    return agreed


def _view(films: pd.DataFrame) -> pd.Series:
    named = pd.DataFrame({name: (films[name] == "1").map({True: name, False: ""}) for name in VIEWS})
    return named.apply(lambda row: "+".join(filter(None, row)), axis=1).astype(object)


def _boxes(path: Path, films: pd.DataFrame) -> pd.DataFrame | None:
    if not path.exists():
        log.warning("%s is missing: the corpus has no boxes.", path)
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        image = pd.DataFrame(content["images"])[["id", "file_name", "width", "height"]]
        drawn = pd.DataFrame([(box["image_id"], *box["bbox"]) for box in content["annotations"]],
                             columns=["id", "left", "top", "width", "height"])  # fmt: skip
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path}: this is no list of boxes in the form of COCO.") from None
    drawn = drawn.merge(image, on="id", suffixes=("", "_of_film"))
    drawn["path"] = drawn["file_name"].map(films.set_index("image_id")["path"])
    drawn = drawn.dropna(subset="path").assign(label="fractured")
    return with_area(in_fractions(drawn, drawn["width_of_film"], drawn["height_of_film"]))
