"""Whether a network needs what a map points to: films from which cells are taken, or to which they are given back.

The curves of Petsiuk et al. 2018 (RISE, arXiv:1806.07421) and ROAD (Rong et al. 2022, arXiv:2202.00449). They depend on
what stands in for a removed cell and on how easily this network is confused; only the difference to another order of
the same films says something: `faithfulness` has those of a random one and of a centred Gaussian, and `nulls` the maps
for `road`. Where we depart from the papers: whole cells of the grid are taken, not pixels of an enlarged map, and cells
of equal value in an order drawn, not from the top left, since after a ReLU many are 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter
from torch import Tensor

from xrayssl.explain.nulls import centred_gaussian, random_maps
from xrayssl.explain.statistics import flat, normalised
from xrayssl.statistics.resampling import Floats, Ints

STEPS = 16
BLUR = 0.1
"""Standard deviation as a share of the shorter side. The authors' code has 0.02, which blurs no opacity away."""
ROAD_SHARES = tuple(tenth / 10 for tenth in range(1, 10))
Score = Callable[[Tensor], Tensor]
"""From films to the probability of the explained class, (B,)."""
Curve = tuple[Floats, Floats]
"""Shares of the cells (S,), and the probability of each film at them (B, S); NaN where the map is empty."""


def faithfulness(
    score: Score, image_BCHW: Tensor, map_Bhw: ArrayLike, steps: int = STEPS, seed: int = 0
) -> dict[str, dict[str, Floats]]:
    """Areas under insertion and deletion in the map's order, a random one, and a centred Gaussian's.

    Args:
        score: See `Score`.
        image_BCHW: Floats, as the score takes them.
        map_Bhw: Raw.
        steps: See `deletion`.
        seed: Of the random order; another one for each batch.

    Returns:
        "map", "random" and "centred_gaussian", each to "insertion" (more is better) and "deletion" (less is better),
        (B,); in the first, NaN where the map is empty.
    """
    shape = np.shape(map_Bhw)
    count, grid = shape[0], (shape[1], shape[2])
    gaussian_Bhw = np.broadcast_to(centred_gaussian(grid), shape)
    orders = {"map": map_Bhw, "random": random_maps(count, grid, seed), "centred_gaussian": gaussian_Bhw}
    ways = {"insertion": insertion, "deletion": deletion}
    return {
        name: {way: area(*curve(score, image_BCHW, one, steps, seed)) for way, curve in ways.items()}
        for name, one in orders.items()
    }


def deletion(score: Score, image_BCHW: Tensor, map_Bhw: ArrayLike, steps: int = STEPS, seed: int = 0) -> Curve:
    """The probability as cells give way to the film's mean grey, the greatest of the map first.

    The authors' code takes the mean of the training images; a film's own is neither darker nor lighter than the film.

    Args:
        score: See `Score`.
        image_BCHW: Floats, as the score takes them.
        map_Bhw: Raw.
        steps: Into how many parts the cells are dealt, so many steps and one calls of the score; fewer for few cells.
        seed: Of the order of equal cells, the same for all films.
    """
    grey_BCHW = image_BCHW.mean(dim=(2, 3), keepdim=True).expand_as(image_BCHW)
    return _curve(score, image_BCHW, grey_BCHW, map_Bhw, steps, seed)


def insertion(
    score: Score, image_BCHW: Tensor, map_Bhw: ArrayLike, steps: int = STEPS, seed: int = 0, blur: float = BLUR
) -> Curve:
    """The probability as cells return to a blurred film, the greatest of the map first.

    Args:
        score: See `Score`.
        image_BCHW: Floats, as the score takes them.
        map_Bhw: Raw.
        steps: See `deletion`.
        seed: Likewise.
        blur: Standard deviation of the Gaussian, as a share of the shorter side.
    """
    sigma = blur * min(image_BCHW.shape[-2:])
    blurred = gaussian_filter(image_BCHW.detach().float().cpu().numpy(), sigma, mode="nearest", axes=(2, 3))
    return _curve(score, torch.from_numpy(blurred).to(image_BCHW), image_BCHW, map_Bhw, steps, seed)


def area(share_S: Floats, value_BS: Floats) -> Floats:
    """Area under curves over 0..1, by trapezoids: (B,)."""
    return np.asarray(np.trapezoid(value_BS, share_S, axis=1))


