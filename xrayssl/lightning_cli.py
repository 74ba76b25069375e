"""LightningCLI with a folder per run, loggers, checkpoints, and values that the model takes from the data."""

from __future__ import annotations

import importlib
import logging
from argparse import ArgumentError
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.model_helpers import is_overridden

from xrayssl import advice, diagnose, hardware, results, rundir
from xrayssl.batchnorm import pool_batch_norms
from xrayssl.callbacks import BackboneExport, Published, RepresentationHealth
from xrayssl.callbacks.checkpoints import checkpoints
from xrayssl.callbacks.divergence import Divergence
from xrayssl.callbacks.interruption import Interruption
from xrayssl.callbacks.progress import Progress, bars_last
from xrayssl.callbacks.record import EarlierCurves, LearningRate, RunRecord, SaveConfig, lineage
from xrayssl.checkpoint import AtomicCheckpointIO
from xrayssl.errors import UserError, noting, refuse
from xrayssl.explain.looks import Overlays
from xrayssl.files import write_json
from xrayssl.finetuning.tuning import without_finders
from xrayssl.loggers import Wandb, loggers
from xrayssl.request import Request
from xrayssl.settings import anchor
from xrayssl.views import TWO_VIEWS, check_views

log = logging.getLogger(__name__)

VERBS = ("fit", "validate", "test", "predict")
QUIETLY = {"validate": ("--verbose", "false"), "test": ("--verbose", "false")}
"""The figures are told with their intervals; Lightning's table of the same is for those who ask for it."""
STEPS = {"validate": "validation_step", "test": "test_step", "predict": "predict_step"}


def base_classes() -> tuple[type[LightningModule], type[LightningDataModule]]:
    """Imports every method and data module, so that they can be named without their module."""
    methods, data = importlib.import_module("xrayssl.methods"), importlib.import_module("xrayssl.data")
    return methods.Method, data.XrayDataModule


def start(request: Request) -> XrayCLI:
    """Parses a training command, and runs it.

    Raises:
        UserError: Whatever the user can mend.
    """
    try:
        return XrayCLI(request)
    except Exception as error:
        if diagnose.foreign(error):
            raise diagnose.refusal(error) from error
        raise


