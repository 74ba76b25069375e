import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from xrayssl.data.corpora.vindr import FINDINGS, KAGGLE, manifest
from xrayssl.data.radiograph import read
from xrayssl.data.split import assign
from xrayssl.errors import UserError

TEST_NAMES = ["Other disease" if name == "Other diseases" else name for name in FINDINGS]  # the test table's spelling
HEAD = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"


def put_dicom(path, width=32, height=40):
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = height, width, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME1", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.arange(width * height, dtype=np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def votes(path, rows, names=FINDINGS, reader=True):
    """Rows of (film, reader, findings)."""
    head = ["image_id", *(["rad_id"] if reader else []), *names]
    lines = [[film, *([who] if reader else []), *(str(int(n in found)) for n in names)] for film, who, found in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(line) for line in [head, *lines]) + "\n")


@pytest.fixture
def corpus(tmp_path):
    """PhysioNet's layout: two films of three readers, one of the consensus."""
    for name in ("train/a", "train/b", "test/c"):
        put_dicom(tmp_path / f"{name}.dicom")
    seen = [("a", "R8", ["Edema", "COPD"]), ("a", "R9", ["Edema"]), ("a", "R10", ["Cardiomegaly"])]
    votes(tmp_path / "annotations/image_labels_train.csv", seen + [("b", f"R{k}", ["No finding"]) for k in (1, 2, 3)])
    votes(
        tmp_path / "annotations/image_labels_test.csv",
        [("c", "", ["Other disease", "Edema"])],
        TEST_NAMES,
        reader=False,
    )
    (tmp_path / "annotations/annotations_train.csv").write_text(
        HEAD + "a,R8,Edema,8,10,16,30\na,R9,Edema,-4.5,0,12,44\na,R10,Cardiomegaly,1,1,9,9\nb,R1,No finding,,,,\n"
    )
    (tmp_path / "annotations/annotations_test.csv").write_text(
        HEAD.replace("rad_id,", "") + "c,Edema,0,0,32,40\nc,Other disease,,,,\n"
    )
    return tmp_path


def positive(found, film):
    row = found.table["path"].str.contains(f"/{film}.dicom")
    return {name for name in found.classes if found.table.loc[row, name].item() == 1}


@pytest.mark.parametrize(
    ("readers", "expected"),
    [("majority", {"Edema"}), ("any", {"Edema", "COPD", "Cardiomegaly"}), ("all", set())],
)
def test_a_finding_holds_as_the_policy_of_readers_says(readers, expected, corpus):
    found = manifest(corpus, readers=readers)
    assert positive(found, "a") == expected
    assert positive(found, "b") == {"No finding"}


def test_the_official_test_set_is_the_consensus_whatever_the_policy_and_its_spelling(corpus):
    for readers in ("majority", "any", "all"):
        found = manifest(corpus, readers=readers)
        assert positive(found, "c") == {"Other diseases", "Edema"}
        assert found.table["split"].tolist() == ["train", "train", "test"]


def test_every_film_counts_as_a_patient_and_that_is_said(corpus, caplog):
    caplog.set_level("INFO")
    assert manifest(corpus).table["patient"].tolist() == ["vindr_a", "vindr_b", "vindr_c"]
    assert "names no patients" in caplog.text


def test_boxes_are_fractions_of_the_film_in_its_header_cut_at_its_edges(corpus):
    boxes = manifest(corpus).boxes
    assert boxes["label"].tolist() == ["Edema"] * 3
    expected = [[0.25, 0.25, 0.25, 0.5], [0, 0, 0.375, 1], [0, 0, 1, 1]]
    np.testing.assert_allclose(boxes[["left", "top", "width", "height"]].to_numpy(), expected)
    assert read(boxes["path"][0]).pixels.shape == (40, 32)


def test_boxes_of_findings_that_do_not_hold_are_left_out(corpus):
    assert set(manifest(corpus, readers="any").boxes["label"]) == {"Edema", "Cardiomegaly"}
    assert manifest(corpus, readers="all").boxes["label"].tolist() == ["Edema"]  # the consensus of the test film


def test_pictures_of_the_films_give_labels_and_no_boxes(corpus, caplog):
    for path in list(corpus.rglob("*.dicom")):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path.with_suffix(".png"))
        path.unlink()
    found = manifest(corpus)
    assert (len(found), len(found.boxes)) == (3, 0)
    assert "boxes are left out" in caplog.text


def test_films_that_are_not_here_are_left_out_with_their_boxes(corpus):
    (corpus / "train/a.dicom").unlink()
    found = manifest(corpus)
    assert found.table["patient"].tolist() == ["vindr_b", "vindr_c"]
    assert found.boxes["label"].tolist() == ["Edema"]


def test_one_half_of_the_corpus_is_enough(corpus):
    (corpus / "annotations/image_labels_test.csv").unlink()
    assert manifest(corpus).table["split"].tolist() == ["", ""]
    for path in corpus.glob("train/*"):
        path.unlink()
    with pytest.raises(UserError, match="none of its 2 films, such as a, lies here"):
        manifest(corpus)


