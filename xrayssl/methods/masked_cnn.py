"""Masked image modelling for convolutional networks."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from xrayssl.batchnorm import pool_batch_norms
from xrayssl.errors import UserError
from xrayssl.masking import Masking
from xrayssl.methods.base import Batch, Method
from xrayssl.patches import gather, patchify
from xrayssl.pyramid import PyramidDecoder
from xrayssl.sparse import Cells, SparseForward, check, pyramid
from xrayssl.targets import NormPixels, Target


class MaskedCNNPretrain(Method):
    """Hides cells of a film and predicts them from what a convolutional network makes of the rest.

    `hiding: sparse` is SparK (Tian et al. 2023, arXiv:2301.03580): hidden cells do not exist for the network, and its
    statistics are of visible positions. `hiding: zeros` with `cell: 16`, ratio 0.75, `target: pixels` and `loss_on:
    all` is the U-Net that Xiao et al. 2022 (arXiv:2210.12843) trained for DenseNet-121: an ordinary network sees films
    with holes. Both share one decoder, which is lighter than theirs; see `PyramidDecoder`.

    Args:
        masking: Which cells are hidden. Validation hides as the training does at its end.
        hiding: "sparse" (hidden cells are not there) or "zeros" (they are grey).
        cell: Side of a cell in pixels; null is the stride of the network's coarsest map. For "sparse" a multiple of it.
        decoder_width: Channels of the decoder at the coarsest map; every finer one has half as many.
        finest: Stride of the finest map that the decoder uses.
        target: "norm_pixels" standardises every cell by its own mean and variance, "pixels" does not.
        loss_on: "hidden" cells or "all".
        whole_batches: See `Method.whole_batches`. Checkpoints have the statistics of the training.
        **kwargs: See `Method`.

    Raises:
        UserError: If the cells do not fit the films, or the network cannot be made sparse.
        ValueError: If the ratio leaves nothing to see or to predict.
    """

    networks: ClassVar[tuple[str, ...]] = ("CNN",)

    def __init__(
        self,
        masking: Masking = Masking(ratio=0.6),  # noqa: B008 - frozen
        hiding: Literal["sparse", "zeros"] = "sparse",
        cell: int | None = None,
        decoder_width: int = 512,
        finest: int = 4,
        target: Literal["norm_pixels", "pixels"] = "norm_pixels",
        loss_on: Literal["hidden", "all"] = "hidden",
        whole_batches: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.masking, self.all_cells, self.whole_batches = masking, loss_on == "all", whole_batches
        side = self.backbone.img_size
        widths, strides = self._observe()
        self.cell = _fitting(cell or strides[0], side, strides[0], hiding == "sparse")
        self.grid = side[0] // self.cell[0], side[1] // self.cell[1]
        masking.check(self.grid)
        self.target = (NormPixels if target == "norm_pixels" else Target)(self.cell, self.backbone.in_chans)
        self.levels = max(1, sum(stride >= finest for stride in strides))
        self.sparse = self._sparsified() if hiding == "sparse" else None
        self.decoder = PyramidDecoder(
            widths[: self.levels], strides[: self.levels], self.backbone.in_chans, decoder_width, hiding == "sparse"
        )
        pool_batch_norms(self)
        if kwargs.get("compile"):
            self.predict = torch.compile(self.predict)  # type: ignore[method-assign]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error of the predicted cells."""
        image_BCHW = batch["image"]
        visible_BV, hidden_BM = self._draw(image_BCHW)
        asked_BM = torch.cat([visible_BV, hidden_BM], dim=1) if self.all_cells else hidden_BM
        prediction_BMP = gather(patchify(self.predict(image_BCHW, visible_BV), self.cell), asked_BM)
        return {"loss": self.target.loss(prediction_BMP, self.target(image_BCHW, asked_BM))}

    def predict(self, image_BCHW: Tensor, visible_BV: Tensor) -> Tensor:
        """What the network expects everywhere, from the visible cells: prediction_BCHW in units of the target."""
        cells = Cells(self.grid, visible_BV)
        packed_BCRj = cells.pack(image_BCHW)
        if self.sparse is None:
            maps = pyramid(self.backbone.network, cells.unpack(packed_BCRj))
            return self.decoder(maps[::-1][: self.levels])
        with self.sparse.hiding(cells):
            maps = pyramid(self.backbone.network, packed_BCRj)
        return self.decoder(maps[::-1][: self.levels], cells)

    @torch.no_grad()
    def reconstruct(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Hides cells of normalised films and fills them with what the network expects there.

        Returns:
            reconstruction_BCHW and mask_BCHW; see the target's `filled`.
        """
        visible_BV, hidden_BM = self._draw(image_BCHW)
        prediction_BMP = gather(patchify(self.predict(image_BCHW, visible_BV), self.cell), hidden_BM)
        return self.target.filled(prediction_BMP, image_BCHW, hidden_BM)

    def _draw(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        progress = self.progress if self.training else 1.0
        return self.masking.draw(self.grid, len(image_BCHW), image_BCHW.device, progress)

    def _settings(self) -> dict[str, Any]:
        """Also how films are masked, and what is asked for."""
        masking = {f"model.masking.{name}": value for name, value in self.masking.settings().items()}
        ours = {"model.cell": self.cell[0], "model.hiding": "zeros" if self.sparse is None else "sparse"}
        asked = {"model.target": type(self.target).__name__, "model.loss_on": "all" if self.all_cells else "hidden"}
        return {**super()._settings(), **masking, **ours, **asked}

    @torch.no_grad()
    def _observe(self) -> tuple[list[int], list[int]]:
        """Widths and strides of the network's maps, coarsest first."""
        film = torch.zeros(1, self.backbone.in_chans, *self.backbone.img_size)
        training = self.backbone.training
        maps = pyramid(self.backbone.network.eval(), film)[::-1]
        self.backbone.train(training)
        if len(maps) < 2:
            raise UserError(f"{self.backbone.architecture} has maps of one size only; for a ViT take MAEPretrain.")
        return [map_BCHW.shape[1] for map_BCHW in maps], [film.shape[-1] // map_BCHW.shape[-1] for map_BCHW in maps]

    def _sparsified(self) -> SparseForward:
        backbone = self.backbone
        if self.grad_checkpointing:  # the second pass would come when nothing is hidden any more
            raise UserError("Sparse hiding has no gradient checkpointing; set --model.hiding zeros, or leave it out.")
        sparse = SparseForward(backbone.network)
        check(backbone.network, sparse, (backbone.in_chans, *backbone.img_size), self.grid, backbone.architecture)
        return sparse


def _fitting(cell: int, side: tuple[int, int], stride: int, sparse: bool) -> tuple[int, int]:
    """Height and width of a cell that films and maps divide into."""
    films = f"Films of {side[0]} x {side[1]} px"
    even = 1 << (stride - 1).bit_length()  # networks halve: a stride that is no power of 2 means rounded borders
    if any(length % even for length in side):
        raise UserError(f"{films} cannot be halved to the network's last map; set --data.img_size to n x {even} px.")
    if cell < 1 or (sparse and cell % stride):
        raise UserError(f"A cell of {cell} px is no multiple of {stride} px, the stride of the network's last map.")
    if side[0] % cell or side[1] % cell:
        raise UserError(f"{films} cannot be cut into cells of {cell} px; set --model.cell or --data.img_size.")
    return cell, cell
