import os
import shutil
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from xrayssl.data.corpora import gather, names
from xrayssl.data.corpora.folder import films_below, manifest
from xrayssl.data.split import assign
from xrayssl.errors import UserError


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / name)
    return root


def put_dicom(path):
    dataset = pydicom.Dataset()
    dataset.PatientID, dataset.file_meta = "x", FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def test_the_folder_of_a_film_is_its_class_and_train_val_test_its_split(tmp_path):
    table = manifest(put(tmp_path, "train/A/1.png", "valid/B/2.png", "Test/A/3.png", "C/4.png")).table
    assert table["split"].tolist() == ["", "test", "train", "val"]
    assert table[["A", "B", "C"]].to_numpy().argmax(1).tolist() == [2, 0, 0, 1]


def test_films_of_the_root_of_a_split_or_of_a_container_are_unlabelled(tmp_path):
    put(tmp_path, "A/1.png", "B/2.png", "3.png", "train/4.png", "images/5.png", "unlabelled_224/6.png")
    found = manifest(tmp_path)
    assert np.isnan(found.labels()).all(axis=1).sum() == 4
    assert found.classes == ["A", "B"]


def test_one_class_alone_is_no_label(tmp_path):
    found = manifest(put(tmp_path, "A/1.png", "A/2.png"))
    assert (found.task, found.classes) == (None, [])


def test_a_patient_is_what_the_expression_finds(tmp_path):
    put(tmp_path, "A/p1_a.png", "B/p1_b.png", "A/p2_a.png")
    assert manifest(tmp_path, patient=r"(p\d+)_").table["patient"].tolist() == ["p1", "p2", "p1"]
    assert manifest(tmp_path, patient=r"p\d+").patients == 2
    assert manifest(tmp_path).patients == 3


@pytest.mark.parametrize("expression", [r"q\d", r"p1(x)?", r"x*"])
def test_an_expression_that_finds_no_patient_is_refused_with_the_film(expression, tmp_path):
    with pytest.raises(UserError, match=r"p1\.png: the patient expression .* matches nothing"):
        manifest(put(tmp_path, "p1.png"), patient=expression)


@pytest.mark.parametrize("expression", ["(", 3])
def test_an_expression_that_is_none_is_refused(expression, tmp_path):
    with pytest.raises(UserError, match="is no regular expression"):
        manifest(put(tmp_path, "p1.png"), patient=expression)


def test_a_patient_in_two_splits_is_an_error_that_names_the_films(tmp_path):
    put(tmp_path, "train/A/p1_1.png", "test/A/p1_2.png")
    with pytest.raises(UserError, match=r"patient 'p1'.*p1_2\.png \(test\).*p1_1\.png \(train\)"):
        manifest(tmp_path, patient=r"p\d+")


def test_hidden_files_and_folders_are_no_films(tmp_path):
    put(tmp_path, "a.png", "._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/._a.png")
    assert films_below(tmp_path) == [tmp_path / "a.png"]


def test_pictures_and_dicom_files_may_lie_side_by_side_with_or_without_a_suffix(tmp_path):
    put(tmp_path, "a.png", "b.JPG")
    for name in ("c.dcm", "IM0001", "1.2.840.113", "DICOMDIR"):
        put_dicom(tmp_path / name)
    for name in ("README", "labels.csv", "notes.12"):
        (tmp_path / name).write_text("x" * 200)
    assert [path.name for path in films_below(tmp_path)] == ["1.2.840.113", "IM0001", "a.png", "b.JPG", "c.dcm"]
    assert manifest(tmp_path).patients == 5


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    put(tmp_path, "elsewhere/A/1.png", "root/B/2.png")
    (tmp_path / "root/C").symlink_to(tmp_path / "elsewhere/A")
    (tmp_path / "root/B/again").symlink_to(tmp_path / "root")
    assert [path.name for path in films_below(tmp_path / "root")] == ["2.png", "1.png"]


