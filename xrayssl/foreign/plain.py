"""A network alone, however wrapped: timm, torchvision, the released files of many, Lightning of other programs."""

from __future__ import annotations

import re

from xrayssl.foreign.file import IMAGENET, TIMM, Claim, File

EMA = re.compile(r"(^|_)ema(_|$)")


def averaged(file: File) -> Claim | None:
    """Weights beside their moving average, as timm and DeiT save; timm too takes the average."""
    averages = [found for found in file.found if any(EMA.search(word) for word in found.words)]
    return Claim(f"moving average of weights, {averages[0].naming.name}", averages[0]) if len(averages) == 1 else None


def alone(file: File) -> Claim | None:
    """The only network in the file."""
    if len(file.found) != 1:
        return None
    (found,) = file.found
    lightning = "pytorch-lightning_version" in file.content
    # as timm saves a classifier, or a network of another family than those known: its statistics differ
    own = found.prefix == "" and ("head.weight" in file.tensors or found.naming.name == TIMM)
    name = f"Lightning, {found.naming.name}" if lightning else found.naming.name
    return Claim(name, found, None if own else IMAGENET)
