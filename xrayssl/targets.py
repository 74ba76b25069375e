"""What a masked autoencoder predicts of a hidden patch (He et al. 2021, arXiv:2111.06377, table 1d)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.masking import mask_of
from xrayssl.patches import gather, patchify, unpatchify
from xrayssl.tokenizer import Tokenizer

log = logging.getLogger(__name__)
Kind = Literal["pixels", "norm_pixels", "pca", "tokens"]


class Target(nn.Module):
    """The pixels of a patch; other targets descend from it.

    Args:
        patch: Height and width of a patch in pixels.
        channels: Of a film.
    """

    def __init__(self, patch: tuple[int, int], channels: int = 1) -> None:
        super().__init__()
        self.patch = patch
        self.width = channels * patch[0] * patch[1]
        """P, numbers to predict per patch."""

    def fit(self, films: Iterable[Tensor], total: Callable[[Tensor], Tensor] = lambda value: value) -> None:
        """Learns from the training films what it needs, before training starts; pixels need nothing.

        Args:
            films: Batches of normalised films, image_BCHW; read once, and only if needed.
            total: Sums a tensor over the processes.
        """

    def forward(self, image_BCHW: Tensor, hidden_BM: Tensor) -> Tensor:
        """What is to be predicted of hidden patches: target_BMP."""
        return gather(patchify(image_BCHW, self.patch), hidden_BM)

    def loss(self, prediction_BMP: Tensor, target_BMP: Tensor) -> Tensor:
        """How wrong a prediction is: the mean squared error."""
        return nn.functional.mse_loss(prediction_BMP.float(), target_BMP)

    def picture(self, prediction_BMP: Tensor, image_BCHW: Tensor, hidden_BM: Tensor) -> Tensor:
        """A prediction as normalised pixels, for people to look at.

        Args:
            prediction_BMP: For all hidden patches.
            image_BCHW: The normalised films as they are.
            hidden_BM: Numbers of the hidden patches.

        Returns:
            patches_BMP with P pixels.
        """
        return prediction_BMP.float()

    def filled(self, prediction_BMP: Tensor, image_BCHW: Tensor, hidden_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Films with their hidden patches as predicted.

        See `picture` for the arguments, and for what a prediction looks like.

        Returns:
            reconstruction_BCHW with visible patches as they are, and mask_BCHW, True where a patch was hidden.
        """
        true_BLP, sides = patchify(image_BCHW, self.patch), image_BCHW.shape[-2:]
        guess_BMP = self.picture(prediction_BMP, image_BCHW, hidden_BM)
        filled_BLP = true_BLP.scatter(1, hidden_BM[..., None].expand_as(guess_BMP), guess_BMP)
        mask_BLP = mask_of(hidden_BM, true_BLP.shape[1])[..., None].expand_as(true_BLP)
        grid = sides[0] // self.patch[0], sides[1] // self.patch[1]
        return unpatchify(filled_BLP, self.patch, grid), unpatchify(mask_BLP, self.patch, grid)


class NormPixels(Target):
    """Pixels standardised by their patch's own mean and variance (He et al. 2021, section 3, "reconstruction target").

    Args:
        patch: Height and width of a patch in pixels.
        channels: Of a film.
    """

    def forward(self, image_BCHW: Tensor, hidden_BM: Tensor) -> Tensor:
        """The standardised pixels: target_BMP."""
        patches_BMP = super().forward(image_BCHW, hidden_BM)
        mean_BM1, deviation_BM1 = _statistics(patches_BMP)
        return (patches_BMP - mean_BM1) / deviation_BM1

    def picture(self, prediction_BMP: Tensor, image_BCHW: Tensor, hidden_BM: Tensor) -> Tensor:
        """The prediction with the true patch's mean and variance: it shows structure, not brightness."""
        mean_BM1, deviation_BM1 = _statistics(super().forward(image_BCHW, hidden_BM))
        return prediction_BMP.float() * deviation_BM1 + mean_BM1