class XrayCLI(LightningCLI):
    """Runs one request.

    Args:
        request: The command, understood.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.run: Path
        self.record: RunRecord
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
            args=[request.verb, *QUIETLY.get(request.verb, ()), *request.words],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of Weights & Biases, and lets the model take values from the data."""
        parser.add_argument("--wandb", type=Wandb, default=Wandb(), help="Weights & Biases.")
        for name in diagnose.LINKS:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses, and turns a failure into all the sentences that explain it.

        Raises:
            UserError: With every mistake at once.
        """
        known = self._parser(self.request.verb)
        words = self.request.words
        try:
            self.config = parser.parse_args(args)
        except (ArgumentError, UserError) as error:
            problems = diagnose.explain(words, self.bases, known)
            raise UserError(
                *diagnose.derived(words, diagnose.LINKS), *(problems or [diagnose.shortened(error)])
            ) from None
        asked = self.config[self.request.verb]
        refuse([*diagnose.derived(words, diagnose.LINKS), *diagnose.seeds(asked.get("seed_everything"))])
        anchor(asked)

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration alone: Lightning would silently put the checkpoint's model in its place."""

    def instantiate_classes(self) -> None:
        """Makes data, model and trainer; a checkpoint replaces the weights that a run once started from.

        Raises:
            UserError: A value that a constructor refuses.
        """
        asked, start = self.config, f"{self.request.verb}.model.init_args.init_from"
        try:
            if self._get(asked, "ckpt_path") and asked.get(start) is not None:
                self.config = asked.clone()
                self.config[start] = None
            self.config_init = self._instantiated()
            self.config = asked
            self.datamodule, self.model = (self._get(self.config_init, part) for part in ("data", "model"))
            self._refuse_what_it_has_not()
            self.trainer = self.instantiate_trainer()
        except (ValueError, MisconfigurationException) as error:
            raise diagnose.refusal(error) from error

    def _instantiated(self) -> Any:
        try:
            return self.parser.instantiate_classes(self.config)
        except (UserError, ValueError, MisconfigurationException) as error:
            told = diagnose.refusal(error)
            if isinstance(told, UserError):
                asked = self.config[self.request.verb]
                refuse([*told.messages, *diagnose.further(asked), *_unpaired(asked)])
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer: the run's folder, its loggers, checkpoints and record, and this machine's precision."""
        asked = dict(self._get(self.config_init, "trainer", default={}))
        self.run = rundir.choose(self._title, self.request.out, self.request.run, self.request.verb)
        if asked.get("sync_batchnorm"):  # torch's has no kernel for CPUs, and drops the activation in timm's
            pool_batch_norms(self.model)
        callbacks = _listed(asked.get("callbacks"))
        callbacks = callbacks if self.request.verb == "fit" else without_finders(callbacks)
        kwargs.update(
            default_root_dir=self.run,
            callbacks=bars_last(callbacks + self._callbacks(asked, callbacks)),
            plugins=[*_listed(asked.get("plugins")), AtomicCheckpointIO()],
            precision=asked.get("precision") or hardware.precision(str(asked["accelerator"])),
            logger=self._loggers(asked.get("logger")),
            sync_batchnorm=False,
            **hardware.processes(asked),
        )
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Says in a line what is about to be trained."""
        sizes = [parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad]
        total = sum(parameter.numel() for parameter in self.model.parameters())
        network = lineage(self.model)["backbone"] or "no backbone"
        trained = f"{sum(sizes) / 1e6:.1f} M" if sum(sizes) >= 1e5 else f"{sum(sizes):,}"
        log.info("%s on %s: %.1f M parameters, %s of them trained.",
                 type(self.model).__name__, network, total / 1e6, trained)  # fmt: skip

    def after_fit(self) -> None:
        """Measures the best checkpoint on the validation films; says where the run is and what to type next."""
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.record.finish(self.trainer)
            log.info("The trial went through; leave out --trainer.fast_dev_run to train.")
            return
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "") if self.model.monitor else ""
        if best:
            self._validate(best)
        elif self.trainer.is_global_zero:
            write_json(self.run / results.METRICS, last_figures(self.trainer))
        self.record.finish(self.trainer)
        if self.trainer.is_global_zero:
            done = getattr(self.model, "is_control", False)
            after = "It was a control and hands no backbone on." if done else f"Next: {self._next()}"
            log.info("The run is in %s. %s", advice.shown(self.run), after)

    def after_validate(self) -> None:
        """Says and writes the figures of a stage that does not do so itself."""
        if self.trainer.is_global_zero and not (self.run / results.METRICS).exists():
            figures = last_figures(self.trainer)
            write_json(self.run / results.METRICS, figures)
            log.info("\n".join(f"{name}  {entry['value']:.4g}" for name, entry in figures["metrics"].items()))

    def _validate(self, checkpoint: str) -> None:
        """Measures a checkpoint after the fit, whose curves are complete: the loggers are not told."""
        loggers, self.trainer.loggers = self.trainer.loggers, []
        self.trainer.callbacks = without_finders(self.trainer.callbacks)  # type: ignore[attr-defined]
        try:
            self.trainer.validate(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, verbose=False)
        finally:
            self.trainer.loggers = loggers

    def _next(self, run: Path | None = None) -> str:
        if getattr(self.model, "classes", None):
            return advice.measure(self.run)
        run, corpora = run or self.run, getattr(self.datamodule, "corpora", None) or {}
        size, backbone = getattr(self.datamodule, "img_size", None), getattr(self.model, "backbone", None)
        shared = {"data.img_size": list(size) if isinstance(size, tuple) else size}
        if type(self.model).__name__ == "DVAE":
            return advice.predict_codes(run, {"model.backbone": advice.reader(backbone), **shared}, corpora)
        shared = {"model.backbone": lineage(self.model)["backbone"], **shared,
                  **advice.demands(getattr(backbone, "network", None))}  # fmt: skip
        shared = {name: value for name, value in shared.items() if value is not None}
        body, cnn = getattr(self.datamodule, "body", None), not getattr(backbone, "is_vit", True)
        return advice.finetune(run, self.request.title, shared, corpora, body, cnn)

    def _refuse_what_it_has_not(self) -> None:
        verb, run = self.request.verb, self.request.run
        step = STEPS.get(verb)
        if step is None or is_overridden(step, self.model):
            return
        start = f" Go on with: {self._next(run.resolve())}".replace("\n", " ") if run else ""
        raise UserError(f"{type(self.model).__name__} learns without labels and has nothing to {verb}.{start}")

    def _loggers(self, asked: Any) -> Any:
        if asked is False:
            return False
        origin, request = lineage(self.model), self.request
        seed = f"seed {self._get(self.config, 'seed_everything')}"
        words = [origin["method"], origin["backbone"], *getattr(self.datamodule, "corpora", {}), seed]
        stage = self._title if request.verb == "fit" else request.verb
        labels = {"group": self._title, "job_type": stage, "tags": [word for word in words if word]}
        own = loggers(self.run, self._get(self.config_init, "wandb"), labels)
        return own + (_listed(asked) if asked is not True else [])

    def _callbacks(self, asked: dict[str, Any], given: list[Callback]) -> list[Callback]:
        record = self.record = RunRecord(self.run, self._known())
        made: list[Callback] = [record]
        if self.request.verb == "fit":
            made += [LearningRate(), EarlierCurves(), Divergence(), Interruption()]
            made += [] if asked.get("enable_checkpointing") is False else checkpoints(self.run, self.model.monitor)
            made += [] if _has(given, RepresentationHealth) or self._labelled else [RepresentationHealth()]
            made += [] if _has(given, BackboneExport) else [BackboneExport(git=record.record["git"])]
        made += [Published(self._title), *([Overlays()] if self._labelled else [])]
        if asked.get("enable_progress_bar") is not False and not _has(given, ProgressBar):
            made.append(Progress())
        return made

    @property
    def _title(self) -> str:
        return self.request.title or type(self.model).__name__

    @property
    def _labelled(self) -> bool:
        """Whether the method learns from labels, whose figures tell whether it learns anything."""
        return bool(getattr(self.model, "classes", None))

    def _known(self) -> dict[str, Any]:
        return {
            "verb": self.request.verb,
            "config": self.request.title,
            "command": ["xrayssl", self.request.verb, *self.request.typed],
            "resumed": self._get(self.config, "ckpt_path"),
            "group": self._get(self.config, "wandb.group"),
            "seed": self._get(self.config, "seed_everything"),
            "data": {"corpora": getattr(self.datamodule, "corpora", None)},
        }


def last_figures(trainer: Trainer) -> dict[str, Any]:
    """What the last epoch logged, in the layout of metrics.json; without films to resample there is no interval."""
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    entries = {name: {"value": value, "low": None, "high": None} for name, value in figures.items()}
    return {"version": results.VERSION, "split": "val", "metrics": entries}


def _unpaired(config: Any) -> list[str]:
    """What a method that compares views misses in the data, where something else was refused before they were asked."""
    found: list[str] = []
    kind = diagnose.imported(str(config.get("model.class_path")))
    if kind is not None and TWO_VIEWS in getattr(kind, "needs", ()):
        with noting(found):
            check_views(kind.__name__, config.get("data.init_args"))
    return found


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _has(callbacks: list[Callback], kind: type[Callback]) -> bool:
    return any(isinstance(callback, kind) for callback in callbacks)
