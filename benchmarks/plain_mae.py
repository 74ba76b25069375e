"""The baseline of `mae_step.py`: a masked autoencoder written plainly, step for step as the paper describes it.

From He et al. 2021 (arXiv:2111.06377, section 3 and appendix A.1): every patch is embedded, random noise is sorted and
the tokens of the smallest values are kept; the decoder gets the whole sequence, put back in order with mask tokens and
positions; every patch is predicted, and the squared error is averaged over the hidden ones. Transformer blocks are the
usual ones: softmax attention written out, GELU, layer norm before each part. Nothing here is shared with the package.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention with the softmax written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens, mixed."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = ((q @ k.transpose(-2, -1)) / math.sqrt(width // self.heads)).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens, each for itself."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """A transformer block that normalises first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens after one block."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PlainMAE(nn.Module):
    """The masked autoencoder of the paper.

    Args:
        size: Side of the films in pixels.
        channels: 3 as published (grey films are repeated), or 1.
        width: Of the encoder.
        depth: Blocks of the encoder.
        heads: Of the encoder.
        decoder_width: Of the decoder.
        decoder_depth: Blocks of the decoder.
        decoder_heads: Of the decoder.
        norm_pix: Predict patches standardised by their own mean and variance.
    """

    def __init__(
        self, size: int, channels: int, width: int, depth: int, heads: int,
        decoder_width: int = 512, decoder_depth: int = 8, decoder_heads: int = 16, norm_pix: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        length, pixels = (size // 16) ** 2, 256 * channels
        self.channels, self.norm_pix = channels, norm_pix
        self.patch_embed = nn.Conv2d(channels, width, 16, 16)
        self.cls_token, self.mask_token = (nn.Parameter(torch.randn(1, 1, n) * 0.02) for n in (width, decoder_width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + length, width) * 0.02, requires_grad=False)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.decoder_pos_embed = nn.Parameter(torch.randn(1, 1 + length, decoder_width) * 0.02, requires_grad=False)
        self.decoder_blocks = nn.Sequential(*(Block(decoder_width, decoder_heads) for _ in range(decoder_depth)))
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_width, pixels)

    def forward(self, image_BCHW: Tensor, ratio: float) -> Tensor:
        """The loss of a batch of films (B, 1, H, W)."""
        image_BCHW = image_BCHW.expand(-1, self.channels, -1, -1)
        latent, mask_BL, restore_BL = self.encode(image_BCHW, ratio)
        error_BL = ((self.decode(latent, restore_BL) - self.target(image_BCHW)) ** 2).mean(dim=-1)
        return (error_BL * mask_BL).sum() / mask_BL.sum()

    def encode(self, image_BCHW: Tensor, ratio: float) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of the visible patches, the mask (1 is hidden), and where each patch stands in the shuffle."""
        x = self.patch_embed(image_BCHW).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        batch, length, width = x.shape
        keep = int(length * (1 - ratio))
        shuffle_BL = torch.rand(batch, length, device=x.device).argsort(dim=1)
        restore_BL = shuffle_BL.argsort(dim=1)
        x = torch.gather(x, 1, shuffle_BL[:, :keep, None].repeat(1, 1, width))
        mask_BL = torch.ones(batch, length, device=x.device)
        mask_BL[:, :keep] = 0
        first = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        return self.norm(self.blocks(torch.cat([first, x], dim=1))), mask_BL.gather(1, restore_BL), restore_BL

    def decode(self, latent: Tensor, restore_BL: Tensor) -> Tensor:
        """A prediction for every patch."""
        x = self.decoder_embed(latent)
        masks = self.mask_token.repeat(len(x), restore_BL.shape[1] + 1 - x.shape[1], 1)
        whole = torch.cat([x[:, 1:], masks], dim=1)
        whole = torch.gather(whole, 1, restore_BL[..., None].repeat(1, 1, x.shape[2]))
        x = torch.cat([x[:, :1], whole], dim=1) + self.decoder_pos_embed
        return self.decoder_pred(self.decoder_norm(self.decoder_blocks(x)))[:, 1:]

    def target(self, image_BCHW: Tensor) -> Tensor:
        """What is to be predicted: patches, rows before columns before channels."""
        batch, channels, height, _ = image_BCHW.shape
        side = height // 16
        patches = torch.einsum("nchpwq->nhwpqc", image_BCHW.reshape(batch, channels, side, 16, side, 16))
        target_BLP = patches.reshape(batch, side * side, 256 * channels)
        if self.norm_pix:
            mean, variance = target_BLP.mean(dim=-1, keepdim=True), target_BLP.var(dim=-1, keepdim=True)
            target_BLP = (target_BLP - mean) / (variance + 1e-6) ** 0.5
        return target_BLP
