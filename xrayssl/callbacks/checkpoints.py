"""The checkpoints of a run: the last, which can be gone on from bit for bit, and the best."""

from __future__ import annotations

import logging
import math
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from xrayssl import rundir
from xrayssl.callbacks.interruption import Forced, whole
from xrayssl.errors import UserError
from xrayssl.files import appearing

log = logging.getLogger(__name__)
MINUTES_BETWEEN_CHECKPOINTS = 10
SECONDS_BETWEEN_EPOCHS = 60.0


class LastCheckpoint(ModelCheckpoint):
    """Keeps last.ckpt at the end of epochs, every few minutes, and when the run is interrupted or fails.

    Epochs of a few seconds are not each written to the disk, which would take longer than they do: the first is, the
    last is, and of the others those that come a minute after the last one written.

    Never between the steps of an accumulation window, whose gradients are in no checkpoint, and not when the user can
    mend the failure: a refused checkpoint or a loss that is not finite must not replace what was good.

    Args:
        folder: Where last.ckpt goes.
        every: Minutes between checkpoints within an epoch; None keeps to epochs.
    """

    def __init__(self, folder: Path, every: float | None = None) -> None:
        super().__init__(
            folder,
            filename="last",
            save_top_k=1,
            enable_version_counter=False,
            save_on_exception=every is None,
            every_n_epochs=1 if every is None else None,
            train_time_interval=None if every is None else timedelta(minutes=every),
            save_on_train_epoch_end=True,
        )
        self._written = -math.inf

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes, unless it has just done so; the processes go by the first one's clock.

        What the first process' bar shows are means over all processes, which the others have to hear of before anything
        else is agreed upon: the bar alone would wait for ever.
        """
        trainer.callback_metrics  # noqa: B018  computes them, in every process
        due = ends(trainer) or time.monotonic() - self._written >= SECONDS_BETWEEN_EPOCHS
        if trainer.strategy.broadcast(due):
            super().on_train_epoch_end(trainer, pl_module)
            self._written = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Waits for the optimiser's step."""
        if whole(trainer):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps the work, where it is whole and every process is there to agree."""
        together = trainer.world_size == 1 or isinstance(exception, KeyboardInterrupt | SystemExit)
        lost = isinstance(exception, UserError | Forced) or trainer.state.fn != "fit"
        if not together or lost or not whole(trainer):
            return
        if trainer.validating:
            forget_validation(trainer)
        super().on_exception(trainer, pl_module, exception)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Starts anew: a resumed run has a folder of its own."""


def ends(trainer: Trainer) -> bool:
    """Says whether this epoch is the training's last."""
    enough = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
    return enough or trainer.should_stop


def forget_validation(trainer: Trainer) -> None:
    """Counts a validation that was cut short as one that is about to see its first film.

    Lightning would go on with its second half, and select the best checkpoint on that.
    """
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.increment_ready()
    progress.increment_started()


class BestCheckpoint(ModelCheckpoint):
    """Keeps best.ckpt, and brings it along when a run is resumed in a new folder.

    Args:
        folder: Where best.ckpt goes.
        metric: Name of the figure that selects.
        mode: "max" or "min".
    """

    def __init__(self, folder: Path, metric: str, mode: str) -> None:
        super().__init__(folder, filename="best", monitor=metric, mode=mode, enable_version_counter=False)
        self._beside: list[Path] = []

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes where the checkpoint lies that is resumed; `load_state_dict` comes next."""
        self._beside = [Path(trainer.ckpt_path).with_name("best.ckpt")] if trainer.ckpt_path else []

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best checkpoint so far: from where it was, or from beside the one that is resumed."""
        known = Path(state_dict["best_model_path"] or "-")
        best = next((path for path in (known, *self._beside) if path.is_file()), None)
        if best is None:
            if state_dict["best_model_path"]:
                log.warning("%s is gone: the best epoch is chosen anew, among those from here on.", known)
            return
        target = Path(str(self.dirpath)) / best.name
        if target != best and rundir.rank() == 0:
            with appearing(target) as partial:
                shutil.copyfile(best, partial)
        self.best_model_path = self.kth_best_model_path = str(target)
        self.best_model_score = self.kth_value = state_dict["best_model_score"]
        self.best_k_models = {str(target): state_dict["best_model_score"]}


class Ending(Callback):
    """Ends a run that goes on from its very last step as it would have ended; Lightning skips all that follows it.

    A process that is killed after its last checkpoint and before the run is finished leaves it to another to put the
    averages in place, to measure batch norms on whole films, and to write the last figures: those in the checkpoint.

    Args:
        folder: Where last.ckpt goes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._figures: dict[str, Any] = {}
        self._trained = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Has the loop ended here where Lightning leaves it without having begun."""
        loop: Any = trainer.fit_loop
        plain = loop.run

        def run() -> None:
            plain()
            searching = self not in trainer.callbacks  # type: ignore[attr-defined]  # Lightning's finders leave them out
            if not self._trained and not searching and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                self._end(trainer)

        if stage == "fit":
            loop.run = run

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the end to the training."""
        self._trained = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Writes the figures, too."""
        checkpoint["figures"] = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes them over."""
        self._figures = checkpoint.get("figures", {})

    def _end(self, trainer: Trainer) -> None:
        """Brings the loaders to where they were, and the checkpoint along."""
        for loader in trainer.fit_loop._combined_loader.flattened if trainer.fit_loop._combined_loader else ():
            loader.sampler.set_epoch(trainer.current_epoch - 1)
            loader.sampler.resume(0, 0)
        trainer.callback_metrics.update(self._figures)
        trainer.fit_loop.on_run_start()
        trainer.fit_loop.on_run_end()
        if trainer.is_global_zero and trainer.ckpt_path:
            with appearing(self.folder / "last.ckpt") as partial:
                shutil.copyfile(trainer.ckpt_path, partial)


def checkpoints(run: Path, monitor: tuple[str, str] | None) -> list[Callback]:
    """Makes the callbacks that keep a run's checkpoints.

    Args:
        run: The run's folder.
        monitor: Figure and mode that select best.ckpt, or None to keep only the last.
    """
    folder = run / "checkpoints"
    best: list[Callback] = [BestCheckpoint(folder, *monitor)] if monitor else []
    last = [LastCheckpoint(folder, every=MINUTES_BETWEEN_CHECKPOINTS), LastCheckpoint(folder)]
    return [Ending(folder), *best, *last]
