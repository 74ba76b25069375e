"""A convolutional network that sees some cells of a film only: the others are not there, instead of being zero.

Masked image modelling needs hidden pixels that influence nothing (SparK: Tian et al. 2023, arXiv:2301.03580, section
3.1). The paper masks the map again after every layer; here the visible cells are cut out of the film and stay packed,
stacked one upon another, while they pass through the network. Whatever treats positions alike or as a set (1x1
convolutions, activations, sums, batch, layer and response norms, squeeze-and-excitation) then counts visible positions
alone without knowing of it, at their share of the cost. Layers that look at neighbouring positions are known by their
windows, whatever the network: they get the map, zero where hidden, and what they give is packed again. Where nothing
reads a hidden position, both ways give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import BlurPool2d, to_2tuple
from torch import Tensor, nn

from xrayssl.errors import UserError


class Cells:
    """The visible cells of a batch of films, and the way from maps to them and back, at any stride.

    A map_BCHW is cut into h x w cells of i x j positions; packed_BCRj holds the visible ones below one another in
    raster order, R = V * i.

    Args:
        grid: Rows h and columns w of cells.
        visible_BV: Numbers of the visible cells in raster order, as many in every film.
    """

    def __init__(self, grid: tuple[int, int], visible_BV: Tensor) -> None:
        self.grid, self.visible_BV = grid, visible_BV
        self._known: dict[tuple[int, int], Tensor] = {}

    def pack(self, map_BCHW: Tensor) -> Tensor:
        """Takes the visible cells of a map: packed_BCRj.

        Raises:
            ValueError: If the map does not divide into the cells.
        """
        batch, channels, height, width = map_BCHW.shape
        if height % self.grid[0] or width % self.grid[1]:
            raise ValueError(f"a map of {height} x {width} does not divide into {self.grid[0]} x {self.grid[1]} cells")
        cell = height // self.grid[0], width // self.grid[1]
        rows_NC = map_BCHW.permute(0, 2, 3, 1).reshape(-1, channels)  # a copy only where channels are not last
        picked = rows_NC.index_select(0, self._positions(cell))
        return picked.view(batch, -1, cell[1], channels).permute(0, 3, 1, 2)

    def unpack(self, packed_BCRj: Tensor, fill_C: Tensor | None = None) -> Tensor:
        """Puts visible cells back in place: map_BCHW, zero or `fill_C` where hidden."""
        batch, channels, rows, columns = packed_BCRj.shape
        cell = rows // self.visible_BV.shape[1], columns
        height, width = self.grid[0] * cell[0], self.grid[1] * cell[1]
        fill_C = packed_BCRj.new_zeros(channels) if fill_C is None else fill_C.to(packed_BCRj.dtype)
        rows_NC = packed_BCRj.permute(0, 2, 3, 1).reshape(-1, channels)
        whole = fill_C.expand(batch * height * width, -1).index_copy(0, self._positions(cell), rows_NC)
        return whole.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def _positions(self, cell: tuple[int, int]) -> Tensor:
        """Numbers of all visible positions in the batch's maps, in packed order: (B * V * i * j,)."""
        if cell not in self._known:
            columns, device = self.grid[1], self.visible_BV.device
            width, size = columns * cell[1], self.grid[0] * columns * cell[0] * cell[1]
            corner_BV = self.visible_BV // columns * cell[0] * width + self.visible_BV % columns * cell[1]
            corner_BV = corner_BV + torch.arange(len(corner_BV), device=device)[:, None] * size
            inside_ij = torch.arange(cell[0], device=device)[:, None] * width + torch.arange(cell[1], device=device)
            self._known[cell] = (corner_BV[..., None, None] + inside_ij).flatten()
        return self._known[cell]


