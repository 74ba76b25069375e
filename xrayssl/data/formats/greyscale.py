"""From the values that a DICOM file stores to the grey values of a film.

Everything is computed on the values that there can be, 65,536 at most, and looked up for the pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xrayssl.data.formats import RefusedError, lut
from xrayssl.data.windowing import histogram, look_up


def shown(stored: np.ndarray, dataset: Any) -> tuple[np.ndarray, int]:
    """What the file wants to be shown, from its darkest value on: modality LUT, VOI LUT or window, inversion.

    Args:
        stored: Integers (H, W).
        dataset: The film's.

    Returns:
        uint8 or uint16 (H, W), and their depth in bits. Fractions are spread over 16 bits, so that no greys fall
        together that the window keeps apart.
    """
    if stored.dtype == np.uint8 and not lut.has_voi(dataset) and not dataset.get("ModalityLUTSequence"):
        return whole_scale(stored, dataset)
    lowest = int(stored.min())
    values = np.arange(lowest, int(stored.max()) + 1)
    padding = padded(values, dataset)
    used = (histogram(stored, lowest, len(values)) > 0) & ~padding
    if not used.any():
        return np.zeros(stored.shape, np.uint8), 8
    table = _as_wanted(values, used, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        table = -table
    table = _integers(table - table[used].min(), used)
    table[padding] = 0
    return look_up(table, stored, lowest), max(8, int(table[used].max()).bit_length())


def whole_scale(stored: np.ndarray, dataset: Any) -> tuple[np.ndarray, int]:
    """The whole scale of the detector, or of the modality LUT, without VOI LUT or window.

    Args:
        stored: Integers (H, W).
        dataset: The film's.

    Returns:
        uint8 or uint16 (H, W) in 0 .. 2**bits - 1, and the bits.
    """
    lowest, bits = int(stored.min()), int(dataset.get("BitsStored") or dataset.get("BitsAllocated"))
    values = np.arange(lowest, int(stored.max()) + 1)
    if dataset.get("ModalityLUTSequence"):
        bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
        table = lut.modality(values, dataset)
        upside_down = False
    else:
        table = values + (2 ** (bits - 1) if stored.dtype.kind == "i" else 0)
        upside_down = lut.rescale(dataset)[0] < 0
    if upside_down != (dataset.PhotometricInterpretation == "MONOCHROME1"):
        table = 2**bits - 1 - table
    if bits < 8:
        table, bits = np.rint(table * (255 / (2**bits - 1))), 8
    table = table.astype(np.uint8 if bits == 8 else np.uint16)
    table[padded(values, dataset)] = 0
    return look_up(table, stored, lowest), bits


def padded(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Which of the stored values stand for no pixel, bool (N,) (PS3.3 C.7.5.1.1.2)."""
    ends = [dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")]
    if ends[0] is None:
        return np.zeros(values.shape, bool)
    signed = bool(dataset.get("PixelRepresentation", 0))
    numbers = [int(end) - 65536 * (signed and int(end) > 32767) for end in ends if end is not None]
    return np.asarray((values >= min(numbers)) & (values <= max(numbers)))


def _as_wanted(values: np.ndarray, used: np.ndarray, dataset: Any) -> np.ndarray:
    plain = lut.modality(values, dataset)
    wanted = lut.voi(plain, dataset)
    if not np.isfinite(wanted).all():
        raise RefusedError("its rescale or window gives grey values that are no numbers.")
    if np.ptp(plain[used]) > 0 and np.ptp(wanted[used]) == 0:
        raise RefusedError(f"its window leaves a single grey of all; {lut.WITHOUT}")
    return wanted


def _integers(table: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Grey values from 0 on as uint16; what no pixel uses is cut off."""
    span = table[used].max()
    if span > 65535 or not np.array_equal(table[used], np.rint(table[used])):
        table = table * (65535.0 / span)
    return np.clip(np.rint(table), 0, 65535).astype(np.uint16)
