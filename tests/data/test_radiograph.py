import io
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from xrayssl.data.radiograph import MAX_PIXELS, Radiograph, read, window
from xrayssl.errors import UserError

GREY8 = np.arange(48 * 40, dtype=np.uint32).reshape(48, 40).astype(np.uint8)
GREY12 = (np.arange(48 * 40, dtype=np.uint16) * 2).reshape(48, 40)  # 0-3838
REAL = Path(__file__).parents[3] / "shared/data/dicom/chest_pa_monochrome1_j2k.dcm"


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def png(width, height, depth=8, colour=0, rows=b""):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def dicom(path, pixels, kind="MONOCHROME2", **tags):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    film = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    film.Rows, film.Columns = pixels.shape
    film.BitsAllocated = film.BitsStored = pixels.dtype.itemsize * 8
    film.HighBit, film.SamplesPerPixel = film.BitsStored - 1, 1
    film.PixelRepresentation, film.PhotometricInterpretation = int(pixels.dtype.kind == "i"), kind
    film.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(film, name, value)
    film.save_as(path, enforce_file_format=True)
    return path


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


# DICOM


def test_a_dicom_film_keeps_every_value(tmp_path):
    np.testing.assert_array_equal(read(dicom(tmp_path / "a.dcm", GREY12)).pixels, GREY12)


def test_a_dicom_film_without_a_suffix_is_known_by_its_preamble(tmp_path):
    np.testing.assert_array_equal(read(dicom(tmp_path / "IM0001", GREY12)).pixels, GREY12)


def test_monochrome1_is_inverted_by_its_values(tmp_path):
    film = read(dicom(tmp_path / "a.dcm", GREY12, "MONOCHROME1"))
    np.testing.assert_array_equal(film.pixels, GREY12.max() - GREY12)


def test_negative_values_after_rescaling_do_not_wrap_around(tmp_path):
    film = read(dicom(tmp_path / "a.dcm", GREY12, RescaleSlope=2, RescaleIntercept=-1024))
    np.testing.assert_array_equal(film.pixels, GREY12 * 2)


def test_a_rescale_to_fractions_keeps_the_greys_apart(tmp_path):
    film = read(dicom(tmp_path / "a.dcm", GREY12, RescaleSlope="0.001", RescaleIntercept=0))
    assert len(np.unique(film.pixels)) == len(np.unique(GREY12))


def test_signed_pixels_are_read_as_signed(tmp_path):
    film = read(dicom(tmp_path / "a.dcm", GREY12.astype(np.int16) - 1000))
    np.testing.assert_array_equal(film.pixels, GREY12)


def test_the_window_of_a_dicom_film_is_applied(tmp_path):
    grey = window(read(dicom(tmp_path / "a.dcm", GREY12, WindowCenter=1000, WindowWidth=500)))
    assert (grey[GREY12 < 740] == 0).all()
    assert (grey[GREY12 > 1260] == 255).all()
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_the_window_comes_before_the_inversion(tmp_path):
    tags = {"WindowCenter": 1000, "WindowWidth": 500}
    plain, inverted = (window(read(dicom(tmp_path / "a.dcm", GREY12, f"MONOCHROME{i}", **tags))) for i in (2, 1))
    assert np.abs(255 - plain.astype(int) - inverted).max() <= 1


def test_rows_and_columns_beyond_the_limit_are_refused_before_memory_is_taken(tmp_path):
    path = dicom(tmp_path / "bomb.dcm", GREY8, Rows=65535, Columns=65535)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bomb\.dcm: 4,294,836,225 pixels are more than the limit"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_jpeg_2000_stream_that_asks_for_more_than_its_file_says_is_refused(tmp_path):
    path, film = tmp_path / "bomb.dcm", pydicom.dcmread(dicom(tmp_path / "a.dcm", GREY8))
    stream = b"\xff\x4f\xff\x51" + struct.pack(">HHII", 41, 0, 60_000, 60_000) + bytes(64)
    film.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    film.PixelData = pydicom.encaps.encapsulate([stream])
    film["PixelData"].is_undefined_length = True
    film.save_as(path)
    with pytest.raises(UserError, match="3,600,000,000 pixels"):
        read(path)


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [({"NumberOfFrames": 3}, "3 frames"), ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
     ({"WindowCenter": 5, "WindowWidth": 0}, "Window Width"), ({"RescaleSlope": "1e400", "RescaleIntercept": 0}, "")],
)  # fmt: skip
def test_a_dicom_file_that_is_no_radiograph_is_refused_by_name(tags, sentence, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = dicom(tmp_path / "film.dcm", GREY12, **tags)
    with pytest.raises(UserError, match=rf"film\.dcm: .*{sentence}"):
        read(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_truncated_dicom_film_is_refused_by_name(keep, tmp_path):
    path = dicom(tmp_path / "film.dcm", GREY12)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(UserError, match=r"film\.dcm: "):
        read(path)


def test_what_only_pretends_to_be_dicom_is_refused_by_name(tmp_path):
    saved(tmp_path / "film.dcm", GREY8, format="PNG")
    with pytest.raises(UserError, match=r"film\.dcm: this is no DICOM file"):
        read(tmp_path / "film.dcm")


@pytest.mark.skipif(not REAL.exists(), reason="the real DICOM film is not here")
def test_a_real_dicom_film_comes_out_with_dark_air_and_bright_bone():
    film = read(REAL)
    grey = window(film)
    assert (film.pixels.shape, film.pixels.dtype) == ((1955, 1841), np.uint16)
    assert grey[600:900, 300:500].mean() < grey[700:1100, 850:1000].mean()  # lung, spine


@pytest.mark.skipif(not REAL.exists(), reason="the real DICOM film is not here")
@pytest.mark.parametrize("keep", [500, 200_000, -100])
def test_a_truncated_real_dicom_film_is_refused(keep, tmp_path):
    (tmp_path / "film.dcm").write_bytes(REAL.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"film\.dcm: .*truncated"):
        read(tmp_path / "film.dcm")


# The window

FILMS = arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=12))


@settings(deadline=None)
@given(FILMS, st.floats(0, 49), st.floats(51, 100))
def test_a_window_is_monotone_and_never_wraps_around(pixels, low, high):
    grey = window(Radiograph(pixels, 16), low, high)
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(grey.ravel()[order].astype(int)) >= 0).all()


@settings(deadline=None)
@given(FILMS)
def test_a_window_uses_the_full_range_of_any_film_that_has_two_greys(pixels):
    grey = window(Radiograph(pixels, 16))
    assert (grey.min(), grey.max()) == (0, 255 if np.ptp(pixels) else 0)


@settings(deadline=None)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_a_window_leaves_8_bit_films_alone(pixels):
    np.testing.assert_array_equal(window(Radiograph(pixels, 8)), pixels)


def test_the_limit_of_pixels_lets_every_real_detector_through():
    assert MAX_PIXELS > 5000 * 6000
