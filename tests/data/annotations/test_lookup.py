import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xrayssl.data.annotations.lookup import by_stem, locate, on_disk, present
from xrayssl.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.png", "a/2.jpg", "b/1.2.840.113", "b/3.png", "._3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name, format="png")
    (tmp_path / "b/1.2.840.113").write_bytes(b"\0" * 128 + b"DICM")
    return tmp_path


def test_films_are_found_by_stem_in_the_folders_that_are_there(folder):
    assert by_stem(folder / "a", folder / "gone") == {"1": f"{folder}/a/1.png", "2": f"{folder}/a/2.jpg"}


def test_a_stem_of_two_films_is_refused_with_both(folder):
    (folder / "b/3.png").rename(folder / "b/1.jpg")
    with pytest.raises(UserError, match=r"film 1 is here more than once, .*a/1\.png and .*b/1\.jpg"):
        by_stem(folder)


def test_rows_without_a_film_are_left_out_and_a_table_without_any_is_refused(folder):
    table = pd.DataFrame({"film": ["2", "9"]})
    assert present(table, "film", by_stem(folder / "a"), folder)["path"].tolist() == [f"{folder}/a/2.jpg"]
    with pytest.raises(UserError, match="none of its 2 films, such as 2, lies here"):
        present(table, "film", {}, folder)


def test_a_look_at_the_disk_asks_for_exact_names(folder):
    assert on_disk([f"{folder}/a/1.png", f"{folder}/a/1.PNG", f"{folder}/c/1.png", "/nowhere"]).tolist() == [
        True, False, False, False]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "place"),
    [("a/1.png", "a/1.png"), ("a\\1.png", "a/1.png"), ("./a/1", "a/1.png"), ("2", "a/2.jpg"), ("2.png", "a/2.jpg"),
     ("1.2.840.113", "b/1.2.840.113"), ("b/../a/1.png", "a/1.png"), ("b//3.png", "b/3.png")],
)  # fmt: skip
def test_a_name_is_understood_as_people_write_it(name, place, folder):
    found = locate([name], folder)
    assert (found.paths, found.here.tolist()) == ([f"{folder}/{place}"], [True])


def test_what_is_nowhere_keeps_the_path_where_it_was_looked_for(folder):
    found = locate(["a/1.png", "a/9.png", "/elsewhere/1.png"], folder)
    assert found.paths[1:] == [f"{folder}/a/9.png", "/elsewhere/1.png"]
    assert found.here.tolist() == [True, False, False]


def test_a_name_that_could_be_two_films_is_neither(folder):
    (folder / "b/3.png").rename(folder / "b/2.png")
    found = locate(["2"], folder)
    assert (found.here.tolist(), found.unclear) == ([False], {0: [f"{folder}/a/2.jpg", f"{folder}/b/2.png"]})
