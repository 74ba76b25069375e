"""A contact sheet of phantoms with their findings outlined, for the README."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xrayssl.data.phantom.film import Film, render

TILE, CAPTION = 240, 22
SHOWN = (  # body, task, films that show each finding once
    ("chest", "findings", (43, 55, 49, 17, 20)),
    ("shoulder", "implant", (47, 42, 40, 15, 11)),
    ("shoulder", "findings", (55, 31, 17, 54, 27)),
)
COLOUR = (255, 180, 40)


def contact_sheet(path: str | Path, seed: int = 0) -> None:
    """Writes a PNG of chests, shoulder implants and native shoulders, a row each, findings outlined and named.

    Args:
        path: Where to write it.
        seed: Seed of the corpora shown.
    """
    rows = [
        np.hstack([_tile(render(body, seed, index, TILE, task=task), outlined=task == "findings") for index in films])
        for body, task, films in SHOWN
    ]
    sheet = Image.fromarray(np.vstack(rows), mode="P")
    sheet.putpalette([*np.repeat(np.arange(255), 3).tolist(), *COLOUR])
    sheet.save(path, optimize=True)


def _tile(film: Film, outlined: bool) -> NDArray[np.uint8]:
    """A square picture of a film, (H, W), grey up to 254 in a hundred steps and 255 for outlines, with a caption."""
    scale = TILE / max(film.pixels.shape)
    grey = cv2.resize(film.pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) // 3 * 3
    grey = np.minimum(grey, 254)
    for name in film.boxes if outlined else ():
        mask = cv2.resize(film.masks[name].astype(np.uint8), grey.shape[::-1], interpolation=cv2.INTER_AREA)
        lines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(grey, lines, -1, 255, 1)
    tile, left = np.zeros((TILE + CAPTION, TILE), np.uint8), (TILE - grey.shape[1]) // 2
    tile[: grey.shape[0], left : left + grey.shape[1]] = grey
    caption = ", ".join(film.boxes) or "no finding"
    cv2.putText(tile, caption, (6, TILE + 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 225, 1, cv2.LINE_AA)
    return tile
