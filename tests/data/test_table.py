import gzip

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xrayssl.data.corpora import gather
from xrayssl.data.corpora.table import manifest
from xrayssl.data.split import assign
from xrayssl.errors import UserError

ROWS = [
    {"path": "a/1.png", "patient_id": "007", "fracture": "1", "implant": "0", "maker": "Zimmer"},
    {"path": "a/2.png", "patient_id": "007", "fracture": "", "implant": "1", "maker": "Depuy"},
    {"path": "b/3.png", "patient_id": "8", "fracture": "0", "implant": "0", "maker": ""},
    {"path": "b/4.png", "patient_id": "9", "fracture": "0", "implant": "1", "maker": "Zimmer"},
]


def save(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((40, 32), np.uint8)).save(root / name)


def put(root, rows=ROWS, name="films.csv", films=True, separator=",", **columns):
    """Writes the table (further columns: a list of cells each) and its films."""
    table = pd.DataFrame(rows).assign(**columns)
    if films:
        save(root, *(row["path"] for row in ROWS))
    table.to_csv(root / name, index=False, sep=separator)
    return root / name


def refused(*arguments, **options):
    with pytest.raises(UserError) as caught:
        manifest(*arguments, **options)
    return "\n".join(caught.value.messages)


# Labels


def test_columns_of_1_0_and_blank_are_findings(tmp_path):
    found = manifest(put(tmp_path), labels=["fracture", "implant"])
    assert (found.classes, found.task) == (["fracture", "implant"], "multilabel")
    np.testing.assert_array_equal(found.labels(), [[1, 0], [np.nan, 1], [0, 0], [0, 1]])


def test_one_column_of_1_and_0_is_one_finding(tmp_path):
    found = manifest(put(tmp_path), labels="implant")
    assert (found.classes, found.task) == (["implant"], "multilabel")


def test_one_column_of_names_is_classes_and_a_blank_is_an_unlabelled_film(tmp_path):
    found = manifest(put(tmp_path), labels="maker")
    assert (found.classes, found.task) == (["Depuy", "Zimmer"], "multiclass")
    np.testing.assert_array_equal(found.labels(), [[0, 1], [1, 0], [np.nan, np.nan], [0, 1]])


@pytest.mark.parametrize("mark", ["|", " | ", ";"])
def test_one_column_that_lists_names_is_findings(mark, tmp_path):
    path = put(tmp_path, seen=[f"Mass{mark}Edema", "Edema", "", "No Finding"])
    found = manifest(path, labels="seen")
    assert (found.classes, found.task) == (["Edema", "Mass", "No Finding"], "multilabel")
    np.testing.assert_array_equal(found.labels(), [[1, 1, 0], [1, 0, 0], [np.nan] * 3, [0, 0, 1]])


def test_several_columns_can_be_classes_of_which_one_holds(tmp_path):
    one_hot = {"A": [1, 0, 0, ""], "B": [0, 1, 0, ""], "C": [0, 0, 1, ""]}
    path = put(tmp_path, **one_hot)
    assert manifest(path, labels=["A", "B", "C"], task="multiclass").task == "multiclass"
    assert "needs exactly one class" in refused(put(tmp_path, **one_hot | {"B": [1, 1, 0, ""]}),
                                                labels=["A", "B", "C"], task="multiclass")  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "expected"), [(["10", "2", "2", "1"], ["1", "2", "10"]), (["2", "10", "", "9"], ["2", "9", "10"])]
)
def test_classes_that_are_numbers_stand_in_their_order(cells, expected, tmp_path):
    assert manifest(put(tmp_path, grade=cells), labels="grade").classes == expected


def test_a_column_of_1_and_0_is_two_classes_if_one_says_so(tmp_path):
    found = manifest(put(tmp_path), labels="implant", task="multiclass")
    assert (found.classes, found.task) == (["0", "1"], "multiclass")


