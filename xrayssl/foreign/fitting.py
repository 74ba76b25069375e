"""Makes tensors with timm's names fit a backbone of another input: positions, patches, channels. Says what it did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from xrayssl.backbone import Backbone
from xrayssl.foreign.file import COUNTER, Tensors

Grid = tuple[int, int]
PATCHES = "patch_embed.proj.weight"


@dataclass
class Fitting:
    """Tensors on their way into a backbone.

    Args:
        backbone: To fill.
        tensors: With timm's names; changed in place.
        mean: Of each input channel, scaled to 0-1, that the tensors were trained with; empty if nobody knows.
        std: Likewise.
        notes: One sentence per thing done.
    """

    backbone: Backbone
    tensors: Tensors
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def network(self) -> Any:
        """The timm network."""
        return self.backbone.network

    def foreign(self) -> Fitting:
        """Does all that a file of another program may need."""
        self.pooled_norm()
        self.pointwise()
        self.channels()
        self.patches()
        self.positions(None)
        self.unused()
        return self

    def pooled_norm(self) -> None:
        """Takes `fc_norm` for `norm`, as its fine-tuned affine map is the only one that such a file has.

        Its network takes the mean of the patch tokens and then normalises; ours normalises each and then takes the
        mean, as for pretraining. Each token is what its norm makes of it, but the pooled features differ.
        """
        expected = self.network.state_dict()
        if "norm.weight" not in expected or "norm.weight" in self.tensors or "fc_norm.weight" not in self.tensors:
            return
        for part in ("weight", "bias"):
            self.tensors[f"norm.{part}"] = self.tensors.pop(f"fc_norm.{part}")
        self.notes.append(
            "fc_norm taken as norm: the file's network normalises the mean of the tokens, ours takes the mean of "
            "normalised tokens, so its pooled features and its head's logits are not reproduced exactly"
        )

    def pointwise(self) -> None:
        """Writes a linear layer as the 1 x 1 convolution that it is, or the other way, where the network has that."""
        for name, wanted in self.network.state_dict().items():
            given = self.tensors.get(name)
            if given is not None and {given.shape, wanted.shape} == {given.shape[:2], (*given.shape[:2], 1, 1)}:
                self.tensors[name] = given.reshape(wanted.shape)

    def channels(self) -> None:
        """Folds the input channels of the first convolution into one for grey films, or spreads a grey one.

        Grey films get the features that they have in three channels, each normalised in its own way: what that adds to
        every place goes into the convolution's bias or its batch norm's mean (but not beyond the film's border, where
        either network pads zeros of its own).
        """
        first = getattr(self.network, "pretrained_cfg", {}).get("first_conv")
        weight, wanted = self.tensors.get(f"{first}.weight"), self.backbone.in_chans
        if weight is None or weight.ndim != 4 or weight.shape[1] == wanted or 1 not in (weight.shape[1], wanted):
            return
        if len(self.mean) == weight.shape[1] and wanted == 1:
            weight = self._normalised_alike(str(first), weight.float())
        total = weight.float().sum(dim=1, keepdim=True)
        self.tensors[f"{first}.weight"] = total.expand(-1, wanted, -1, -1) / wanted
        self.notes.append(f"{first} folded from {weight.shape[1]} input channels to {wanted} by their sum")

    def _normalised_alike(self, first: str, weight_OIkk: Tensor) -> Tensor:
        """Weights for channels that are normalised by the mean of the means and of the deviations."""
        mean_I, std_I = (torch.tensor(list(values)) for values in (self.mean, self.std))
        shift_O = (weight_OIkk.sum(dim=(2, 3)) * ((mean_I.mean() - mean_I) / std_I)).sum(dim=1)
        mean_O = self._after(first, "running_mean", len(shift_O))
        if f"{first}.bias" in self.tensors:
            self.tensors[f"{first}.bias"] = self.tensors[f"{first}.bias"] + shift_O
        elif mean_O is not None:
            self.tensors[mean_O] = self.tensors[mean_O] - shift_O
        return weight_OIkk * (std_I.mean() / std_I)[:, None, None]

    def _after(self, first: str, kind: str, length: int) -> str | None:
        """The name of what the layer after the first convolution has of this kind."""
        names = list(self.network.state_dict())
        following = names[names.index(f"{first}.weight") + 1 :][:5]
        found = [name for name in following if name.endswith(kind) and len(self.tensors.get(name, ())) == length]
        return found[0] if found else None

    def patches(self) -> None:
        """Resamples the patch embedding so that a resized patch gives the same token (FlexiViT, Beyer et al. 2023)."""
        weight, wanted = self.tensors.get(PATCHES), self.network.state_dict().get(PATCHES)
        if weight is None or wanted is None or weight.ndim != 4 or weight.shape[2:] == wanted.shape[2:]:
            return
        self.tensors[PATCHES] = resample_patch_embed(weight.float(), list(wanted.shape[2:]))
        self.notes.append(f"patch embedding resampled from {_by(weight.shape[2:])} to {_by(wanted.shape[2:])} px")

    def positions(self, img_size: tuple[int, int] | None) -> None:
        """Resamples learned positions to the backbone's grid, bicubic with antialias.

        Args:
            img_size: Height and width of the films the file is of; None for a square of unknown size.
        """
        given, wanted = self.tensors.get("pos_embed"), getattr(self.network, "pos_embed", None)
        grid = getattr(getattr(self.network, "patch_embed", None), "grid_size", None)
        if not isinstance(wanted, Tensor) or given is None or grid is None or given.ndim != 3 or wanted.ndim != 3:
            return
        old = self._grid(given, img_size)
        if old is None or given.shape[2] != wanted.shape[2]:
            return  # what does not fit is said by the comparison of shapes
        prefix = self._prefix(given.shape[1] - old[0] * old[1], wanted.shape[1] - grid[0] * grid[1])
        self.tensors["pos_embed"] = resample_abs_pos_embed(
            self.tensors["pos_embed"], list(grid), list(old), num_prefix_tokens=prefix
        )
        if old != tuple(grid):
            self.notes.append(f"positions resampled from {_by(old)} to {_by(grid)} patches")

    def unused(self) -> None:
        """Leaves alone what no feature depends on: counters of batches, and a head's norm."""
        state = self.network.state_dict()
        lacking = [name for name in state if name not in self.tensors]
        counters = [name for name in lacking if name.endswith(COUNTER)]
        head = [name for name in lacking if name.startswith("head.")]
        self.tensors |= {name: state[name] for name in (*counters, *head)}
        if counters:
            self.notes.append(f"{len(counters)} counters of batches are not in the file and start at 0")
        if head:
            self.notes.append(f"{' and '.join(head)} are not in the file; the feature map does not pass through them")

    def _grid(self, given: Tensor, img_size: tuple[int, int] | None) -> Grid | None:
        """Rows and columns of the file's positions; one of another program is square, with up to one class token."""
        if img_size is not None:
            steps = (side // cells for side, cells in zip(self.backbone.img_size, self.backbone.grid_size, strict=True))
            height, width = (side // step for side, step in zip(img_size, steps, strict=True))
            return height, width
        for tokens in (0, 1):
            side = math.isqrt(given.shape[1] - tokens)
            if side > 0 and side * side == given.shape[1] - tokens:
                return side, side
        return None

    def _prefix(self, given: int, wanted: int) -> int:
        """Puts the class token's position where the backbone has it: added to the token itself, or of its own."""
        position = self.tensors["pos_embed"]
        if given == 1 and wanted == 0 and "cls_token" in self.tensors:
            self.tensors["cls_token"] = self.tensors["cls_token"] + position[:, :1]
            self.tensors["pos_embed"] = position[:, 1:]
        elif given == 0 and wanted == 1:
            self.tensors["pos_embed"] = torch.cat([torch.zeros_like(position[:, :1]), position], dim=1)
        else:
            return given
        return wanted


def _by(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


def differences(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """Compares names and shapes; a tensor of the file's network that ours lacks would silently change the features.

    Args:
        expected: Of the network.
        tensors: To load.

    Returns:
        What is wrong, each to be said after "it"; a norm after the pooling belongs to a head, and is no fault.
    """
    problems = []
    missing = [name for name in expected if name not in tensors]
    if missing:
        problems.append(f"lacks {len(missing)} of {len(expected)} tensors, such as {missing[0]!r}")
    unknown = [name for name in tensors if name not in expected and not name.startswith("fc_norm.")]
    if unknown:
        problems.append(f"has {len(unknown)} tensors that the network does not know, such as {unknown[0]!r}")
    shapes = [name for name, value in expected.items() if name in tensors and tensors[name].shape != value.shape]
    if shapes:
        first = f"{tuple(tensors[shapes[0]].shape)} instead of {tuple(expected[shapes[0]].shape)}"
        problems.append(f"has {len(shapes)} tensors of another shape, such as {shapes[0]!r}: {first}")
    return problems
