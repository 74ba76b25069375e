import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from xrayssl.data.formats import RefusedError, jpeg
from xrayssl.data.radiograph import read
from xrayssl.errors import UserError

Y, X = np.mgrid[:64, :48]
GREY8 = (120 + 100 * np.sin(X / 9 + Y / 31)).astype(np.uint8)
GREY12 = (2000 + 1900 * np.sin(X / 9 + Y / 31)).astype(np.uint16)


def saved(pixels, mode="L", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


KINDS = {
    "baseline": saved(GREY8),
    "progressive": saved(GREY8, progressive=True),
    "colour": saved(GREY8, "RGB"),
    "12 bit": imagecodecs.jpeg8_encode(GREY12, level=95, bitspersample=12),
    "lossless 8 bit": imagecodecs.jpeg8_encode(GREY8, lossless=True, predictor=1, bitspersample=8),
    "lossless 12 bit": imagecodecs.jpeg8_encode(GREY12, lossless=True, predictor=1, bitspersample=12),
    "lossless 16 bit": imagecodecs.jpeg8_encode(GREY12 * 16, lossless=True, predictor=6, bitspersample=16),
}


def refused(folder, data, name):
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"{name}: "):
        read(folder / name)


@pytest.mark.parametrize("kind", KINDS)
def test_values_come_back_to_within_the_losses(kind):
    original = GREY12 * 16 if "16" in kind else GREY12 if "12" in kind else GREY8
    error = np.abs(jpeg.decode(KINDS[kind]).astype(int) - original).max()
    assert error <= (0 if "lossless" in kind else 30 if "12" in kind else 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_half_a_picture_is_no_picture_even_with_an_end(kind, keep, tmp_path):
    data = KINDS[kind]
    start = data.rindex(b"\xff\xda") + 14
    refused(tmp_path, data[: start + int(keep * (len(data) - start))] + b"\xff\xd9", "film.jpg")


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_without_its_end_is_refused(kind, tmp_path):
    refused(tmp_path, KINDS[kind][:-2], "film.jpg")


@pytest.mark.parametrize(("height", "width"), [(64, 40), (56, 48), (64, 56), (72, 48)])
def test_a_header_of_another_size_is_noticed(height, width):
    data = bytearray(KINDS["baseline"])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    with pytest.raises(ValueError, match="JPEG"):
        jpeg.decode(bytes(data))


def test_a_film_that_lies_on_its_side_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 8
    np.testing.assert_array_equal(jpeg.decode(saved(GREY8, exif=exif)), np.rot90(jpeg.decode(KINDS["baseline"])))


def test_a_picture_of_printing_colours_is_refused():
    with pytest.raises(RefusedError, match="4 colours"):
        jpeg.decode(saved(GREY8, "CMYK"))


def test_a_header_too_large_is_refused_before_anything_is_decoded():
    data = bytearray(KINDS["lossless 12 bit"])
    at = data.index(b"\xff\xc3")
    data[at + 5 : at + 9] = struct.pack(">HH", 65535, 65535)
    with pytest.raises(RefusedError, match="4,294,836,225 pixels"):
        jpeg.decode(bytes(data))


def test_thousands_of_scans_are_refused():
    data = KINDS["progressive"]
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(RefusedError, match="scans"):
        jpeg.decode(data[:scan] + data[scan : scan + 30] * 200 + b"\xff\xd9")


def test_what_has_no_start_of_frame_is_refused():
    with pytest.raises(RefusedError, match="start of frame"):
        jpeg.decode(b"\xff\xd8\xff\xe0\x00\x04ab" + bytes(64))
