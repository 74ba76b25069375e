import pickle
import random

import cv2
import numpy as np
import pytest

from xrayssl.data.augment import Augment, Small
from xrayssl.data.resizing import fit_center, resize
from xrayssl.data.transforms import draw_crop, evaluation, grey_table, prepare, rand_augment, training, views
from xrayssl.errors import UserError
from xrayssl.laterality import sided

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


@pytest.mark.parametrize("shape", [(400, 700), (700, 400), (500, 500)])
def test_crops_keep_the_drawn_aspect_on_long_films_too(shape):
    rng, square, any_ = np.random.default_rng(0), Augment(ratio=(1.0, 1.0)), Augment(ratio=(3 / 4, 4 / 3))
    cuts = [draw_crop(shape, square, rng)[2:] for _ in range(200)]
    assert {height - width for height, width in cuts} == {0}
    ratios = [width / height for _, _, height, width in (draw_crop(shape, any_, rng) for _ in range(200))]
    assert 0.74 < min(ratios) < 0.8 < 1.25 < max(ratios) < 1.35


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


def adjusted(operation, film):
    """What an operation of RandAugment makes of a film, over several draws."""
    operations = {str(each): each for each in rand_augment(5)[5:7]}
    chosen = list(operations.values())[operation]
    for seed in range(20):
        chosen.set_random_state(np.random.default_rng(seed), random.Random(seed))
        yield chosen(image=film)["image"].astype(float)


def test_brightness_multiplies_and_leaves_black_black():
    film = np.arange(160, dtype=np.uint8).reshape(10, 16)
    factors = [image[-1, -1] / 159 for image in adjusted(0, film)]
    assert 0.55 <= min(factors) < 0.7 and 1.3 < max(factors) <= 1.45
    for image, factor in zip(adjusted(0, film), factors, strict=True):
        np.testing.assert_allclose(image, factor * film, atol=1.5)


def test_contrast_stretches_about_the_mean_grey_which_stays():
    film = np.arange(80, 160, dtype=np.uint8).reshape(8, 10)
    factors = [np.ptp(image) / 79 for image in adjusted(1, film)]
    assert 0.5 <= min(factors) < 0.75 and 1.3 < max(factors) <= 1.5
    assert all(abs(image.mean() - film.mean()) < 1.5 for image in adjusted(1, film))


@pytest.mark.parametrize("factor", [1.5, 1.7, 2, 2.3, 3, 3.9, 4.5, 7, 16])
def test_shrinking_averages_where_it_could_pass_over_pixels(factor):
    side = round(32 * factor)
    noise = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    ours, area = resize(noise, (32, 32)), cv2.resize(noise, (32, 32), interpolation=cv2.INTER_AREA)
    assert ours.mean() == pytest.approx(noise.mean(), abs=1)
    assert ours.std() < 1.5 * area.std()


@pytest.mark.parametrize("shape", [(48, 48), (70, 100), (100, 70), (150, 150), (65, 300), (700, 500), (40, 20)])
def test_a_smooth_film_is_resized_as_opencv_averages_it(shape):
    film = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (800, 800), np.uint8), (0, 0), 40)
    film = cv2.resize(cv2.normalize(film, None, 0, 255, cv2.NORM_MINMAX), shape[::-1], interpolation=cv2.INTER_AREA)
    area = cv2.resize(film, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(resize(film, (32, 32)).astype(int) - area).mean() < 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 5), (129, 128)])
def test_any_shape_is_resized(shape):
    assert (resize(np.full(shape, 7, np.uint8), (32, 24)) == 7).all()


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


@pytest.mark.parametrize(
    "augment", [Augment(), Augment(flip=1, circle=True), Augment(randaug=6, flip=1), Augment(gamma=1, crop="fixed")]
)
@pytest.mark.parametrize("size", [(32, 24), (16, 16), (80, 70)])
def test_a_view_is_written_where_a_batch_has_room_for_it(augment, size):
    for apply in (training(size, augment), evaluation(size, augment.circle)):
        room = np.zeros((3, *size), np.uint8)
        returned = apply(FILM, 3, room[1])
        np.testing.assert_array_equal(room[1], apply(FILM, 3))
        np.testing.assert_array_equal(room[1], returned)
        assert not room[[0, 2]].any()


