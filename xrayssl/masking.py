"""Where to hide: a choice of maps, and one sampler that draws exactly as many patches as asked.

A map holds the logarithm of each patch's relative weight of staying visible (see `xrayssl.maps`). Maps combine by
addition, and the sampler draws the visible patches without replacement in proportion to the weights (Gumbel top-k:
Kool et al. 2019, arXiv:1903.06059, section 3). Weights are of the visible side because it is the small one: where few
patches stay, their probabilities follow the weights closely, so that a floor means what it says.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from xrayssl import maps


@dataclass(frozen=True, kw_only=True)
class Map:
    """One preference for what is hidden.

    Args:
        kind: "uniform" (every patch alike), "center" (the centre is hidden, or kept, more often), "image" (what is
            white in a picture is hidden, or kept, more often), "block" (contiguous blocks are hidden) or "grid" (a
            regular lattice stays visible).
        hide: For "center" and "image": True hides the centre, or white, more often; False keeps it.
        sigma: For "center": width of the Gaussian in units of the film's side.
        floor: For "center" and "image": how often the least visible patch is seen, relative to the most visible, in
            (0, 1].
        path: For "image": the picture, grey, of any size; it is laid over the film as the network sees it.

    Raises:
        ValueError: If a number is outside its range, or the path is missing or of no use.
        UserError: If the picture cannot be used.
    """

    kind: Literal["uniform", "center", "image", "block", "grid"] = "uniform"
    hide: bool = True
    sigma: float = 0.3
    floor: float = 0.5
    path: str | None = None

    def __post_init__(self) -> None:
        if (self.kind == "image") != (self.path is not None):
            raise ValueError("masking.path names the picture of the kind image, which needs one; others take none")
        self._fixed((1, 1))

    @property
    def drawn(self) -> bool:
        """Whether the map is another for each film."""
        return self.kind in ("block", "grid")

    def _fixed(self, grid: tuple[int, int]) -> Tensor:
        """Log-weights (h, w) that serve every film; those of a map that is drawn are none."""
        if self.kind == "center":
            return maps.center_map(grid, self.sigma, self.floor, self.hide)
        if self.path is not None:
            return maps.image_map(grid, self.path, self.floor, self.hide)
        return maps.uniform_map(grid)


@dataclass(frozen=True)
class Masking(Map):
    """How patches are chosen to be hidden.

    Args:
        ratio: Share of hidden patches, in (0, 1); the count is round(ratio * L) in every film.
        ratio_end: Where the ratio ends: it changes linearly with the steps of the training. null keeps it.
        plus: Further maps, whose log-weights are added.

    Raises:
        ValueError: If a number is outside its range, or two maps are drawn for each film.
    """

    ratio: float = 0.9
    ratio_end: float | None = None
    plus: tuple[Map, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("ratio", "ratio_end"):
            share = getattr(self, name)
            if share is not None and not 0 < share < 1:
                raise ValueError(f"masking.{name} is a share between 0 and 1, not {share}")
        if sum(one.drawn for one in (self, *self.plus)) > 1:
            raise ValueError("masking: of block and grid there can be one, since either decides what is hidden")

    def ratio_at(self, progress: float) -> float:
        """The share of hidden patches when a share of the training is done, 0-1."""
        return self.ratio if self.ratio_end is None else self.ratio + (self.ratio_end - self.ratio) * progress

    def settings(self) -> dict[str, Any]:
        """What must stay the same while a run goes on; a picture by its content, since a file may move."""
        every = [asdict(one) for one in (self, *self.plus)]
        for one in every:
            one["path"] = maps.fingerprint(one["path"]) if one["path"] else None
        return {**every[0], "plus": every[1:]}

    def check(self, grid: tuple[int, int]) -> None:
        """Sees whether every part of this choice goes with a grid.

        Raises:
            ValueError: If a ratio leaves no patch hidden or no patch visible.
            UserError: If a picture tells no patch from another.
        """
        for ratio in (self.ratio_at(0.0), self.ratio_at(1.0)):
            hidden_count(grid[0] * grid[1], ratio)
        self.log_weights(grid)

    def log_weights(self, grid: tuple[int, int], batch: int = 1, progress: float = 0.0) -> Tensor:
        """The sum of the maps for a grid: log-weights of staying visible, (h, w) or, drawn per film, (B, h, w)."""
        every = (self, *self.plus)
        fixed_hw = torch.stack([one._fixed(grid) for one in every]).sum(dim=0)
        patches = grid[0] * grid[1]
        hidden = hidden_count(patches, self.ratio_at(progress))
        if any(one.kind == "block" for one in every):
            return fixed_hw + maps.block_map(grid, hidden, batch, fixed_hw)
        if any(one.kind == "grid" for one in every):
            return fixed_hw + maps.grid_map(grid, patches - hidden, batch)
        return fixed_hw

    def draw(
        self, grid: tuple[int, int], batch: int, device: torch.device | None = None, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Draws the visible and hidden patches of a batch; see `draw_patches`.

        Args:
            grid: Rows and columns of patches.
            batch: Number of films.
            device: Where the numbers of the patches are wanted.
            progress: Share of the training that is done, 0-1, for `ratio_end`.
        """
        log_weight = self.log_weights(grid, batch, progress).to(device)
        return draw_patches(log_weight, self.ratio_at(progress), batch)


def draw_patches(
    log_weight: Tensor, ratio: float, batch: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draws round(ratio * L) hidden patches per film; the visible ones in proportion to the weights.

    Args:
        log_weight: Logarithm of each patch's relative weight of staying visible, (h, w) or (B, h, w).
        ratio: Share of hidden patches, in (0, 1).
        batch: Number of films.
        generator: Source of randomness; None takes the global one, which `Method` keys by (seed, rank, step).

    Returns:
        visible_BV and hidden_BM, the numbers of the patches in raster order, ascending.

    Raises:
        ValueError: If the ratio leaves no patch hidden or no patch visible.
    """
    log_weight_BL = log_weight.reshape(-1, log_weight.shape[-2] * log_weight.shape[-1])
    patches = log_weight_BL.shape[1]
    visible = patches - hidden_count(patches, ratio)
    exponential_BL = torch.empty(batch, patches, device=log_weight.device).exponential_(generator=generator)
    score_BL = log_weight_BL - exponential_BL.log()
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


def visible_share(
    masking: Masking, grid: tuple[int, int], progress: float = 0.0, draws: int = 4096, seed: int = 0
) -> Tensor:
    """How often each patch stays visible: the map that a choice of masks comes to.

    Args:
        masking: The choice.
        grid: Rows and columns of patches.
        progress: Share of the training that is done, 0-1, for a ratio that changes.
        draws: Number of films to draw masks for; the standard error of a share p is sqrt(p (1 - p) / draws).
        seed: Of these draws; the global randomness stays as it is.

    Returns:
        Shares (h, w), 0-1; their mean is the share of visible patches.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        visible_BV, _ = masking.draw(grid, draws, progress=progress)
    return (torch.bincount(visible_BV.flatten(), minlength=grid[0] * grid[1]) / draws).reshape(grid)
