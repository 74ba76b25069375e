"""A classifier's films beside those of Lightning's loop, and what a measurement leaves in the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info

from xrayssl import results
from xrayssl.metrics import Gathered
from xrayssl.statistics import operating
from xrayssl.statistics.calibration import Task

Split = Literal["val", "test"]


def over(trainer: Any, split: Split, keep: Callable[[Any], Any]) -> None:
    """Hands every batch of a split to a function, as Lightning would hand it to a step: on its device, at its
    precision, no more than the trainer's limit of the split.

    Args:
        trainer: In one of its loops, with the network in evaluation.
        split: Whose films.
        keep: Takes a batch.
    """
    loader, most = getattr(trainer.datamodule, f"{split}_dataloader")(), getattr(trainer, f"limit_{split}_batches")
    with trainer.precision_plugin.forward_context(), torch.no_grad():
        for batch in islice(loader, most if isinstance(most, int) else int(most * len(loader))):
            keep(trainer.strategy.batch_to_device(batch))


def scored(trainer: Any, films: Gathered, task: Task, unit: results.Unit) -> Gathered:
    """What is scored: every film, or every study."""
    return films if unit == "film" else results.by_study(films, trainer.datamodule.manifest.table, task)


def write(
    trainer: Any,
    films: Gathered,
    split: Split,
    task: Task,
    classes: Sequence[str],
    unit: results.Unit,
    validated: Gathered | None,
    selected_on: Split,
) -> None:
    """Writes predictions.parquet and metrics.json into the run, says the figures, and logs them; by the first process.

    Args:
        trainer: That has measured.
        films: Every film once.
        split: That was measured.
        task: "multilabel" or "multiclass".
        classes: Names of the outputs.
        unit: What is scored.
        validated: Predictions of the validation films by the same weights and views, which choose thresholds and
            temperature; None for none.
        selected_on: Films that selected the checkpoint.
    """
    if not trainer.is_global_zero:
        return
    known = validated is not None and len(validated.index)
    tuned = operating.fit(scored(trainer, validated, task, unit), task, list(classes)) if known else None  # type: ignore
    folder, table = Path(trainer.default_root_dir), trainer.datamodule.manifest.table
    figures = results.write(
        folder, table, films, task, list(classes), split, unit, tuned=tuned, selected_on=selected_on
    )
    rank_zero_info(results.summary(figures))
    values = {f"{split}/{name}": entry["value"] for name, entry in figures["metrics"].items()}
    for logger in trainer.loggers:
        logger.log_metrics({name: value for name, value in values.items() if value is not None})


def write_predictions(trainer: Any, films: Gathered, task: Task, classes: Sequence[str]) -> None:
    """Writes predictions.parquet into the run; by the first process."""
    if trainer.is_global_zero:
        folder, table = Path(trainer.default_root_dir), trainer.datamodule.manifest.table
        chosen = trainer.lightning_module.select_on
        results.write_predictions(folder, table, films, task, list(classes), chosen)
