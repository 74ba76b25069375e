import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xrayssl.data.prepare.reduction import Recipe, _grey, reduced, shrunk
from xrayssl.data.radiograph import Radiograph, window
from xrayssl.errors import UserError


def saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.mark.parametrize(("shape", "expected"), [((100, 80), (40, 32)), ((80, 100), (32, 40)), ((64, 64), (32, 32)),
                                                 ((33, 1000), (32, 970))])  # fmt: skip
def test_the_short_side_gets_the_size_and_the_aspect_stays(shape, expected):
    assert shrunk(np.zeros(shape, np.uint8), 32).shape == expected


def test_a_small_film_is_not_enlarged():
    image = np.arange(30 * 40, dtype=np.uint8).reshape(30, 40)
    np.testing.assert_array_equal(shrunk(image, 32), image)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_pixel_becomes_the_mean_of_those_it_stands_for(kind):
    image = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (64, 96), kind, endpoint=True)
    blocks = image.reshape(16, 4, 24, 4).mean(axis=(1, 3))
    assert np.abs(shrunk(image, 16).astype(float) - blocks).max() <= 0.5


def test_a_film_comes_with_checksums_of_its_file_and_of_its_pixels(tmp_path):
    path = saved(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (60, 40), np.uint8))
    film = reduced(Recipe(size=20), path)
    data = Path(path).read_bytes()
    assert film.pixels.shape == (30, 20)
    assert film.facts["sha256"] == hashlib.sha256(data).hexdigest() and film.facts["film_bytes"] == len(data)
    assert film.facts["pixels_sha256"] == hashlib.sha256(film.pixels.tobytes()).hexdigest()
    assert (film.facts["film_height"], film.facts["film_width"]) == (60, 40)


@pytest.mark.parametrize("content", [b"", b"no film", None])
def test_a_film_that_cannot_be_read_comes_back_with_the_reason(content, tmp_path):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    film = reduced(Recipe(), str(tmp_path / "a.png"))
    assert film.pixels is None and film.problem.startswith(f"{tmp_path}/a.png: ")


def test_trimming_comes_before_resizing(tmp_path):
    framed = np.zeros((60, 90), np.uint8)
    framed[:, 10:50] = np.random.default_rng(0).integers(0, 256, (60, 40))
    film = reduced(Recipe(size=20, trim=True), saved(tmp_path / "a.png", framed))
    assert film.pixels.shape == (30, 20)
    assert [film.facts[f"crop_{side}"] for side in ("top", "left", "height", "width")] == [0, 10, 60, 40]


@pytest.mark.parametrize("kind", ["voi", "percentile", "none"])
@pytest.mark.parametrize(("scale", "bits"), [(255, 8), (3000, 12), (65535, 16)])
def test_16_bit_of_grey_have_the_same_black_and_white_as_8(scale, bits, kind):
    pixels = np.random.default_rng(0).integers(0, scale, (64, 64), np.uint8 if bits == 8 else np.uint16, endpoint=True)
    film, limits = Radiograph(pixels, bits), (2.0, 97.0) if kind == "percentile" else (0.0, 100.0)
    deep, eight = _grey(film, Recipe(kind, limits, dtype="uint16")), window(film, kind, limits)
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - eight).max() <= 0.502  # to the nearest, but for ties
    assert len(np.unique(deep)) >= len(np.unique(eight))


def test_what_makes_no_sense_is_refused_at_once():
    with pytest.raises(UserError) as caught:
        Recipe("none", (99.0, 1.0), size=0)
    assert [text.split(" ")[0] for text in caught.value.messages] == ["--size", "--data.limits"]
