"""Tiles of films: one from each cell of an n x n grid, at a random place in its cell."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xrayssl.backbone import Backbone
from xrayssl.errors import UserError

FILLED = 7 / 8
"""Side of a tile as a share of its cell's, at most, where none is given: 64 of 75 px in Noroozi & Favaro 2016."""
LEAST = 6
"""Pixels of a tile's side below which it shows nothing."""
FAINTEST = 1 / 16
"""Least standard deviation by which a tile is divided, in units of normalised films: four of 256 grey values. A white
tile's noise is not blown up to a picture."""


class Tiles:
    """Cuts films into tiles, T = cells x cells of them, in raster order.

    The film is divided into cells of floor(side / cells) pixels, what is left over lying half before and half behind
    them. A tile begins `first + r` pixels into its cell, with r drawn evenly from the integers 0 ... jitter and first =
    floor((cell - tile - jitter) / 2), down and across and for every tile on its own. So neighbours are between cell -
    tile - jitter and cell - tile + jitter pixels apart, and edges that go on from one into the other tell little
    (Doersch et al. 2015, arXiv:1505.05192, section 3.1; Noroozi & Favaro 2016, arXiv:1603.09246, section 3).

    Args:
        backbone: That is to see the tiles: a ViT's patches divide them.
        cells: Per side, 2 or more.
        tile: Side in pixels; null takes the largest that fills 7/8 of a cell's side at most.
        jitter: Pixels by which places differ at most; null takes all that the cell leaves.

    Raises:
        UserError: If they do not fit in the films, or the network cannot see them.
    """

    def __init__(self, backbone: Backbone, cells: int = 3, tile: int | None = None, jitter: int | None = None) -> None:
        if cells < 2:
            raise UserError(f"model.cells must be 2 or more, not {cells}.")
        self.cells, self.film = cells, backbone.img_size
        self.cell = self.film[0] // cells, self.film[1] // cells
        self.tile = _tile(backbone, cells, self.cell, tile)
        self.jitter = self._play(jitter)
        backbone.check_size("Tiles", (self.tile, self.tile))

    def __len__(self) -> int:
        return self.cells**2

    def __call__(self, image_BCHW: Tensor) -> Tensor:
        """Tiles at random places, each of zero mean and unit variance: tiles_BTCHW, with H and W of a tile."""
        return standardized(self.cut(image_BCHW))

    def cut(self, image_BCHW: Tensor) -> Tensor:
        """Tiles at random places, as they are: tiles_BTCHW."""
        batch, device = len(image_BCHW), image_BCHW.device
        top_BTH = self._lines(0, batch, device)
        left_BTW = self._lines(1, batch, device)
        film_B111 = torch.arange(batch, device=device)[:, None, None, None]
        # a film's channels come last where other axes are indexed around them
        return image_BCHW[film_B111, :, top_BTH[..., None], left_BTW[:, :, None]].permute(0, 1, 4, 2, 3)

    def settings(self) -> dict[str, int]:
        """What must stay the same while a run goes on."""
        return {"cells": self.cells, "tile": self.tile, "jitter": self.jitter}

    def _lines(self, axis: int, batch: int, device: torch.device) -> Tensor:
        """Rows (axis 0) or columns (1) of each tile of each film, (B, T, tile)."""
        number_T = torch.arange(len(self), device=device)
        cell_T = number_T // self.cells if axis == 0 else number_T % self.cells
        side = self.cell[axis]
        first = (self.film[axis] - self.cells * side) // 2 + (side - self.tile - self.jitter) // 2
        drawn_BT = torch.randint(self.jitter + 1, (batch, len(self)), device=device)
        return (first + cell_T * side + drawn_BT)[..., None] + torch.arange(self.tile, device=device)

    def _play(self, jitter: int | None) -> int:
        left = min(self.cell) - self.tile
        if jitter is not None and not 0 <= jitter <= left:
            raise UserError(
                f"model.jitter must be 0-{left} pixels, which is what tiles of {self.tile} px leave of their cells, "
                f"not {jitter}."
            )
        return left if jitter is None else jitter


def standardized(tiles_BTCHW: Tensor) -> Tensor:
    """Each tile by its own mean and standard deviation, so that neither tells where it comes from."""
    spread, middle = torch.std_mean(tiles_BTCHW, dim=(2, 3, 4), keepdim=True, correction=0)
    return (tiles_BTCHW - middle) / spread.clamp(min=FAINTEST)


def encode(backbone: Backbone, tiles_BTCHW: Tensor) -> Tensor:
    """Each tile by itself through the same network, its grid in the mean: (B, T, D)."""
    grid_BDhw = backbone(tiles_BTCHW.flatten(0, 1))
    return grid_BDhw.mean(dim=(2, 3)).unflatten(0, tiles_BTCHW.shape[:2])


def _tile(backbone: Backbone, cells: int, cell: tuple[int, int], tile: int | None) -> int:
    """The side of a tile that fits its cell, and that a ViT's patches divide."""
    rows, columns = backbone.patch_size if backbone.is_vit else (1, 1)
    step = math.lcm(rows, columns)
    least, largest = max(step, LEAST), int(min(cell) * FILLED) // step * step
    side = largest if tile is None else tile
    films = f"Films of {backbone.img_size[0]} x {backbone.img_size[1]} px in {cells} x {cells} cells"
    if tile is None and largest < least:
        raise UserError(f"{films} have no room for tiles of {least} px; enlarge --data.img_size.")
    if not least <= side <= min(cell):
        raise UserError(f"{films} have room for tiles of {least}-{min(cell)} px, not {side}; set --model.tile.")
    if side % step:
        raise UserError(f"Tiles of {side} px cannot be cut into the {step}-px patches of {backbone.architecture}; set "
                        f"--model.tile to a multiple of {step}, {min(cell)} at most.")  # fmt: skip
    return side
