"""Which pretext task teaches a network most in equal time, for a ViT and a CNN; see `equal_time.py`.

`python benchmarks/pretext.py --films '{"nih": "/films/nih"}' --probe '{"nih": "/films/nih"}'`
"""

from __future__ import annotations

from functools import partial
from typing import Any

from equal_time import CNN, SIDE, VIT, Arm, Study, main

from xrayssl.data.augment import Augment
from xrayssl.masking import Masking
from xrayssl.methods import (
    BYOL,
    Exemplar,
    Jigsaw,
    MAEPretrain,
    MaskedCNNPretrain,
    Method,
    MoCo,
    RelativePatch,
    RotationProxy,
    SwAV,
)
from xrayssl.optim import Optim

COMMON: dict[str, Any] = {"img_size": SIDE, "optim": Optim(lr=1e-3)}
HARD = Augment(trim=True, ratio=(1.0, 1.0), circle=True, brightness=0.2, contrast=0.2, gamma=0.2)
TILES = Augment(brightness=0.2, contrast=0.2, gamma=0.2)
VIEWS = Augment(views=2, scale=(0.2, 1.0), brightness=0.2, contrast=0.4, gamma=0.4)
BANK = {"momentum": 0.99}  # in runs of a few hundred steps a slower copy would stay random


def arms(name: str, network: str, masked: type[Method], options: dict[str, Any]) -> dict[str, Arm]:
    """Every task for one network."""

    def arm(method: type[Method], augment: Augment = Augment(), trained: bool = True, **more: Any) -> Arm:  # noqa: B008
        return Arm(partial(method, backbone=network, **more, **COMMON), augment, trained)

    made = {
        "random": arm(masked, trained=False, **options),
        "masked": arm(masked, **options),
        "rotation": arm(RotationProxy, HARD),
        "jigsaw": arm(Jigsaw, TILES, permutations=100),
        "relative patch": arm(RelativePatch, TILES),
        "exemplar": arm(Exemplar, VIEWS, kind="instance"),
        "moco": arm(MoCo, VIEWS, queue=4096, **BANK),
        "byol": arm(BYOL, VIEWS, hidden=1024, **BANK),
        "swav": arm(SwAV, VIEWS, prototypes=60, hidden=512),
    }
    return {f"{task}, {name}": each for task, each in made.items()}


MAE = {"masking": Masking(0.9), "target": "pixels", "decoder_width": 128, "decoder_depth": 2, "decoder_heads": 4}
SPARK = {"decoder_width": 256, "whole_batches": 0}  # equal_time measures statistics for every arm
ARMS = {**arms("resnet18", CNN, MaskedCNNPretrain, SPARK), **arms("vit", VIT, MAEPretrain, MAE)}
BASES = {name: f"random, {name.split(', ')[1]}" for name in ARMS}

if __name__ == "__main__":
    main(Study(ARMS, BASES, ["moco, resnet18", "rotation, vit"], "runs/pretext", __doc__, batch=64, warm_up=0.1))
