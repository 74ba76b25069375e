import numpy as np
import pytest
from PIL import Image

from xrayssl.data.corpora.nih import FINDINGS, manifest
from xrayssl.data.split import assign
from xrayssl.errors import UserError

FIRST = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
SIZES = "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
DIALECTS = {"2017": (SIZES + ",", ",,,"), "2020": (SIZES, ""), "names of 12": (SIZES + ",,", ",,")}
FILMS = ["00000001_000", "00000001_001", "00000002_000", "00000003_000"]


def row(film, findings="No Finding", age="058Y", tail=""):
    return f"{film}.png,{findings},{film[-1]},{int(film[:8])},{age},M,PA,2682,2749,0.143,0.143{tail}"


def put(root, rows, dialect="2020", folder="images", suffix="png", films=FILMS):
    head, tail = DIALECTS[dialect]
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "Data_Entry_2017.csv").write_text("\n".join([FIRST + head, *(line + tail for line in rows)]) + "\n")
    for film in films:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / folder / f"{film}.{suffix}")
    (root / "train_val_list.txt").write_text("".join(f"{film}.png\n" for film in FILMS[:3]))
    (root / "test_list.txt").write_text("".join(f"{film}.png\n" for film in FILMS[3:]))
    return root


@pytest.fixture
def corpus(tmp_path):
    return put(tmp_path, map(row, FILMS))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_of_the_table_gives_the_same_films(dialect, tmp_path):
    found = manifest(put(tmp_path, [row(FILMS[0], "Mass|Hernia"), *map(row, FILMS[1:])], dialect))
    assert found.table["patient"].tolist() == ["nih_1", "nih_1", "nih_2", "nih_3"]
    assert found.table["view"].unique().tolist() == ["PA"]
    assert [FINDINGS[k] for k in np.flatnonzero(found.labels()[0])] == ["Mass", "Hernia"]


@pytest.mark.parametrize("age", ["058Y", "414", "", "000D"])
def test_impossible_ages_do_no_harm(age, tmp_path):
    assert len(manifest(put(tmp_path, [row(film, age=age) for film in FILMS]))) == 4


@pytest.mark.parametrize("folder", ["images", "images_001/images", "."])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_films_are_found_by_their_stem_in_every_layout(folder, suffix, tmp_path):
    found = manifest(put(tmp_path, map(row, FILMS), folder=folder, suffix=suffix))
    assert found.table["path"].tolist() == [str(tmp_path / folder / f"{film}.{suffix}") for film in FILMS]


def test_films_in_another_folder_are_not_mixed_in(corpus):
    put(corpus, map(row, FILMS), folder="images_1024")
    assert {path.split("/")[-2] for path in manifest(corpus).table["path"]} == {"images"}


def test_the_official_lists_are_the_split_and_validation_is_cut_from_train(corpus):
    assert manifest(corpus).table["split"].tolist() == ["train", "train", "train", "test"]
    table = assign(manifest(corpus)).table
    assert sorted(table["split"].unique()) == ["test", "train", "val"]
    assert table.groupby("patient")["split"].nunique().max() == 1


def test_findings_are_matched_as_tokens(tmp_path):
    table = manifest(put(tmp_path, [row(FILMS[0], "Pneumothorax"), row(FILMS[1], "Mass | Edema")])).table
    assert table["Pneumonia"].sum() == 0
    assert table[["Mass", "Edema"]].to_numpy().tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("foreign", ["Infiltrate", "mass", "Mass|Fracture", "Mass||Edema"])
def test_a_finding_outside_the_vocabulary_is_refused_with_its_film(foreign, tmp_path):
    with pytest.raises(UserError, match=r"00000001_000\.png: the finding '.*' is none of the 14"):
        manifest(put(tmp_path, [row(FILMS[0], foreign)]))


def test_films_that_are_not_here_are_left_out(tmp_path):
    assert len(manifest(put(tmp_path, map(row, FILMS), films=FILMS[:2]))) == 2


def test_a_table_without_any_of_its_films_is_an_error(tmp_path):
    with pytest.raises(UserError, match="none of the films in Data_Entry_2017"):
        manifest(put(tmp_path, map(row, FILMS), films=["other"]))


