import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from xrayssl.data.radiograph import MAX_PIXELS, read, window
from xrayssl.errors import UserError

GREY8 = np.arange(48 * 40, dtype=np.uint32).reshape(48, 40).astype(np.uint8)
GREY12 = (np.arange(48 * 40, dtype=np.uint16) * 2).reshape(48, 40)  # 0-3838


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def png(width, height, depth=8, colour=0, rows=b""):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_an_8_bit_film_keeps_every_value(suffix, tmp_path):
    film = read(saved(tmp_path / f"a.{suffix}", GREY8))
    assert (film.pixels.dtype, film.bits) == (np.uint8, 8)
    np.testing.assert_array_equal(window(film), GREY8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_12_bit_film_in_a_16_bit_file_keeps_every_value_and_its_depth(suffix, tmp_path):
    film = read(saved(tmp_path / f"a.{suffix}", GREY12))
    np.testing.assert_array_equal(film.pixels, GREY12)
    assert film.bits == 12


def test_a_12_bit_film_is_neither_near_black_nor_clipped_to_white(tmp_path):
    grey = window(read(saved(tmp_path / "a.png", GREY12)))
    np.testing.assert_array_equal(grey, np.rint(GREY12 * (255 / GREY12.max())))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_colour_keeps_its_depth(suffix, channels, tmp_path):
    opaque = [np.full_like(GREY12, 65535)] * (channels - 3)
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), np.dstack([GREY12] * 3 + opaque))
    np.testing.assert_array_equal(read(tmp_path / f"a.{suffix}").pixels, GREY12)


def test_16_bit_grey_with_alpha_keeps_its_depth(tmp_path):
    pairs = np.dstack([GREY12, np.full_like(GREY12, 65535)]).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pairs)
    (tmp_path / "a.png").write_bytes(png(40, 48, 16, 4, rows))
    np.testing.assert_array_equal(read(tmp_path / "a.png").pixels, GREY12)


def test_a_deep_tiff_whose_white_is_zero_is_inverted(tmp_path):
    film = read(saved(tmp_path / "a.tif", GREY12, tiffinfo={262: 0}))
    np.testing.assert_array_equal(film.pixels, GREY12.max() - GREY12)


def test_a_jpeg_is_read_to_within_its_losses(tmp_path):
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    film = read(saved(tmp_path / "a.jpg", smooth, quality=95))
    assert np.abs(film.pixels.astype(int) - smooth).max() < 6


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
def test_grey_in_any_mode_is_the_same_grey(mode, tmp_path):
    grey = GREY8 if mode != "1" else np.where(GREY8 > 127, 255, 0).astype(np.uint8)
    Image.fromarray(grey).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png").pixels, grey)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    Image.fromarray(GREY8).convert("P").save(tmp_path / "a.png", transparency=bytes([0, 255] * 128))
    np.testing.assert_array_equal(read(tmp_path / "a.png").pixels, GREY8)


