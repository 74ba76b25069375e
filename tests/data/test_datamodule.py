import pickle
import time

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from phantoms import small
from PIL import Image

from xrayssl.data import XrayDataModule
from xrayssl.data.films import Films, film_seed
from xrayssl.data.manifest import Manifest
from xrayssl.data.transforms import Augment, evaluation, training
from xrayssl.errors import UserError


class Nothing(LightningModule):
    """Learns nothing; remembers which films came."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, batch_idx):
        self.seen += batch["index"].tolist()
        return self.weight * batch["image"].float().mean()

    def validation_step(self, batch, batch_idx):
        self.seen += batch["index"].tolist()

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture
def films(tmp_path):
    """A folder of 12 training, 4 validation and 4 test films."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        for i in range(count):
            path = tmp_path / f"films/{split}/{'AB'[i % 2]}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 36), np.uint8)).save(path)
    return tmp_path / "films"


def module(films, **options):
    return XrayDataModule({"folder": str(films)}, **{"img_size": 32, "batch_size": 4, "num_workers": 0} | options)


def run(verb, data, folder):
    trainer = Trainer(default_root_dir=str(folder), max_epochs=2, accelerator="cpu", logger=False,
                      num_sanity_val_steps=0, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, use_distributed_sampler=False)  # fmt: skip
    method = Nothing()
    getattr(trainer, verb)(method, datamodule=data)
    return method.seen


def spoil(films, *names):
    for name in names:
        (films / name).write_bytes(b"")
    return films


def test_a_batch_is_uint8_with_labels_and_manifest_rows(films):
    data = module(films)
    (batch,) = data.val_dataloader()
    assert (batch["image"].shape, batch["image"].dtype) == ((4, 1, 32, 32), torch.uint8)
    assert batch["label"].tolist() == data.manifest.labels()[batch["index"]].tolist()
    assert data.manifest.table["split"].iloc[batch["index"].tolist()].unique().tolist() == ["val"]


def test_labels_outside_the_vocabulary_are_refused(films):
    with pytest.raises(UserError, match="label 'C' is not in these corpora; they know: A, B"):
        module(films, labels=["A", "C"])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_film_stops_the_run_in_one_sentence(workers, films, tmp_path):
    with pytest.raises(UserError, match=r"train/A/2\.png: the file is empty\. To set") as caught:
        run("fit", module(spoil(films, "train/A/2.png"), num_workers=workers), tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "quarantine.txt").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_quarantine_lists_a_film_once_and_goes_on_without_it(workers, films, tmp_path):
    data = module(spoil(films, "train/A/2.png"), num_workers=workers, on_error="quarantine")
    bad = [i for i, path in enumerate(data.manifest.table["path"]) if path.endswith("train/A/2.png")]
    seen = run("fit", data, tmp_path)
    assert sorted({*range(20)} - {*seen} - {*data.manifest.rows("test")}) == bad
    assert (tmp_path / "quarantine.txt").read_text() == f"{films}/train/A/2.png: the file is empty.\n"


def test_quarantine_ends_at_its_cap(films, tmp_path):
    spoil(films, "train/A/2.png", "train/B/5.png", "train/B/7.png")
    with pytest.raises(UserError, match=r"3 of 20 films cannot be read; --data\.max_quarantine 0\.1 allows 2"):
        run("fit", module(films, on_error="quarantine", max_quarantine=0.1), tmp_path)
    assert len((tmp_path / "quarantine.txt").read_text().splitlines()) == 3


def test_a_small_corpus_may_set_one_film_aside_but_a_cap_of_0_none(films, tmp_path):
    spoil(films, "test/A/0.png")
    assert len(run("test", module(films, on_error="quarantine"), tmp_path / "a")) == 3
    with pytest.raises(UserError, match="allows 0"):
        run("test", module(films, on_error="quarantine", max_quarantine=0), tmp_path / "b")


def test_a_whole_batch_that_cannot_be_read_is_left_out_of_a_test(films, tmp_path):
    data = module(spoil(films, "test/A/0.png"), batch_size=1, on_error="quarantine")
    assert len(run("test", data, tmp_path)) == 3


