"""Pictures of what a masked autoencoder expects behind the hidden patches."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor


class Reconstructions(Callback):
    """Writes figures/reconstruction-epochNNNN.png of the same validation films with the same masks.

    Rows: the film, what the network sees, what it makes of it, and the error (white: none; dark: large).

    Args:
        films: Number of films, one column each.
        every: Epochs between two pictures; the last epoch always has one.
    """

    def __init__(self, films: int = 6, every: int = 5) -> None:
        self.films, self.every = films, every
        self._images: Tensor | None = None

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
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
        cv2.imwrite(str(path), reconstruction_sheet(pl_module, self._images))


def reconstruction_sheet(method: LightningModule, image_BCHW: Tensor, seed: int = 0) -> np.ndarray:
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
