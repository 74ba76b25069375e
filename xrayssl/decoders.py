"""Decoders of masked autoencoders: what the hidden patches held is told from the visible ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from xrayssl.attention import attend, project, quicken
from xrayssl.errors import refuse
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
        UserError: If depth, width and heads do not fit: with every mistake at once.
    """

    position_1LE: Tensor

    def __init__(
        self, width: int, grid: tuple[int, int], outputs: int, decoder_width: int = 512, depth: int = 8, heads: int = 16
    ) -> None:
        super().__init__()
        refuse(mistakes(decoder_width, depth, heads))
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
    decoded.

    Args:
        width: See `Decoder`, for what follows, too.
        layers: Number of the encoder's maps that each block mixes, with weights of its own, into the tokens that it
            asks (inter-block attention: arXiv:2401.14391, section 3.3); 0 asks the encoder's last map in every block.
    """

    def __init__(self, width: int, *sizes: Any, layers: int = 0, **kwargs: Any) -> None:
        super().__init__(width, *sizes, **kwargs)
        if layers:
            depth = len(self.blocks)
            self.mix_NO = nn.Parameter(torch.full((layers, depth), 1 / layers))
            self.mixed_norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(depth))

    def _lay(self, width: int, decoder_width: int, depth: int, heads: int) -> None:
        self.blocks = nn.ModuleList(CrossBlock(width, decoder_width, heads) for _ in range(depth))

    def forward(self, encoded: Tensor | list[Tensor], visible_BV: Tensor, hidden_BM: Tensor) -> Tensor:
        """Predicts hidden patches.

        Args:
            encoded: Class and register tokens, then the visible patches, (B, S, D); with `layers`, as many of them.
            visible_BV: Numbers of the visible patches; not needed here, the tokens know their places.
            hidden_BM: Numbers of the patches to predict: all hidden ones or any of them.

        Returns:
            prediction_BMP in the order of hidden_BM.
        """
        contexts = self._mixed(encoded) if isinstance(encoded, list) else [encoded] * len(self.blocks)
        asked_BME = self._ask(hidden_BM).to(contexts[0].dtype)
        for block, context_BSD in zip(self.blocks, contexts, strict=True):
            asked_BME = block(asked_BME, context_BSD)
        return self.predict(self.norm(asked_BME))

    def _mixed(self, maps: list[Tensor]) -> list[Tensor]:
        """For each block a weighted sum of the encoder's maps, normalised."""
        mixed_OBSD = torch.einsum("nbsd,no->obsd", torch.stack(maps), self.mix_NO)
        return [norm(map_BSD) for norm, map_BSD in zip(self.mixed_norms, mixed_OBSD, strict=True)]


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


def mistakes(width: int, depth: int, heads: int) -> list[str]:
    """A sentence for each size of a decoder that cannot be."""
    found = []
    if not 1 <= depth <= 12:
        found.append(f"--model.decoder_depth: a decoder has 1 to 12 blocks, not {depth}; set a number in that range.")
    if heads < 1:
        return [*found, f"--model.decoder_heads: a decoder has 1 or more heads, not {heads}; 16 are usual."]
    step = math.lcm(4, heads)  # positions are waves along two axes, a sine and a cosine each
    if width < 1 or width % step:
        below = max(width, 0) // step * step
        nearest = f"{below} or {below + step}" if below else f"{step}"
        found.append(
            f"--model.decoder_width: a width of {width} cannot be shared by {heads} heads and divided by 4; set "
            f"{nearest}, or other --model.decoder_heads."
        )
    return found


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
        raise ValueError(f"Sine-cosine positions need a width divisible by 4, not {width}.")
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * frequency for axis in (columns, rows)]
    position_LD = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return position_LD[None].float()
