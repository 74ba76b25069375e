"""What Lightning's LearningRateFinder and BatchSizeFinder leave undone: they know one rate, and keep the schedule."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from torch.optim.lr_scheduler import LambdaLR

from xrayssl.errors import UserError

log = logging.getLogger(__name__)


def searched(trainer: Any) -> bool:
    """Whether this training looks for its rate or batch; not within the search itself, which has no callbacks."""
    return len(without_finders(trainer.callbacks)) < len(trainer.callbacks)


def without_finders(callbacks: Sequence[Any]) -> list[Any]:
    """The callbacks for films that are measured: Lightning's finders would search there too, and print figures of the
    few films that a trial sees."""
    return [callback for callback in callbacks if not isinstance(callback, LearningRateFinder | BatchSizeFinder)]


def check_order(trainer: Any) -> None:
    """Sees whether a rate is looked for after its batch.

    Raises:
        UserError: If it is not.
    """
    kinds = [type(callback) for callback in trainer.callbacks]
    if {BatchSizeFinder, LearningRateFinder} <= set(kinds) and (
        kinds.index(LearningRateFinder) < kinds.index(BatchSizeFinder)
    ):
        raise UserError("A rate belongs to a batch: put BatchSizeFinder before LearningRateFinder.")


def check(trainer: Any) -> None:
    """Sees whether a search goes with a training that is about to go on from a checkpoint.

    Raises:
        UserError: If one is asked for: the training keeps the rate and batch it began with.
    """
    if searched(trainer) and not trainer.optimizers:  # with optimisers, it is a search that goes back to its start
        raise UserError(
            "A run that goes on keeps its learning rate and batch: leave the finders out of its config, and set "
            "--model.optim.lr and --data.batch_size to what they found, which the run has told."
        )


def adopt(trainer: Any, rate: float) -> None:
    """Builds optimiser and schedule anew for what was found, says how to repeat it, and has run.json keep it.

    Lightning would write the rate into every group, whatever its layer, until the schedule puts the old one back, and
    would leave a schedule for as many steps as the old batch had.

    Args:
        trainer: That has searched.
        rate: What it found, as --model.optim.lr.

    Raises:
        UserError: If it found no rate.
    """
    if not searched(trainer) or trainer.fast_dev_run:
        return
    finders = [callback for callback in trainer.callbacks if isinstance(callback, LearningRateFinder)]
    if any(finder.optimal_lr is None or finder.optimal_lr.suggestion() is None for finder in finders):
        raise UserError(
            "No rate was found: the search needs more steps (its num_training_steps, --trainer.max_epochs)."
        )
    trainer.strategy.setup_optimizers(trainer)
    batch = getattr(trainer.datamodule, "batch_size", None)
    found = {"model.optim.lr": rate} | ({"data.batch_size": batch} if batch else {})
    trainer.lightning_module.found = found
    words = " ".join(f"--{name} {value!r}" for name, value in found.items())
    log.info("Found. To repeat this run, or to go on with it, leave the finders out and set %s.", words)


def keep_layer_decay(scheduler: Any) -> None:
    """Multiplies what a finder's own schedule has set by the scale of each layer; ours has done so from the start."""
    if not isinstance(scheduler, LambdaLR):
        for group in scheduler.optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
