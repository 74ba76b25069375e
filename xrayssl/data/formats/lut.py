"""DICOM's lookup tables and windows: modality LUT or rescale (PS3.3 C.11.1), VOI LUT or window (C.11.2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from xrayssl.data.formats import RefusedError, transfer

WITHOUT = "--data.window percentile does without it."


def modality(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Stored values in the unit of the modality.

    Args:
        values: Integers (N,).
        dataset: The film's.

    Returns:
        float64 (N,).
    """
    if dataset.get("ModalityLUTSequence"):
        table, first, _ = entries(dataset.ModalityLUTSequence[0], dataset, bool(values.min() < 0))
        return table[np.clip(values - first, 0, len(table) - 1)].astype(np.float64)
    slope, intercept = rescale(dataset)
    return np.asarray(values * slope + intercept)


def rescale(dataset: Any) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 if there are none."""
    if dataset.get("RescaleSlope") is None or dataset.get("RescaleIntercept") is None:
        return 1.0, 0.0
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise RefusedError(f"its rescale slope {slope} and intercept {intercept} give no grey values.")
    return slope, intercept


def has_voi(dataset: Any) -> bool:
    """Whether the file says what is to be shown of its values."""
    return bool(dataset.get("VOILUTSequence")) or None not in _first_window(dataset)


def voi(values: np.ndarray, dataset: Any) -> np.ndarray:
    """What is to be shown, by the first VOI LUT, else by the first window; all if there is none.

    Args:
        values: float64 (N,), in the unit of the modality.
        dataset: The film's.

    Returns:
        float64 (N,), in a unit of its own.
    """
    if dataset.get("VOILUTSequence"):
        table, first, _ = entries(dataset.VOILUTSequence[0], dataset, bool(values.min() < 0))
        return table[np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)].astype(np.float64)
    center, width = _first_window(dataset)
    if center is None or width is None:
        return values
    return windowed(values, center, width, str(dataset.get("VOILUTFunction") or "LINEAR").upper())


def windowed(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """A window as 0-1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    least = 1 if function == "LINEAR" else np.finfo(float).tiny
    if not np.isfinite([center, width]).all() or width < least:
        raise RefusedError(f"its Window Width {width:g} about {center:g} shows nothing; {WITHOUT}")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500))))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise RefusedError(f"its VOI LUT function {function!r} is not known; {WITHOUT}")
    black, span = center - 0.5 - (width - 1) / 2, width - 1
    return np.clip((values - black) / span, 0, 1) if span else (values > black).astype(np.float64)


def entries(item: Any, dataset: Any, signed: bool) -> tuple[np.ndarray, int, int]:
    """A lookup table: its entries, the value that the first of them stands for, and their depth in bits.

    Args:
        item: Of a Modality LUT Sequence or VOI LUT Sequence.
        dataset: The film's, which knows the order of bytes.
        signed: Whether the values that it maps may be negative, where the header leaves this open.
    """
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count, first, data = count or 65536, first - 65536 * (signed and first > 32767), item.LUTData
    if isinstance(data, bytes):
        packed = bits <= 8 and count <= len(data) <= count + 1  # two entries in a word
        order = ">" if dataset.file_meta.TransferSyntaxUID == transfer.BIG_ENDIAN else "<"
        table = np.frombuffer(data, np.uint8 if packed else f"{order}u2")
    else:
        table = np.atleast_1d(np.asarray(data, np.int64))
    if not 8 <= bits <= 16 or len(table) < count or table[:count].max() >= 2**bits:
        raise RefusedError(f"its lookup table of {count} entries of {bits} bits cannot be read.")
    return table[:count], first, bits


def _first_window(dataset: Any) -> tuple[float | None, float | None]:
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    return center, width


def _first(value: Any) -> float | None:
    """The first of several numbers."""
    several = hasattr(value, "__iter__") and not isinstance(value, str)
    first = next(iter(value), None) if several else value
    return None if first in (None, "") else float(first)
