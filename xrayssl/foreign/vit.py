"""ViTs: timm's names, which MAE, DINO and MoCo v3 share; DINOv2's; torchvision's."""

from __future__ import annotations

import re

import timm

from xrayssl.foreign.file import Naming, Tensors

SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 1536: "giant"}
BODY = r"(cls_token|reg_token|dist_token|pos_embed|patch_embed|blocks|norm_pre|norm|fc_norm)(\.|$)"

# DINOv2 can write its blocks in chunks (blocks.CHUNK.NUMBER, numbered through), and has its words for SwiGLU.
DINOV2 = [
    (r"^register_tokens$", "reg_token"),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
]
TORCHVISION = [
    (r"^class_token$", "cls_token"),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
]


def renamed(tensors: Tensors, rules: list[tuple[str, str]]) -> Tensors:
    """Applies regular expressions to names, one after the other."""
    names = {name: name for name in tensors}
    for pattern, replacement in rules:
        names = {name: re.sub(pattern, replacement, new) for name, new in names.items()}
    return {new: tensors[name] for name, new in names.items()}


def candidates(tensors: Tensors) -> list[str]:
    """timm's ViTs of this width and patch, with and without registers and LayerScale."""
    weight = tensors["patch_embed.proj.weight"]
    stem = f"vit_{SIZES.get(weight.shape[0])}_patch{weight.shape[-1]}"
    names = [f"{stem}_{end}" for end in ("224", "dinov2", "reg4_dinov2", "clip_224", "gap_224", "384")]
    return [name for name in names if timm.is_model(name)]


def _from_dinov2(tensors: Tensors) -> Tensors:
    return renamed(tensors, DINOV2)


def _from_torchvision(tensors: Tensors) -> Tensors:
    return renamed(tensors, TORCHVISION)


STEM = "patch_embed.proj.weight"
PLAIN = Naming("ViT, timm's names", (STEM, "blocks.0.norm1.weight"), BODY, _from_dinov2, candidates)
CHUNKED = Naming("ViT, DINOv2's names in chunks", (STEM, "blocks.0.0.norm1.weight"), BODY, _from_dinov2, candidates)
OF_TORCHVISION = Naming(
    "ViT, torchvision's names", ("conv_proj.weight", "encoder.pos_embedding"), BODY, _from_torchvision, candidates
)
NAMINGS = (PLAIN, CHUNKED, OF_TORCHVISION)
