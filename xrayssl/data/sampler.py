"""The order of films: a function of (seed, epoch), shared out over processes, resumable inside an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, row), so that a film's augmentation can be a function of both.

    Args:
        rows: Manifest rows, int64 (N,).
        seed: Of the order.
        shuffle: Draw a new order in every epoch; otherwise rows stay as they are.
        rank: Of this process.
        world: Number of processes; the rows are padded by repeats so that each has as many.
    """

    def __init__(self, rows: np.ndarray, seed: int = 0, shuffle: bool = True, rank: int = 0, world: int = 1) -> None:
        self.rows, self.seed, self.shuffle, self.rank, self.world = rows, seed, shuffle, rank, world
        self.epoch = 0
        self._resumed, self._done = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next iteration; Lightning calls this."""
        self.epoch = epoch

    def resume(self, epoch: int, done: int) -> None:
        """Lets one epoch start inside.

        Args:
            epoch: In which the run was interrupted.
            done: Films of this process that it had already learned from.
        """
        self._resumed, self._done = epoch, done

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, done = self.epoch, self._done if self.epoch == self._resumed else 0
        self._done = 0
        return ((epoch, int(row)) for row in self._order(epoch)[done:])

    def _order(self, epoch: int) -> np.ndarray:
        rows = np.random.default_rng((self.seed, epoch)).permutation(self.rows) if self.shuffle else self.rows
        return np.resize(rows, len(self) * self.world)[self.rank :: self.world] if len(rows) else rows
