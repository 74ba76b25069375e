import cv2
import numpy as np
import pytest

from xrayssl.explain.overlay import BAR, BOX, GAP, LINE, OUTLINE, ROOM, blend, boxed, coloured, enlarged, sheet

FILM = np.full((96, 64), 100, np.uint8)
FILM[30:60, 20:40] = 180


def one_hot(row=1, column=2):
    map_hw = np.zeros((6, 4))
    map_hw[row, column] = 0.02
    return map_hw


def test_where_the_map_is_zero_the_film_is_bare():
    found = blend(FILM, one_hot())
    bare = enlarged(one_hot(), FILM.shape) == 0
    assert (found[bare] == FILM[bare][:, None]).all() and (found[~bare] != FILM[~bare][:, None]).any()


def test_an_empty_map_leaves_the_whole_film_bare():
    assert (blend(FILM, np.zeros((6, 4))) == FILM[..., None]).all()


def test_the_maximum_stands_at_the_middle_of_its_cell_and_is_outlined():
    found = enlarged(one_hot(), FILM.shape)
    rows, columns = np.where(found == found.max())
    assert (rows.mean(), columns.mean()) == (1.5 * 16 - 0.5, 2.5 * 16 - 0.5)
    outlined = np.abs(blend(FILM, one_hot()).astype(int) - OUTLINE).sum(axis=2) < 60
    assert outlined.any() and not outlined[60:].any()


def test_a_map_of_another_scale_gives_the_same_picture():
    assert (blend(FILM, one_hot()) == blend(FILM, 1000 * one_hot())).all()


def test_the_colours_become_lighter_steadily_so_that_a_grey_print_tells_the_same():
    lightness = cv2.cvtColor(coloured(np.linspace(0, 1, 64)[None]), cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) >= -1).all() and lightness[-1] - lightness[0] > 200


@pytest.mark.parametrize("words", [["one"], ["one", "two " * 200]])
def test_a_sheet_has_film_map_and_both_under_what_they_show(words):
    picture = np.asarray(sheet(FILM, one_hot(), "film.png", words))
    top = GAP + LINE * (1 + len(words)) + GAP
    assert picture.shape == (top + 96 + GAP, 3 * 64 + 4 * GAP + ROOM, 3) and ROOM > 2 * BAR
    assert (picture[top : top + 96, GAP : GAP + 64] == FILM[..., None]).all()
    left = 3 * GAP + 2 * 64 + ROOM
    assert (picture[top : top + 96, left : left + 64] == blend(FILM, one_hot())).all()
    cells = picture[top : top + 96, 2 * GAP + 64 : 2 * GAP + 128]
    assert (cells[16:32, 32:48] == coloured(np.ones((1, 1)))).all() and (cells[40:] == coloured(np.zeros((1, 1)))).all()
    assert picture[GAP : GAP + LINE].max() > 200


def test_a_known_box_is_outlined_on_the_film_and_on_both_in_one_and_not_on_the_map():
    box = np.array([[8.0, 10.0, 40.0, 30.0]])
    plain, drawn = (np.asarray(sheet(FILM, one_hot(), "film.png", ["one"], boxes)) for boxes in (None, box))
    rows, columns = np.where((plain != drawn).any(axis=2))
    top, left = GAP + LINE * 2 + GAP, 3 * GAP + 2 * 64 + ROOM
    assert {*(rows - top)} <= {*range(9, 42)} and not ((columns > GAP + 64) & (columns < left)).any()
    assert (drawn[top + 10, GAP + 20] == BOX).all() and (columns > left).any()


def test_a_box_beyond_the_film_is_cut():
    assert boxed(np.zeros((20, 20, 3), np.uint8), np.array([[-5, -5, 100, 10.0]])).shape == (20, 20, 3)
