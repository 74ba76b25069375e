"""ResNets: timm and torchvision share their names; others keep torchvision's network as a numbered sequence."""

from __future__ import annotations

from xrayssl.foreign.file import Naming, Tensors
from xrayssl.foreign.vit import renamed

BODY = r"(conv1|bn1|layer[1-4])\."
# Sequential(*children): 2 is the ReLU and 3 the pooling, which have no tensors.
NUMBERED = [
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^4\.", "layer1."),
    (r"^5\.", "layer2."),
    (r"^6\.", "layer3."),
    (r"^7\.", "layer4."),
]


def candidates(tensors: Tensors) -> list[str]:
    """The published ones."""
    if "layer1.0.conv3.weight" not in tensors:
        return ["resnet18", "resnet34"]
    wide = ["wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"]
    return ["resnet50", "resnet101", "resnet152", *wide]


def _from_numbers(tensors: Tensors) -> Tensors:
    return renamed(tensors, NUMBERED)


NAMINGS = (
    Naming(
        "ResNet, torchvision's names, which are timm's",
        ("conv1.weight", "layer1.0.conv1.weight"),
        BODY,
        candidates=candidates,
    ),
    Naming(
        "torchvision's ResNet as a numbered sequence",
        ("4.0.conv1.weight", "0.weight", "1.running_mean"),
        BODY,
        _from_numbers,
        candidates,
    ),
)