class PrincipalComponents(Target):
    """The largest principal components of patches (He et al. 2021, table 1d, "PCA": 96 of them).

    They are fitted on the training films, as these reach the network, in one pass, and lie in the checkpoint.

    Args:
        patch: Height and width of a patch in pixels.
        channels: Of a film.
        components: Number of coefficients, from 1 to the pixels of a patch.

    Raises:
        UserError: If a patch has not as many.
    """

    mean_P: Tensor
    axes_PK: Tensor

    def __init__(self, patch: tuple[int, int], channels: int = 1, components: int = 96) -> None:
        super().__init__(patch, channels)
        if not 1 <= components <= self.width:
            raise UserError(
                f"--model.pca_components: a patch of {patch[0]} x {patch[1]} px has 1 to {self.width} components, "
                f"not {components}; set a number in that range."
            )
        self.register_buffer("mean_P", torch.full((self.width,), torch.nan))
        self.register_buffer("axes_PK", torch.full((self.width, components), torch.nan))
        self.width, self._fitted = components, False

    @torch.no_grad()
    def fit(self, films: Iterable[Tensor], total: Callable[[Tensor], Tensor] = lambda value: value) -> None:
        """Sums patches and their products in double precision, and takes the leading eigenvectors of the covariance."""
        pixels = len(self.mean_P)
        sums = torch.zeros(pixels + 1, pixels + 1, dtype=torch.float64)
        for image_BCHW in films:
            patches_NP = patchify(image_BCHW, self.patch).flatten(0, 1)
            extended = nn.functional.pad(patches_NP, (0, 1), value=1.0)  # its products hold the sums and the count too
            sums += (extended.T @ extended).cpu().double()
        sums = total(sums)
        count, mean_P = sums[-1, -1], sums[-1, :-1] / sums[-1, -1]
        value_P, axis_PP = torch.linalg.eigh(sums[:-1, :-1] / count - mean_P.outer(mean_P))
        axes_PK = axis_PP.flip(1)[:, : self.width]
        strongest_1K = axes_PK.gather(0, axes_PK.abs().argmax(dim=0, keepdim=True))
        self.mean_P.copy_(mean_P)
        self.axes_PK.copy_(axes_PK * strongest_1K.sign())  # an eigenvector's sign means nothing; this one is settled
        share = (value_P.flip(0)[: self.width].sum() / value_P.sum()).item()
        log.info("%d principal components hold %.1f %% of the variance of %d patches.", self.width, 100 * share, count)

    def forward(self, image_BCHW: Tensor, hidden_BM: Tensor) -> Tensor:
        """The coefficients of hidden patches: target_BMP, the largest component first.

        Raises:
            RuntimeError: If the components have been neither fitted nor loaded.
        """
        if not self._fitted and self.mean_P.isnan().any():
            raise RuntimeError("The principal components are not fitted yet: call target.fit, or train by a Trainer.")
        self._fitted = True
        with torch.autocast(image_BCHW.device.type, enabled=False):  # a target is not rounded
            return (super().forward(image_BCHW, hidden_BM) - self.mean_P) @ self.axes_PK

    def picture(self, prediction_BMP: Tensor, image_BCHW: Tensor, hidden_BM: Tensor) -> Tensor:
        """The pixels that the coefficients describe; what other components hold is lost."""
        return prediction_BMP.float() @ self.axes_PK.T + self.mean_P


class Tokens(Target):
    """The codes of a discrete autoencoder (Bao et al. 2021, arXiv:2106.08254, section 2.3; its tokenizer sees the whole
    film).

    Args:
        patch: Height and width of a patch in pixels.
        tokenizer: Trained before; it gets the films with grey values 0-1, whatever normalises them here.
        backbone: Of the masked autoencoder, whose normalisation is undone.

    Raises:
        UserError: If the tokenizer gives not one code per patch of these films.
    """

    def __init__(self, patch: tuple[int, int], tokenizer: Tokenizer, backbone: Backbone) -> None:
        super().__init__(patch, backbone.in_chans)
        _check_fit(tokenizer.backbone, backbone)
        self.tokenizer = tokenizer
        self._films = (backbone,)  # in a tuple, since its weights are none of the target's
        self.width = tokenizer.codes.book.in_channels

    def forward(self, image_BCHW: Tensor, hidden_BM: Tensor) -> Tensor:
        """The codes of hidden patches: code_BM."""
        return self._encode(image_BCHW).gather(1, hidden_BM)

    def loss(self, prediction_BMP: Tensor, target_BMP: Tensor) -> Tensor:
        """Cross-entropy over the codes."""
        return nn.functional.cross_entropy(prediction_BMP.float().flatten(0, 1), target_BMP.flatten())

    def picture(self, prediction_BMP: Tensor, image_BCHW: Tensor, hidden_BM: Tensor) -> Tensor:
        """The likeliest codes among the visible patches' own, decoded."""
        code_BL = self._encode(image_BCHW).scatter(1, hidden_BM, prediction_BMP.argmax(dim=-1))
        normalised_BCHW = self._films[0].normalize(self.tokenizer.decode(code_BL))
        return super().forward(normalised_BCHW, hidden_BM)

    def _encode(self, image_BCHW: Tensor) -> Tensor:
        backbone = self._films[0]
        return self.tokenizer.encode(image_BCHW * backbone.std[:, None, None] + backbone.mean[:, None, None])


def _statistics(patches_BMP: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, (B, M, 1); a flat one has a deviation of 0.001."""
    variance_BM1, mean_BM1 = torch.var_mean(patches_BMP, dim=-1, keepdim=True)
    return mean_BM1, (variance_BM1 + 1e-6).sqrt()


def _check_fit(theirs: Backbone, ours: Backbone) -> None:
    facts = {
        "films of {} px": [" x ".join(map(str, one.img_size)) for one in (theirs, ours)],
        "a grid of {}": [" x ".join(map(str, one.grid_size)) for one in (theirs, ours)],
        "{} channel(s)": [str(one.in_chans) for one in (theirs, ours)],
    }
    wrong = [(words.format(there), words.format(here)) for words, (there, here) in facts.items() if there != here]
    if wrong:
        there, here = (", ".join(part) for part in zip(*wrong, strict=True))
        raise UserError(f"--model.tokenizer works on {there}, the model on {here}; train one that fits (dvae_chest).")
