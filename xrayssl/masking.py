"""Where to hide: a choice of maps, and one sampler that draws exactly as many patches as asked.

A map holds the logarithm of each patch's relative weight of staying visible (see `xrayssl.maps`). Maps combine by
addition, and the sampler draws the visible patches without replacement in proportion to the weights (Gumbel top-k:
Kool et al. 2019, arXiv:1903.06059, section 3). Weights are of the visible side because it is the small one: where few
patches stay, their probabilities follow the weights closely, so that a floor means what it says.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from xrayssl import maps
from xrayssl.errors import noting, refuse

Kind = Literal["uniform", "center", "image", "block", "grid"]
CHUNK = 1 << 19
"""Patches of as many films as `visible_share` draws at once: some 30 MiB."""


@dataclass(frozen=True, kw_only=True)
class Map:
    """One preference for what is hidden.

    Args:
        kind: "uniform" (every patch alike), "center" (the centre is hidden, or kept, more often), "image" (what is
            white in a picture is hidden, or kept, more often), "block" (contiguous blocks are hidden) or "grid" (a
            regular lattice stays visible).
        hide: For "center" and "image": True hides the centre, or white, more often; False keeps it.
        sigma: For "center": width of the Gaussian in units of the film's side.
        floor: For "center" and "image": weight of staying visible of the least visible patch relative to the most
            visible, in (0, 1]. Shares follow the weights where few patches stay.
        path: For "image": the picture, grey, of any size; it is laid over the film as the network sees it.

    Raises:
        UserError: If numbers are outside their range, or the picture is missing, of no use, or cannot be used: with
            every mistake at once.
    """

    KEY: ClassVar[str] = "--model.masking.plus"  # a map that is no `Masking` is one of its further maps

    kind: Kind = "uniform"
    hide: bool = True
    sigma: float = 0.3
    floor: float = 0.5
    path: str | None = None

    def __post_init__(self) -> None:
        refuse(self._mistakes())

    def _mistakes(self) -> list[str]:
        """A sentence for each value that cannot be."""
        found = []
        if self.kind not in get_args(Kind):
            found.append(f"{self.KEY}.kind must be one of {', '.join(get_args(Kind))}, not {self.kind!r}.")
        if not 0 < self.sigma < math.inf:
            found.append(f"{self.KEY}.sigma must be a number above 0, not {self.sigma}.")
        if not 0 < self.floor <= 1:
            found.append(f"{self.KEY}.floor must be a share above 0 and up to 1, not {self.floor}.")
        if self.kind == "image" and self.path is None:
            found.append(f"{self.KEY}.kind image needs a picture; set {self.KEY}.path.")
        if self.kind != "image" and self.path is not None:
            found.append(f"{self.KEY}.path goes with the kind image, not {self.kind}; leave it out or set the kind.")
        elif self.path is not None:
            with noting(found):
                maps.prior(self.path)
        return found

    @property
    def drawn(self) -> bool:
        """Whether the map is another for each film."""
        return self.kind in ("block", "grid")

    def _fixed(self, grid: tuple[int, int]) -> Tensor:
        """Log-weights (h, w) that serve every film; those of a map that is drawn are none."""
        return _fixed_map(self.kind, grid, self.sigma, self.floor, self.hide, self.path)


@lru_cache(maxsize=64)
def _fixed_map(kind: Kind, grid: tuple[int, int], sigma: float, floor: float, hide: bool, path: str | None) -> Tensor:
    """See `Map._fixed`; made once, for every step asks for it, and not to be changed in place."""
    if kind == "center":
        return maps.center_map(grid, sigma, floor, hide)
    if path is not None:
        return maps.image_map(grid, path, floor, hide)
    return maps.uniform_map(grid)


@dataclass(frozen=True)
class Masking(Map):
    """How patches are chosen to be hidden.

    Args:
        ratio: Share of hidden patches, in (0, 1); the count is round(ratio * L) in every film.
        ratio_end: Where the ratio ends: it changes linearly with the steps of the training. null keeps it.
        plus: Further maps, whose log-weights are added.

    Raises:
        UserError: If numbers are outside their range, or two maps are drawn for each film: with every mistake at once.
    """

    KEY: ClassVar[str] = "--model.masking"

    ratio: float = 0.9
    ratio_end: float | None = None
    plus: tuple[Map, ...] = ()

    def _mistakes(self) -> list[str]:
        found = super()._mistakes()
        for name, share in self._ratios().items():
            if not 0 < share < 1:
                found.append(f"{self.KEY}.{name} must be a share above 0 and below 1, not {share}.")
        if sum(one.drawn for one in (self, *self.plus)) > 1:
            found.append(f"{self.KEY}: block and grid each decide what is hidden; take one of them, once.")
        return found

    def _ratios(self) -> dict[str, float]:
        """The ratios that are set, by their keys."""
        ends = {"ratio": self.ratio, "ratio_end": self.ratio_end}
        return {name: share for name, share in ends.items() if share is not None}

    def ratio_at(self, progress: float) -> float:
        """The share of hidden patches when a share of the training is done, 0-1."""
        return self.ratio if self.ratio_end is None else self.ratio + (self.ratio_end - self.ratio) * progress

    def settings(self) -> dict[str, Any]:
        """What must stay the same while a run goes on; a picture by its content, since a file may move."""
        every = [asdict(one) for one in (self, *self.plus)]
        for one in every:
            one["path"] = maps.prior(one["path"])[1] if one["path"] else None
        return {**every[0], "plus": every[1:]}

    def check(self, grid: tuple[int, int]) -> None:
        """Sees whether every part of this choice goes with a grid.

        Raises:
            UserError: If a ratio leaves no patch hidden or no patch visible, or a picture tells no patch from another:
                with every mistake at once.
        """
        found: list[str] = []
        for name, ratio in self._ratios().items():
            try:
                hidden_count(grid[0] * grid[1], ratio)
            except ValueError as error:
                found.append(f"{self.KEY}.{name}: {error}")
        for one in (self, *self.plus):
            with noting(found):
                one._fixed(grid)
        refuse(found)

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
    kept_BV = (log_weight_BL - exponential_BL.log_()).topk(visible, sorted=False).indices
    is_visible_BL = mask_of(kept_BV, patches)
    order_BL = is_visible_BL.byte().sort(dim=1, descending=True, stable=True).indices
    return order_BL[:, :visible], order_BL[:, visible:]


def hidden_count(patches: int, ratio: float) -> int:
    """round(ratio * patches).

    Raises:
        ValueError: If that leaves no patch hidden or no patch visible.
    """
    hidden = round(ratio * patches)
    if not 0 < hidden < patches:
        must = f"some must be hidden, some not: {_fitting(patches)}."
        raise ValueError(f"a ratio of {ratio} hides {hidden} of {patches} patches; {must}")
    return hidden


def _fitting(patches: int) -> str:
    """The ratios that hide some patches and not all, or what to do where none does."""
    if patches < 2:
        return "take larger films (--data.img_size)"
    digits = len(str(patches)) + 1  # so many that the rounded ends fit, too
    least = math.ceil(10**digits / patches) / 10**digits
    return f"take {least:g} to {1 - least:.{digits}f}"


def mask_of(hidden_BM: Tensor, patches: int) -> Tensor:
    """mask_BL, True where a patch is hidden."""
    mask_BL = torch.zeros(hidden_BM.shape[0], patches, dtype=torch.bool, device=hidden_BM.device)
    return mask_BL.scatter_(1, hidden_BM, True)


def visible_share(
    masking: Masking, grid: tuple[int, int], progress: float = 0.0, draws: int | None = None, seed: int = 0
) -> Tensor:
    """How often each patch stays visible: the map that a choice of masks comes to.

    Args:
        masking: The choice.
        grid: Rows and columns of patches.
        progress: Share of the training that is done, 0-1, for a ratio that changes.
        draws: Number of films to draw masks for; None is 4096, or 1024 for blocks, which take longer. The standard
            error of a share p is sqrt(p (1 - p) / draws).
        seed: Of these draws; the global randomness stays as it is.

    Returns:
        Shares (h, w), 0-1; their mean is the share of visible patches.
    """
    draws = draws or (1024 if any(one.kind == "block" for one in (masking, *masking.plus)) else 4096)
    patches = grid[0] * grid[1]
    seen_L = torch.zeros(patches, dtype=torch.long)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, draws, films := max(1, CHUNK // patches)):
            visible_BV, _ = masking.draw(grid, min(films, draws - start), progress=progress)
            seen_L += visible_BV.flatten().bincount(minlength=patches)
    return (seen_L / draws).reshape(grid)
