"""Maps of log-weights: how likely each patch is to stay visible, relative to the others.

A fixed map is `(h, w)` and serves every film; a map that is drawn anew for each film is `(B, h, w)`. Maps combine by
addition. Blocks and lattices decide which patches are hidden as long as their number allows it: their log-weights are
so far apart that no noise bridges them. A fixed map added to them tells where blocks fall, and which patches of a
lattice are hidden when it has too many.
"""

from __future__ import annotations

import hashlib
import io
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from xrayssl.errors import UserError

DECIDED = -1000.0
"""Log-weight of what a block or a lattice hides; the sampler's noise spans less than 30."""
LARGEST_PICTURE = 64_000_000  # pixels


def uniform_map(grid: tuple[int, int]) -> Tensor:
    """Every patch alike (He et al. 2021, arXiv:2111.06377, section 3): zeros (h, w)."""
    return torch.zeros(grid, device="cpu")


def center_map(grid: tuple[int, int], sigma: float = 0.3, floor: float = 0.5, hide: bool = True) -> Tensor:
    """A Gaussian about the centre of the film, where the joint or the lungs are, stretched over the grid: 1 at the
    patch nearest to the centre and 0 at the farthest, so that the weights reach from the floor to 1 for every width.

    The floor keeps every patch visible now and then: with weights of 0.1 to 1 on the hidden side and a ratio of 0.9 a
    central patch would stay visible in 2.7 % of the draws, instead of 10 % when all are alike.

    Args:
        grid: Rows and columns of patches.
        sigma: Width of the Gaussian in units of the film's side, > 0; the wider, the nearer to a parabola.
        floor: Weight of staying visible of the least visible patch relative to the most visible, in (0, 1].
        hide: True hides the centre more often, False the border.

    Returns:
        Log-weights (h, w) of staying visible.
    """
    rows, columns = ((torch.arange(n, dtype=torch.float64, device="cpu") + 0.5) / n - 0.5 for n in grid)
    distance_hw = rows[:, None] ** 2 + columns[None, :] ** 2
    distance_hw -= distance_hw.amin()
    width = min(max(sigma, 1e-3), 1e3)  # beyond these nothing changes, and squares would leave the range of numbers
    outside_hw = -torch.expm1(-distance_hw / (2 * width**2))
    outside_hw /= outside_hw.amax().clamp(min=1e-12)  # 0 where all patches are equally far
    return (1 - (1 - floor) * (1 - outside_hw if hide else outside_hw)).log().float()


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
        UserError: If the file is no readable grey picture, or tells no patch from another.
    """
    mean_hw = nn.functional.adaptive_avg_pool2d(prior(str(path))[0][None, None], grid)[0, 0]
    low, high = mean_hw.amin(), mean_hw.amax()
    if low == high and mean_hw.numel() > 1:
        raise UserError(f"{path}: at {grid[0]} x {grid[1]} patches this prior is of one grey, so it prefers none.")
    white_hw = (mean_hw - low) / (high - low) if high > low else torch.zeros(grid)
    return (1 - (1 - floor) * (white_hw if hide else 1 - white_hw)).log()


@lru_cache(maxsize=8)
def prior(path: str) -> tuple[Tensor, str]:
    """The grey values of a picture, float (H, W), and the checksum of its file, hexadecimal, the first 16 digits.

    Both are as they were when the picture was first asked for: a file that changes later changes no running training.

    Raises:
        UserError: If there is no such file, it is truncated, too large, coloured, or of one grey value.
    """
    try:
        content = Path(path).read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            if picture.mode not in ("1", "L", "I", "I;16", "I;16B"):
                raise UserError(f"{path}: a masking prior is a grey picture without transparency, not {picture.mode}.")
            if picture.width * picture.height > LARGEST_PICTURE:
                raise UserError(f"{path}: {picture.width} x {picture.height} px is too large for a masking prior.")
            grey_HW = torch.from_numpy(np.asarray(picture).astype(np.float32))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such picture; --model.masking.path names one.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{path}: no readable picture for --model.masking.path ({_short(error)}).") from None
    if grey_HW.amin() == grey_HW.amax():
        raise UserError(f"{path}: this prior is of one grey, so it prefers no patch; white marks what is hidden more.")
    return grey_HW, hashlib.sha256(content).hexdigest()[:16]


def _short(error: BaseException) -> str:
    """What a decoder says, without the address of an object in memory."""
    return "its format is unknown" if isinstance(error, UnidentifiedImageError) else str(error)


def grid_map(grid: tuple[int, int], visible: int, batch: int) -> Tensor:
    """A regular lattice of visible patches (He et al. 2021, section 4.2, "grid-wise sampling"), anywhere by chance.

    At a ratio of 0.75 one patch of every 2 x 2 stays, at 0.5 every other column. Where no lattice of cells up to twice
    as long as wide has exactly as many, one has a few more, of which the sampler hides some.

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
    covered_Bhw = torch.zeros(batch, *grid, dtype=torch.bool)
    left_B = torch.full((batch,), hidden, dtype=torch.int32)
    if prior_hw is not None and (prior_hw == prior_hw[0, 0]).all():
        prior_hw = None
    while len(film := left_B.nonzero()[:, 0]):
        before_Bhw = covered_Bhw[film]
        new_Bhw, count_B = _block(before_Bhw, left_B[film], prior_hw)
        covered_Bhw[film] = before_Bhw | new_Bhw
        left_B[film] -= count_B
    return DECIDED * covered_Bhw


