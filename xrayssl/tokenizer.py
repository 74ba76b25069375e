"""A discrete variational autoencoder's halves: from a grid of features to codes, and from codes to a film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xrayssl import checkpoint
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.handoff import PREFIX
from xrayssl.patches import unpatchify


class Codes(nn.Module):
    """Logits over a codebook, the codebook, and a light convolutional decoder (Ramesh et al. 2021, arXiv:2102.12092,
    section 2.1; theirs is a deep ResNet).

    Args:
        width: D of the backbone.
        codes: Number of codes, K here.
        code_width: E, features of a code and of the decoder.
        cell: Height and width in pixels of what one code describes.
        channels: Of a film.
    """

    def __init__(self, width: int, codes: int, code_width: int, cell: tuple[int, int], channels: int = 1) -> None:
        super().__init__()
        self.cell = cell
        self.logits = nn.Conv2d(width, codes, 1)
        self.book = nn.Conv2d(codes, code_width, 1, bias=False)
        self.blocks = nn.Sequential(Residual(code_width), Residual(code_width))
        self.pixels = nn.Conv2d(code_width, channels * cell[0] * cell[1], 1)
        nn.init.normal_(self.book.weight)  # a code is a column: features of unit variance, however many codes

    def one_hot(self, code_Bhw: Tensor) -> Tensor:
        """Codes as shares: share_BKhw, 1 at the code and 0 elsewhere."""
        return nn.functional.one_hot(code_Bhw, self.book.in_channels).movedim(-1, 1).to(self.book.weight.dtype)

    def decode(self, share_BKhw: Tensor) -> Tensor:
        """The normalised film that codes, or mixtures of them, stand for: image_BCHW."""
        pixels_BPhw = self.pixels(self.blocks(self.book(share_BKhw)))
        grid = (pixels_BPhw.shape[2], pixels_BPhw.shape[3])
        return unpatchify(pixels_BPhw.flatten(2).transpose(1, 2), self.cell, grid)


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, so that neighbouring codes shape a patch together.

    Args:
        width: Of the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(2)]
        self.change = nn.Sequential(nn.GELU(), convolutions[0], nn.GELU(), convolutions[1])

    def forward(self, x_BEhw: Tensor) -> Tensor:
        """The features, changed a little."""
        return x_BEhw + self.change(x_BEhw)


class Tokenizer(nn.Module):
    """A trained autoencoder as a fixed translator between films and codes.

    Args:
        backbone: Its encoder, which normalises as it was trained to.
        codes: The rest of it.
    """

    def __init__(self, backbone: Backbone, codes: Codes) -> None:
        super().__init__()
        self.backbone, self.codes = backbone, codes
        self.requires_grad_(False).eval()

    def train(self, training: bool = True) -> Tokenizer:
        """Stays in evaluation: what a film's codes are must not change."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, grey_BCHW: Tensor) -> Tensor:
        """The code of each place of films with grey values 0-1: code_BL in raster order."""
        grid_BDhw = self.backbone(self.backbone.normalize(grey_BCHW))
        return self.codes.logits(grid_BDhw).argmax(dim=1).flatten(1)

    @torch.no_grad()
    def decode(self, code_BL: Tensor) -> Tensor:
        """The film that codes stand for, with grey values of about 0-1: grey_BCHW."""
        image_BCHW = self.codes.decode(self.codes.one_hot(code_BL.unflatten(1, self.backbone.grid_size))).float()
        return image_BCHW * self.backbone.std[:, None, None] + self.backbone.mean[:, None, None]


def load(path: str | Path) -> Tokenizer:
    """Reads the tokenizer that a run of `DVAE` has trained; nothing in the file is executed.

    Args:
        path: The run's folder, or a checkpoint of it.

    Raises:
        UserError: If there is no such file, it is damaged, or it is of another method.
    """
    file = locate(path)
    content = checkpoint.load(file)
    header, state = content.get("xrayssl"), content.get("state_dict")
    if not isinstance(header, dict) or not isinstance(state, dict) or "codes.logits.weight" not in state:
        raise UserError(f"{file}: no tokenizer, which is a checkpoint of DVAE (xrayssl fit --config dvae_chest).")
    try:
        return _filled(header["backbone"], state)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file}: this tokenizer's parts do not fit together ({reason}).") from None


def locate(path: str | Path) -> Path:
    """The checkpoint that a tokenizer's path means.

    Raises:
        UserError: If there is none.
    """
    path = Path(path)
    file = path / "checkpoints" / "last.ckpt" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file}: there is no such file; model.tokenizer wants a run of DVAE or a checkpoint of one.")
    return file


def _filled(facts: dict[str, Any], state: dict[str, Tensor]) -> Tokenizer:
    """Builds the parts in the sizes that the tensors have, and fills them."""
    backbone = Backbone(facts["architecture"], tuple(facts["img_size"]), facts["in_chans"])
    backbone.mean.copy_(torch.tensor(facts["mean"]))
    backbone.std.copy_(torch.tensor(facts["std"]))
    code_width, count = state["codes.book.weight"].shape[:2]
    codes = Codes(backbone.width, count, code_width, cell_of(backbone), backbone.in_chans)
    for part, prefix in ((backbone.network, PREFIX), (codes, "codes.")):
        part.load_state_dict({name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)})
    return Tokenizer(backbone, codes)


def cell_of(backbone: Backbone) -> tuple[int, int]:
    """Height and width in pixels of one place of a backbone's grid.

    Raises:
        UserError: If the grid does not divide the film.
    """
    (height, width), (rows, columns) = backbone.img_size, backbone.grid_size
    if height % rows or width % columns:
        raise UserError(
            f"{backbone.architecture} gives {rows} x {columns} places for {height} x {width} px, which is no whole "
            "number of pixels each; set --data.img_size."
        )
    return height // rows, width // columns
