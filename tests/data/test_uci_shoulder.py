import numpy as np
import pytest
from PIL import Image

from xrayssl.data.corpora.uci_shoulder import MAKERS, manifest
from xrayssl.errors import UserError

NAMES = [f"{maker}.{i}.jpg" for maker in MAKERS for i in (1, 2)]
HEAD = "file,manufacturer,group_id,block_id,label_conflict\n"


def put(root, layout="dataset/{maker}", names=NAMES):
    for name in names:
        folder = root / layout.format(maker=name.split(".")[0])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name)
    return root


def groups(root, lines=None):
    lines = [f"dataset/{n.split('.')[0]}/{n},x,g{i},b,0" for i, n in enumerate(NAMES)] if lines is None else lines
    (root / "groups.csv").write_text(HEAD + "\r\n".join(lines) + "\r\n", newline="")
    return lines


@pytest.mark.parametrize("layout", ["dataset/{maker}", "{maker}", "dataset", "."])
@pytest.mark.parametrize("grouped", [True, False])
def test_every_layout_gives_the_maker_of_every_film(layout, grouped, tmp_path):
    put(tmp_path, layout)
    if grouped:
        groups(tmp_path)
    found = manifest(tmp_path)
    makers = [MAKERS[k] for k in found.labels().argmax(axis=1)]
    assert makers == [path.split("/")[-1].split(".")[0] for path in found.table["path"]]
    assert (len(found), found.patients, found.task) == (8, 8, "multiclass")


def test_repeats_of_one_patient_are_grouped_even_across_makers(tmp_path):
    lines = groups(put(tmp_path))
    groups(tmp_path, [line.replace("g7", "g0").replace("g1,", "g0,") for line in lines])
    assert manifest(tmp_path).patients == 6


def test_a_film_under_two_makers_is_dropped(tmp_path):
    lines = groups(put(tmp_path))
    groups(tmp_path, [lines[0][:-1] + "1", *lines[1:]])
    assert NAMES[0] not in "".join(manifest(tmp_path).table["path"])


def test_without_groups_every_film_is_a_patient_and_that_is_said(tmp_path, caplog):
    assert manifest(put(tmp_path)).patients == 8
    assert "groups.csv is missing" in caplog.text


@pytest.mark.parametrize("column", ["file", "group_id", "label_conflict"])
def test_a_missing_column_is_named_with_its_file(column, tmp_path):
    groups(put(tmp_path))
    (tmp_path / "groups.csv").write_text((tmp_path / "groups.csv").read_text().replace(column, "else"))
    with pytest.raises(UserError, match=rf"groups\.csv: the column '{column}' is missing"):
        manifest(tmp_path)


@pytest.mark.parametrize(
    ("mend", "sentence"),
    [
        (lambda lines: lines[1:], r"no line for the film .*Cofield\.1\.jpg"),
        (lambda lines: [*lines, lines[0]], r"Cofield\.1\.jpg has more than one line"),
        (lambda lines: [lines[0][:-1], *lines[1:]], "'label_conflict' is empty in line 2"),
        (lambda lines: [lines[0][:-1] + "maybe", *lines[1:]], "label_conflict of .* must be 0 or 1"),
        (lambda lines: [lines[0].replace("g0", ""), *lines[1:]], "'group_id' is empty in line 2"),
    ],
)
def test_groups_that_do_not_tell_are_refused(mend, sentence, tmp_path):
    lines = groups(put(tmp_path))
    groups(tmp_path, mend(lines))
    with pytest.raises(UserError, match=rf"groups\.csv: .*{sentence}"):
        manifest(tmp_path)


def test_a_maker_without_films_is_named(tmp_path):
    with pytest.raises(UserError, match="no film of the maker 'Zimmer'"):
        manifest(put(tmp_path, names=NAMES[:-2]))


@pytest.mark.parametrize(("film", "told"), [("Stryker/x.jpg", "none of"), ("Zimmer/Depuy.9.jpg", "two makers")])
def test_a_film_without_one_maker_is_refused_by_name(film, told, tmp_path):
    folder, name = film.split("/")
    put(put(tmp_path), f"dataset/{folder}", [name])
    with pytest.raises(UserError, match=rf"{film}: folder and name tell {told}"):
        manifest(tmp_path)
