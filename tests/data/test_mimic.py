import gzip

import numpy as np
import pytest
from PIL import Image

from xrayssl.data.annotations.labels import COMPETITION, FINDINGS
from xrayssl.data.corpora.mimic import manifest
from xrayssl.errors import UserError

CLASSES = sorted(FINDINGS)  # the order of MIMIC's tables
FILMS = [  # film, study, subject, split, view
    ("02aa804e-bde0afdd", "50414267", "10000032", "train", "PA"),
    ("174413ec-4ec4c1f7", "50414267", "10000032", "train", "LATERAL"),
    ("2a2277a9-b0ded155", "53189527", "10000032", "train", "AP"),
    ("e084de3b-be89b11e", "51234567", "11000011", "validate", "AP"),
    ("68b5c4b1-227d0485", "57654321", "19999999", "test", "PA"),
    ("096052b7-d256dc40", "57654321", "19999999", "test", ""),
]
MARKS = {"50414267": {"Edema": "-1.0", "Atelectasis": "1.0"}, "53189527": {"No Finding": "1.0"},
         "57654321": {"Pneumonia": "0.0"}}  # fmt: skip


def write(root, name, head, rows, packed=True):
    text = "\n".join([head, *rows]) + "\n"
    path = root / f"mimic-cxr-2.0.0-{name}.csv{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


@pytest.fixture(params=[True])
def corpus(tmp_path, request):
    return put(tmp_path, request.param)


def put(root, packed=True):
    write(root, "split", "dicom_id,study_id,subject_id,split", [",".join(row[:4]) for row in FILMS], packed)
    write(root, "metadata", "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows",
          [f'{film},{subject},{study},"CHEST (PA AND LAT)",{view},3056' for film, study, subject, _, view in FILMS],
          packed)  # fmt: skip
    subjects = {row[1]: row[2] for row in FILMS}
    for labeller in ("chexpert", "negbio"):
        write(root, labeller, "subject_id,study_id," + ",".join(CLASSES),
              [f"{subjects[study]},{study}," + ",".join(marks.get(name, "") for name in CLASSES)
               for study, marks in MARKS.items()], packed)  # fmt: skip
    for film, study, subject, *_ in FILMS:
        path = root / f"files/p{subject[:2]}/p{subject}/s{study}/{film}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    return root


def unpacked(path):
    return gzip.decompress(path.read_bytes()).decode()


@pytest.mark.parametrize("packed", [True, False])
def test_frontal_films_are_read_with_their_official_split(packed, tmp_path):
    table = manifest(put(tmp_path, packed)).table
    assert [path.rsplit("/", 1)[-1][:8] for path in table["path"]] == ["02aa804e", "2a2277a9", "e084de3b", "68b5c4b1"]
    assert table["path"][0] == str(tmp_path / "files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg")
    assert table["split"].tolist() == ["train", "train", "val", "test"]
    assert (table["patient"][0], table["study"][0], table["view"][0]) == ("mimic_10000032", "mimic_50414267", "PA")


def test_labels_are_those_of_the_study(corpus):
    found = manifest(corpus, views="all", uncertain={"Edema": "ignore"})
    assert found.classes == FINDINGS
    np.testing.assert_equal(found.table["Edema"].tolist(), [np.nan, np.nan, 0, np.nan, 0, 0])
    np.testing.assert_equal(found.table["Atelectasis"].tolist(), [1, 1, 0, np.nan, 0, 0])


def test_films_of_a_study_that_was_not_labelled_stay_with_unknown_labels(corpus, caplog):
    with caplog.at_level("INFO"):
        table = manifest(corpus, classes=5).table
    assert table[COMPETITION].isna().all(axis=1).tolist() == [False, False, True, False]
    assert "no labels for the studies of 1 films" in caplog.text


@pytest.mark.parametrize(("views", "kept"), [("lateral", 1), ("all", 6), (["PA"], 2), (["LATERAL", "AP"], 3)])
def test_views_can_be_chosen(views, kept, corpus):
    assert len(manifest(corpus, views=views)) == kept


def test_the_other_labeller_can_be_chosen(corpus):
    path = corpus / "mimic-cxr-2.0.0-negbio.csv.gz"
    path.write_bytes(gzip.compress(unpacked(path).replace("-1.0", "0.0").encode()))
    assert [manifest(corpus, labeller=name).table["Edema"][0] for name in ("chexpert", "negbio")] == [1, 0]


def test_films_that_are_not_here_are_left_out_and_none_at_all_is_an_error(corpus):
    paths = manifest(corpus).table["path"]
    for path in paths[1:]:
        (corpus / path).unlink()
    assert len(manifest(corpus)) == 1
    (corpus / paths[0]).unlink()
    with pytest.raises(UserError, match=r"none of its 4 films, such as .*02aa804e"):
        manifest(corpus)


@pytest.mark.parametrize("name", ["split", "metadata", "chexpert"])
def test_a_missing_table_is_named(name, corpus):
    (corpus / f"mimic-cxr-2.0.0-{name}.csv.gz").unlink()
    with pytest.raises(UserError, match=rf"mimic-cxr-2\.0\.0-{name}\.csv\.gz of MIMIC-CXR-JPG is missing"):
        manifest(corpus)


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        ("split", "split\n", "part\n", "the column 'split' is missing"),
        ("split", "validate", "dev", "the split 'dev' in line 5 is none of train, validate, test"),
        ("metadata", "ViewPosition", "View", "the column 'ViewPosition' is missing"),
        ("metadata", "2a2277a9-b0ded155", "x", "no row for the film 2a2277a9-b0ded155 of mimic"),
        ("metadata", "2a2277a9-b0ded155", "02aa804e-bde0afdd", "the dicom 02aa804e-bde0afdd stands in line 4 again"),
        ("chexpert", "Edema", "Oedema", "the column 'Edema' is missing"),
        ("chexpert", "-1.0", "-7.0", "the finding 'Edema' is '-7.0' in line 2"),
        ("chexpert", "53189527", "50414267", "the study 10000032 50414267 stands in line 3 again"),
    ],
)
def test_a_table_that_is_not_as_it_should_be_is_refused(name, old, new, sentence, corpus):
    path = corpus / f"mimic-cxr-2.0.0-{name}.csv.gz"
    path.write_bytes(gzip.compress(unpacked(path).replace(old, new).encode()))
    with pytest.raises(UserError, match=rf"mimic-cxr-2\.0\.0-{name}\.csv\.gz: {sentence}"):
        manifest(corpus)


@pytest.mark.parametrize("options", [{"classes": 3}, {"uncertain": "u"}, {"blank": "ones"}, {"labeller": "me"}])
def test_an_option_that_makes_no_sense_is_refused(options, corpus):
    with pytest.raises(UserError, match=rf"mimic: {next(iter(options))} "):
        manifest(corpus, **options)


def test_sex_and_age_come_from_the_table_of_patients_if_it_is_here(corpus):
    assert "sex" not in manifest(corpus).table
    write(corpus, "metadata", "dicom_id,ViewPosition,StudyDate",
          [f"{film},{view},21800506" for film, *_, view in FILMS])  # fmt: skip
    (corpus / "patients.csv").write_text(
        "subject_id,gender,anchor_age,anchor_year\n10000032,F,52,2180\n19999999,M,60,2175\n"
    )
    table = manifest(corpus, views="all").table
    assert table["sex"].tolist() == ["F", "F", "F", "", "M", "M"]
    assert table["age"].tolist() == pytest.approx([52.0] * 3 + [np.nan] + [65.0] * 2, nan_ok=True)
    assert "seen" not in table
