"""A film, and how its grey values become the 0-255 that networks and pages are fed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Window = Literal["voi", "percentile", "none"]
_BLOCK = 2**20  # pixels that are looked up at a time: numpy turns indices into 8 bytes each


@dataclass(frozen=True)
class Radiograph:
    """One film.

    Args:
        pixels: uint8 or uint16 (H, W); bright is dense.
        bits: Depth of the grey scale, 8-16: values lie in 0 .. 2**bits - 1.
        spacing: Of rows and of columns in mm per pixel, if the file says it.
        stored_bits: Depth that the file stores, where a window or lookup table may have changed it.
    """

    pixels: np.ndarray
    bits: int
    spacing: tuple[float, float] | None = None
    stored_bits: int | None = None


def window(film: Radiograph, kind: Window = "voi", limits: tuple[float, float] = (0.0, 100.0)) -> np.ndarray:
    """Maps a film's grey values to 0-255.

    Args:
        film: Of any depth.
        kind: "voi": from its darkest to its brightest pixel, after the DICOM file's own window (read with `voi`); 8-bit
            films stay as they are. "percentile": from one percentile of its pixels to another. "none": from 0 to
            2**bits - 1, the whole scale. The last two want the film read without `voi`.
        limits: The percentiles that become black and white, 0-100.

    Returns:
        uint8 (H, W), linear between black and white.
    """
    pixels = film.pixels
    if pixels.dtype == np.uint8 and kind != "percentile":
        return pixels
    black, white = {
        "voi": lambda: (int(pixels.min()), int(pixels.max())),
        "percentile": lambda: percentiles(pixels, limits),
        "none": lambda: (0, 2**film.bits - 1),
    }[kind]()
    values = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=np.float64)
    table = np.clip(np.rint((values - black) * (255.0 / ((white - black) or 1.0))), 0, 255).astype(np.uint8)
    return look_up(table, pixels)


def look_up(table: np.ndarray, pixels: np.ndarray, lowest: int = 0) -> np.ndarray:
    """table[pixels - lowest], without the eight bytes per pixel that this takes at once."""
    flat, result = pixels.reshape(-1), np.empty(pixels.size, table.dtype)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        result[start : start + _BLOCK] = table[block if lowest == 0 else block.astype(np.intp) - lowest]
    return result.reshape(pixels.shape)


def histogram(pixels: np.ndarray, lowest: int = 0, size: int = 65536) -> np.ndarray:
    """How often each value of lowest .. lowest + size - 1 occurs, int64 (size,)."""
    flat, counts = pixels.reshape(-1), np.zeros(size, np.int64)
    for start in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[start : start + _BLOCK].astype(np.intp) - lowest, minlength=size)
    return counts


def percentiles(pixels: np.ndarray, shares: tuple[float, float]) -> tuple[float, float]:
    """Percentiles of unsigned pixels, interpolated between neighbours as `numpy.percentile` does."""
    upto = np.cumsum(histogram(pixels))
    place = np.asarray(shares) / 100 * (pixels.size - 1)
    below, above = (np.searchsorted(upto, index, side="right") for index in (np.floor(place), np.ceil(place)))
    low, high = below + (above - below) * (place - np.floor(place))
    return float(low), float(high)