def _block(covered_Bhw: Tensor, left_B: Tensor, prior_hw: Tensor | None) -> tuple[Tensor, Tensor]:
    """One more block per film, of films where something is left to hide: what it adds, bool (B, h, w), and how many.

    Its place is drawn without a look at what is covered, and again, with one, in the few films where it adds nothing:
    together that is a draw among the places that add something.
    """
    batch, rows, columns = covered_Bhw.shape
    least = math.ceil(0.08 * rows * columns)  # 16 of 14 x 14, as in the paper
    area_B = least + torch.rand(batch) * (left_B - least).clamp(min=0)
    proportion_B = torch.exp((2 * torch.rand(batch) - 1) * math.log(1 / 0.3))
    height_B = (area_B * proportion_B).sqrt().round().int().clamp(1, rows)
    width_B = (area_B / proportion_B).sqrt().round().int().clamp(1, columns)
    new_Bhw = _laid((rows, columns), height_B, width_B, prior_hw) & ~covered_Bhw
    count_B = _count(new_Bhw)
    if len(vain := (count_B == 0).nonzero()[:, 0]):
        seen_Bhw = covered_Bhw[vain]
        new_Bhw[vain] = _laid((rows, columns), height_B[vain], width_B[vain], prior_hw, seen_Bhw) & ~seen_Bhw
        count_B[vain] = _count(new_Bhw[vain])
    if len(last := (count_B > left_B).nonzero()[:, 0]):
        new_Bhw[last] = _first(new_Bhw[last], left_B[last])
    return new_Bhw, count_B.minimum(left_B)


def _count(mask_Bhw: Tensor) -> Tensor:
    """How many are true in each film."""
    return mask_Bhw.flatten(1).sum(dim=1, dtype=torch.int32)  # a third of the time of 64 bits


def _laid(
    grid: tuple[int, int], height_B: Tensor, width_B: Tensor, prior_hw: Tensor | None, seen_Bhw: Tensor | None = None
) -> Tensor:
    """A box of the given size in each film, bool (B, h, w): anywhere inside, by the prior, and where what is `seen` as
    covered is not all that it would cover."""
    (rows, columns), size = grid, torch.stack([height_B, width_B], dim=1)
    if prior_hw is None and seen_Bhw is None:
        free_B2 = torch.tensor(grid) - size + 1
        top_B, left_B = torch.minimum((torch.rand(len(size), 2) * free_B2).int(), free_B2 - 1).unbind(dim=1)
    else:
        place_B = _chosen(grid, height_B, width_B, prior_hw, seen_Bhw)
        top_B, left_B = place_B // columns, place_B % columns
    down_Bh, right_Bw = torch.arange(rows) - top_B[:, None], torch.arange(columns) - left_B[:, None]
    inside_Bh = (down_Bh >= 0) & (down_Bh < height_B[:, None])
    return inside_Bh[:, :, None] & ((right_Bw >= 0) & (right_Bw < width_B[:, None]))[:, None, :]


