import pickle
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from stores import STRICT, change, content, corpus, manifest, store

from xrayssl.data import XrayDataModule
from xrayssl.data.corpora import gather
from xrayssl.data.manifest import join
from xrayssl.data.prepare.preparation import Tolerance, plan, prepare
from xrayssl.data.prepare.reduction import Recipe, shrunk
from xrayssl.data.radiograph import read, window
from xrayssl.data.split import assign
from xrayssl.data.store import StoredFilms, is_store, other_windows, readable
from xrayssl.errors import UserError


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A corpus of 40-px films, and stores of it: as they are, and with a short side of 32 px."""
    root = tmp_path_factory.mktemp("films")
    corpus(root / "raw")
    store(root / "raw", root / "full", size=40)
    store(root / "raw", root / "small", size=32)
    return root


def opened(root, name="folder"):
    return gather({name: str(root)})[0]


def test_a_store_opens_under_the_option_of_its_raw_files(films):
    raw, kept = manifest(films / "raw"), opened(films / "small")
    assert is_store(films / "small") and not is_store(films / "raw")
    assert (kept.checksum(), kept.classes, kept.task) == (raw.checksum(), raw.classes, raw.task)
    pd.testing.assert_frame_equal(kept.table[raw.table.columns], raw.table)


def test_films_that_are_drawn_for_a_split_are_the_same_from_store_and_raw_files(films):
    raw, kept = assign(manifest(films / "raw")), assign(opened(films / "small"))
    assert raw.table["split"].tolist() == kept.table["split"].tolist()
    assert set(raw.table["split"]) == {"train", "val", "test"}


def test_stored_pixels_are_those_of_the_windowed_and_resized_film(films):
    kept = opened(films / "small")
    stored = StoredFilms(kept.table)
    for row, path in enumerate(kept.table["path"]):
        pixels = stored.pixels(row)
        np.testing.assert_array_equal(pixels, shrunk(window(read(path)), 32))
        assert not pixels.flags.writeable


def batches(root):
    data = XrayDataModule({"folder": str(root)}, img_size=24, batch_size=3, num_workers=0)
    return list(data.train_dataloader())


def test_batches_from_a_store_are_those_from_raw_files_and_need_none(tmp_path):
    raw = batches(corpus(tmp_path / "raw"))
    store(tmp_path / "raw", tmp_path / "store", size=40)
    shutil.rmtree(tmp_path / "raw")
    for one, other in zip(raw, batches(tmp_path / "store"), strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        assert one["index"].tolist() == other["index"].tolist() and one["label"].tolist() == other["label"].tolist()


def test_a_film_in_no_store_has_no_pixels_here(films):
    raw, kept = manifest(films / "raw"), opened(films / "small")
    assert StoredFilms(raw.table).pixels(0) is None
    both = StoredFilms(join([raw, kept]).table)
    assert both.pixels(13) is None
    np.testing.assert_array_equal(both.pixels(14), StoredFilms(kept.table).pixels(0))


def test_films_of_two_stores_are_told_apart(films):
    both = StoredFilms(join([opened(films / "full"), opened(films / "small")]).table)
    assert (both.pixels(0).shape, both.pixels(14).shape) == ((40, 50), (32, 40))


def test_a_reader_travels_to_another_process_without_its_maps(films):
    stored = StoredFilms(opened(films / "small").table)
    before = stored.pixels(3)
    again = pickle.loads(pickle.dumps(stored))
    np.testing.assert_array_equal(again.pixels(3), before)


def test_a_store_can_be_carried_elsewhere_without_its_raw_files(films, tmp_path):
    shutil.copytree(films / "small", tmp_path / "elsewhere")
    stored = StoredFilms(opened(tmp_path / "elsewhere").table)
    np.testing.assert_array_equal(stored.pixels(5), StoredFilms(opened(films / "small").table).pixels(5))


def test_16_bit_films_keep_their_greys_and_are_seen_as_8_bit(films):
    store(films / "raw", films / "deep", size=40, dtype="uint16")
    eight, deep = (StoredFilms(opened(films / name).table) for name in ("full", "deep"))
    assert len(content(films / "deep")["shard-00000.bin"]) == 2 * len(content(films / "full")["shard-00000.bin"])
    for row in range(14):
        np.testing.assert_array_equal(eight.pixels(row), deep.pixels(row))


def test_every_16_bit_grey_is_rounded_to_the_nearest_of_256(tmp_path):
    np.arange(2**16, dtype=np.uint16).tofile(tmp_path / "shard-00000.bin")
    place = {"shard": 0, "offset": 0, "height": 256, "width": 256}
    table = pd.DataFrame([{"path": "a.png", "store": str(tmp_path), "dtype": "uint16", **place}])
    expected = np.rint(np.arange(2**16) / 257).astype(np.uint8).reshape(256, 256)
    np.testing.assert_array_equal(StoredFilms(table).pixels(0), expected)


def test_a_quarantined_film_takes_part_in_the_draw_and_then_is_left_out(tmp_path):
    root = corpus(tmp_path / "raw")
    split = assign(manifest(root)).table.set_index("path")["split"]
    (root / "B/05.png").write_bytes(b"")
    store(root, tmp_path / "store", tolerance=Tolerance("quarantine", 0.2))
    kept = readable(assign(opened(tmp_path / "store")))
    assert (
        len(kept) == 13 and kept.table.set_index("path")["split"].to_dict() == split.drop(f"{root}/B/05.png").to_dict()
    )
    assert readable(manifest(root)).table.equals(manifest(root).table)


def test_a_quarantined_film_that_is_asked_for_is_refused(tmp_path):
    root = corpus(tmp_path / "raw")
    (root / "A/00.png").write_bytes(b"")
    store(root, tmp_path / "store", tolerance=Tolerance("quarantine", 0.2))
    with pytest.raises(UserError, match=r"store/quarantine\.csv lists this film"):
        StoredFilms(opened(tmp_path / "store").table).pixels(0)


def test_a_store_of_another_corpus_is_refused(films):
    with pytest.raises(UserError, match=r"a store of the corpus 'folder'; open it with --data.corpora.folder "):
        opened(films / "small", "nih")


def test_options_of_the_corpus_are_refused(films):
    with pytest.raises(UserError, match=r"options of the corpus 'folder' were settled .* leave out patient"):
        gather({"folder": {"root": str(films / "small"), "patient": "x"}})


@pytest.mark.parametrize(("part", "message"), [("index.parquet", "is missing"), ("shard-00000.bin", "is missing")])
def test_a_missing_part_is_named(part, message, films, tmp_path):
    shutil.copytree(films / "small", tmp_path / "store")
    (tmp_path / "store" / part).unlink()
    with pytest.raises(UserError, match=f"{part}: this part of the store {message}"):
        opened(tmp_path / "store")


def test_a_shortened_shard_is_named_on_opening_and_on_reading(films, tmp_path):
    shutil.copytree(films / "small", tmp_path / "store")
    stored, shard = StoredFilms(opened(tmp_path / "store").table), tmp_path / "store/shard-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"shard-00000\.bin: this part of the store has .* bytes, not "):
        opened(tmp_path / "store")
    with pytest.raises(UserError, match=r"shard-00000\.bin has lost its end"):
        stored.pixels(13)


def test_a_shard_that_vanished_meanwhile_is_named(films, tmp_path):
    shutil.copytree(films / "small", tmp_path / "store")
    stored = StoredFilms(opened(tmp_path / "store").table)
    (tmp_path / "store/shard-00000.bin").unlink()
    with pytest.raises(UserError, match=r"shard-00000\.bin cannot be opened"):
        stored.pixels(0)


@pytest.mark.parametrize("damage", [lambda data: data[:500], lambda data: data[:300] + b"?" + data[301:]])
def test_a_damaged_index_is_not_read(damage, films, tmp_path):
    shutil.copytree(films / "small", tmp_path / "store")
    index = tmp_path / "store/index.parquet"
    index.write_bytes(damage(index.read_bytes()))
    with pytest.raises(UserError, match=r"index\.parquet: this part of the store has changed"):
        opened(tmp_path / "store")


@pytest.mark.parametrize(
    ("version", "message"), [(9, "a store of version 9, not 1"), (None, "a store of version None")]
)
def test_a_store_of_another_version_is_refused(version, message, films, tmp_path):
    shutil.copytree(films / "small", tmp_path / "store")
    change(tmp_path / "store", version=version)
    with pytest.raises(UserError, match=message):
        opened(tmp_path / "store")


def test_damaged_facts_are_named(films, tmp_path):
    shutil.copytree(films / "small", tmp_path / "store")
    (tmp_path / "store/store.json").write_text("{")
    with pytest.raises(UserError, match=r"its store\.json is damaged"):
        opened(tmp_path / "store")


def test_another_window_than_the_stores_is_told(films):
    both = join([manifest(films / "raw"), opened(films / "small")])
    assert other_windows(manifest(films / "raw"), "none", (0, 100)) == []
    assert other_windows(both, "voi", (0.0, 100.0)) == []
    (sentence,) = other_windows(both, "percentile", (1, 99))
    assert "made with --data.window voi --data.limits [0.0, 100.0], not percentile [1, 99]" in sentence


def test_sex_and_age_survive_the_store_and_a_store_without_them_opens_as_before(tmp_path):
    corpus(tmp_path / "films")
    plain = manifest(tmp_path / "films")
    known = replace(plain, table=plain.table.assign(sex="F", age=np.arange(len(plain), dtype=float)))
    for name, films in (("known", known), ("plain", plain)):
        prepare(tmp_path / name, plan("folder", {"root": str(tmp_path)}, Recipe(size=32), films), films, 0, STRICT)
    opened = {name: gather({"folder": str(tmp_path / name)})[0] for name in ("known", "plain")}
    pd.testing.assert_frame_equal(opened["known"].table[["sex", "age"]], known.table[["sex", "age"]], check_dtype=False)
    assert "sex" not in opened["plain"].table
    assert opened["known"].checksum() == opened["plain"].checksum() == plain.checksum()
