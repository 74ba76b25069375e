"""Where a classifier looks on the first test films, for a dashboard whose user allows pictures of films."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from xrayssl.explain import cam, overlay
from xrayssl.loggers import WandbRun, wandb_runs

SIDE = 224
"""Pixels to which a film is enlarged, at least."""


class Overlays(Callback):
    """Draws figures/overlay-NN.png of the first test films, each for its most probable class, and logs them.

    Without `--wandb.films true` it does nothing. Where privacy is asked for, patients and films are pseudonyms.

    Args:
        films: Number of films.
    """

    def __init__(self, films: int = 8) -> None:
        self.films = films
        self._kept: list[tuple[int, Tensor]] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the first films."""
        if len(self._kept) < self.films and any(logger.options.films for logger in wandb_runs(trainer)):
            pairs = zip(batch["index"].tolist(), batch["image"].clone(), strict=True)
            self._kept = [*self._kept, *pairs][: self.films]

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws and logs the films that were kept."""
        for logger in wandb_runs(trainer) if self._kept else ():
            folder = Path(trainer.default_root_dir) / "figures"
            folder.mkdir(exist_ok=True)
            for number, (index, image_CHW) in enumerate(self._kept, 1):
                row = trainer.datamodule.manifest.table.iloc[index]  # type: ignore[attr-defined]
                path = folder / f"overlay-{number:02d}.png"
                said = drawn(pl_module, image_CHW, named(row, logger), path)
                logger.log_picture("overlays", path, said)
        self._kept = []


def named(row: Any, logger: WandbRun) -> str:
    """Patient and file of a film, or their pseudonyms."""
    patient, film = str(row["patient"]), Path(row["path"]).name
    if logger.pseudonyms:
        return f"{logger.pseudonyms('patient', patient)}, {logger.pseudonyms('film', film)}"
    return f"patient {patient}, {film}"


def drawn(model: Any, image_CHW: Tensor, title: str, path: Path) -> str:
    """Draws a film, its map and both in one for its most probable class, and returns what stands above it."""
    image_1CHW = model.backbone.normalize(image_CHW[None].to(model.device))
    with torch.no_grad():
        probability_K = model.probabilities(model(image_1CHW))[0].float().cpu()
    number = int(probability_K.argmax())
    map_hw = cam.maps(model, model.backbone.grid, image_1CHW, [number])[0][0, 0].cpu().numpy()
    said = f"{model.classes[number]}: probability {float(probability_K[number]):.3f}"
    times = max(1, -(-SIDE // max(image_CHW.shape[1:])))
    film_HW = cv2.resize(np.asarray(image_CHW[0].cpu()), None, fx=times, fy=times, interpolation=cv2.INTER_LINEAR)
    overlay.sheet(film_HW, map_hw, title, [said]).save(path)
    return f"{title}. {said}"
