import itertools
import multiprocessing
import pickle
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from dicoms import dicom
from lightning.pytorch import LightningModule, Trainer
from phantoms import small
from PIL import Image
from stores import store

from xrayssl.data import XrayDataModule
from xrayssl.data.films import Films, film_seed
from xrayssl.data.manifest import Manifest
from xrayssl.data.transforms import Augment, Small, evaluation, training
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
    percentile = module(films, window="percentile", limits=(20, 80))
    (plain,), (cut,) = module(films).test_dataloader(), percentile.test_dataloader()
    assert cut["image"].float().std() > 1.2 * plain["image"].float().std()


def test_limits_without_percentiles_are_refused(films):
    with pytest.raises(UserError, match=r"--data\.limits go with --data\.window percentile; .*'voi'"):
        module(films, limits=(1, 99))


@pytest.fixture
def frames(tmp_path):
    """A folder of four DICOM films of 12 bits, each of a dark frame and a black one."""
    (tmp_path / "frames").mkdir()
    pixels = np.zeros((2, 40, 40), np.uint16)
    pixels[0] = np.linspace(0, 2047, 40)
    for name in "abcd":
        dicom(tmp_path / f"frames/{name}.dcm", pixels, BitsStored=12, HighBit=11)
    return tmp_path / "frames"


@pytest.mark.parametrize(("window", "brightest"), [("voi", 255), ("none", 127)])
def test_window_and_frame_are_the_configs_choice(window, brightest, frames):
    (batch,) = module(frames, img_size=40, window=window, first_frame=True, test=0.5).test_dataloader()
    assert batch["image"].amax() == brightest


def test_a_film_of_several_frames_is_refused_unless_asked_for(frames):
    with pytest.raises(UserError, match="frames"):
        list(module(frames).test_dataloader())


def test_a_films_seed_differs_between_epochs_rows_runs_and_views():
    parts = (0, 1, 2**32 - 1), range(10), range(100), range(3)
    seeds = {film_seed(*each) for each in itertools.product(*parts)}
    assert len(seeds) == 3 * 10 * 100 * 3
    assert max(seeds) < 2**128


@pytest.mark.parametrize("workers", [0, 2])
def test_views_come_in_order_and_the_first_is_the_image(workers, films):
    augment = Augment(views=2, small=Small(count=2, size=16))
    for batch in module(films, augment=augment, num_workers=workers).train_dataloader():
        assert [tuple(view.shape) for view in batch["views"]] == [(4, 1, 32, 32)] * 2 + [(4, 1, 16, 16)] * 2
        assert torch.equal(batch["image"], batch["views"][0])
        assert not torch.equal(*batch["views"][:2]) and not torch.equal(*batch["views"][2:])


def test_one_view_is_no_list(films):
    assert "views" not in next(iter(module(films).train_dataloader()))


def test_the_first_view_is_what_it_would_be_alone(films):
    alone, among = (module(films, augment=Augment(views=views)).train_dataloader() for views in (1, 3))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(alone, among, strict=True))


def test_validation_sees_the_central_cut_beside_the_same_views_in_every_epoch(films):
    loader = module(films, augment=Augment(views=2)).val_dataloader()
    (plain,) = module(films).val_dataloader()
    first, second = (next(iter(loader)) for loader.sampler.epoch in range(2))
    assert torch.equal(first["views"][0], plain["image"])
    assert torch.equal(first["views"][1], second["views"][1])
    assert not torch.equal(first["views"][0], first["views"][1])
    assert "views" not in next(iter(module(films, augment=Augment(views=2)).test_dataloader()))


def test_every_film_is_prepared_whatever_its_split(films):
    for path in films.rglob("*.png"):
        Image.fromarray(np.pad(np.asarray(Image.open(path)), 30)).save(path)
    data = module(films, augment=Augment(trim=True, circle=True))
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        image = next(iter(loader))["image"]
        assert (image[:, :, 0, 0] == 0).all()
        assert image[:, :, 16, 16:20].float().std() > 20  # a fifth of the sides is left


