"""A discrete autoencoder of radiographs, whose codes a masked autoencoder can predict."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn

from xrayssl.errors import UserError
from xrayssl.methods.base import Batch, Method
from xrayssl.tokenizer import Codes, cell_of

log = logging.getLogger(__name__)


class DVAE(Method):
    """Writes a film as one code per place of the backbone's grid, and paints it again from the codes (Ramesh et al.
    2021, arXiv:2102.12092, section 2.1).

    A run of it is what `MAEPretrain(target="tokens", tokenizer=...)` reads; that needs the same img_size and a grid
    equal to its own, so a ViT's patches must be equal. Training mixes codes by a Gumbel-softmax (Jang et al. 2017,
    arXiv:1611.01144) whose temperature falls; validation takes the likeliest code of each place, as a reader of the
    codes does. Where we depart from the paper: the error is a mean square, and the decoder is light.

    Args:
        codes: Size of the codebook, 2 or more.
        code_width: Features of a code and of the decoder.
        temperature: Of the Gumbel-softmax at the start, > 0.
        temperature_end: Where it ends, > 0; it falls by half a cosine.
        anneal: Share of the training in which it falls, in (0, 1].
        kl_weight: Of the divergence, in nats per place, of the codes' distribution from a uniform one: more keeps
            more codes in use, less paints better. On chest films 0.01 left 5 of 512 codes in use, 0.03 seven times as
            many.
        **kwargs: See `Method`.

    Raises:
        UserError: If a number is outside its range, or the grid does not divide the film.
    """

    def __init__(
        self,
        codes: int = 512,
        code_width: int = 128,
        temperature: float = 1.0,
        temperature_end: float = 0.0625,
        anneal: float = 0.5,
        kl_weight: float = 0.03,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check(codes, code_width, temperature, temperature_end, anneal, kl_weight)
        self.temperature, self.temperature_end, self.anneal = temperature, temperature_end, anneal
        self.kl_weight = kl_weight
        self.codes = Codes(self.backbone.width, codes, code_width, cell_of(self.backbone), self.backbone.in_chans)
        self.register_buffer("used_K", torch.zeros(codes), persistent=False)
        self._collapsed = False

    used_K: Tensor

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error of the painted film; in training also the codes' divergence from a uniform use."""
        image_BCHW = batch["image"]
        logits_BKhw = self.codes.logits(self.backbone(image_BCHW)).float()
        if not self.training:
            code_Bhw = logits_BKhw.argmax(dim=1)
            self.used_K += torch.bincount(code_Bhw.flatten(), minlength=len(self.used_K))
            return {"loss": self._error(self.codes.one_hot(code_Bhw), image_BCHW)}
        error = self._error(nn.functional.gumbel_softmax(logits_BKhw, self.heat, dim=1), image_BCHW)
        divergence = _divergence(logits_BKhw)
        return {"loss": error + self.kl_weight * divergence, "error": error, "divergence": divergence}

    @property
    def heat(self) -> float:
        """The temperature at this step."""
        fallen = min(1.0, self.progress / self.anneal)
        span = self.temperature - self.temperature_end
        return self.temperature_end + span * 0.5 * (1 + math.cos(math.pi * fallen))

    @torch.no_grad()
    def reconstruct(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Paints normalised films from their codes.

        Returns:
            reconstruction_BCHW, and mask_BCHW, which is False everywhere: nothing was hidden.
        """
        code_Bhw = self.codes.logits(self.backbone(image_BCHW)).argmax(dim=1)
        painted_BCHW = self.codes.decode(self.codes.one_hot(code_Bhw)).float()
        return painted_BCHW, torch.zeros_like(painted_BCHW, dtype=torch.bool)

    def _settings(self) -> dict[str, Any]:
        """Also how the codes are learned."""
        names = ("temperature", "temperature_end", "anneal", "kl_weight")
        return {**super()._settings(), **{f"model.{name}": getattr(self, name) for name in names}}

    def on_validation_epoch_start(self) -> None:
        """Counts the codes in use anew."""
        self.used_K.zero_()

    def on_validation_epoch_end(self) -> None:
        """Logs how many codes the validation films use, and how evenly; says it in words when they are too few."""
        used_K = self.trainer.strategy.reduce(self.used_K.clone(), reduce_op="sum")
        share_K = used_K / used_K.sum()
        perplexity = torch.exp(-torch.special.xlogy(share_K, share_K).sum())
        self.log("val/codes_used", (used_K > 0).float().sum(), sync_dist=False)
        self.log("val/perplexity", perplexity, prog_bar=True, sync_dist=False)
        collapsed = perplexity.item() < max(2.0, 0.02 * len(used_K))
        if collapsed and not self._collapsed and self.progress >= self.anneal:  # before, codes are still mixed
            log.warning(
                "The codebook has collapsed: the validation films use %d of %d codes, as unevenly as %.1f equal ones "
                "would be, so they tell next to nothing. Raise --model.kl_weight.",
                int((used_K > 0).sum()), len(used_K), perplexity.item(),
            )  # fmt: skip
        self._collapsed = collapsed and self.progress >= self.anneal

    def _error(self, share_BKhw: Tensor, image_BCHW: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.codes.decode(share_BKhw).float(), image_BCHW)


def _divergence(logits_BKhw: Tensor) -> Tensor:
    """Kullback-Leibler divergence of each place's distribution over the codes from a uniform one, mean in nats."""
    log_share_BKhw = logits_BKhw.log_softmax(dim=1)
    negative_entropy_Bhw = (log_share_BKhw.exp() * log_share_BKhw).sum(dim=1)
    return (negative_entropy_Bhw + math.log(logits_BKhw.shape[1])).mean()


def _check(codes: int, width: int, start: float, end: float, anneal: float, kl_weight: float) -> None:
    wrong = {
        f"codes must be 2 or more, not {codes}": codes < 2,
        f"code_width must be 1 or more, not {width}": width < 1,
        f"temperature and temperature_end must be above 0, not {start} and {end}": not (start > 0 and end > 0),
        f"anneal must be a share above 0 and up to 1, not {anneal}": not 0 < anneal <= 1,
        f"kl_weight must be 0 or more, not {kl_weight}": not kl_weight >= 0,
    }
    problems = [f"--model.{sentence}." for sentence, holds in wrong.items() if holds]
    if problems:
        raise UserError(*problems)
