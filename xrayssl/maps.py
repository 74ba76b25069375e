"""Maps of log-weights: how likely each patch is to stay visible, relative to the others.

A fixed map is `(h, w)` and serves every film; a map that is drawn anew for each film is `(B, h, w)`. Maps combine by
addition. Blocks and lattices decide which patches are hidden as long as their number allows it: their log-weights are
so far apart that no noise bridges them. A fixed map added to them tells where blocks fall, and which patches of a
lattice are hidden when it has too many.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from xrayssl.errors import UserError

DECIDED = -1000.0
"""Log-weight of what a block or a lattice hides; the sampler's noise spans less than 30."""
LARGEST_PICTURE = 64_000_000  # pixels


def uniform_map(grid: tuple[int, int]) -> Tensor:
    """Every patch alike (He et al. 2021, arXiv:2111.06377, section 3): zeros (h, w)."""
    return torch.zeros(grid)


def center_map(grid: tuple[int, int], sigma: float = 0.3, floor: float = 0.5, hide: bool = True) -> Tensor:
    """A Gaussian about the centre of the film, where the joint or the lungs are.

    The floor keeps every patch visible now and then: with weights of 0.1 to 1 on the hidden side and a ratio of 0.9 a
    central patch would stay visible in 2.7 % of the draws, instead of 10 % when all are alike.

    Args:
        grid: Rows and columns of patches.
        sigma: Width of the Gaussian in units of the film's side, > 0.
        floor: Weight of staying visible of the least visible patch relative to the most visible, in (0, 1].
        hide: True hides the centre more often, False the border.

    Returns:
        Log-weights (h, w) of staying visible.

    Raises:
        ValueError: If sigma or floor is outside its range.
    """
    if not (sigma > 0 and 0 < floor <= 1):
        raise ValueError(f"a centre map needs sigma > 0 and 0 < floor <= 1, not {sigma} and {floor}")
    rows, columns = ((torch.arange(n) + 0.5) / n - 0.5 for n in grid)
    distance_hw = rows[:, None] ** 2 + columns[None, :] ** 2
    bell_hw = torch.exp(-distance_hw / (2 * sigma**2))
    return (1 - (1 - floor) * (bell_hw if hide else 1 - bell_hw)).log()


def image_map(grid: tuple[int, int], path: str | Path, floor: float = 0.5, hide: bool = True) -> Tensor:
    """A picture as a prior, such as the mean of many lung masks: laid over the film, as the network sees it, from edge
    to edge.

    Args:
        grid: Rows and columns of patches; each takes the mean of its part of the picture.
        path: A grey picture of any size and depth; its darkest patch counts as 0, its brightest as 1.
        floor: Weight of staying visible of the least visible patch relative to the most visible, in (0, 1].
        hide: True hides white more often, False black.

    Returns:
        Log-weights (h, w) of staying visible.

    Raises:
        ValueError: If the floor is outside its range.
        UserError: If the file is no readable grey picture, or tells no patch from another.
    """
    if not 0 < floor <= 1:
        raise ValueError(f"an image map needs 0 < floor <= 1, not {floor}")
    mean_hw = nn.functional.adaptive_avg_pool2d(prior(str(path))[None, None], grid)[0, 0]
    low, high = mean_hw.amin(), mean_hw.amax()
    if low == high and mean_hw.numel() > 1:
        raise UserError(f"{path}: at {grid[0]} x {grid[1]} patches this prior is of one grey, so it prefers none.")
    white_hw = (mean_hw - low) / (high - low) if high > low else torch.zeros(grid)
    return (1 - (1 - floor) * (white_hw if hide else 1 - white_hw)).log()


@lru_cache(maxsize=8)
def prior(path: str) -> Tensor:
    """The grey values of a picture, float (H, W).

    Raises:
        UserError: If there is no such file, it is truncated, too large, coloured, or of one grey value.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("1", "L", "I", "I;16", "I;16B"):
                raise UserError(f"{path}: a masking prior is a grey picture without transparency, not {picture.mode}.")
            if picture.width * picture.height > LARGEST_PICTURE:
                raise UserError(f"{path}: {picture.width} x {picture.height} px is too large for a masking prior.")
            grey_HW = torch.from_numpy(np.asarray(picture).astype(np.float32))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such picture for masking.path.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{path}: no readable picture for masking.path ({error}).") from None
    if grey_HW.amin() == grey_HW.amax():
        raise UserError(f"{path}: this prior is of one grey, so it prefers no patch; white marks what is hidden more.")
    return grey_HW


def fingerprint(path: str | Path) -> str:
    """Checksum of a picture's file, hexadecimal, the first 16 digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def grid_map(grid: tuple[int, int], visible: int, batch: int) -> Tensor:
    """A regular lattice of visible patches (He et al. 2021, section 4.2, "grid-wise sampling"), anywhere by chance.

    At a ratio of 0.75 one patch of every 2 x 2 stays. Where no lattice has exactly as many, one has a few more, of
    which the sampler hides some.

    Args:
        grid: Rows and columns of patches.
        visible: Number of patches that stay visible.
        batch: Number of films; each has its own offset.

    Returns:
        Log-weights (B, h, w) of staying visible.
    """
    lines = zip(grid, _lattice(grid, visible), strict=True)
    row_Bh, column_Bw = (_evenly(length, count, batch) for length, count in lines)
    return DECIDED * (1 - row_Bh[:, :, None] * column_Bw[:, None, :])