def _chosen(
    grid: tuple[int, int], height_B: Tensor, width_B: Tensor, prior_hw: Tensor | None, seen_Bhw: Tensor | None
) -> Tensor:
    """Numbers of the patches where boxes begin, drawn by the inverse of the distribution function."""
    score_Bhw = torch.zeros(len(height_B), *grid)
    if prior_hw is not None:
        score_Bhw = _box_sums(prior_hw[None], height_B, width_B) / -(height_B * width_B)[:, None, None]
    wrong_Bhw = (torch.arange(grid[0]) > grid[0] - height_B[:, None])[:, :, None]
    wrong_Bhw = wrong_Bhw | (torch.arange(grid[1]) > grid[1] - width_B[:, None])[:, None, :]
    if seen_Bhw is not None:
        wrong_Bhw |= _box_sums((~seen_Bhw).float(), height_B, width_B) < 0.5
    until_BL = score_Bhw.masked_fill_(wrong_Bhw, -torch.inf).flatten(1).softmax(dim=1).cumsum(dim=1)
    drawn_B1 = torch.rand(len(height_B), 1) * until_BL[:, -1:]
    return torch.searchsorted(until_BL, drawn_B1, right=True)[:, 0].clamp(max=until_BL.shape[1] - 1)


def _first(new_Bhw: Tensor, left_B: Tensor) -> Tensor:
    """As many of the new patches as are left to hide, counted from the top or, in every other film, from below."""
    rank_BL = new_Bhw.flatten(1).cumsum(dim=1, dtype=torch.int32)
    backward_BL = rank_BL[:, -1:] - rank_BL + 1
    rank_BL = torch.where(torch.rand(len(left_B), 1) < 0.5, rank_BL, backward_BL)
    return new_Bhw & (rank_BL <= left_B[:, None]).view_as(new_Bhw)


def _box_sums(values_Bhw: Tensor, height_B: Tensor, width_B: Tensor) -> Tensor:
    """Sums over the box that begins at each patch and ends at the film's border, by a summed-area table; values of one
    film serve all."""
    (rows, columns), batch = values_Bhw.shape[1:], len(height_B)
    table = nn.functional.pad(values_Bhw.cumsum(dim=1).cumsum(dim=2), (1, 0, 1, 0)).expand(batch, -1, -1)
    bottom_Bh = (torch.arange(rows) + height_B[:, None]).clamp(max=rows)
    right_Bw = (torch.arange(columns) + width_B[:, None]).clamp(max=columns)
    band = table[torch.arange(batch)[:, None], bottom_Bh] - table[:, :rows]
    return band.gather(2, right_Bw[:, None, :].expand(-1, rows, -1)) - band[:, :, :columns]


def _lattice(grid: tuple[int, int], visible: int) -> tuple[int, int]:
    """Rows and columns of a lattice with at least so many patches: its cells up to twice as long as wide, if there is
    such a one, exactly so many, if that can be, then few too many, and cells about square."""
    rows, columns = grid
    pairs = [(n, math.ceil(visible / n)) for n in range(1, rows + 1) if math.ceil(visible / n) <= columns]

    def cost(pair: tuple[int, int]) -> tuple[bool, bool, float]:
        length = abs(math.log(rows * pair[1] / (pair[0] * columns)))
        count = pair[0] * pair[1]
        return length > math.log(2) + 1e-9, count != visible, count / visible + length

    return min(pairs, key=cost)


def _evenly(length: int, count: int, batch: int) -> Tensor:
    """So many of a row of places, evenly apart with a random offset: 1 or 0 (B, length)."""
    place = ((torch.arange(count) + torch.rand(batch, 1)) * (length / count)).long().clamp(max=length - 1)
    return torch.zeros(batch, length).scatter_(1, place, 1.0)
