"""Batch norm whose statistics are those of all processes, on any device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, distributed, nn


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that pools sums over processes while it trains (torch's own does so on GPUs only).

    Shares weights, running statistics and key names with the layer it stands for; in one process or in evaluation it
    is that layer.

    Args:
        norm: The layer to stand for; an activation and a dropout that it ends in are kept.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.alone = False  # whether to take the statistics of this process only
        self.drop, self.act = (getattr(norm, name, nn.Identity()) for name in ("drop", "act"))
        self.train(norm.training)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """The normalised map, of the same shape."""
        several = distributed.is_initialized() and distributed.get_world_size() > 1
        pooled = self.training and several and not self.alone
        return self.act(self.drop(self._pooled(map_BCHW) if pooled else super().forward(map_BCHW)))

    def _pooled(self, map_BCHW: Tensor) -> Tensor:
        """Ioffe & Szegedy 2015, algorithm 1, with mean and variance over all processes in two passes."""
        values = map_BCHW.to(torch.promote_types(map_BCHW.dtype, torch.float32))
        axes, shape = (0, *range(2, values.dim())), (-1, *[1] * (values.dim() - 2))
        count = _Sum.apply(values.new_tensor(values.numel() / values.shape[1]))
        mean_C = _Sum.apply(values.sum(axes)) / count
        centred = values - mean_C.view(shape)
        variance_C = _Sum.apply(centred.square().sum(axes)) / count
        self._remember(mean_C.detach(), (variance_C * (count / (count - 1))).detach())
        scale_C = (variance_C + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
        shift_C = 0 if self.bias is None else self.bias.view(shape)
        return (centred * scale_C.view(shape) + shift_C).to(map_BCHW.dtype)

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        """Moves the running statistics."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C.to(self.running_mean), share)
        self.running_var.lerp_(variance_C.to(self.running_var), share)


class PooledBatchNorm1d(PooledBatchNorm2d):
    """The same for vectors (B, C), in the place of an `nn.BatchNorm1d`."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 2:
            raise ValueError(f"vectors (B, C) are normalised here, not {tuple(input.shape)}")


class _Sum(torch.autograd.Function):
    """Sum over processes; the derivative of the sum of their losses."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """The sum."""
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """The gradients' sum."""
        return _Sum.forward(ctx, grad)


def pool_batch_norms(module: nn.Module) -> None:
    """Puts a batch norm that pools in the place of every batch norm of maps and of vectors below a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and type(child) in (nn.BatchNorm2d, BatchNormAct2d):
            setattr(module, name, PooledBatchNorm2d(child))
        elif type(child) is nn.BatchNorm1d:
            setattr(module, name, PooledBatchNorm1d(child))
        else:
            pool_batch_norms(child)


@torch.no_grad()
def recalibrate(network: nn.Module, films: Iterable[Tensor]) -> None:
    """Measures running statistics anew, as the mean over batches (Wu & Johnson 2021, arXiv:2105.07576, section 3).

    Statistics of films with hidden cells do not fit whole ones: zeros about a visible cell weaken what a convolution
    gives at its border, more so with every layer.

    Args:
        network: Whose batch norms are `PooledBatchNorm2d`; nothing else in it changes, and dropout is off.
        films: Batches of whole films, image_BCHW; of none, the statistics stay.
    """
    training, norms = network.training, [one for one in network.modules() if isinstance(one, PooledBatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = None  # a mean over all batches from here on
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.zero_()
    try:
        for image_BCHW in films:
            network(image_BCHW)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.train(training)


@contextmanager
def measured(network: nn.Module, films: Iterable[Tensor]) -> Iterator[None]:
    """Within it a network has running statistics of films; afterwards its own. For one process: others take no part.

    Args:
        network: See `recalibrate`.
        films: Batches of whole films, image_BCHW; of none, the statistics stay.
    """
    norms = [one for one in network.modules() if isinstance(one, PooledBatchNorm2d)]
    before = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    for norm in norms:
        norm.alone = True
    try:
        recalibrate(network, films)
        yield
    finally:
        for norm, state in zip(norms, before, strict=True):
            norm.alone = False
            norm.load_state_dict(state, strict=False)
