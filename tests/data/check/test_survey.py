import numpy as np
import pandas as pd
import pytest
import stores
from dicoms import dicom
from phantoms import small
from PIL import Image

from xrayssl.data import XrayDataModule
from xrayssl.data.check.matches import copies
from xrayssl.data.check.survey import SIDE, View, opened, seen, sources, survey
from xrayssl.data.check.tally import set_out, tally
from xrayssl.errors import UserError

ARGUMENTS = {"val": 0.15, "test": 0.2, "split_seed": 0, "exclude": None}


@pytest.fixture
def film(tmp_path):
    pixels = np.tile(np.arange(0, 4000, 50, dtype=np.uint16), (60, 1))
    Image.fromarray(pixels).save(tmp_path / "film.png")
    return tmp_path / "film.png"


def table(*paths, **columns):
    return pd.DataFrame({"path": [str(path) for path in paths], **columns})


def test_size_depth_and_checksum_of_a_film_are_seen(film):
    found = seen(View(), {"path": str(film)})
    assert (found.problem, found.height, found.width, found.bits) == ("", 60, 80, 12)
    assert len(found.checksum) == 64 and np.isnan(found.spacing)
    assert found.thumbnail.shape == (SIDE, SIDE) and found.thumbnail.dtype == np.uint8


@pytest.mark.parametrize("window", ["voi", "percentile"])
def test_the_depth_of_a_dicom_film_is_that_of_its_file_whatever_its_window(window, tmp_path):
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    path = dicom(tmp_path / "film.dcm", values, BitsStored=12, HighBit=11, WindowCenter=900, WindowWidth=1500)
    assert seen(View(window), {"path": str(path)}).bits == 12


def test_a_film_that_cannot_be_read_comes_with_the_reason(film, tmp_path):
    (tmp_path / "bad.png").write_bytes(film.read_bytes()[:60])
    known, thumbnails = survey(table(film, tmp_path / "bad.png", tmp_path / "gone.png"), View(), 0)
    assert known["problem"].map(bool).tolist() == [False, True, True]
    assert thumbnails[0].any() and not thumbnails[1:].any()
    assert known["checksum"].str.len().tolist() == [64, 0, 0]


@pytest.mark.parametrize("limits", [(5.0, 2.0), (-1.0, 50.0), (0.0, 101.0)])
def test_limits_that_are_no_percentiles_are_refused(limits):
    with pytest.raises(UserError, match=r"--data\.limits must be percentiles"):
        View("percentile", limits)


def test_two_processes_see_what_one_sees(film):
    films = table(*[film] * 5)
    (one, thumbnails), (two, others) = survey(films, View(), 0), survey(films, View(), 2)
    pd.testing.assert_frame_equal(one, two)
    assert (thumbnails == others).all()


def test_the_items_of_the_processes_are_small(film):
    assert sources(table(film, patient="p", label=1.0)) == [{"path": str(film)}]


def test_corpora_are_split_as_training_splits_them_and_keep_all_their_labels():
    both = opened({**small("chest"), "xrayssl.data.corpora.phantom": small("shoulder")["phantom"]}, ARGUMENTS)
    assert len(both.table) == 48 and set(both.table["split"]) == {"train", "val", "test"}
    chest, shoulder = both.classes.values()
    assert set(chest).isdisjoint(shoulder) and both.table[chest].notna().all(axis=1).sum() == 24


def test_a_list_of_films_to_leave_out_is_followed(tmp_path):
    every = opened(small("chest"), ARGUMENTS).table
    learned = every["patient"][every["split"] == "train"].iloc[0]
    (tmp_path / "list.txt").write_text(f"patient:{learned}\n")
    left = opened(small("chest"), {**ARGUMENTS, "exclude": [str(tmp_path / "list.txt")]}).table
    assert 0 < len(left) < len(every) and learned not in set(left["patient"])


def test_a_store_and_raw_films_are_surveyed_together(tmp_path):
    stores.store(stores.corpus(tmp_path / "raw"), tmp_path / "store")
    raw = {"xrayssl.data.corpora.phantom": small("chest")["phantom"]}
    both = opened({"folder": str(tmp_path / "store"), **raw}, ARGUMENTS)
    known, thumbnails = survey(both.table, View(), 0)
    assert not known["problem"].any() and known["checksum"].str.len().eq(64).all()
    assert len(known) == 38 and "same file" not in set(copies(known, thumbnails, 0)["how"])


def test_a_corpus_that_is_not_there_is_told():
    with pytest.raises(UserError, match="no such folder"):
        opened({"nih": "/nowhere"}, ARGUMENTS)


def counted(**columns):
    films = pd.DataFrame({"path": ["a", "b", "c", "d"], "patient": ["p", "p", "q", "r"], "study": list("stuv"),
                          "view": ["PA", "PA", "", "PA"], "split": ["train", "train", "val", "test"],
                          "problem": ["", "", "", "no film"], "film_height": [10, 10, 10, 0], "bits": [8, 8, 12, 0],
                          "film_width": [20, 20, 30, 0], "spacing": [0.1, 0.2, np.nan, np.nan], **columns})  # fmt: skip
    return tally(films, [name for name in columns if name in ("Mass", "Edema")])


def test_films_patients_and_labels_are_counted_per_split():
    found = counted(Mass=[1.0, 0.0, 1.0, np.nan], Edema=[1.0, 0.0, 0.0, np.nan])
    assert found["films"] == {"train": 2, "val": 1, "test": 1, "all": 4}
    assert found["patients"]["train"] == 1 and found["patients"]["all"] == 3
    assert found["labels"]["Mass"] == {"train": 1, "val": 1, "test": 0, "all": 2}
    assert found["labels"]["none of them"]["all"] == 1 and found["labels"]["not known"]["test"] == 1


def test_sizes_and_depths_are_of_films_that_can_be_read():
    found = counted()
    assert found["sizes"] == {"20 x 10": 2, "30 x 10": 1} and found["bits"] == {"8": 2, "12": 1}
    assert found["mm_per_pixel"] == {"least": 0.1, "median": pytest.approx(0.15), "most": 0.2}
    assert found["unreadable"] == 1


def test_a_tally_is_set_out_in_columns():
    lines = set_out("nih", "/films", counted(Mass=[1.0, 0.0, 1.0, 0.0])).splitlines()
    assert lines[0] == "nih  /films"
    assert lines[1].split() == ["train", "val", "test", "all"]
    assert {len(line) for line in lines[1:7]} == {len(lines[1])}
    assert "8 bit 2, 12 bit 1" in next(line for line in lines if line.startswith("depth"))


def test_an_empty_corpus_can_be_told_of():
    found = tally(pd.DataFrame(columns=["path", "patient", "study", "view", "split", "problem", "film_height",
                                        "film_width", "bits", "spacing"]), [])  # fmt: skip
    assert set_out("x", "", found).startswith("x\n")


def test_a_fold_is_split_as_training_splits_it():
    corpora = {"phantom": {"films": 24, "size": 48, "seed": 2, "split": False}}
    table = opened(corpora, {**ARGUMENTS, "fold": "2/3"}).table
    trained = XrayDataModule(corpora, fold="2/3", num_workers=0).manifest.table
    assert dict(zip(table["path"], table["split"], strict=True)) == dict(
        zip(trained["path"], trained["split"], strict=True)
    )