@pytest.mark.parametrize("column", ["Image Index", "Finding Labels", "Patient ID"])
def test_a_missing_column_is_named_with_its_file(column, corpus):
    table = corpus / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace(column, "Else"))
    with pytest.raises(UserError, match=rf"Data_Entry_2017\.csv: the column '{column}' is missing"):
        manifest(corpus)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"", "cannot be read"), (b"\xff\xfe\x00\x01", "cannot be read"), ((FIRST + SIZES + "\n").encode(), "no rows")],
)
def test_an_empty_or_unreadable_table_is_named(content, sentence, corpus):
    (corpus / "Data_Entry_2017.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"Data_Entry_2017\.csv: .*{sentence}"):
        manifest(corpus)


def test_a_blank_finding_is_refused_with_its_line(tmp_path):
    with pytest.raises(UserError, match=r"Data_Entry_2017\.csv: the column 'Finding Labels' is empty in line 3"):
        manifest(put(tmp_path, [row(FILMS[0]), row(FILMS[1], "")]))


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Data_Entry_2017\.csv of the NIH corpus is missing"):
        manifest(tmp_path)


def test_a_film_that_stands_twice_anywhere_is_refused(corpus, tmp_path):
    put(corpus, map(row, FILMS), folder="images_001/images")
    with pytest.raises(UserError, match="00000001_000 is here more than once"):
        manifest(corpus)
    with pytest.raises(UserError, match=r"Data_Entry_2017\.csv: the film 00000001_000 is here more than once"):
        manifest(put(tmp_path / "b", [row(FILMS[0]), row(FILMS[0], "Mass")]))


def test_a_film_on_both_lists_or_an_empty_list_is_refused(corpus):
    (corpus / "test_list.txt").write_text("00000002_000.png\n")
    with pytest.raises(UserError, match=r"test_list\.txt: the film 00000002_000 stands in train_val_list\.txt too"):
        manifest(corpus)
    (corpus / "test_list.txt").write_text("")
    with pytest.raises(UserError, match=r"test_list\.txt: the list is empty"):
        manifest(corpus)


def test_lists_that_windows_saved_are_read_or_refused_by_name(corpus):
    path = corpus / "test_list.txt"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert manifest(corpus).table["split"].tolist() == ["train", "train", "train", "test"]
    path.write_text(path.read_text(), encoding="utf-16")
    with pytest.raises(UserError, match=r"test_list\.txt: the list is not UTF-8 text"):
        manifest(corpus)


def test_films_in_neither_list_are_told_of(corpus, caplog):
    (corpus / "train_val_list.txt").write_text(f"{FILMS[0]}.png\n{FILMS[1]}.png\n")
    assert manifest(corpus).table["split"].tolist() == ["train", "train", "", "test"]
    assert "1 films, such as 00000002_000, stand in neither list" in caplog.text


def test_a_patient_on_both_lists_is_refused(corpus):
    (corpus / "train_val_list.txt").write_text("00000001_000.png\n00000002_000.png")
    (corpus / "test_list.txt").write_text("00000001_001.png\n")
    with pytest.raises(UserError, match="patient 'nih_1' stands in more than one split"):
        manifest(corpus)


BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def boxed(corpus, *rows):
    (corpus / "BBox_List_2017.csv").write_text(BOXES + "".join(f"{row}\n" for row in rows))
    return corpus


def test_boxes_are_fractions_of_1024_pixels_whatever_size_the_films_have(corpus):
    boxed(corpus, "00000003_000.png,Infiltrate,256,512,128,64.0", "00000003_000.png,Mass,0,0,1024,1024,,,")
    found = manifest(corpus).boxes
    path = str(corpus / "images/00000003_000.png")
    assert found.to_numpy().tolist() == [
        [path, "Infiltration", 0.25, 0.5, 0.125, 0.0625],
        [path, "Mass", 0, 0, 1, 1],
    ]


def test_a_box_that_reaches_over_the_edge_ends_there(corpus):
    found = manifest(boxed(corpus, "00000003_000.png,Mass,1000,-10,100,20")).boxes
    assert found[["left", "top", "width", "height"]].iloc[0].tolist() == [1000 / 1024, 0, 24 / 1024, 10 / 1024]


def test_boxes_of_films_that_are_not_here_are_left_out_with_a_count(corpus, caplog):
    with caplog.at_level("INFO"):
        found = manifest(boxed(corpus, "00000003_000.png,Mass,1,1,2,2", "00000099_000.png,Mass,1,1,2,2"))
    assert len(found.boxes) == 1
    assert "1 of its 2 boxes are of films that are here" in caplog.text


def test_a_corpus_without_the_list_of_boxes_has_none(corpus):
    assert manifest(corpus).boxes is None


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("00000003_000.png,Fracture,1,1,2,2", "the finding 'Fracture' in line 2 is none of the 14"),
        ("00000003_000.png,Mass,1,one,2,2", "the column 'y' holds 'one' in line 2, which is no number"),
        ("00000003_000.png,Mass,1,1,2", r"the column 'h\]' is empty in line 2"),
    ],
)
def test_a_box_that_is_none_is_refused_with_its_line(row, sentence, corpus):
    with pytest.raises(UserError, match=rf"BBox_List_2017\.csv: {sentence}"):
        manifest(boxed(corpus, row))


def test_sex_and_age_are_those_of_the_table_and_slips_are_unknown(tmp_path):
    table = manifest(put(tmp_path, [row(FILMS[0], age="414"), *(row(film, age="058Y") for film in FILMS[1:])])).table
    assert table["sex"].tolist() == ["M"] * 4
    assert table["age"].tolist() == pytest.approx([np.nan, 58.0, 58.0, 58.0], nan_ok=True)
