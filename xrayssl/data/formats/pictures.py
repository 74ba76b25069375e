"""TIFF, BMP and WebP through Pillow, and the check that it leaves out: whether there is as much as there must be."""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image, ImageOps

from xrayssl.data.formats import RefusedError, check_size

_DEEP_GREY = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})
_BYTES = {"1": 1, "L": 1, "P": 2, "LA": 2, **dict.fromkeys(_DEEP_GREY - {"I"}, 2)}  # per pixel, where it is not 4
_WEBP_BYTES = 12  # the decoder keeps two canvases of four bytes, and the result
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # TIFF 6.0
_WIDTH, _HEIGHT, _BITS, _SAMPLES, _COMPRESSION, _PLANAR = 256, 257, 258, 277, 259, 284
_STRIP_ROWS, _STRIPS, _STRIP_SIZES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES = 278, 273, 279, 322, 323, 324, 325
_UNPACK: dict[int, Callable[[bytes, int], int]] = {  # TIFF compression: bytes that a strip holds
    1: lambda strip, size: len(strip),
    5: lambda strip, size: len(imagecodecs.lzw_decode(strip, out=size)),
    8: lambda strip, size: len(imagecodecs.zlib_decode(strip, out=size)),
    32773: lambda strip, size: len(imagecodecs.packbits_decode(strip, out=size)),
    32946: lambda strip, size: len(imagecodecs.zlib_decode(strip, out=size)),
}
_MAX_STRIPS = 100_000


def decode(data: bytes) -> np.ndarray:
    """Grey values, upright, uint8 or uint16 (H, W); bright is dense."""
    if data[:4] == b"RIFF":
        _check_webp(data)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Corrupt EXIF data")  # so it calls a header that ends early
        image, deep_colour, inverted = _opened(data)
    if deep_colour:
        return _in_range(_grey_of_deep_colour(data))
    if image.mode in _DEEP_GREY:
        pixels = _in_range(np.asarray(image))
        return pixels.max() - pixels if inverted else pixels
    image.info.pop("transparency", None)
    return np.asarray(image.convert("L"))


def _opened(data: bytes) -> tuple[Any, bool, bool]:
    """The picture, upright, whether it had 16 bits per colour, and whether its white is zero."""
    image: Any
    with Image.open(io.BytesIO(data), formats=("TIFF", "BMP", "WEBP")) as image:
        _check(image)
        if image.format == "TIFF":
            _check_tiff(image.tag_v2, data)
        if image.format == "BMP":
            _check_bmp(data)
        deep_colour = _is_deep_colour(image)
        inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image, deep_colour, inverted


def _check(image: Any) -> None:
    check_size(image.height, image.width, 8 if _is_deep_colour(image) else _BYTES.get(image.mode, 4))
    if getattr(image, "n_frames", 1) > 1:
        raise RefusedError("the file holds several pictures; a film is one.")
    if image.mode == "F":
        raise RefusedError("grey values that are fractions are not understood; save 8 or 16 bit.")


def _is_deep_colour(image: Any) -> bool:
    return image.mode not in _DEEP_GREY and ";16" in str(image.tile)


def _grey_of_deep_colour(data: bytes) -> np.ndarray:
    """16 bit per channel, of which Pillow would keep the upper 8: 12-bit films would come out near-black."""
    import cv2

    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE))


def _in_range(pixels: np.ndarray) -> np.ndarray:
    if pixels.min() < 0 or pixels.max() > 65535:
        raise RefusedError("grey values outside 0-65535 are not understood.")
    return pixels.astype(np.uint16)


def _check_tiff(tags: Any, data: bytes) -> None:
    """Every strip or tile must hold as many bytes as its pixels take: the format has no checksum, and libtiff stops
    where the rows are full, so that a wrong width would come out as a skewed picture."""
    unpack = _UNPACK.get(tags.get(_COMPRESSION, 1))
    starts, sizes = tags.get(_STRIPS) or tags.get(_TILES), tags.get(_STRIP_SIZES) or tags.get(_TILE_SIZES)
    if unpack is None or not starts or not sizes:
        return
    expected = list(_strip_bytes(tags))
    if not len(starts) == len(sizes) == len(expected):
        raise RefusedError(f"the film cannot be read ({len(starts):,} strips where its size takes {len(expected):,}).")
    for start, size, wanted in zip(starts, sizes, expected, strict=True):
        if start + size > len(data):
            raise RefusedError("the film cannot be read (it is truncated).")
        if unpack(data[start : start + size], wanted + 1) != wanted:
            raise RefusedError("the film cannot be read (a strip holds more or less than its pixels).")


def _strip_bytes(tags: Any) -> Iterable[int]:
    """Bytes of each strip or tile, unpacked."""
    width, height, samples = tags[_WIDTH], tags[_HEIGHT], tags.get(_SAMPLES, 1)
    bits = tags.get(_BITS, (1,))[0]
    planes, together = (samples, 1) if tags.get(_PLANAR, 1) == 2 else (1, samples)
    if _TILES in tags:
        across, down = tags[_TILE_WIDTH], tags[_TILE_HEIGHT]
        rows = [down] * (math.ceil(width / across) * math.ceil(height / down))
        width = across
    else:
        most = max(1, min(height, tags.get(_STRIP_ROWS, height)))
        rows = [min(most, height - top) for top in range(0, height, most)]
    if planes * len(rows) > _MAX_STRIPS:
        raise RefusedError(f"the film cannot be read (more than {_MAX_STRIPS:,} strips).")
    return [count * math.ceil(width * together * bits / 8) for _ in range(planes) for count in rows]


def _check_bmp(data: bytes) -> None:
    """Uncompressed rows must fill the file: a wrong width would come out as a skewed picture."""
    start, header, width, height, _, bits, packed = struct.unpack("<IIiiHHI", data[10:34])
    size = math.ceil(width * bits / 32) * 4 * abs(height)
    rest = data[start + size :]
    profile = header > 108  # a colour profile may follow
    if header >= 40 and packed in (0, 3) and (start + size > len(data) or (rest.strip(b"\0") and not profile)):
        raise RefusedError("the film cannot be read (it holds more or less than its pixels).")


def _check_webp(data: bytes) -> None:
    """Size of the canvas (RFC 9649, 2.5-2.7), for which the decoder takes memory as soon as it is opened."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10 or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise RefusedError("the film cannot be read (it is truncated).")
    if kind == b"VP8X":
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    elif kind == b"VP8L":
        sides = int.from_bytes(body[1:5], "little")
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    check_size(height, width, _WEBP_BYTES)
