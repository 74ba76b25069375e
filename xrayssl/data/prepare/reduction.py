"""One film as a store keeps it: read, windowed, trimmed, resized, with checksums of what came in and what goes out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from xrayssl.data.prepare.shards import PreparedFilm
from xrayssl.data.radiograph import Radiograph, Window, read, window
from xrayssl.data.store import UNSEEN
from xrayssl.data.trim import border
from xrayssl.data.windowing import look_up, percentiles
from xrayssl.errors import UserError

cv2.setNumThreads(0)  # films are reduced in parallel processes
SMALLEST = 16


@dataclass(frozen=True)
class Recipe:
    """How a store's films are made.

    Args:
        window: As --data.window has it.
        limits: As --data.limits has it.
        first_frame: As --data.first_frame has it.
        size: Short side in pixels; a film that is smaller stays as it is.
        dtype: "uint8", or "uint16" for 16 bit of grey.
        trim: Cut the empty border off.

    Raises:
        UserError: If the size or the limits make no sense.
    """

    window: Window = "voi"
    limits: tuple[float, float] = (0.0, 100.0)
    first_frame: bool = False
    size: int = 512
    dtype: Literal["uint8", "uint16"] = "uint8"
    trim: bool = False

    def __post_init__(self) -> None:
        low, high = self.limits
        ordered, whole = 0 <= low < high <= 100, (low, high) == (0, 100)
        wrong = {
            f"--size must be {SMALLEST} pixels or more, not {self.size}.": self.size < SMALLEST,
            f"--data.limits must be percentiles, 0 <= low < high <= 100, not {self.limits}.": not ordered,
            f"--data.limits go with --data.window percentile; {self.window!r} takes none.": (
                self.window != "percentile" and ordered and not whole
            ),
        }
        problems = [sentence for sentence, holds in wrong.items() if holds]
        if problems:
            raise UserError(*problems)


def reduced(recipe: Recipe, path: str) -> PreparedFilm:
    """Makes one film ready for the store; one that cannot be read comes back with the reason."""
    facts: dict[str, Any] = {name: 0 for name in UNSEEN if not name.startswith("spacing")}
    facts |= {"sha256": "", "pixels_sha256": ""}
    try:
        film = read(path, voi=recipe.window == "voi", first_frame=recipe.first_frame)
    except UserError as error:
        return PreparedFilm(None, facts | _origin(path), str(error))
    image = _grey(film, recipe)
    top, left, height, width = box = border(image) if recipe.trim else (0, 0, *image.shape)
    pixels = shrunk(image[top : top + height, left : left + width], recipe.size)
    facts |= {
        **_origin(path),
        "pixels_sha256": hashlib.sha256(pixels.data).hexdigest(),
        **dict(zip(("film_height", "film_width"), image.shape, strict=True)),
        **dict(zip(("crop_top", "crop_left", "crop_height", "crop_width"), box, strict=True)),
        **dict(zip(("spacing_row", "spacing_column"), film.spacing or (), strict=False)),
    }
    return PreparedFilm(pixels, facts)


def shrunk(image: np.ndarray, size: int) -> np.ndarray:
    """Averages an image down until its short side has so many pixels; the aspect stays, nothing is enlarged.

    Args:
        image: uint8 or uint16 (H, W).
        size: Short side in pixels.

    Returns:
        A contiguous array.
    """
    scale = size / min(image.shape)
    if scale >= 1:
        return np.ascontiguousarray(image)
    height, width = (max(size, round(side * scale)) for side in image.shape)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _grey(film: Radiograph, recipe: Recipe) -> np.ndarray:
    """The windowed film in 8 or 16 bit: the same black and white, more greys between them."""
    if recipe.dtype == "uint8":
        return window(film, recipe.window, recipe.limits)
    if recipe.window == "percentile":
        black, white = percentiles(film.pixels, recipe.limits)
    elif recipe.window == "none" or film.pixels.dtype == np.uint8:
        black, white = 0, 2**film.bits - 1
    else:
        black, white = int(film.pixels.min()), int(film.pixels.max())
    values = np.arange(2**16, dtype=np.float64) - black
    table = np.clip(np.rint(values * (65535.0 / ((white - black) or 1.0))), 0, 65535).astype(np.uint16)
    return look_up(table, film.pixels)


def _origin(path: str) -> dict[str, Any]:
    """Length and checksum of a file that is there."""
    try:
        with Path(path).open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            return {"sha256": checksum, "film_bytes": file.tell()}
    except OSError:
        return {}
