"""What every run leaves behind: its configuration, run.json, and checkpoints that can be gone on from."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback

from xrayssl import rundir
from xrayssl.errors import UserError

MINUTES_BETWEEN_CHECKPOINTS = 10


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration into the run and hands it to every logger.

    The checkpoint that was resumed is left out: the same file starts the same training again. run.json names it.
    """

    def __init__(self, parser: Any, config: Any, **kwargs: Any) -> None:
        config = config.clone()
        if "ckpt_path" in config:
            config["ckpt_path"] = None
        super().__init__(parser, config, **kwargs)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hands the configuration to the loggers; called on the first process only."""
        import yaml

        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams({"config": config})


class RunRecord(Callback):
    """Keeps run.json: what was started at the start, how long it took and how it ended at the end.

    Args:
        run: The run's folder.
        known: What is known before the data are read: verb, config, command, seed.
    """

    def __init__(self, run: Path, known: Mapping[str, Any]) -> None:
        self.path = run / "run.json"
        self.record: dict[str, Any] = {"version": 1, **known, **rundir.surroundings(), "outcome": "running"}
        self.start = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes the record as soon as the data are known."""
        self.record["data"] = {**self.record.get("data", {}), **films(trainer)}
        self.record["machine"].update(precision=str(trainer.precision), processes=trainer.world_size)
        self._write(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds where the weights come from, which is known once they are loaded."""
        self._began(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As `on_fit_start`, for `validate`."""
        if trainer.state.fn == "validate":
            self._began(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As `on_fit_start`, for `test`."""
        self._began(trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As `on_fit_start`, for `predict`."""
        self._began(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Records that the run did not finish."""
        stopped = isinstance(exception, KeyboardInterrupt | SystemExit)  # Lightning's SIGTERMException is the latter
        self._end(trainer, "interrupted" if stopped else "failed")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Records that the run is finished."""
        self._end(trainer, "finished")

    def _began(self, trainer: Trainer, model: LightningModule) -> None:
        origin = lineage(model)
        self.record.update(origin)
        self._write(trainer)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.log_hyperparams({**origin, "data": self.record["data"]})

    def _end(self, trainer: Trainer, outcome: str) -> None:
        if self.record["outcome"] == "running":
            self.record["outcome"] = outcome
            self.record["seconds"] = round(time.monotonic() - self.start, 2)
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            rundir.write(self.path, self.record)


class LearningRate(Callback):
    """Logs the highest learning rate of the parameter groups as `lr`, once per epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the rate of the epoch's last step."""
        if trainer.optimizers:
            pl_module.log("lr", max(group["lr"] for group in trainer.optimizers[0].param_groups), sync_dist=True)


def lineage(model: LightningModule) -> dict[str, Any]:
    """Says what a model is and which files its weights come from."""
    parents = [parent["sha256"] for parent in getattr(model, "parents", [])]
    backbone = getattr(getattr(model, "backbone", None), "architecture", None)
    return {"method": type(model).__name__, "backbone": backbone, "parents": parents}


def films(trainer: Trainer) -> dict[str, Any]:
    """Counts the films and patients of a run's data, and identifies them."""
    manifest = getattr(getattr(trainer, "datamodule", None), "manifest", None)
    if manifest is None:
        return {}
    return {"checksum": manifest.checksum(), "films": len(manifest), "patients": manifest.patients}


class LastCheckpoint(ModelCheckpoint):
    """Keeps last.ckpt at every epoch, every few minutes, and when the run is interrupted or fails.

    Not when the user can mend the failure: a refused checkpoint or a loss that is not finite must not replace
    what was good.

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

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Waits for the optimiser's step: gradients that are still being accumulated are in no checkpoint."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keeps the work, where every process is there to agree."""
        together = trainer.world_size == 1 or isinstance(exception, KeyboardInterrupt | SystemExit)
        if together and not isinstance(exception, UserError):
            super().on_exception(trainer, pl_module, exception)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Starts anew: a resumed run has a folder of its own."""


class BestCheckpoint(ModelCheckpoint):
    """Keeps best.ckpt, and brings it along when a run is resumed in a new folder.

    Args:
        folder: Where best.ckpt goes.
        metric: Name of the figure that selects.
        mode: "max" or "min".
    """

    def __init__(self, folder: Path, metric: str, mode: str) -> None:
        super().__init__(folder, filename="best", monitor=metric, mode=mode, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best checkpoint so far, if it is still where it was."""
        best = Path(state_dict["best_model_path"] or "-")
        if not best.is_file():
            return
        target = Path(str(self.dirpath)) / best.name
        if target != best and rundir.rank() == 0:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            shutil.copyfile(best, partial)
            os.replace(partial, target)
        self.best_model_path = self.kth_best_model_path = str(target)
        self.best_model_score = self.kth_value = state_dict["best_model_score"]
        self.best_k_models = {str(target): state_dict["best_model_score"]}


def checkpoints(run: Path, monitor: tuple[str, str] | None) -> list[Callback]:
    """Makes the callbacks that keep a run's checkpoints.

    Args:
        run: The run's folder.
        monitor: Figure and mode that select best.ckpt, or None to keep only the last.
    """
    folder = run / "checkpoints"
    best: list[Callback] = [BestCheckpoint(folder, *monitor)] if monitor else []
    return [*best, LastCheckpoint(folder, every=MINUTES_BETWEEN_CHECKPOINTS), LastCheckpoint(folder)]


def read(run: Path) -> dict[str, Any]:
    """Reads a run's record.

    Raises:
        UserError: The folder holds no run.
    """
    try:
        record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{run}: there is no run in that folder (no readable run.json).") from None
    return record
