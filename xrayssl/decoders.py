"""Decoders of masked autoencoders: what the hidden patches held is told from the visible ones."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from xrayssl.attention import attend, project, quicken
from xrayssl.patches import gather


class Decoder(nn.Module):
    """What decoders have in common: mask tokens with fixed positions, blocks, and a prediction for each token asked.

    Args:
        width: D of the encoder.
        grid: Rows and columns of patches.
        outputs: P, numbers predicted per patch.
        decoder_width: E, divisible by 4 and by the heads.
        depth: Number of blocks, 1-12.
        heads: Attention heads.

    Raises:
        ValueError: If depth, width and heads do not fit.
    """

    position_1LE: Tensor

    def __init__(
        self, width: int, grid: tuple[int, int], outputs: int, decoder_width: int = 512, depth: int = 8, heads: int = 16
    ) -> None:
        super().__init__()
        _check(decoder_width, depth, heads)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.register_buffer("position_1LE", sincos_positions(grid, decoder_width), persistent=False)
        self._lay(width, decoder_width, depth, heads)
        self.norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.predict = nn.Linear(decoder_width, outputs)
        nn.init.normal_(self.mask_token, std=0.02)
        self.apply(xavier)
        quicken(self)

    def _lay(self, width: int, decoder_width: int, depth: int, heads: int) -> None:
        """Makes the blocks, and what leads to them."""
        raise NotImplementedError

    def _ask(self, hidden_BM: Tensor) -> Tensor:
        """Mask tokens at their positions; expanded per film, for its gradient is then summed in two quick passes."""
        return self.mask_token.expand(len(hidden_BM), -1, -1) + gather(self.position_1LE, hidden_BM)


class MaskedDecoder(Decoder):
    """A small transformer that predicts hidden patches from visible tokens (He et al. 2021, arXiv:2111.06377).

    The sequence keeps visible tokens first and mask tokens last: a transformer does not care about order, its
    positions tell, so the tokens need not be put back in place and only hidden ones are predicted.

    See `Decoder` for the arguments.
    """

    def _lay(self, width: int, decoder_width: int, depth: int, heads: int) -> None:
        self.embed = nn.Linear(width, decoder_width)
        self.blocks = nn.Sequential(*(Block(decoder_width, heads, qkv_bias=True) for _ in range(depth)))

    def forward(self, encoded_BSD: Tensor, visible_BV: Tensor, hidden_BM: Tensor) -> Tensor:
        """Predicts hidden patches.

        Args:
            encoded_BSD: Class and register tokens, which have no position here, then the visible patches.
            visible_BV: Numbers of the visible patches.
            hidden_BM: Numbers of the patches to predict: all hidden ones or any of them.

        Returns:
            prediction_BMP in the order of hidden_BM.
        """
        seen_BSE = self._placed(encoded_BSD, visible_BV)
        asked_BME = self._ask(hidden_BM).to(seen_BSE.dtype)
        return self._answer(torch.cat([seen_BSE, asked_BME], dim=1), hidden_BM.shape[1])

    def refine(self, encoded_BSD: Tensor, visible_BV: Tensor, hidden_BM: Tensor) -> Tensor:
        """Predicts hidden patches for which the encoder has had mask tokens (He et al. 2021, table 1c).

        Args:
            encoded_BSD: Class and register tokens, visible patches, then all hidden ones.
            visible_BV: Numbers of the visible patches.
            hidden_BM: Numbers of the hidden patches.

        Returns:
            prediction_BMP in the order of hidden_BM.
        """
        sequence_BLE = self._placed(encoded_BSD, torch.cat([visible_BV, hidden_BM], dim=1))
        return self._answer(sequence_BLE, hidden_BM.shape[1])

    def _answer(self, sequence_BLE: Tensor, asked: int) -> Tensor:
        """Predictions for the last tokens; the last block works on nothing else, for nobody reads the others."""
        last: Any = self.blocks[-1]
        sequence_BLE = self.blocks[:-1](sequence_BLE)
        asked_BME = sequence_BLE[:, -asked:] + last.attn.answer(last.norm1(sequence_BLE), asked)
        return self.predict(self.norm(asked_BME + last.mlp(last.norm2(asked_BME))))

    def _placed(self, encoded_BSD: Tensor, place_BL: Tensor) -> Tensor:
        """Tokens in the decoder's width, with positions for all but the class and register tokens in front."""
        prefix = encoded_BSD.shape[1] - place_BL.shape[1]
        return self.embed(encoded_BSD) + nn.functional.pad(gather(self.position_1LE, place_BL), (0, 0, prefix, 0))


class CrossDecoder(Decoder):
    """Hidden patches ask, visible tokens answer, and no hidden patch sees another (CrossMAE: Fu et al. 2024,
    arXiv:2401.14391, section 3).

    A prediction does not depend on which other patches are asked for, so any part of the hidden patches may be
    decoded. Keys and values are the encoder's last tokens, which know their places; the paper's mixing of several
    encoder layers (section 3.3) is left out.

    See `Decoder` for the arguments.
    """

    def _lay(self, width: int, decoder_width: int, depth: int, heads: int) -> None:
        self.blocks = nn.ModuleList(CrossBlock(width, decoder_width, heads) for _ in range(depth))

    def forward(self, encoded_BSD: Tensor, visible_BV: Tensor, hidden_BM: Tensor) -> Tensor:
        """Predicts hidden patches.

        Args:
            encoded_BSD: Class and register tokens, then the visible patches.
            visible_BV: Numbers of the visible patches; not needed here, the tokens know their places.
            hidden_BM: Numbers of the patches to predict: all hidden ones or any of them.

        Returns:
            prediction_BMP in the order of hidden_BM.
        """
        asked_BME = self._ask(hidden_BM).to(encoded_BSD.dtype)
        for block in self.blocks:
            asked_BME = block(asked_BME, encoded_BSD)
        return self.predict(self.norm(asked_BME))


class CrossBlock(nn.Module):
    """Cross-attention and a perceptron, each after a layer norm and around a shortcut (arXiv:2401.14391, figure 4).

    Args:
        context_width: D of the tokens that answer.
        width: E of the tokens that ask, divisible by the heads.
        heads: Attention heads.
    """

    def __init__(self, context_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width, 2 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, asked_BME: Tensor, context_BSD: Tensor) -> Tensor:
        """The asking tokens, wiser."""
        query_BME = project(self.norm1(asked_BME), self.query.weight, self.query.bias)
        key_value = project(context_BSD, self.key_value.weight, self.key_value.bias)
        mixed_BME = attend(query_BME, key_value, self.heads)
        asked_BME = asked_BME + project(mixed_BME, self.project.weight, self.project.bias)
        return asked_BME + self.mlp(self.norm2(asked_BME))


def _check(width: int, depth: int, heads: int) -> None:
    if not 1 <= depth <= 12:
        raise ValueError(f"a decoder has 1 to 12 blocks, not {depth}")
    if width % heads:
        raise ValueError(f"a decoder width of {width} cannot be shared by {heads} heads")


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
