"""One data module for every corpus: manifest, split, films, batches."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from xrayssl.data import arguments, folds, store, subset, transforms
from xrayssl.data.augment import Augment, sides
from xrayssl.data.batch import collate
from xrayssl.data.corpora import Source, gather
from xrayssl.data.exclusion import exclude as without
from xrayssl.data.films import FilmLoader, Films
from xrayssl.data.manifest import Manifest, Score, Task, join, select
from xrayssl.data.parallel import cores
from xrayssl.data.quarantine import Quarantine
from xrayssl.data.radiograph import Window
from xrayssl.data.sampler import EpochSampler
from xrayssl.data.split import assign, wrong_shares
from xrayssl.errors import UserError, refuse
from xrayssl.laterality import sided

log = logging.getLogger(__name__)


class XrayDataModule(LightningDataModule):
    """Films of one or more corpora, split by patient.

    Args:
        corpora: Name of a corpus (see xrayssl/data/corpora) to where it lies, or to a mapping with `root` and that
            corpus's options. null takes rendered phantoms.
        labels: Classes to learn, in this order; null takes all that the corpora have.
        img_size: Height and width for the network in pixels; an int means a square.
        batch_size: Films per process and step.
        num_workers: Processes that read films; null takes one per core, 8 at most.
        augment: What happens to films before they reach the network.
        window: Which grey values become black and white: "voi" follows a DICOM's own window and spans the darkest to
            the brightest of films deeper than 8 bit; "percentile" spans `limits`; "none" spans the whole scale.
        limits: For the window "percentile": percentiles of a film's grey values that become black and white, 0-100.
        first_frame: Take the first frame of a DICOM that holds several, which is refused otherwise.
        exclude: Files that list films or patients to leave out of training and validation, such as those that a later
            stage is tested on: names line by line, or a table (an index.parquet, a run's predictions.parquet).
        split_seed: Of the split by patient where a corpus has none; fixed, whatever the training seed.
        val: Share of patients for validation where a corpus has no such split.
        test: Share of patients for testing where a corpus has no such split.
        fold: "i/k", such as 1/5: deal corpora without a test split into k folds by patient, test on fold i (from 1),
            and cut validation from the rest. null: no cross-validation.
        fraction: Share of the training patients that is learned from, above 0 and up to 1; validation and test films
            stay. Smaller shares lie inside larger ones.
        shots: Training films per class instead, from as many patients as there are; of findings, films with each, and
            as many with none. null: all.
        subset_seed: Of the draw of `fraction` and `shots`.
        on_error: "raise" stops at a film that cannot be read; "quarantine" sets it aside, lists it in
            quarantine.txt of the run, and goes on.
        max_quarantine: Most films that may be set aside, as a share of all, 0-1, rounded up to whole films.

    Raises:
        UserError: If an argument makes no sense, or a corpus cannot be read as it should.
    """

    body: ClassVar[str] = "chest"

    def __init__(
        self,
        corpora: dict[str, str | dict[str, Any]] | None = None,
        labels: list[str] | None = None,
        img_size: int | tuple[int, int] = 224,
        batch_size: int = 64,
        num_workers: int | None = None,
        augment: Augment = Augment(),  # noqa: B008 - frozen
        window: Window = "voi",
        limits: tuple[float, float] = (0.0, 100.0),
        first_frame: bool = False,
        exclude: list[str] | None = None,
        split_seed: int = 0,
        val: float = 0.15,
        test: float = 0.2,
        fold: str | None = None,
        fraction: float = 1.0,
        shots: int | None = None,
        subset_seed: int = 0,
        on_error: Literal["raise", "quarantine"] = "raise",
        max_quarantine: float = 0.01,
    ) -> None:
        super().__init__()
        kept, (dealt, unclear) = subset.Subset(fraction, shots, subset_seed), folds.understood(fold)
        problems = arguments.wrong(img_size, batch_size, num_workers, window, limits, max_quarantine)
        refuse([*problems, *wrong_shares(val, test), *unclear, *subset.wrong(kept)])
        self.corpora = corpora or self.phantoms()
        self.img_size, self.batch_size, self.augment = img_size, batch_size, augment
        self.window, self.limits, self.first_frame, self.exclude = window, limits, first_frame, list(exclude or [])
        self.workers = min(8, cores()) if num_workers is None else num_workers
        self.fold, self.fraction, self.shots, self.subset_seed = fold, fraction, shots, subset_seed
        self._quarantine = Quarantine(on_error, max_quarantine)
        self._train: FilmLoader | None = None
        self._resumed: dict[str, Any] = {}
        if not corpora:
            log.warning("No --data.corpora given: the films are rendered phantoms, not patients.")
        # split before anything else: a corpus's test films must not depend on its company, on the labels chosen, or
        # on what could be read
        split = [store.readable(assign(manifest, val, test, split_seed, dealt)) for manifest in self._gathered()]
        self.whole: Manifest = select(join(split), labels)
        """Every film of the corpora, also those that are excluded from training or not drawn."""
        self.manifest: Manifest = subset.draw(without(self.whole, self.exclude), kept)  # last: a share of the rest
        self.augment = self._keeping_sides()
        self._warn_of_enlarged_films()

    def phantoms(self) -> dict[str, Source]:
        """The corpus that stands in when none is given."""
        return {"phantom": {"body": self.body}}

    def _gathered(self) -> list[Manifest]:
        manifests = gather(self.corpora)
        refuse([text for manifest in manifests for text in store.other_windows(manifest, self.window, self.limits)])
        return manifests

    @property
    def classes(self) -> list[str]:
        """Names of the network's outputs."""
        return self.manifest.classes

    @property
    def task(self) -> Task | None:
        """What kind of labels the corpora have."""
        return self.manifest.task

    @property
    def score(self) -> Score:
        """What a prediction is scored for: each film, or each study."""
        return self.manifest.score

    def train_dataloader(self) -> FilmLoader:
        """Augmented films in a new order per epoch; goes on where an interrupted run was."""
        self._train = self._loader("train")
        self._train.position = self._position if self.trainer is not None else None
        if self._resumed:
            self._train.load_state_dict(self._resumed)
        return self._train

    def state_dict(self) -> dict[str, Any]:
        """How far the training films have come."""
        return self._train.state_dict() if self._train is not None else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on there. Lightning restores the loader itself only if nothing has asked for its length before."""
        self._resumed = state_dict

    def val_dataloader(self) -> FilmLoader:
        """Validation films in manifest order."""
        return self._loader("val")

    def test_dataloader(self) -> FilmLoader:
        """Test films in manifest order."""
        return self._loader("test")

    predict_dataloader = test_dataloader

    def central(self, rows: np.ndarray, beside: int = 0) -> FilmLoader:
        """Films of any rows as they are measured: their central cut, in this order, all of them in this process; with
        some random views beside it, which are the same in every call."""
        loader = FilmLoader(
            self._films("test", 0, beside),
            batch_size=self.batch_size,
            sampler=EpochSampler(rows, shuffle=False),
            collate_fn=collate,
            num_workers=self.workers,
            generator=torch.Generator(),  # its own: a training that is watched draws what it would have drawn
            worker_init_fn=_leave_interrupts_to_the_parent,
        )
        loader.unreadable = self._set_aside
        return loader

    def _loader(self, split: str) -> FilmLoader:
        rows, training = self.manifest.rows(split), split == "train"
        if not len(rows):
            hint = "" if training else f" Give --data.{split} a larger share, or a corpus of more patients."
            raise UserError(f"Of {self.manifest.patients} patients there is no film in the split {split!r}.{hint}")
        seed, trainer = int(os.environ.get("PL_GLOBAL_SEED", 0)), self.trainer
        rank, world = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        loader = FilmLoader(
            self._films(split, seed),
            batch_size=self.batch_size,
            sampler=EpochSampler(rows, seed, training, rank, world),
            collate_fn=collate,
            num_workers=self.workers,
            drop_last=training and len(rows) // world >= self.batch_size,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(seed),
            worker_init_fn=_leave_interrupts_to_the_parent,
            persistent_workers=self.workers > 0 and split != "test",  # short epochs would pass in starting them
        )
        loader.unreadable = self._set_aside
        return loader

    def _films(self, split: str, seed: int, beside: int = 0) -> Films:
        """Training films as random views; validation films as the central cut, with the other views a method needs."""
        size = sides(self.img_size)
        views = transforms.views(size, self.augment)
        if split != "train":
            views[0] = transforms.evaluation(size, self.augment.circle)
        prepare = partial(transforms.prepare, self.augment) if self.augment.trim or self.augment.clahe else None
        return Films(
            self.manifest,
            [views[0], *[transforms.training(size, self.augment)] * beside] if split == "test" else views,
            seed,
            kind=self.window,
            limits=self.limits,
            first_frame=self.first_frame,
            prepare=prepare,
            anew=split == "train",
        )

    def _keeping_sides(self) -> Augment:
        """Without flips where a label tells a side."""
        names = sided(self.classes) if self.augment.flip else []
        if not names:
            return self.augment
        log.warning(
            "The label %r tells a side, which a flipped film belies: no film is flipped, as with "
            "--data.augment.flip 0. To flip them, leave such labels out of --data.labels.",
            names[0],
        )
        return replace(self.augment, flip=0.0)

    def _warn_of_enlarged_films(self) -> None:
        for text in store.too_small(self.manifest, min(sides(self.img_size))):
            log.warning("%s", text)

    def _position(self) -> tuple[int, int]:
        """Epoch, and batches of it that Lightning's loops have learned from."""
        trainer: Any = self.trainer
        loop = trainer.fit_loop
        epoch, batch = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current
        finished = batch.processed >= trainer.num_training_batches
        return (epoch.ready, 0) if finished else (epoch.processed, batch.processed)

    def _set_aside(self, problem: str) -> None:
        folder = Path(self.trainer.default_root_dir if self.trainer is not None else ".")
        self._quarantine.receive(problem, folder, len(self.manifest))


def _leave_interrupts_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; a reader that died of it would break the step that is finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class ChestXrayDataModule(XrayDataModule):
    """Chest films: what `XrayDataModule` says, with chest phantoms when no corpus is given."""

    body = "chest"


class ShoulderXrayDataModule(XrayDataModule):
    """Shoulder films: what `XrayDataModule` says, with shoulder phantoms when no corpus is given."""

    body = "shoulder"
