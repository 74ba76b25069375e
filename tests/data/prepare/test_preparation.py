import errno
import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from stores import content, corpus, manifest, store

from xrayssl.data.manifest import Manifest
from xrayssl.data.prepare import preparation, reduction, shards
from xrayssl.data.prepare.preparation import Tolerance, plan, prepare
from xrayssl.data.prepare.reduction import Recipe
from xrayssl.data.store import StoredFilms
from xrayssl.errors import UserError

QUARANTINE = Tolerance("quarantine", 0.2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A corpus, and the undisturbed store of it; its shards hold 4 films or so."""
    root = tmp_path_factory.mktemp("films")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 5000)
        store(corpus(root / "raw"), root / "whole")
    return root


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 5000)


def slowly(recipe, path):
    time.sleep(0.01)
    return reduction.reduced(recipe, path)


def spoil(root, *names):
    for name in names:
        (root / name).write_bytes(b"")
    return root


def test_a_store_holds_shards_index_and_facts_and_nothing_of_the_work(whole):
    parts = ["index.parquet", "quarantine.csv", *(f"shard-0000{i}.bin" for i in range(4)), "store.json"]
    assert list(content(whole / "whole")) == parts
    assert not (whole / "whole.partial").exists()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_processes_changes_no_byte(workers, whole, tmp_path):
    store(whole / "raw", tmp_path / "again", workers)
    assert content(tmp_path / "again") == content(whole / "whole")


def test_no_shard_outgrows_its_limit_and_films_lie_one_after_the_other(whole):
    index = pd.read_parquet(whole / "whole/index.parquet")
    assert all(len(data) <= 5000 for name, data in content(whole / "whole").items() if name.endswith(".bin"))
    ends = (index["offset"] + index["height"] * index["width"]).groupby(index["shard"])
    assert ends.max().tolist() == json.loads((whole / "whole/store.json").read_text())["shards"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_again_and_again_the_store_comes_out_the_same(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SECONDS", 0.01)
    monkeypatch.setattr(preparation, "reduced", slowly)
    fork, rng, kills = multiprocessing.get_context("fork"), np.random.default_rng(0), 0
    while kills < 6:
        child = fork.Process(target=store, args=(whole / "raw", tmp_path / "store", 2))
        child.start()
        time.sleep(rng.uniform(0.02, 0.1))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        kills += 1
    store(whole / "raw", tmp_path / "store", 2)
    assert content(tmp_path / "store") == content(whole / "whole")


def stop_after(films, monkeypatch):
    """Lets the work end after so many films, with all of them committed."""
    monkeypatch.setattr(shards, "SECONDS", -1)
    left = iter(range(films))

    def reduced(recipe, path):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return reduction.reduced(recipe, path)

    monkeypatch.setattr(preparation, "reduced", reduced)


def undone(root, folder, films, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(films, patch)
        with pytest.raises(KeyboardInterrupt, match=f"about {films} of 14 films are done"):
            store(root, folder)
    return folder.with_name(f"{folder.name}.partial")


@given(films=st.integers(1, 13), cut=st.integers(0, 400), tail=st.binary(max_size=40), junk=st.binary(max_size=99))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_crash_leaves_at_the_ends_of_the_files_is_mended(films, cut, tail, junk, whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut") / "store"
    with pytest.MonkeyPatch.context() as patch:
        draft = undone(whole / "raw", folder, films, patch)
    journal = (draft / shards.JOURNAL).read_bytes()
    (draft / shards.JOURNAL).write_bytes(journal[: max(0, len(journal) - cut)] + tail)
    with sorted(draft.glob("shard-*.bin"))[-1].open("ab") as file:
        file.write(junk)
    store(whole / "raw", folder)
    assert content(folder) == content(whole / "whole")


def test_what_is_done_is_not_done_again(whole, tmp_path, monkeypatch):
    undone(whole / "raw", tmp_path / "store", 9, monkeypatch)
    made = []
    noted = lambda recipe, path: made.append(path) or reduction.reduced(recipe, path)  # noqa: E731
    monkeypatch.setattr(preparation, "reduced", noted)
    store(whole / "raw", tmp_path / "store")
    assert made == manifest(whole / "raw").table["path"].tolist()[9:]


@pytest.mark.parametrize("step", ["finish", "publish"])
def test_a_store_that_was_killed_at_its_very_end_is_finished(step, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(preparation, step, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store(whole / "raw", tmp_path / "store")
    (tmp_path / "store.partial/.index.parquet.1.partial").write_bytes(b"left behind")
    store(whole / "raw", tmp_path / "store")
    assert content(tmp_path / "store") == content(whole / "whole")


def test_a_finished_store_is_left_alone(whole, tmp_path):
    store(whole / "raw", tmp_path / "store")
    before = [path.stat().st_mtime_ns for path in sorted((tmp_path / "store").iterdir())]
    assert not store(whole / "raw", tmp_path / "store")
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "store").iterdir())] == before


@pytest.mark.parametrize("finished", [True, False])
def test_other_arguments_are_refused(finished, whole, tmp_path, monkeypatch):
    if finished:
        store(whole / "raw", tmp_path / "store")
    else:
        undone(whole / "raw", tmp_path / "store", 3, monkeypatch)
    with pytest.raises(UserError, match=r"was begun with size 32, not 24; trim False, not True\. Repeat its arguments"):
        store(whole / "raw", tmp_path / "store", size=24, trim=True)


def test_a_corpus_that_has_changed_meanwhile_is_refused(tmp_path, monkeypatch):
    root = corpus(tmp_path / "raw")
    undone(root, tmp_path / "store", 3, monkeypatch)
    (root / "A/00.png").rename(root / "B/00.png")
    with pytest.raises(UserError, match=r"the films, labels or splits of .*/raw have changed since"):
        store(root, tmp_path / "store")


def test_a_finished_store_of_films_that_were_replaced_since_is_not_called_complete(tmp_path):
    root = corpus(tmp_path / "raw")
    store(root, tmp_path / "store")
    Image.new("L", (9, 9)).save(root / "A/02.png")
    with pytest.raises(UserError, match=r"raw files have changed .* such as .*A/02\.png \(1 in all\); delete it"):
        store(root, tmp_path / "store")


def test_a_film_that_was_set_aside_and_is_mended_is_not_forgotten(tmp_path):
    root = corpus(tmp_path / "raw")
    good = (root / "B/05.png").read_bytes()
    store(spoil(root, "B/05.png"), tmp_path / "store", tolerance=QUARANTINE)
    assert not store(root, tmp_path / "store", tolerance=QUARANTINE)
    (root / "B/05.png").write_bytes(good)
    with pytest.raises(UserError, match=r"such as .*B/05\.png"):
        store(root, tmp_path / "store", tolerance=QUARANTINE)


@pytest.mark.parametrize("left", ["", "[1", "[1]"])
def test_a_plan_that_a_power_cut_left_damaged_is_told(left, whole, tmp_path):
    (tmp_path / "store.partial").mkdir()
    (tmp_path / "store.partial/plan.json").write_text(left)
    with pytest.raises(UserError, match=r"its plan\.json is damaged; delete this folder"):
        store(whole / "raw", tmp_path / "store")


def test_a_shard_that_was_begun_and_is_not_needed_any_more_goes(tmp_path, monkeypatch):
    root = corpus(tmp_path / "raw")
    draft = undone(root, tmp_path / "store", 9, monkeypatch)
    (draft / "shard-00009.bin").write_bytes(b"begun")
    store(root, tmp_path / "store")
    assert "shard-00009.bin" not in content(tmp_path / "store")


def test_a_folder_that_holds_something_else_is_refused(whole, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/thesis.tex").touch()
    with pytest.raises(UserError, match="something here that is no store; choose another --out"):
        store(whole / "raw", tmp_path / "store")


def test_a_draft_without_its_plan_is_refused(whole, tmp_path, monkeypatch):
    (undone(whole / "raw", tmp_path / "store", 3, monkeypatch) / "plan.json").unlink()
    with pytest.raises(UserError, match=r"its plan\.json is missing; delete this folder"):
        store(whole / "raw", tmp_path / "store")


def test_a_shard_that_lost_what_its_journal_says_is_refused(whole, tmp_path, monkeypatch):
    shard = undone(whole / "raw", tmp_path / "store", 3, monkeypatch) / "shard-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"shard-00000\.bin: its end is missing"):
        store(whole / "raw", tmp_path / "store")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_two_processes_do_not_make_the_same_store(whole, tmp_path):
    (tmp_path / "store.partial").mkdir()
    fork = multiprocessing.get_context("fork")
    begun, over = fork.Event(), fork.Event()

    def other():
        with preparation._alone(tmp_path / "store.partial"):
            begun.set()
            over.wait(10)

    process = fork.Process(target=other)
    process.start()
    assert begun.wait(10)
    with pytest.raises(UserError, match="another process is at work"):
        store(whole / "raw", tmp_path / "store")
    over.set()
    process.join()
    assert store(whole / "raw", tmp_path / "store")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_film_stops_the_work_which_goes_on_once_it_is_mended(workers, whole, tmp_path):
    root = corpus(tmp_path / "raw")
    good = (root / "B/05.png").read_bytes()
    with pytest.raises(UserError, match=r"B/05\.png: the file is empty\. To set .* add --data\.on_error q"):
        store(spoil(root, "B/05.png"), tmp_path / "store", workers)
    (root / "B/05.png").write_bytes(good)
    store(root, tmp_path / "store", workers)
    shards_of = [{name: data for name, data in content(folder).items() if name.endswith(".bin")}
                 for folder in (tmp_path / "store", whole / "whole")]  # fmt: skip
    assert shards_of[0] == shards_of[1]


def test_quarantine_lists_the_film_and_why_and_keeps_its_place_in_the_index(tmp_path):
    root = spoil(corpus(tmp_path / "raw"), "B/05.png")
    store(root, tmp_path / "store", tolerance=QUARANTINE)
    listed = pd.read_csv(tmp_path / "store/quarantine.csv").to_dict("records")
    assert listed == [{"path": f"{root}/B/05.png", "reason": f"{root}/B/05.png: the file is empty."}]
    index = pd.read_parquet(tmp_path / "store/index.parquet")
    assert index["path"][index["shard"] < 0].tolist() == [f"{root}/B/05.png"]
    assert json.loads((tmp_path / "store/store.json").read_text())["films"] == 13


def test_after_a_stop_at_an_unreadable_film_the_same_store_can_be_made_with_a_quarantine(tmp_path):
    root = spoil(corpus(tmp_path / "raw"), "B/05.png")
    with pytest.raises(UserError):
        store(root, tmp_path / "store")
    assert store(root, tmp_path / "store", tolerance=QUARANTINE)


def test_the_quarantine_has_a_cap(tmp_path):
    root = spoil(corpus(tmp_path / "raw"), "A/00.png", "A/04.png", "A/08.png", "B/01.png")
    with pytest.raises(UserError, match=r"4 of 14 films cannot be read; --data\.max_quarantine 0\.2 allows 3"):
        store(root, tmp_path / "store", tolerance=QUARANTINE)


def test_a_corpus_without_a_readable_film_gives_no_store(tmp_path):
    root = spoil(corpus(tmp_path / "raw", films=2), "A/00.png", "B/01.png")
    with pytest.raises(UserError, match=r"None of the 2 films can be read, the first because: .*the file is empty"):
        store(root, tmp_path / "store", tolerance=Tolerance("quarantine", 1.0))


def test_a_label_under_a_name_that_the_index_needs_is_refused(tmp_path):
    films = manifest(corpus(tmp_path / "raw", films=2))
    films = Manifest(films.table.rename(columns={"A": "width"}), ["width", "B"], films.task)
    with pytest.raises(UserError, match="needs the column 'width' for itself; give that label another name"):
        prepare(tmp_path / "store", plan("folder", {"root": None}, Recipe(), films), films, 0, Tolerance())


def test_boxes_move_with_the_trimmed_border(tmp_path):
    root = corpus(tmp_path / "raw", films=2, side=30)
    films = manifest(root)
    framed = np.zeros((40, 50), np.uint8)
    framed[5:35, 10:40] = np.random.default_rng(0).integers(0, 256, (30, 30))
    path = films.table["path"][1]
    Image.fromarray(framed).save(path)
    sides = {"left": [0.2, 0.4, 0.0], "top": [0.125, 0.5, 0.0], "width": [0.6, 0.6, 0.1], "height": [0.75, 0.25, 0.1]}
    boxes = pd.DataFrame({"path": [path] * 3, "label": ["A"] * 3, **sides})
    films = Manifest(films.table, films.classes, films.task, boxes)
    prepare(tmp_path / "store", plan("folder", {"root": None}, Recipe(trim=True), films), films, 0, Tolerance())
    moved = pd.read_parquet(tmp_path / "store/boxes.parquet")
    expected = [[0, 0, 1, 1], [1 / 3, 0.5, 2 / 3, 1 / 3]]  # in shares of rows 5-35, columns 10-40
    np.testing.assert_allclose(moved[["left", "top", "width", "height"]], expected, atol=1e-9)
    assert StoredFilms(pd.read_parquet(tmp_path / "store/index.parquet").assign(
        store=str(tmp_path / "store"), dtype="uint8")).pixels(1).shape == (30, 30)  # fmt: skip


def test_a_full_disk_is_told_in_a_sentence_and_the_work_goes_on_later(whole, tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shards, "_sync", full)
        with pytest.raises(UserError, match=r"store\.partial: the store cannot be written \(No space left on device\)"):
            store(whole / "raw", tmp_path / "store")
    store(whole / "raw", tmp_path / "store")
    assert content(tmp_path / "store") == content(whole / "whole")
