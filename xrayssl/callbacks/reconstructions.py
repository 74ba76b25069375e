"""Pictures of what a masked autoencoder expects behind the hidden patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from xrayssl.methods import MAEPretrain

ROWS = ("film", "visible", "reconstruction", "error")


class Reconstructions(Callback):
    """Writes figures/reconstruction-epochNNNN.png of the same validation films with the same masks.

    Rows: the film, what the network sees, what it makes of it, and the error (white is none, black
    the whole grey scale).

    Args:
        films: Number of films, one column each.
        every: Epochs between two pictures; the last epoch always has one.
    """

    def __init__(self, films: int = 6, every: int = 5) -> None:
        self.films, self.every = films, every
        self._images: Tensor | None = None

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the first films."""
        if batch_idx == 0 and self._images is None:
            self._images = batch["image"][: self.films].detach()

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws and writes the sheet, and shows it to the loggers."""
        epoch, last = trainer.current_epoch + 1, trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.sanity_checking or self._images is None or not (epoch == 1 or last or epoch % self.every == 0):
            return
        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(exist_ok=True)
        path = folder / f"reconstruction-epoch{epoch:04d}.png"
        assert isinstance(pl_module, MAEPretrain)
        cv2.imwrite(str(path), captioned(reconstruction_sheet(pl_module, self._images), ROWS))


def reconstruction_sheet(method: MAEPretrain, image_BCHW: Tensor, seed: int = 0) -> np.ndarray:
    """Film, visible part, reconstruction and error, one column per film: uint8 (4 H, B W), first channel."""
    image = method.backbone.normalize(image_BCHW)
    devices = [image.device] if image.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        filled, mask = method.reconstruct(image)
    rows = [image, image.masked_fill(mask, 0.0), filled, 2.0 - (filled - image).abs()]
    grey = [((row * method.backbone.std[0] + method.backbone.mean[0]) * 255)[:, 0] for row in rows]
    columns = torch.cat([torch.cat(list(row), dim=1) for row in grey])
    return columns.round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def captioned(sheet_HW: np.ndarray, rows: Sequence[str], width: int = 96) -> np.ndarray:
    """A sheet with the name of each row, all of one height, in a margin on its left: uint8 (H, width + W)."""
    margin = np.zeros((len(sheet_HW), width), np.uint8)
    height = len(sheet_HW) // len(rows)
    for number, name in enumerate(rows):
        place = (6, number * height + height // 2 + 4)
        cv2.putText(margin, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.36, 200, 1, cv2.LINE_AA)
    return np.concatenate([margin, sheet_HW], axis=1)
