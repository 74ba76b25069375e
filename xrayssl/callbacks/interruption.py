"""Ctrl-C and SIGTERM wait for the optimiser's step, so that the run goes on from there bit for bit."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

WAITING = (
    "\nxrayssl: stopping after this step; Ctrl-C again stops at once and loses what followed the last checkpoint.\n"
)

ECHO = 2.0  # seconds


class Forced(KeyboardInterrupt):
    """A second Ctrl-C: it may have come in the middle of a step, so nothing is saved of it."""


class Interruption(Callback):
    """Ends a fit at the end of an accumulation window after a signal, and at once where no weights are moving.

    Python raises KeyboardInterrupt between any two instructions, such as after the optimiser's step and before the
    batch is counted: that batch would be learned twice. Where several processes train, they stop at the same step.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._when = 0.0
        self._learning = False
        self._process = os.getpid()
        self._trainer: Trainer
        self._before: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listens to Ctrl-C before the workers that read films are forked, which then leave it to this process."""
        self._trainer, self.asked = trainer, None
        if stage == "fit":
            self._listen(signal.SIGINT)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens to SIGTERM in Lightning's place, which would end the fit between two steps of a window."""
        self._learning = True
        self._listen(signal.SIGTERM)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops once the window is complete; after the last batch, what ends an epoch comes first."""
        if whole(trainer) and batch_idx + 1 < trainer.num_training_batches:
            self._stop()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stops before a batch of validation, unless gradients wait for their step."""
        if trainer.state.fn == "fit" and whole(trainer):
            self._stop()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops between two epochs."""
        self._stop()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops before what follows the training."""
        self._stop()
        self._learning = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives the signals back."""
        self._give_back()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the signals back."""
        self._give_back()

    def _listen(self, signum: int) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before[signum] = signal.signal(signum, self._hear)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        if self.asked is not None and not self._insists(signum):
            return
        if self.asked is not None:
            raise Forced
        if not self._must_wait():
            raise _exception(signum)
        self.asked, self._when = signum, time.monotonic()
        if self._trainer.is_global_zero:
            os.write(2, WAITING.encode())  # a stream may be in the middle of a line of its own

    def _insists(self, signum: int) -> bool:
        """A user does; torchrun only passes on a Ctrl-C that has reached its processes already."""
        echo = self._trainer.world_size > 1 and time.monotonic() - self._when < ECHO
        return signum == signal.SIGINT and not echo

    def _must_wait(self) -> bool:
        idle = self._trainer.validating and whole(self._trainer) and self._trainer.world_size == 1
        return self._learning and not idle

    def _stop(self) -> None:
        """Raises in every process if any was asked to stop."""
        asked = self.asked is not None
        if self._learning and self._trainer.world_size > 1:
            asked = self._trainer.strategy.reduce_boolean_decision(asked, all=False)
        if self._learning and asked:
            self._learning = False
            raise _exception(self.asked or signal.SIGTERM)

    def _give_back(self) -> None:
        self._learning = False
        for signum, handler in self._before.items():
            if signal.getsignal(signum) == self._hear:
                signal.signal(signum, handler)
        self._before = {}


def whole(trainer: Trainer) -> bool:
    """Says whether the weights have learned from every gradient so far, and no step is under way."""
    batch: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    complete = batch.processed % trainer.accumulate_grad_batches == 0
    return batch.ready == batch.processed and (complete or batch.processed >= trainer.num_training_batches)


def _exception(signum: int) -> BaseException:
    return KeyboardInterrupt() if signum == signal.SIGINT else SIGTERMException()
