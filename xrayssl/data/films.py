"""Films of a manifest as a data set, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xrayssl.data.manifest import Manifest
from xrayssl.data.radiograph import read, window
from xrayssl.data.sampler import EpochSampler
from xrayssl.data.transforms import Transform
from xrayssl.errors import UserError


class Batch(TypedDict):
    """What a method gets."""

    image: Tensor  # uint8 (B, C, H, W)
    label: Tensor  # float32 (B, K): 1, 0, NaN unknown
    index: Tensor  # int64 (B,) manifest row
    unreadable: NotRequired[list[str]]  # why films are missing; taken out by the loader


class Sample(TypedDict):
    """One film of a batch, or why there is none."""

    image: np.ndarray | None
    label: np.ndarray
    index: int
    problem: str


class Films(Dataset[Sample]):
    """Reads, windows and transforms films; an item is asked for as (epoch, row).

    Args:
        manifest: The table.
        transform: From the uint8 film and a seed to the uint8 image of the network's size.
        seed: Of augmentation; a film's draw depends on (seed, epoch, row) alone.
        limits: Percentiles of the grey values that become black and white, 0-100.
    """

    def __init__(
        self, manifest: Manifest, transform: Transform, seed: int = 0, limits: tuple[float, float] = (0.0, 100.0)
    ) -> None:
        self.paths = manifest.table["path"].to_numpy(object)
        self.labels = manifest.labels()
        self.transform, self.seed, self.limits = transform, seed, limits

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, row = key
        sample: Sample = {"image": None, "label": self.labels[row], "index": row, "problem": ""}
        try:
            image = window(read(self.paths[row]), *self.limits)
        except UserError as error:  # raised in the parent: through a worker it would arrive as a stack trace
            return {**sample, "problem": str(error)}
        return {**sample, "image": self.transform(image, film_seed(self.seed, epoch, row))}


def film_seed(seed: int, epoch: int, row: int) -> int:
    """A seed of 32 bits for one film in one epoch."""
    return int(np.random.SeedSequence((seed, epoch, row)).generate_state(1)[0])


def collate(samples: Sequence[Sample]) -> Batch:
    """Joins the films that could be read; the others are named."""
    good = [sample for sample in samples if sample["image"] is not None]
    images = [torch.from_numpy(sample["image"])[None] for sample in good]
    batch: Batch = {
        "image": torch.stack(images) if images else torch.empty(0, dtype=torch.uint8),
        "label": torch.from_numpy(np.array([sample["label"] for sample in good], np.float32)),
        "index": torch.tensor([sample["index"] for sample in good], dtype=torch.int64),
    }
    problems = [sample["problem"] for sample in samples if sample["problem"]]
    return {**batch, "unreadable": problems} if problems else batch


class FilmLoader(DataLoader[Sample]):
    """A loader that goes on inside an epoch, through the interface that Lightning asks for.

    Its workers are ahead of the training step, so it asks the loops how far they have come. Iteration starts with the
    first batch that is asked for: Lightning makes the iterator before it restores a checkpoint.

    Args:
        *args: Of the loader; its sampler is an `EpochSampler`.
        **kwargs: Likewise.
    """

    sampler: EpochSampler
    position: Callable[[], tuple[int, int]] | None = None
    """Epoch, and batches of it that were learned from."""
    unreadable: Callable[[str], None] | None = None
    """Gets the sentence about each film that could not be read; without it the first one is raised."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            for problem in batch.pop("unreadable", []):
                self._report(problem)
            if len(batch["index"]):
                yield batch
            elif self.sampler.shuffle:  # a step cannot be left out: the loops, and other processes, count on it
                raise UserError("No film of a whole training batch could be read; use a larger --data.batch_size.")

    def _report(self, problem: str) -> None:
        if self.unreadable is None:
            raise UserError(problem)
        self.unreadable(problem)

    def state_dict(self) -> dict[str, Any]:
        """Where the loops are, and what must be the same in a run that goes on from there."""
        epoch, batch = self.position() if self.position else (0, 0)
        return {"films": len(self.sampler), "batch_size": self.batch_size, "epoch": epoch, "batch": batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on there.

        Raises:
            UserError: If the films or the batch size changed.
        """
        films, size = len(self.sampler), int(self.batch_size or 1)
        if (films, size) != (state["films"], state["batch_size"]):
            raise UserError(
                f"--ckpt_path resumes the same run; it was fed {state['films']} films in batches of "
                f"{state['batch_size']}, this one {films} in batches of {size}. To start a new run from its backbone, "
                "use --model.init_from."
            )
        self.sampler.resume(state["epoch"], state["batch"] * size)
