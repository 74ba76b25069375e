"""JPEG: baseline, extended and progressive (8 and 12 bit) and lossless (2-16 bit), in files and inside DICOM.

Decoders forgive: where the code ends early they fill up with grey. 8-bit pictures go through libjpeg-turbo with its
warnings taken as errors. For the others no decoder tells, so the code is made longer and must not give more.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from xrayssl.data.formats import RefusedError, check_size, grey
from xrayssl.data.formats.orientation import orientation, upright

MAGIC = b"\xff\xd8\xff"
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # start of frame; ITU-T T.81, B.1.1.3, and JPEG-LS
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # what ends a scan; 0 is a byte of 255, 0xD0-0xD7 are restarts
_MARKER_OR_RESTART = re.compile(rb"\xff[^\x00\xff]")
_MAX_SCANS = 100  # a progressive picture has about 10; each goes over the whole of it
_LONGER = b"\x5a\xa6\x3c\xc9" * 8


@dataclass(frozen=True)
class Frame:
    """What the header says.

    Args:
        process: Second byte of the start-of-frame marker: 0xC0 baseline, 0xC3 lossless, 0xF7 JPEG-LS ...
        bits: Of a sample.
        height: In pixels.
        width: In pixels.
        components: Samples of a pixel.
        start: Where this stands.
        turned: Whether it carries EXIF or XMP data, which may say that it lies on its side.
    """

    process: int
    bits: int
    height: int
    width: int
    components: int
    start: int
    turned: bool


def header(data: bytes) -> Frame:
    """Reads the markers up to the start of frame and checks the size that it asks for."""
    at, turned = 2, False
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        turned |= marker == 0xE1
        if marker in _FRAMES:
            bits, height, width, components = struct.unpack(">BHHB", data[at + 4 : at + 10])
            check_size(height, width, components * (1 if bits <= 8 else 2))
            return Frame(marker, bits, height, width, components, at, turned)
        at += 1 if marker == 0xFF else 2 if marker in _ALONE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise RefusedError("the film cannot be read (a JPEG picture without a start of frame).")


def decode(data: bytes) -> np.ndarray:
    """Grey values of a JPEG file, upright, uint8 or uint16 (H, W)."""
    frame = header(data)
    pixels = grey(samples(data, colour=False))
    return upright(pixels, orientation(data)) if frame.turned else pixels


def samples(data: bytes, colour: bool = True) -> np.ndarray:
    """Samples as they are: (H, W), or RGB (H, W, 3) if colour is wanted and there.

    Args:
        data: A whole stream.
        colour: False gives luminance.
    """
    frame = header(data)
    if frame.components not in (1, 3):
        raise RefusedError(f"the film cannot be read (a JPEG picture of {frame.components} colours).")
    if data.count(_SCAN) > _MAX_SCANS:
        raise RefusedError(f"the film cannot be read (a JPEG picture of more than {_MAX_SCANS} scans).")
    if frame.bits == 8 and frame.process != 0xC3:
        return _eight_bits(data, colour and frame.components == 3)
    return _deep(data, frame.start)


def _eight_bits(data: bytes, colour: bool) -> np.ndarray:
    import simplejpeg  # type: ignore[import-untyped]

    pixels = simplejpeg.decode_jpeg(data, "RGB" if colour else "GRAY", strict=True)
    return pixels if colour else pixels[..., 0]


def _deep(data: bytes, start: int) -> np.ndarray:
    """12 bit or lossless: decoded twice, the second time with more code than can be needed before every marker."""
    import imagecodecs

    pixels = imagecodecs.jpeg8_decode(data)
    if not np.array_equal(pixels, imagecodecs.jpeg8_decode(_longer(data, start))):
        raise RefusedError("the film cannot be read (its code ends early).")
    return pixels


def _longer(data: bytes, at: int) -> bytes:
    """The stream with more code in each scan behind `at`, before its end and before each restart."""
    parts = [data[:at]]
    while (scan := data.find(_SCAN, at)) >= 0:
        code = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")
        marker = _MARKER.search(data, code)
        if marker is None:
            raise RefusedError("the film cannot be read (it is truncated).")
        parts += [data[at:code], _MARKER_OR_RESTART.sub(rb"%b\g<0>" % _LONGER, data[code : marker.end()])]
        at = marker.end()
    return b"".join([*parts, data[at:]])
