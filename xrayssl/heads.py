"""What stands on a backbone: pooling with a linear layer, and projections to embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from xrayssl import checkpoint, handoff, tensors_file
from xrayssl.errors import UserError

Pooling = Literal["mean", "attentive"]
ROWS = ("linear.weight", "linear.bias")  # of a classifier: the tensors that have a row per class


class LinearHead(nn.Module):
    """Pools the grid and gives logits: the mean and one linear layer by default, so that Grad-CAM equals closed-form
    CAM.

    Args:
        width: D of the backbone.
        outputs: Number of logits.
        standardize: Batch norm without affine before the layer, as linear probes of masked autoencoders want
            (He et al. 2021, arXiv:2111.06377, appendix A.1).
        pooling: "mean" over the grid, or "attentive", see `AttentivePooling`.
        hidden: Width of a hidden layer with GELU before the linear one; None for none.

    Raises:
        UserError: If that width is below 1.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        standardize: bool = False,
        pooling: Pooling = "mean",
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        if hidden is not None and hidden < 1:
            raise UserError(f"--model.head_hidden is a width of 1 or more, not {hidden}.")
        self.pool = AttentivePooling(width) if pooling == "attentive" else MeanPooling()
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if standardize else nn.Identity()
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.GELU()) if hidden else nn.Identity()
        self.linear = nn.Linear(hidden or width, outputs)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, grid_BDhw: Tensor) -> Tensor:
        """Logits (B, outputs)."""
        return self.linear(self.hidden(self.norm(self.pool(grid_BDhw))))


class MeanPooling(nn.Module):
    """The mean over the grid."""

    def forward(self, grid_BDhw: Tensor) -> Tensor:
        """Features (B, D)."""
        return grid_BDhw.mean(dim=(2, 3))


class AttentivePooling(nn.Module):
    """A learned query that attends to the places of the grid (Lee et al. 2018, arXiv:1810.00825, section 3.2; as the
    probe of Bardes et al. 2024, arXiv:2404.08471).

    Places are normalised first, for the last map of a CNN is of any scale; then it is attention with several heads,
    and their values joined by a linear layer.

    Args:
        width: D of the backbone.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = next(count for count in (max(1, width // 64), 8, 4, 2, 1) if width % count == 0)
        self.query = nn.Parameter(torch.empty(width))
        self.norm, self.key_value = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.join = nn.Linear(width, width)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, grid_BDhw: Tensor) -> Tensor:
        """Features (B, D)."""
        key_value_BLE = self.key_value(self.norm(grid_BDhw.flatten(2).transpose(1, 2)))
        key, value = key_value_BLE.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
        query = self.query.to(key.dtype).unflatten(0, (self.heads, 1, -1)).expand(key.shape[0], -1, -1, -1)
        return self.join(scaled_dot_product_attention(query, key, value).flatten(1))


def inherit(head: LinearHead, origin: str | None, classes: list[str], task: str) -> str:
    """Fills a classifier from a fine-tuned checkpoint whose outputs are the same, in whatever order.

    Args:
        head: To fill.
        origin: What --model.init_from names.
        classes: Names of the head's outputs.
        task: Of the head.

    Returns:
        A sentence: that the checkpoint's head was taken, or why this one starts anew; nothing where there is none.
    """
    path = Path(origin or "timm")
    if path.is_dir():
        path = path / handoff.FILE
    if not path.is_file():
        return ""
    if tensors_file.recognised(path):
        ours = (tensors_file.read(path)[0] or {}).get("method") == "Finetune"
        return f"The head starts anew: {path} holds a backbone alone; the run's checkpoints have its head." * ours
    content = checkpoint.load(path)
    if "classes" not in content.get("xrayssl", {}):
        return ""
    return _take_over(head, content["xrayssl"], _head(content["state_dict"]), classes, task)


def _take_over(
    head: LinearHead, header: Mapping[str, Any], tensors: dict[str, Tensor], classes: list[str], task: str
) -> str:
    theirs, anew = header["classes"], "The head starts anew: the checkpoint's"
    if header["task"] != task:
        return f"{anew} learned a {header['task']} task, these data pose a {task} one."
    if sorted(theirs) != sorted(classes):
        return f"{anew} names {', '.join(theirs)}; these data have {', '.join(classes)}."
    expected = head.state_dict()
    odd = [name for name in {**expected, **tensors} if _shape(expected, name) != _shape(tensors, name)]
    if odd:
        return f"{anew} is built otherwise ({odd[0]})."
    order = [theirs.index(name) for name in classes]
    head.load_state_dict({name: value[order] if name in ROWS else value for name, value in tensors.items()})
    return "The head goes on from the checkpoint's" + (", its outputs put in order." if theirs != classes else ".")


def _head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


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
