import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from xrayssl.data.formats import RefusedError, png

GREY8 = np.arange(48 * 40, dtype=np.uint32).reshape(48, 40).astype(np.uint8)
GREY16 = (np.arange(48 * 40, dtype=np.uint32) * 34).reshape(48, 40).astype(np.uint16)


def saved(pixels, mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def built(width, height, depth, colour, rows, interlaced=0, more=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return png.MAGIC + chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def interlaced(pixels):
    """Adam7, every row without a filter."""
    passes = [pixels[top::down, left::across] for top, left, down, across in png._PASSES]
    rows = [b"\0" + row.astype(">u2" if pixels.itemsize == 2 else "u1").tobytes() for part in passes for row in part]
    return b"".join(row for row in rows if len(row) > 1)


@pytest.mark.parametrize("pixels", [GREY8, GREY16])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_every_value_comes_back(pixels, level):
    np.testing.assert_array_equal(png.decode(saved(pixels, compress_level=level)), pixels)


@pytest.mark.parametrize("filter_", range(5))
def test_every_row_filter_is_undone(filter_):
    data = imagecodecs.png_encode(GREY8, filter=(8, 16, 32, 64, 128)[filter_])
    np.testing.assert_array_equal(png.decode(data), GREY8)


@pytest.mark.parametrize("size", [(48, 40), (1, 1), (3, 5), (9, 2)])
@pytest.mark.parametrize("pixels", [GREY8, GREY16])
def test_interlaced_films_are_read(pixels, size):
    film = pixels[: size[0], : size[1]]
    data = built(size[1], size[0], 8 * pixels.itemsize, 0, interlaced(film), interlaced=1)
    np.testing.assert_array_equal(png.decode(data), film)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_spread_over_the_whole_scale(bits):
    few = np.arange(16, dtype=np.uint8)[:, None] % (1 << bits)
    rows = b"".join(b"\0" + bytes([int(value) << (8 - bits)]) for value in few[:, 0])
    np.testing.assert_array_equal(png.decode(built(1, 16, bits, 0, rows)), few * (255 // ((1 << bits) - 1)))


def test_colour_becomes_luminance():
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = 200, 100, 50
    assert np.unique(png.decode(saved(pixels))).tolist() == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_in_any_mode_is_the_same_grey(mode):
    np.testing.assert_array_equal(png.decode(saved(GREY8, mode)), GREY8)


@pytest.mark.parametrize(
    ("turn", "back"),
    [(2, np.fliplr), (3, lambda a: a[::-1, ::-1]), (4, np.flipud), (5, np.transpose), (6, lambda a: np.rot90(a, -1)),
     (7, lambda a: a[::-1, ::-1].T), (8, np.rot90)],
)  # fmt: skip
def test_a_film_that_lies_on_its_side_is_turned(turn, back):
    exif = Image.Exif()
    exif[0x0112] = turn
    np.testing.assert_array_equal(png.decode(saved(GREY8, exif=exif)), back(GREY8))


def test_an_orientation_that_a_converter_left_as_text_counts_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = b"Exif\0\0" + exif.tobytes()[6:] if exif.tobytes().startswith(b"Exif") else b"Exif\0\0" + exif.tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8d}\n{raw.hex()}\n", zip=True)
    np.testing.assert_array_equal(png.decode(saved(GREY8, pnginfo=info)), np.rot90(GREY8, -1))


@pytest.mark.parametrize("place", range(0, 1000, 37))
def test_any_flipped_bit_is_noticed(place):
    data = bytearray(saved(GREY16, compress_level=0))
    data[8 + place * (len(data) - 8) // 1000] ^= 4
    with pytest.raises((RefusedError, imagecodecs.DeflateError)):
        png.decode(bytes(data))


@pytest.mark.parametrize("lost", [1, 4, 12, 16, 100])
def test_a_lost_end_is_noticed(lost):
    with pytest.raises(RefusedError, match="truncated"):
        png.decode(saved(GREY8)[:-lost])


@pytest.mark.parametrize("rows", [bytes(47 * 41), bytes(49 * 41)])
def test_data_that_end_before_or_behind_the_last_row_are_noticed(rows):
    with pytest.raises((RefusedError, imagecodecs.DeflateError)):
        png.decode(built(40, 48, 8, 0, rows))


def test_an_unknown_row_filter_is_noticed():
    with pytest.raises(Exception, match="filter"):
        png.decode(built(40, 48, 8, 0, (b"\7" + bytes(40)) * 48))


def test_an_animation_is_no_film():
    moving = chunk(b"acTL", struct.pack(">II", 2, 0))
    with pytest.raises(RefusedError, match="several pictures"):
        png.decode(built(40, 48, 8, 0, bytes(48 * 41), more=moving))


@pytest.mark.parametrize(("depth", "colour"), [(3, 0), (16, 3), (4, 2), (8, 5)])
def test_a_header_that_no_png_has_is_refused(depth, colour):
    with pytest.raises(RefusedError, match="depth"):
        png.decode(built(40, 48, depth, colour, b""))


def test_bytes_behind_the_end_do_no_harm():
    np.testing.assert_array_equal(png.decode(saved(GREY8) + b"more"), GREY8)