class SparseForward:
    """Makes any convolutional network work on packed cells while `hiding`, and leaves it as it is otherwise.

    Keys and weights of the network stay untouched.

    Args:
        network: Of timm; its layers get hooks.
    """

    def __init__(self, network: nn.Module) -> None:
        self.cells: Cells | None = None
        for module in network.modules():
            if _looks_around(module):
                module.register_forward_pre_hook(self._unpack)
                module.register_forward_hook(self._pack)

    @contextmanager
    def hiding(self, cells: Cells) -> Iterator[None]:
        """While this lasts the network takes and gives packed cells."""
        self.cells = cells
        try:
            yield
        finally:
            self.cells = None

    def _unpack(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return None if self.cells is None or args[0].ndim != 4 else (self.cells.unpack(args[0]), *args[1:])

    def _pack(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return None if self.cells is None or output.ndim != 4 else self.cells.pack(output)


def pyramid(network: Any, image_BCHW: Tensor) -> list[Tensor]:
    """A network's last map at every stride, finest first; of packed cells, packed maps.

    Args:
        network: Of timm, with `forward_intermediates`.
        image_BCHW: Normalised films.
    """
    maps = network.forward_intermediates(image_BCHW, norm=True, output_fmt="NCHW", intermediates_only=True)
    return list({map_BCHW.shape[-1]: map_BCHW for map_BCHW in maps}.values())


@torch.no_grad()
def check(network: Any, sparse: SparseForward, shape: tuple[int, ...], grid: tuple[int, int], name: str) -> None:
    """Refuses a network that looks around in a way its layers do not show, such as windows or attention by position.

    With every cell visible, packed films must give what whole ones give, and they must pass with fewer. Scales that
    start at zero and would hide a branch from the trial are drawn at random for its time.

    Args:
        network: Of timm.
        sparse: Its hooks.
        shape: Of a film, (C, H, W).
        grid: Rows and columns of cells.
        name: Of the network, for the sentence.

    Raises:
        UserError: If it does.
    """
    state, training = {key: value.clone() for key, value in network.state_dict().items()}, network.training
    generator = torch.Generator().manual_seed(0)
    try:
        for parameter in network.parameters():
            if parameter.ndim < 2 or not parameter.any():
                parameter.uniform_(0.5, 1.0, generator=generator)
        alike = _alike(network.eval(), sparse, torch.randn(1, *shape, generator=generator), grid)
    finally:
        network.load_state_dict(state)
        network.train(training)
    if not alike:
        raise UserError(
            f"{name} cannot be kept from seeing hidden cells: it looks around in other ways than by convolution and "
            "pooling layers, or cuts its maps at the border. Take a network such as resnet50, densenet121 or "
            "convnext_tiny, or --model.hiding zeros."
        )


def _alike(network: Any, sparse: SparseForward, image_BCHW: Tensor, grid: tuple[int, int]) -> bool:
    every_1L = torch.arange(grid[0] * grid[1])[None]
    whole = pyramid(network, image_BCHW)
    try:
        for cells in (Cells(grid, every_1L[:, ::2]), Cells(grid, every_1L)):
            with sparse.hiding(cells):
                packed = pyramid(network, cells.pack(image_BCHW))
        return all(_close(one, cells.unpack(other)) for one, other in zip(whole, packed, strict=True))
    except (AssertionError, IndexError, RuntimeError, ValueError):  # each says in its own way what sizes it demands
        return False


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= 1e-3 * one.abs().max())


def _looks_around(module: nn.Module) -> bool:
    """Whether a layer's windows overlap, so that one may reach over the border of a cell."""
    if isinstance(module, BlurPool2d):
        return True
    if not hasattr(module, "kernel_size") or not hasattr(module, "stride"):
        return False
    window, step = to_2tuple(module.kernel_size), to_2tuple(module.stride)
    apart = all(side <= stride for side, stride in zip(window, step, strict=True))
    compact = to_2tuple(getattr(module, "dilation", 1)) == (1, 1) and getattr(module, "padding", 0) in (0, (0, 0))
    return not (apart and compact)
