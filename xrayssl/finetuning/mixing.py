"""Training films mixed in pairs, and their labels with them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from xrayssl.errors import refuse


@dataclass(frozen=True)
class Mixing:
    """Mixup (Zhang et al. 2017, arXiv:1710.09412, equation 1) and CutMix (Yun et al. 2019, arXiv:1905.04899, equations
    1 and 2); each batch is mixed in one of the two ways, both alike often where both are on.

    Every film has a partner of its batch, and one share for the whole batch is drawn from Beta(a, a).

    Args:
        mixup: a of mixup, such as 0.2; 0 for none.
        cutmix: a of CutMix, such as 1.0; 0 for none.

    Raises:
        UserError: If a number is below 0.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        wrong = {name: value for name in ("mixup", "cutmix") if not 0 <= (value := getattr(self, name)) < math.inf}
        refuse([f"--model.mixing.{name} must be 0 or more, not {value}." for name, value in wrong.items()])

    def __bool__(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, image_BCHW: Tensor, label_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Mixes a batch; torch's generator decides.

        Args:
            image_BCHW: Normalised films.
            label_BK: 1, 0, NaN unknown.

        Returns:
            Films, and labels of 0-1: a label is unknown where that of either film is, for both can be seen.
        """
        alphas = [(way, alpha) for way, alpha in ((_blend, self.mixup), (_paste, self.cutmix)) if alpha > 0]
        way, alpha = alphas[int(torch.randint(len(alphas), ()))]
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        partner_B = torch.randperm(len(image_BCHW)).to(image_BCHW.device)
        image_BCHW, share = way(image_BCHW, image_BCHW[partner_B], share)
        return image_BCHW, share * label_BK + (1 - share) * label_BK[partner_B]


def _blend(image_BCHW: Tensor, other_BCHW: Tensor, share: float) -> tuple[Tensor, float]:
    """Both films at once, and the share of the first."""
    return torch.lerp(other_BCHW, image_BCHW, share), share


def _paste(image_BCHW: Tensor, other_BCHW: Tensor, share: float) -> tuple[Tensor, float]:
    """A rectangle of the second film in the first, at a random place, and the share of the first that is left."""
    sides = image_BCHW.shape[-2:]
    spans = []
    for side in sides:
        half, middle = side * math.sqrt(1 - share) / 2, float(torch.rand(())) * side
        spans.append((round(max(0.0, middle - half)), round(min(side, middle + half))))
    (top, bottom), (left, right) = spans
    mixed_BCHW = image_BCHW.clone()
    mixed_BCHW[..., top:bottom, left:right] = other_BCHW[..., top:bottom, left:right]
    return mixed_BCHW, 1 - (bottom - top) * (right - left) / (sides[0] * sides[1])
