"""Weights of other programs: which program wrote a file, where its backbone lies, and timm's names for its tensors.

A file per family. Those of networks (vit, resnet, densenet, convnext) know names; those of programs (mae, spark, moco,
swav, dino, byol, plain) know which of the backbones in a file to take. A layout is told by names and shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import timm

from xrayssl.errors import UserError
from xrayssl.foreign import byol, convnext, densenet, dino, mae, moco, plain, resnet, spark, swav, vit
from xrayssl.foreign.architecture import STEMS, probable
from xrayssl.foreign.file import COUNTER, TIMM, Claim, File, Found, Naming, Statistics, Tensors

NAMINGS = (*vit.NAMINGS, *resnet.NAMINGS, *densenet.NAMINGS, *convnext.NAMINGS)
CLAIMS = (
    mae.vit, mae.unet, spark.sparse, moco.queue, moco.base, swav.prototypes, dino.teacher, dino.second, byol.online,
    plain.averaged, plain.alone,
)  # fmt: skip
HEADS = {"head", "fc", "classifier"}


@dataclass(frozen=True)
class Layout:
    """A backbone of another program.

    Args:
        name: Of the layout.
        found: Where the backbone lies.
        tensors: With timm's names.
        groups: The file's other tensors, by kind, and how many.
        statistics: The input normalisation it was trained with; None where the file gives no hint.
    """

    name: str
    found: Found
    tensors: Tensors
    groups: dict[str, int] = field(default_factory=dict)
    statistics: Statistics | None = None

    @cached_property
    def architecture(self) -> str | None:
        """The timm network it probably is."""
        return probable(self.tensors, self.found.naming)

    @property
    def in_chans(self) -> int | None:
        """Input channels of the first convolution."""
        return next((self.tensors[name].shape[1] for name in STEMS if name in self.tensors), None)

    def facts(self) -> dict[str, Any]:
        """What names and shapes tell, for reading."""
        name = self.architecture
        start = f"--model.backbone {name or 'NAME, with the timm network it was trained with'}"
        return {"architecture": name, "in_chans": self.in_chans, "prefix": self.found.prefix, "start_with": start}


def recognise(path: Path, content: Mapping[str, Any], network: Any = None) -> Layout | None:
    """Finds the backbone in a file of another program.

    Args:
        path: Of the file, for messages.
        content: As read, without code.
        network: The timm network to fill: a file that has all its names is known, of whatever family it is.

    Returns:
        None if no name in the file is known.

    Raises:
        UserError: If there are several backbones and nothing tells which to take, or one cannot be computed by timm.
    """
    file = File(path, content, NAMINGS)
    if not file.found and network is not None:
        file = File(path, content, [_of(network)])
    claim = next(filter(None, (claim(file) for claim in CLAIMS)), None)
    if claim is None and file.found:
        places = ", ".join(repr(found.prefix) for found in file.found)
        raise UserError(f"{path}: holds several networks ({places}) and nothing says which to take; save one of them.")
    return _layout(file, claim, network) if claim else None


def _layout(file: File, claim: Claim, network: Any) -> Layout:
    naming, prefix = claim.found.naming, claim.found.prefix
    expected = set(network.state_dict()) if network is not None else set()
    below = file.below(prefix)
    renamed = naming.rename(below)
    tensors = {name: value for name, value in renamed.items() if name in expected or re.match(naming.body, name)}
    taken = {prefix + old for old, new in zip(below, renamed, strict=False) if new in tensors}
    groups = file.rest(prefix, taken)
    return Layout(claim.name, claim.found, tensors, groups, _statistics(claim, tensors, network))


def _statistics(claim: Claim, tensors: Tensors, network: Any) -> Statistics | None:
    """Those of the claim; a network with one channel has others, which no file tells."""
    layout = Layout(claim.name, claim.found, tensors)
    if layout.in_chans == 1:
        return None
    if claim.statistics is not None:
        return claim.statistics
    config = timm.get_pretrained_cfg(layout.architecture) if layout.architecture else None
    config = config or getattr(network, "pretrained_cfg", None)
    if config is None:
        return None
    config = config if isinstance(config, Mapping) else config.to_dict()
    name = layout.architecture or config["architecture"]
    return Statistics(tuple(config["mean"]), tuple(config["std"]), f"timm's for {name}")


def _of(network: Any) -> Naming:
    """The naming of one network."""
    names = [name for name in network.state_dict() if not name.endswith(COUNTER) and not name.startswith("head.")]
    roots = {name.split(".")[0] for name in names} - HEADS
    return Naming(TIMM, tuple(names), rf"({'|'.join(map(re.escape, sorted(roots)))})(\.|$)")
