"""One vector per film by a frozen backbone: what probes, health and embeddings look at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from xrayssl.backbone import Backbone
from xrayssl.batchnorm import pool_batch_norms, recalibrate
from xrayssl.errors import UserError

Pool = Literal["mean", "class"]


def pooled(backbone: Backbone, image_BCHW: Tensor, pool: Pool = "mean") -> Tensor:
    """Features of a batch of films.

    Args:
        backbone: In evaluation.
        image_BCHW: Grey values as they come from the data, uint8.
        pool: "mean" of the last feature map, which every network has and heads are trained on here; or the "class"
            token of a ViT, which those of DINO, MoCo v3 and supervised training speak through.

    Returns:
        feature_BD, float32 on the CPU.
    """
    film_BCHW = backbone.normalize(image_BCHW.to(backbone.mean.device))
    if pool == "class":
        rows, columns = backbone.grid_size
        every_BL = torch.arange(rows * columns, device=film_BCHW.device).expand(len(film_BCHW), -1)
        return backbone.encode_visible(film_BCHW, every_BL)[:, 0].float().cpu()
    # past torch.compile, which would compile anew for this mode and these sizes
    return backbone.forward(film_BCHW).float().mean(dim=(2, 3)).cpu()


def check_pool(backbone: Backbone, pool: Pool) -> None:
    """Whether a backbone has what is pooled.

    Raises:
        UserError: If it has no class token.
    """
    if pool == "class" and not (backbone.is_vit and backbone.network.cls_token is not None):
        raise UserError(f"--pool class: {backbone.architecture} has no class token; leave it out to pool by mean.")


def unsettled(backbone: Backbone) -> bool:
    """Whether an untrained network needs running statistics before it gives the features that it can."""
    return any(isinstance(part, nn.BatchNorm2d) for part in backbone.modules())


def settle(backbone: Backbone, images: Iterable[Tensor]) -> None:
    """Measures running statistics of an untrained CNN: without them its maps grow or die from layer to layer, and as a
    baseline it would be too easily beaten.

    Args:
        backbone: In evaluation.
        images: Batches of films, uint8 (B, C, H, W).
    """
    pool_batch_norms(backbone)
    device = backbone.mean.device
    recalibrate(backbone, (backbone.normalize(image_BCHW.to(device)) for image_BCHW in images))
