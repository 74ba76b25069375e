"""Masked autoencoding of radiographs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from xrayssl import decoders, handoff, targets, tokenizer
from xrayssl.decoders import CrossDecoder, MaskedDecoder, sincos_positions, xavier
from xrayssl.errors import noting, refuse
from xrayssl.masking import Masking
from xrayssl.methods.base import Batch, Method
from xrayssl.recomputing import recompute_blocks


class MAEPretrain(Method):
    """Hides most patches of a film and learns to predict them (He et al. 2021, arXiv:2111.06377).

    With 90 % hidden, as on radiographs (Xiao et al. 2022, arXiv:2210.12843). Where we depart from the original
    code: patches are gathered before they are embedded, the decoder predicts only hidden patches, and its sequence
    is not put back in order. The numbers are the same; the work is less.

    Args:
        masking: Which patches are hidden. Validation hides as the training does at its end.
        decoder: "self" (mask tokens and visible tokens attend to all) or "cross" (mask tokens attend to visible ones:
            Fu et al. 2024, arXiv:2401.14391).
        decoder_width: E of the decoder.
        decoder_depth: Transformer blocks of the decoder, 1-12.
        decoder_heads: Its attention heads.
        decode_fraction: Share of the hidden patches that a training step predicts, drawn at random, in (0, 1] (Fu et
            al. 2024, section 3.2; meant for "cross", whose predictions do not depend on each other).
        decoder_fusion: For "cross": each block of the decoder asks its own weighted sum of what all blocks of the
            encoder gave, instead of the last one's tokens (Fu et al. 2024, section 3.3).
        encoder_mask_tokens: The encoder sees a learned token in place of each hidden patch, as in He et al. 2021,
            table 1c: slower, and worse there.
        target: What is predicted: "pixels", "norm_pixels" (standardised patch by patch), "pca" (the largest principal
            components, fitted on the training films) or "tokens" (codes of a trained tokenizer).
        pca_components: For "pca": number of coefficients.
        tokenizer: For "tokens": run or checkpoint of the method `DVAE`.
        **kwargs: See `Method`.

    Raises:
        UserError: If the backbone is no ViT, the ratio leaves nothing to see or to predict, options do not go together,
            or a file cannot be used: with every mistake at once.
    """

    networks: ClassVar[tuple[str, ...]] = ("ViT",)
    remedy: ClassVar[str] = (
        "A masked autoencoder may pass through this in its first steps: go on while the loss falls; else lower "
        "--model.optim.lr, or let it warm up longer (--model.optim.warmup_epochs)."
    )
    needs: ClassVar[tuple[str, ...]] = ("a run of `DVAE` for the target `tokens`: `--model.tokenizer`",)

    def __init__(
        self,
        masking: Masking = Masking(),  # noqa: B008 - frozen
        decoder: Literal["self", "cross"] = "self",
        decoder_width: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        decode_fraction: float = 1.0,
        decoder_fusion: bool = False,
        encoder_mask_tokens: bool = False,
        target: targets.Kind = "norm_pixels",
        pca_components: int = 96,
        tokenizer: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        found = _mistakes(decoder, decode_fraction, decoder_fusion, encoder_mask_tokens)
        found += [*_target_mistakes(target, tokenizer), *decoders.mistakes(decoder_width, decoder_depth, decoder_heads)]
        self.masking, self.decode_fraction, self.tokenizer = masking, decode_fraction, tokenizer
        with noting(found):
            self.patch, self.grid = self.backbone.patch_size, self.backbone.grid_size
            with noting(found):
                masking.check(self.grid)
            self.target = self._target(target, pca_components)
        refuse(found)
        self.decoder_fusion = decoder_fusion
        sizes = (self.backbone.width, self.grid, self.target.width, decoder_width, decoder_depth, decoder_heads)
        layers = 1 + len(self.backbone.network.blocks) if decoder_fusion else 0
        self.decoder = CrossDecoder(*sizes, layers=layers) if decoder == "cross" else MaskedDecoder(*sizes)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.backbone.width)) if encoder_mask_tokens else None
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)
            self.decoder.mask_token.requires_grad_(False)  # the encoder's stands in its place
        if self.grad_checkpointing:
            recompute_blocks(self.decoder)
        if kwargs.get("compile"):
            self.decoder.compile()
        if self.init_from is None:
            _start_encoder(self.backbone.network, self.grid)
        self.backbone.network.pos_embed.requires_grad_(False)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error of the predicted hidden patches; for the target "tokens" cross-entropy over the codes."""
        image_BCHW = batch["image"]
        visible_BV, hidden_BM = self._draw(image_BCHW)
        if self.training:
            hidden_BM = _some(hidden_BM, self.decode_fraction)
        prediction_BMP = self.predict_hidden(image_BCHW, visible_BV, hidden_BM)
        return {"loss": self.target.loss(prediction_BMP, self.target(image_BCHW, hidden_BM))}

    def predict_hidden(self, image_BCHW: Tensor, visible_BV: Tensor, hidden_BM: Tensor) -> Tensor:
        """Predictions for hidden patches from the visible ones: prediction_BMP."""
        if self.mask_token is None:
            encode = self.backbone.encode_layers if self.decoder_fusion else self.backbone.encode_visible
            return self.decoder(encode(image_BCHW, visible_BV), visible_BV, hidden_BM)
        encoded_BSD = self.backbone.encode_masked(image_BCHW, visible_BV, hidden_BM, self.mask_token)
        assert isinstance(self.decoder, MaskedDecoder)
        return self.decoder.refine(encoded_BSD, visible_BV, hidden_BM)

    @torch.no_grad()
    def reconstruct(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Hides patches of normalised films and fills them with what the network expects there.

        Returns:
            reconstruction_BCHW and mask_BCHW; see the target's `filled`.
        """
        visible_BV, hidden_BM = self._draw(image_BCHW)
        return self.target.filled(self.predict_hidden(image_BCHW, visible_BV, hidden_BM), image_BCHW, hidden_BM)

    def start(self) -> None:
        """Takes the weights that `init_from` names, and counts the tokenizer among the ancestors."""
        super().start()
        if self.tokenizer is not None:
            origin = {"method": "DVAE", "sha256": handoff.sha256(tokenizer.locate(self.tokenizer))}
            self.parents = [origin, *self.parents]

    def on_fit_start(self) -> None:
        """Lets the target learn from the training films what it needs; a resumed run has that in its checkpoint."""
        if not self._resumed:
            self.target.fit(self._films(), self._total)

    def _draw(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        progress = self.progress if self.training else 1.0
        return self.masking.draw(self.grid, len(image_BCHW), image_BCHW.device, progress)

    def _target(self, kind: targets.Kind, components: int) -> targets.Target:
        channels = self.backbone.in_chans
        if kind == "pca":
            return targets.PrincipalComponents(self.patch, channels, components)
        if kind == "tokens" and self.tokenizer is not None:
            return targets.Tokens(self.patch, tokenizer.load(self.tokenizer), self.backbone)
        return (targets.NormPixels if kind == "norm_pixels" else targets.Target)(self.patch, channels)

    def _films(self) -> Iterator[Tensor]:
        """The normalised training films of one epoch, batch by batch."""
        loader: Any = self.trainer.train_dataloader
        for batch in islice(loader, int(self.trainer.num_training_batches)):
            yield self.backbone.normalize(batch["image"].to(self.device))

    def _total(self, value: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.trainer.world_size == 1:
            return value
        return self.trainer.strategy.reduce(value.to(self.device), reduce_op="sum").to(value.device)

    def _settings(self) -> dict[str, Any]:
        """Also how films are masked, and what is predicted."""
        masking = {f"model.masking.{name}": value for name, value in self.masking.settings().items()}
        ours = {"model.decode_fraction": self.decode_fraction, "model.target": type(self.target).__name__}
        return {**super()._settings(), **masking, **ours}


def _some(hidden_BM: Tensor, fraction: float) -> Tensor:
    """A random share of each film's hidden patches, at least one, in ascending order."""
    if fraction == 1:
        return hidden_BM
    batch, hidden = hidden_BM.shape
    order_BM = torch.rand(batch, hidden, device=hidden_BM.device).argsort(dim=1)
    return hidden_BM.gather(1, order_BM[:, : max(1, round(fraction * hidden))].sort(dim=1).values)


def _mistakes(decoder: str, fraction: float, fusion: bool, mask_tokens: bool) -> list[str]:
    """A sentence for each choice of what is decoded, and from what, that cannot be."""
    found = []
    if not 0 < fraction <= 1:
        found.append(f"--model.decode_fraction must be a share above 0 and up to 1, not {fraction}.")
    if fusion and decoder != "cross":
        found.append(f"--model.decoder_fusion needs --model.decoder cross, not {decoder}.")
    if mask_tokens and (decoder != "self" or fraction < 1):
        found.append("--model.encoder_mask_tokens needs --model.decoder self and --model.decode_fraction 1.")
    return found


def _target_mistakes(target: str, path: str | None) -> list[str]:
    if target == "tokens" and path is None:
        return ["--model.target tokens needs --model.tokenizer RUN, a run of: xrayssl fit --config dvae_chest."]
    if target != "tokens" and path is not None:
        return [f"--model.tokenizer goes with --model.target tokens, not {target}; leave it out or set the target."]
    return []


def _start_encoder(vit: Any, grid: tuple[int, int]) -> None:
    """Fixed sine-cosine positions, Xavier-uniform layers, the patch embedding counted as a linear layer, and class and
    register tokens as wide as mask tokens."""
    position_1LD = sincos_positions(grid, vit.pos_embed.shape[-1])
    with torch.no_grad():
        vit.pos_embed.zero_()[:, vit.pos_embed.shape[1] - position_1LD.shape[1] :] = position_1LD
    vit.apply(xavier)
    for token in (vit.cls_token, vit.reg_token):
        if token is not None:
            nn.init.normal_(token, std=0.02)
    nn.init.xavier_uniform_(vit.patch_embed.proj.weight.view(vit.patch_embed.proj.weight.shape[0], -1))
