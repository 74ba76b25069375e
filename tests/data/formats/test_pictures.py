import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from xrayssl.data.formats import RefusedError, pictures
from xrayssl.data.radiograph import read
from xrayssl.errors import UserError

Y, X = np.mgrid[:48, :40]
GREY8 = (120 + 100 * np.sin(X / 9 + Y / 31)).astype(np.uint8)
GREY12 = (2000 + 1900 * np.sin(X / 9 + Y / 31)).astype(np.uint16)


def saved(pixels, kind, mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


TIFFS = ["raw", "tiff_adobe_deflate", "tiff_deflate", "tiff_lzw", "packbits"]
LOSSLESS = {
    **{f"TIFF {packing} {pixels.dtype}": (saved(pixels, "TIFF", compression=packing), pixels)
       for packing in TIFFS for pixels in (GREY8, GREY12)},
    "TIFF in colour": (saved(GREY8, "TIFF", "RGB", compression="tiff_lzw"), GREY8),
    "BMP": (saved(GREY8, "BMP"), GREY8),
    "BMP in colour": (saved(GREY8, "BMP", "RGB"), GREY8),
    "WebP": (saved(GREY8, "WEBP", "RGB", lossless=True), GREY8),
    "WebP with alpha": (saved(GREY8, "WEBP", "RGBA", lossless=True), GREY8),
}  # fmt: skip


def refused(folder, data, name):
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"{name}: "):
        read(folder / name)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_value_comes_back(kind):
    data, pixels = LOSSLESS[kind]
    np.testing.assert_array_equal(pictures.decode(data), pixels)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("lost", [1, 2, 30, 0.5])
def test_a_lost_end_is_noticed(kind, lost, tmp_path):
    data = LOSSLESS[kind][0]
    refused(tmp_path, data[: -lost if lost >= 1 else len(data) // 2], "film.bmp")


def tiff_with(data, tag, value):
    """The file with another value of one number in its header."""
    changed, start = bytearray(data), struct.unpack_from("<I", data, 4)[0]
    for number in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * number
        if struct.unpack_from("<H", changed, at)[0] == tag:
            kind = struct.unpack_from("<H", changed, at + 2)[0]
            struct.pack_into("<H" if kind == 3 else "<I", changed, at + 8, value)
    return bytes(changed)


@pytest.mark.parametrize("packing", TIFFS)
@pytest.mark.parametrize(("tag", "value"), [(256, 39), (256, 44), (257, 40), (257, 60), (278, 47)])
def test_a_tiff_header_of_another_size_is_noticed(packing, tag, value, tmp_path):
    data = saved(GREY12, "TIFF", compression=packing)
    refused(tmp_path, tiff_with(data, tag, value), "film.tif")


@pytest.mark.parametrize(("width", "height"), [(36, 48), (40, 47), (44, 48), (40, 49), (40, -47)])
def test_a_bmp_header_of_another_size_is_noticed(width, height):
    data = bytearray(LOSSLESS["BMP"][0])
    data[18:26] = struct.pack("<ii", width, height)
    with pytest.raises(RefusedError, match="more or less"):
        pictures.decode(bytes(data))


def test_a_lossy_webp_is_read_to_within_its_losses():
    assert np.abs(pictures.decode(saved(GREY8, "WEBP", quality=95)).astype(int) - GREY8).max() < 8


def test_an_8_bit_tiff_whose_white_is_zero_is_inverted():
    data = tiff_with(saved(GREY8, "TIFF"), 262, 0)
    np.testing.assert_array_equal(pictures.decode(data), 255 - GREY8)


def test_a_deep_tiff_whose_white_is_zero_is_inverted():
    data = tiff_with(saved(GREY12, "TIFF"), 262, 0)
    np.testing.assert_array_equal(pictures.decode(data), GREY12.max() - GREY12)


@pytest.mark.parametrize("packing", [1, 8])
@pytest.mark.parametrize("pixels", [GREY8, GREY12])
def test_a_tiff_in_tiles_is_read(pixels, packing):
    tiles = [np.pad(pixels, 8)[8:, 8:][top : top + 32, left : left + 16] for top in (0, 32) for left in (0, 16, 32)]
    packed = [np.pad(tile, [(0, 32 - tile.shape[0]), (0, 16 - tile.shape[1])]).tobytes() for tile in tiles]
    packed = [zlib.compress(tile) if packing == 8 else tile for tile in packed]
    starts = np.cumsum([8, *map(len, packed)])
    tags = {256: 40, 257: 48, 258: 8 * pixels.itemsize, 259: packing, 262: 1, 277: 1, 322: 16, 323: 32}
    end = int(starts[-1])
    entries = [struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items()]
    entries += [struct.pack("<HHII", tag, 4, 6, end + at) for tag, at in ((324, 126), (325, 150))]
    lists = struct.pack("<12I", *starts[:-1].tolist(), *map(len, packed))
    ifd = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    data = b"II*\0" + struct.pack("<I", end) + b"".join(packed) + ifd + lists
    np.testing.assert_array_equal(pictures.decode(data), pixels)


def test_16_bit_colour_keeps_its_depth(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tif"), np.dstack([GREY12] * 3))
    np.testing.assert_array_equal(pictures.decode((tmp_path / "a.tif").read_bytes()), GREY12)


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_a_film_that_lies_on_its_side_is_turned(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(GREY8, kind, "RGB", exif=exif, **options)
    np.testing.assert_array_equal(pictures.decode(data), np.rot90(GREY8, -1))


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO", "PDF"])
def test_other_formats_are_refused(kind):
    with pytest.raises(Image.UnidentifiedImageError):
        pictures.decode(saved(GREY8, kind, "RGB"))


@pytest.mark.parametrize("kind", ["VP8 ", "VP8L", "VP8X"])
def test_a_webp_too_large_is_refused_before_it_is_opened(kind):
    sides = {"VP8 ": bytes(6) + b"\xff\x3f\xff\x3f", "VP8L": b"\x2f\xff\xff\xff\x0f", "VP8X": bytes(4) + b"\xff" * 6}
    body = sides[kind].ljust(26, b"\0")
    data = b"RIFF" + struct.pack("<I", 30) + b"WEBP" + kind.encode() + struct.pack("<I", 10) + body
    with pytest.raises(RefusedError, match="limit"):
        pictures.decode(data)
