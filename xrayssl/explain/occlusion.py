"""Occlusion: what a logit loses when a part of the film is hidden, which needs nothing of a model but its answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xrayssl.explain.passes import Cut, explaining, hooked


def occlusion(
    model: nn.Module,
    layer: nn.Module,
    image_BCHW: Tensor,
    classes: Sequence[int],
    window: int = 1,
    fill: float | None = None,
    batch_size: int = 32,
) -> tuple[Tensor, Tensor]:
    """The drop of each logit when a window about a cell is hidden (Zeiler & Fergus 2014, arXiv:1311.2901, section 4.2).

    We take the logit where the paper takes the probability, which hardly moves where it is near 1. Films are cut evenly
    into as many cells as the layer's map has; the window goes from cell to cell, and at the edges of the film it is
    cut off. It takes h w + 1 passes of a film. See `passes.explaining` for what may be and what stays.

    Args:
        model: From normalised films to logits (B, N).
        layer: Inside it, with an output (B, D, h, w), of which only the size is used.
        image_BCHW: Normalised films.
        classes: Numbers of the K outputs to explain.
        window: Side of what is hidden, in cells, odd.
        fill: Normalised grey value in the window; None for the film's own mean.
        batch_size: Films with a hidden window in a pass.

    Returns:
        map_BKhw, raw and signed: above 0 where what is hidden spoke for the class, below 0 where it spoke against it
        (`.relu()` keeps the former, as other maps do); in units of the logit. And the logits (B, K) of whole films.

    Raises:
        ValueError: If the window has no middle, the layer is not called once, or its output is no map of the films.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"A window has an odd number of cells to a side, so that it has a middle, not {window}.")
    cut, drops = Cut(image_BCHW), []
    with explaining(model, image_BCHW) as logits, torch.no_grad():
        with hooked(layer, cut):
            logit_BK = logits(image_BCHW)[:, list(classes)]
        rows, columns = grid = cut.leaf.shape[2:]
        for part in torch.arange(len(image_BCHW) * rows * columns, device=image_BCHW.device).split(batch_size):
            film, cell = part // (rows * columns), part % (rows * columns)
            hidden_BCHW = _hidden(image_BCHW[film].float(), cell, grid, window, fill)
            drops.append(logit_BK[film] - logits(hidden_BCHW)[:, list(classes)])
    return torch.cat(drops).unflatten(0, (-1, rows, columns)).movedim(3, 1).contiguous(), logit_BK


def _hidden(image_BCHW: Tensor, cell_B: Tensor, grid: torch.Size, window: int, fill: float | None) -> Tensor:
    """Films, each with a window about one of its cells."""
    row_BH = _band(cell_B // grid[1], grid[0], image_BCHW.shape[2], window)
    column_BW = _band(cell_B % grid[1], grid[1], image_BCHW.shape[3], window)
    grey: Tensor | float = image_BCHW.mean(dim=(2, 3), keepdim=True) if fill is None else fill
    return torch.where((row_BH[:, :, None] & column_BW[:, None, :])[:, None], grey, image_BCHW)


def _band(cell_B: Tensor, cells: int, pixels: int, window: int) -> Tensor:
    """Which pixels of a side the window about a cell hides: bool (B, pixels)."""
    edges_2B = torch.stack([cell_B - window // 2, cell_B + window // 2 + 1]).clamp(0, cells) * pixels // cells
    first_B1, after_B1 = edges_2B[:, :, None]
    pixel = torch.arange(pixels, device=cell_B.device)
    return (first_B1 <= pixel) & (pixel < after_B1)
