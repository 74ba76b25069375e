"""Films of a manifest as a data set, and the loader of batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xrayssl.data.batch import Batch, collate
from xrayssl.data.manifest import Manifest
from xrayssl.data.radiograph import Window, read, window
from xrayssl.data.sampler import EpochSampler
from xrayssl.data.store import StoredFilms
from xrayssl.data.transforms import Transform
from xrayssl.errors import UserError

__all__ = ["FilmLoader", "Films", "collate", "film_seed"]


class Films(Dataset[Batch]):
    """Reads, windows and transforms films; asked for (epoch, row), it gives a batch of one.

    Args:
        manifest: The table.
        transform: From the film to what the network sees of it; or several, one for each view.
        seed: Of augmentation; a draw depends on (seed, epoch, row, view) alone.
        limits: Percentiles of the grey values that become black and white, 0-100.
        kind: Of the grey window; see `radiograph.window`.
        first_frame: Take the first frame of a DICOM that holds several.
        prepare: What all views of a film share, from film to film.
        anew: Draw anew in every epoch; otherwise each epoch is like the first.
    """

    def __init__(
        self,
        manifest: Manifest,
        transform: Transform | Sequence[Transform],
        seed: int = 0,
        limits: tuple[float, float] = (0.0, 100.0),
        kind: Window = "voi",
        first_frame: bool = False,
        prepare: Callable[[np.ndarray], np.ndarray] | None = None,
        anew: bool = True,
    ) -> None:
        self.stored = StoredFilms(manifest.table)
        # one buffer: of half a million Python strings, every worker would come to copy the pages it touches
        self.paths = pa.array(manifest.table["path"].to_numpy(object), pa.large_string())
        self.labels = manifest.labels()
        self.views = [transform] if callable(transform) else list(transform)
        self.seed, self.limits, self.kind, self.first_frame, self.prepare = seed, limits, kind, first_frame, prepare
        self.anew = anew

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        return self._batch([key])

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[Batch]:
        return [self._batch(keys)]  # what the loader asks for: a batch at once

    def _batch(self, keys: Sequence[tuple[int, int]]) -> Batch:
        views = [torch.empty((len(keys), 1, *view.size), dtype=torch.uint8) for view in self.views]
        rooms = [view_BCHW.numpy()[:, 0] for view_BCHW in views]
        rows: list[int] = []
        problems = []
        for epoch, row in keys:
            try:
                film = self.film(row)
            except UserError as error:  # raised in the parent: through a worker it would arrive as a stack trace
                problems.append(str(error))
                continue
            for number, view in enumerate(self.views):
                view(film, film_seed(self.seed, epoch if self.anew else 0, row, number), rooms[number][len(rows)])
            rows.append(row)
        return self._described([view_BCHW[: len(rows)] for view_BCHW in views], rows, problems)

    def _described(self, views: list[Tensor], rows: list[int], problems: list[str]) -> Batch:
        batch: Batch = {
            "image": views[0],
            "label": torch.from_numpy(self.labels[rows]),
            "index": torch.tensor(rows, dtype=torch.int64),
        }
        if len(views) > 1:
            batch["views"] = views
        return {**batch, "unreadable": problems} if problems else batch

    def film(self, row: int) -> np.ndarray:
        """The film of a row as every view of it starts from, uint8 (H, W).

        Raises:
            UserError: If it cannot be read.
        """
        film = self.stored.pixels(row)
        if film is None:
            raw = read(self.paths[row].as_py(), voi=self.kind == "voi", first_frame=self.first_frame)
            film = window(raw, self.kind, self.limits)
        return self.prepare(film) if self.prepare else film


def film_seed(seed: int, epoch: int, row: int, view: int = 0) -> int:
    """A seed of 128 bits for one view of one film in one epoch; no two of a run are equal."""
    return ((seed << 32 | epoch) << 48 | row) << 16 | view


class FilmLoader(DataLoader[Batch]):
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
