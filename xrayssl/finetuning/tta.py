"""Test-time augmentation: what else of a film is looked at when it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from xrayssl.errors import refuse
from xrayssl.laterality import sided


@dataclass(frozen=True)
class TTA:
    """Further views of a film whose probabilities are averaged with its own (Krizhevsky et al. 2012, section 4.1).

    Args:
        flip: Look at every view from the other side, too; not where a label tells a side.
        crops: Central crops: the share of the film's sides that each keeps, such as 0.9, above 0 and below 1.

    Raises:
        UserError: If a share is outside its range.
    """

    flip: bool = False
    crops: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wrong = [share for share in self.crops if not 0 < share < 1]
        refuse([f"--model.tta.crops are shares above 0 and below 1, not {share}." for share in wrong])

    def check(self, classes: Sequence[str]) -> None:
        """Sees whether the labels allow these views.

        Raises:
            UserError: If a label tells a side, which a flipped film belies.
        """
        names = sided(classes) if self.flip else []
        if names:
            refuse([f"The label {names[0]!r} tells a side, which a flipped film belies: set --model.tta.flip false."])

    def views(self, image_BCHW: Tensor) -> list[Tensor]:
        """The views beside the film itself, each (B, C, H, W)."""
        whole = [image_BCHW, *(_central(image_BCHW, share) for share in self.crops)]
        flipped = [view_BCHW.flip(3) for view_BCHW in whole] if self.flip else []
        return [*whole[1:], *flipped]


def _central(image_BCHW: Tensor, share: float) -> Tensor:
    """The middle of films, in their size."""
    height, width = image_BCHW.shape[-2:]
    rows, columns = max(1, round(share * height)), max(1, round(share * width))
    top, left = (height - rows) // 2, (width - columns) // 2
    cut_BChw = image_BCHW[..., top : top + rows, left : left + columns]
    return interpolate(cut_BChw, size=(height, width), mode="bilinear", align_corners=False)
