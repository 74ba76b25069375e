"""Features of films by the network as it would be handed on at this moment; the training does not notice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from xrayssl.data import XrayDataModule
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError
from xrayssl.features import pooled
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
    """All of some rows, or those of the patients whose names' hashes come first, whole patients, as many as fit (of the
    very first, some films, if it has more)."""
    if most is None or len(rows) <= most:
        return rows
    patients = manifest.table["patient"].to_numpy(object)[rows]
    place = np.array([hashlib.sha256(str(patient).encode()).hexdigest() for patient in patients])
    order = np.argsort(place, kind="stable")
    cut = place[order[most]]  # of the first patient that does not fit
    fits = int(np.searchsorted(place[order], cut))
    return np.sort(rows[order[: fits or most]])


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
def frozen(trainer: Trainer, model: Method, films: Iterable[Tensor]) -> Iterator[None]:
    """Within it, the network is as it would be handed on, in evaluation, without gradients, at the training's
    precision; random numbers, weights and modes are afterwards what they were.

    Args:
        trainer: Of the training.
        model: That is trained.
        films: Batches of films, uint8 (B, C, H, W), for what is measured on whole films before a hand-off.
    """
    devices = [model.device] if model.device.type == "cuda" else []
    quietly, as_trained = torch.random.fork_rng(devices=devices), trainer.precision_plugin.forward_context()
    with quietly, as_trained, torch.no_grad(), model.handed(films), evaluating(model):
        yield


def features(model: Method, image_NCHW: Tensor, batch_size: int) -> Tensor:
    """The mean-pooled grid of films, float32 (N, D) on the CPU."""
    return torch.cat([pooled(model.backbone, part_BCHW) for part_BCHW in image_NCHW.split(batch_size)])


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation; afterwards every part is in the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
