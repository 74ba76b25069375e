import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrayssl.data.transforms import evaluation
from xrayssl.data.trim import border
from xrayssl.explain.regions import area_mean, in_view, of_boxes, of_mask, seen

SIDES = st.tuples(*[st.integers(0, 24)] * 4)


def painted(boxes, size):
    mask = np.zeros(size, bool)
    for left, top, width, height in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


@settings(max_examples=50, deadline=None)
@given(st.lists(SIDES, max_size=4))
def test_boxes_of_whole_pixels_cover_what_a_painted_mask_covers(boxes):
    expected = painted(boxes, (24, 36)).reshape(4, 6, 6, 6).mean(axis=(1, 3))
    np.testing.assert_allclose(of_boxes(boxes, (24, 36), (4, 6)), expected, atol=1e-12)
    np.testing.assert_allclose(of_mask(painted(boxes, (24, 36)), (4, 6)), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(*[st.floats(-10, 40)] * 2, *[st.floats(0, 40)] * 2, st.integers(1, 9), st.integers(1, 9))
def test_the_area_covered_is_the_boxs_on_every_grid(left, top, width, height, rows, columns):
    across = max(0.0, min(left + width, 32.0) - max(left, 0.0))
    down = max(0.0, min(top + height, 24.0) - max(top, 0.0))
    found = of_boxes([left, top, width, height], (24, 32), (rows, columns))
    assert found.shape == (rows, columns) and found.max() <= 1
    assert found.mean() == pytest.approx(across * down / (24 * 32), abs=1e-12)


def test_a_box_covers_each_cell_by_the_area_inside_it():
    found = of_boxes([2.5, 1.0, 5.0, 2.0], (8, 12), (4, 3))
    down, across = [0.5, 0.5, 0, 0], [1.5 / 4, 3.5 / 4, 0]
    np.testing.assert_allclose(found, np.outer(down, across))


def test_where_boxes_overlap_an_area_counts_once():
    one, other = [0.5, 0.5, 2, 2], [1.5, 1.5, 2, 2]
    assert of_boxes([one, other], (4, 4), (1, 1))[0, 0] == pytest.approx((4 + 4 - 1) / 16)
    np.testing.assert_array_equal(of_boxes([one, one], (4, 4), (2, 2)), of_boxes(one, (4, 4), (2, 2)))


@pytest.mark.parametrize("box", [np.empty((0, 4)), [40, 40, 5, 5], [3, 3, 0, 4]])
def test_no_box_inside_the_view_covers_nothing(box):
    assert not of_boxes(box, (24, 24), (3, 3)).any()


def test_a_box_that_reaches_beyond_the_view_fills_it():
    np.testing.assert_array_equal(of_boxes([-5, -5, 100, 100], (21, 35), (7, 5)), np.ones((7, 5)))


def test_means_over_cells_that_do_not_divide_are_those_over_a_grid_that_both_divide():
    values = np.random.default_rng(0).random((2, 4, 6))
    fine = values.repeat(3, axis=1).repeat(5, axis=2)  # 12 x 30
    expected = fine.reshape(2, 3, 4, 5, 6).mean(axis=(2, 4))
    np.testing.assert_allclose(area_mean(values, (3, 5)), expected)


@pytest.mark.parametrize(("shape", "size"), [((150, 200), (64, 64)), ((200, 150), (64, 64)), ((180, 90), (64, 96))])
def test_a_box_lies_where_the_network_sees_what_it_holds(shape, size):
    box, film = [0.3, 0.4, 0.4, 0.3], np.zeros(shape, np.uint8)
    film[round(0.4 * shape[0]) : round(0.7 * shape[0]), round(0.3 * shape[1]) : round(0.7 * shape[1])] = 255
    view = evaluation(size)(film, seed=0) / 255
    found = of_boxes(in_view(box, shape, size), size, size)
    assert np.abs(found - view).mean() < 0.01 < 0.1 < view.mean()
    np.testing.assert_allclose(of_mask(_cut(film, seen(shape, size)) / 255, size), found, atol=1e-9)


@pytest.mark.parametrize(("shape", "size"), [((5, 30), (64, 96)), ((30, 5), (64, 96)), ((7, 9), (64, 64))])
def test_what_is_seen_fills_the_view(shape, size):
    top, left, height, width = seen(shape, size)
    box = [left / shape[1], top / shape[0], width / shape[1], height / shape[0]]
    np.testing.assert_allclose(in_view(box, shape, size), [[0, 0, size[1], size[0]]], atol=1e-9)


def test_a_box_follows_a_film_whose_border_was_trimmed():
    film = np.zeros((160, 200), np.uint8)
    film[20:140, 30:150] = np.random.default_rng(0).integers(100, 200, (120, 120))
    film[60:90, 60:120] = 255
    crop = border(film)
    found = of_boxes(in_view([60 / 200, 60 / 160, 60 / 200, 30 / 160], film.shape, (60, 60), crop), (60, 60), (60, 60))
    view = evaluation((60, 60))(_cut(film, crop), seed=0)
    assert crop == (20, 30, 120, 120)
    assert (view[found > 0.99] > 250).all() and (view[found == 0] < 250).all() and found.sum() == pytest.approx(30 * 15)


def _cut(film, window):
    top, left, height, width = window
    return film[top : top + height, left : left + width]