@pytest.mark.parametrize("cells", [["1", "0", "", "0"], ["yes", "No", "", "no"], ["TRUE", "False", "NA", "false"],
                                   ["1.0", "0.0", "nan", "0.0"]])  # fmt: skip
def test_outcomes_are_read_as_people_and_programs_write_them(cells, tmp_path):
    found = manifest(put(tmp_path, sick=cells), labels="sick")
    np.testing.assert_array_equal(found.labels()[:, 0], [1, 0, np.nan, 0])


def test_without_labels_the_films_are_unlabelled_and_columns_that_could_be_labels_are_told(tmp_path, caplog):
    caplog.set_level("INFO")
    found = manifest(put(tmp_path))
    assert (found.classes, found.task) == ([], None)
    assert "could be labels: fracture, implant. Name them with labels" in caplog.text


def test_what_was_taken_for_what_is_told(tmp_path, caplog):
    caplog.set_level("INFO")
    manifest(put(tmp_path), labels="maker")
    assert "4 films; path from 'path', patient from 'patient_id'; labels: Depuy, Zimmer" in caplog.text


@pytest.mark.parametrize(("uncertain", "expected"), [("ones", 1), ("zeros", 0), ("ignore", np.nan)])
def test_minus_1_counts_as_one_says(uncertain, expected, tmp_path):
    found = manifest(put(tmp_path, sick=["-1", "1", "0", ""]), labels="sick", uncertain=uncertain)
    np.testing.assert_array_equal(found.labels()[:, 0], [expected, 1, 0, np.nan])


def test_minus_1_is_refused_with_the_option_that_settles_it(tmp_path):
    told = refused(put(tmp_path, sick=["1", "-1", "-1.0", "0"]), labels=["sick"])
    assert "films.csv, line 3: the label 'sick' is -1, uncertain, in 2 films; say what it counts as" in told
    assert "uncertain: ones, zeros or ignore" in told


@pytest.mark.parametrize(
    ("cells", "labels", "told"),
    [
        (["1", "0", "2", "0"], ["sick", "implant"], "line 4: the label 'sick' is '2'; write 1, 0 or leave it empty."),
        (["1", "0", "x", "0"], ["sick"], "line 4: the label 'sick' is 'x'; write 1, 0 or leave it empty, or, if these"),
        (["A", "a", "B", "B"], ["sick"], "the classes 'A' and 'a' of 'sick' differ only in case"),
        (["A", "A", "A", ""], ["sick"], "has one value alone, 'A'; classes are 2 to"),
        (["A", "B", "view", ""], ["sick"], "a label's class cannot be called 'view'"),
        (
            ["1", "0", "1", "0"],
            ["sik"],
            "no column 'sik' for labels. Did you mean 'sick'? The columns are: path",
        ),
        (["1", "0", "1", "0"], ["sick", "sick"], "the column 'sick' is named twice"),
        (["1", "0", "1", "0"], ["path"], "a label's column cannot be called 'path'"),
    ],
)
def test_a_label_that_does_not_tell_is_refused_with_its_line(cells, labels, told, tmp_path):
    assert told in refused(put(tmp_path, sick=cells), labels=labels)


def test_all_that_is_wrong_with_labels_comes_at_once(tmp_path):
    path = put(tmp_path, sick=["1", "x", "0", ""], old=["1", "0", "-1", ""])
    told = refused(path, labels=["sick", "old", "implant"])
    assert "'sick' is 'x'" in told and "'old' is -1" in told


def test_columns_whose_names_are_numbers_can_be_named_as_numbers(tmp_path):
    assert manifest(put(tmp_path, **{"7": ["1", "0", "1", "0"]}), labels=[7]).classes == ["7"]


def test_names_are_no_findings(tmp_path):
    assert "line 2: the label 'maker' is 'Zimmer'; write 1, 0" in refused(
        put(tmp_path), labels="maker", task="multilabel"
    )
    assert "the class 'grade' is '-1'; leave it empty" in refused(
        put(tmp_path, grade=["1", "2", "-1", "3"]), labels="grade", task="multiclass"
    )


