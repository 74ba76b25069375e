"""Pictures of what a masked autoencoder expects behind the hidden patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from xrayssl.errors import UserError
from xrayssl.methods import MAEPretrain

ROWS = ("film", "visible", "reconstruction", "error")


class Reconstructions(Callback):
    """Writes figures/reconstruction-epochNNNN.png of the same validation films with the same masks.

    Rows: the film, what the network sees, what it makes of it, and the error (white is none, black
    the whole grey scale).

    Args:
        films: Number of films, one column each.
        every: Epochs between two pictures; the last epoch always has one.
        upload: Hand the pictures to the loggers too. Off unless asked for: they show films of patients.
    """

    def __init__(self, films: int = 6, every: int = 5, upload: bool = False) -> None:
        self.films, self.every, self.upload = films, every, upload
        self._images: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a method that reconstructs nothing.

        Raises:
            UserError: If it is no masked autoencoder.
        """
        if not isinstance(pl_module, MAEPretrain):
            raise UserError(f"{type(pl_module).__name__} reconstructs nothing; leave out the callback Reconstructions.")

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
        """Draws and writes the sheet."""
        epoch, last = trainer.current_epoch + 1, trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.sanity_checking or self._images is None or not (epoch == 1 or last or epoch % self.every == 0):
            return
        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(exist_ok=True)
        path = folder / f"reconstruction-epoch{epoch:04d}.png"
        assert isinstance(pl_module, MAEPretrain)
        cv2.imwrite(str(path), captioned(reconstruction_sheet(pl_module, self._images), ROWS))
        for logger in trainer.loggers if self.upload else []:
            if isinstance(logger, WandbLogger):
                logger.log_image("reconstruction", [str(path)], step=trainer.global_step)


def reconstruction_sheet(method: MAEPretrain, image_BCHW: Tensor, seed: int = 0) -> np.ndarray:
    """Film, visible part, reconstruction and error, one column per film: uint8 (4 H, B W), first channel."""
    image = method.backbone.normalize(image_BCHW)
    devices = [image.device] if image.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        filled, mask = method.reconstruct(image)
    shown = [image, image.masked_fill(mask, 0.0), filled]
    rows = [(row * method.backbone.std[0] + method.backbone.mean[0])[:, 0] for row in shown]
    rows.append(1 - (rows[2] - rows[0]).abs())
    sheet_HW = torch.cat([torch.cat(list(row), dim=1) for row in rows])
    return (sheet_HW * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def captioned(sheet_HW: np.ndarray, rows: Sequence[str], width: int = 96) -> np.ndarray:
    """A sheet with the name of each row, all of one height, in a margin on its left: uint8 (H, width + W)."""
    margin = np.zeros((len(sheet_HW), width), np.uint8)
    height = len(sheet_HW) // len(rows)
    for number, name in enumerate(rows):
        place = (6, number * height + height // 2 + 4)
        cv2.putText(margin, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.36, 200, 1, cv2.LINE_AA)
    return np.concatenate([margin, sheet_HW], axis=1)
