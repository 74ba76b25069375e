import hashlib
import json

import pandas as pd
import pytest

from xrayssl.data.exclusion import exclude
from xrayssl.data.manifest import BOX_COLUMNS, Manifest
from xrayssl.errors import UserError

NIH = ["images/00000001_000.png", "images/00000001_001.png", "images/00000002_000.png", "images/00000003_000.png"]
UUID = "47c78742-4998-4878-aec4-37b11b1354ac"


def films(paths=NIH, corpus="nih", split="train", patients=None):
    patients = patients or [f"{corpus}_{path.rsplit('/', 1)[-1].split('_')[0]}" for path in paths]
    table = pd.DataFrame({"path": [f"/{corpus}/{path}" for path in paths], "corpus": corpus, "patient": patients,
                          "study": "", "view": "", "split": split})  # fmt: skip
    return Manifest(table)


@pytest.fixture
def left(tmp_path):
    """Names of the films that stay when files of these names and contents are excluded."""

    def run(manifest, **lists):
        paths = []
        for name, content in lists.items():
            stem, _, suffix = name.rpartition("_")
            paths.append(tmp_path / f"{stem}.{suffix}")
            if isinstance(content, pd.DataFrame):
                content.to_parquet(paths[-1])
            else:
                paths[-1].write_text(content if isinstance(content, str) else json.dumps(content))
        return [path.split("/", 2)[2] for path in exclude(manifest, paths).table["path"]]

    return run


@pytest.mark.parametrize(
    "line", ["00000001_000", "00000001_000.png", "elsewhere/00000001_000.jpg", r"C:\films\00000001_000.DCM", "# no\n"
             "00000001_000  # bad", "\ufeff00000001_000\n\n"]
)  # fmt: skip
def test_a_film_is_known_by_its_name_without_folders_and_suffix(line, left):
    assert left(films(), list_txt=line) == NIH[1:]


def test_a_patient_goes_with_all_films(left):
    assert left(films(), list_txt="patient: nih_00000001\n") == NIH[2:]


