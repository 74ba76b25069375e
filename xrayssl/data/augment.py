"""How films are prepared and augmented, as a config says it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from xrayssl.errors import UserError

Crop = Literal["random", "fixed", "none"]


@dataclass(frozen=True)
class Small:
    """Small crops beside the views of a film (multi-crop: Caron et al. 2020, arXiv:2006.09882, section 3.2).

    Args:
        count: How many per film.
        size: Height and width in pixels; an int means a square.
        scale: Smallest and largest area of such a crop as a share of the film, 0-1.
    """

    count: int = 6
    size: int | tuple[int, int] = 96
    scale: tuple[float, float] = (0.1, 0.4)

    def __post_init__(self) -> None:
        problems = _wrong_scale("small.scale", self.scale)
        if self.count < 1:
            problems.append(f"augment.small.count must be 1 or more, not {self.count}; for none, set small to null.")
        if min(sides(self.size)) < 1:
            problems.append(f"augment.small.size must be one or two sides of 1 or more pixels, not {self.size}.")
        if problems:
            raise UserError(*problems)


@dataclass(frozen=True)
class Augment:
    """What happens to a film before and while it is cut to the network's size.

    `trim`, `clahe` and `circle` prepare every film, also for validation and test; the rest is for training.

    Args:
        crop: "random" draws size and place, "fixed" the place alone, of a crop as of 224 pixels from a film whose short
            side has 256, "none" is the central cut of validation (the augmentations of He et al. 2021,
            arXiv:2111.06377, table 1e).
        scale: For "random": smallest and largest area of the crop as a share of the film, 0-1.
        ratio: For "random": smallest and largest aspect ratio of the crop, width / height.
        center_bias: How strongly crops gather about the middle of the film: positions are Beta(1 + b, 1 + b), so
            that 0 is uniform and 4 keeps two thirds of the crops within a sixth of the free play of the middle.
        flip: Probability of a horizontal flip; 0 where the side is a label, which the data module sees to if the name
            of a class says so.
        randaug: Magnitude of RandAugment (Cubuk et al. 2020, arXiv:1909.13719), 0-10; null for none. It is the most
            that an operation does: how far it goes is drawn evenly up to there, to either side.
        brightness: Largest shift of the grey values, as a share of the grey scale, 0-1.
        contrast: Largest change of their slope about the middle grey, as a share, 0-1.
        gamma: Their exponent is between 1 / (1 + gamma) and 1 + gamma, alike in its logarithm, 0-1.
        trim: Cut off borders that hold no film.
        clahe: Even out contrast locally (CLAHE: Zuiderveld 1994).
        circle: Blacken what lies outside the largest circle inside the view, so that its corners tell nothing.
        views: Random views per film, for methods that compare them.
        small: Small crops beside the views; null for none.
    """

    crop: Crop = "random"
    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    center_bias: float = 0.0
    flip: float = 0.5
    randaug: int | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    trim: bool = False
    clahe: bool = False
    circle: bool = False
    views: int = 1
    small: Small | None = None

    def __post_init__(self) -> None:
        problems = _wrong_scale("scale", self.scale)
        if not 0 < self.ratio[0] <= self.ratio[1]:
            problems.append(f"augment.ratio must be two ratios with 0 < smallest <= largest, not {self.ratio}.")
        if not 0 <= self.flip <= 1:
            problems.append(f"augment.flip must be a probability of 0-1, not {self.flip}.")
        if self.crop not in get_args(Crop):
            problems.append(f"augment.crop must be one of {', '.join(get_args(Crop))}, not {self.crop!r}.")
        for name in ("brightness", "contrast", "gamma"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"augment.{name} must be a strength of 0-1, not {getattr(self, name)}.")
        if not 0 <= self.center_bias < math.inf:
            problems.append(f"augment.center_bias must be a number of 0 or more, not {self.center_bias}.")
        if self.randaug is not None and not 0 <= self.randaug <= 10:
            problems.append(f"augment.randaug must be a magnitude of 0-10 or null, not {self.randaug}.")
        if self.views < 1:
            problems.append(f"augment.views must be 1 or more, not {self.views}.")
        if problems:
            raise UserError(*problems)


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width; an int means a square."""
    return (size, size) if isinstance(size, int) else size


def _wrong_scale(name: str, scale: tuple[float, float]) -> list[str]:
    if 0 < scale[0] <= scale[1] <= 1:
        return []
    return [f"augment.{name} must be two shares with 0 < smallest <= largest <= 1, not {scale}."]
