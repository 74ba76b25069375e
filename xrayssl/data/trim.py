"""The border of a film that shows nothing: collimation, padding, frames."""

from __future__ import annotations

import cv2
import numpy as np

LONG_SIDE = 256
"""Pixels at which the border is looked for; averaging down to it takes noise away."""
TOLERANCE = 8 / 255
"""A line whose grey values lie within this share of the scale is empty, whatever its level."""
LEAST = 0.25
"""Share of either side that must be left; a film with less to show stays whole."""


def trim_border(image: np.ndarray) -> np.ndarray:
    """Cuts the empty lines off the four sides.

    Args:
        image: uint8 or uint16 (H, W).

    Returns:
        The part with the picture, a view of the film.
    """
    top, left, height, width = border(image)
    return image[top : top + height, left : left + width]


def border(image: np.ndarray) -> tuple[int, int, int, int]:
    """Finds the part with the picture. A letter or marker inside the border ends it, so that nothing shown is lost.

    Args:
        image: uint8 or uint16 (H, W).

    Returns:
        Its top, left, height and width in pixels.
    """
    height, width = image.shape
    scale = min(1.0, LONG_SIDE / max(height, width))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    small = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA) if shape != image.shape else image
    first, last = _shown(small)
    left, right = _shown(small[first:last].T) if last else (0, 0)
    first, last = (first * height) // shape[0], -(-last * height // shape[0])
    left, right = (left * width) // shape[1], -(-right * width // shape[1])
    if last - first < LEAST * height or right - left < LEAST * width:
        return 0, 0, height, width
    return first, left, last - first, right - left


def _shown(image: np.ndarray) -> tuple[int, int]:
    """The first line that shows something, and the one behind the last; (0, 0) where none does."""
    range_of_line = image.max(axis=1).astype(int) - image.min(axis=1)
    lines = np.flatnonzero(range_of_line > TOLERANCE * np.iinfo(image.dtype).max)
    return (int(lines[0]), int(lines[-1]) + 1) if len(lines) else (0, 0)
