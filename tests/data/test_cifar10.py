import pickle

import numpy as np
import pytest
from PIL import Image

from xrayssl.data.corpora.cifar10 import FOLDER, manifest
from xrayssl.data.split import assign
from xrayssl.errors import UserError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pictures(batch, count=20):
    rng = np.random.default_rng(batch)
    return {"data": rng.integers(0, 256, (count, 3072), np.uint8), "labels": [k % 10 for k in range(count)]}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """torchvision's folder with fewer pictures, whose checksums are therefore not asked for."""
    from torchvision.datasets import CIFAR10, cifar

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(cifar, "check_integrity", lambda *arguments: True)
    folder = tmp_path / "data" / FOLDER
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        (folder / name).write_bytes(pickle.dumps(pictures(number)))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": CLASSES}))
    return tmp_path / "data"


def test_the_official_batches_are_the_splits_and_ten_classes_the_task(corpus):
    found = manifest(corpus)
    assert (found.classes, found.task, found.patients) == (CLASSES, "multiclass", 120)
    assert found.table["split"].value_counts().to_dict() == {"train": 100, "test": 20}
    assert found.labels()[:20].argmax(axis=1).tolist() == [k % 10 for k in range(20)]
    assert set(assign(found).table["split"]) == {"train", "val", "test"}


def test_pictures_are_the_luminance_of_the_photographs(corpus):
    path = manifest(corpus).table["path"][3]
    red, green, blue = pictures(0)["data"][3].reshape(3, 32, 32).astype(float)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
    grey = np.asarray(Image.open(path))
    assert grey.dtype == np.uint8 and np.abs(grey - luminance).max() <= 1


def test_they_are_written_once(corpus):
    first = manifest(corpus).table
    for path in (corpus / FOLDER).iterdir():
        path.unlink()
    assert manifest(corpus).table.equals(first)


def test_the_inner_folder_will_do(corpus):
    assert len(manifest(corpus / FOLDER)) == 120


def test_an_interrupted_writing_leaves_nothing(corpus, monkeypatch, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        manifest(corpus)
    assert list((tmp_path / "cache/xrayssl/cifar10").iterdir()) == []


@pytest.mark.parametrize("damage", ["absent", "foreign"])
def test_a_folder_whose_checksums_do_not_agree_is_refused(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if damage == "foreign":
        (tmp_path / FOLDER).mkdir()
        (tmp_path / FOLDER / "data_batch_1").write_bytes(pickle.dumps(pictures(0)))
    with pytest.raises(UserError, match=r"cifar-10-batches-py of CIFAR-10 is not here, or damaged"):
        manifest(tmp_path)
