import numpy as np
import pytest
from PIL import Image

from xrayssl.data.corpora.mura import PARTS, manifest
from xrayssl.data.split import assign
from xrayssl.errors import UserError

FILMS = [
    "train/XR_SHOULDER/patient00001/study1_positive/image1.png",
    "train/XR_SHOULDER/patient00001/study1_positive/image2.png",
    "train/XR_SHOULDER/patient00001/study2_negative/image1.png",
    "train/XR_WRIST/patient00001/study1_negative/image1.png",
    "train/XR_HAND/patient00002/study1_positive/image1.png",
    "train/XR_SHOULDER/patient00003/study1_negative/image1.png",
    "valid/XR_SHOULDER/patient11185/study1_positive/image1.png",
    "valid/XR_ELBOW/patient11186/study1_negative/image1.png",
]


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "MURA-v1.1"
    for film in FILMS:
        (root / film).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(root / film)
    (root / "train/XR_SHOULDER/patient00001/study1_positive/._image1.png").write_bytes(b"resource fork")
    for split in ("train", "valid"):
        lines = [f"MURA-v1.1/{film}\n" for film in FILMS if film.startswith(split)]
        (root / f"{split}_image_paths.csv").write_text("".join(lines))
    return root


def test_shoulders_are_the_default_and_valid_is_the_test_set(corpus):
    found = manifest(corpus)
    assert found.table["path"].tolist() == [str(corpus / film) for film in FILMS if "SHOULDER" in film]
    assert found.table["split"].tolist() == ["train"] * 4 + ["test"]
    assert set(assign(found, val=0.5).table["split"]) == {"train", "val", "test"}


def test_the_outcome_is_that_of_the_studys_folder_and_studies_are_scored(corpus):
    found = manifest(corpus)
    assert found.table["abnormal"].tolist() == [1, 1, 0, 0, 1]
    assert (found.table["normal"] == 1 - found.table["abnormal"]).all()
    assert (found.classes, found.task, found.score) == (["normal", "abnormal"], "multiclass", "study")
    assert found.table.groupby("study")["abnormal"].nunique().max() == 1


def test_abnormal_can_be_one_finding_beside_others(corpus):
    found = manifest(corpus, task="multilabel")
    assert (found.classes, found.task, found.score) == (["abnormal"], "multilabel", "study")


def test_a_patient_is_one_patient_in_all_body_parts_and_a_study_is_not(corpus):
    found = manifest(corpus, body_parts="all")
    assert (len(found), found.patients, found.table["study"].nunique()) == (8, 5, 7)
    wrist = found.table[found.table["path"].str.contains("WRIST")].iloc[0]
    assert (wrist["patient"], wrist["study"]) == ("mura_patient00001", "mura_patient00001_WRIST_study1")


@pytest.mark.parametrize("asked", ["HAND", ["hand"], ["XR_HAND", "HAND"]])
def test_body_parts_may_be_spelled_as_one_likes(asked, corpus):
    assert [path.split("/")[-4] for path in manifest(corpus, body_parts=asked).table["path"]] == ["XR_HAND"]


@pytest.mark.parametrize("asked", ["knee", ["SHOULDER", "KNEE"], [], [3], 3, None])
def test_an_unknown_body_part_is_refused_with_those_there_are(asked, corpus):
    with pytest.raises(UserError, match=f"body_parts must be all, or some of {', '.join(PARTS)}"):
        manifest(corpus, body_parts=asked)


def test_the_folder_above_will_do(corpus):
    assert manifest(corpus.parent).table.equals(manifest(corpus).table)


def test_without_the_lists_the_folders_tell_the_same(corpus, caplog):
    listed = manifest(corpus, body_parts="all").table.sort_values("path", ignore_index=True)
    for path in corpus.glob("*.csv"):
        path.unlink()
    assert manifest(corpus, body_parts="all").table.sort_values("path", ignore_index=True).equals(listed)
    assert "train_image_paths.csv is missing" in caplog.text


def test_hidden_files_are_no_films_even_if_listed(corpus):
    path = corpus / "train_image_paths.csv"
    path.write_text(path.read_text() + "MURA-v1.1/train/XR_SHOULDER/patient00001/study1_positive/._image1.png\n")
    assert not manifest(corpus).table["path"].str.contains("._image", regex=False).any()


def test_listed_films_that_are_not_here_are_left_out(corpus):
    (corpus / FILMS[0]).unlink()
    assert len(manifest(corpus)) == 4
    with pytest.raises(UserError, match="no film of FOREARM of MURA"):
        manifest(corpus, body_parts="FOREARM")


@pytest.mark.parametrize("line", ["images/1.png", "MURA-v1.1/train/XR_SHOULDER/patient00001/study1/image1.png", "path"])
def test_a_line_that_is_no_path_of_mura_is_refused_by_number(line, corpus):
    path = corpus / "train_image_paths.csv"
    path.write_text(path.read_text() + line)
    with pytest.raises(UserError, match=rf"train_image_paths\.csv: line 7, '{line}', is no path"):
        manifest(corpus)


def test_an_unknown_task_is_refused(corpus):
    with pytest.raises(UserError, match="task must be multiclass or multilabel, not 'binary'"):
        manifest(corpus, task="binary")
