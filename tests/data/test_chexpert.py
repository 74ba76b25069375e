import numpy as np
import pytest
from PIL import Image

from xrayssl.data.annotations.labels import COMPETITION, FINDINGS
from xrayssl.data.corpora.chexpert import manifest
from xrayssl.data.split import assign
from xrayssl.errors import UserError

HEAD = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(FINDINGS)
TRAIN = [
    ("train/patient00001/study1/view1_frontal.jpg", "Frontal", "AP", {"Edema": "1.0", "Fracture": "0.0"}),
    ("train/patient00002/study1/view1_frontal.jpg", "Frontal", "PA", {"Edema": "-1.0", "Consolidation": "-1.0"}),
    ("train/patient00002/study1/view2_lateral.jpg", "Lateral", "", {"Edema": "-1.0", "Consolidation": "-1.0"}),
    ("train/patient00002/study2/view1_frontal.jpg", "Frontal", "LL", {"No Finding": "1.0"}),
]
VALID = [("valid/patient64541/study1/view1_frontal.jpg", "Frontal", "AP", dict.fromkeys(FINDINGS, "0.0"))]
TEST = ["test/patient64741/study1/view1_frontal.jpg", "test/patient64741/study1/view2_lateral.jpg"]


def csv(rows, prefix):
    lines = [f"{prefix}{path},Female,68,{side},{position}," + ",".join(marks.get(name, "") for name in FINDINGS)
             for path, side, position, marks in rows]  # fmt: skip
    return "\n".join([HEAD, *lines]) + "\n"


def film(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)


def put(root, prefix="CheXpert-v1.0-small/", tables=None):
    tables, films = tables or root, [row[0] for row in TRAIN + VALID]
    tables.mkdir(parents=True, exist_ok=True)
    (tables / "train.csv").write_text(csv(TRAIN, prefix))
    (tables / "valid.csv").write_text(csv(VALID, prefix))
    for path in films:
        film(root / path)
    return root


def with_test_set(root, name):
    if name == "groundtruth.csv":
        rows = ["CheXpert-v1.0/test/patient64741/study1," + ",".join("1" if n == "Edema" else "0" for n in FINDINGS)]
        head = "Study," + ",".join(FINDINGS)
    else:
        rows = [f"{path}," + ",".join("1.0" if n == "Edema" else "0.0" for n in FINDINGS) for path in TEST]
        head = "Path," + ",".join(FINDINGS)
    (root / name).write_text("\n".join([head, *rows]) + "\n")
    for path in TEST:
        film(root / path)
    return root


@pytest.mark.parametrize("prefix", ["CheXpert-v1.0/", "CheXpert-v1.0-small/", "/data/x y/", ""])
def test_films_are_found_whatever_stands_before_the_patient(prefix, tmp_path):
    table = manifest(put(tmp_path, prefix)).table
    assert table["path"].tolist() == [str(tmp_path / row[0]) for row in TRAIN + VALID if row[1] == "Frontal"]
    assert table["patient"].tolist()[:2] == ["chexpert_patient00001", "chexpert_patient00002"]
    assert table["study"].tolist()[1:3] == ["chexpert_patient00002_study1", "chexpert_patient00002_study2"]


def test_the_four_batches_of_the_download_are_one_corpus(tmp_path):
    batches = ["CheXpert-v1.0 batch 2 (train 1)", "CheXpert-v1.0 batch 3 (train 2)"]
    first = tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)"
    first.mkdir()
    (first / "train.csv").write_text(csv(TRAIN, "CheXpert-v1.0/"))
    (first / "valid.csv").write_text(csv(VALID, "CheXpert-v1.0/"))
    film(first / VALID[0][0])
    for row in TRAIN:
        film(tmp_path / batches["patient00002" in row[0]] / row[0].removeprefix("train/"))
    found = manifest(tmp_path, views="all")
    assert (len(found), sorted(set(found.table["split"]))) == (5, ["test", "train"])


def test_marks_become_labels_by_the_policy(tmp_path):
    table = manifest(put(tmp_path)).table
    assert table["Edema"].tolist() == [1, 1, 0, 0]
    assert table["Consolidation"].tolist() == [0, 0, 0, 0]
    table = manifest(tmp_path, uncertain={"Edema": "ignore", "Consolidation": "ones"}, blank="ignore").table
    np.testing.assert_equal(table["Edema"].tolist(), [1, np.nan, 0, 0])
    np.testing.assert_equal(table["Consolidation"].tolist(), [np.nan, 1, 0, 0])


def test_there_are_14_classes_or_the_5_of_the_competition(tmp_path):
    assert manifest(put(tmp_path)).classes == FINDINGS
    assert manifest(tmp_path, classes=5).classes == COMPETITION


