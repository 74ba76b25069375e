"""A map drawn over its film, for eyes: what was asked, what the network says, and how much the colours mean."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = cv2.COLORMAP_INFERNO
"""Perceptually uniform (van der Walt & Smith 2015): its lightness rises steadily, in a grey print too."""
OPACITY = 0.55
"""Of the map's maximum; where the map is 0 the film is bare."""
GAP, LINE, BAR, ROOM = 8, 20, 14, 52
GROUND, INK, FAINT, OUTLINE = (16, 18, 22), (236, 238, 242), (150, 156, 166), (90, 220, 255)
BOX = (120, 255, 120)


def blend(film_HW: np.ndarray, map_hw: np.ndarray) -> np.ndarray:
    """The film under the map, enlarged and scaled to its own maximum, which at half its height is outlined.

    Args:
        film_HW: uint8.
        map_hw: Raw, 0 or more.

    Returns:
        uint8 (H, W, 3), RGB; of an empty map the bare film.
    """
    grey_HW3 = np.repeat(film_HW[..., None], 3, axis=2)
    if not map_hw.max() > 0:
        return grey_HW3
    share_HW = enlarged(map_hw / map_hw.max(), film_HW.shape)
    alpha_HW1 = OPACITY * share_HW[..., None] ** 2  # what is low leaves the film to be read
    mixed_HW3 = np.rint(grey_HW3 * (1 - alpha_HW1) + coloured(share_HW) * alpha_HW1).astype(np.uint8)
    outlines, _ = cv2.findContours((share_HW >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(mixed_HW3, outlines, -1, OUTLINE, 1, cv2.LINE_AA))


def boxed(picture_HW3: np.ndarray, box_B4: np.ndarray) -> np.ndarray:
    """A picture with boxes outlined: left, top, width and height in pixels, cut at its edges."""
    drawn_HW3 = np.ascontiguousarray(picture_HW3)
    for left, top, width, height in np.rint(box_B4).astype(int).tolist():
        cv2.rectangle(drawn_HW3, (left, top), (left + width, top + height), BOX, 1)
    return drawn_HW3


def enlarged(map_hw: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map at the size of its film, bilinear: a cell's value stands at the middle of what it saw."""
    return cv2.resize(map_hw.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def coloured(share_HW: np.ndarray) -> np.ndarray:
    """Shares of 0-1 as colours, uint8 (H, W, 3), RGB."""
    bgr_HW3 = cv2.applyColorMap(np.rint(255 * share_HW.clip(0, 1)).astype(np.uint8), COLOURS)
    return np.asarray(cv2.cvtColor(bgr_HW3, cv2.COLOR_BGR2RGB))


def sheet(
    film_HW: np.ndarray, map_hw: np.ndarray, title: str, sentences: Sequence[str], box_B4: np.ndarray | None = None
) -> Image.Image:
    """A film, its map at the map's own grid with a scale of colours, and both in one, under what they show.

    Args:
        film_HW: uint8, as the network saw it, in as many pixels as eyes want.
        map_hw: Raw, 0 or more.
        title: First line.
        sentences: Further lines, each cut to the sheet's width.
        box_B4: Where the finding is known to be, outlined on the film and on both in one: left, top, width and height
            in pixels of the film.
    """
    (height, width), top = film_HW.shape, GAP + LINE * (1 + len(sentences)) + GAP
    picture = Image.new("RGB", (3 * width + 4 * GAP + ROOM, top + height + GAP), GROUND)
    draw = ImageDraw.Draw(picture)
    for row, text in enumerate([title, *sentences]):
        size = 15 if row == 0 else 13
        _write(draw, (GAP, GAP + LINE * row), text, size, INK if row < 2 else FAINT, picture.width - 2 * GAP)
    cells_HW = cv2.resize(map_hw.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    scaled_HW = cells_HW / (map_hw.max() or 1.0)
    boxes = np.empty((0, 4)) if box_B4 is None else box_B4
    plain, both = (boxed(panel_HW3, boxes) for panel_HW3 in (np.repeat(film_HW[..., None], 3, axis=2),
                                                             blend(film_HW, map_hw)))  # fmt: skip
    panels = [plain, coloured(scaled_HW), both]
    lefts = [GAP, 2 * GAP + width, 3 * GAP + 2 * width + ROOM]
    for left, panel_HW3 in zip(lefts, panels, strict=True):
        picture.paste(Image.fromarray(panel_HW3), (left, top))
    _scale(picture, draw, (lefts[1] + width + GAP // 2, top, height), float(map_hw.max()))
    return picture


def _scale(picture: Image.Image, draw: ImageDraw.ImageDraw, place: tuple[int, int, int], most: float) -> None:
    """The scale of colours, from 0 to the map's maximum."""
    left, top, height = place
    steps_HW = np.repeat(np.linspace(1, 0, height)[:, None], BAR, axis=1)
    picture.paste(Image.fromarray(coloured(steps_HW)), (left, top))
    marks = [(most, top), (most / 2, top + height // 2 - 7)] if most > 0 else []
    for text, y in [*((f"{value:.2g}", y) for value, y in marks), ("0", top + height - 14)]:
        draw.text((left + BAR + 3, y), text, FAINT, ImageFont.load_default(11))


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: tuple[int, int, int], width: int
) -> None:
    """A line of text, its middle left out where it is too long."""
    font, keep = ImageFont.load_default(size), len(text)
    while draw.textlength(text, font) > width and keep > 8:
        keep -= 2
        text = f"{text[: keep // 2]}...{text[-(keep // 2) :]}"
    draw.text(place, text, colour, font)
