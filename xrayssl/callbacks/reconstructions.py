"""Pictures of what a masked autoencoder expects behind the hidden patches, and of where it hides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from xrayssl.backbone import Backbone
from xrayssl.callbacks.checkpoints import ends
from xrayssl.callbacks.frozen import evaluating
from xrayssl.errors import UserError
from xrayssl.loggers import wandb_runs
from xrayssl.masking import Masking, hidden_count, visible_share
from xrayssl.methods import DVAE, Method
from xrayssl.targets import NormPixels

ROWS = ("film", "visible", "reconstruction", "error")
LETTERS = cv2.FONT_HERSHEY_SIMPLEX, 0.36
LINE = 14  # pixels from one line of a caption to the next


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
    the whole grey scale). A training without validation is drawn once, at its end, on training films. The second is
    how often each patch stays visible (see `visibility_sheet`): it is there from the start, and drawn again where the
    ratio changes. Weights & Biases gets the second; the first shows films of patients, so it gets that only where
    `--wandb.films true` allows it.

    Args:
        films: Number of films, one column each.
        every: Epochs between two pictures; the end of the training always has one.
    """

    def __init__(self, films: int = 6, every: int = 5) -> None:
        self.films, self.every = films, every
        self._images: Tensor | None = None
        self._seen: Tensor | None = None
        self._drawn = -1  # the step of the last picture

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a method that reconstructs nothing.

        Raises:
            UserError: If it cannot fill what it hides.
        """
        if not isinstance(pl_module, Reconstructing):
            raise UserError(f"{type(pl_module).__name__} reconstructs nothing; leave out the callback Reconstructions.")

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws where patches are hidden, which takes no film."""
        if hasattr(pl_module, "masking"):
            self._write(trainer, {"visible": visibility_sheet(pl_module)}, trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Keeps some films for a training that validates none."""
        if self._images is None and self._seen is None:
            self._seen = batch["image"][: self.films].detach().clone()

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
            self._images = batch["image"][: self.films].detach().clone()

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws and writes the sheets."""
        epoch = trainer.current_epoch + 1
        due = epoch == 1 or ends(trainer) or epoch % self.every == 0
        if due and not trainer.sanity_checking:
            self._draw(trainer, pl_module, epoch)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws what the training ends with, where no validation has."""
        if self._drawn == trainer.global_step:
            return
        with evaluating(pl_module), pl_module.averaged() if isinstance(pl_module, Method) else nullcontext():
            self._draw(trainer, pl_module, max(1, trainer.current_epoch))

    def _draw(self, trainer: Trainer, model: LightningModule, epoch: int) -> None:
        images = self._seen if self._images is None else self._images
        if images is None:
            return
        assert isinstance(model, Reconstructing)
        rows = row_names(model)
        rows[0] = "training film" if self._images is None else rows[0]
        sheets = {"reconstruction": reconstruction_picture(model, images, rows=rows)}
        masking = getattr(model, "masking", None)
        if getattr(masking, "ratio_end", None) is not None:
            sheets["visible"] = visibility_sheet(model)
        self._write(trainer, sheets, epoch)
        self._drawn = trainer.global_step

    def _write(self, trainer: Trainer, sheets: Mapping[str, np.ndarray], epoch: int) -> None:
        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        for name, sheet_HW in sheets.items():
            path = folder / f"{name}-epoch{epoch:04d}.png"
            cv2.imwrite(str(path), sheet_HW)
            for logger in wandb_runs(trainer):
                logger.log_picture(name, path, f"epoch {epoch}", trainer.global_step, shows_films=name != "visible")


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


def row_names(method: Reconstructing) -> list[str]:
    """What the rows of a sheet show: how much is hidden, and what of the truth a reconstruction borrows."""
    film, visible, filled, error = ROWS
    if isinstance(method, DVAE):
        return [film, "all is seen,\nnone hidden", "painted from\nits codes", error]
    if isinstance(method, Method) and isinstance(getattr(method, "masking", None), Masking):
        visible = f"visible,\n{hidden_share(method)} hidden"
    if isinstance(getattr(method, "target", None), NormPixels):
        filled = "reconstruction,\ntrue mean and\ncontrast"
    return [film, visible, filled, error]


def hidden_share(method: Any) -> str:
    """Share of the patches that a method with `masking` and `grid` hides in validation, such as `75 %`."""
    patches = method.grid[0] * method.grid[1]
    return f"{100 * hidden_count(patches, method.masking.ratio_at(1.0)) / patches:.3g} %"


def reconstruction_picture(
    method: Reconstructing,
    image_BCHW: Tensor,
    seed: int = 0,
    rows: Sequence[str] | None = None,
    side: int = 112,
    title: Sequence[str] = (),
) -> np.ndarray:
    """A sheet for people to look at.

    Args:
        method: In evaluation.
        image_BCHW: Films, uint8.
        seed: Another one hides other patches.
        rows: Names of the rows, in place of `row_names`.
        side: Smaller films are enlarged by a whole number until their shorter side has so many pixels or more.
        title: Lines above it.

    Returns:
        uint8, `reconstruction_sheet` with a margin of names.
    """
    times = max(1, math.ceil(side / min(image_BCHW.shape[-2:])))
    sheet_HW = reconstruction_sheet(method, image_BCHW, seed).repeat(times, axis=0).repeat(times, axis=1)
    return titled(captioned(sheet_HW, rows or row_names(method)), title)


def visibility_sheet(method: Any, side: int = 224) -> np.ndarray:
    """How often each patch stays visible at this point of the training: black is never, white as often as the most
    visible patch; beside it the shares in numbers, above it what it is, and of which ratio where that changes.

    Args:
        method: With `masking`, `grid` and `progress`.
        side: Longer side of the map in pixels.

    Returns:
        uint8 (H, W).
    """
    masking, progress = method.masking, method.progress
    share_hw = measured_share(masking, method.grid, progress).numpy()
    scale = max(1, side // max(method.grid))
    grey_hw = (255 * share_hw / share_hw.max()).round().astype(np.uint8)
    figures = {"mean": share_hw.mean(), "least": share_hw.min(), "most": share_hw.max()}
    map_HW = grey_hw.repeat(scale, axis=0).repeat(scale, axis=1)
    sheet_HW = np.pad(map_HW, ((0, max(0, 48 - len(map_HW))), (0, 0)))
    title = ["How often a patch stays visible; white = most"]
    if masking.ratio_end is not None:
        now = f"{masking.ratio_at(progress):.3g}"
        title.append(f"Here at a ratio of {now}, which goes from {masking.ratio:g} to {masking.ratio_end:g}")
    return titled(captioned(sheet_HW, [f"{name} {100 * value:.1f} %" for name, value in figures.items()]), title)


def measured_share(masking: Masking, grid: tuple[int, int], progress: float = 0.0) -> Tensor:
    """`visible_share` with as many draws as a second or two allows, and without noise between patches that are alike.

    Where the map is the same for every film, a patch's share depends on its weight alone: patches of one weight take
    the mean of theirs.

    Returns:
        Shares (h, w), 0-1.
    """
    patches, kinds = grid[0] * grid[1], {one.kind for one in (masking, *masking.plus)}
    work = 2_000_000 if "block" in kinds else 8_000_000  # patches drawn: a block takes several times as long
    share_hw = visible_share(masking, grid, progress, draws=min(65536, max(256, work // patches)))
    if kinds & {"block", "grid"}:
        return share_hw
    weight_hw = (masking.log_weights(grid, progress=progress) * 1e4).round()
    _, group_hw, count_G = weight_hw.unique(return_inverse=True, return_counts=True)
    sums_G = torch.zeros(len(count_G)).index_add_(0, group_hw.flatten(), share_hw.flatten())
    return (sums_G / count_G)[group_hw]


def captioned(sheet_HW: np.ndarray, rows: Sequence[str], width: int = 96) -> np.ndarray:
    """A sheet with the name of each row, all of one height, in a margin on its left: uint8 (H, width + W); the margin
    is as wide as the longest line needs."""
    lines = [name.split("\n") for name in rows]
    margin = np.zeros((len(sheet_HW), max(width, _length([part for parts in lines for part in parts]) + 10)), np.uint8)
    height = len(sheet_HW) // len(rows)
    for number, parts in enumerate(lines):
        first = number * height + height // 2 + 4 - LINE * (len(parts) - 1) // 2
        for place, part in enumerate(parts):
            cv2.putText(margin, part, (6, first + LINE * place), *LETTERS, 200, 1, cv2.LINE_AA)
    return np.concatenate([margin, sheet_HW], axis=1)


def titled(sheet_HW: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """A sheet with lines of text above it, and as wide as they need; letters beyond ASCII become question marks."""
    lines = [line.encode("ascii", "replace").decode() for line in lines]
    if not lines:
        return sheet_HW
    wide_HW = np.pad(sheet_HW, ((0, 0), (0, max(0, _length(lines) + 12 - sheet_HW.shape[1]))))
    band = np.zeros((LINE * len(lines) + 8, wide_HW.shape[1]), np.uint8)
    for number, line in enumerate(lines, 1):
        cv2.putText(band, line, (6, LINE * number), *LETTERS, 200, 1, cv2.LINE_AA)
    return np.concatenate([band, wide_HW])


def _length(lines: Sequence[str]) -> int:
    """Pixels that the longest line takes."""
    return max(cv2.getTextSize(line, *LETTERS, 1)[0][0] for line in lines)