def test_what_lies_outside_the_circle_is_black_whether_training_or_not():
    white = np.full((40, 60), 255, np.uint8)
    for apply in (training((32, 32), Augment(circle=True)), evaluation((32, 32), circle=True)):
        image = apply(white, 0)
        assert image[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0] * 4
        assert image[[0, -1, 16, 16], [16, 16, 0, -1]].tolist() == [255] * 4
        assert image.mean() / 255 == pytest.approx(np.pi / 4, abs=0.02)


def test_turned_by_a_quarter_a_film_in_a_circle_shows_nothing_new():
    image = evaluation((32, 32), circle=True)(np.full((64, 64), 200, np.uint8), 0)
    np.testing.assert_array_equal(image, np.rot90(image))


def test_preparation_is_off_unless_asked_for():
    assert prepare(Augment(), FILM) is FILM


def test_the_border_is_trimmed_before_the_crop():
    framed = np.pad(np.tile(FILM, (2, 2)), 30)
    np.testing.assert_array_equal(prepare(Augment(trim=True), framed), np.tile(FILM, (2, 2)))


def test_clahe_spreads_a_flat_contrast():
    flat = (FILM // 8 + 100).astype(np.uint8)
    spread = prepare(Augment(clahe=True), flat)
    assert (spread.shape, spread.dtype) == (flat.shape, np.uint8)
    assert spread.std() > 1.2 * flat.std()


def test_views_have_the_size_asked_for_and_small_crops_come_last():
    several = views((32, 24), Augment(views=2, small=Small(count=3, size=16)))
    assert [view(FILM, seed).shape for seed, view in enumerate(several)] == [(32, 24)] * 2 + [(16, 16)] * 3
    assert [view(FILM, 0).shape for view in views((32, 24), Augment())] == [(32, 24)]


def test_a_small_crop_shows_a_small_part():
    (_, small) = views((32, 32), Augment(small=Small(count=1, size=32, scale=(0.05, 0.1)), flip=0))
    spans = [np.ptp(small(RAMP, seed).astype(int), axis=1).max() for seed in range(50)]
    assert 5 < np.median(spans) < 30 < np.ptp(RAMP)


@pytest.mark.parametrize(
    ("name", "side"),
    [("left effusion", True), ("Effusion_R", True), ("RightShoulder", True), ("LATERALITY", True), ("L", True),
     ("dextrocardia", True), ("Bilateral effusion", False), ("lateral view", False), ("Cleft", False),
     ("Pleural_Thickening", False), ("bright", False)],
)  # fmt: skip
def test_a_class_that_tells_a_side_is_recognised(name, side):
    assert sided(["Mass", name]) == [name] * side


def test_every_wrong_setting_of_the_views_is_named():
    with pytest.raises(UserError, match=r"augment\.views must be 1 or more, not 0"):
        Augment(views=0)
    with pytest.raises(UserError) as caught:
        Small(count=0, size=0, scale=(0.5, 0.1))
    assert [text.split()[0] for text in caught.value.messages] == [
        f"augment.small.{name}" for name in ("scale", "count", "size")
    ]


@pytest.mark.parametrize("bias", [-1, float("inf"), float("nan")])
def test_a_bias_to_the_middle_that_is_no_number_is_refused(bias):
    with pytest.raises(UserError, match=r"augment\.center_bias must be a number of 0 or more"):
        Augment(center_bias=bias)


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(UserError) as caught:
        Augment(scale=(0.9, 0.2), ratio=(0, 1), center_bias=-1, flip=2, randaug=11)
    names = ["scale", "ratio", "flip", "center_bias", "randaug"]
    assert [name for name, text in zip(names, caught.value.messages, strict=True) if f"augment.{name}" in text] == names


def test_a_crop_of_fixed_size_is_seven_eighths_of_the_largest_cut_and_only_its_place_is_drawn():
    apply = training((32, 64), Augment(crop="fixed"))
    boxes = np.array([apply.box((400, 512), seed) for seed in range(300)])
    assert set(map(tuple, boxes[:, 2:])) == {(224, 448)}
    assert (boxes[:, 0].min(), boxes[:, 0].max()) == (pytest.approx(0, abs=8), pytest.approx(400 - 224, abs=8))
    assert (boxes[:, 1].min(), boxes[:, 1].max()) == (pytest.approx(0, abs=4), pytest.approx(512 - 448, abs=4))
    gathered = training((32, 64), Augment(crop="fixed", center_bias=12.0))
    assert np.std([gathered.box((400, 512), seed)[0] for seed in range(300)]) < 0.5 * boxes[:, 0].std()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5)])
