"""From a file to a two-dimensional array of known depth: strict, bounded, never a silent guess."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import UnidentifiedImageError

from xrayssl.data.formats import MAX_PIXELS, RefusedError, dicom, jpeg, pictures, png
from xrayssl.data.windowing import Radiograph, Window, window
from xrayssl.errors import UserError

__all__ = ["MAX_PIXELS", "SUFFIXES", "Radiograph", "Window", "is_dicom", "read", "window"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom"})
MAX_FILE = 2**29  # bytes; the largest film that is read takes 2**28
_DICOM = frozenset({".dcm", ".dicom"})


def read(path: str | Path, *, voi: bool = True, first_frame: bool = False) -> Radiograph:
    """Reads a PNG (8 or 16 bit), JPEG, TIFF, BMP, WebP or DICOM film as grey.

    Colour pictures give their luminance, and lose what alpha hides. A 16-bit file without a depth of its own has that
    of its brightest pixel: 12 bits in a 16-bit container are 12 bits.

    Args:
        path: Of the file; what it is is decided by its content, DICOM by its suffix or its preamble.
        voi: Whether a DICOM file's own VOI LUT or window is applied; see `formats.dicom.decode`.
        first_frame: Whether of a DICOM file with several frames the first is taken; they are refused otherwise.

    Returns:
        The film with its full depth; no value is clipped.

    Raises:
        UserError: If the file is missing, empty, truncated, damaged, no film, or larger than MAX_PIXELS.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE:
            raise RefusedError(f"{path.stat().st_size:,} bytes are more than the limit of {MAX_FILE:,}.")
        data = path.read_bytes()
        if not data:
            raise RefusedError("the file is empty.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is checked here or raised; the rest would come per film
            if path.suffix.lower() in _DICOM or data[128:132] == b"DICM":
                return dicom.decode(data, voi, first_frame)
            return _picture(data)
    except RefusedError as refusal:
        raise UserError(f"{path}: {refusal}") from None
    except MemoryError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such film.") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: this is no image that can be read.") from None
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise UserError(f"{path}: the film cannot be read ({_reason(error)}).") from None


def is_dicom(path: Path) -> bool:
    """Whether a file says so itself: "DICM" behind 128 bytes of preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _picture(data: bytes) -> Radiograph:
    if data.startswith(png.MAGIC):
        pixels = png.decode(data)
    elif data.startswith(jpeg.MAGIC):
        pixels = jpeg.decode(data)
    else:
        pixels = pictures.decode(data)
    return Radiograph(pixels, 8 if pixels.dtype == np.uint8 else max(8, int(pixels.max()).bit_length()))


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".: ") or type(error).__name__
