import json

import numpy as np
import pytest
from PIL import Image

from xrayssl.data.corpora.rsna import CLASSES, MAPPING, manifest
from xrayssl.data.split import assign
from xrayssl.errors import UserError

LABELS, DETAILS = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
ROWS = ["aa,,,,,0", "bb,256.0,128.0,512.0,256.0,1", "bb,0.0,0.0,1024.0,64.0,1", "cc,,,,,0"]
KINDS = ["aa,No Lung Opacity / Not Normal", "bb,Lung Opacity", "bb,Lung Opacity", "cc,Normal"]


@pytest.fixture
def corpus(tmp_path):
    for name in ("train_images/aa", "train_images/bb", "train_images/cc", "test_images/dd"):
        path = tmp_path / f"stage_2_{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    (tmp_path / LABELS).write_text("\n".join(["patientId,x,y,width,height,Target", *ROWS]) + "\n")
    (tmp_path / DETAILS).write_text("\n".join(["patientId,class", *KINDS]) + "\n")
    return tmp_path


def test_a_film_is_one_row_however_many_boxes_it_has(corpus):
    found = manifest(corpus)
    assert found.table["patient"].tolist() == ["rsna_aa", "rsna_bb", "rsna_cc"]
    assert found.labels().tolist() == [[0], [1], [0]]
    assert (found.classes, found.task, found.score) == (["Pneumonia"], "multilabel", "film")


def test_boxes_are_fractions_of_1024_pixels_whatever_the_size_of_the_copies(corpus):
    boxes = manifest(corpus).boxes
    expected = [[0.25, 0.125, 0.5, 0.25], [0, 0, 1, 0.0625]]
    assert boxes[["left", "top", "width", "height"]].to_numpy().tolist() == expected
    assert boxes["label"].unique().tolist() == ["Pneumonia"]
    assert manifest(corpus, task="classes").boxes["label"].unique().tolist() == ["Lung Opacity"]


def test_the_three_classes_are_a_task_of_their_own(corpus):
    found = manifest(corpus, task="classes")
    assert [CLASSES[k] for k in found.labels().argmax(axis=1)] == [kind[3:] for kind in (KINDS[0], KINDS[1], KINDS[3])]
    assert found.task == "multiclass"


def test_test_films_have_no_labels_and_come_only_when_asked_for(corpus):
    found = manifest(corpus, unlabelled=True)
    assert found.table["split"].tolist() == ["", "", "", "train"]
    assert np.isnan(found.labels()[3]).all()
    assert set(assign(found, val=0.3, test=0.3).table["split"]) == {"train", "val", "test"}


def test_without_the_mapping_every_film_is_a_patient_and_that_is_said(corpus, caplog):
    assert manifest(corpus).patients == 3
    assert "every film counts as its own patient" in caplog.text


def test_the_mapping_joins_films_of_one_nih_patient(corpus):
    entries = [
        {"subset_img_id": film, "img_id": f"{nih}.png", "StudyInstanceUID": "1.2"}
        for film, nih in (("aa", "00000013_004"), ("bb", "00000013_005"))
    ]
    (corpus / MAPPING).write_text(json.dumps(entries))
    assert manifest(corpus).table["patient"].tolist() == ["rsna_00000013", "rsna_00000013", "rsna_cc"]


def test_an_unlabelled_film_of_a_patient_with_labels_goes_where_the_patient_goes(corpus):
    entries = [{"subset_img_id": film, "img_id": "00000013_004.png"} for film in ("bb", "dd")]
    (corpus / MAPPING).write_text(json.dumps(entries))
    found = manifest(corpus, unlabelled=True)
    assert found.table["split"].tolist() == ["", "", "", ""]
    assert assign(found, val=0.3, test=0.3).patients == 3


@pytest.mark.parametrize("content", ["{", "3", '[{"id": 1}]', "[3]"])
def test_a_mapping_that_is_none_is_named(content, corpus):
    (corpus / MAPPING).write_text(content)
    with pytest.raises(UserError, match=rf"{MAPPING}: this is not RSNA's list"):
        manifest(corpus)


def test_films_that_are_not_here_are_left_out(corpus):
    (corpus / "stage_2_train_images/bb.png").unlink()
    found = manifest(corpus)
    assert (len(found), len(found.boxes)) == (2, 0)


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (LABELS, "cc,,,,,0", "bb,,,,,0", "the rows of the film bb differ in 'Target'"),
        (LABELS, "cc,,,,,0", "cc,,,,,7", "'Target' is '7' in line 5, none of 0, 1"),
        (LABELS, "256.0,128", "256.0,?128", r"holds '\?128.0' in line 3, which is no number"),
        (LABELS, "x,y", "a,b", "the column 'x' is missing"),
        (DETAILS, "cc,Normal", "cc,Lung Opacity", "the film cc is missing, or contradicts"),
        (DETAILS, "cc,Normal", "cc,normal", "'class' is 'normal' in line 5"),
        (DETAILS, "cc,Normal", "dd,Normal", "the film cc is missing, or contradicts"),
    ],
)
def test_tables_that_do_not_tell_are_refused(file, old, new, sentence, corpus):
    (corpus / file).write_text((corpus / file).read_text().replace(old, new))
    with pytest.raises(UserError, match=rf"{file}: .*{sentence}"):
        manifest(corpus, task="classes")


def test_an_unknown_task_is_refused(corpus):
    with pytest.raises(UserError, match="task must be pneumonia or classes, not 'three'"):
        manifest(corpus, task="three")
