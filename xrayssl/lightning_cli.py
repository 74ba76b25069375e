"""LightningCLI with a folder per run, loggers, checkpoints, and values that the model takes from the data."""

from __future__ import annotations

import importlib
import logging
import os
from argparse import ArgumentError
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from xrayssl import diagnose, results, rundir
from xrayssl.callbacks import BackboneExport
from xrayssl.callbacks.progress import Progress
from xrayssl.callbacks.record import LearningRate, RunRecord, SaveConfig, checkpoints, lineage
from xrayssl.checkpoint import AtomicCheckpointIO
from xrayssl.errors import UserError
from xrayssl.loggers import Wandb, loggers
from xrayssl.request import Request

log = logging.getLogger(__name__)

LINKS = ("img_size", "classes", "task")
"""What a model takes from the data, if it has an argument of that name."""
VERBS = ("fit", "validate", "test", "predict")


def base_classes() -> tuple[type[LightningModule], type[LightningDataModule]]:
    """Imports every method and data module, so that they can be named without their module."""
    methods, data = importlib.import_module("xrayssl.methods"), importlib.import_module("xrayssl.data")
    return methods.Method, data.XrayDataModule


def start(request: Request) -> XrayCLI:
    """Parses a training command, and runs it.

    Raises:
        UserError: Whatever the user can mend.
    """
    return XrayCLI(request)


class XrayCLI(LightningCLI):
    """Runs one request.

    Args:
        request: The command, understood.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.run: Path
        method, data = base_classes()
        self.bases: dict[str, type] = {"model": method, "data": data}
        quiet = {"exit_on_error": False}
        super().__init__(
            method,
            data,
            save_config_callback=SaveConfig,
            seed_everything_default=0,
            trainer_defaults={"use_distributed_sampler": False, "log_every_n_steps": 10, "enable_model_summary": False},
            parser_kwargs={**quiet, **{verb: dict(quiet) for verb in VERBS}},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # hyperparameters live in config.yaml, not in checkpoints
            args=[request.verb, *request.words],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of Weights & Biases, and lets the model take values from the data."""
        parser.add_argument("--wandb", type=Wandb, default=Wandb(), help="Weights & Biases.")
        for name in LINKS:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses, and turns a failure into all the sentences that explain it.

        Raises:
            UserError: With every mistake at once.
        """
        known = self._parser(self.request.verb)
        words = args[1:]
        try:
            self.config = parser.parse_args(args)
        except (ArgumentError, UserError) as error:
            problems = diagnose.explain(words, self.bases, known)
            raise UserError(*diagnose.derived(words, LINKS), *(problems or [diagnose.shortened(error)])) from None
        diagnose.refuse(diagnose.derived(words, LINKS))

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration alone: Lightning would silently put the checkpoint's model in its place."""

    def instantiate_classes(self) -> None:
        """Makes data, model and trainer.

        Raises:
            UserError: A value that a constructor refuses.
        """
        try:
            super().instantiate_classes()
        except (ValueError, MisconfigurationException) as error:
            raise refusal(error) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer: the run's folder, its loggers, checkpoints and record, and this machine's precision."""
        asked = dict(self._get(self.config_init, "trainer", default={}))
        title = self.request.title or type(self.model).__name__
        self.run = rundir.choose(title, self.request.out, self.request.run, self.request.verb)
        callbacks = _listed(asked.get("callbacks"))
        kwargs.update(
            default_root_dir=self.run,
            callbacks=callbacks + self._callbacks(asked, callbacks),
            plugins=[*_listed(asked.get("plugins")), AtomicCheckpointIO()],
            precision=asked.get("precision") or precision(str(asked["accelerator"])),
            logger=self._loggers(asked.get("logger")),
            **processes(asked),
        )
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Says in a line what is about to be trained."""
        sizes = [parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad]
        total = sum(parameter.numel() for parameter in self.model.parameters())
        network = lineage(self.model)["backbone"] or "no backbone"
        log.info("%s on %s: %.1f M parameters, %.1f M of them trained.",
                 type(self.model).__name__, network, total / 1e6, sum(sizes) / 1e6)  # fmt: skip

    def after_fit(self) -> None:
        """Measures the best checkpoint on the validation films; says where the run is and what to type next."""
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            log.info("The trial went through; leave out --trainer.fast_dev_run to train.")
            return
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "") if self.model.monitor else ""
        if best:
            self.trainer.validate(self.model, datamodule=self.datamodule, ckpt_path=best, verbose=False)
        elif self.trainer.is_global_zero:
            results.write_json(self.run / results.METRICS, last_figures(self.trainer))
        if self.trainer.is_global_zero:
            log.info("The run is in %s. Next: %s", shown(self.run), next_command(self.model, self.run, self.request))

    def _loggers(self, asked: Any) -> Any:
        if asked is False:
            return False
        origin, request = lineage(self.model), self.request
        words = [origin["method"], origin["backbone"], *getattr(self.datamodule, "corpora", {})]
        labels = {"group": request.title, "job_type": request.verb, "tags": [word for word in words if word]}
        own = loggers(self.run, self._get(self.config_init, "wandb"), labels)
        return own + (_listed(asked) if asked is not True else [])

    def _callbacks(self, asked: dict[str, Any], given: list[Callback]) -> list[Callback]:
        record = RunRecord(self.run, self._known())
        made: list[Callback] = [record]
        if self.request.verb == "fit":
            made.append(LearningRate())
            made += [] if asked.get("enable_checkpointing") is False else checkpoints(self.run, self.model.monitor)
            made += [] if _has(given, BackboneExport) else [BackboneExport(git=record.record["git"])]
        if asked.get("enable_progress_bar") is not False and not _has(given, ProgressBar):
            made.append(Progress())
        return made

    def _known(self) -> dict[str, Any]:
        request = self.request
        return {
            "verb": request.verb,
            "config": request.title,
            "command": ["xrayssl", request.verb, *request.typed],
            "resumed": self._get(self.config, "ckpt_path"),
            "seed": self._get(self.config, "seed_everything"),
            "data": {"corpora": getattr(self.datamodule, "corpora", None)},
        }