@pytest.mark.parametrize("crop", ["fixed", "none"])
def test_films_of_any_shape_are_cropped(crop, shape):
    assert training((16, 32), Augment(crop=crop))(np.ones(shape, np.uint8), 0).shape == (16, 32)


def test_without_a_crop_training_sees_what_validation_sees():
    for seed in range(5):
        image = training((32, 20), Augment(crop="none", flip=0))(FILM, seed)
        np.testing.assert_array_equal(image, evaluation((32, 20))(FILM, 0))


def test_small_crops_are_of_random_size_whatever_the_views_are():
    large, small = views((32, 32), Augment(crop="none", small=Small(count=1, scale=(0.05, 0.5))))
    assert len({large.box(FILM.shape, seed) for seed in range(9)}) == 1
    assert len({small.box(FILM.shape, seed)[2] for seed in range(9)}) > 3


STRENGTHS = Augment(brightness=0.2, contrast=0.5, gamma=1.0)


@pytest.mark.parametrize(
    ("draw", "grey", "value"),
    [
        ((0, 0, 0), 77, 77),
        ((1, 0, 0), 100, 151),  # + 0.2 * 255
        ((-1, 0, 0), 40, 0),
        ((0.5, 0, 0), 240, 255),
        ((0, 1, 0), 100, 86),  # (100 - 127.5) * 1.5 + 127.5 = 86.25
        ((0, -1, 0), 255, 191),  # 127.5 * 0.5 + 127.5 = 191.25
        ((0, 0, 1), 51, 10),  # 0.2 ** 2 * 255 = 10.2
        ((0, 0, -1), 51, 114),  # sqrt(0.2) * 255 = 114.04
        ((1, 1, 1), 204, 232),  # (0.64 - 0.5) * 1.5 + 0.5 + 0.2 = 0.91
    ],
)
def test_brightness_shifts_contrast_stretches_and_gamma_bends(draw, grey, value):
    assert grey_table(STRENGTHS, *draw)[grey] == value


def test_other_grey_values_are_one_function_of_the_old_and_of_the_seed():
    plain, other = (training((60, 48), Augment(crop="none", flip=0, gamma=g, contrast=g)) for g in (0.0, 0.8))
    views_of = [other(FILM, seed) for seed in range(6)]
    for seed, image in enumerate(views_of):
        np.testing.assert_array_equal(image, other(FILM, seed))
        assert len({*zip(plain(FILM, seed).flat, image.flat, strict=True)}) == len(np.unique(FILM))
    assert len({image.tobytes() for image in views_of}) == 6


def test_jitter_draws_after_the_crop_so_that_views_show_the_same_part():
    with_jitter, without = (training((32, 32), Augment(brightness=b)) for b in (0.5, 0.0))
    assert [with_jitter.box(FILM.shape, seed) for seed in range(9)] == [
        without.box(FILM.shape, seed) for seed in range(9)
    ]


def test_corners_outside_the_circle_stay_black_under_jitter():
    apply = training((32, 32), Augment(circle=True, brightness=1.0))
    assert max(apply(FILM, seed)[0, 0] for seed in range(9)) == 0


@pytest.mark.parametrize(
    "option", [{"crop": "centre"}, {"brightness": -0.1}, {"contrast": 1.5}, {"gamma": 2}, {"gamma": float("nan")}]
)
def test_a_crop_or_strength_that_does_not_exist_is_refused(option):
    (name,) = option
    with pytest.raises(UserError, match=rf"augment\.{name} must be"):
        Augment(**option)
