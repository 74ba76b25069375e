"""A training stage: the step is written once, a method says only what its losses are."""

from __future__ import annotations

import logging
import math
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from xrayssl import handoff
from xrayssl.averaging import Averaging
from xrayssl.backbone import Backbone
from xrayssl.batchnorm import measured, recalibrate
from xrayssl.checkpoint import class_path, misfits
from xrayssl.errors import UserError
from xrayssl.health import REMEDY
from xrayssl.optim import Optim, effective_batch
from xrayssl.recomputing import count_once, recompute_network

log = logging.getLogger(__name__)
Batch = Mapping[str, Any]


class Method(LightningModule):
    """A stage of training: a backbone, what a subclass puts on it, and `losses`.

    A subclass defines `losses(batch)`; steps, logging, optimiser, normalisation, randomness, start from another
    stage and the guard of resuming live here. Everything random in a step (masks, dropout, stochastic depth) is a
    function of (seed, rank, epoch, batch): a resumed run draws what the uninterrupted one would have drawn.

    Args:
        backbone: Name of a timm network.
        img_size: Height and width of the films in pixels; an int means a square.
        in_chans: Channels of a film.
        init_from: Where the backbone's weights come from: a backbone.safetensors, run directory or checkpoint;
            "timm" for timm's pretrained weights; null for random ones.
        optim: Optimiser and schedule.
        drop_path: Rate of stochastic depth, 0-1.
        compile: Run the backbone through torch.compile.
        grad_checkpointing: Compute blocks again in the backward pass, which takes a third longer and needs a fraction
            of the memory.
        ema: Decay of a moving average of the weights, such as 0.999, which is then validated and handed on in their
            place; null for none. See `Averaging`.
    """

    monitor: ClassVar[tuple[str, str] | None] = None
    """Metric and mode ("max" or "min") that select the best checkpoint; None keeps the last."""
    networks: ClassVar[tuple[str, ...]] = ("ViT", "CNN")
    """Kinds of backbone that it trains, for `xrayssl methods`."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What else it needs, for `xrayssl methods`."""
    remedy: ClassVar[str] = REMEDY
    """What to try when its representation collapses."""
    unfreeze_after: int = 0
    """Epochs for which the backbone is frozen at first."""
    whole_batches: int = 0
    """Batches of whole films to measure running statistics on before a hand-off; 0 keeps the training's."""

    def __init__(
        self,
        backbone: str = "vit_small_patch16_224",
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 1,
        init_from: str | None = None,
        optim: Optim = Optim(),  # noqa: B008 - frozen
        drop_path: float = 0.0,
        compile: bool = False,
        grad_checkpointing: bool = False,
        ema: float | None = None,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, img_size, in_chans, drop_path, pretrained=init_from == "timm")
        self.init_from = init_from
        self.optim, self.drop_path = optim, drop_path
        self.parents: list[dict[str, Any]] = []
        self.ema = ema
        self.grad_checkpointing = grad_checkpointing
        self._averaging = None if ema is None else Averaging(ema)
        self._resumed = False
        if grad_checkpointing:
            recompute_network(self.backbone.network, backbone)
        if compile:
            self.backbone.compile()

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses and figures of a batch whose films are normalised floats; "loss" is minimised.

        Args:
            batch: "image" (B, C, H, W), "label" (B, K), "index" (B,), and "views", a list of (B, C, h, w), where
                --data.augment asks for several views of a film; the first of them is the image, small crops come last.
        """

    def project(self, feature_BD: Tensor) -> Tensor | None:
        """What the loss compares, of mean-pooled features: (B, E), whose collapse is then noticed, too; None for a loss
        that compares no embeddings."""
        return None

    @property
    def progress(self) -> float:
        """Share of the training that is done, 0-1: of the optimiser's steps, so that a resumed run agrees. 0 before."""
        if not self._fits:
            return 0.0
        return min(1.0, self.trainer.global_step / max(1.0, self.trainer.estimated_stepping_batches))

    @property
    def _fits(self) -> bool:
        return self._trainer is not None and self.trainer.state.fn == "fit"

    def start(self) -> None:
        """Takes the weights that `init_from` names.

        Raises:
            UserError: If they do not fit; see `handoff.load`.
        """
        if self.init_from == "timm":
            self.parents = [{"method": f"timm:{self.backbone.tag}", "sha256": handoff.fingerprint(self.backbone)}]
        elif self.init_from is not None:
            report, weights = handoff.load(self.backbone, self.init_from)
            self.parents = weights.lineage()
            rank_zero_info(str(report))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Keys the randomness of this step, and returns its loss."""
        torch.manual_seed(self._key(batch_idx))
        losses = self._losses(batch)
        self._log("train", losses, batch)
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the losses of a validation batch, with the same randomness in every epoch."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(batch_idx)
            self._log("val", self._losses(batch), batch)

    def setup(self, stage: str) -> None:
        """Prepares batch norms for gradient checkpointing; methods have replaced them as they wish by now."""
        if self.grad_checkpointing and stage == "fit":
            count_once(self)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Moves the averages too, before anything can be saved or interrupted."""
        super().optimizer_step(*args, **kwargs)
        if self._averaging:
            self._averaging.update(self, self.trainer.global_step + 1)

    def on_validation_start(self) -> None:
        """Validates the averaged weights."""
        if self._averaging and self._fits:
            self._averaging.show(self)

    def on_validation_end(self) -> None:
        """Goes back to the weights that are trained."""
        if self._averaging:
            self._averaging.hide(self)

    def on_train_end(self) -> None:
        """Leaves the averaged weights, and running statistics that fit whole films."""
        if self._averaging:
            self._averaging.settle(self)
        if self.whole_batches:
            with self.trainer.precision_plugin.forward_context():
                recalibrate(self.backbone, self._normalized(self._training_films()))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the averaged weights are in place, if there are any: what is validated and handed on."""
        before = self._averaging is None or self._averaging.shown
        if self._averaging:
            self._averaging.show(self)
        try:
            yield
        finally:
            if self._averaging and not before:
                self._averaging.hide(self)

    @contextmanager
    def handed(self, films: Iterable[Tensor]) -> Iterator[None]:
        """Within it the backbone is what would be handed on now, as far as films tell; the training does not notice.

        Args:
            films: Batches of whole films as they come from the data, for methods whose backbone has yet to see some.
        """
        with self.averaged(), measured(self.backbone, self._normalized(films)):
            yield

    def _normalized(self, films: Iterable[Tensor]) -> Iterator[Tensor]:
        for image_BCHW in islice(films, self.whole_batches):
            yield self.backbone.normalize(image_BCHW.to(self.device))

    def _training_films(self) -> Iterator[Tensor]:
        loader: Any = self.trainer.train_dataloader
        for batch in islice(loader, int(self.trainer.num_training_batches)):
            yield batch["image"]

    def configure_optimizers(self) -> Any:
        """AdamW over the trainable parameters with its schedule per step.

        Raises:
            UserError: If the training has no end, or it starts from a file that does not fit.
        """
        if not self._resumed:  # this is the first moment of a fit that knows: a checkpoint has been restored by now
            self.start()
        trainer = self.trainer
        batch, steps = effective_batch(trainer), trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise UserError("The schedule needs an end: set --trainer.max_epochs or --trainer.max_steps.")
        trainer.fit_loop.setup_data()
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        optimizer, scheduler = self.optim.build(self, self.backbone, batch, int(steps), per_epoch, self.unfreeze_after)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes what `on_load_checkpoint` checks."""
        checkpoint["xrayssl"] = {
            "version": handoff.VERSION,
            "method": class_path(type(self)),
            "settings": self._settings(),
            "backbone": {
                **handoff.describe_backbone(self.backbone),
                "method": type(self).__name__,
                "parents": self.parents,
            },
        }
        if self._averaging:
            self._averaging.save(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to resume a run of another method or another network.

        Raises:
            UserError: With the flag that was meant.
        """
        header = checkpoint.get("xrayssl", {})
        theirs, ours = header.get("method", "another program"), class_path(type(self))
        if theirs != ours:
            raise UserError(
                f"--ckpt_path resumes the same run, but this checkpoint is of {theirs} and the config is of {ours}; "
                "to start from its backbone, pass it as --model.init_from instead."
            )
        problems = self._unlike(header) or misfits(self.state_dict(), checkpoint["state_dict"])
        if problems:
            raise UserError(*problems)
        self._resumed, self.parents = True, header["backbone"]["parents"]
        self.backbone.mean.copy_(torch.tensor(header["backbone"]["mean"]))
        self.backbone.std.copy_(torch.tensor(header["backbone"]["std"]))
        if self._averaging and self._fits:
            self._averaging.restore(checkpoint)

    def _settings(self) -> dict[str, Any]:
        """What must stay the same while a run goes on."""
        optim = {f"model.optim.{name}": value for name, value in asdict(self.optim).items()}
        ours = {"model.ema": self.ema, "model.drop_path": self.drop_path}
        return {**optim, **ours, "seed_everything": int(os.environ.get("PL_GLOBAL_SEED", 0))}

    def _unlike(self, header: Mapping[str, Any]) -> list[str]:
        """What a fit that is resumed would do otherwise than it began."""
        network = header["backbone"]["architecture"]
        if network != self.backbone.architecture:
            return [f"The checkpoint holds a {network}, the config asks for a {self.backbone.architecture}."]
        if not self._fits:
            return []
        then, now = header["settings"], self._settings()
        return [
            f"The checkpoint was trained with {name} {then.get(name)}, the config says {now[name]}; --ckpt_path "
            "resumes the same run. For a new one, start from its backbone with --model.init_from."
            for name in now
            if then.get(name) != now[name]
        ]

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        if "views" not in batch:
            return self.losses({**batch, "image": self.backbone.normalize(batch["image"])})
        views = [self.backbone.normalize(view_BCHW) for view_BCHW in batch["views"]]
        return self.losses({**batch, "image": views[0], "views": views})

    def _key(self, batch_idx: int) -> int:
        """A seed for (seed, rank, epoch, batch), spread by Knuth's multiplicative hash."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        key = 0
        for part in (seed, self.global_rank, self.current_epoch, batch_idx):
            key = (key * 6364136223846793005 + part + 1442695040888963407) % 2**63
        return key

    def _log(self, stage: str, losses: Mapping[str, Tensor], batch: Batch) -> None:
        for name, value in losses.items():
            self.log(
                f"{stage}/{name}", value, on_step=False, on_epoch=True, prog_bar=name == "loss",
                batch_size=len(batch["image"]), sync_dist=stage != "train",
            )  # fmt: skip
