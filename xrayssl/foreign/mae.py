"""Masked autoencoders: facebookresearch/mae (He et al. 2021) and medical_mae (Xiao et al. 2022), ViT and U-Net."""

from __future__ import annotations

from xrayssl.foreign.file import IMAGENET, Claim, File, Statistics

# What medical_mae's fine-tuning feeds its networks; its pretraining mixes this with ImageNet's, film by film.
FILMS = Statistics((0.5056,) * 3, (0.252,) * 3, "medical_mae's, of chest films")
OPTIONS = {"datasets_names", "build_timm_transform"}


def vit(file: File) -> Claim | None:
    """A ViT with its decoder, or fine-tuned on the mean of its tokens: `fc_norm` and no `norm`."""
    for found in file.found:
        below = file.below(found.prefix)
        pooled = "fc_norm.weight" in below and "norm.weight" not in below
        if "decoder_embed.weight" in below or (pooled and found.prefix == "model."):
            stage = "fine-tuned" if pooled else "pretraining"
            medical = bool(OPTIONS & file.options)
            name = "medical_mae" if medical else "facebookresearch/mae"
            return Claim(f"{name}, {stage}", found, FILMS if medical else IMAGENET)
    return None


def unet(file: File) -> Claim | None:
    """The encoder of a U-Net of segmentation-models-pytorch, as medical_mae trains for its CNNs."""
    for found in file.found:
        prefix = found.prefix.removesuffix("features.")
        sibling = prefix.removesuffix("encoder.") + "decoder.blocks.0.conv1.0.weight"
        if prefix.endswith("encoder.") and sibling in file.tensors:
            return Claim("medical_mae, U-Net pretraining", found, FILMS)
    return None
