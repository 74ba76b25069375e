import numpy as np
import pytest
from PIL import Image

from xrayssl.data.corpora.covidx import manifest
from xrayssl.errors import UserError

UUID = "47c78742-4998-4878-aec4-37b11b1354ac"
V2 = {"train": ["3 SARS-Fig8a-day0.jpeg pneumonia", f"{UUID} {UUID}.png normal"], "test": ["nCoV-1 x.png COVID-19"]}
V7A = {
    "train": ["COVID 1 COVID(1).png COVID-19 sirm", "379 a.jpeg pneumonia cohen", "380 b.png normal rnsa"],
    "test": ["COVID 70 COVID(70).png COVID-19 sirm", f"{UUID} {UUID}.png normal"],
}
CXR4 = {
    "train": ["379 a.jpeg negative cohen", "419639-003251 MIDRC-1.png positive ricord"],
    "val": ["380 b.png negative rsna"],
    "test": ["SITE2 c.png positive bimcv", "381 d.png negative rsna"],
}


def put(root, lists, version="", folders=True):
    for split, lines in lists.items():
        folder = root / split if folders else root
        folder.mkdir(parents=True, exist_ok=True)
        (root / f"{split}{version}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            name = next(part for part in line.split() if "." in part)
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / name)
    return root


def named(found):
    """The class of every film."""
    return [found.classes[k] for k in found.labels().argmax(axis=1)]


@pytest.mark.parametrize("folders", [True, False])
def test_v2_has_three_classes_and_no_sources(folders, tmp_path):
    found = manifest(put(tmp_path, V2, folders=folders))
    assert (found.classes, found.task) == (["normal", "pneumonia", "COVID-19"], "multiclass")
    assert named(found) == ["pneumonia", "normal", "COVID-19"]
    assert found.table["split"].tolist() == ["train", "train", "test"]
    assert found.table["source"].tolist() == ["", "rsna", ""]
    assert found.table["path"][0] == str(tmp_path / ("train" if folders else "") / "SARS-Fig8a-day0.jpeg")


def test_v7_has_patients_of_two_words_and_sources_that_are_missing_or_misspelt(tmp_path):
    table = manifest(put(tmp_path, V7A)).table
    assert table["patient"].tolist()[:2] == ["covidx_COVID 1", "covidx_379"]
    assert table["source"].tolist() == ["sirm", "cohen", "rsna", "sirm", "rsna"]


def test_cxr4_has_two_classes_and_its_own_validation(tmp_path):
    found = manifest(put(tmp_path, CXR4))
    assert named(found) == ["negative", "positive", "negative", "positive", "negative"]
    assert found.table["split"].tolist() == ["train", "train", "val", "test", "test"]


def test_three_classes_can_be_read_as_two_but_not_two_as_three(tmp_path):
    found = manifest(put(tmp_path / "a", V2), classes=2)
    assert (found.classes, named(found)) == (["negative", "positive"], ["negative", "negative", "positive"])
    with pytest.raises(UserError, match="these lists have two classes"):
        manifest(put(tmp_path / "b", CXR4), classes=3)
    with pytest.raises(UserError, match="covidx: classes is 2, 3 or null, not 4"):
        manifest(tmp_path / "b", classes=4)


def test_lists_of_a_version_are_chosen_by_its_name(tmp_path):
    put(tmp_path, V7A, "_COVIDx7A")
    put(tmp_path, CXR4, "_COVIDx9B")
    assert manifest(tmp_path, version="COVIDx9B").classes == ["negative", "positive"]
    with pytest.raises(
        UserError, match=r"train\.txt: .* missing\. Set the option version to one of COVIDx7A, COVIDx9B"
    ):
        manifest(tmp_path)


def test_films_of_a_source_can_be_chosen(tmp_path):
    assert manifest(put(tmp_path, CXR4), sources=["rsna"]).table["source"].tolist() == ["rsna", "rsna"]
    with pytest.raises(UserError, match="no film is from 'nih'; sources are bimcv, cohen, ricord, rsna"):
        manifest(tmp_path, sources=["nih"])


def test_a_tested_patients_other_films_are_not_trained_on(tmp_path, caplog):
    lists = {**CXR4, "train": [*CXR4["train"], "SITE2 e.png positive ricord"]}
    found = manifest(put(tmp_path, lists))
    assert not found.table["path"].str.contains("e.png", regex=False).any()
    assert "left out 1 films of 1 patients, such as covidx_SITE2" in caplog.text


def test_films_that_are_not_here_are_left_out_and_none_at_all_is_an_error(tmp_path):
    put(tmp_path, CXR4)
    for path in manifest(tmp_path).table["path"][1:]:
        (tmp_path / path).unlink()
    assert len(manifest(tmp_path)) == 1
    (tmp_path / "train/a.jpeg").unlink()
    with pytest.raises(UserError, match=r"none of its 5 films, such as .*a\.jpeg"):
        manifest(tmp_path)


@pytest.mark.parametrize("line", ["379 a.jpeg", "379 a.jpeg covid cohen", "a.jpeg negative", "1 a.png positive x y"])
def test_a_line_that_tells_no_class_is_refused_with_its_number(line, tmp_path):
    put(tmp_path, CXR4)
    (tmp_path / "test.txt").write_text(f"{CXR4['test'][0]}\n\n{line}\n")
    with pytest.raises(UserError, match=r"test\.txt: line 3, .* is not patient, file, class and source"):
        manifest(tmp_path)


def test_lists_of_different_versions_are_refused(tmp_path):
    with pytest.raises(UserError, match="some lists have two classes and others three"):
        manifest(put(tmp_path, {"train": V7A["train"], "test": CXR4["test"]}))