def test_measurements_are_no_classes(tmp_path):
    rows = [ROWS[0] | {"path": f"a/{k}.png", "age": f"{k}.5"} for k in range(201)]
    save(tmp_path, *(row["path"] for row in rows))
    assert "'age' has 201 different values; classes are 2 to 200" in refused(put(tmp_path, rows), labels="age")


# Patients, studies, views, splits


def test_patients_stay_text_and_usual_names_are_found_whatever_their_case(tmp_path):
    path = put(tmp_path, **{"Study ID": ["s1", "s2", "s3", "s4"], "ViewPosition": "AP", "SPLIT": "Training"})
    table = manifest(path).table
    assert table["patient"].tolist() == ["007", "007", "8", "9"]
    assert table["study"].tolist() == ["s1", "s2", "s3", "s4"]
    assert (table["view"].unique().tolist(), table["split"].unique().tolist()) == (["AP"], ["train"])


def test_columns_can_be_named(tmp_path):
    path = put(tmp_path, who=["x", "x", "y", "y"], when=["1", "2", "3", "3"])
    table = manifest(path, patient="who", study="when").table
    assert (table["patient"].tolist(), table["study"].tolist()) == (["x", "x", "y", "y"], ["1", "2", "3", "3"])


def test_without_patients_every_film_is_one_and_that_is_said(tmp_path, caplog):
    rows = [{"path": row["path"]} for row in ROWS]
    found = manifest(put(tmp_path, rows))
    assert found.patients == 4
    assert "no column of patients: every film counts as one" in caplog.text


def test_without_patients_films_of_one_study_stay_together(tmp_path, caplog):
    rows = [{"path": row["path"], "study": study} for row, study in zip(ROWS, ["s", "s", "", ""], strict=True)]
    assert manifest(put(tmp_path, rows)).table["patient"].tolist() == ["s", "s", "b/3.png", "b/4.png"]
    assert "every study counts as one" in caplog.text


def test_splits_are_understood_and_blanks_are_assigned(tmp_path):
    path = put(tmp_path, split=["Train", "training", "Validation", ""])
    assert manifest(path).table["split"].tolist() == ["train", "train", "val", ""]
    assert assign(manifest(path)).table["split"].tolist() == ["train", "train", "val", "train"]


def test_an_unknown_split_is_refused_with_its_line_and_those_there_are(tmp_path):
    told = refused(put(tmp_path, split=["train", "fold1", "", ""]))
    assert "line 3: 'split' is 'fold1', no split; splits are train, training, val" in told


def test_a_patient_in_two_splits_is_refused(tmp_path):
    assert "The patient '007' stands in more than one split" in refused(
        put(tmp_path, split=["train", "test", "test", "val"])
    )


def test_a_film_without_a_patient_is_refused_with_its_line(tmp_path):
    rows = [*ROWS[:2], ROWS[2] | {"patient_id": " "}, ROWS[3]]
    assert "films.csv, line 4: 'patient_id' is empty" in refused(put(tmp_path, rows))


def test_studies_can_be_scored_if_there_are_any(tmp_path):
    assert manifest(put(tmp_path, study=["s", "s", "t", "u"]), score="study").score == "study"
    assert "score: study needs a column of studies; set study" in refused(put(tmp_path), score="study")


def test_films_of_one_study_in_different_classes_cannot_be_scored_together(tmp_path):
    path = put(tmp_path, study=["s", "s", "t", "u"])
    assert "the films of the study 's' are of different classes" in refused(path, labels="maker", score="study")
    rows = [{**ROWS[0], "study": "1"}, *({**row, "study": "1", "patient_id": str(k)} for k, row in enumerate(ROWS[1:]))]
    assert manifest(put(tmp_path, rows), labels="maker", score="study").score == "study"


def test_a_column_of_a_usual_name_need_not_be_taken(tmp_path):
    assert manifest(put(tmp_path, split=["fold1"] * 4), split="").table["split"].unique().tolist() == [""]


