"""From a file to a two-dimensional array of known depth: strict, bounded, never a silent guess."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xrayssl.errors import UserError

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom"})
_DICOM = frozenset({".dcm", ".dicom"})


@dataclass(frozen=True)
class Radiograph:
    """One film.

    Args:
        pixels: uint8 or uint16 (H, W); bright is dense.
        bits: Depth of the grey scale, 8-16: values lie in 0 .. 2**bits - 1.
    """

    pixels: np.ndarray
    bits: int


def read(path: str | Path) -> Radiograph:
    """Reads a PNG (8 or 16 bit), JPEG, TIFF, BMP, WebP or DICOM film as grey.

    Args:
        path: Of the file; what it is is decided by its content, DICOM by its suffix or its preamble.

    Returns:
        The film with its full depth; no value is clipped.

    Raises:
        UserError: If the file is missing, empty, truncated, no image, or larger than MAX_PIXELS.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty.")
        return _read_dicom(path) if _is_dicom(path) else _read_picture(path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such film.") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: this is no image that can be read.") from None
    except (OSError, ValueError, SyntaxError, EOFError, AttributeError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: the film cannot be read ({_first_line(error)}).") from None


def window(film: Radiograph, low: float = 0.0, high: float = 100.0) -> np.ndarray:
    """Maps the grey values between two percentiles to 0-255, uint8 (H, W).

    Args:
        film: Of any depth.
        low: Percentile that becomes black, 0-100.
        high: Percentile that becomes white, 0-100. An 8-bit film with 0 and 100 passes unchanged.
    """
    if film.bits == 8 and (low, high) == (0.0, 100.0):
        return film.pixels.astype(np.uint8, copy=False)
    black, white = np.percentile(film.pixels, [low, high])
    scaled = (film.pixels.astype(np.float32) - black) * (255.0 / max(white - black, 1.0))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in _DICOM:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _check_size(path: Path, pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise UserError(f"{path}: {pixels:,} pixels are more than the limit of {MAX_PIXELS:,}.")


def _read_picture(path: Path) -> Radiograph:
    with Image.open(path) as image:
        _check_size(path, image.width * image.height)
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I;16", "I;16B", "I;16L", "I"):
        return _deep(path, np.asarray(upright))
    return Radiograph(np.asarray(upright.convert("L")), 8)


def _deep(path: Path, pixels: np.ndarray) -> Radiograph:
    if pixels.min() < 0 or pixels.max() > 65535:
        raise UserError(f"{path}: grey values outside 0-65535 are not understood.")
    bits = max(8, int(pixels.max()).bit_length())
    return Radiograph(pixels.astype(np.uint16), bits)


def _read_dicom(path: Path) -> Radiograph:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        dataset = pydicom.dcmread(path)
    except InvalidDicomError:
        raise UserError(f"{path}: this is no DICOM file.") from None
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    _check_size(path, int(dataset.Rows) * int(dataset.Columns) * frames)
    if frames != 1 or int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise UserError(f"{path}: {frames} frames or colour; a radiograph has one grey frame.")
    return _grey_scale(dataset)


def _grey_scale(dataset: object) -> Radiograph:
    """Modality LUT, then VOI window, then inversion of MONOCHROME1 (DICOM PS3.3 C.7.6.3, C.11)."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = values.max() - values
    values -= values.min()
    scale = 65535.0 / max(values.max(), 1.0) if values.max() > 65535 else 1.0
    pixels = np.rint(values * scale).astype(np.uint16)
    return Radiograph(pixels, max(8, int(pixels.max()).bit_length()))