@pytest.mark.parametrize("pixels", [GREY8, GREY12])
def test_a_film_that_says_it_is_rotated_is_turned_upright(pixels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    np.testing.assert_array_equal(read(saved(tmp_path / "a.png", pixels, exif=exif)).pixels, np.rot90(pixels, -1))


def test_content_and_not_the_suffix_decides_what_a_picture_is(tmp_path):
    saved(tmp_path / "a.jpg", GREY8, format="PNG")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg").pixels, GREY8)


DAMAGED = {
    "empty": (lambda data: b"", "the file is empty"),
    "cut in half": (lambda data: data[: len(data) // 2], "cannot be read"),
    "filled up with zeros": (lambda data: data[: len(data) // 2] + bytes(len(data) // 2), "cannot be read"),
    "text": (lambda data: b"not a picture at all", "no image"),
}


CASES = [(damage, suffix) for damage in DAMAGED for suffix in ("png", "jpg", "tif")]
CASES.remove(("filled up with zeros", "tif"))  # zeros are grey values there


@pytest.mark.parametrize(("damage", "suffix"), CASES)
def test_a_damaged_picture_is_refused_by_name(damage, suffix, tmp_path):
    path = saved(tmp_path / f"film.{suffix}", GREY8)
    path.write_bytes(DAMAGED[damage][0](path.read_bytes()))
    with pytest.raises(UserError, match=rf"film\.{suffix}: .*{DAMAGED[damage][1]}"):
        read(path)


@pytest.mark.parametrize("lost", [12, 16, 20])
def test_a_png_without_its_last_bytes_is_refused(lost, tmp_path):
    path = saved(tmp_path / "film.png", GREY8)
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(UserError, match=r"film\.png: the film cannot be read"):
        read(path)


def test_one_flipped_bit_in_a_png_is_noticed(tmp_path):
    data = bytearray(saved(tmp_path / "film.png", GREY8, compress_level=0).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "film.png").write_bytes(data)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "film.png")


def test_a_missing_film_and_a_folder_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"a\.png: there is no such film"):
        read(tmp_path / "a.png")
    with pytest.raises(UserError, match=f"{tmp_path}: the film cannot be read"):
        read(tmp_path)


@pytest.mark.parametrize("side", [10_001, 13_000, 30_000])
def test_a_picture_too_large_is_refused_before_it_takes_memory(side, tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(side, side))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bomb\.png"):
        read(tmp_path / "bomb.png")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_fractions_and_several_pictures_in_one_file_are_refused(tmp_path):
    saved(tmp_path / "f.tif", GREY8.astype(np.float32))
    saved(tmp_path / "two.tif", GREY8, save_all=True, append_images=[Image.fromarray(GREY8)])
    with pytest.raises(UserError, match=r"f\.tif: .*fractions"):
        read(tmp_path / "f.tif")
    with pytest.raises(UserError, match=r"two\.tif: .*several pictures"):
        read(tmp_path / "two.tif")


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=64), st.integers(0, 255), st.sampled_from(["PNG", "JPEG", "TIFF", "BMP"]))
def test_whatever_is_in_a_file_it_is_a_film_or_a_sentence(tmp_path_factory, junk, place, kind):
    buffer = io.BytesIO()
    Image.fromarray(GREY8).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    at = place * len(data) // 256
    data[at : at + len(junk)] = junk
    path = tmp_path_factory.getbasetemp() / f"junk.{kind.lower()}"
    path.write_bytes(data)
    try:
        assert read(path).pixels.ndim == 2
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_the_limit_of_pixels_lets_every_real_detector_through():
    assert MAX_PIXELS > 5000 * 6000


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "film.png").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(UserError, match=r"film\.png: 1,073,741,824 bytes are more than the limit"):
        read(tmp_path / "film.png")


@settings(deadline=None, max_examples=60)
@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=9)), st.sampled_from(["png", "tif"]))
def test_no_pixel_of_a_16_bit_film_is_clipped_on_its_way(tmp_path_factory, pixels, suffix):
    film = read(saved(tmp_path_factory.getbasetemp() / f"deep.{suffix}", pixels))
    np.testing.assert_array_equal(film.pixels, pixels)
    exact = (pixels.astype(float) - pixels.min()) / max(1, int(np.ptp(pixels))) * 255
    assert np.abs(window(film) - exact).max() <= 0.5 + 1e-9


def test_damaged_films_of_every_format_are_read_as_they_were_or_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import damage
    from fuzz_radiographs import judge

    made, asking = damage.originals(), damage.bombs()
    as_it_was = {}
    for name, (data, suffix) in made.items():
        (tmp_path / f"original{suffix}").write_bytes(data)
        as_it_was[name] = window(read(tmp_path / f"original{suffix}"))
    for number in range(300):
        case = damage.case(7, number, made, asking)
        (tmp_path / f"film{case.suffix}").write_bytes(case.data)
        kinds, text = judge(tmp_path / f"film{case.suffix}", case, as_it_was.get(case.original))
        assert kinds[0] in ("read", "refused"), f"{number}: {case.original}, {case.damage}: {text}"