def test_a_folder_without_films_is_an_error_that_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("no film")
    with pytest.raises(UserError, match=rf"{tmp_path}: no film below this folder .*\.dcm"):
        manifest(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_a_film_whose_name_is_not_utf_8_is_refused_with_its_name(tmp_path):
    put(tmp_path, os.fsdecode(b"Schl\xfcsselbein.png"))
    with pytest.raises(UserError, match=r"Schlüsselbein\.png: this name is not UTF-8"):
        manifest(tmp_path)


def test_folders_that_differ_only_in_case_or_bear_a_columns_name_are_no_classes(tmp_path):
    with pytest.raises(UserError, match=r"'NORMAL' and 'Normal' differ only in case"):
        manifest(put(tmp_path / "a", "train/NORMAL/1.png", "test/Normal/2.png"))
    with pytest.raises(UserError, match="a class cannot be called 'view'"):
        manifest(put(tmp_path / "b", "view/1.png", "other/2.png"))


def test_a_moved_folder_has_the_same_checksum_and_split(tmp_path):
    put(tmp_path / "a/films", *(f"A/{i}.png" for i in range(12)), *(f"B/{i}.png" for i in range(12)))
    first = assign(manifest(tmp_path / "a/films"))
    shutil.move(tmp_path / "a", tmp_path / "b")
    second = assign(manifest(tmp_path / "b/films"))
    assert first.checksum() == second.checksum() == assign(manifest(tmp_path / "b/films")).checksum()


# Naming a corpus


def refused(corpora):
    with pytest.raises(UserError) as caught:
        gather(corpora)
    return caught.value.messages


@pytest.mark.parametrize(("name", "meant"), [("foldr", "folder"), ("NIH", "nih"), ("uci-shoulder", "uci_shoulder")])
def test_an_unknown_corpus_is_answered_with_the_one_that_was_meant(name, meant):
    (message,) = refused({name: "/films"})
    assert f"Did you mean {meant!r}?" in message


@pytest.mark.parametrize("name", ["", "..", "no.such.module", "a/b"])
def test_a_name_that_can_be_no_corpus_is_refused_with_those_there_are(name):
    (message,) = refused({name: "/films"})
    assert f"Known are: {', '.join(names())}." in message


def test_all_unknown_options_are_named(tmp_path):
    messages = refused({"folder": {"root": str(tmp_path), "patients": "x", "label": 1}})
    assert ["'patients'; it has: patient" in messages[0], "'label'" in messages[1]] == [True, True]


@pytest.mark.parametrize("source", [None, {}, {"root": None}, 3, ["/a", "/b"], ""])
def test_a_corpus_without_a_folder_asks_for_one(source):
    (message,) = refused({"folder": source})
    assert "needs a folder: set --data.corpora.folder" in message


def test_the_problems_of_all_corpora_come_at_once(tmp_path):
    messages = refused({"folder": str(tmp_path), "nih": "/no/such/place", "moon": "/x", "uci_shoulder": {"rot": 1}})
    assert ["no film" in messages[0], "/no/such/place" in messages[1], "moon" in messages[2]] == [True] * 3
    assert len(messages) == 5


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module `mine.<name>` of somebody else."""
    monkeypatch.syspath_prepend(tmp_path)
    put(tmp_path, "mine/__init__.png")
    (tmp_path / "mine/__init__.py").touch()

    def write(name, text):
        (tmp_path / f"mine/{name}.py").write_text(text)
        return f"mine.{name}"

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_a_corpus_of_ones_own_is_named_by_its_module(module, tmp_path):
    reader = "from xrayssl.data.corpora import folder\ndef manifest(root, **any): return folder.manifest(root)"
    name = module("good", reader)
    assert len(gather({name: {"root": str(tmp_path / "mine"), "colour": "red"}})) == 1


def test_a_corpus_of_ones_own_that_is_broken_says_what_it_needs(module):
    assert "needs the package 'no_such_package'" in refused({module("needy", "import no_such_package"): "/x"})[0]
    assert "no function manifest" in refused({module("empty", ""): "/x"})[0]
