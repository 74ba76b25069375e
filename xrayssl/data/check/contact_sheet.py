"""A contact sheet: a few films of every corpus and class on one picture, to be looked at before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from xrayssl.data.check.survey import Corpora, View, pixels, sources
from xrayssl.data.manifest import SIDES, SPLITS
from xrayssl.data.parallel import in_order
from xrayssl.data.radiograph import window
from xrayssl.errors import UserError
from xrayssl.files import appearing

TILE, CAPTION, HEADING, GAP = 176, 18, 30, 6
COLUMNS, ROWS = 8, 40
GROUND, INK, FAINT, OUTLINE = (16, 18, 22), (236, 238, 242), (150, 156, 166), (255, 180, 40)


@dataclass(frozen=True)
class Row:
    """A row of the sheet.

    Args:
        heading: Above it.
        films: Row numbers of the table.
        captions: Below each.
        label: Class whose boxes are outlined, or "".
    """

    heading: str
    films: list[int]
    captions: list[str]
    label: str = ""


def by_class(corpora: Corpora) -> list[Row]:
    """A few films of each class of each corpus, of every split; no caption tells a patient.

    Args:
        corpora: The films, with the columns film_height, film_width and problem.
    """
    rows = []
    for name, classes in corpora.classes.items():
        table = corpora.table[(corpora.table["corpus"] == name) & (corpora.table["problem"] == "")]
        for label, films in _parts(table, classes):
            chosen = _spread(films, _boxed(corpora.boxes, label))
            facts = zip(chosen["split"], chosen["film_width"], chosen["film_height"], strict=True)
            captions = [f"{split or '-'}  {width} x {height}" for split, width, height in facts]
            heading = f"{name}  ·  {label or 'films'}  ·  {len(films):,}"
            rows.append(Row(heading, chosen.index.tolist(), captions, label))
    return rows


def by_pair(table: pd.DataFrame, pairs: pd.DataFrame, heading: str, most: int = 3) -> list[Row]:
    """Films that are copies of one another, side by side: those of different patients or splits first.

    Args:
        table: With the columns patient and split.
        pairs: Row numbers first and second, how they are alike, and similarity.
        heading: Above them.
        most: Rows.
    """
    patient, split = (table[name].to_numpy(object) for name in ("patient", "split"))
    known = list(zip(pairs["first"], pairs["second"], pairs["how"], pairs["similarity"], strict=True))
    known.sort(key=lambda pair: (patient[pair[0]] == patient[pair[1]], split[pair[0]] == split[pair[1]], -pair[3]))
    rows = []
    for start in range(0, min(len(known), most * COLUMNS // 2), COLUMNS // 2):
        shown = known[start : start + COLUMNS // 2]
        films = [film for first, second, _, _ in shown for film in (first, second)]
        captions = [
            text
            for first, second, how, similarity in shown
            for text in (split[first], f"{split[second]}  {how}{'' if how == 'same file' else f' {similarity:.2f}'}")
        ]
        rows.append(Row("" if start else heading, films, captions))
    return rows


def _parts(table: pd.DataFrame, classes: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """The films of each class, those of none, and those without labels."""
    labels = table[list(classes)]
    known = labels.notna().any(axis=1)
    parts = [(name, table[table[name] == 1]) for name in classes]
    parts.append(("none of them", table[known & ~(labels == 1).any(axis=1)]))
    parts.append(("without labels" if classes else "", table[~known]))
    return [(name, films) for name, films in parts if len(films)]


def _spread(films: pd.DataFrame, boxed: set[str]) -> pd.DataFrame:
    """As many as fit a row, of each split in turn and of as many patients as can be; those with a box first."""
    mixed = films.sample(frac=1, random_state=0)
    mixed = mixed.loc[mixed["path"].isin(boxed).sort_values(ascending=False, kind="stable").index]
    turn = mixed.groupby("split").cumcount() + 1000 * mixed.groupby("patient").cumcount()
    chosen = mixed.loc[turn.sort_values(kind="stable").index[:COLUMNS]]
    return chosen.sort_values("split", key=lambda split: split.map(["", *SPLITS].index), kind="stable")


def _boxed(boxes: pd.DataFrame | None, label: str) -> set[str]:
    return set() if boxes is None else set(boxes["path"][boxes["label"] == label])


def draw(rows: Sequence[Row], corpora: Corpora, view: View, workers: int, path: Path) -> None:
    """Writes the sheet.

    Args:
        rows: From above to below; at most 40 are drawn.
        corpora: The films.
        view: How to read them.
        workers: Processes.
        path: PNG file to write.
    """
    rows = rows[:ROWS]
    films = [film for row in rows for film in row.films]
    items = sources(corpora.table.iloc[films])
    tiles = iter(list(in_order(partial(tile, view), items, workers, "contact sheet")))
    height = sum(_height(row) for row in rows) + GAP
    sheet = Image.new("RGB", (COLUMNS * (TILE + GAP) + GAP, max(height, HEADING)), GROUND)
    pen, top = ImageDraw.Draw(sheet), GAP
    for row in rows:
        pen.text((GAP, top), row.heading, INK, ImageFont.load_default(15))
        top += HEADING - GAP if row.heading else 0
        for column, (film, caption) in enumerate(zip(row.films, row.captions, strict=True)):
            left = GAP + column * (TILE + GAP)
            _place(sheet, next(tiles), (left, top), _boxes(corpora, film, row.label))
            pen.text((left + 1, top + TILE + 1), caption, FAINT, ImageFont.load_default(11))
        top += TILE + CAPTION + GAP
    with appearing(path) as partial_file:
        sheet.save(partial_file, "PNG")


def _height(row: Row) -> int:
    return (HEADING - GAP if row.heading else 0) + TILE + CAPTION + GAP


def tile(view: View, source: Mapping[str, Any]) -> np.ndarray | None:
    """One film, uint8, its longer side 176 pixels; None if it cannot be read."""
    try:
        image = window(pixels(view, source), view.window, view.limits)
    except UserError:
        return None
    scale = TILE / max(image.shape)
    shape = [max(1, round(side * scale)) for side in image.shape]
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _place(sheet: Image.Image, film: np.ndarray | None, corner: tuple[int, int], boxes: np.ndarray) -> None:
    """Puts a film in the middle of its square, with its boxes."""
    if film is None:
        return
    height, width = film.shape
    left, top = corner[0] + (TILE - width) // 2, corner[1] + (TILE - height) // 2
    sheet.paste(Image.fromarray(film), (left, top))
    for x, y, w, h in boxes * [width, height, width, height]:
        ImageDraw.Draw(sheet).rectangle((left + x, top + y, left + x + w, top + y + h), outline=OUTLINE)


def _boxes(corpora: Corpora, film: int, label: str) -> np.ndarray:
    """Left, top, width and height in fractions of the film, (boxes, 4)."""
    boxes = corpora.boxes
    if boxes is None or not label:
        return np.empty((0, 4))
    return boxes[(boxes["path"] == corpora.table["path"].iloc[film]) & (boxes["label"] == label)][SIDES].to_numpy(float)
