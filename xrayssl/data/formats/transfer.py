"""DICOM transfer syntaxes (PS3.5 A): from the bytes of one frame to the samples as they were stored."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np

from xrayssl.data.formats import RefusedError, check_size, jpeg

IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2"))
_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000 (ISO 15444-1 A.5.1): start, then SIZ with width and height from byte 8
_J2K_BYTES = 4  # per sample while it is decoded


@dataclass(frozen=True)
class Layout:
    """How the header describes one frame; the names are DICOM's.

    Args:
        syntax: Transfer syntax.
        rows: Height in pixels.
        columns: Width in pixels.
        samples: Of a pixel.
        allocated: Bits of a sample, 8, 16 or 32.
        planar: Whether all samples of one colour come before those of the next.
        swapped: Whether 8-bit samples come in words of which the second is first (big endian, OW).
    """

    syntax: str
    rows: int
    columns: int
    samples: int
    allocated: int
    planar: bool
    swapped: bool = False

    @property
    def size(self) -> int:
        """Bytes of a frame that is not compressed."""
        return self.rows * self.columns * self.samples * self.allocated // 8


def decode(frame: bytes, layout: Layout) -> np.ndarray:
    """Samples of one frame.

    Args:
        frame: Its bytes.
        layout: What the header says.

    Returns:
        Integers (rows, columns) or (rows, columns, 3).

    Raises:
        RefusedError: If it is truncated, or not what the header says.
    """
    samples = CODECS[layout.syntax](frame, layout)
    expected = (layout.rows, layout.columns, 3) if layout.samples == 3 else (layout.rows, layout.columns)
    if samples.shape != expected:
        raise RefusedError(f"the film cannot be read (its header speaks of {expected}, its code of {samples.shape}).")
    return samples


def _native(frame: bytes, layout: Layout) -> np.ndarray:
    rest = len(frame) - layout.size
    if rest not in (0, layout.size % 2):  # a value has an even length
        raise RefusedError(
            f"the film cannot be read (its pixels take {layout.size:,} bytes and there are {len(frame):,})."
        )
    order = ">" if layout.syntax == BIG_ENDIAN else "<"
    kind = np.dtype(f"{order}u{layout.allocated // 8}")
    if layout.swapped:
        frame = np.frombuffer(frame, "<u2").byteswap().tobytes()
    samples = np.frombuffer(frame, kind, layout.size // kind.itemsize)
    return _arranged(samples.astype(kind.newbyteorder("="), copy=False), layout, layout.planar)


def _run_lengths(frame: bytes, layout: Layout) -> np.ndarray:
    kind = np.dtype(f"<u{layout.allocated // 8}")
    unpacked = imagecodecs.dicomrle_decode(frame, kind, out=layout.size)
    if len(unpacked) != layout.size:
        raise RefusedError("the film cannot be read (its run lengths end early).")
    return _arranged(np.frombuffer(unpacked, kind), layout, planar=True)


def _arranged(samples: np.ndarray, layout: Layout, planar: bool) -> np.ndarray:
    if layout.samples == 1:
        return samples.reshape(layout.rows, layout.columns)
    if planar:
        return samples.reshape(layout.samples, layout.rows, layout.columns).transpose(1, 2, 0)
    return samples.reshape(layout.rows, layout.columns, layout.samples)


def _jpeg(frame: bytes, layout: Layout) -> np.ndarray:
    return jpeg.samples(_whole(frame))


def _jpeg_ls(frame: bytes, layout: Layout) -> np.ndarray:
    found = jpeg.header(frame)
    _agree(layout, found.height, found.width)
    return imagecodecs.jpegls_decode(_whole(frame))


def _jpeg_2000(frame: bytes, layout: Layout) -> np.ndarray:
    start = frame.find(_CODESTREAM, 0, 4096)
    if start < 0 or len(frame) < start + 16:
        raise RefusedError("the film cannot be read (a JPEG 2000 picture without a header).")
    width, height = struct.unpack(">II", frame[start + 8 : start + 16])
    check_size(height, width, layout.samples * _J2K_BYTES)
    _agree(layout, height, width)
    return imagecodecs.jpeg2k_decode(_whole(frame))


def _agree(layout: Layout, height: int, width: int) -> None:
    if (height, width) != (layout.rows, layout.columns):
        raise RefusedError(
            f"the film cannot be read (its header speaks of {layout.rows} x {layout.columns} pixels, its code of "
            f"{height} x {width})."
        )


def _whole(frame: bytes) -> bytes:
    """The stream without padding; its last marker must be there."""
    end = frame.rfind(b"\xff\xd9")
    if end < 0 or frame[end + 2 :].strip(b"\0\xff"):
        raise RefusedError("the film cannot be read (its code is truncated).")
    return frame[: end + 2]


_JPEG, _JPEG_LS, _JPEG_2000 = (50, 51, 57, 70), (80, 81), (90, 91, 201, 202, 203)  # 1.2.840.10008.1.2.4.x
CODECS: dict[str, Callable[[bytes, Layout], np.ndarray]] = {
    **dict.fromkeys((IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN), _native),
    "1.2.840.10008.1.2.5": _run_lengths,
    **{
        f"1.2.840.10008.1.2.4.{number}": codec
        for numbers, codec in ((_JPEG, _jpeg), (_JPEG_LS, _jpeg_ls), (_JPEG_2000, _jpeg_2000))
        for number in numbers
    },
}


def frame_bytes(dataset: Any, layout: Layout, frames: int) -> bytes:
    """The first frame of a dataset."""
    from pydicom.encaps import generate_frames

    pixels: bytes = dataset.PixelData
    if CODECS[layout.syntax] is _native:
        return pixels if frames == 1 else pixels[: layout.size]
    return next(generate_frames(pixels, number_of_frames=frames))


def gives_rgb(layout: Layout) -> bool:
    """Whether a colour picture of this syntax comes out as RGB whatever it was stored as."""
    return CODECS[layout.syntax] is _jpeg


def values(raw: np.ndarray, stored: int, high: int, signed: bool, overlaid: bool) -> np.ndarray:
    """The values that lie in `stored` bits of each sample, the topmost of which is number `high` (PS3.5 8.1.1).

    Args:
        raw: Integers of any kind.
        stored: Bits of a value, 1-16.
        high: Number of its topmost bit, from 0.
        signed: Whether values are in two's complement.
        overlaid: Whether other bits may hold an overlay; they must be empty or repeat the sign otherwise.

    Returns:
        uint8, uint16, int8 or int16.
    """
    size = next(bytes_ for bytes_ in (1, 2, 4) if bytes_ >= raw.dtype.itemsize and 8 * bytes_ > high)
    plain = raw.astype(f"{raw.dtype.kind}{size}", copy=False).view(f"u{size}")
    left, right = 8 * size - 1 - high, 8 * size - stored
    kind = "i" if signed else "u"
    found = (plain << left if left else plain).view(f"{kind}{size}")
    found = found >> right if right else found
    signs = signed and left == right and np.array_equal(found.view(plain.dtype), plain)
    beside = int(plain.max()) >> (high + 1) or (right > left and (plain & (1 << (right - left)) - 1).any())
    if beside and not overlaid and not signs:
        raise RefusedError(
            f"the film cannot be read (grey values of more than the {stored} bits that its header says)."
        )
    return found.astype(f"{kind}{1 if stored <= 8 else 2}", copy=False)
