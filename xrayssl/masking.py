"""Where to hide: maps of log-weights, and one sampler that draws exactly as many patches as asked.

A map `(h, w)` holds the logarithm of each patch's relative weight of staying visible. Maps combine by addition, and
the sampler draws the visible patches without replacement in proportion to the weights (Gumbel top-k: Kool et al. 2019,
arXiv:1903.06059, section 3). Weights are of the visible side because it is the small one: where few patches stay, their
probabilities follow the weights closely, so that a floor means what it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


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
    if sigma <= 0 or not 0 < floor <= 1:
        raise ValueError(f"a centre map needs sigma > 0 and 0 < floor <= 1, not {sigma} and {floor}")
    rows, columns = ((torch.arange(n) + 0.5) / n - 0.5 for n in grid)
    distance_hw = rows[:, None] ** 2 + columns[None, :] ** 2
    bell_hw = torch.exp(-distance_hw / (2 * sigma**2))
    return (1 - (1 - floor) * (bell_hw if hide else 1 - bell_hw)).log()


@dataclass(frozen=True)
class Masking:
    """How patches are chosen to be hidden.

    Args:
        ratio: Share of hidden patches, in (0, 1); the count is round(ratio * L) in every film.
        kind: "uniform" (every patch alike) or "center" (the centre is hidden, or kept, more often).
        hide: For "center": True hides the centre more often, False keeps it.
        sigma: For "center": width of the Gaussian in units of the film's side.
        floor: For "center": how often the least visible patch is seen, relative to the most visible, in (0, 1].

    Raises:
        ValueError: If a number is outside its range.
    """

    ratio: float = 0.9
    kind: Literal["uniform", "center"] = "uniform"
    hide: bool = True
    sigma: float = 0.3
    floor: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise ValueError(f"masking.ratio is a share between 0 and 1, not {self.ratio}")
        self.log_weights((1, 1))

    def log_weights(self, grid: tuple[int, int]) -> Tensor:
        """The map of this choice for a grid: log-weights (h, w)."""
        return uniform_map(grid) if self.kind == "uniform" else center_map(grid, self.sigma, self.floor, self.hide)

    def draw(self, grid: tuple[int, int], batch: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Draws the visible and hidden patches of a batch; see `draw_patches`."""
        return draw_patches(self.log_weights(grid).to(device), self.ratio, batch)


def draw_patches(
    log_weight_hw: Tensor, ratio: float, batch: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draws round(ratio * L) hidden patches per film; the visible ones in proportion to the weights.

    Args:
        log_weight_hw: Logarithm of each patch's relative weight of staying visible.
        ratio: Share of hidden patches, in (0, 1).
        batch: Number of films.
        generator: Source of randomness; None takes the global one, which `Method` keys by (seed, rank, step).

    Returns:
        visible_BV and hidden_BM, the numbers of the patches in raster order, ascending.

    Raises:
        ValueError: If the ratio leaves no patch hidden or no patch visible.
    """
    patches = log_weight_hw.numel()
    visible = patches - hidden_count(patches, ratio)
    exponential_BL = torch.empty(batch, patches, device=log_weight_hw.device).exponential_(generator=generator)
    score_BL = log_weight_hw.flatten() - exponential_BL.log()
    order_BL = score_BL.argsort(dim=1, descending=True)
    return order_BL[:, :visible].sort(dim=1).values, order_BL[:, visible:].sort(dim=1).values


def hidden_count(patches: int, ratio: float) -> int:
    """round(ratio * patches).

    Raises:
        ValueError: If that leaves no patch hidden or no patch visible.
    """
    hidden = round(ratio * patches)
    if not 0 < hidden < patches:
        raise ValueError(f"a ratio of {ratio} hides {hidden} of {patches} patches; some must be hidden, some not")
    return hidden


def mask_of(hidden_BM: Tensor, patches: int) -> Tensor:
    """mask_BL, True where a patch is hidden."""
    mask_BL = torch.zeros(hidden_BM.shape[0], patches, dtype=torch.bool, device=hidden_BM.device)
    return mask_BL.scatter_(1, hidden_BM, True)
