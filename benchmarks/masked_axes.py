"""Which way of hiding teaches a network most in equal time: the axes of masked pretraining; see `equal_time.py`.

`python benchmarks/masked_axes.py --films '{"nih": "/films/nih"}' --probe '{"nih": "/films/nih"}'`
"""

from __future__ import annotations

from functools import partial
from typing import Any

from equal_time import CNN, SIDE, VIT, Arm, Study, main

from xrayssl.masking import Masking
from xrayssl.methods import MAEPretrain, MaskedCNNPretrain
from xrayssl.optim import Optim

COMMON: dict[str, Any] = {"img_size": SIDE, "optim": Optim(lr=1e-3, warmup_epochs=1)}
DECODER = {"decoder_width": 128, "decoder_depth": 2, "decoder_heads": 4}
UNET = {"hiding": "zeros", "cell": 16, "masking": Masking(0.75), "target": "pixels", "loss_on": "all"}
BASE, SPARSE = "mae 90 %", "sparse resnet18"


def vit(**options: Any) -> partial[MAEPretrain]:
    """A masked autoencoder."""
    return partial(
        MAEPretrain, backbone=VIT, **{"masking": Masking(0.9), "target": "pixels", **DECODER, **options, **COMMON}
    )


def cnn(**options: Any) -> partial[MaskedCNNPretrain]:
    """The same for a CNN."""
    return partial(MaskedCNNPretrain, backbone=CNN, decoder_width=256, whole_batches=0, **options, **COMMON)


ARMS = {
    "random vit": Arm(vit(), trained=False),
    "random resnet18": Arm(cnn(), trained=False),
    BASE: Arm(vit()),
    "mae 75 %": Arm(vit(masking=Masking(0.75))),
    "normalised pixels": Arm(vit(target="norm_pixels")),
    "centre hidden": Arm(vit(masking=Masking(0.9, kind="center"))),
    "centre kept": Arm(vit(masking=Masking(0.9, kind="center", hide=False))),
    "block": Arm(vit(masking=Masking(0.75, kind="block"))),
    "grid": Arm(vit(masking=Masking(0.75, kind="grid"))),
    "cross decoder": Arm(vit(decoder="cross", decode_fraction=0.25)),
    "cross decoder, fused": Arm(vit(decoder="cross", decode_fraction=0.25, decoder_fusion=True)),
    SPARSE: Arm(cnn()),
    "u-net resnet18": Arm(cnn(**UNET)),
}
BASES = {"": BASE, SPARSE: "random resnet18", "u-net resnet18": SPARSE}

if __name__ == "__main__":
    main(Study(ARMS, BASES, [BASE, SPARSE], "runs/masked_axes", __doc__))
