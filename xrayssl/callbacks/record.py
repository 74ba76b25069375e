"""What every run leaves behind: its configuration, run.json, and curves from the first epoch on."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from xrayssl import handoff, rundir
from xrayssl.data.viewing import stores_of
from xrayssl.files import write_json
from xrayssl.loggers import MetricsFile


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
        if trainer.state.fn == "validate" and self.record.get("verb") != "fit":
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
        """Records that the run is finished; after a fit something follows, and whoever does it calls `finish`."""
        if self.record.get("verb") != "fit":
            self.finish(trainer)

    def finish(self, trainer: Trainer) -> None:
        """Records that the run is finished, and the checksum of the weights that it hands on."""
        path = self.path.with_name(handoff.FILE)
        if trainer.is_global_zero and path.is_file():
            self.record["weights"] = handoff.sha256(path)
        self._end(trainer, "finished")

    def _began(self, trainer: Trainer, model: LightningModule) -> None:
        origin = lineage(model)
        self.record.update(origin)
        self._write(trainer)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                named = {"stage": self.record.get("config"), "seed": self.record.get("seed")}
                logger.log_hyperparams({**named, **origin, "data": self.record["data"]})

    def _end(self, trainer: Trainer, outcome: str) -> None:
        if self.record["outcome"] == "running":
            self.record["outcome"] = outcome
            self.record["seconds"] = round(time.monotonic() - self.start, 2)
            if found := getattr(trainer.lightning_module, "found", None):  # by a search; config.yaml has what was asked
                self.record["found"] = found
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            write_json(self.path, self.record)


class LearningRate(Callback):
    """Logs the highest learning rate of the parameter groups as `lr`, once per epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the rate of the epoch's last step."""
        if trainer.optimizers:
            pl_module.log("lr", max(group["lr"] for group in trainer.optimizers[0].param_groups), sync_dist=True)


class EarlierCurves(Callback):
    """Begins metrics.csv with the rows of the run that is resumed, up to the step of its checkpoint."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Hands the rows to the logger; a run's checkpoints lie one folder below its metrics.csv."""
        files = [logger for logger in trainer.loggers if isinstance(logger, MetricsFile)]
        if trainer.state.fn != "fit" or not trainer.ckpt_path or not trainer.is_global_zero:
            return
        for logger in files:
            logger.begin_with(earlier_rows(Path(trainer.ckpt_path).parents[1], checkpoint["global_step"]))


def earlier_rows(run: Path, steps: int) -> list[dict[str, Any]]:
    """Reads what a run logged in its first steps, without the cells that are empty."""
    try:
        with (run / "metrics.csv").open(newline="", encoding="utf-8") as lines:
            rows = [{name: value for name, value in row.items() if name and value} for row in csv.DictReader(lines)]
        return [row for row in rows if int(row.get("step", steps)) < steps]
    except (OSError, ValueError, csv.Error):
        return []


def lineage(model: LightningModule) -> dict[str, Any]:
    """Says what a model is and which files its weights come from; and which of these test films selected, if any."""
    known = getattr(model, "parents", [])
    parents = [parent["sha256"] for parent in known]
    backbone = getattr(getattr(model, "backbone", None), "architecture", None)
    marked = [parent["sha256"] for parent in known if parent.get("selected_on") == "test"]
    origin = {"method": type(model).__name__, "backbone": backbone, "parents": parents}
    return origin | ({"selected_on_test": marked} if marked else {})


def films(trainer: Trainer) -> dict[str, Any]:
    """Counts the films and patients of a run's data, and identifies them; how those of stores were made, too."""
    data = getattr(trainer, "datamodule", None)
    manifest = getattr(data, "manifest", None)
    if manifest is None:
        return {}
    splits = manifest.table["split"].value_counts().to_dict()
    counts = {"films": len(manifest), "patients": manifest.patients, "splits": splits}
    return {"checksum": manifest.checksum(), **counts, "stores": stores_of(getattr(data, "corpora", None) or {})}
