import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xrayssl.data.check.contact_sheet import COLUMNS, OUTLINE, TILE, by_class, by_pair, draw
from xrayssl.data.check.matches import PAIR
from xrayssl.data.check.survey import Corpora, View


@pytest.fixture
def corpora(tmp_path):
    """Twelve bright films of six patients, the first with a box."""
    rows = range(12)
    for row in rows:
        Image.fromarray(np.full((40, 60), 200, np.uint8)).save(tmp_path / f"{row}.png")
    table = pd.DataFrame({"path": [str(tmp_path / f"{row}.png") for row in rows], "corpus": "mine",
                          "patient": [f"secret{row // 2}" for row in rows], "split": ["train", "train", "test"] * 4,
                          "problem": "", "film_height": 40, "film_width": 60, "bits": 8,
                          "Mass": [1.0, 0.0] * 5 + [np.nan] * 2})  # fmt: skip
    boxes = pd.DataFrame([(table["path"][0], "Mass", 0.25, 0.25, 0.5, 0.5)],
                         columns=["path", "label", "left", "top", "width", "height"])  # fmt: skip
    return Corpora(table, {"mine": ["Mass"]}, boxes)


def drawn(rows, corpora, tmp_path):
    draw(rows, corpora, View(), 0, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        return np.asarray(sheet)


def test_every_class_has_a_row_and_so_have_films_without(corpora):
    rows = by_class(corpora)
    assert [row.heading for row in rows] == [
        "mine  ·  Mass  ·  5", "mine  ·  none of them  ·  5", "mine  ·  without labels  ·  2"
    ]  # fmt: skip
    assert all(len(row.films) <= COLUMNS for row in rows)


def test_every_split_is_shown_and_no_patient_named(corpora):
    row = by_class(corpora)[0]
    assert {caption.split()[0] for caption in row.captions} == {"train", "test"}
    assert not any("secret" in text for row in by_class(corpora) for text in (row.heading, *row.captions))


def test_films_and_boxes_are_on_the_sheet(corpora, tmp_path):
    sheet = drawn(by_class(corpora), corpora, tmp_path)
    assert (sheet == 200).all(axis=2).sum() > 12 * TILE * TILE * 0.5
    assert (sheet == OUTLINE).all(axis=2).sum() > TILE


def test_a_film_that_cannot_be_read_leaves_its_place_empty(corpora, tmp_path):
    whole = drawn(by_class(corpora), corpora, tmp_path)
    (tmp_path / "0.png").write_bytes(b"no film")
    assert drawn(by_class(corpora), corpora, tmp_path).shape == whole.shape


def test_pairs_of_different_patients_and_splits_come_first(corpora):
    pairs = pd.DataFrame([(0, 1, "same file", 1.0), (0, 2, "look-alike", 0.8)], columns=PAIR)
    row = by_pair(corpora.table, pairs, "copies")[0]
    assert row.films == [0, 2, 0, 1]
    assert row.captions[1] == "test  look-alike 0.80" and row.captions[3] == "train  same file"


def test_nothing_to_show_is_a_sheet_too(corpora, tmp_path):
    assert drawn([], corpora, tmp_path).ndim == 3
