import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from xrayssl.data.windowing import Radiograph, histogram, look_up, percentiles, window

FILMS = arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=12))
FILMS8 = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12))


def percentile(pixels, low, high):
    return window(Radiograph(pixels, 16), "percentile", (low, high))


@settings(deadline=None)
@given(FILMS, st.floats(0, 49), st.floats(51, 100))
def test_a_window_is_monotone_and_never_wraps_around(pixels, low, high):
    grey = percentile(pixels, low, high)
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(grey.ravel()[order].astype(int)) >= 0).all()


@settings(deadline=None)
@given(FILMS)
def test_a_window_uses_the_full_range_of_any_film_that_has_two_greys(pixels):
    grey = window(Radiograph(pixels, 16))
    assert (grey.min(), grey.max()) == (0, 255 if np.ptp(pixels) else 0)


@settings(deadline=None)
@given(FILMS)
def test_no_pixel_of_a_16_bit_film_is_clipped(pixels):
    darkest, span = int(pixels.min()), max(1, int(np.ptp(pixels)))
    exact = (pixels.astype(float) - darkest) / span * 255
    assert np.abs(window(Radiograph(pixels, 16)) - exact).max() <= 0.5 + 1e-9


@settings(deadline=None)
@given(FILMS)
def test_without_a_window_the_whole_scale_is_linear(pixels):
    exact = pixels.astype(float) / 65535 * 255
    assert np.abs(window(Radiograph(pixels, 16), "none") - exact).max() <= 0.5 + 1e-9


def test_without_a_window_a_12_bit_film_spans_12_bits():
    pixels = np.array([[0, 2048, 4095]], np.uint16)
    assert window(Radiograph(pixels, 12), "none").tolist() == [[0, 128, 255]]


@settings(deadline=None)
@given(FILMS8, st.sampled_from(["voi", "none"]))
def test_a_window_leaves_8_bit_films_alone(pixels, kind):
    np.testing.assert_array_equal(window(Radiograph(pixels, 8), kind), pixels)


def test_percentiles_stretch_8_bit_films_too():
    pixels = np.array([[10, 70, 110]], np.uint8)
    assert window(Radiograph(pixels, 8), "percentile").tolist() == [[0, 153, 255]]


@settings(deadline=None)
@given(FILMS | FILMS8, st.floats(0, 49), st.floats(51, 100))
def test_percentiles_are_numpys(pixels, low, high):
    np.testing.assert_allclose(percentiles(pixels, (low, high)), np.percentile(pixels, [low, high]), atol=1e-6)


@settings(deadline=None)
@given(FILMS, st.floats(0, 20), st.floats(80, 100))
def test_percentiles_clip_no_more_than_their_share(pixels, low, high):
    black, white = np.percentile(pixels, [low, high])
    inside = (pixels >= black) & (pixels <= white)
    exact = (pixels[inside] - black) / ((white - black) or 1) * 255
    assert np.abs(percentile(pixels, low, high)[inside] - exact).max(initial=0) <= 0.5 + 1e-6


@pytest.mark.parametrize("kind", [np.int16, np.uint8])
def test_looking_up_by_blocks_is_looking_up(kind):
    pixels = np.random.default_rng(0).integers(-100 if kind is np.int16 else 0, 100, (1100, 1000)).astype(kind)
    table = np.random.default_rng(1).permutation(200)
    np.testing.assert_array_equal(look_up(table, pixels, lowest=-100), table[pixels.astype(int) + 100])


def test_a_histogram_counts_negative_values():
    assert histogram(np.array([[-2, 0, 0]], np.int16), -2, 4).tolist() == [1, 0, 2, 0]