def test_a_file_is_known_by_its_checksum(left, tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        path.write_bytes(path.name.encode())
    manifest = films([str(path) for path in paths], patients=["a", "b"])
    manifest.table["path"] = [str(path) for path in paths]
    listed = f"sha256:{hashlib.sha256(b'a.png').hexdigest().upper()}"
    assert [path.rsplit("/", 1)[-1] for path in left(manifest, list_txt=listed)] == ["b.png"]


def test_a_stores_checksums_are_taken_without_reading_its_films(left):
    manifest = films()
    manifest.table["sha256"] = [f"{i:064x}" for i in range(4)]
    assert left(manifest, list_txt=f"sha256:{2:064x}") == [*NIH[:2], NIH[3]]


def test_tables_list_films_or_patients_or_both(left):
    assert left(films(), t_csv="film\n/x/00000002_000.png\n") == [*NIH[:2], NIH[3]]
    assert left(films(), t_csv="patient,age\nnih_00000001,7\n,\n") == NIH[2:]
    predictions = pd.DataFrame({"index": [0], "film": ["/t/00000002_000.png"], "patient": ["nih_00000003"]})
    assert left(films(), t_parquet=predictions) == NIH[:2]
    index = pd.DataFrame({"path": ["/t/00000002_000.png"], "offset": [0], "patient": [None]})
    assert left(films(), t_parquet=index) == [*NIH[:2], NIH[3]]


def test_test_films_stay_and_films_without_a_split_go(left, caplog):
    manifest = films(split=["test", "test", "", "val"])
    with caplog.at_level("INFO"):
        assert left(manifest, list_txt="\n".join(NIH)) == NIH[:2]
    assert "list.txt: 2 films left out; 2 listed ones are test films, and stay" in caplog.text


def test_a_list_that_matches_nothing_is_a_warning_with_the_count(left, caplog):
    assert left(films(), list_txt="00000009_000", other_txt="# empty") == NIH
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "list.txt: 0 films left out" in caplog.text


def test_other_films_of_a_listed_films_patient_stay_and_are_told_of(left, caplog):
    assert left(films(), list_txt="00000001_000") == NIH[1:]
    assert "1 films that no list names are of the same patients, and stay" in caplog.text


def test_boxes_go_with_their_films(tmp_path):
    table = films().table.assign(Mass=1.0)
    boxes = pd.DataFrame([(path, "Mass", 0.1, 0.1, 0.2, 0.2) for path in table["path"]], columns=list(BOX_COLUMNS))
    (tmp_path / "l.txt").write_text("00000001_000")
    found = exclude(Manifest(table, ["Mass"], "multilabel", boxes, "study"), [tmp_path / "l.txt"])
    assert (found.boxes["path"].tolist(), found.score) == (found.table["path"].tolist(), "study")


CHEXPERT = [f"train/patient0000{i}/study{j}/view1_frontal.jpg" for i in (1, 2) for j in (1, 2)]


def test_where_films_share_a_name_their_folders_tell_them_apart(left):
    manifest = films(CHEXPERT, "chexpert", patients=["1", "1", "2", "2"])
    assert left(manifest, list_txt="CheXpert-v1.0/valid/patient00002/study1/view1_frontal.jpg") == [
        *CHEXPERT[:2], CHEXPERT[3]
    ]  # fmt: skip


def test_a_name_that_could_be_any_of_several_films_is_refused_with_its_line(left):
    manifest = films(CHEXPERT, "chexpert", patients=["1", "1", "2", "2"])
    with pytest.raises(UserError, match=r"list\.txt: line 2: 'view1_frontal' could be any of 4 films; write its fold"):
        left(manifest, list_txt="x\nview1_frontal.jpg")


def test_the_same_name_in_two_corpora_is_the_same_film(left):
    both = Manifest(pd.concat([films().table, films(corpus="copy").table], ignore_index=True))
    assert left(both, list_txt="00000001_000") == [*NIH[1:], *NIH[1:]]


def test_a_running_number_says_nothing_without_its_folder(left):
    manifest = films(["a/000001.png", "a/000002.png"], patients=["x", "y"])
    assert left(manifest, t_csv="film\n/other/b/000001.png\n") == ["a/000001.png", "a/000002.png"]
    assert left(manifest, t_csv="film\n/other/a/000001.png\n") == ["a/000002.png"]
    assert left(manifest, list_txt="000001") == ["a/000002.png"]


def test_a_uid_keeps_its_last_number(left):
    uids = ["1.2.840.1", "1.2.840.2", "1.2.840.10.dcm"]
    assert left(films(uids, patients=["x", "y", "z"]), list_txt="1.2.840.1\n1.2.840.10\n") == ["1.2.840.2"]


MAPPING = [{"subset_img_id": UUID, "img_id": NIH[2][7:]}, {"subset_img_id": "other", "img_id": NIH[3][7:]}]


def test_covidxs_test_list_and_the_official_mapping_keep_its_films_out_of_nih(left, caplog):
    lines = f"{UUID} {UUID}.png negative rsna\nCOVID 1 COVID(1).png positive sirm\nnCoV-1 x.jpg COVID-19\n"
    with caplog.at_level("INFO"):
        assert left(films(), test_txt=lines, map_json=MAPPING) == [*NIH[:2], NIH[3]]
    assert "1 listed films have another name" in caplog.text


def test_the_mapping_works_the_other_way_round_too(left):
    rsna = films([f"{UUID}.dcm", "abc.dcm"], "rsna", patients=["a", "b"])
    assert left(rsna, list_txt="00000002_000.png", map_json=MAPPING) == ["abc.dcm"]


def test_the_mapping_alone_lists_all_its_films(left):
    assert left(films(), map_json=MAPPING) == NIH[:2]


def test_a_mapping_that_translates_nothing_is_a_warning(left, caplog):
    assert left(films(), list_txt="00000001_000", map_json=MAPPING) == NIH[1:]
    assert "map.json: 0 listed films have another name" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("l_txt", "a\nsha256:12", r"l\.txt: line 2 is 'sha256:12'; write 64 digits"),
        ("l_txt", "patient:", r"l\.txt: line 1 is 'patient:'; write whom"),
        ("t_csv", "name\nx\n", r"t\.csv: the table has neither a column film or path nor one of patients"),
        ("m_json", {"a": 1}, r"m\.json: this is not the table of the RSNA challenge"),
        ("m_json", "[", r"m\.json: this is not the table of the RSNA challenge"),
        ("t_parquet", "PAR", r"t\.parquet: the table cannot be read"),
    ],
)
def test_a_list_that_is_none_is_refused_by_name(name, content, sentence, left):
    with pytest.raises(UserError, match=sentence):
        left(films(), **{name: content})


@pytest.mark.parametrize(("path", "sentence"), [("no.txt", "is not there"), (".", "is a folder; a list is a file")])
def test_a_list_that_is_not_there_is_named(path, sentence, tmp_path):
    with pytest.raises(UserError, match=f"this list of films to leave out {sentence}"):
        exclude(films(), [tmp_path / path])


def test_no_lists_change_nothing():
    manifest = films()
    assert exclude(manifest, []) is manifest
