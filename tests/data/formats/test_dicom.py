import io
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import ENCODERS, NATIVE, dicom, film
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from xrayssl.data.formats import RefusedError
from xrayssl.data.formats.dicom import decode
from xrayssl.data.radiograph import read, window
from xrayssl.errors import UserError

GREY8 = np.arange(48 * 40, dtype=np.uint32).reshape(48, 40).astype(np.uint8)
GREY12 = (np.arange(48 * 40, dtype=np.uint16) * 2).reshape(48, 40)  # 0-3838
REAL = Path(__file__).parents[4] / "shared/data/dicom/chest_pa_monochrome1_j2k.dcm"
TWELVE = {"BitsStored": 12, "HighBit": 11}
LOSSES = {"JPEG baseline": 8, "JPEG extended": 8, "JPEG-LS near-lossless": 2, "JPEG 2000": 60}
SYNTAXES = [*NATIVE, *ENCODERS]
CODED = ["deflated", *ENCODERS]


def refused(folder, data, name):
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"{name}: "):
        read(folder / name)


# Transfer syntaxes


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("pixels", "tags"), [(GREY8, {}), (GREY8[:47, :39], {}), (GREY12, TWELVE)])
def test_every_transfer_syntax_gives_the_values_that_were_stored(syntax, pixels, tags):
    if syntax == "JPEG baseline" and pixels.itemsize == 2:
        pytest.skip("8 bit")
    found = decode(film(pixels, syntax=syntax, **tags), voi=False)
    assert np.abs(found.pixels.astype(int) - pixels).max() <= LOSSES.get(syntax, 0)
    assert found.bits == tags.get("BitsStored", 8)


@pytest.mark.parametrize("syntax", [name for name in SYNTAXES if name not in LOSSES])
def test_16_bits_come_back_whole(syntax):
    pixels = np.random.default_rng(0).integers(0, 65536, (33, 31)).astype(np.uint16)
    np.testing.assert_array_equal(decode(film(pixels, syntax=syntax), voi=False).pixels, pixels)


@pytest.mark.parametrize("syntax", [name for name in SYNTAXES if name not in LOSSES])
@pytest.mark.parametrize("bits", [12, 16])
def test_negative_values_come_back(syntax, bits):
    pixels = GREY12.astype(np.int16) - 2000
    coded = (
        pixels if syntax in (*NATIVE, "JPEG 2000 lossless") else (pixels.astype(int) & 2**bits - 1).astype(np.uint16)
    )
    found = decode(film(coded, syntax=syntax, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=1), voi=False)
    np.testing.assert_array_equal(found.pixels.astype(int) - 2 ** (bits - 1), pixels)


@pytest.mark.parametrize("syntax", CODED)
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_code_that_ends_early_is_refused_though_the_file_is_whole(syntax, keep, tmp_path):
    tags = {} if syntax == "JPEG baseline" else TWELVE
    pixels = GREY8 if syntax == "JPEG baseline" else GREY12
    data = film(pixels, syntax=syntax, **tags)
    start = 144 + int.from_bytes(data[140:144], "little")
    if syntax == "deflated":
        shorter = data[:start] + data[start : start + int(keep * (len(data) - start))]
    else:
        dataset = pydicom.dcmread(io.BytesIO(data))
        code = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        end = b"" if syntax == "RLE" else code[-2:] if code[-1] else code[-3:]
        dataset.PixelData = pydicom.encaps.encapsulate([code[: max(80, int(keep * len(code)))] + end])
        file = io.BytesIO()
        pydicom.dcmwrite(file, dataset)
        shorter = file.getvalue()
    refused(tmp_path, shorter, "film.dcm")


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("tags", [{"Rows": 47}, {"Columns": 41}, {"Rows": 40, "Columns": 47}])
def test_a_header_of_another_size_than_the_code_is_refused(syntax, tags, tmp_path):
    refused(tmp_path, film(GREY8, syntax=syntax, **tags), "film.dcm")


def test_8_bit_values_in_big_endian_words_come_in_order():
    data = film(GREY8, syntax="big endian")
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PixelData = GREY8.tobytes()
    dataset["PixelData"].VR = "OW"
    words = np.frombuffer(GREY8.tobytes(), "<u2").astype(">u2").tobytes()
    written = data.replace(
        b"OB\0\0" + (1920).to_bytes(4, "big") + GREY8.tobytes(), b"OW\0\0" + (1920).to_bytes(4, "big") + words
    )
    assert written != data
    np.testing.assert_array_equal(decode(written).pixels, GREY8)


