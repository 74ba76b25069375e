"""From the maps of a convolutional network at every stride back to a film."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from xrayssl.errors import UserError
from xrayssl.sparse import Cells


class PyramidDecoder(nn.Module):
    """A light U-Net decoder over a network's maps, whole or of visible cells (Ronneberger et al. 2015,
    arXiv:1505.04597; SparK: Tian et al. 2023, arXiv:2301.03580, section 3.2, equations 3 and 4).

    From the coarsest map up: D = block(D of the stride above) + densify(map), where densify normalises a map, projects
    it and puts a learned token of its scale in the hidden positions. Projections are 1x1, so that they are made of
    visible positions alone, and tokens are learned at their output. The last map is read as pixels by one linear layer
    (sub-pixel convolution: Shi et al. 2016, arXiv:1609.05158), where the paper goes on upsampling.

    Args:
        widths: Channels of the maps, coarsest first.
        strides: Their strides in pixels.
        channels: C of a film.
        width: Channels at the coarsest map; every finer one has half as many.
        tokens: Whether the maps will have hidden cells.

    Raises:
        UserError: If the width cannot be halved so often.
    """

    def __init__(
        self, widths: Sequence[int], strides: Sequence[int], channels: int, width: int = 512, tokens: bool = True
    ) -> None:
        super().__init__()
        inner = [width >> level for level in range(len(widths))]
        if inner[-1] < 8:
            raise UserError(
                f"--model.decoder_width: a width of {width} is too small to be halved {len(widths) - 1} times; set "
                f"{8 << len(widths) - 1} or more."
            )
        pairs = list(zip(widths, inner, strict=True))
        self.projects = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(d), nn.Conv2d(d, e, 1)) for d, e in pairs)
        self.tokens = nn.ParameterList(nn.Parameter(torch.randn(e) * 0.02) for e in inner if tokens)
        self.blocks = nn.ModuleList(_block(d, e) for d, e in pairwise(inner))
        self.predict = nn.Sequential(
            _block(inner[-1], inner[-1]),
            nn.Conv2d(inner[-1], channels * strides[-1] ** 2, 1),
            nn.PixelShuffle(strides[-1]),
        )

    def forward(self, maps: Sequence[Tensor], cells: Cells | None = None) -> Tensor:
        """Predicts a film.

        Args:
            maps: Coarsest first; packed where `cells` are given.
            cells: Which cells are visible; None takes the maps as whole.

        Returns:
            image_BCHW.
        """
        dense = [self._densify(level, map_BCHW, cells) for level, map_BCHW in enumerate(maps)]
        film_BEHW = dense[0]
        for block, map_BEHW in zip(self.blocks, dense[1:], strict=True):
            film_BEHW = nn.functional.interpolate(block(film_BEHW), size=map_BEHW.shape[-2:]) + map_BEHW
        return self.predict(film_BEHW)

    def _densify(self, level: int, map_BDHW: Tensor, cells: Cells | None) -> Tensor:
        map_BEHW = self.projects[level](map_BDHW)
        return map_BEHW if cells is None else cells.unpack(map_BEHW, self.tokens[level])


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
