import numpy as np
import pytest

from xrayssl.data.trim import border, trim_border


def picture(height, width, scale=255):
    """Uneven everywhere: no line of it is empty."""
    rng = np.random.default_rng(0)
    kind = np.uint8 if scale == 255 else np.uint16
    return (rng.uniform(0.2, 0.9, (height, width)) * scale).astype(kind)


def framed(image, top, bottom, left, right, level=0, noise=0):
    shape = image.shape[0] + top + bottom, image.shape[1] + left + right
    noisy = level + np.random.default_rng(1).integers(-noise, noise + 1, shape)
    film = np.clip(noisy, 0, np.iinfo(image.dtype).max).astype(image.dtype)
    film[top : top + image.shape[0], left : left + image.shape[1]] = image
    return film


@pytest.mark.parametrize("level", [0, 255, 90])
def test_an_even_border_of_any_grey_is_cut_to_the_pixel(level):
    image = picture(100, 80)
    np.testing.assert_array_equal(trim_border(framed(image, 7, 20, 0, 33, level)), image)


def test_a_16_bit_border_is_found_alike():
    image = picture(60, 60, 65535)
    assert border(framed(image, 9, 1, 2, 3)) == (9, 2, 60, 60)


def test_what_has_no_border_stays_whole_and_trimming_twice_changes_nothing():
    image = picture(64, 50)
    assert border(image) == (0, 0, 64, 50)
    once = trim_border(framed(image, 3, 4, 5, 6))
    np.testing.assert_array_equal(trim_border(once), once)


def test_a_noisy_border_of_a_large_film_goes_and_nothing_shown_with_it():
    film = framed(picture(1500, 1200), 200, 100, 80, 300, level=4, noise=3)
    top, left, height, width = border(film)
    assert 200 - 8 <= top <= 200 and 1700 <= top + height <= 1700 + 8
    assert 80 - 8 <= left <= 80 and 1280 <= left + width <= 1280 + 8


def test_a_letter_in_the_border_is_kept():
    film = framed(picture(100, 100), 40, 0, 0, 0)
    film[12:20, 80:86] = 255
    assert border(film)[0] == 12


@pytest.mark.parametrize("film", [np.zeros((50, 40), np.uint8), framed(picture(10, 40), 45, 45, 0, 0)])
def test_a_film_with_next_to_nothing_to_show_stays_whole(film):
    assert border(film) == (0, 0, *film.shape)