@pytest.mark.parametrize("option", ["path", "patient", "study", "view", "split"])
def test_a_column_that_is_not_there_is_named_with_the_one_that_was_meant(option, tmp_path):
    told = refused(put(tmp_path), **{option: "Patient_ld"})
    assert f"there is no column 'Patient_ld' for {option}. Did you mean 'patient_id'?" in told


def test_a_table_without_paths_asks_for_the_column(tmp_path):
    told = refused(put(tmp_path, [{"picture": row["path"]} for row in ROWS]))
    assert "which column holds the films' paths? Set path to one. The columns are: picture." in told


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"uncertain": "maybe"}, "uncertain must be null, ones, zeros, ignore, not 'maybe'"),
        ({"missing": "drop"}, "missing must be raise, skip, not 'drop'"),
        ({"score": "patient"}, "score must be film, study, not 'patient'"),
        ({"task": "binary"}, "task must be null, multilabel, multiclass, not 'binary'"),
    ],
)
def test_options_that_make_no_sense_are_refused(option, told, tmp_path):
    assert told in refused(put(tmp_path), **option)


# Films


def test_paths_start_from_the_table_or_from_the_folder_of_films(tmp_path):
    (tmp_path / "x").mkdir()
    put(tmp_path / "x")
    beside = manifest(tmp_path / "x/films.csv").table["path"]
    (tmp_path / "tables").mkdir()
    (tmp_path / "x/films.csv").rename(tmp_path / "tables/films.csv")
    assert manifest(tmp_path / "tables/films.csv", films="../x").table["path"].equals(beside)
    assert manifest(tmp_path / "tables/films.csv", films=str(tmp_path / "x")).table["path"].equals(beside)


def test_absolute_paths_and_windows_paths_are_understood(tmp_path):
    names = [str(tmp_path / "a/1.png"), "a\\2.png", "./b/3.png", "a/../b/4.png"]
    rows = [row | {"path": name} for row, name in zip(ROWS, names, strict=True)]
    assert manifest(put(tmp_path, rows)).table["path"].tolist() == [str(tmp_path / row["path"]) for row in ROWS]


@pytest.mark.parametrize(
    "names", [["1", "2", "3", "4"], ["a/1", "a/2", "b/3", "b/4"], ["1.jpg", "2.dcm", "3.PNG", "4"]]
)
def test_suffixes_may_be_left_out_and_folders_where_names_are_unique(names, tmp_path):
    rows = [row | {"path": name} for row, name in zip(ROWS, names, strict=True)]
    assert manifest(put(tmp_path, rows)).table["path"].tolist() == [str(tmp_path / row["path"]) for row in ROWS]


def test_a_name_that_could_be_two_films_is_refused_with_both(tmp_path):
    save(tmp_path, "c/4.png")
    told = refused(put(tmp_path, [*ROWS[:3], ROWS[3] | {"path": "4"}]))
    assert f"line 5: the film '4' could be {tmp_path}/b/4.png or {tmp_path}/c/4.png" in told


def test_missing_films_are_named_or_left_out(tmp_path, caplog):
    path = put(tmp_path)
    (tmp_path / "b/3.png").unlink()
    told = refused(path)
    assert f"1 of 4 films are missing, such as b/3.png (looked for {tmp_path}/b/3.png). To leave them out" in told
    assert len(manifest(path, missing="skip")) == 3
    assert "left out 1 films that are missing, such as b/3.png" in caplog.text


