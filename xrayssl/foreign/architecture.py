"""Which timm network tensors belong to, told by names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

import timm
import torch

from xrayssl.foreign.file import COUNTER, Naming, Tensors

# What may differ between a file and the network of the same name: the size and channels of the input, counters,
# and a norm that belongs to the head.
FREE = re.compile(rf"pos_embed$|{COUNTER}$|^head\.")
STEMS = ("patch_embed.proj.weight", "conv1.weight", "features.conv0.weight", "stem.0.weight")


def probable(tensors: Tensors, naming: Naming) -> str | None:
    """The timm network with these names and shapes.

    Args:
        tensors: With timm's names.
        naming: The family, which knows what to try.
    """
    found = _shapes({name: value.shape for name, value in tensors.items() if re.match(naming.body, name)})
    return next((name for name in naming.candidates(tensors) if _shapes(_expected(name)) == found), None)


def _expected(name: str) -> dict[str, torch.Size]:
    with torch.device("meta"):  # no memory, no time for random numbers
        network = timm.create_model(name, num_classes=0)
    return {key: value.shape for key, value in network.state_dict().items()}


def _shapes(shapes: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
    """Shapes without what may differ: input channels count as one, a 1 x 1 convolution as a linear layer."""
    pooled = "norm.weight" not in shapes
    kept = {}
    for name, shape in shapes.items():
        name = name.replace("fc_norm", "norm") if pooled else name
        if not FREE.search(name) and not name.startswith("fc_norm"):
            stem = name in STEMS and len(shape) == 4
            kept[name] = (shape[0], 1, *shape[2:]) if stem else shape[:2] if shape[2:] == (1, 1) else tuple(shape)
    return kept