@pytest.mark.parametrize(
    ("views", "kept"),
    [("frontal", ["AP", "PA", "LL", "AP"]), ("lateral", ["lateral"]), ("all", ["AP", "PA", "lateral", "LL", "AP"]),
     (["PA", "lateral"], ["PA", "lateral"])],
)  # fmt: skip
def test_views_can_be_chosen(views, kept, tmp_path):
    assert manifest(put(tmp_path), views=views).table["view"].tolist() == kept


def test_without_the_test_set_valid_is_the_test_and_validation_is_cut_from_train(tmp_path):
    found = manifest(put(tmp_path))
    assert found.table["split"].tolist() == ["train"] * 3 + ["test"]
    assert assign(found, val=0.5).table["split"].tolist()[-1] == "test"
    assert "val" in set(assign(found, val=0.5).table["split"])


@pytest.mark.parametrize("name", ["test.csv", "test_labels.csv", "groundtruth.csv"])
def test_with_the_test_set_valid_is_the_validation(name, tmp_path):
    found = manifest(with_test_set(put(tmp_path), name), views="all")
    splits = found.table.groupby("split")["path"].apply(list)
    assert splits["val"] == [str(tmp_path / VALID[0][0])]
    assert splits["test"] == [str(tmp_path / path) for path in TEST]
    tests = found.table[found.table["split"] == "test"]
    assert tests["view"].tolist() == ["frontal", "lateral"]
    assert tests["Edema"].tolist() == [1, 1] and tests["Fracture"].tolist() == [0, 0]


def test_the_role_of_valid_can_be_set_and_as_the_test_it_is_the_only_one(tmp_path):
    with_test_set(put(tmp_path), "groundtruth.csv")
    assert manifest(tmp_path, valid_as="test").table["split"].tolist() == ["train"] * 3 + ["test"]
    (tmp_path / "groundtruth.csv").unlink()
    assert manifest(tmp_path, valid_as="val").table["split"].tolist() == ["train"] * 3 + ["val"]


def test_a_finding_that_the_test_table_lacks_is_unknown_but_in_train_it_must_be_there(tmp_path):
    for name in ("test.csv", "train.csv"):
        with_test_set(put(tmp_path), "test.csv")
        (tmp_path / name).write_text((tmp_path / name).read_text().replace("Fracture", "Break"))
        if name == "test.csv":
            assert manifest(tmp_path).table["Fracture"].isna().tolist() == [False] * 4 + [True]
    with pytest.raises(UserError, match=r"train\.csv: the column 'Fracture' is missing"):
        manifest(tmp_path)


def test_films_that_are_not_here_are_left_out_with_a_count(tmp_path, caplog):
    (put(tmp_path) / TRAIN[0][0]).unlink()
    with caplog.at_level("INFO"):
        assert len(manifest(tmp_path)) == 3
    assert "3 of its 4 films are here" in caplog.text


def test_tables_without_any_film_are_an_error(tmp_path):
    put(tmp_path / "a")
    (tmp_path / "train.csv").write_text((tmp_path / "a/train.csv").read_text())
    with pytest.raises(UserError, match=r"none of its 3 films, such as .*patient00001/study1/view1_frontal\.jpg"):
        manifest(tmp_path)


def test_a_folder_without_tables_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"train\.csv of CheXpert is missing"):
        manifest(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("Path,", "File,", "the column 'Path' is missing"),
        ("Frontal/Lateral", "View", "the column 'Frontal/Lateral' is missing"),
        (",1.0,", ",3.0,", r"the finding '.*' is '3\.0' in line 5"),
        ("patient00001/study1", "someone/study1", "in line 2 is no film of CheXpert"),
        ("study1/view1_frontal.jpg", "study1", "in line 2 is no film of CheXpert"),
    ],
)
def test_a_table_that_is_not_as_it_should_be_is_refused(old, new, sentence, tmp_path):
    path = put(tmp_path) / "train.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=rf"train\.csv: .*{sentence}"):
        manifest(tmp_path)


def test_two_copies_of_a_patient_are_refused(tmp_path):
    put(tmp_path / "CheXpert-v1.0")
    put(tmp_path / "CheXpert-v1.0-small")
    with pytest.raises(UserError, match=r"patient0000[12] lies in .*, too; set root to one of them"):
        manifest(tmp_path)


@pytest.mark.parametrize("options", [{"classes": 3}, {"uncertain": "u"}, {"blank": "ones"}, {"valid_as": "train"}])
def test_an_option_that_makes_no_sense_is_refused(options, tmp_path):
    with pytest.raises(UserError, match=rf"chexpert: {next(iter(options))} "):
        manifest(put(tmp_path), **options)


@pytest.mark.parametrize("name", ["test.csv", "groundtruth.csv"])
def test_sex_and_age_are_those_of_the_tables_that_tell_them(name, tmp_path):
    table = manifest(with_test_set(put(tmp_path), name)).table
    told = table["split"] != "test"
    assert table["sex"].tolist() == ["F" if known else "" for known in told]
    assert table["age"].notna().tolist() == told.tolist()
    assert set(table["age"][told]) == {68.0}
