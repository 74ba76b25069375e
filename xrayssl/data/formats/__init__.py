"""One file per format: bytes in, grey values out, or `RefusedError` with a sentence. A new format is a new file."""

from __future__ import annotations

import math

import numpy as np

MAX_PIXELS = 100_000_000
MAX_BYTES = 2**28  # of a decoded picture; with the copies that decoding takes, a film stays below 1 GB


class RefusedError(Exception):
    """Why a file is no film: a sentence that lacks only the file's name."""


def check_size(height: int, width: int, pixel_bytes: float = 1) -> None:
    """Refuses what a header asks for before memory is taken.

    Args:
        height: In pixels.
        width: In pixels.
        pixel_bytes: What decoding takes for a pixel.
    """
    pixels = height * width
    if pixels < 1:
        raise RefusedError(f"its header speaks of {height} x {width} pixels.")
    if pixels > MAX_PIXELS:
        raise RefusedError(f"{pixels:,} pixels are more than the limit of {MAX_PIXELS:,}.")
    if pixels * pixel_bytes > MAX_BYTES:
        raise RefusedError(
            f"{pixels:,} pixels take {math.ceil(pixels * pixel_bytes):,} bytes; the limit is {MAX_BYTES:,}."
        )


def grey(pixels: np.ndarray) -> np.ndarray:
    """Luminance (ITU-R BT.601) of (H, W), grey with alpha (H, W, 2), RGB or RGBA; alpha is left out."""
    import cv2

    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] < 3:
        return np.ascontiguousarray(pixels[..., 0])
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY if pixels.shape[2] == 3 else cv2.COLOR_RGBA2GRAY)
