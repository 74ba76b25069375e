"""Pictures of what a masked autoencoder expects behind the hidden patches, and of where it hides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.masking import visible_share

ROWS = ("film", "visible", "reconstruction", "error")


@runtime_checkable
class Reconstructing(Protocol):
    """A method that fills what it hides of a film."""

    @property
    def backbone(self) -> Backbone:
        """What normalises the films."""

    def reconstruct(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The filled films, normalised, and mask_BCHW, True where a pixel was hidden."""


class Reconstructions(Callback):
    """Writes figures/reconstruction-epochNNNN.png of the same validation films with the same masks, and where the
    training hides patches, figures/visible-epochNNNN.png.

    Rows of the first: the film, what the network sees, what it makes of it, and the error (white is none, black
    the whole grey scale). The second is how often each patch stays visible; see `visibility_sheet`.

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
            UserError: If it cannot fill what it hides.
        """
        if not isinstance(pl_module, Reconstructing):
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
        """Draws and writes the sheets."""
        epoch, last = trainer.current_epoch + 1, trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.sanity_checking or self._images is None or not (epoch == 1 or last or epoch % self.every == 0):
            return
        assert isinstance(pl_module, Reconstructing)
        sheets = {"reconstruction": captioned(reconstruction_sheet(pl_module, self._images), ROWS)}
        if hasattr(pl_module, "masking"):
            sheets["visible"] = visibility_sheet(pl_module)
        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(exist_ok=True)
        for name, sheet_HW in sheets.items():
            path = folder / f"{name}-epoch{epoch:04d}.png"
            cv2.imwrite(str(path), sheet_HW)
            for logger in trainer.loggers if self.upload else []:
                if isinstance(logger, WandbLogger):
                    logger.log_image(name, [str(path)], step=trainer.global_step)


@torch.no_grad()
def reconstruction_sheet(method: Reconstructing, image_BCHW: Tensor, seed: int = 0) -> np.ndarray:
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


def visibility_sheet(method: Any, side: int = 224) -> np.ndarray:
    """How often each patch stays visible at this point of the training: black is never, white as often as the most
    visible patch; beside it the shares in numbers.

    Args:
        method: With `masking`, `grid` and `progress`.
        side: Longer side of the map in pixels.

    Returns:
        uint8 (H, 96 + W).
    """
    share_hw = visible_share(method.masking, method.grid, method.progress).numpy()
    scale = max(1, side // max(method.grid))
    grey_hw = (255 * share_hw / share_hw.max()).round().astype(np.uint8)
    figures = {"mean": share_hw.mean(), "least": share_hw.min(), "most": share_hw.max()}
    lines = [f"{name} {100 * value:.1f} %" for name, value in figures.items()]
    map_HW = grey_hw.repeat(scale, axis=0).repeat(scale, axis=1)
    return captioned(np.pad(map_HW, ((0, max(0, 48 - len(map_HW))), (0, 0))), lines)


def captioned(sheet_HW: np.ndarray, rows: Sequence[str], width: int = 96) -> np.ndarray:
    """A sheet with the name of each row, all of one height, in a margin on its left: uint8 (H, width + W)."""
    margin = np.zeros((len(sheet_HW), width), np.uint8)
    height = len(sheet_HW) // len(rows)
    for number, name in enumerate(rows):
        place = (6, number * height + height // 2 + 4)
        cv2.putText(margin, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.36, 200, 1, cv2.LINE_AA)
    return np.concatenate([margin, sheet_HW], axis=1)
