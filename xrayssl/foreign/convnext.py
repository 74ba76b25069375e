"""ConvNeXts: the authors' names, which SparK shares; torchvision's; timm's."""

from __future__ import annotations

import re

from xrayssl.foreign.file import Naming, Tensors
from xrayssl.foreign.vit import renamed

BODY = r"(stem|stages|norm_pre|head\.norm)\."
WIDTHS = {
    40: ("atto",), 48: ("femto",), 64: ("pico",), 80: ("nano",), 96: ("tiny", "small"), 128: ("base",),
    192: ("large",), 256: ("xlarge",), 352: ("huge",),
}  # fmt: skip
AUTHORS = [
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d)\.", r"stages.\1.downsample."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"^norm\.", "head.norm."),
]
TORCHVISION = [
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"\.layer_scale$", ".gamma"),
    (r"^classifier\.0\.", "head.norm."),
]


def candidates(tensors: Tensors) -> list[str]:
    """The published ones of this width; version 2 has a global response normalisation."""
    version = "convnextv2" if "stages.0.blocks.0.mlp.grn.weight" in tensors else "convnext"
    return [f"{version}_{size}" for size in WIDTHS.get(len(tensors["stem.0.weight"]), ())]


def _from_authors(tensors: Tensors) -> Tensors:
    tensors = renamed(tensors, AUTHORS)
    return {name: value.flatten() if ".grn." in name else value for name, value in tensors.items()}


def _from_torchvision(tensors: Tensors) -> Tensors:
    tensors = renamed(tensors, TORCHVISION)
    tensors = {re.sub(r"^features\.(\d)\.(\d+)\.", _place, name): value for name, value in tensors.items()}
    return {name: value.flatten() if name.endswith(".gamma") else value for name, value in tensors.items()}


def _place(match: re.Match[str]) -> str:
    """torchvision counts stem, stages and what lies between them through: 0; 1, 3, 5, 7; 2, 4, 6."""
    number, part = int(match[1]), match[2]
    if number == 0:
        return f"stem.{part}."
    return f"stages.{number // 2}." + (f"blocks.{part}." if number % 2 else f"downsample.{part}.")


NAMINGS = (
    Naming(
        "ConvNeXt, its authors' names",
        ("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"),
        BODY,
        _from_authors,
        candidates,
    ),
    Naming(
        "ConvNeXt, torchvision's names",
        ("features.1.0.layer_scale", "features.0.0.weight"),
        BODY,
        _from_torchvision,
        candidates,
    ),
    Naming(
        "ConvNeXt, timm's names",
        ("stem.0.weight", "stages.0.blocks.0.conv_dw.weight"),
        BODY,
        candidates=candidates,
    ),
)