def test_a_whole_training_batch_that_cannot_be_read_stops_the_run(films, tmp_path):
    data = module(spoil(films, "train/A/0.png"), batch_size=1, on_error="quarantine")
    with pytest.raises(UserError, match=r"whole training batch.*--data\.batch_size"):
        run("fit", data, tmp_path)


def test_a_loader_used_by_itself_does_not_pass_over_a_bad_film(films):
    with pytest.raises(UserError, match=r"test/A/0\.png"):
        list(module(spoil(films, "test/A/0.png")).test_dataloader())


@pytest.mark.parametrize(("split", "hint"), [("train", ""), ("val", "Give --data.val"), ("test", "Give --data.test")])
def test_an_empty_split_is_named(split, hint, films):
    data = module(films)
    data.manifest = Manifest(data.manifest.table.query("split != @split").reset_index(drop=True))
    with pytest.raises(UserError, match=f"no film in the split '{split}'.*{hint}"):
        getattr(data, f"{split}_dataloader")()


def test_every_wrong_argument_is_named_at_once(films):
    with pytest.raises(UserError) as caught:
        module(films, img_size=0, batch_size=0, num_workers=-1, limits=(99, 1), max_quarantine=2, val=2)
    names = ["img_size", "batch_size", "num_workers", "limits", "max_quarantine", "val"]
    assert [text.split()[0] for text in caught.value.messages] == [f"--data.{name}" for name in names]


def test_percentiles_of_the_grey_values_reach_the_films(films):
    (plain,), (cut,) = module(films).test_dataloader(), module(films, limits=(20, 80)).test_dataloader()
    assert cut["image"].float().std() > 1.2 * plain["image"].float().std()


def test_a_films_seed_differs_between_epochs_rows_and_runs():
    seeds = {film_seed(seed, epoch, row) for seed in range(3) for epoch in range(10) for row in range(100)}
    assert len(seeds) == 3 * 10 * 100


def test_workers_draw_as_the_process_itself_does_and_anew_in_every_epoch(films):
    def epochs(workers):
        loader = module(films, num_workers=workers, augment=Augment(randaug=6)).train_dataloader()
        return [torch.cat([batch["image"] for batch in loader]) for loader.sampler.epoch in range(2)]

    alone, helped = epochs(0), epochs(2)
    assert all(torch.equal(*pair) for pair in zip(alone, helped, strict=True))
    assert not torch.equal(alone[0].sort(0).values, alone[1].sort(0).values)


def test_the_same_folder_gives_the_same_checksum_and_split(films):
    first, second = module(films, split_seed=1).manifest, module(films, split_seed=1).manifest
    assert first.checksum() == second.checksum()


@pytest.mark.parametrize("make", [lambda: training((32, 32), Augment(randaug=6)), lambda: evaluation((32, 32))])
def test_a_large_table_reaches_spawned_workers_quickly(make):
    count = 50_000
    table = pd.DataFrame({"path": [f"/films/images_001/images/{i:08}_000.png" for i in range(count)],
                          "patient": np.arange(count).astype(str), "corpus": "nih", "study": "", "view": "",
                          "split": "train"})  # fmt: skip
    start = time.perf_counter()
    sent = pickle.dumps(Films(Manifest(table), make()))
    assert len(pickle.loads(sent)) == count
    assert len(sent) < 100 * count
    assert time.perf_counter() - start < 2


def test_who_is_tested_depends_neither_on_other_corpora_nor_on_the_labels_chosen(tmp_path):
    for number in range(60):
        path = tmp_path / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(path)

    def tested(others, **options):
        table = XrayDataModule(
            {"folder": str(tmp_path), **others}, img_size=32, num_workers=0, **options
        ).manifest.table
        return set(table["path"][(table["split"] == "test") & (table["corpus"] == "folder")])

    alone = tested({})
    assert tested(small("chest")) == alone
    assert tested({}, labels=["c", "a"]) == {path for path in alone if "/b/" not in path}
