"""Predictions gathered over processes without repeats; the figures themselves come from `intervals`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, float32
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from xrayssl.statistics.intervals import auroc, evaluate

__all__ = ["Gathered", "Predictions", "auroc", "evaluate"]


@dataclass
class Gathered:
    """Every film once, by ascending index."""

    index: NDArray[np.int64]  # (N,) manifest row
    probability: NDArray[np.float32]  # (N, K)
    label: NDArray[np.float32]  # (N, K): 1, 0 or NaN


NOTHING = Gathered(np.empty(0, np.int64), np.empty((0, 0), np.float32), np.empty((0, 0), np.float32))


class Predictions(Metric):
    """What the network said of each film, gathered over processes, each film once.

    A distributed sampler repeats films so that every process has as many; counting them twice moves the
    metrics (17 films on 2 processes gave an AUROC of 0.623 instead of 0.576). Every process needs at least
    one film.
    """

    full_state_update = False
    is_differentiable = False
    index: list[Tensor]
    probability: list[Tensor]
    label: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("index", "probability", "label"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, index_B: Tensor, probability_BK: Tensor, label_BK: Tensor) -> None:
        """Add one batch.

        Args:
            index_B: Manifest rows.
            probability_BK: Probabilities, never logits; any floating type.
            label_BK: 1, 0 or NaN for unknown.

        Raises:
            ValueError: If the shapes differ.
        """
        if probability_BK.shape != label_BK.shape or len(index_B) != len(label_BK):
            shapes = [tuple(part.shape) for part in (index_B, probability_BK, label_BK)]
            raise ValueError(f"index, probability and label do not fit: {shapes}.")
        self.index.append(index_B.detach().long())
        self.probability.append(probability_BK.detach().to(float32))
        self.label.append(label_BK.detach().to(float32))

    def compute(self) -> Gathered:
        """Every film of every process once, by ascending index."""
        if len(self.index) == 0:
            return NOTHING
        every = [dim_zero_cat(state).cpu().numpy() for state in (self.index, self.probability, self.label)]
        index, first = np.unique(every[0], return_index=True)
        return Gathered(index, every[1][first], every[2][first])
