"""Ends a training whose loss is no number any more, before that reaches a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from xrayssl.errors import UserError

STEPS = 50  # between two looks at a loss that lies on an accelerator, which has to be waited for


class Divergence(Callback):
    """Refuses a loss that is not finite: on a CPU at once, elsewhere every 50 steps and before anything is saved."""

    def __init__(self) -> None:
        self._wrong: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remembers whether a loss was wrong, where it is computed."""
        loss = (outputs["loss"] if isinstance(outputs, Mapping) else outputs).detach()
        wrong = ~torch.isfinite(loss)
        self._wrong = wrong if self._wrong is None else self._wrong | wrong
        if loss.device.type == "cpu" or (batch_idx + 1) % STEPS == 0:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks before the epoch is saved."""
        self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Looks before anything else is."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if self._wrong is None or not self._wrong:
            return
        self._wrong = None
        raise UserError(
            f"The training has diverged: in epoch {trainer.current_epoch + 1}, by step {trainer.global_step}, its loss "
            "is not a finite number. Lower --model.optim.lr or warm up longer (--model.optim.warmup_epochs); a "
            "checkpoints/last.ckpt in the run is of before, and a new run can start from it by --model.init_from."
        )
