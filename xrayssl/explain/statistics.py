"""Numbers about where raw maps have their energy, each with the value that a uniform map has.

The energy of a cell is its value. Maps are as `cam.maps` gives them: 0 or more, at the network's own grid, neither
scaled nor resized. A number depends on how a map is distributed and not on its scale; an empty map, zero everywhere,
is distributed in no way: its numbers are NaN, and `empty_rate` counts it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from xrayssl.explain.regions import covered
from xrayssl.statistics.resampling import Floats, ratio

BANDS = (0.0625, 0.125, 0.1875, 0.25)
"""Widths of the border in shares of the side; they are 23, 44, 61 and 75 % of the area."""


def measured(map_Nhw: ArrayLike) -> dict[str, Floats]:
    """Every number that is one per map, by its name; see the functions.

    Returns:
        Arrays (N,) under `edge_energy_<band>` of `BANDS`, `center_offset`, `center_dy`, `center_dx`, `entropy`, `gini`.
    """
    (dy_N, dx_N), edges = center_shift(map_Nhw).T, {f"edge_energy_{band}": edge_energy(map_Nhw, band) for band in BANDS}
    centre = {"center_offset": np.hypot(dy_N, dx_N), "center_dy": dy_N, "center_dx": dx_N}
    return edges | centre | {"entropy": entropy(map_Nhw), "gini": gini(map_Nhw)}


def normalised(map_Nhw: ArrayLike) -> Floats:
    """Maps whose cells sum to 1; an empty one is NaN everywhere.

    Raises:
        ValueError: If these are no maps (N, h, w), or a value is negative, infinite or no number.
    """
    values = np.asarray(map_Nhw, dtype=np.float64)
    if values.ndim != 3 or 0 in values.shape[1:]:
        raise ValueError(f"Maps are given as (N, h, w), with at least one cell, not {values.shape}.")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(
            "A map is 0 or more in every cell; give raw maps, after the ReLU, of a network that is finite."
        )
    scaled_Nhw = ratio(values, np.broadcast_to(values.max(axis=(1, 2), keepdims=True), values.shape))
    found: Floats = scaled_Nhw / scaled_Nhw.sum(axis=(1, 2), keepdims=True)  # a sum of the largest floats is infinite
    return found


def flat(map_Nhw: Floats) -> Floats:
    """The cells of each map in raster order, (N, L)."""
    return map_Nhw.reshape(len(map_Nhw), map_Nhw.shape[1] * map_Nhw.shape[2])


def empty_rate(map_Nhw: ArrayLike) -> float:
    """The share of maps that are zero everywhere: classes that no cell speaks for; NaN of no map."""
    empty_N = np.isnan(normalised(map_Nhw)[:, 0, 0])
    return float(empty_N.mean()) if len(empty_N) else float("nan")


def edge_energy(map_Nhw: ArrayLike, band: float) -> Floats:
    """The share of the energy that lies in the border, divided by the border's share of the area: 1 for a uniform map.

    The division is no ornament: a band of 12.5 % of the side is 43.75 % of the area. Cells that lie in the band in
    part count by their area inside.

    Args:
        map_Nhw: Raw.
        band: Width of the border, as a share of the side across which it lies, above 0 and at most 0.5.

    Returns:
        (N,), from 0 to 1 / (1 - (1 - 2 band)^2), which is 2.29 for 0.125.

    Raises:
        ValueError: If there is no such band.
    """
    if not 0 < band <= 0.5:
        raise ValueError(f"The border's width is a share of the side, above 0 and at most 0.5, not {band}.")
    density_Nhw = normalised(map_Nhw)
    border_hw = 1 - _middle(density_Nhw.shape[1:], 1 - 2 * band)
    found: Floats = (density_Nhw * border_hw).sum(axis=(1, 2)) / border_hw.mean()
    return found


def radial_profile(map_Nhw: ArrayLike, rings: int = 4) -> Floats:
    """Density of the energy in concentric rings, relative to the whole film's: 1 in every ring for a uniform map.

    The rings have the film's shape and equal width, so that they fill it to its corners: the outermost of K rings is
    `edge_energy` with a band of 1 / (2 K), the innermost a middle of 1 / K of each side. Cells count by areas.

    Args:
        map_Nhw: Raw.
        rings: K, 1 or more.

    Returns:
        (N, K), from the middle outwards.
    """
    density_Nhw = normalised(map_Nhw)
    nested = np.stack([_middle(density_Nhw.shape[1:], ring / rings) for ring in range(rings + 1)])
    ring_Khw = np.diff(nested, axis=0)
    found: Floats = np.einsum("nhw,khw->nk", density_Nhw, ring_Khw) / ring_Khw.mean(axis=(1, 2))
    return found


def _middle(grid: tuple[int, ...], share: float) -> Floats:
    """The share of each cell that lies in the middle of the film, as wide and as high as a share of it."""
    row_h, column_w = (covered((1 - share) / 2, (1 + share) / 2, 1.0, cells) for cells in grid)
    return np.outer(row_h, column_w)


def center_shift(map_Nhw: ArrayLike) -> Floats:
    """From the film's centre to the centre of mass, in units of half the film's diagonal; (0, 0) for a uniform map.

    Cells are taken as square, as those of a network on square pixels are, and each as lying at its own middle.

    Returns:
        Downwards and to the right, (N, 2).
    """
    density_Nhw = normalised(map_Nhw)
    _, height, width = density_Nhw.shape
    row_h, column_w = (np.arange(cells) + 0.5 - cells / 2 for cells in (height, width))
    shift = np.einsum("nhw,h->n", density_Nhw, row_h), np.einsum("nhw,w->n", density_Nhw, column_w)
    found: Floats = np.stack(shift, axis=1) / (np.hypot(height, width) / 2)
    return found


def center_offset(map_Nhw: ArrayLike) -> Floats:
    """Distance of the centre of mass from the film's centre: 0 for a uniform map, below 1 for one in a corner.

    Of noise it is more than 0: compare with maps of the same sharpness, such as those of random weights.

    Returns:
        (N,) in units of half the film's diagonal.
    """
    found: Floats = np.hypot(*center_shift(map_Nhw).T)
    return found


def entropy(map_Nhw: ArrayLike) -> Floats:
    """Shannon's entropy of the energy over the cells, divided by that of a uniform map, log(h w).

    Returns:
        (N,): 1 for a uniform map, 0 for a single cell; NaN also for grids of one cell.
    """
    density_NL = flat(normalised(map_Nhw))
    return ratio(entr(density_NL).sum(axis=1), np.full(len(density_NL), np.log(density_NL.shape[1])))


def gini(map_Nhw: ArrayLike) -> Floats:
    """Gini's coefficient of the energy over the cells (Hurley & Rickard 2009, arXiv:0811.4706).

    Returns:
        (N,): 0 for a uniform map, 1 - 1 / (h w) for a single cell.
    """
    sorted_NL = np.sort(flat(normalised(map_Nhw)), axis=1)
    cells = sorted_NL.shape[1]
    found: Floats = sorted_NL @ (2 * np.arange(1, cells + 1) - cells - 1) / cells
    return found
