"""How fast trainings are on this machine: films an epoch x epochs, per second, of those that are finished."""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from xrayssl import hardware, rundir
from xrayssl.chains.graph import Graph, unfinished
from xrayssl.chains.stage import Stage

ENOUGH, MOST = 10.0, 30
"""Seconds, and steps, after which a measurement ends."""
OUTSIDE = ("logger", "callbacks", "max_epochs", "max_steps", "fast_dev_run", "default_root_dir", "limit_train_batches",
           "limit_val_batches", "num_sanity_val_steps", "enable_progress_bar", "enable_checkpointing",
           "enable_model_summary", "profiler", "barebones", "devices", "num_nodes", "strategy")  # fmt: skip
Key = tuple[str, str, str]
"""Method, network and size of the films: trainings alike in these are alike in speed."""


def key(stage: Stage) -> Key:
    """What a stage's speed depends on."""
    return stage.method, stage.network, json.dumps(stage.img_size)


def known(store: Path) -> dict[Key, float]:
    """Speeds of the stages that were trained without a break on a machine like this one.

    Args:
        store: Folder of all stages.
    """
    here, passes, seconds = _hardware(rundir.machine()), dict[Key, float](), dict[Key, float]()
    for run in sorted(store.glob("*/")) if store.is_dir() else ():
        found = _finished(run, here)
        if found:
            kind, films, spent = found
            passes[kind] = passes.get(kind, 0.0) + films
            seconds[kind] = seconds.get(kind, 0.0) + spent
    return {kind: films / seconds[kind] for kind, films in passes.items() if films and seconds[kind]}


def _hardware(machine: Mapping[str, Any]) -> tuple[Any, ...]:
    return machine.get("processor"), machine.get("cores"), tuple(machine.get("gpus") or ())


def _finished(run: Path, here: tuple[Any, ...]) -> tuple[Key, float, float] | None:
    """Kind, films that were learned from in all epochs, and seconds of a run with its test."""
    import yaml

    try:
        told = json.loads((run / "run.json").read_text(encoding="utf-8"))
        if told["outcome"] != "finished" or told.get("resumed") or _hardware(told["machine"]) != here:
            return None
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        epochs = _last_epoch(run / "metrics.csv")
        tested = run / "test" / "run.json"
        after = json.loads(tested.read_text(encoding="utf-8")).get("seconds") or 0 if tested.is_file() else 0
        size = json.dumps(config["data"]["init_args"]["img_size"])
        seconds = float(told["seconds"]) + float(after)
        return (told["method"], told["backbone"], size), told["data"]["splits"]["train"] * epochs, seconds
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):  # something else lies there, too
        return None


def _last_epoch(path: Path) -> int:
    import csv

    with path.open(newline="", encoding="utf-8") as lines:
        return 1 + max((int(row["epoch"]) for row in csv.DictReader(lines) if row.get("epoch")), default=-1)


class Stopwatch(Callback):
    """Ends a training after some steps, of which the first is not timed.

    Args:
        enough: Seconds.
        most: Steps.
    """

    def __init__(self, enough: float = ENOUGH, most: int = MOST) -> None:
        self.enough, self.most = enough, most
        self.films, self.steps, self.began, self.seconds = 0, 0, 0.0, 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts a step."""
        now = time.monotonic()
        if self.steps:
            self.films, self.seconds = self.films + len(batch["image"]), now - self.began
        else:
            self.began = now
        self.steps += 1
        if self.films and (self.seconds >= self.enough or self.steps > self.most):
            trainer.should_stop = True


def measured(graph: Graph, stages: Sequence[Stage], store: Path, rates: Mapping[Key, float]) -> dict[Key, float]:
    """Trains a few steps of each kind of stage that is to be trained and whose speed is not known.

    Args:
        graph: Of the stages.
        stages: In the order of the graph.
        store: Folder of all stages.
        rates: That are known.

    Returns:
        The speeds found, without validation.
    """
    found: dict[Key, float] = {}
    for stage in unfinished(stages, store):
        if key(stage) not in rates and key(stage) not in found:
            rate = _measure(stage, graph)
            found |= {key(stage): rate} if rate else {}
    return found


def _measure(stage: Stage, graph: Graph) -> float | None:
    from xrayssl.series.rehearsal import rehearse_whole

    made, watch = rehearse_whole(graph.kinds[stage.key].words), Stopwatch()
    asked = {name: value for name, value in made.config["trainer"].items() if name not in OUTSIDE}
    asked["precision"] = asked.get("precision") or hardware.precision(str(asked["accelerator"]))
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"), False
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(**asked, **quiet, max_epochs=MOST, limit_val_batches=0, num_sanity_val_steps=0, devices=1,
                          default_root_dir=folder, callbacks=[watch])  # fmt: skip
        trainer.fit(made.method, datamodule=made.data)
    return watch.films / watch.seconds if watch.seconds else None
