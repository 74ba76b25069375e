"""Where a finding is, on the grid of a network: the share of each cell that boxes or a mask cover, by exact areas."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xrayssl.data.resizing import largest_cut
from xrayssl.statistics.resampling import Floats

Window = tuple[int, int, int, int]
Size = tuple[int, int]


def seen(shape: Size, size: Size, crop: Window | None = None) -> Window:
    """The part of a film that a network sees in validation and test; see `data.resizing.fit_center`.

    Args:
        shape: Height and width of the film in pixels.
        size: Of the network's films in pixels.
        crop: What was left of the film before that cut, such as `data.trim.border` gives; None: all of it.

    Returns:
        Its top, left, height and width in pixels of the film. Of a mask of the film, `of_mask` wants this part.
    """
    top, left, height, width = crop or (0, 0, *shape)
    cut = largest_cut((height, width), size)
    return top + (height - cut[0]) // 2, left + (width - cut[1]) // 2, *cut


def in_view(box_B4: ArrayLike, shape: Size, size: Size, crop: Window | None = None) -> Floats:
    """Boxes of a film in pixels of what the network sees of it; they may reach beyond its edges.

    Args:
        box_B4: Left, top, width and height in fractions of the film, as `Manifest.boxes` has them.
        shape: See `seen`, as the two others.
        size: Likewise.
        crop: Likewise.

    Returns:
        Left, top, width and height in pixels of the view, (B, 4).
    """
    top, left, height, width = seen(shape, size, crop)
    box = np.asarray(box_B4, dtype=np.float64).reshape(-1, 4) * [shape[1], shape[0], shape[1], shape[0]]
    scale = [size[1] / width, size[0] / height] * 2
    moved: Floats = (box - [left, top, 0, 0]) * scale
    return moved


def of_boxes(box_B4: ArrayLike, size: Size, grid: Size) -> Floats:
    """The share of each cell that lies in at least one box, by areas, without sampling.

    Args:
        box_B4: Left, top, width and height in pixels of the view; no row, no region. One box may be given as (4,).
        size: Height and width of the view in pixels.
        grid: Rows and columns of cells.

    Returns:
        region_hw, 0..1.
    """
    left, top, width, height = np.asarray(box_B4, dtype=np.float64).reshape(-1, 4).T
    rows, in_rows = _cuts(top, top + height, size[0])
    columns, in_columns = _cuts(left, left + width, size[1])
    inside = (in_rows[:, :, None] & in_columns[:, None, :]).any(axis=0).astype(np.float64)
    share_hw = covered(rows[:-1], rows[1:], size[0], grid[0]).T @ inside
    found: Floats = (share_hw @ covered(columns[:-1], columns[1:], size[1], grid[1])).clip(0, 1)
    return found


def _cuts(start_B: Floats, end_B: Floats, length: int) -> tuple[Floats, np.ndarray]:
    """Where boxes begin and end along a side, in order, and which box holds which part between two of these places."""
    start_B, end_B = start_B.clip(0, length), end_B.clip(0, length)
    place = np.unique(np.concatenate([start_B, end_B]))
    return place, (start_B[:, None] <= place[:-1]) & (place[1:] <= end_B[:, None])


def of_mask(mask_HW: ArrayLike, grid: Size) -> Floats:
    """The share of each cell that a mask covers: its mean over the cell's area.

    Args:
        mask_HW: Of the part of the film that the network sees, in pixels of any size; bool, or 0..1.
        grid: Rows and columns of cells, which need not divide the pixels.

    Returns:
        region_hw, 0..1.
    """
    return area_mean(np.asarray(mask_HW, dtype=np.float64), grid).clip(0, 1)


def area_mean(map_Nhw: ArrayLike, grid: Size) -> Floats:
    """Maps at another grid, each new cell the mean of what it covers, weighed by areas; the mean of a map stays.

    Args:
        map_Nhw: One or several, (..., h, w).
        grid: Rows and columns wanted.
    """
    values = np.asarray(map_Nhw, dtype=np.float64)
    rows, columns = (
        covered(np.arange(old), np.arange(1, old + 1), old, new)
        for old, new in zip(values.shape[-2:], grid, strict=True)
    )
    found: Floats = rows.T @ values @ columns
    return found


def covered(low_I: ArrayLike, high_I: ArrayLike, length: float, cells: int) -> Floats:
    """The share of each cell along a side that lies between two places.

    Args:
        low_I: Where intervals begin.
        high_I: Where they end.
        length: Of the side, in the same unit.
        cells: Of equal length, how many.

    Returns:
        Shares (I, cells), 0..1.
    """
    low_I1, high_I1 = (np.asarray(end, dtype=np.float64)[..., None] * cells / length for end in (low_I, high_I))
    first = np.arange(cells)
    found: Floats = (np.minimum(high_I1, first + 1) - np.maximum(low_I1, first)).clip(min=0)
    return found
