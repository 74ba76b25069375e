import json

import numpy as np
import pytest
from PIL import Image

from xrayssl.data.corpora.fracatlas import BOXES, PARTS, manifest
from xrayssl.data.radiograph import read
from xrayssl.errors import UserError

HEAD = "image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,fracture_count,frontal,lateral,oblique"
ROWS = [
    "IMG0000001.jpg,0,0,0,1,0,0,0,1,2,1,0,0",
    "IMG0000002.jpg,0,0,0,1,0,0,1,0,0,1,1,0",
    "IMG0000003.jpg,1,0,0,0,0,0,0,0,0,0,0,0",
    "IMG0000004.jpg,1,0,0,1,1,0,0,1,1,0,0,1",
]


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 32), np.uint8)).save(path)


def box(image, *sides):
    return {"id": 1, "image_id": image, "category_id": 1, "bbox": list(sides), "iscrowd": 0, "segmentation": [[0, 0]]}


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "dataset.csv").write_text("\n".join([HEAD, *ROWS]) + "\n")
    for row in ROWS:
        cells = row.split(",")
        save(tmp_path / "images" / ("Fractured" if cells[8] == "1" else "Non_fractured") / cells[0])
    sizes = {"height": 400, "width": 320}
    images = [{"id": 5, "file_name": "IMG0000001.jpg", **sizes}, {"id": 9, "file_name": "IMG0000004.jpg", **sizes}]
    drawn = [box(5, 80, 100, 160, 200), box(5, 300, 0, 40, 400), box(9, 0, 0, 32, 40)]
    content = {"images": images, "annotations": drawn, "categories": [{"id": 1, "name": "fractured"}]}
    (tmp_path / BOXES).parent.mkdir(parents=True)
    (tmp_path / BOXES).write_text(json.dumps(content))
    return tmp_path


def names(found):
    return [path.split("IMG000000")[1][0] for path in found.table["path"]]


def test_shoulders_are_the_default(corpus):
    found = manifest(corpus)
    assert (names(found), found.table["fractured"].tolist()) == (["1", "2", "4"], [1, 0, 1])
    assert (found.classes, found.task) == (["fractured"], "multilabel")


@pytest.mark.parametrize(("asked", "expected"), [("hand", "34"), (["mixed", "Hand"], "34"), ("all", "1234")])
def test_body_parts_are_flags_of_which_a_film_may_have_several(asked, expected, corpus):
    assert names(manifest(corpus, body_parts=asked)) == list(expected)


@pytest.mark.parametrize("asked", ["knee", [], ["hand", 3], 3, None])
def test_an_unknown_body_part_is_refused_with_those_there_are(asked, corpus):
    with pytest.raises(UserError, match=f"body_parts must be all, or some of {', '.join(PARTS)}"):
        manifest(corpus, body_parts=asked)


def test_views_are_the_flags_that_are_set(corpus):
    assert manifest(corpus, body_parts="all").table["view"].tolist() == ["frontal", "frontal+lateral", "", "oblique"]


def test_every_film_counts_as_a_patient_and_that_is_said(corpus, caplog):
    caplog.set_level("INFO")
    assert manifest(corpus).table["patient"].tolist() == [f"fracatlas_IMG000000{k}" for k in "124"]
    assert "names no patients" in caplog.text


def test_boxes_are_fractions_of_the_size_that_the_annotation_tells(corpus):
    boxes = manifest(corpus).boxes
    expected = [[0.25, 0.25, 0.5, 0.5], [0.9375, 0, 0.0625, 1], [0, 0, 0.1, 0.1]]
    np.testing.assert_allclose(boxes[["left", "top", "width", "height"]].to_numpy(), expected)
    assert len(manifest(corpus, body_parts="hand").boxes) == 1


def test_the_split_is_ours_for_the_published_one_has_fractured_films_alone(corpus):
    (corpus / "Utilities/Fracture Split").mkdir(parents=True)
    (corpus / "Utilities/Fracture Split/test.csv").write_text("image_id\nIMG0000001.jpg\n")
    assert manifest(corpus).table["split"].unique().tolist() == [""]


@pytest.mark.parametrize(("film", "folder"), [("IMG0000001.jpg", "Non_fractured"), ("IMG0000002.jpg", "Fractured")])
def test_a_film_in_both_folders_is_left_out_and_counted(film, folder, corpus, caplog):
    save(corpus / "images" / folder / film)
    assert film[9] not in names(manifest(corpus))
    assert "left out 1 films that lie in the folder of the other outcome" in caplog.text


def test_a_film_in_the_wrong_folder_is_left_out(corpus):
    (corpus / "images/Fractured/IMG0000001.jpg").rename(corpus / "images/Non_fractured/IMG0000001.jpg")
    found = manifest(corpus)
    assert (names(found), len(found.boxes)) == (["2", "4"], 1)


def test_a_truncated_film_is_listed_and_its_reading_is_refused_by_name(corpus):
    path = corpus / "images/Non_fractured/IMG0000002.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert str(path) in manifest(corpus).table["path"].tolist()
    with pytest.raises(UserError, match=r"IMG0000002\.jpg"):
        read(path)


def test_films_that_are_not_here_are_left_out(corpus):
    for path in corpus.glob("images/Fractured/*"):
        path.unlink()
    assert names(manifest(corpus)) == ["2"]
    (corpus / "images/Non_fractured").rename(corpus / "images/Normal")
    with pytest.raises(UserError, match="no film of shoulder of FracAtlas in images"):
        manifest(corpus)


def test_without_the_annotations_there_are_no_boxes_and_that_is_said(corpus, caplog):
    (corpus / BOXES).unlink()
    assert manifest(corpus).boxes is None
    assert "the corpus has no boxes" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"images": [], "annotations": [{"bbox": 3}]}'])
def test_annotations_that_are_none_are_named(content, corpus):
    (corpus / BOXES).write_text(content)
    with pytest.raises(UserError, match=r"COCO_fracture_masks\.json: this is no list of boxes"):
        manifest(corpus)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("hip,", "hips,", "the column 'hip' is missing"),
        ("IMG0000002.jpg,0,0,0,1", "IMG0000002.jpg,0,0,0,2", "'shoulder' is '2' in line 3; it must be 0 or 1"),
        ("IMG0000002.jpg", "IMG0000001.jpg", r"the film IMG0000001\.jpg has more than one line"),
    ],
)
def test_a_table_that_does_not_tell_is_refused(old, new, sentence, corpus):
    (corpus / "dataset.csv").write_text((corpus / "dataset.csv").read_text().replace(old, new))
    with pytest.raises(UserError, match=rf"dataset\.csv: {sentence}"):
        manifest(corpus)
