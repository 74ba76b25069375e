"""PNG, 1-16 bit: every checksum holds, the picture's data end where the header says, and the end is there.

Half of the time of a plain decoder goes into an old inflate. Here libdeflate inflates, and libpng gets a stream that
is stored, not compressed, of which it only undoes the row filters.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np

from xrayssl.data.formats import RefusedError, check_size, grey
from xrayssl.data.formats.orientation import orientation, upright

MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type; ISO 15948, 11.2.2
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # Adam7
_MAX_CHUNKS = 100_000
_STORED = 65535  # most bytes of a stored block; RFC 1951, 3.2.4


def decode(data: bytes) -> np.ndarray:
    """Grey values, upright, uint8 or uint16 (H, W); fewer than 8 bits are spread over 0-255."""
    parts: dict[bytes, list[bytes]] = {}
    for kind, body in _chunks(data):
        parts.setdefault(kind, []).append(body)
    _check(parts)
    header = parts[b"IHDR"][0]
    rows = imagecodecs.deflate_decode(b"".join(parts[b"IDAT"]), out=_filtered_size(header))
    if len(rows) != _filtered_size(header):
        raise RefusedError("the film cannot be read (its picture ends early).")
    pixels = grey(imagecodecs.png_decode(_stored(header, parts.get(b"PLTE", []), rows)))
    return upright(pixels, orientation(data)) if _speaks_of_orientation(parts) else pixels


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk, up to and including the end."""
    at = len(MAGIC)
    for _ in range(_MAX_CHUNKS):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body, check = data[at + 8 : at + 8 + size], data[at + 8 + size : at + 12 + size]
        if len(check) < 4:
            raise RefusedError("the film cannot be read (it is truncated).")
        if imagecodecs.deflate_crc32(body, imagecodecs.deflate_crc32(kind)) != int.from_bytes(check, "big"):
            raise RefusedError("the film cannot be read (a checksum does not hold: it is damaged).")
        yield kind, body
        if kind == b"IEND":
            return
        at += 12 + size
    raise RefusedError(f"the film cannot be read (more than {_MAX_CHUNKS:,} chunks).")


def _check(parts: dict[bytes, list[bytes]]) -> None:
    unknown = [kind for kind in parts if not kind[0] & 32 and kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND")]
    if next(iter(parts)) != b"IHDR" or len(parts[b"IHDR"][0]) != 13 or unknown or b"IDAT" not in parts:
        raise RefusedError("the film cannot be read (its chunks are no PNG picture's).")
    if any(int.from_bytes(body[:4], "big") > 1 for body in parts.get(b"acTL", [])):
        raise RefusedError("the file holds several pictures; a film is one.")
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"][0])
    if depth not in _DEPTHS.get(colour, ()):
        raise RefusedError(f"the film cannot be read (a depth of {depth} with a colour type of {colour}).")
    # decoded, a palette takes 3 bytes and less than 8 bits take 8
    check_size(height, width, 3 if colour == 3 else _CHANNELS[colour] * max(depth, 8) / 8)


def _filtered_size(header: bytes) -> int:
    """Bytes of all rows, each behind one that names its filter."""
    width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", header)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    size = 0
    for top, left, down, across in passes:
        rows, columns = (height - top + down - 1) // down, (width - left + across - 1) // across
        size += rows * (1 + (columns * _CHANNELS[colour] * depth + 7) // 8) if columns > 0 else 0
    return size


def _stored(header: bytes, palette: list[bytes], rows: bytes | bytearray) -> bytes:
    """A PNG file of the same picture whose data are not compressed, without what does not concern its grey values."""
    view, size = memoryview(rows), len(rows)
    blocks: list[Any] = [b"\x78\x01"]
    for start in range(0, size, _STORED):
        length = min(_STORED, size - start)
        blocks += [struct.pack("<BHH", start + length == size, length, length ^ 0xFFFF), view[start : start + length]]
    blocks.append(struct.pack(">I", imagecodecs.deflate_adler32(rows)))
    parts = [*_chunk(b"IHDR", [header]), *_chunk(b"IDAT", blocks), *_chunk(b"IEND", [])]
    parts[4:4] = [part for body in palette for part in _chunk(b"PLTE", [body])]
    return b"".join([MAGIC, *parts])


def _chunk(kind: bytes, body: list[Any]) -> list[Any]:
    """Length, kind, pieces of the body and checksum: pieces, so that the rows are copied once only."""
    size, check = sum(len(part) for part in body), imagecodecs.deflate_crc32(kind)
    for part in body:
        check = imagecodecs.deflate_crc32(part, check)
    return [struct.pack(">I", size), kind, *body, struct.pack(">I", check)]


def _speaks_of_orientation(parts: dict[bytes, list[bytes]]) -> bool:
    texts = [body for kind in (b"tEXt", b"zTXt", b"iTXt") for body in parts.get(kind, [])]
    return b"eXIf" in parts or any(text.startswith((b"Raw profile", b"XML:com.adobe")) for text in texts)
