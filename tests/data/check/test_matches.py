import numpy as np
import pandas as pd

from xrayssl.data.check.matches import LATER, PAIR, copies, described, leaks, to_leave_out


def films(*splits, patients=None):
    rows = range(len(splits))
    return pd.DataFrame({"path": [f"/f/{i}.png" for i in rows], "split": list(splits),
                         "patient": patients or [f"p{i}" for i in rows]})  # fmt: skip


def pairs(*rows):
    return pd.DataFrame([(*row, "look-alike", 0.9) for row in rows], columns=PAIR)


def test_the_same_file_is_told_once_per_copy():
    table = films("train", "train", "test").assign(checksum=["a", "a", "a"])
    found = copies(table, np.zeros((3, 64, 64), np.uint8), 0)
    assert found.to_numpy().tolist() == [[0, 1, "same file", 1.0], [0, 2, "same file", 1.0]]


def test_films_that_cannot_be_read_are_nobodys_copy():
    table = films("train", "test").assign(checksum="")
    assert len(copies(table, np.zeros((2, 64, 64), np.uint8), 0)) == 0


def test_of_two_copies_the_one_that_is_learned_from_has_to_go():
    for splits in (("train", "test"), ("test", "train"), ("val", "test"), ("train", "val"), ("train", LATER)):
        found = leaks(films(*splits), pairs((0, 1)))
        assert splits[found["first"].iloc[0]] in ("train", "val")
        assert splits[found["second"].iloc[0]] != splits[found["first"].iloc[0]]


def test_copies_within_one_split_or_among_tests_are_no_leak():
    assert len(leaks(films("train", "train", "test", LATER), pairs((0, 1), (2, 3)))) == 0


def test_a_copy_of_a_copy_leaks_too():
    found = leaks(films("train", "train", "test"), pairs((0, 1), (1, 2)))
    assert found[["first", "second", "how"]].to_numpy().tolist() == [[0, 2, "copy of a copy"], [1, 2, "look-alike"]]


def test_a_patient_of_a_later_test_must_not_be_learned_from():
    table = films("train", "val", "test", LATER, patients=["a", "b", "a", "a"])
    found = leaks(table, pairs())
    assert found[["first", "second", "how"]].to_numpy().tolist() == [[0, 3, "same patient"]]


def test_the_list_to_leave_out_names_each_film_and_why():
    table = films("train", "test")
    listed = to_leave_out(table, leaks(table, pairs((0, 1))))
    assert listed.to_numpy().tolist() == [["/f/0.png", "look-alike in test"]]


def test_pairs_are_described_the_closest_first():
    table = films("train", "train", "test", patients=["a", "b", "a"])
    told = described(table, pd.DataFrame([(0, 1, "look-alike", 0.8), (0, 2, "mirrored", 0.9)], columns=PAIR))
    assert told["other"].tolist() == ["/f/2.png", "/f/1.png"]
    assert told["same_patient"].tolist() == [True, False]
