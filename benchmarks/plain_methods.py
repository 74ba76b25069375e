"""Baselines of `methods.py` that no library has: a step of rotation, jigsaw, relative patch and surrogate exemplar,
written plainly after their papers, and what all baselines stand on.

Films are turned, and tiles cut and standardised, one after the other, as a data loader does. Where a paper's text
leaves a choice, the quicker one is taken: all tiles of a batch pass the network together and each of them once, where
a loop over nine places, or over pairs, would do the same work or nearly twice as much in smaller pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from xrayssl.backbone import Backbone

Batch = Mapping[str, Any]
NEIGHBOURS = (0, 1, 2, 3, 5, 6, 7, 8)


@dataclass(frozen=True)
class Case:
    """What is trained on what.

    Args:
        network: timm's name.
        size: Side of a film in pixels.
        small: Side of a small crop, for SwAV.
        crops: Small crops of a film, for SwAV.
        batch: Films in a step.
        queue: Embeddings that MoCo compares with.
        earlier: Embeddings that SwAV shares out together with the batch.
        prototypes: Of SwAV.
        classes: Surrogate classes of Exemplar.
        tile: Side of a tile in pixels.
    """

    network: str
    size: int
    small: int
    crops: int
    batch: int
    queue: int
    earlier: int
    prototypes: int
    classes: int
    tile: int


class Pooled(nn.Module):
    """A network of ours, so that all else can be compared: films in, mean-pooled features out."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.backbone = Backbone(name, size)
        self.num_features = self.backbone.width

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Features (B, D)."""
        return self.backbone(image_BCHW).mean(dim=(2, 3))


def network(name: str, size: int, shared: bool, sizes: bool = False) -> Any:
    """A network of one channel that gives mean-pooled features.

    Args:
        name: timm's.
        size: Side of a film in pixels.
        shared: Ours, in place of timm's as it comes.
        sizes: It sees films of several sizes.
    """
    if shared:
        return Pooled(name, size)
    options: dict[str, Any] = {"img_size": size, "dynamic_img_size": sizes} if name.startswith("vit") else {}
    return timm.create_model(name, num_classes=0, in_chans=1, global_pool="avg", **options)


class PlainRotation(nn.Module):
    """Four copies of each film, turned, and which is which (Gidaris et al. 2018, arXiv:1803.07728)."""

    def __init__(self, case: Case, shared: bool) -> None:
        super().__init__()
        self.network = network(case.network, case.size, shared)
        self.classify = nn.Linear(self.network.num_features, 4)

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        turned = [torch.stack([film.rot90(turns, (1, 2)) for turns in range(4)]) for film in batch["image"]]
        label = torch.arange(4).repeat(len(turned))
        return nn.functional.cross_entropy(self.classify(self.network(torch.cat(turned))), label)


class PlainJigsaw(nn.Module):
    """Tiles in one of a thousand orders (Noroozi & Favaro 2016, arXiv:1603.09246)."""

    def __init__(self, case: Case, shared: bool) -> None:
        super().__init__()
        self.tile = case.tile
        self.network = network(case.network, case.tile, shared)
        self.shorten = nn.Sequential(nn.Linear(self.network.num_features, 512), nn.ReLU(inplace=True))
        self.classify = nn.Sequential(nn.Linear(9 * 512, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 1000))
        self.orders = torch.stack([torch.randperm(9) for _ in range(1000)])

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        label = torch.randint(1000, (len(batch["image"]),))
        puzzles = [
            torch.stack(cut(film, self.tile))[self.orders[number]]
            for film, number in zip(batch["image"], label, strict=True)
        ]
        features = self.shorten(self.network(torch.cat(puzzles))).reshape(len(puzzles), -1)
        return nn.functional.cross_entropy(self.classify(features), label)


class PlainRelativePatch(nn.Module):
    """The middle tile and each neighbour, and where that lies (Doersch et al. 2015, arXiv:1505.05192)."""

    def __init__(self, case: Case, shared: bool) -> None:
        super().__init__()
        self.tile = case.tile
        self.network = network(case.network, case.tile, shared)
        self.shorten = nn.Sequential(nn.Linear(self.network.num_features, 512), nn.ReLU(inplace=True))
        self.classify = nn.Sequential(
            nn.Linear(2 * 512, 1024), nn.ReLU(inplace=True),
            nn.Linear(1024, 1024), nn.ReLU(inplace=True), nn.Linear(1024, 8),
        )  # fmt: skip

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        tiles = torch.stack([tile for film in batch["image"] for tile in cut(film, self.tile)])
        features = self.shorten(self.network(tiles)).reshape(-1, 9, 512)
        pairs = [torch.cat([film[4], film[place]]) for film in features for place in NEIGHBOURS]
        label = torch.arange(8).repeat(len(features))
        return nn.functional.cross_entropy(self.classify(torch.stack(pairs)), label)


class PlainSurrogate(nn.Module):
    """Every film is a class, and its views are the examples (Dosovitskiy et al. 2014, arXiv:1406.6909)."""

    def __init__(self, case: Case, shared: bool) -> None:
        super().__init__()
        self.network = network(case.network, case.size, shared)
        self.classify = nn.Linear(self.network.num_features, case.classes)

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        views = batch["views"][:2]
        return nn.functional.cross_entropy(
            self.classify(self.network(torch.cat(views))), batch["index"].repeat(len(views))
        )


def cut(film_CHW: Tensor, tile: int) -> list[Tensor]:
    """Nine tiles at random places in their cells, each of zero mean and unit variance."""
    cell, tiles = film_CHW.shape[-1] // 3, []
    for place in range(9):
        down, right = torch.randint(cell - tile + 1, (2,)).tolist()
        top, left = cell * (place // 3) + down, cell * (place % 3) + right
        piece = film_CHW[:, top : top + tile, left : left + tile]
        tiles.append((piece - piece.mean()) / piece.std().clamp(min=1 / 16))
    return tiles
