"""What stands on a backbone: pooling with a linear layer, and the decoder of masked autoencoders."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from xrayssl.patches import gather


class LinearHead(nn.Module):
    """Mean over the grid, then one linear layer, so that Grad-CAM equals closed-form CAM.

    Args:
        width: D of the backbone.
        outputs: Number of logits.
        standardize: Batch norm without affine before the layer, as linear probes of masked autoencoders want
            (He et al. 2021, arXiv:2111.06377, appendix A.1).
    """

    def __init__(self, width: int, outputs: int, standardize: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if standardize else nn.Identity()
        self.linear = nn.Linear(width, outputs)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, grid_BDhw: Tensor) -> Tensor:
        """Logits (B, outputs)."""
        return self.linear(self.norm(grid_BDhw.mean(dim=(2, 3))))


class MaskedDecoder(nn.Module):
    """A small transformer that predicts hidden patches from visible tokens (He et al. 2021, arXiv:2111.06377).

    The sequence keeps visible tokens first and mask tokens last: a transformer does not care about order, its
    positions tell, so the tokens need not be put back in place and only hidden ones are predicted.

    Args:
        width: D of the encoder.
        grid: Rows and columns of patches.
        outputs: P, numbers predicted per patch.
        decoder_width: E, divisible by 4 and by the heads.
        depth: Number of transformer blocks, 1-12.
        heads: Attention heads.

    Raises:
        ValueError: If depth, width and heads do not fit.
    """

    position_1LE: Tensor

    def __init__(
        self, width: int, grid: tuple[int, int], outputs: int, decoder_width: int = 512, depth: int = 8, heads: int = 16
    ) -> None:
        super().__init__()
        if not 1 <= depth <= 12:
            raise ValueError(f"a decoder has 1 to 12 blocks, not {depth}")
        if decoder_width % heads:
            raise ValueError(f"a decoder width of {decoder_width} cannot be shared by {heads} heads")
        self.embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.register_buffer("position_1LE", sincos_positions(grid, decoder_width), persistent=False)
        self.blocks = nn.Sequential(*(Block(decoder_width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.predict = nn.Linear(decoder_width, outputs)
        nn.init.normal_(self.mask_token, std=0.02)
        self.apply(xavier)

    def forward(self, encoded_BSD: Tensor, visible_BV: Tensor, hidden_BM: Tensor) -> Tensor:
        """Predicts hidden patches.

        Args:
            encoded_BSD: Class and register tokens, which have no position here, then the visible patches.
            visible_BV: Numbers of the visible patches.
            hidden_BM: Numbers of the hidden patches.

        Returns:
            prediction_BMP in the order of hidden_BM.
        """
        tokens_BSE, prefix = self.embed(encoded_BSD), encoded_BSD.shape[1] - visible_BV.shape[1]
        seen_BSE = tokens_BSE + nn.functional.pad(gather(self.position_1LE, visible_BV), (0, 0, prefix, 0))
        asked_BME = (self.mask_token + gather(self.position_1LE, hidden_BM)).to(tokens_BSE.dtype)
        sequence = self.blocks(torch.cat([seen_BSE, asked_BME], dim=1))
        return self.predict(self.norm(sequence[:, encoded_BSD.shape[1] :]))


def xavier(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for linear layers (Glorot & Bengio 2010), as masked autoencoders take."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed two-dimensional sine-cosine positions (Vaswani et al. 2017, section 3.5; one half per axis).

    Args:
        grid: Rows and columns.
        width: Divisible by 4.

    Returns:
        position_1LD in raster order.

    Raises:
        ValueError: If the width is not divisible by 4.
    """
    if width % 4:
        raise ValueError(f"sine-cosine positions need a width divisible by 4, not {width}")
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequency for axis in (columns, rows)]
    position_LD = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return position_LD[None].float()
