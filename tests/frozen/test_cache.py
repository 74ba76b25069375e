import os

import pytest
import torch

from xrayssl.frozen.cache import FeatureCache, Known

KEY = {"weights": "w", "img_size": [32, 32]}


def known(films, width=3):
    return Known([bytes([film] * 16) for film in films], torch.randn(len(films), width))


def test_what_was_written_comes_back_and_under_no_other_key(tmp_path):
    cache, some = FeatureCache(tmp_path / "new"), known([1, 2])
    cache.write(KEY, some)
    found = cache.read({"weights": "w", "img_size": (32, 32)})
    assert found.films == some.films
    assert torch.equal(found.feature_ND, some.feature_ND)
    assert cache.read({**KEY, "weights": "other"}).films == []


@pytest.mark.parametrize("damage", [lambda raw: raw[:-5], lambda raw: raw[:-5] + b"xxxxx", lambda raw: b""])
def test_a_damaged_file_is_told_of_and_counts_for_nothing(tmp_path, damage, caplog):
    cache = FeatureCache(tmp_path)
    cache.write(KEY, known([1, 2]))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read(KEY).films == []
    assert "damaged and computed anew" in caplog.text
    cache.write(KEY, known([3]))
    assert len(cache.read(KEY).films) == 1


def test_what_was_not_used_for_longest_goes_and_other_files_stay(tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(b"x" * 5000)
    cache = FeatureCache(tmp_path, most=2500)
    for age, name in ((30, "old"), (20, "used"), (10, "young")):
        cache.write({"weights": name}, known(range(10), 20))
        for path in tmp_path.glob("features-*"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    cache.read({"weights": "used"})
    cache.write({"weights": "new"}, known(range(10), 20))
    assert [bool(cache.read({"weights": name}).films) for name in ("old", "used", "young", "new")] == [
        False, True, False, True]  # fmt: skip
    assert (tmp_path / "mine.safetensors").exists()


def test_the_newest_stays_however_large(tmp_path):
    cache = FeatureCache(tmp_path, most=10)
    cache.write(KEY, known([1]))
    assert len(cache.read(KEY).films) == 1


def test_where_nothing_can_be_kept_it_says_so_and_goes_on(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    FeatureCache(tmp_path / "file").write(KEY, known([1]))
    assert "could not be kept" in caplog.text


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FeatureCache(None).write(KEY, known([1]))
    assert FeatureCache(None).read(KEY).films == []
    assert list(tmp_path.iterdir()) == []
