"""Films that were photographed or exported lying on their side, and say so."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

_TAG = 0x0112  # EXIF 2.3, 4.6.4
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).T,
    8: np.rot90,
}


def orientation(data: bytes) -> int:
    """The EXIF (or XMP) orientation of a picture file, 1-8; 1 is upright.

    Args:
        data: The file's bytes; its size must have been checked.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.format == "PNG":
            image.load()  # what stands behind the picture is read only then
        return int(image.getexif().get(_TAG, 1))


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """The picture (H, W) as it is to be seen."""
    return np.ascontiguousarray(_TURNS[turn](pixels)) if turn in _TURNS else pixels