def block_map(grid: tuple[int, int], hidden: int, batch: int, prior_hw: Tensor | None = None) -> Tensor:
    """Contiguous blocks of hidden patches, as many as it takes (Bao et al. 2021, arXiv:2106.08254, algorithm 1).

    A block takes from 8 % of the film to all that is still to be hidden, with sides in a proportion of 0.3 to 1 / 0.3;
    of the last one only as many rows are taken as are needed. Where we depart from the paper: the count is exact, and
    the places of blocks may follow a prior. Since blocks lie inside the film, they hide its centre more often than its
    corners: of 7 x 7 patches and a ratio of 0.75 the central one stays visible in 4 % of the draws, a corner in 63 %.

    Args:
        grid: Rows and columns of patches.
        hidden: Number of patches to hide.
        batch: Number of films; each has its own blocks.
        prior_hw: Log-weights of staying visible; a block falls in proportion to their inverse geometric mean in it.

    Returns:
        Log-weights (B, h, w) of staying visible.
    """
    covered_Bhw = torch.zeros(batch, *grid)
    prior_hw = torch.zeros(grid) if prior_hw is None else prior_hw
    while len(film := (covered_Bhw.sum(dim=(1, 2)) < hidden).nonzero()[:, 0]):
        covered_Bhw[film] += _block(covered_Bhw[film], hidden, prior_hw)
    return DECIDED * covered_Bhw


def _block(covered_Bhw: Tensor, hidden: int, prior_hw: Tensor) -> Tensor:
    """One more block per film, of films where something is left to hide: what it adds, 0 or 1 (B, h, w)."""
    batch, rows, columns = covered_Bhw.shape
    left_B = hidden - covered_Bhw.sum(dim=(1, 2))
    least = math.ceil(0.08 * rows * columns)  # 16 of 14 x 14, as in the paper
    area_B = least + torch.rand(batch) * (left_B - least).clamp(min=0)
    proportion_B = torch.exp((2 * torch.rand(batch) - 1) * math.log(1 / 0.3))
    height_B = (area_B * proportion_B).sqrt().round().long().clamp(1, rows)
    width_B = (area_B / proportion_B).sqrt().round().long().clamp(1, columns)
    row, column = torch.arange(rows)[:, None], torch.arange(columns)
    height, width = height_B[:, None, None], width_B[:, None, None]
    fits_Bhw = (row + height <= rows) & (column + width <= columns)
    fresh_Bhw = _box_sums(1 - covered_Bhw, height_B, width_B) > 0.5
    gumbel_Bhw = -torch.empty_like(covered_Bhw).exponential_().log()
    score_Bhw = gumbel_Bhw - _box_sums(prior_hw[None], height_B, width_B) / (height * width)
    place_B = score_Bhw.masked_fill(~(fits_Bhw & fresh_Bhw), -torch.inf).flatten(1).argmax(dim=1)
    down, right = row - (place_B // columns)[:, None, None], column - (place_B % columns)[:, None, None]
    inside_Bhw = (down >= 0) & (down < height) & (right >= 0) & (right < width)
    return _first(inside_Bhw * (1 - covered_Bhw), left_B)


def _first(new_Bhw: Tensor, left_B: Tensor) -> Tensor:
    """As many of the new patches as are left to hide, counted from the top or, in every other film, from below."""
    rank_BL = new_Bhw.flatten(1).cumsum(dim=1)
    backward_BL = rank_BL[:, -1:] - rank_BL + 1
    rank_BL = torch.where(torch.rand(len(left_B), 1) < 0.5, rank_BL, backward_BL)
    return new_Bhw * (rank_BL <= left_B[:, None]).view_as(new_Bhw)


def _box_sums(values_Bhw: Tensor, height_B: Tensor, width_B: Tensor) -> Tensor:
    """Sums over the box that begins at each patch and ends at the film's border, by a summed-area table; values of one
    film serve all."""
    batch, rows, columns = values_Bhw.shape
    table = nn.functional.pad(values_Bhw.cumsum(dim=1).cumsum(dim=2), (1, 0, 1, 0))
    film, top, left = torch.arange(batch)[:, None, None], torch.arange(rows), torch.arange(columns)
    bottom_Bh1 = (top + height_B[:, None]).clamp(max=rows)[:, :, None]
    right_B1w = (left + width_B[:, None]).clamp(max=columns)[:, None, :]
    below = table[film, bottom_Bh1, right_B1w] - table[film, bottom_Bh1, left]
    return below - table[film, top[:, None], right_B1w] + table[film, top[:, None], left]


def _lattice(grid: tuple[int, int], visible: int) -> tuple[int, int]:
    """Rows and columns of a lattice with at least so many patches: few too many, and its cells about square."""
    rows, columns = grid
    pairs = [(n, math.ceil(visible / n)) for n in range(1, rows + 1) if math.ceil(visible / n) <= columns]
    return min(pairs, key=lambda n: n[0] * n[1] / visible + abs(math.log(rows * n[1] / (n[0] * columns))))


def _evenly(length: int, count: int, batch: int) -> Tensor:
    """So many of a row of places, evenly apart with a random offset: 1 or 0 (B, length)."""
    place = ((torch.arange(count) + torch.rand(batch, 1)) * (length / count)).long().clamp(max=length - 1)
    return torch.zeros(batch, length).scatter_(1, place, 1.0)
