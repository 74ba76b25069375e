"""What a run's films looked like is known from the run, whatever has become of its stores since."""

import shutil

import numpy as np
import pytest
from stores import corpus, store

from xrayssl.data.viewing import stores_of, viewing
from xrayssl.errors import UserError

HOW = {"window": "percentile", "limits": [1.0, 99.0]}


@pytest.fixture
def films(tmp_path):
    return corpus(tmp_path / "films", 4)


@pytest.fixture
def data(films, tmp_path):
    """Arguments of a data module whose films lie in a store of 24 pixels."""
    store(films, tmp_path / "store", size=24, window="percentile", limits=(1.0, 99.0))
    return {"corpora": {"folder": {"root": str(tmp_path / "store")}, "phantom": {"films": 4}}, **HOW}


def only_store(data):
    return {**data, "corpora": {"folder": data["corpora"]["folder"]}}


def test_corpora_tell_how_their_stores_were_made_and_which_have_none(data):
    told = stores_of(data["corpora"])
    assert told["phantom"] is None
    assert (told["folder"]["size"], told["folder"]["window"], told["folder"]["limits"]) == (24, "percentile", (1, 99))


def test_a_run_that_recorded_its_store_sees_films_the_same_without_it(data, films, tmp_path, caplog):
    data, film = only_store(data), films / "A" / "00.png"
    stores = stores_of(data["corpora"])
    before = viewing(data, (32, 32)).film(film)
    shutil.rmtree(tmp_path / "store")
    assert np.array_equal(viewing(data, (32, 32), stores).film(film), before) and before.shape == (24, 30)
    store(films, tmp_path / "store", size=16)
    assert np.array_equal(viewing(data, (32, 32), stores).film(film), before)
    assert not caplog.records


def test_an_older_run_whose_store_was_moved_is_told_that_films_may_be_seen_otherwise(data, films, tmp_path, caplog):
    (tmp_path / "store").rename(tmp_path / "moved")
    assert viewing(only_store(data), (32, 32)).film(films / "A" / "00.png").shape == (40, 50)
    (told,) = caplog.messages
    assert told.startswith(f"{tmp_path / 'store'}: the run learned from this folder, which is not there any more")


def test_an_older_run_whose_store_was_made_anew_with_another_window_is_refused(data, films, tmp_path):
    shutil.rmtree(tmp_path / "store")
    store(films, tmp_path / "store", size=24, window="voi")
    with pytest.raises(UserError, match=r"made anew with voi \[0\.0, 100\.0\]; put the run's own back"):
        viewing(only_store(data), (32, 32))


def test_a_run_on_files_or_phantoms_that_are_there_hears_nothing(films, caplog):
    data = {"corpora": {"folder": str(films), "phantom": {"films": 4}}}
    assert viewing(data, (32, 32)).recipe is viewing(data, (32, 32), stores_of(data["corpora"])).recipe is None
    assert not caplog.records