def test_flips_are_warned_of_where_a_label_tells_a_side(films, caplog):
    for split in ("train", "val", "test"):
        (films / split / "A").rename(films / split / "left hip")
    module(films, augment=Augment(flip=0))
    assert not caplog.messages
    module(films)
    assert any("'left hip' tells a side" in text and "--data.augment.flip 0" in text for text in caplog.messages)


def test_a_label_that_tells_a_side_is_not_flipped_away(films):
    for split in ("train", "val", "test"):
        (films / split / "A").rename(films / split / "left hip")
    always = {"augment": Augment(flip=1.0)}
    first, kept = (
        next(iter(module(films, **more).train_dataloader())) for more in (always, {"augment": Augment(flip=0)})
    )
    assert torch.equal(first["image"], kept["image"])
    unlabelled = next(iter(module(films, labels=[], **always).train_dataloader()))
    assert not torch.equal(unlabelled["image"], kept["image"])


def test_excluded_films_are_not_learned_from_but_tested(films, tmp_path):
    (tmp_path / "list.txt").write_text("train/A/2.png\ntest/A/0.png\n")
    paths = module(films, exclude=[str(tmp_path / "list.txt")]).manifest.table["path"]
    gone = set(module(films).manifest.table["path"]) - set(paths)
    assert gone == {str(films / "train/A/2.png")}


def test_a_manifest_tells_what_is_scored(films):
    data = module(films)
    assert data.score == "film"
    data.manifest = replace(data.manifest, score="study")
    assert data.score == "study"


@pytest.fixture
def stored(films, tmp_path):
    """A store of the folder of films, none of which had to be shrunk."""
    store(films, tmp_path / "stores/folder", size=64)
    return tmp_path / "stores/folder"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_gives_the_batches_of_its_raw_films(workers, films, stored):
    raw, kept = (module(root, num_workers=workers).train_dataloader() for root in (films, stored))
    for ours, theirs in zip(raw, kept, strict=True):
        assert {name: value.tolist() for name, value in ours.items()} == {k: v.tolist() for k, v in theirs.items()}


def test_a_store_and_raw_films_go_together(stored, chest):
    data = XrayDataModule(small("chest") | {"folder": str(stored)}, img_size=32, num_workers=0)
    seen = [row for batch in data.train_dataloader() for row in batch["index"].tolist()]
    assert set(data.manifest.table["corpus"].iloc[seen]) == {"phantom", "folder"}


def test_a_store_of_another_window_is_refused(stored):
    with pytest.raises(UserError, match=r"made with --data\.window voi"):
        module(stored, window="none")


def test_a_store_that_is_smaller_than_what_the_network_is_fed_is_warned_of(stored, caplog):
    module(stored, img_size=64)
    assert not caplog.messages
    module(stored, img_size=65)
    assert "keeps 64 pixels of the short side, and the network is fed 65" in caplog.text


def test_workers_stay_from_epoch_to_epoch(films):
    loader = module(films, num_workers=2).train_dataloader()
    pids = []
    for loader.sampler.epoch in range(2):
        assert len(list(loader)) == 3
        pids.append({child.pid for child in multiprocessing.active_children()})
    assert pids[0] == pids[1]


def test_an_epoch_that_was_broken_off_leaves_nothing_to_the_next(films):
    loader, whole = (module(films, num_workers=2, batch_size=2).train_dataloader() for _ in range(2))
    next(iter(loader))
    for loader.sampler.epoch, whole.sampler.epoch in ((1, 1), (2, 2)):
        got, wanted = ([batch["index"].tolist() for batch in each] for each in (loader, whole))
        assert got == wanted


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


def test_workers_share_every_row_of_the_table(films):
    dataset = module(films).train_dataloader().dataset
    parts = [*vars(dataset).values(), *vars(dataset.stored).values()]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    assert arrays and all(array.dtype != object for array in arrays)  # a worker would copy each object that it counts
    assert not any(isinstance(part, list | dict) and len(part) >= len(dataset) for part in parts)


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
