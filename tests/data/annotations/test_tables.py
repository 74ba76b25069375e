import gzip

import pandas as pd
import pytest

from xrayssl.data.annotations.tables import films_here, numbers, of_views, read_csv
from xrayssl.errors import UserError


@pytest.fixture
def csv(tmp_path):
    def write(text, name="t.csv"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_table_is_text_whatever_it_holds_and_however_it_is_packed(name, csv):
    table = read_csv(csv("a,b\n 01 ,NA\n2.0,\n", name), ("a",))
    assert table.to_numpy().tolist() == [["01", "NA"], ["2.0", ""]]


def test_only_the_columns_asked_for_are_read_and_others_may_be_blank_or_missing(csv):
    table = read_csv(csv("a,b,c\n1,,3\n"), ("a",), also=("d",), blank=("b",))
    assert table.to_dict("records") == [{"a": "1", "b": ""}]


def test_a_table_without_a_header_gets_names_and_counts_lines_from_the_first(csv):
    assert read_csv(csv("x,1\n"), ("film",), names=("film", "label"))["film"].tolist() == ["x"]
    with pytest.raises(UserError, match="'film' is empty in line 2"):
        read_csv(csv("x,1\n,1\n"), ("film",), names=("film", "label"))
    with pytest.raises(UserError, match="its lines have more than 2 cells"):
        read_csv(csv("x,1,2\n"), ("film",), names=("film", "label"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a\n1\n", "the column 'b' is missing"), ("a,b\n", "has no rows"), ("a,b\n1,2\n,3\n", "'a' is empty in line 3")],
)
def test_a_table_that_lacks_something_is_named(text, sentence, csv):
    with pytest.raises(UserError, match=rf"t\.csv: .*{sentence}"):
        read_csv(csv(text), ("a",), blank=("b",))


def test_a_compressed_table_that_is_cut_off_is_refused(csv):
    path = csv("a,b\n" + "1,2\n" * 999, "t.csv.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"t\.csv\.gz: the table cannot be read"):
        read_csv(path, ("a",))


def test_text_becomes_numbers_or_is_refused_with_its_line(csv):
    path = csv("a,b\n1,x\n-2.5,y\n")
    assert numbers(read_csv(path, ()), ["a"], path)["a"].tolist() == [1.0, -2.5]
    for wrong in ("x", "", "inf", "1,5"):
        path = csv(f'a,b\n1,x\n"{wrong}",y\n')
        with pytest.raises(UserError, match=rf"'a' holds '{wrong}' in line 3, which is no number"):
            numbers(read_csv(path, ()), ["a"], path)


def test_films_that_are_not_on_the_disk_are_left_out_with_a_count(csv, caplog):
    here = csv("film")
    table = pd.DataFrame({"path": [str(here), str(here) + "x"] * 700})
    with caplog.at_level("INFO"):
        assert len(films_here(table, here)) == 700
    assert "700 of its 1400 films are here" in caplog.text
    with pytest.raises(UserError, match="none of its 2 films, such as /no, is on the disk"):
        films_here(pd.DataFrame({"path": ["/no", "/nor"]}), here)


VIEWS = pd.DataFrame({"view": ["AP", "L", "PA", "", "OBLIQUE"]})


@pytest.mark.parametrize(
    ("views", "kept"),
    [("frontal", [0, 2]), ("lateral", [1]), ("all", [0, 1, 2, 3, 4]), ("PA", [2]), (["L", "OBLIQUE"], [1, 4])],
)
def test_views_are_chosen_by_word_or_by_name(views, kept, tmp_path):
    found = of_views(VIEWS.assign(row=range(5)), views, ("AP", "PA"), ("L", "LL"), tmp_path)
    assert found["row"].tolist() == kept


@pytest.mark.parametrize(
    ("views", "sentence"),
    [("top", "'top'; views are .*AP, L"), (["PA", "x"], "'x'"), ([], "'none'"), ("LL", "none of")],
)
def test_views_that_are_none_are_refused_with_those_there_are(views, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        of_views(VIEWS, views, ("AP", "PA"), ("L", "LL"), tmp_path)
