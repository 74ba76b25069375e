"""From a file to a two-dimensional array of known depth: strict, bounded, never a silent guess."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xrayssl.errors import UserError

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom"})
_DICOM = frozenset({".dcm", ".dicom"})
_DEEP_GREY = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})
_WHITE_IS_ZERO, _PHOTOMETRIC = 0, 262  # TIFF 6.0, PhotometricInterpretation
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # DICOM PS3.5 A.5; it would be inflated before its size is known
_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000 (ISO 15444-1 A.5.1): start, then SIZ with width and height from byte 8


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
        UserError: If the file is missing, empty, truncated, damaged, no image, or larger than MAX_PIXELS.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if not data:
            raise UserError(f"{path}: the file is empty.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is checked here or raised; the rest would come per film
            return _read_dicom(path, data) if _looks_like_dicom(path, data) else _read_picture(path, data)
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such film.") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: this is no image that can be read.") from None
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise UserError(f"{path}: the film cannot be read ({_reason(error)}).") from None


def window(film: Radiograph, low: float = 0.0, high: float = 100.0) -> np.ndarray:
    """Maps the grey values between two percentiles to 0-255, uint8 (H, W).

    Args:
        film: Of any depth.
        low: Percentile that becomes black, 0-100.
        high: Percentile that becomes white, 0-100. A film of 8-bit pixels with 0 and 100 passes unchanged.
    """
    pixels = film.pixels
    if pixels.dtype == np.uint8 and (low, high) == (0.0, 100.0):
        return pixels
    darkest, brightest = int(pixels.min()), int(pixels.max())
    whole = (low, high) == (0.0, 100.0)
    black, white = (darkest, brightest) if whole else np.percentile(pixels, [low, high])
    values = np.arange(brightest + 1, dtype=np.float64)
    table = np.clip(np.rint((values - black) * (255.0 / ((white - black) or 1.0))), 0, 255).astype(np.uint8)
    return table[pixels]


def is_dicom(path: Path) -> bool:
    """Whether a file says so itself: "DICM" behind 128 bytes of preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".: ") or type(error).__name__


def _looks_like_dicom(path: Path, data: bytes) -> bool:
    return path.suffix.lower() in _DICOM or data[128:132] == b"DICM"


def _check_size(path: Path, pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise UserError(f"{path}: {pixels:,} pixels are more than the limit of {MAX_PIXELS:,}.")


def _read_picture(path: Path, data: bytes) -> Radiograph:
    with Image.open(io.BytesIO(data)) as image:
        _check_picture(path, image)
        deep_colour = image.mode not in _DEEP_GREY and ";16" in str(image.tile)
        inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
        image.load()
        if image.format == "PNG":
            Image.open(io.BytesIO(data)).verify()  # checksums, and that the end is there
        ImageOps.exif_transpose(image, in_place=True)
    if deep_colour:
        return _deep(path, _grey_of_deep_colour(data))
    if image.mode in _DEEP_GREY:
        pixels = np.asarray(image)
        return _deep(path, pixels.max() - pixels if inverted else pixels)
    image.info.pop("transparency", None)
    return Radiograph(np.asarray(image.convert("L")), 8)


def _check_picture(path: Path, image: Image.Image) -> None:
    _check_size(path, image.width * image.height)
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a camera's JPEG with a preview behind it
        raise UserError(f"{path}: the file holds several pictures; a film is one.")
    if image.mode == "F":
        raise UserError(f"{path}: grey values that are fractions are not understood; save 8 or 16 bit.")


def _grey_of_deep_colour(data: bytes) -> np.ndarray:
    """16 bit per channel, of which Pillow would keep the upper 8: 12-bit films would come out near-black."""
    import cv2

    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE))


def _deep(path: Path, pixels: np.ndarray) -> Radiograph:
    if pixels.min() < 0 or pixels.max() > 65535:
        raise UserError(f"{path}: grey values outside 0-65535 are not understood.")
    return Radiograph(pixels.astype(np.uint16), max(8, int(pixels.max()).bit_length()))


def _read_dicom(path: Path, data: bytes) -> Radiograph:
    import pydicom
    from pydicom.errors import InvalidDicomError

    if _DEFLATED in data[:1024]:
        raise UserError(f"{path}: a deflated DICOM file is not read; inflate it first.")
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
    except InvalidDicomError:
        raise UserError(f"{path}: this is no DICOM file.") from None
    _check_dicom(path, dataset)
    return _grey_scale(path, dataset)


def _check_dicom(path: Path, dataset: Any) -> None:
    if any(dataset.get(name) is None for name in ("Rows", "Columns", "PixelData", "PhotometricInterpretation")):
        raise UserError(f"{path}: this DICOM file holds no picture, or it is truncated.")
    frames = int(dataset.get("NumberOfFrames") or 1)
    _check_size(path, int(dataset.Rows) * int(dataset.Columns) * frames)
    _check_size(path, _codestream_pixels(dataset.PixelData[:4096]))
    kind = dataset.PhotometricInterpretation
    if frames != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise UserError(f"{path}: {frames} frames of {kind}; a radiograph is one frame of MONOCHROME1 or MONOCHROME2.")


def _codestream_pixels(start: bytes) -> int:
    """Pixels that a JPEG 2000 stream asks for, whatever Rows and Columns say; 0 for another coding."""
    at = start.find(_CODESTREAM)
    if at < 0 or len(start) < at + 16:
        return 0
    width, height = struct.unpack(">II", start[at + 8 : at + 16])
    return width * height


def _grey_scale(path: Path, dataset: Any) -> Radiograph:
    """Modality LUT, then VOI window, then inversion of MONOCHROME1 (DICOM PS3.3 C.7.6.3, C.11)."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(np.float64)
    if not np.isfinite(values).all():
        raise UserError(f"{path}: its rescale or window gives grey values that are no numbers.")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = -values
    values -= values.min()
    span = values.max()
    if span > 65535 or not np.array_equal(values, np.rint(values)):  # rounding fractions could leave a few greys only
        values *= 65535.0 / span
    pixels = np.rint(values).astype(np.uint16)
    return Radiograph(pixels, max(8, int(pixels.max()).bit_length()))
