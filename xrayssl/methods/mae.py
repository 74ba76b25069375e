"""Masked autoencoding of radiographs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xrayssl.heads import MaskedDecoder, sincos_positions, xavier
from xrayssl.masking import Masking, hidden_count, mask_of
from xrayssl.methods.base import Batch, Method
from xrayssl.patches import gather, patchify, unpatchify


class MAEPretrain(Method):
    """Hides most patches of a film and learns to predict them (He et al. 2021, arXiv:2111.06377).

    With 90 % hidden, as on radiographs (Xiao et al. 2022, arXiv:2210.12843). Where we depart from the original
    code: patches are gathered before they are embedded, the decoder predicts only hidden patches, and its sequence
    is not put back in order. The numbers are the same; the work is less.

    Args:
        masking: Which patches are hidden.
        decoder_width: E of the decoder.
        decoder_depth: Transformer blocks of the decoder, 1-12.
        decoder_heads: Its attention heads.
        norm_pix: Predict patches standardised by their own mean and variance (section 4, "reconstruction target").
        **kwargs: See `Method`.

    Raises:
        ValueError: If the backbone is no ViT, or the ratio leaves nothing to see or to predict.
    """

    def __init__(
        self,
        masking: Masking = Masking(),  # noqa: B008 - frozen
        decoder_width: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        norm_pix: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.masking, self.norm_pix = masking, norm_pix
        self.patch, self.grid = self.backbone.patch_size, self.backbone.grid_size
        hidden_count(self.grid[0] * self.grid[1], masking.ratio)
        pixels = self.backbone.in_chans * self.patch[0] * self.patch[1]
        self.decoder = MaskedDecoder(
            self.backbone.width, self.grid, pixels, decoder_width, decoder_depth, decoder_heads
        )
        if kwargs.get("compile"):
            self.decoder.compile()
        if self.init_from is None:
            _start_encoder(self.backbone.network, self.grid)
        self.backbone.network.pos_embed.requires_grad_(False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over the hidden patches."""
        image_BCHW = batch["image"]
        visible_BV, hidden_BM = self.masking.draw(self.grid, len(image_BCHW), image_BCHW.device)
        prediction_BMP = self.predict_hidden(image_BCHW, visible_BV, hidden_BM)
        target_BMP = self.target(gather(patchify(image_BCHW, self.patch), hidden_BM))
        return {"loss": nn.functional.mse_loss(prediction_BMP.float(), target_BMP)}

    def predict_hidden(self, image_BCHW: Tensor, visible_BV: Tensor, hidden_BM: Tensor) -> Tensor:
        """Predictions for the hidden patches from the visible ones: prediction_BMP."""
        return self.decoder(self.backbone.encode_visible(image_BCHW, visible_BV), visible_BV, hidden_BM)

    def target(self, patches_BMP: Tensor) -> Tensor:
        """What is to be predicted: the pixels, standardised per patch if `norm_pix`."""
        if not self.norm_pix:
            return patches_BMP
        variance_BM1, mean_BM1 = torch.var_mean(patches_BMP, dim=-1, keepdim=True)
        return (patches_BMP - mean_BM1) / (variance_BM1 + 1e-6).sqrt()

    @torch.no_grad()
    def reconstruct(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Hides patches of normalised films and fills them with what the network expects there.

        A prediction of standardised patches is put back to the true patch's mean and variance: it shows structure,
        not brightness.

        Returns:
            reconstruction_BCHW with visible patches as they are, and mask_BCHW, True where a patch was hidden.
        """
        visible_BV, hidden_BM = self.masking.draw(self.grid, len(image_BCHW), image_BCHW.device)
        patches_BLP = patchify(image_BCHW, self.patch)
        true_BMP = gather(patches_BLP, hidden_BM)
        guess_BMP = self.predict_hidden(image_BCHW, visible_BV, hidden_BM).float()
        if self.norm_pix:
            variance_BM1, mean_BM1 = torch.var_mean(true_BMP, dim=-1, keepdim=True)
            guess_BMP = guess_BMP * (variance_BM1 + 1e-6).sqrt() + mean_BM1
        filled_BLP = patches_BLP.scatter(1, hidden_BM[..., None].expand_as(guess_BMP), guess_BMP)
        mask_BLP = mask_of(hidden_BM, patches_BLP.shape[1])[..., None].expand_as(patches_BLP)
        return unpatchify(filled_BLP, self.patch, self.grid), unpatchify(mask_BLP, self.patch, self.grid)


def _start_encoder(vit: Any, grid: tuple[int, int]) -> None:
    """Fixed sine-cosine positions and Xavier-uniform layers, the patch embedding counted as a linear layer."""
    position_1LD = sincos_positions(grid, vit.pos_embed.shape[-1])
    with torch.no_grad():
        vit.pos_embed.zero_()[:, vit.pos_embed.shape[1] - position_1LD.shape[1] :] = position_1LD
    vit.apply(xavier)
    nn.init.xavier_uniform_(vit.patch_embed.proj.weight.view(vit.patch_embed.proj.weight.shape[0], -1))
