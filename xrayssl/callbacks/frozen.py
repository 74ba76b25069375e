"""Features of films by the network as it would be handed on at this moment; the training does not notice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from xrayssl.data import XrayDataModule
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError
from xrayssl.methods import Method

Figures = TypeVar("Figures")


def parts(trainer: Trainer, model: LightningModule, who: str) -> tuple[Method, XrayDataModule]:
    """The method and its data, as this package knows them.

    Raises:
        UserError: If one of them is another's; `who` is the callback that says so.
    """
    data: Any = getattr(trainer, "datamodule", None)
    if not isinstance(model, Method) or not isinstance(data, XrayDataModule):
        raise UserError(f"{who} goes with the methods and data of this package.")
    return model, data


def some(manifest: Manifest, rows: np.ndarray, most: int | None) -> np.ndarray:
    """All of some rows, or the films of the patients whose names' hashes come first."""
    if most is None or len(rows) <= most:
        return rows
    patients = manifest.table["patient"].to_numpy(object)[rows]
    place = [hashlib.sha256(str(patient).encode()).hexdigest() for patient in patients]
    return np.sort(rows[np.argsort(place, kind="stable")[:most]])


def by_the_first(trainer: Trainer, measure: Callable[[], Figures]) -> Figures:
    """What the first process measures, in every process.

    Raises:
        UserError: What was raised there, in every process.
    """
    outcome: Figures | _Refused = _Refused()
    if trainer.is_global_zero:
        try:
            outcome = measure()
        except UserError as error:  # the other processes wait for an answer
            outcome = _Refused(error.messages)
    outcome = trainer.strategy.broadcast(outcome)
    if isinstance(outcome, _Refused):
        raise UserError(*outcome)
    return outcome


class _Refused(list[str]):
    """What was wrong, on its way to the other processes."""


@contextmanager
def frozen(trainer: Trainer, model: Method) -> Iterator[None]:
    """Within it, the averaged weights are in place, in evaluation, without gradients, at the training's precision;
    random numbers and modes are afterwards what they were."""
    devices = [model.device] if model.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        model.averaged(),
        _evaluating(model),
        trainer.precision_plugin.forward_context(),
        torch.no_grad(),
    ):
        yield


def features(model: Method, image_NCHW: Tensor, batch_size: int) -> Tensor:
    """The mean-pooled grid of films, float32 (N, D) on the CPU."""
    backbone = model.backbone
    pooled = [
        # past torch.compile, which would compile anew for this mode and these sizes
        backbone.forward(backbone.normalize(part_BCHW.to(model.device))).float().mean(dim=(2, 3)).cpu()
        for part_BCHW in image_NCHW.split(batch_size)
    ]
    return torch.cat(pooled)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation; afterwards every part is in the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
