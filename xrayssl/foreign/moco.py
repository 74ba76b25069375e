"""MoCo v1 and v2 (He et al. 2020, Chen et al. 2020): the query encoder; MoCo v3 (2021): the base encoder."""

from __future__ import annotations

from xrayssl.errors import UserError
from xrayssl.foreign.file import Claim, File


def queue(file: File) -> Claim | None:
    """Query encoder, key encoder and queue; the query encoder is the one that the authors transfer."""
    found = file.ending("encoder_q.", "encoder_q.features.")
    return Claim("MoCo v2", found) if found else None


def base(file: File) -> Claim | None:
    """Base and momentum encoder.

    Raises:
        UserError: For its ViT-S, whose number of heads no shape tells and no network of timm has.
    """
    found = file.ending("base_encoder.")
    if found is None:
        return None
    stem = file.tensors.get(found.prefix + "patch_embed.proj.weight")
    if stem is not None and len(stem) == 384:
        raise UserError(
            f"{file.path}: MoCo v3's ViT-S has 12 attention heads where timm's has 6, so timm's would compute "
            "something else from these weights; start from its ViT-B or ResNet-50."
        )
    return Claim("MoCo v3", found)
