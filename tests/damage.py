"""Films in every format that is read, and what can happen to a file: the cases of fuzz_radiographs.py."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import dicoms
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 96, 80
SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp", ".dcm", ".dicom", ".txt", "")
SIDES = (0, 1, WIDTH - 1, WIDTH + 1, HEIGHT, 2 * WIDTH, WIDTH // 2, 4096, 9999, 16383, 65535)
DICOM_LIES = (
    {"BitsAllocated": 8},
    {"BitsAllocated": 32},
    {"BitsStored": 9},
    {"SamplesPerPixel": 3},
    {"NumberOfFrames": 10**6},
)
BARE = ("bmp", "tiff", "tiff16", "dicom implicit", "dicom explicit", "dicom big endian")  # pixels as they are
Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One file.

    Args:
        original: Name of the film that it was; "" if it never was one.
        damage: What was done to it.
        data: Its bytes.
        suffix: Of its name.
        noticed: Whether it must be refused unless it comes out as it was.
    """

    original: str
    damage: str
    data: bytes
    suffix: str
    noticed: bool


def films() -> tuple[np.ndarray, np.ndarray]:
    """A film of 8 and one of 12 bits: smooth, with noise, and without flat parts."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    deep = 400 + 1500 * (1 + np.sin(x / 11 + y / 29)) + rng.normal(0, 25, (HEIGHT, WIDTH))
    return np.clip(deep / 16, 0, 255).astype(np.uint8), np.clip(deep, 0, 4095).astype(np.uint16)


def _picture(pixels: np.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def originals() -> dict[str, tuple[bytes, str]]:
    """Bytes and suffix by the name of the format."""
    grey, deep = films()
    turned = Image.Exif()
    turned[0x0112] = 6
    found = {
        "png": (_picture(grey, "PNG"), ".png"),
        "png16": (_picture(deep, "PNG"), ".png"),
        "png palette": (_picture(grey, "PNG", "P"), ".png"),
        "png RGBA": (_picture(grey, "PNG", "RGBA", exif=turned), ".png"),
        "jpeg": (_picture(grey, "JPEG", quality=92), ".jpg"),
        "jpeg RGB": (_picture(grey, "JPEG", "RGB", quality=92, exif=turned), ".jpg"),
        "jpeg progressive": (_picture(grey, "JPEG", quality=92, progressive=True), ".jpg"),
        "tiff": (_picture(grey, "TIFF"), ".tif"),
        "tiff16": (_picture(deep, "TIFF"), ".tif"),
        "tiff deflate": (_picture(deep, "TIFF", compression="tiff_adobe_deflate"), ".tif"),
        "tiff lzw": (_picture(grey, "TIFF", compression="tiff_lzw"), ".tif"),
        "tiff packbits": (_picture(grey, "TIFF", compression="packbits"), ".tif"),
        "bmp": (_picture(grey, "BMP"), ".bmp"),
        "webp": (_picture(grey, "WEBP", quality=90), ".webp"),
        "webp lossless": (_picture(grey, "WEBP", "RGB", lossless=True), ".webp"),
    }
    for syntax in (*dicoms.NATIVE, *dicoms.ENCODERS):
        eight = syntax == "JPEG baseline"
        found[f"dicom {syntax}"] = (_dicom(syntax, eight), ".dcm")
    return found


def _dicom(syntax: str, eight: bool, **tags: object) -> bytes:
    grey, deep = films()
    depth = {} if eight else {"BitsStored": 12, "HighBit": 11}
    return dicoms.film(grey if eight else deep, syntax=syntax, **{**depth, **tags})


def flipped(data: bytes, rng: Rng) -> bytes:
    """One to eight bits are others."""
    changed = bytearray(data)
    for at in rng.integers(0, len(data), rng.integers(1, 9)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def flipped_at_the_start(data: bytes, rng: Rng) -> bytes:
    """One bit of the first 400 bytes, where headers are."""
    at = rng.integers(0, min(400, len(data)))
    return data[:at] + bytes([data[at] ^ 1 << rng.integers(8)]) + data[at + 1 :]


def overwritten(data: bytes, rng: Rng) -> bytes:
    """A run of bytes is noise."""
    at, size = rng.integers(0, len(data)), rng.integers(1, 65)
    return data[:at] + rng.bytes(size)[: len(data) - at] + data[at + size :]


def truncated(data: bytes, rng: Rng) -> bytes:
    """The end is missing, often a few bytes only."""
    lost = rng.integers(1, 33) if rng.random() < 0.4 else rng.integers(1, len(data))
    return data[: len(data) - lost]


def filled(data: bytes, rng: Rng) -> bytes:
    """The end is zeros, as after a crash."""
    at = rng.integers(1, len(data))
    return data[:at] + bytes(len(data) - at)


def cut(data: bytes, rng: Rng) -> bytes:
    """A run of bytes in the middle is missing."""
    at, size = rng.integers(1, len(data)), rng.integers(1, 129)
    return data[:at] + data[at + size :]


def repeated(data: bytes, rng: Rng) -> bytes:
    """A run of bytes stands there twice."""
    at, size = rng.integers(1, len(data)), rng.integers(1, 129)
    return data[: at + size] + data[at:]


DAMAGES: dict[str, Callable[[bytes, Rng], bytes]] = {
    "flip": flipped,
    "flip in the header": flipped_at_the_start,
    "noise": overwritten,
    "truncation": truncated,
    "zeros": filled,
    "cut": cut,
    "repeat": repeated,
}


def lie(name: str, data: bytes, rng: Rng) -> bytes:
    """The header speaks of another size; its own checksums hold."""
    height, width = (int(rng.choice(SIDES)) for _ in range(2))
    keep = rng.integers(3)
    height, width = HEIGHT if keep == 0 else height, WIDTH if keep == 1 else width
    if not name.startswith("dicom"):
        return resized(name, data, height, width)
    tags = {"Rows": height, "Columns": width} if rng.random() < 0.7 else DICOM_LIES[rng.integers(len(DICOM_LIES))]
    return _dicom(name.removeprefix("dicom "), "baseline" in name, **tags)


def resized(name: str, data: bytes, height: int, width: int) -> bytes:
    """A picture file whose header is changed and nothing else."""
    changed = bytearray(data)
    if name.startswith("png"):
        changed[16:24] = struct.pack(">II", width, height)
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
    elif name.startswith("jpeg"):
        at = next(at for at in range(len(data)) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC2))
        changed[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif name.startswith("tiff"):
        _resize_tiff(changed, height, width)
    elif name == "bmp":
        changed[18:26] = struct.pack("<ii", width, height)
    elif data[12:16] == b"VP8L":
        changed[21:25] = struct.pack("<I", max(width - 1, 0) & 0x3FFF | (max(height - 1, 0) & 0x3FFF) << 14)
    else:
        changed[26:30] = struct.pack("<HH", width & 0x3FFF, height & 0x3FFF)
    return bytes(changed)


def _resize_tiff(data: bytearray, height: int, width: int) -> None:
    start = struct.unpack_from("<I", data, 4)[0]
    for number in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * number
        tag, kind = struct.unpack_from("<HH", data, at)
        if tag in (256, 257):
            struct.pack_into("<H" if kind == 3 else "<I", data, at + 8, width if tag == 256 else height)


def _code_size(name: str, data: bytes) -> object:
    """How much code the header asks for: a film of another size that takes as much of it cannot be told."""
    if name.startswith("webp"):
        return None  # it says its size once and checks nothing
    if name.startswith("jpeg"):
        at = next(at for at in range(len(data)) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC2))
        height, width = struct.unpack(">HH", data[at + 5 : at + 9])
        block = 16 if "RGB" in name else 8
        return -(-height // block) * -(-width // block)
    if name == "bmp":
        width, height = struct.unpack("<ii", data[18:26])
        return -(-width // 4) * height
    return data


def _png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _deflated_bomb() -> bytes:
    film = dicoms.film(films()[1], syntax="explicit")
    start = 144 + int.from_bytes(film[140:144], "little")
    header = film[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    size = int.from_bytes(film[140:144], "little") + 2
    length = next(at for at in range(144, start) if film[at : at + 4] == b"\x02\0\x10\0") + 6
    grown = bytearray(header)
    grown[140:144], grown[length : length + 2] = size.to_bytes(4, "little"), (22).to_bytes(2, "little")
    deflater = zlib.compressobj(wbits=-15)
    again = deflater.compress(bytes(2**24)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return bytes(grown) + again * 64 + deflater.flush()


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("film.png", bytes(2**22))
    return file.getvalue()


def _many_scans(data: bytes) -> bytes:
    """A progressive JPEG of 60,000 x 1,000 pixels that goes over them 5,000 times."""
    at = data.index(b"\xff\xc2")
    scan = data.index(b"\xff\xda")
    header = data[:at] + data[at : at + 5] + struct.pack(">HH", 1000, 60000) + data[at + 9 : scan]
    return header + data[scan : scan + 40] * 5000 + b"\xff\xd9"


def bombs() -> dict[str, tuple[bytes, str]]:
    """Files that ask for much more than they are; each must be refused."""
    lies = {
        "png of 65535 x 65535": (_png(65535, 65535, b"\0"), ".png"),
        "png of 10000 x 10000": (_png(10000, 10000, b"\0"), ".png"),
        "png of 16 bit RGBA": (_png(9000, 9000, b"\0", 16, 6), ".png"),
        "png that inflates to 64 MB": (_png(64, 64, bytes(2**26)), ".png"),
        "jpeg of many scans": (_many_scans(originals()["jpeg progressive"][0]), ".jpg"),
        "deflated dicom of 1 GB": (_deflated_bomb(), ".dcm"),
        "dicom of 65535 x 65535": (_dicom("explicit", False, Rows=65535, Columns=65535), ".dcm"),
        "zip archive": (_archive(), ".png"),
        "text": (b"not a picture at all", ".jpg"),
        "nothing": (b"", ".png"),
    }
    for name, (data, suffix) in originals().items():
        if not name.startswith("dicom"):
            side = 16383 if name.startswith("webp") else 65500
            lies[f"{name} of {side} x {side}"] = (resized(name, data, side, side), suffix)
    return lies


def case(seed: int, number: int, made: dict[str, tuple[bytes, str]], asking: dict[str, tuple[bytes, str]]) -> Case:
    """The case of this number: mostly damage, some lies, some other names, some bombs.

    Args:
        seed: Of the whole run.
        number: From 0; it alone decides, so that one case can be run again.
        made: `originals`.
        asking: `bombs`.
    """
    rng = np.random.default_rng((seed, number))
    name = str(rng.choice(list(made)))
    data, suffix = made[name]
    draw = rng.random()
    if draw < 0.05:
        name = str(rng.choice(list(asking)))
        return Case("", f"bomb: {name}", *asking[name], noticed=True)
    if draw < 0.12:
        return Case(name, "other suffix", data, str(rng.choice(SUFFIXES)), noticed=True)
    if draw < 0.17:
        other = str(rng.choice(list(made)))
        at = rng.integers(1, len(data))
        # two PNGs may fit at the seam of their chunks, and a DICOM file may begin with anything
        noticed = name.startswith("png") and not other.startswith(("png", "dicom"))
        return Case(name, "another file's end", data[:at] + made[other][0][at:], suffix, noticed)
    if draw < 0.35:
        lying = lie(name, data, rng)
        return Case(name, "lie", lying, suffix, noticed=_code_size(name, lying) != _code_size(name, data))
    damage = str(rng.choice(list(DAMAGES)))
    shorter = damage == "truncation" or (damage == "cut" and name in BARE)
    longer = damage == "repeat" and name in BARE and not name.startswith("tiff")
    noticed = name.startswith("png") or shorter or longer
    return Case(name, damage, DAMAGES[damage](data, rng), suffix, noticed)
