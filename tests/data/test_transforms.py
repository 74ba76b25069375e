import pickle

import numpy as np
import pytest

from xrayssl.data.transforms import Augment, draw_crop, evaluation, fit_center, training
from xrayssl.errors import UserError

FILM = np.random.default_rng(0).integers(0, 256, (60, 48), np.uint8)
RAMP = np.tile(np.arange(64, dtype=np.uint8), (64, 1))


@pytest.mark.parametrize("augment", [Augment(), Augment(randaug=6, center_bias=4.0)])
def test_the_same_seed_draws_the_same_image_and_another_seed_another(augment):
    first, second = training((32, 32), augment), training((32, 32), augment)
    first(FILM, 5)  # what was drawn before must not matter
    np.testing.assert_array_equal(first(FILM, 7), second(FILM, 7))
    assert not np.array_equal(first(FILM, 7), first(FILM, 8))


@pytest.mark.parametrize("shape", [(40, 60), (1, 1), (3, 500), (500, 3)])
def test_every_crop_lies_inside_the_film(shape):
    rng = np.random.default_rng(0)
    for _ in range(300):
        top, left, height, width = draw_crop(shape, Augment(scale=(0.01, 1.0)), rng)
        assert min(top, left) >= 0
        assert min(height, width) >= 1
        assert top + height <= shape[0]
        assert left + width <= shape[1]


def positions(bias, draws=2000):
    """Where crops lie between the two ends of their free play, 0-1, with areas that leave some."""
    rng, augment = np.random.default_rng(1), Augment(scale=(0.25, 0.25), ratio=(1.0, 1.0), center_bias=bias)
    return np.array([draw_crop((1000, 1000), augment, rng)[:2] for _ in range(draws)]) / 500


def test_center_bias_gathers_crops_about_the_middle():
    share = [(np.abs(positions(bias) - 0.5) < 1 / 6).mean() for bias in (0.0, 4.0, 12.0)]
    assert share[0] == pytest.approx(1 / 3, abs=0.03)
    assert share[1] == pytest.approx(0.7, abs=0.05)
    assert share[2] > 0.85


def test_crops_are_not_biased_to_a_side():
    assert positions(4.0).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.02)


def test_the_share_of_the_film_is_what_was_asked_for():
    rng = np.random.default_rng(0)
    boxes = [draw_crop((800, 800), Augment(scale=(0.5, 0.8), ratio=(1.0, 1.0)), rng) for _ in range(500)]
    shares = [box[2] * box[3] / 800**2 for box in boxes]
    assert (min(shares), max(shares)) == (pytest.approx(0.5, abs=0.02), pytest.approx(0.8, abs=0.02))


@pytest.mark.parametrize("magnitude", [0, 1, 6, 10])
@pytest.mark.parametrize("film", [FILM, np.zeros((40, 40), np.uint8), np.full((20, 90), 255, np.uint8)])
def test_randaugment_keeps_size_and_type_on_any_film(magnitude, film):
    apply = training((32, 40), Augment(randaug=magnitude))
    for seed in range(40):
        image = apply(film, seed)
        assert (image.shape, image.dtype) == ((32, 40), np.uint8)


def turned(flip):
    apply = training((32, 32), Augment(flip=flip))
    images = [apply(RAMP, seed).astype(int) for seed in range(200)]
    return np.mean([image[:, -1].mean() < image[:, 0].mean() for image in images])


def test_flip_is_off_at_0_always_at_1_and_even_between():
    assert (turned(0), turned(1)) == (0, 1)
    assert turned(0.5) == pytest.approx(0.5, abs=0.1)


def test_evaluation_sees_the_largest_central_cut_of_the_wanted_aspect():
    film = np.zeros((64, 128), np.uint8)
    film[:, 32:96] = 200
    np.testing.assert_array_equal(evaluation((32, 32))(film, 0), 200)
    np.testing.assert_array_equal(fit_center(film, (64, 128)), film)


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (100, 1), (7, 5)])
def test_evaluation_takes_films_of_any_shape(shape):
    assert evaluation((16, 32))(np.ones(shape, np.uint8), 0).shape == (16, 32)


@pytest.mark.parametrize("make", [lambda: training((32, 32), Augment(randaug=6)), lambda: evaluation((32, 32))])
def test_a_transform_reaches_spawned_workers_and_draws_as_here(make):
    here = make()
    there = pickle.loads(pickle.dumps(here))
    np.testing.assert_array_equal(here(FILM, 3), there(FILM, 3))


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(UserError) as caught:
        Augment(scale=(0.9, 0.2), ratio=(0, 1), center_bias=-1, flip=2, randaug=11)
    names = ["scale", "ratio", "flip", "center_bias", "randaug"]
    assert [name for name, text in zip(names, caught.value.messages, strict=True) if f"augment.{name}" in text] == names
