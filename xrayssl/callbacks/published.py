"""What Weights & Biases is told beside figures: whose weights a run started from and made, and the curves of a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from xrayssl import handoff, results, tensors_file
from xrayssl.finetuning import evaluation
from xrayssl.loggers import WandbRun, wandb_runs
from xrayssl.metrics import Gathered
from xrayssl.tracking import curves, lineage

SENT = ("architecture", "in_chans", "img_size", "method", "parents", "data", "git", "selected_on", "created")
"""Of a backbone's header; git is left out where privacy is asked for."""


class Published(Callback):
    """Tells the run's own Weights & Biases logger, where there is one. It comes after the export of the backbone.

    Args:
        title: Of the run, which names its weights where they are uploaded.
    """

    def __init__(self, title: str) -> None:
        self.title = title

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Links the run to the weights it started from, and says which end of a curve is its best."""
        monitor = getattr(pl_module, "monitor", None)
        for logger in wandb_runs(trainer):
            _started_from(logger, getattr(pl_module, "parents", []))
            if monitor is not None:
                name, best = monitor
                logger.experiment.define_metric(name, step_metric="trainer/global_step", summary=best)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Names the weights that it made by their checksum, and uploads them where that is asked for."""
        path = Path(trainer.default_root_dir) / handoff.FILE
        for logger in wandb_runs(trainer) if path.is_file() else ():
            header, _ = tensors_file.read(path)
            hidden = ("git",) if logger.options.privacy else ()
            facts = {
                "stage": self.title,
                **{name: header[name] for name in SENT if name in header and name not in hidden},
            }
            checksum = handoff.sha256(path)
            lineage.made(logger.experiment, checksum, facts)
            logger.experiment.summary["weights"] = checksum
            if logger.options.artifacts:
                lineage.uploaded(logger.experiment, path, self.title, facts)

    @rank_zero_only
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Links the test to the weights that the tested run made."""
        for logger in wandb_runs(trainer):
            _started_from(logger, _handed_on(trainer) or getattr(pl_module, "parents", []))

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what the test has written."""
        self._measured(trainer, "test")

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what `xrayssl validate` has written."""
        if trainer.state.fn == "validate":
            self._measured(trainer, "val")

    def _measured(self, trainer: Trainer, split: evaluation.Split) -> None:
        """Logs intervals as a part of the summary, and ROC and precision-recall curves, of what is scored."""
        folder, runs = Path(trainer.default_root_dir), list(wandb_runs(trainer))
        if not runs or not (folder / results.PREDICTIONS).is_file():
            return
        figures = json.loads((folder / results.METRICS).read_text(encoding="utf-8"))
        films, task = _predictions(folder, figures["classes"]), figures["task"]
        scored = evaluation.scored(trainer, films, task, figures["unit"])
        rows = list(curves.rows(scored.probability, scored.label, figures["classes"], split))
        for logger in runs:
            logger.experiment.summary.update(_intervals(figures, split))
            curves.log(logger.experiment, rows)


def _started_from(logger: WandbRun, parents: list[dict[str, Any]]) -> None:
    if parents:
        nearest = parents[-1]
        lineage.used(logger.experiment, nearest["sha256"], {"method": nearest.get("method")})


def _handed_on(trainer: Trainer) -> list[dict[str, Any]]:
    """The weights that the run of a checkpoint handed on, if they are that checkpoint's: the best one's, if any is."""
    checkpoint = Path(trainer.ckpt_path or "")
    path, best = checkpoint.parent.parent / handoff.FILE, checkpoint.with_name("best.ckpt")
    if not checkpoint.is_file() or not path.is_file() or (best.is_file() and best.name != checkpoint.name):
        return []
    header, _ = tensors_file.read(path)
    return [{"method": header.get("method"), "sha256": handoff.sha256(path)}]


def _predictions(folder: Path, classes: list[str]) -> Gathered:
    import pandas as pd

    table = pd.read_parquet(folder / results.PREDICTIONS)
    kinds = {
        kind: table[[f"{kind}/{name}" for name in classes]].to_numpy("float32") for kind in ("probability", "label")
    }
    return Gathered(table["index"].to_numpy(), **kinds)


def _intervals(figures: dict[str, Any], split: str) -> dict[str, Any]:
    """Both ends of each interval, by the name of its figure, and how many films and patients there were."""
    ends = {f"{split}_{end}/{name}": entry[end] for name, entry in figures["metrics"].items() for end in ("low", "high")
            if entry[end] is not None}  # fmt: skip
    return {**ends, f"{split}_films": figures["films"], f"{split}_patients": figures["patients"]}
