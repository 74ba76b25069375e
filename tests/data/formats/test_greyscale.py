import io

import numpy as np
import pydicom
import pytest
from dicoms import dicom, film
from pydicom.dataset import Dataset

from xrayssl.data.formats import RefusedError, lut
from xrayssl.data.formats.dicom import decode
from xrayssl.data.radiograph import read, window

GREY12 = (np.arange(48 * 40, dtype=np.uint16) * 2).reshape(48, 40)  # 0-3838
TWELVE = {"BitsStored": 12, "HighBit": 11}


def table(entries, first, bits, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    values = np.asarray(entries)
    item.add_new("LUTData", vr, values.tolist() if vr == "US" else values.astype("<u2").tobytes())
    return [item]


# Rescale and inversion


def test_monochrome1_is_inverted_by_its_values(tmp_path):
    found = read(dicom(tmp_path / "a.dcm", GREY12, "MONOCHROME1"))
    np.testing.assert_array_equal(found.pixels, GREY12.max() - GREY12)


def test_negative_values_after_rescaling_do_not_wrap_around(tmp_path):
    found = read(dicom(tmp_path / "a.dcm", GREY12, RescaleSlope=2, RescaleIntercept=-1024))
    np.testing.assert_array_equal(found.pixels, GREY12 * 2)


def test_a_rescale_to_fractions_keeps_the_greys_apart(tmp_path):
    found = read(dicom(tmp_path / "a.dcm", GREY12, RescaleSlope="0.001", RescaleIntercept=0))
    assert len(np.unique(found.pixels)) == len(np.unique(GREY12))


def test_signed_pixels_are_read_as_signed(tmp_path):
    found = read(dicom(tmp_path / "a.dcm", GREY12.astype(np.int16) - 1000))
    np.testing.assert_array_equal(found.pixels, GREY12)


def test_8_bit_films_without_a_window_stay_as_they_are():
    grey = np.arange(10, 130, dtype=np.uint8).reshape(10, 12)
    np.testing.assert_array_equal(window(decode(film(grey))), grey)
    np.testing.assert_array_equal(window(decode(film(grey, "MONOCHROME1"))), 255 - grey)


# Windows


def test_the_window_of_a_dicom_film_is_applied(tmp_path):
    grey = window(read(dicom(tmp_path / "a.dcm", GREY12, WindowCenter=1000, WindowWidth=500)))
    assert (grey[GREY12 < 740] == 0).all()
    assert (grey[GREY12 > 1260] == 255).all()
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_the_window_comes_before_the_inversion(tmp_path):
    tags = {"WindowCenter": 1000, "WindowWidth": 500}
    plain, inverted = (window(read(dicom(tmp_path / "a.dcm", GREY12, f"MONOCHROME{i}", **tags))) for i in (2, 1))
    assert np.abs(255 - plain.astype(int) - inverted).max() <= 1


def test_windows_follow_the_formulas_of_the_standard():
    x = np.array([0.0, 750, 999, 1000, 1250, 3000])
    assert lut.windowed(x, 1000, 501).tolist() == [0, 0.001, 0.499, 0.501, 1, 1]
    assert lut.windowed(x, 1000, 500, "LINEAR_EXACT").tolist() == [0, 0, 0.498, 0.5, 1, 1]
    np.testing.assert_allclose(lut.windowed(x, 1000, 500, "SIGMOID"), 1 / (1 + np.exp(-4 * (x - 1000) / 500)))


@pytest.mark.parametrize(("center", "width", "function"), [(0, 0, "LINEAR"), (0, 0.5, "LINEAR"), (0, 0, "SIGMOID"),
                         (0, -2, "LINEAR_EXACT"), (float("nan"), 9, "LINEAR"), (0, 9, "CUBIC")])  # fmt: skip
def test_a_window_that_shows_nothing_is_refused(center, width, function):
    with pytest.raises(RefusedError, match=r"Window Width|function"):
        lut.windowed(np.arange(9.0), center, width, function)


def test_of_several_windows_the_first_counts_and_an_empty_one_is_none():
    first = decode(film(GREY12, WindowCenter=[1000, 2000], WindowWidth=[500, 100])).pixels
    np.testing.assert_array_equal(first, decode(film(GREY12, WindowCenter=1000, WindowWidth=500)).pixels)
    np.testing.assert_array_equal(decode(film(GREY12, WindowCenter=None, WindowWidth=None)).pixels, GREY12)


def test_a_window_speaks_of_rescaled_values():
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    rescaled = decode(film(GREY12, WindowCenter=976, WindowWidth=999, **tags)).pixels
    stored = decode(film(GREY12, WindowCenter=1000, WindowWidth=499.5, VOILUTFunction="LINEAR_EXACT")).pixels
    assert np.abs(rescaled.astype(int) - stored).max() < 200


def test_without_voi_the_window_is_left_out():
    tags = {"WindowCenter": 1000, "WindowWidth": 500, **TWELVE}
    found = decode(film(GREY12, **tags), voi=False)
    np.testing.assert_array_equal(found.pixels, GREY12)
    assert found.bits == 12


@pytest.mark.parametrize(("kind", "slope", "turned"), [("MONOCHROME1", 1, True), ("MONOCHROME2", -1, True),
                         ("MONOCHROME1", -1, False), ("MONOCHROME2", 3, False)])  # fmt: skip
def test_without_voi_the_whole_scale_is_kept_and_turned_once(kind, slope, turned):
    found = decode(film(GREY12, kind, RescaleSlope=slope, RescaleIntercept=7, **TWELVE), voi=False)
    np.testing.assert_array_equal(found.pixels, 4095 - GREY12 if turned else GREY12)


# Lookup tables


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big endian"])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_a_modality_lut_maps_value_by_value(syntax, vr):
    entries = (np.arange(4096) ** 2 // 4096).astype(np.uint16)
    if vr == "OW" and syntax == "big endian":
        pytest.skip("written as it stands")
    data = film(GREY12, syntax=syntax, ModalityLUTSequence=table(entries, 0, 12, vr), **TWELVE)
    np.testing.assert_array_equal(decode(data, voi=False).pixels, entries[GREY12])


def test_a_voi_lut_of_8_bits_with_thousands_of_entries_does_not_wrap_around():
    entries = (np.arange(4096) // 16).astype(np.uint16)
    found = decode(film(GREY12, VOILUTSequence=table(entries, 0, 8), **TWELVE))
    np.testing.assert_array_equal(found.pixels, entries[GREY12])


def test_a_voi_lut_goes_before_a_window():
    entries = np.arange(4096, dtype=np.uint16)[::-1]
    found = decode(film(GREY12, VOILUTSequence=table(entries, 0, 12), WindowCenter=9, WindowWidth=2, **TWELVE))
    np.testing.assert_array_equal(found.pixels, GREY12.max() - GREY12)


def test_values_beside_a_lookup_table_take_its_ends():
    entries = np.arange(1000, dtype=np.uint16)
    found = decode(film(GREY12, VOILUTSequence=table(entries, 500, 10), **TWELVE))
    np.testing.assert_array_equal(found.pixels, np.clip(GREY12.astype(int) - 500, 0, 999))


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_a_lookup_table_may_start_below_zero(syntax):
    pixels = GREY12.astype(np.int16) - 2000
    entries = np.arange(4096, dtype=np.uint16)
    found = decode(film(pixels, syntax=syntax, VOILUTSequence=table(entries, -2000, 12)))
    np.testing.assert_array_equal(found.pixels, GREY12)


def test_two_entries_in_a_word_are_read():
    sequence = table(np.arange(256), 0, 8, "OW")
    sequence[0].LUTData = bytes(reversed(range(256)))
    grey = np.arange(240, dtype=np.uint8).reshape(12, 20)
    np.testing.assert_array_equal(decode(film(grey, VOILUTSequence=sequence)).pixels, 239 - grey)


def test_a_lookup_table_that_is_too_short_is_refused():
    sequence = table(np.arange(100), 0, 8)
    sequence[0].LUTDescriptor = [200, 0, 8]
    with pytest.raises(RefusedError, match="lookup table"):
        decode(film(GREY12, VOILUTSequence=sequence))


# Padding


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("value", [0, 4095])
def test_padding_is_dark_and_does_not_stretch_the_window(syntax, kind, value):
    pixels = 1000 + GREY12 % 512
    pixels[:5] = value
    found = decode(film(pixels, kind, syntax, PixelPaddingValue=value, **TWELVE))
    inside = pixels[5:].astype(int)
    np.testing.assert_array_equal(
        found.pixels[5:], inside.max() - inside if kind.endswith("1") else inside - inside.min()
    )
    assert (window(found)[:5] == 0).all() and window(found).max() == 255


def test_padding_may_be_a_range_below_zero():
    pixels = GREY12.astype(np.int16) % 512
    pixels[:4], pixels[4:8] = -2000, -1990
    found = decode(film(pixels, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1980))
    np.testing.assert_array_equal(found.pixels, np.maximum(pixels, 0))


def test_a_film_of_nothing_but_padding_is_black():
    assert decode(film(np.full((8, 8), 7, np.uint16), PixelPaddingValue=7)).pixels.max() == 0


def test_padding_without_voi_is_black_too():
    pixels = np.full((8, 8), 3000, np.uint16)
    pixels[0] = 0
    found = decode(film(pixels, "MONOCHROME1", PixelPaddingValue=0, **TWELVE), voi=False)
    assert found.pixels[0].max() == 0 and found.pixels[1:].max() == 1095


def test_pydicom_agrees_where_it_can():
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    data = film(GREY12, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=3000, WindowWidth=2000, **TWELVE)
    dataset = pydicom.dcmread(io.BytesIO(data))
    theirs = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    theirs = (theirs - theirs.min()) / np.ptp(theirs)
    np.testing.assert_allclose(decode(data).pixels / 65535, theirs, atol=1e-5)
