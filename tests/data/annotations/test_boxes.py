import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xrayssl.data.annotations.boxes import of_films, sides, sizes, with_area
from xrayssl.data.radiograph import read
from xrayssl.errors import UserError


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_films_size_is_the_one_that_reading_gives(suffix, orientation, tmp_path):
    path = tmp_path / f"film.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((24, 40), np.uint8)).save(path, exif=exif)
    height, width = read(path).pixels.shape
    assert sizes([str(path)]).loc[str(path)].tolist() == [width, height]


def test_an_odd_file_is_named(tmp_path):
    (tmp_path / "film.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"film\.png: its width and height cannot be read"):
        sizes([str(tmp_path / "film.png")])
    with pytest.raises(UserError, match=r"gone\.png: there is no such film"):
        sizes([str(tmp_path / "gone.png")])


def test_corners_become_extents_and_blank_rows_are_left_out(tmp_path):
    rows = pd.DataFrame({"a": ["1", ""], "b": ["2", ""], "c": ["4", ""], "d": ["8", ""]})
    assert sides(rows, list("abcd"), tmp_path).to_numpy().tolist() == [[1, 2, 4, 8]]
    assert sides(rows, list("abcd"), tmp_path, corners=True).to_numpy().tolist() == [[1, 2, 3, 6]]


def test_a_row_that_is_half_blank_is_refused_with_its_line(tmp_path):
    rows = pd.DataFrame({"a": ["1", ""], "b": ["2", "1"], "c": ["4", "1"], "d": ["8", "1"]})
    with pytest.raises(UserError, match="column 'a' holds '' in line 3"):
        sides(rows, list("abcd"), tmp_path)


def test_boxes_outside_of_their_films_are_left_out(tmp_path):
    Image.fromarray(np.zeros((20, 10), np.uint8)).save(tmp_path / "film.png")
    places = [(-5, 0, 10, 10), (10, 0, 5, 5), (0, 20, 5, 5), (9, 19, 5, 5)]
    boxes = pd.DataFrame([(str(tmp_path / "film.png"), "a", *place) for place in places],
                         columns=["path", "label", "left", "top", "width", "height"])  # fmt: skip
    found = of_films(boxes)
    np.testing.assert_allclose(found.iloc[:, 2:].to_numpy(), [[0, 0, 0.5, 0.5], [0.9, 0.95, 0.1, 0.05]])
    assert len(with_area(found.assign(width=0.0))) == 0
