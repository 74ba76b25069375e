"""Films per second of one MAE training step (forward, backward, AdamW): ours beside a plain implementation.

The plain step is a re-implementation, from the paper, of what He et al. 2021 describe as their implementation: every
patch is embedded and the visible ones are taken by an index that sorts random noise; the decoder gets the whole
sequence, put back in order with mask tokens, and predicts every patch. Same widths, depths, target and optimiser.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from xrayssl.heads import sincos_positions
from xrayssl.masking import Masking
from xrayssl.methods import MAEPretrain
from xrayssl.patches import patchify


class Plain(nn.Module):
    """The paper's step around the very same layers."""

    def __init__(self, ours: MAEPretrain) -> None:
        super().__init__()
        self.vit, self.decoder, self.ratio = ours.backbone.network, ours.decoder, ours.masking.ratio
        self.position = sincos_positions(ours.grid, ours.decoder.embed.out_features)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Loss of a batch."""
        tokens = self.vit.patch_embed(image_BCHW) + self.vit.pos_embed[:, 1:]
        batch, length, width = tokens.shape
        shuffle = torch.rand(batch, length).argsort(dim=1)
        restore, keep = shuffle.argsort(dim=1), length - round(self.ratio * length)
        visible = tokens.gather(1, shuffle[:, :keep, None].expand(-1, -1, width))
        prefix = (self.vit.cls_token + self.vit.pos_embed[:, :1]).expand(batch, -1, -1)
        latent = self.decoder.embed(self.vit.norm(self.vit.blocks(torch.cat([prefix, visible], dim=1))))
        masks = self.decoder.mask_token.to(latent.dtype).expand(batch, length - keep, -1)
        whole = torch.cat([latent[:, 1:], masks], dim=1)
        whole = whole.gather(1, restore[..., None].expand(-1, -1, whole.shape[2])) + self.position
        decoded = self.decoder.norm(self.decoder.blocks(torch.cat([latent[:, :1], whole], dim=1)))
        error = (self.decoder.predict(decoded)[:, 1:].float() - patchify(image_BCHW, (16, 16))) ** 2
        mask = (restore >= keep).float()
        return (error.mean(dim=-1) * mask).sum() / mask.sum()


def step(loss: Callable[[Tensor], Tensor], module: nn.Module, half: bool) -> Callable[[Tensor], float]:
    """One training step, returning its seconds."""
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], 1e-4)

    def run(image: Tensor) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            value = loss(image)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start

    return run


def main() -> None:
    """Measures and prints the figures, a JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ViT-Ti at 112 px, few rounds")
    parser.add_argument("--batch", type=int, default=64)
    wanted = parser.parse_args()
    size, rounds = (112, 3) if wanted.quick else (224, 8)
    name = "vit_tiny_patch16_224" if wanted.quick else "vit_small_patch16_224"
    ours = MAEPretrain(
        backbone=name, img_size=size, decoder_depth=2, decoder_width=512, norm_pix=False, masking=Masking(0.9)
    )
    steps = {
        "plain_fp32": step(Plain(ours), ours, half=False),
        "plain_bf16": step(Plain(ours), ours, half=True),
        "ours_bf16": step(lambda image: ours.losses({"image": image})["loss"], ours, half=True),
    }
    image = torch.randn(wanted.batch, 1, size, size)
    seconds: dict[str, list[float]] = {key: [] for key in steps}
    for number in range(rounds + 1):
        for key, run in steps.items():
            seconds[key] += [run(image)] * bool(number)
            sys.stderr.write(f"\rround {number}/{rounds} {key:<12}")
    rates = {key: wanted.batch / statistics.median(values) for key, values in seconds.items()}
    figures = {f"{key}_films_per_second": round(rate, 2) for key, rate in rates.items()}
    figures["over_reference_fp32"] = round(rates["ours_bf16"] / rates["plain_fp32"], 3)
    figures["over_reference_bf16"] = round(rates["ours_bf16"] / rates["plain_bf16"], 3)
    sys.stdout.write(f"\n{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
