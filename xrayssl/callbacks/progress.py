"""The progress bar: rate and time left, and little else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


class Progress(TQDMProgressBar):
    """Lightning's bar; into a file or pipe it writes a line per hundred batches and no bar for validation."""

    def __init__(self) -> None:
        self.watched = sys.stderr.isatty()
        super().__init__(refresh_rate=1 if self.watched else 100)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Leaves out the loggers' version, which is no figure."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}

    def init_validation_tqdm(self) -> Tqdm:
        """Makes the bar of a validation."""
        return self._quiet(super().init_validation_tqdm())

    def init_sanity_tqdm(self) -> Tqdm:
        """Makes the bar of the batches that are tried before training."""
        return self._quiet(super().init_sanity_tqdm())

    def _quiet(self, bar: Tqdm) -> Tqdm:
        bar.disable = bar.disable or not self.watched
        return bar


def bars_last(callbacks: Sequence[Callback]) -> list[Callback]:
    """Puts bars behind everything but checkpoints.

    What a bar computes in the first process alone, `LastCheckpoint`, which comes next, computes in the others.
    """
    return sorted(callbacks, key=lambda callback: isinstance(callback, ProgressBar))
