"""DenseNets: torchvision's names, also the old ones with a dot before the number, below any prefix."""

from __future__ import annotations

from xrayssl.foreign.file import Naming, Tensors
from xrayssl.foreign.vit import renamed

STEMS = {64: ["densenet121", "densenet169", "densenet201"], 96: ["densenet161"]}
RULES = [(r"\.(norm|conv)\.([12])\.", r".\1\2."), (r"^", "features.")]


def candidates(tensors: Tensors) -> list[str]:
    """The published ones of this width."""
    return STEMS.get(len(tensors["features.conv0.weight"]), [])


def _from_torchvision(tensors: Tensors) -> Tensors:
    return renamed(tensors, RULES)


# the prefix ends with `features.` in torchvision, with `0.` where its children stand in a sequence
NAMINGS = (
    Naming(
        "DenseNet, torchvision's names",
        ("conv0.weight", "norm0.weight", "norm5.weight"),
        r"features\.",
        _from_torchvision,
        candidates,
    ),
)
