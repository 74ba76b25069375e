import csv
import gzip
import io

import numpy as np
import pytest
from PIL import Image

from xrayssl.data.corpora.padchest import manifest
from xrayssl.data.radiograph import read
from xrayssl.data.split import assign
from xrayssl.errors import UserError

HEAD = ["", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
        "ViewPosition_DICOM", "Projection", "MethodProjection", "ReportID", "Report", "MethodLabel",
        "Labels"]  # fmt: skip
NAME = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
ROWS = [  # film, folder, patient, projection, labels
    ("2168_01-104-021.png", "0", "839", "PA", "['pulmonary fibrosis', ' chronic changes', 'Kyphosis']"),
    ("2168_01-104-022.png", "0", "839", "L", "['pulmonary fibrosis', ' chronic changes', 'Kyphosis']"),
    ("2168_02-094-102.png", "12", "840", "AP_horizontal", "['NSG tube', 'kyphosis', '']"),
    ("2168_02-089-127.png", "12", "841", "AP", "['normal']"),
    ("2168_03-089-127.png", "54", "842", "PA", "['unchanged']"),
    ("2168_03-089-128.png", "54", "843", "PA", "['kyphosis', 'cardiom"),
    ("2168_03-089-129.png", "54", "844", "PA", ""),
    ("2168_03-089-130.png", "54", "845", "PA", "['exclude']"),
    ("2168_03-089-131.png", "54", "", "PA", "['normal']"),
    ("2168_03-089-132.png", "54", "847", "EXCLUDE", "['normal']"),
]


def table(root, rows=ROWS, packed=False):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEAD)
    for number, (film, folder, patient, projection, labels) in enumerate(rows):
        writer.writerow([number, film, folder, "20140915", f"s{patient}", patient, "1930.0", "F", "POSTEROANTERIOR",
                         projection, "Manual review of DICOM fields", "4765777", 'sin hallazgos, "normal".\nfin',
                         "Physician", labels])  # fmt: skip
    path = root / f"{NAME}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text.getvalue().encode()) if packed else text.getvalue().encode())
    return path


def put(root, packed=False, flat=False):
    table(root, packed=packed)
    for film, folder, *_ in ROWS:
        place = root / ("images" if flat else folder)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32), 4000, np.uint16)).save(place / film)
    return root


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_frontal_films_are_found_in_every_layout(packed, flat, tmp_path):
    found = manifest(put(tmp_path, packed, flat)).table
    assert found["path"][0] == str(tmp_path / ("images" if flat else "0") / ROWS[0][0])
    assert found["view"].tolist() == ["PA", "AP_horizontal", "AP", "PA", "PA", "PA"]
    assert (found["patient"][0], found["study"][0]) == ("padchest_839", "padchest_s839")
    assert set(assign(manifest(tmp_path)).table["split"]) == {"train", "val", "test"}


def test_a_film_of_16_bit_keeps_its_values(tmp_path):
    assert read(manifest(put(tmp_path)).table["path"][0]).pixels.max() == 4000


def test_labels_are_read_whatever_their_blanks_and_letters_and_unknown_where_there_are_none(tmp_path):
    found = manifest(put(tmp_path), labels=["Kyphosis", "normal", "chronic changes"])
    assert (found.classes, found.task) == (["kyphosis", "normal", "chronic changes"], "multilabel")
    np.testing.assert_equal(found.labels()[:3], [[1, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert np.isnan(found.labels()[3:]).all()


def test_without_a_choice_classes_are_the_findings_of_enough_films(tmp_path):
    assert manifest(put(tmp_path), at_least=2).classes == ["chronic changes", "kyphosis", "pulmonary fibrosis"]
    assert manifest(tmp_path, at_least=3).classes == ["kyphosis"]
    none = manifest(tmp_path)
    assert (none.classes, none.task) == ([], None)


def test_what_was_left_out_is_counted(tmp_path, caplog):
    with caplog.at_level("INFO"):
        manifest(put(tmp_path))
    text = "left out 1 rows without image, patient or study and 1 films marked 'exclude'; the labels of 3 are unknown"
    assert text in caplog.text


@pytest.mark.parametrize(("views", "kept"), [("lateral", 1), ("all", 8), (["PA", "EXCLUDE"], 5), ("AP", 1)])
def test_projections_can_be_chosen(views, kept, tmp_path):
    assert len(manifest(put(tmp_path), views=views)) == kept


def test_films_that_are_not_here_are_left_out_and_none_at_all_is_an_error(tmp_path):
    paths = manifest(put(tmp_path)).table["path"]
    for path in paths[1:]:
        (tmp_path / path).unlink()
    assert len(manifest(tmp_path)) == 1
    (tmp_path / paths[0]).unlink()
    with pytest.raises(UserError, match="none of its 6 films, such as 2168_01-104-021"):
        manifest(tmp_path)


@pytest.mark.parametrize("column", ["ImageID", "PatientID", "StudyID", "Projection", "Labels"])
def test_a_missing_column_is_named_with_its_file(column, tmp_path):
    path = table(tmp_path)
    path.write_text(path.read_text().replace(f",{column}", ",Else", 1))
    with pytest.raises(UserError, match=rf"01\.02\.19\.csv: the column '{column}' is missing"):
        manifest(tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": ["cardiomegaly", "x"]}, "no film has the label 'cardiomegaly'"),
        ({"labels": "normal"}, "padchest: at_least is 1 or more and labels a list, not 100 and 'normal'"),
        ({"at_least": 0}, "padchest: at_least is 1 or more"),
        ({"views": "PB"}, "no film has the view 'PB'; views are frontal, lateral, all, AP, AP_horizontal"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        manifest(put(tmp_path), **options)


def test_a_folder_without_the_table_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"PADCHEST_.*\.csv is missing"):
        manifest(tmp_path)


def test_the_age_is_the_time_from_the_year_of_birth_to_the_study(tmp_path):
    put(tmp_path)
    found = manifest(tmp_path, at_least=1).table
    assert {*found["sex"]} == {"F"}
    assert {*found["age"]} == {84.0}
