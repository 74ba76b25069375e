"""Attention rollout: from where a ViT's tokens have what they hold, whatever the class."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from xrayssl.explain.passes import explaining, hooked
from xrayssl.methods import Finetune


def rollout(model: Finetune, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """How much of each patch the pooled features hold, by attention alone (Abnar & Zuidema 2020, arXiv:2005.00928).

    It knows neither classes nor values: the map of a film is the same for every class. The paper follows the class
    token; our classifiers pool the patches by their mean and leave class and register tokens out, so the map is the
    mean over the patches' rows of `rolled`, at the patches' columns. (With attentive pooling it is that mean, too.)

    Args:
        model: On a ViT.
        image_BCHW: Normalised films.

    Returns:
        map_Bhw, 0 or more, whose sum over the cells is 1 less what class and register tokens began with; and the
        logits (B, N) of all classes, which it does not explain.

    Raises:
        ValueError: See `rolled`.
    """
    rolled_BSS, logit_BN = rolled(model, image_BCHW)
    vit = model.backbone.network
    row_BL = rolled_BSS[:, vit.num_prefix_tokens :, vit.num_prefix_tokens :].mean(dim=1)
    return row_BL.unflatten(1, vit.patch_embed.dynamic_feat_size(image_BCHW.shape[2:])), logit_BN


def rolled(model: Finetune, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The product over the blocks of (A + I) / 2, the last one first, with A the mean over the heads (section 3).

    Args:
        model: On a ViT.
        image_BCHW: Normalised films.

    Returns:
        rolled_BSS: what each token at the end (row) has of each at the start; rows sum to 1. Class and register tokens
        come first, S = T + L. And the logits (B, N).

    Raises:
        ValueError: If the network is no ViT of timm in which every token attends to every other.
    """
    trace = _Trace()
    with explaining(model, image_BCHW) as logits, torch.no_grad(), ExitStack() as stack:
        for attention in _attentions(model):
            stack.enter_context(hooked(attention.qkv, partial(trace, attention)))
        logit_BN = logits(image_BCHW)
    return trace.rolled_BSS, logit_BN


class _Trace:
    """Follows tokens through the blocks; of the layer that gives queries and keys, for fused kernels hold no shares."""

    rolled_BSS: Tensor

    def __call__(self, attention: Attention, layer: nn.Module, inputs: Any, qkv_BSE: Tensor) -> None:
        step_BSS = (_shares(attention, qkv_BSE) + torch.eye(qkv_BSE.shape[1], device=qkv_BSE.device)) / 2
        self.rolled_BSS = step_BSS @ self.rolled_BSS if hasattr(self, "rolled_BSS") else step_BSS


def _shares(attention: Attention, qkv_BSE: Tensor) -> Tensor:
    """The mean over the heads of what each token (row) takes of each; a head at a time, which spares memory."""
    query, key, _ = qkv_BSE.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 3, 0, 1, 4)  # (3, heads, B, S, d)
    query, key = attention.q_norm(query) * attention.scale, attention.k_norm(key)
    share_BSS = torch.zeros((), device=query.device)
    for head in range(attention.num_heads):
        share_BSS = share_BSS + torch.softmax(query[head] @ key[head].mT, dim=-1)
    return share_BSS / attention.num_heads


def _attentions(model: Finetune) -> list[Attention]:
    vit = model.backbone.network
    found = [getattr(block, "attn", None) for block in vit.blocks] if isinstance(vit, VisionTransformer) else []
    if not found or not all(isinstance(attention, Attention) for attention in found):
        raise ValueError(
            f"Rollout needs a plain ViT of timm, such as vit_small_patch16_224, and {model.backbone.architecture} is "
            "none; use grad_cam, or occlusion for a check that looks at no gradient."
        )
    return found