def test_a_deflated_file_that_inflates_without_end_is_refused_before_it_takes_memory():
    data = film(GREY12, syntax="deflated")
    start = 144 + int.from_bytes(data[140:144], "little")
    deflater = zlib.compressobj(wbits=-15)
    again = deflater.compress(bytes(2**22)) + deflater.flush(zlib.Z_FULL_FLUSH)
    with pytest.raises(RefusedError, match="inflates to more than"):
        decode(data[:start] + again * 100 + deflater.flush())


def test_a_transfer_syntax_that_is_not_read_is_named():
    data = film(GREY8, syntax="JPEG 2000").replace(b"1.2.840.10008.1.2.4.91\0", b"1.2.840.10008.1.2.4.94\0")
    data = data.replace(b"1.2.840.10008.1.2.4.91", b"1.2.840.10008.1.2.4.94")
    with pytest.raises(RefusedError, match="JPIP"):
        decode(data)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_of_several_frames_the_first_is_read_if_asked_for(syntax):
    frames = np.stack([GREY8, GREY8[::-1], GREY8[:, ::-1]])
    with pytest.raises(RefusedError, match="3 frames"):
        decode(film(frames, syntax=syntax))
    found = decode(film(frames, syntax=syntax), first_frame=True).pixels
    assert np.abs(found.astype(int) - GREY8).max() <= LOSSES.get(syntax, 0)


# Bits


def test_values_that_stand_higher_in_their_word_are_moved():
    found = decode(film(GREY12 * 16, BitsStored=12, HighBit=15), voi=False)
    np.testing.assert_array_equal(found.pixels, GREY12)


def test_an_overlay_in_the_free_bits_is_left_out():
    marked = GREY12 | (np.arange(40, dtype=np.uint16) % 2 << 12)
    with pytest.raises(RefusedError, match="more than the 12 bits"):
        decode(film(marked, **TWELVE))
    data = film(marked, **TWELVE)
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.add_new((0x6000, 0x0102), "US", 12)
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset)
    np.testing.assert_array_equal(decode(file.getvalue(), voi=False).pixels, GREY12)


def test_a_32_bit_container_is_read():
    found = decode(film(GREY12.astype(np.uint32), BitsStored=16, HighBit=15), voi=False)
    np.testing.assert_array_equal(found.pixels, GREY12)


@pytest.mark.parametrize(
    "tags", [{"BitsAllocated": 12}, {"BitsStored": 17, "HighBit": 16}, {"BitsStored": 12, "HighBit": 5}]
)
def test_bits_that_make_no_sense_are_refused(tags):
    with pytest.raises(RefusedError, match="bits"):
        decode(film(GREY12, **tags))


def test_rows_that_are_left_over_are_noticed():
    data = film(GREY12, **TWELVE)
    with pytest.raises(RefusedError, match="do not end"):
        decode(data + GREY12[20:30].tobytes())
    np.testing.assert_array_equal(decode(data + bytes(512)).pixels, GREY12)


@settings(deadline=None, max_examples=30)
@given(
    arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=9)), st.sampled_from(["explicit", "RLE", "JPEG-LS"])
)
def test_no_pixel_of_a_16_bit_film_is_clipped_on_its_way(pixels, syntax):
    found = decode(film(pixels, syntax=syntax))
    np.testing.assert_array_equal(found.pixels, pixels - pixels.min())
    exact = (pixels.astype(float) - pixels.min()) / max(1, int(np.ptp(pixels))) * 255
    assert np.abs(window(found) - exact).max() <= 0.5 + 1e-9


# Colour


@pytest.mark.parametrize("syntax", ["explicit", "big endian", "RLE", "JPEG baseline"])
def test_a_grey_film_that_was_stored_as_colour_is_read(syntax):
    kind = "YBR_FULL_422" if syntax == "JPEG baseline" else "RGB"
    found = decode(film(np.dstack([GREY8] * 3), kind, syntax))
    assert np.abs(found.pixels.astype(int) - GREY8).max() <= LOSSES.get(syntax, 0)