def road(
    score: Score,
    image_BCHW: Tensor,
    map_Bhw: ArrayLike,
    shares: Sequence[float] = ROAD_SHARES,
    seed: int = 0,
    least_first: bool = False,
    noise: float = 0.01,
) -> Curve:
    """The probability of films of which removed pixels are a weighted mean of their neighbours, and noise: what is
    removed leaves no outline that tells of itself (Rong et al. 2022; the imputation is pytorch-grad-cam's).

    Every film and share is a sparse system of equations in the removed pixels, 1 to 3 s at 224 pixels on a CPU: it is
    for some films, not for all.

    Args:
        score: See `Score`.
        image_BCHW: Floats, as the score takes them.
        map_Bhw: Raw.
        shares: Of the cells that are removed, each above 0 and below 1.
        seed: Of the noise, and of the order of equal cells.
        least_first: Remove the least of the map first: a faithful map's mean over shares is then greater than without.
        noise: Standard deviation, in units of the image.

    Raises:
        ValueError: If a share leaves nothing, or everything.
    """
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer  # here, since it brings matplotlib

    if not all(0 < share < 1 for share in shares):
        raise ValueError(f"Shares of removed cells are above 0 and below 1, not {list(shares)}.")
    place_Bhw, impute = _placed(image_BCHW, map_Bhw, seed, least_first), NoisyLinearImputer(noise)
    cells = place_Bhw[0].numel()
    counts = [min(max(1, round(share * cells)), cells - 1) for share in shares]

    def removed(count: int) -> Tensor:
        kept_BHW = _pixels(place_Bhw >= count, image_BCHW).float().cpu()
        pairs = zip(image_BCHW.detach().float().cpu(), kept_BHW, strict=True)
        return torch.stack([impute(film_CHW, kept_HW) for film_CHW, kept_HW in pairs]).to(image_BCHW)

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array_wrap__", DeprecationWarning)  # numpy 2 about grad-cam 1.5
        torch.default_generator.manual_seed(seed)
        return _scored(score, (removed(count) for count in counts), counts, map_Bhw)


def order(map_Bhw: ArrayLike, seed: int = 0) -> Ints:
    """Numbers of the cells from the greatest to the least (B, L), in raster order; equal ones as drawn, in every film
    alike."""
    value_BL = flat(np.nan_to_num(normalised(map_Bhw)))
    drawn_L = np.random.default_rng(seed).permutation(value_BL.shape[1])
    return np.lexsort((np.broadcast_to(drawn_L, value_BL.shape), -value_BL), axis=1)


def _curve(score: Score, start: Tensor, end: Tensor, map_Bhw: ArrayLike, steps: int, seed: int) -> Curve:
    """Scores on the way from one film to another."""
    place_Bhw = _placed(start, map_Bhw, seed)
    cells = place_Bhw[0].numel()
    counts = np.rint(np.linspace(0, cells, min(steps, cells) + 1)).astype(int).tolist()
    films = (torch.where(_pixels(place_Bhw < count, start)[:, None], end, start) for count in counts)
    return _scored(score, films, counts, map_Bhw)


def _placed(image_BCHW: Tensor, map_Bhw: ArrayLike, seed: int, least_first: bool = False) -> Tensor:
    """The place of each cell in the order, from 0: (B, h, w).

    Raises:
        ValueError: If films and maps do not belong together, or films are no floats.
    """
    shape = np.shape(map_Bhw)
    if not image_BCHW.is_floating_point() or len(image_BCHW) != shape[0]:
        raise ValueError(f"Give films as floats and a map of each, not {tuple(image_BCHW.shape)} in "
                         f"{image_BCHW.dtype} and maps {shape}.")  # fmt: skip
    place_BL = np.argsort(order(map_Bhw, seed), axis=1)
    place_BL = place_BL.shape[1] - 1 - place_BL if least_first else place_BL
    return torch.from_numpy(place_BL.reshape(shape)).to(image_BCHW.device)


def _pixels(cell_Bhw: Tensor, image_BCHW: Tensor) -> Tensor:
    """Which pixels belong to cells that are meant: bool (B, H, W)."""
    enlarged_B1HW = torch.nn.functional.interpolate(cell_Bhw[:, None].float(), image_BCHW.shape[-2:])
    return enlarged_B1HW[:, 0] > 0


@torch.no_grad()
def _scored(score: Score, films: Any, counts: Sequence[int], map_Bhw: ArrayLike) -> Curve:
    density_Bhw = normalised(map_Bhw)
    value_BS = np.stack([score(image_BCHW).double().cpu().numpy() for image_BCHW in films], axis=1)
    value_BS[np.isnan(density_Bhw[:, 0, 0])] = np.nan
    return np.asarray(counts) / density_Bhw[0].size, value_BS