def last_figures(trainer: Trainer) -> dict[str, Any]:
    """What the last epoch logged, in the layout of metrics.json; without films to resample there is no interval."""
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    entries = {name: {"value": value, "low": None, "high": None} for name, value in figures.items()}
    return {"version": results.VERSION, "split": "val", "metrics": entries}


def refusal(error: Exception) -> Exception:
    """Finds what a constructor said behind what the configuration parser made of it.

    Returns:
        The constructor's UserError; a UserError with the words of its ValueError; any other exception as it was.
    """
    while not isinstance(error, UserError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, ValueError | MisconfigurationException):
        log.debug("a constructor refused a value", exc_info=error)
        return UserError(" ".join(str(error).split()))
    return error


def precision(accelerator: str) -> str:
    """Chooses bf16-mixed where the hardware is fast at it, else 32-true.

    Args:
        accelerator: Name of the accelerator as the trainer takes it; "auto" is a GPU where there is one.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator == "auto" and torch.backends.mps.is_available():
        return "32-true"
    return "bf16-mixed" if accelerator in ("auto", "cpu") and torch.cpu._is_amx_tile_supported() else "32-true"


def processes(asked: dict[str, Any]) -> dict[str, Any]:
    """Takes the number of processes from torchrun, where it started them and the configuration leaves it open."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if "TORCHELASTIC_RUN_ID" not in os.environ or world == 1 or asked["devices"] != "auto":
        return {}
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    strategy = "ddp" if asked["strategy"] == "auto" else asked["strategy"]
    return {"devices": local, "num_nodes": world // local, "strategy": strategy}


def next_command(model: LightningModule, run: Path, request: Request) -> str:
    """Says what to type after a fit: `test` for a classifier, else a fine-tuning that starts from this run."""
    if getattr(model, "classes", None):
        return f"xrayssl test --run {shown(run)}"
    from xrayssl import recipes

    body = (request.title or "").rpartition("_")[2]
    names = [name for name in recipes.packaged() if "finetune" in name]
    chosen = next((name for name in names if name.endswith(body)), next(iter(names), "NAME"))
    return f"xrayssl fit --config {chosen} --model.init_from {shown(run)}"


def shown(path: Path) -> str:
    """Writes a path as short as it can be typed from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _has(callbacks: list[Callback], kind: type[Callback]) -> bool:
    return any(isinstance(callback, kind) for callback in callbacks)
