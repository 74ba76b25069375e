"""Boxes as tables give them: numbers out of text, and pixels into fractions of films whose headers tell their size."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from PIL import Image

from xrayssl.data.annotations.tables import numbers
from xrayssl.data.manifest import SIDES, in_fractions
from xrayssl.data.radiograph import is_dicom
from xrayssl.errors import UserError

_DICOM = frozenset({".dcm", ".dicom"})
_TIFF_SIDES = (256, 257)  # ImageWidth, ImageLength; Pillow turns its own `size` in some versions
_SPEAK_OF_ORIENTATION = (b"eXIf", b"Raw profile", b"XML:com.adobe")  # chunks of a PNG
_ORIENTATION, _TURNED = 0x0112, frozenset({5, 6, 7, 8})  # EXIF: these stand on their side


def sides(rows: pd.DataFrame, columns: Sequence[str], where: Path, corners: bool = False) -> pd.DataFrame:
    """Left, top, width and height as numbers, out of columns of text; rows that leave all four blank are left out.

    Args:
        rows: Of a table as `read_csv` gives it; the index tells the line.
        columns: These four, as the table calls them.
        where: The table came from, for messages.
        corners: The last two are right and bottom instead.

    Raises:
        UserError: If a column is missing or a value is no number.
    """
    missing = [f"{where}: the column {name!r} is missing." for name in columns if name not in rows]
    if missing:
        raise UserError(*missing)
    text = rows[list(columns)]
    drawn = text[~text.isin(["", "nan", "NaN"]).all(axis=1)]
    values = numbers(drawn, columns, where).set_axis(SIDES, axis=1).astype(float)
    if corners:
        values["width"] -= values["left"]
        values["height"] -= values["top"]
    return values


def of_films(pixels: pd.DataFrame) -> pd.DataFrame:
    """Turns boxes in pixels of their films into fractions; what lies outside its film altogether is left out.

    Args:
        pixels: With the columns of `manifest.BOX_COLUMNS`.

    Raises:
        UserError: If the header of a film cannot be read.
    """
    size = sizes(pixels["path"].tolist()).loc[pixels["path"]].set_axis(pixels.index)
    return with_area(in_fractions(pixels, size["width"], size["height"]))


def with_area(boxes: pd.DataFrame) -> pd.DataFrame:
    """Those that have any."""
    return boxes[(boxes["width"] > 0) & (boxes["height"] > 0)].reset_index(drop=True)


def sizes(paths: Sequence[str]) -> pd.DataFrame:
    """Width and height in pixels of each film, as `radiograph.read` would give it; the index is its path.

    Raises:
        UserError: If a header cannot be read.
    """
    once = sorted(set(paths))
    with ThreadPoolExecutor(8) as pool:  # a header costs a seek, which on a network drive is mostly waiting
        found = list(pool.map(_size, once))
    return pd.DataFrame(found, index=once, columns=["width", "height"])


def _size(path: str) -> tuple[int, int]:
    file = Path(path)
    try:
        return _of_dicom(file) if file.suffix.lower() in _DICOM or is_dicom(file) else _of_picture(file)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such film.") from None
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise UserError(f"{path}: its width and height cannot be read ({type(error).__name__}).") from None


def _of_dicom(path: Path) -> tuple[int, int]:
    import pydicom

    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    return int(header.Columns), int(header.Rows)


def _of_picture(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        silent = image.format == "PNG" and not any(word in path.read_bytes() for word in _SPEAK_OF_ORIENTATION)
        turned = not silent and image.getexif().get(_ORIENTATION) in _TURNED  # which decodes a PNG to its end
        stored = image.size if image.format != "TIFF" else tuple(image.tag_v2[tag] for tag in _TIFF_SIDES)  # type: ignore[attr-defined]
        return (stored[1], stored[0]) if turned else (stored[0], stored[1])