def test_colour_by_planes_is_read():
    planes = np.stack([GREY8] * 3)
    found = decode(film(planes.reshape(48, 40, 3), "RGB", PlanarConfiguration=1))
    np.testing.assert_array_equal(found.pixels, GREY8)


def test_luminance_with_grey_chroma_is_read():
    chroma = np.full_like(GREY8, 128)
    np.testing.assert_array_equal(decode(film(np.dstack([GREY8, chroma, chroma]), "YBR_FULL")).pixels, GREY8)


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
def test_a_picture_with_coloured_marks_is_no_film(kind):
    pixels = np.dstack([GREY8, GREY8, GREY8] if kind == "RGB" else [GREY8, GREY8 * 0 + 128, GREY8 * 0 + 128])
    pixels[3, 4, 2] = 255 - pixels[3, 4, 2] // 2
    with pytest.raises(RefusedError, match="colour picture"):
        decode(film(pixels, kind))


# Facts


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [({}, None), ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1)), ({"ImagerPixelSpacing": [0.3, 0.3]}, (0.3, 0.3)),
     ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.3, 0.3]}, (0.2, 0.1)), ({"PixelSpacing": [0, 0]}, None),
     ({"NominalScannedPixelSpacing": [0.175, 0.175]}, (0.175, 0.175)), ({"PixelSpacing": None}, None)],
)  # fmt: skip
def test_the_spacing_of_pixels_is_kept(tags, spacing):
    assert decode(film(GREY12, **tags)).spacing == spacing


def test_a_dicom_film_keeps_every_value(tmp_path):
    np.testing.assert_array_equal(read(dicom(tmp_path / "a.dcm", GREY12)).pixels, GREY12)


def test_a_dicom_film_without_a_suffix_is_known_by_its_preamble(tmp_path):
    np.testing.assert_array_equal(read(dicom(tmp_path / "IM0001", GREY12)).pixels, GREY12)


def test_rows_and_columns_beyond_the_limit_are_refused_before_memory_is_taken(tmp_path):
    path = dicom(tmp_path / "bomb.dcm", GREY8, Rows=65535, Columns=65535)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"bomb\.dcm: 4,294,836,225 pixels are more than the limit"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_jpeg_2000_stream_that_asks_for_more_than_its_file_says_is_refused(tmp_path):
    path, bomb = tmp_path / "bomb.dcm", pydicom.dcmread(dicom(tmp_path / "a.dcm", GREY8))
    stream = b"\xff\x4f\xff\x51" + struct.pack(">HHII", 41, 0, 60_000, 60_000) + bytes(64)
    bomb.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    bomb.PixelData = pydicom.encaps.encapsulate([stream])
    bomb["PixelData"].is_undefined_length = True
    bomb.save_as(path)
    with pytest.raises(UserError, match="3,600,000,000 pixels"):
        read(path)


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [({"NumberOfFrames": 3}, "3 frames"), ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
     ({"WindowCenter": 5, "WindowWidth": 0}, "Window Width"), ({"RescaleSlope": "1e400", "RescaleIntercept": 0}, ""),
     ({"RescaleSlope": 0, "RescaleIntercept": 0}, "slope"), ({"Rows": 0}, "0 x 40 pixels"),
     ({"WindowCenter": 9000, "WindowWidth": 1}, "single grey"), ({"SamplesPerPixel": 2}, "2 samples")],
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
    Image.fromarray(GREY8).save(tmp_path / "film.dcm", format="PNG")
    with pytest.raises(UserError, match=r"film\.dcm: this is no DICOM file"):
        read(tmp_path / "film.dcm")


@pytest.mark.skipif(not REAL.exists(), reason="the real DICOM film is not here")
def test_a_real_dicom_film_comes_out_with_dark_air_and_bright_bone():
    found = read(REAL)
    grey = window(found)
    assert (found.pixels.shape, found.pixels.dtype) == ((1955, 1841), np.uint16)
    assert grey[600:900, 300:500].mean() < grey[700:1100, 850:1000].mean()  # lung, spine


@pytest.mark.skipif(not REAL.exists(), reason="the real DICOM film is not here")
@pytest.mark.parametrize("keep", [500, 200_000, -100])
def test_a_truncated_real_dicom_film_is_refused(keep, tmp_path):
    (tmp_path / "film.dcm").write_bytes(REAL.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"film\.dcm: .*truncated"):
        read(tmp_path / "film.dcm")
