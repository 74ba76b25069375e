"""What stands on a backbone: pooling with a linear layer, and projections to embeddings."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


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


class ProjectionHead(nn.Sequential):
    """A perceptron from pooled features to an embedding that is compared (Chen et al. 2020, arXiv:2002.05709,
    section 4.2).

    Args:
        inputs: Width of what comes in.
        hidden: Width of each hidden layer.
        outputs: Width of the embedding.
        layers: Linear layers, 2 or more.
        norm: Batch norm after each hidden layer, whose bias it replaces.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int = 2, norm: bool = False) -> None:
        widths = [inputs, *[hidden] * (layers - 1)]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            parts += [nn.Linear(before, after, bias=not norm), *[nn.BatchNorm1d(after)] * norm, nn.ReLU(inplace=True)]
        super().__init__(*parts, nn.Linear(widths[-1], outputs))