def test_a_table_none_of_whose_films_is_there_asks_for_their_folder(tmp_path, monkeypatch):
    path = put(tmp_path, films=False)
    for missing in ("raise", "skip"):
        assert "4 of 4 films are missing" in refused(path, missing=missing)
    assert "Set films to the folder that the paths start from" in refused(path)
    (tmp_path / "here/images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert f"films is seen from the table's folder; write {tmp_path}/here/images" in refused(path, films="images")


def test_a_film_in_two_lines_is_refused_with_both(tmp_path):
    rows = [*ROWS[:3], ROWS[3] | {"path": "a\\1.png"}]
    assert "line 5: the film 'a\\\\1.png' is that of line 2, too" in refused(put(tmp_path, rows))


# Files


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_every_usual_separator_is_understood(separator, tmp_path):
    path = put(tmp_path, separator=separator, note=["a,b", "x;y", '"q"', ""])
    assert manifest(path, labels="implant").labels()[:, 0].tolist() == [0, 1, 0, 1]


def test_parquet_and_compressed_tables_give_the_same_as_csv(tmp_path):
    path = put(tmp_path)
    expected = manifest(path, labels=["fracture", "implant"])
    (tmp_path / "films.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    typed = pd.DataFrame(ROWS).assign(fracture=[1.0, None, 0.0, 0.0], implant=[False, True, False, True])
    typed.to_parquet(tmp_path / "films.parquet")
    for name in ("films.csv.gz", "films.parquet"):
        found = manifest(tmp_path / name, labels=["fracture", "implant"])
        pd.testing.assert_frame_equal(found.table, expected.table)


def test_numbers_of_a_parquet_table_become_the_text_they_are_written_as(tmp_path):
    put(tmp_path)
    pd.DataFrame(ROWS).assign(patient_id=[7.0, 7.0, 8.0, 9.0]).to_parquet(tmp_path / "films.parquet")
    assert manifest(tmp_path / "films.parquet").table["patient"].tolist() == ["7", "7", "8", "9"]
    pd.DataFrame(ROWS).assign(patient_id=[7.0, 7.05, 10.03, 1e30]).to_parquet(tmp_path / "films.parquet")
    assert manifest(tmp_path / "films.parquet").table["patient"].tolist() == ["7", "7.05", "10.03", "1e+30"]
    pd.DataFrame(ROWS).assign(patient_id=[7.0, None, 8.0, 9.0]).to_parquet(tmp_path / "films.parquet")
    assert "films.parquet, row 2: 'patient_id' is empty" in refused(tmp_path / "films.parquet")


def test_a_folder_with_one_table_will_do(tmp_path):
    put(tmp_path)
    (tmp_path / "notes.txt").write_text("no table")
    assert len(manifest(tmp_path)) == 4
    put(tmp_path, name="more.csv")
    assert "name the table itself, for it holds films.csv, more.csv" in refused(tmp_path)
    assert "name the table itself, for there is none in it" in refused(tmp_path / "a")


def test_blank_lines_do_not_count_and_do_not_shift_the_lines_told(tmp_path):
    path = put(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "", ",,,,", *lines[2:], "", ""]))
    assert len(manifest(path)) == 4
    path.write_text(path.read_text().replace("a/2.png,007", "a/2.png,"))
    assert "line 5: 'patient_id' is empty" in refused(path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", b"", "cannot be read"),
        ("t.csv", b"path,patient\n", "the table has no rows"),
        ("t.csv", "path\nä.png\n".encode("latin-1"), "is not UTF-8 text; save it as CSV"),
        ("t.csv", b"path,note\n1.png,a,b\n", "lines have more cells than the header; quote text that holds ','"),
        ("t.csv", b"path,note\n1.png,a\n2.png,a,b\n", "Expected 2 fields in line 3, saw 3"),
        ("t.csv.gz", b"no gzip", "cannot be read"),
        ("t.parquet", b"no parquet", "cannot be read"),
        ("t.xlsx", b"PK", "this is no CSV or parquet file; save the table as CSV"),
    ],
)
def test_a_file_that_is_no_table_is_named(name, content, told, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert told in refused(tmp_path / name)


# Boxes

HEAD = "path,label,left,top,width,height\n"


def test_boxes_in_pixels_become_fractions_of_their_films(tmp_path):
    path = put(tmp_path)
    (tmp_path / "boxes.csv").write_text(HEAD + "a/1.png,fracture,8,10,16,20\nb/3.png,implant,-4,0,12,60\n")
    boxes = manifest(path, labels=["fracture", "implant"], boxes="boxes.csv").boxes
    expected = [[0.25, 0.25, 0.5, 0.5], [0, 0, 0.25, 1]]
    assert boxes[["left", "top", "width", "height"]].to_numpy().tolist() == expected
    assert boxes["path"].tolist() == [str(tmp_path / "a/1.png"), str(tmp_path / "b/3.png")]


def test_boxes_in_fractions_are_taken_as_they_are(tmp_path):
    path = put(tmp_path)
    (tmp_path / "boxes.csv").write_text(HEAD + "a/1.png,fracture,0.25,0,0.5,1\n")
    boxes = manifest(path, labels=["fracture"], boxes="boxes.csv").boxes
    assert boxes[["left", "top", "width", "height"]].to_numpy().tolist() == [[0.25, 0, 0.5, 1]]


def test_a_folder_with_a_table_and_its_boxes_will_do(tmp_path):
    put(tmp_path)
    (tmp_path / "boxes.csv").write_text(HEAD + "a/1.png,fracture,0.25,0,0.5,1\n")
    assert len(manifest(tmp_path, labels=["fracture"], boxes="boxes.csv").boxes) == 1


def test_boxes_of_films_that_were_left_out_are_left_out(tmp_path):
    path = put(tmp_path)
    (tmp_path / "a/1.png").unlink()
    (tmp_path / "boxes.csv").write_text(HEAD + "a/1.png,fracture,8,10,16,20\n")
    assert len(manifest(path, labels=["fracture"], boxes="boxes.csv", missing="skip").boxes) == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("path,label\nx,y\n", "boxes.csv: the column 'left' is missing"),
        ("path,left\nx,1\n", "boxes need the columns path, label, left, top, width, height"),
        (HEAD + "a/9.png,fracture,0,0,1,1\n", "boxes.csv, line 2: the film 'a/9.png' of a box is not in"),
        (HEAD + "a/1.png,fracture,0,0,1,x\n", "the column 'height' holds 'x' in line 2"),
        (HEAD + "a/1.png,fracture,0,0,1,1.5\n", "the largest number of its boxes is 1.5: neither fractions nor pixels"),
        (HEAD + "a/1.png,mass,0,0,1,1\n", "the box of 'mass' cannot be used: the class is none of fracture"),
    ],
)
def test_boxes_that_do_not_tell_are_refused(content, told, tmp_path):
    path = put(tmp_path)
    (tmp_path / "boxes.csv").write_text(content)
    assert told in refused(path, labels=["fracture"], boxes="boxes.csv")


