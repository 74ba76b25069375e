import shutil

import pytest
from stores import change, corpus, store

from xrayssl.data.prepare.preparation import Tolerance
from xrayssl.data.prepare.verification import verify


@pytest.fixture
def films(tmp_path):
    """A corpus and its store."""
    store(corpus(tmp_path / "raw", films=8), tmp_path / "store")
    return tmp_path


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_good_store_is_found_good(workers, films):
    found = verify(films / "store", workers)
    assert found.problems == []
    assert found.sentence == f"{films}/store: 8 films checked, 0 damaged; 8 raw files are here, 0 changed."


def test_one_bit_of_one_film_is_found(films):
    flip(films / "store/shard-00000.bin", 1500)
    found = verify(films / "store", 0)
    assert found.problems == [f"{films}/store: 1 stored films are not what they were; make the store anew: "
                              f"{films}/raw/A/02.png."]  # fmt: skip


def test_many_damaged_films_are_counted_and_some_named(films):
    shard = films / "store/shard-00000.bin"
    shard.write_bytes(bytes(shard.stat().st_size))
    (problem,) = verify(films / "store", 0).problems
    assert "8 stored films are not" in problem and "B/01.png and 3 more." in problem


@pytest.mark.parametrize("part", ["index.parquet", "quarantine.csv"])
def test_a_changed_part_is_named(part, films):
    flip(films / "store" / part, -1)
    assert verify(films / "store", 0).problems == [f"{films}/store/{part}: this part of the store has changed."]


def test_a_missing_part_is_named(films):
    (films / "store/shard-00000.bin").unlink()
    (problem,) = verify(films / "store", 0).problems
    assert problem.endswith("shard-00000.bin: this part of the store is missing.")


def test_a_raw_file_that_has_changed_since_makes_the_store_stale(films):
    shutil.copy(films / "raw/A/00.png", films / "raw/B/07.png")
    (problem,) = verify(films / "store", 0).problems
    assert "1 raw files have changed since the store was made" in problem and "B/07.png" in problem


def test_a_new_film_or_label_makes_the_store_stale(films):
    shutil.copy(films / "raw/A/00.png", films / "raw/B/99.png")
    (problem,) = verify(films / "store", 0).problems
    assert f"the films, labels or splits of {films}/raw have changed since" in problem


def test_a_quarantined_film_that_was_mended_makes_the_store_stale(tmp_path):
    root = corpus(tmp_path / "raw", films=8)
    good = (root / "B/05.png").read_bytes()
    (root / "B/05.png").write_bytes(good[:-20])
    store(root, tmp_path / "store", tolerance=Tolerance("quarantine", 0.2))
    assert verify(tmp_path / "store", 0).problems == []
    (root / "B/05.png").write_bytes(good)
    assert "1 raw files have changed" in verify(tmp_path / "store", 0).problems[0]


def test_without_raw_files_the_stored_ones_are_checked(films):
    shutil.rmtree(films / "raw")
    found = verify(films / "store", 0)
    assert found.problems == [] and "8 films checked, 0 damaged; 0 raw files are here" in found.sentence


def test_a_corpus_that_cannot_be_read_any_more_is_told(films):
    change(films / "store", options={"patient": "("})
    (problem,) = verify(films / "store", 0).problems
    assert "its corpus cannot be read any more: " in problem