def test_a_blank_vote_is_unknown_and_does_not_count(corpus):
    table = corpus / "annotations/image_labels_train.csv"
    lines = table.read_text().splitlines()
    column = lines[0].split(",").index("Edema")
    for line in (2, 3):
        cells = lines[line].split(",")
        lines[line] = ",".join([*cells[:column], "", *cells[column + 1 :]])
    table.write_text("\n".join(lines))
    assert "Edema" in positive(manifest(corpus, readers="all"), "a")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("b,R2,0", "b,R2,2", r"image_labels_train\.csv: 'Aortic enlargement' is '2' in line 6; it must be 0 or 1"),
        ("Edema", "Oedema", r"image_labels_train\.csv: the column 'Edema' is missing"),
        ("image_id", "id", r"image_labels_train\.csv: the column 'image_id' is missing"),
    ],
)
def test_a_label_table_that_does_not_tell_is_refused(old, new, sentence, corpus):
    table = corpus / "annotations/image_labels_train.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(UserError, match=sentence):
        manifest(corpus)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [("8,10,16", "8,x,16", "'y_min' holds 'x' in line 2"), ("x_min", "xmin", "the column 'x_min' is missing")],
)
def test_a_table_of_boxes_that_does_not_tell_is_refused(old, new, sentence, corpus):
    table = corpus / "annotations/annotations_train.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(UserError, match=rf"annotations_train\.csv: .*{sentence}"):
        manifest(corpus)


def test_a_boxed_film_without_a_size_is_named(corpus):
    (corpus / "train/a.dicom").write_bytes(b"no film")
    with pytest.raises(UserError, match=r"train/a\.dicom: its width and height cannot be read"):
        manifest(corpus)


def test_an_unknown_policy_and_a_foreign_folder_are_refused(corpus, tmp_path):
    with pytest.raises(UserError, match="readers must be majority, any or all, not 'most'"):
        manifest(corpus, readers="most")
    with pytest.raises(UserError, match=r"neither annotations/image_labels_train\.csv .* nor Kaggle's train\.csv"):
        manifest(tmp_path / "test")


# Kaggle's layout


def test_physionets_test_films_have_labels_so_that_none_is_left_without(corpus):
    pd.testing.assert_frame_equal(manifest(corpus, unlabelled=True).table, manifest(corpus).table)


@pytest.fixture
def kaggle(tmp_path):
    for name in ("train/a", "train/b", "test/c"):
        put_dicom(tmp_path / f"{name}.dicom")
    head = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
    rows = ["a,ILD,5,R8,8,10,16,30", "a,ILD,5,R8,0,0,4,4", "a,ILD,5,R9,8,10,16,28", "a,No finding,14,R10,,,,"]
    (tmp_path / "train.csv").write_text(head + "\n".join(rows + [f"b,No finding,14,R{k},,,," for k in (8, 9, 10)]))
    return tmp_path


def test_kaggles_table_gives_its_15_classes_by_the_same_policies(kaggle):
    found = manifest(kaggle)
    assert found.classes == KAGGLE
    assert [positive(found, film) for film in "ab"] == [{"ILD"}, {"No finding"}]
    assert positive(manifest(kaggle, readers="any"), "a") == {"ILD", "No finding"}
    assert len(found.boxes) == 3


def test_kaggles_test_films_come_only_when_asked_for_and_without_labels(kaggle):
    assert len(manifest(kaggle)) == 2
    found = manifest(kaggle, unlabelled=True)
    assert found.table["split"].tolist() == ["", "", "train"]
    assert np.isnan(found.labels()[2]).all()
    assert len(assign(found)) == 3


def test_a_finding_outside_kaggles_vocabulary_is_refused(kaggle):
    (kaggle / "train.csv").write_text((kaggle / "train.csv").read_text().replace("ILD", "Fibrosis"))
    with pytest.raises(UserError, match="the finding 'Fibrosis' is none of the 15"):
        manifest(kaggle)


def test_votes_are_counted_as_a_slow_recomputation_counts_them(tmp_path):
    rng = np.random.default_rng(0)
    films = [f"f{i}" for i in range(30)]
    rows = [(film, f"R{k}", [n for n in FINDINGS if rng.random() < 0.3]) for film in films for k in range(3)]
    for film in films:
        put_dicom(tmp_path / f"train/{film}.dicom", 4, 4)
    votes(tmp_path / "annotations/image_labels_train.csv", rows)
    for readers, least in (("majority", 2), ("any", 1), ("all", 3)):
        table = manifest(tmp_path, readers=readers).table.set_index("patient")
        for film in films:
            told = pd.Series([n for who, _, found in rows if who == film for n in found]).value_counts()
            expected = [float(told.get(n, 0) >= least) for n in FINDINGS]
            assert table.loc[f"vindr_{film}", FINDINGS].tolist() == expected