def test_a_table_is_a_corpus_like_any_other(tmp_path):
    path = put(tmp_path)
    (found,) = gather({"table": {"root": str(path), "labels": ["fracture"], "patient": "patient_id"}})
    assert (found.table["corpus"].unique().tolist(), found.classes) == (["table"], ["fracture"])


# Subgroups


def test_columns_of_sex_and_age_are_found_by_their_usual_names_or_named(tmp_path):
    told = {"Patient Gender": ["Female", "m", "", "?"], "years": ["40", "6.5", "", "x"]}
    table = manifest(put(tmp_path, **told), age="years").table
    assert table["sex"].tolist() == ["F", "M", "", ""]
    assert table["age"].tolist() == pytest.approx([40.0, 6.5, np.nan, np.nan], nan_ok=True)
    assert "age" not in manifest(put(tmp_path, **told)).table
    assert "sex" not in manifest(put(tmp_path, **told), sex="").table


def test_sex_can_be_what_is_learned_by_its_names_but_not_as_a_column_of_1_and_0(tmp_path):
    assert manifest(put(tmp_path, sex=["F", "M", "", "F"]), labels="sex").classes == ["F", "M"]
    said = refused(put(tmp_path, sex=["1", "0", "1", "0"]), labels=["sex"])
    assert "a label's column cannot be called 'sex'" in said
