from itertools import permutations

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import ROADLeastRelevantFirst, ROADMostRelevantFirst
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from xrayssl.explain.faithfulness import area, deletion, faithfulness, insertion, order, road
from xrayssl.explain.nulls import centred_gaussian, random_maps

GRID = (2, 3)
WEIGHT = torch.tensor([[0.1, 0.5, 0.0], [0.9, -0.2, 0.3]])


def films(count=2, size=(8, 12)):
    return torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(0))


def cells(image_BCHW):
    """Mean of each cell of 4 x 4 pixels."""
    return nn.functional.avg_pool2d(image_BCHW, 4)[:, 0]


def weighed(image_BCHW):
    """A probability for which every cell counts by its weight."""
    return (WEIGHT * cells(image_BCHW)).sum((1, 2))


def contribution(image_BCHW):
    """What each cell adds beyond the film's mean grey, above 0."""
    value = WEIGHT * (cells(image_BCHW) - image_BCHW.mean((1, 2, 3))[:, None, None])
    return (value - value.amin() + 0.1).numpy()


def test_deletion_is_that_of_a_loop_over_cells():
    image, map_Bhw = films(), random_maps(2, GRID, seed=5)
    share, value = deletion(weighed, image, map_Bhw)
    assert share.tolist() == pytest.approx([k / 6 for k in range(7)])
    for film, map_hw, found in zip(image, map_Bhw, value, strict=True):
        work = film[None].clone()
        expected = [float(weighed(work))]
        for row, column in sorted(np.ndindex(GRID), key=lambda cell: -map_hw[cell]):
            work[..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = film.mean()
            expected.append(float(weighed(work)))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_no_order_has_a_smaller_area_under_deletion_than_the_right_one():
    image = films(1)
    every = [np.reshape(one, (1, *GRID)) + 1.0 for one in permutations(range(6))]
    areas = [area(*deletion(weighed, image, one))[0] for one in every]
    assert area(*deletion(weighed, image, contribution(image)))[0] == pytest.approx(min(areas))
    assert max(areas) - min(areas) > 0.05


def test_insertion_leads_from_the_blurred_film_to_the_film_itself():
    image = films()
    _, value = insertion(weighed, image, random_maps(2, GRID), blur=0.3)
    np.testing.assert_allclose(value[:, -1], weighed(image), rtol=1e-5)
    blurred = []
    insertion(lambda now: blurred.append(now.clone()) or weighed(now), image, random_maps(2, GRID), blur=0.3)
    assert blurred[0].std() < 0.4 * image.std()
    torch.testing.assert_close(blurred[0].mean((1, 2, 3)), image.mean((1, 2, 3)), atol=0.03, rtol=0)


def test_insertion_gives_back_the_first_cells_first():
    image, seen, first = films(1), [], np.array([[[0, 9, 0], [0, 0, 8.0]]])
    insertion(lambda now: seen.append(now.clone()) or weighed(now), image, first)
    back = [(now == image)[0, 0, ::4, ::4].numpy() for now in seen]
    assert back[1].tolist() == [[False, True, False], [False] * 3]
    assert back[2].tolist() == [[False, True, False], [False, False, True]]


def test_the_right_order_is_better_than_chance_and_the_wrong_one_worse():
    image = films(6)
    found = faithfulness(weighed, image, contribution(image))
    wrong = faithfulness(weighed, image, 1 / contribution(image))
    right, chance, reverse = (one["deletion"].mean() for one in (found["map"], found["random"], wrong["map"]))
    assert right + 0.01 < chance < reverse - 0.01
    assert sorted(found) == ["centred_gaussian", "map", "random"]


def test_the_nulls_are_the_areas_of_their_own_maps():
    image, seed = films(), 4
    found = faithfulness(weighed, image, contribution(image), seed=seed)
    gaussian = np.stack([centred_gaussian(GRID)] * 2)
    for name, map_Bhw in (("random", random_maps(2, GRID, seed)), ("centred_gaussian", gaussian)):
        for way, curve in (("insertion", insertion), ("deletion", deletion)):
            expected = area(*curve(weighed, image, map_Bhw, seed=seed))
            np.testing.assert_array_equal(found[name][way], expected)


def test_more_cells_than_steps_are_dealt_into_as_many_parts():
    calls = []
    share, value = deletion(lambda now: calls.append(len(now)) or weighed(now), films(), random_maps(2, (8, 12)), 5)
    assert calls == [2] * 6 and value.shape == (2, 6)
    np.testing.assert_allclose(share, np.rint(np.linspace(0, 96, 6)) / 96)


def test_the_area_is_exact_where_steps_differ():
    assert area(np.array([0, 0.25, 1]), np.array([[1.0, 0.0, 1.0]]))[0] == 0.125 + 0.375


def test_equal_cells_come_in_an_order_drawn_that_no_batch_changes():
    maps = np.zeros((3, 4, 4))
    maps[1:, 2, 1] = 1.0
    found = order(maps[1:], seed=1)
    assert (found[:, 0] == 9).all() and sorted(found[0]) == list(range(16))
    assert found[0, 1:].tolist() != sorted(found[0, 1:]) and (found[0] == order(maps[2:], seed=1)).all()
    assert (found != order(maps[1:], seed=2)).any()
    first = [int(order(maps[:1], seed)[0, 0]) for seed in range(400)]
    assert np.bincount(first, minlength=16).min() > 8


def test_cells_need_not_divide_the_film():
    image, first = torch.rand(1, 1, 7, 7), np.array([[[5.0, 0], [0, 0]]])
    _, value = deletion(lambda now: (now != image).double().mean((1, 2, 3)), image, first)
    assert value[0, 1] == pytest.approx(16 / 49)


def test_an_empty_map_has_no_curve():
    maps = random_maps(2, GRID)
    maps[0] = 0
    found = faithfulness(weighed, films(), maps)
    assert np.isnan(found["map"]["insertion"]).tolist() == [True, False]
    assert np.isfinite(found["random"]["deletion"]).all()


class Probabilities(nn.Module):
    """Two outputs, for the library."""

    def forward(self, image_BCHW):
        return torch.stack([weighed(image_BCHW), -weighed(image_BCHW)], dim=1)


@pytest.mark.filterwarnings("ignore:__array_wrap__")
@pytest.mark.parametrize("least_first", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_road_is_that_of_pytorch_grad_cam(least_first, channels):
    image, maps = films().expand(2, channels, 8, 12).clone(), random_maps(2, GRID, seed=3)
    enlarged = maps.repeat(4, axis=1).repeat(4, axis=2).astype(np.float32)
    library = ROADLeastRelevantFirst(100 * 4 / 6) if least_first else ROADMostRelevantFirst(100 * 4 / 6)
    library.perturbation.imputer.noise = 0
    theirs = library(image, enlarged, [ClassifierOutputTarget(0)] * 2, Probabilities(), return_diff=False)
    share, value = road(weighed, image, maps, [1 / 3], least_first=least_first, noise=0)
    np.testing.assert_allclose(value[:, 0], theirs, rtol=1e-4)
    assert share.tolist() == [pytest.approx(1 / 3)] and np.abs(value[:, 0] - weighed(image).numpy()).min() > 1e-3


def test_road_removes_what_counts_from_either_end():
    image = films(4)
    most, least = (road(weighed, image, contribution(image), least_first=way)[1].mean() for way in (False, True))
    assert least > most + 0.05


def test_roads_noise_is_a_function_of_the_seed_and_leaves_the_callers_alone():
    before = torch.random.get_rng_state()
    image, maps = films(), random_maps(2, GRID)
    one, again, other = (road(weighed, image, maps, [0.5], seed, noise=0.1)[1] for seed in (0, 0, 1))
    assert (one == again).all() and (one != other).all() and torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("shares", [[0], [0.5, 1.0]])
def test_road_removes_neither_nothing_nor_everything(shares):
    with pytest.raises(ValueError, match="below 1"):
        road(weighed, films(), random_maps(2, GRID), shares)


@pytest.mark.parametrize(("image", "count"), [(films(3), 2), ((255 * films()).byte(), 2)])
def test_films_without_maps_and_whole_numbers_are_refused(image, count):
    with pytest.raises(ValueError, match="floats and a map of each"):
        insertion(weighed, image, random_maps(count, GRID))


@pytest.mark.parametrize("curve", [insertion, deletion, road])
def test_no_gradient_is_kept(curve):
    kept = []
    curve(
        lambda now: kept.append(torch.is_grad_enabled()) or weighed(now), films().requires_grad_(), np.ones((2, *GRID))
    )
    assert kept and not any(kept)


def test_a_share_of_few_cells_leaves_one():
    share, value = road(weighed, films(), random_maps(2, GRID), [0.01, 0.99])
    assert share.tolist() == [1 / 6, 5 / 6] and np.isfinite(value).all()
