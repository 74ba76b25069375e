"""The layers of a transformer with a backward pass written by hand, for training on CPUs.

Forward they compute what timm's layers compute, in the same precision. Backward they spare what a profile of a
training step found to be waste: products of a transposed long matrix (the short one is transposed instead, which is
twice as fast with bfloat16 on AMX), copies between layouts of queries, keys and values, and temporary arrays. On
accelerators, in evaluation, under torch.compile and torch.func, for long sequences, and where a part of a layer has
been replaced or has hooks, timm's own forward runs.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Attention, Mlp
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

LONGEST = 512  # tokens; beyond, the fused kernel is as fast, and does not hold every score


def quicken(network: nn.Module) -> None:
    """Gives every plain attention and perceptron of timm inside a network the backward pass of this module.

    Parameters and their names stay; layers with options that this module does not know stay as they are.
    """
    for module in network.modules():
        if type(module) is Attention and _is_plain_attention(module):
            module.__class__ = QuickAttention
        elif type(module) is Mlp and _is_plain_mlp(module):
            module.__class__ = QuickMlp


class QuickAttention(Attention):
    """timm's self-attention, quick in training on a CPU."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Tokens, mixed: (B, S, D)."""
        special = attn_mask is not None or is_causal or x.shape[1] > LONGEST or not _is_plain_attention(self)
        if special or not (self.training and is_quick(x)):
            return super().forward(x, attn_mask, is_causal)
        mixed = _SelfAttention.apply(project(x, self.qkv.weight, self.qkv.bias), self.num_heads)
        return project(mixed, self.proj.weight, self.proj.bias)

    def answer(self, x_BSD: Tensor, asked: int) -> Tensor:
        """What the last tokens get, and no others: (B, asked, D), equal to `forward(x_BSD)[:, -asked:]`."""
        width, bias = self.attn_dim, self.qkv.bias
        weight_DD, weight_2DD = self.qkv.weight.split((width, 2 * width))
        bias_D, bias_2D = (None, None) if bias is None else bias.split((width, 2 * width))
        query_BMD, key_value = project(x_BSD[:, -asked:], weight_DD, bias_D), project(x_BSD, weight_2DD, bias_2D)
        return project(attend(query_BMD, key_value, self.num_heads), self.proj.weight, self.proj.bias)


class QuickMlp(Mlp):
    """timm's perceptron, quick in training on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens, each for itself: (B, S, D)."""
        if not (self.training and is_quick(x) and _is_plain_mlp(self)):
            return super().forward(x)
        return _Perceptron.apply(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)


def is_quick(x: Tensor) -> bool:
    """Whether the backward pass of this module serves an input."""
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return x.device.type == "cpu" and x.requires_grad and x.dim() > 1 and not transformed


def project(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """A linear layer: x W^T + b."""
    return _Linear.apply(x, weight_OI, bias_O) if is_quick(x) else nn.functional.linear(x, weight_OI, bias_O)


def attend(query_BMD: Tensor, key_value_BSD: Tensor, heads: int) -> Tensor:
    """Softmax attention (Vaswani et al. 2017, section 3.2).

    Args:
        query_BMD: Of all heads, side by side.
        key_value_BSD: The keys of all heads, then the values.
        heads: Divides D.

    Returns:
        mixed_BMD, the values that each query gets.
    """
    if is_quick(query_BMD) and is_quick(key_value_BSD) and key_value_BSD.shape[1] <= LONGEST:
        return _CrossAttention.apply(query_BMD, key_value_BSD, heads)
    key, value = _pair(key_value_BSD, heads).unbind(0)
    query = query_BMD.unflatten(-1, (heads, -1)).transpose(1, 2)
    return _join(nn.functional.scaled_dot_product_attention(query, key, value))


class _Linear(Function):
    """See `project`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Computes the output and keeps what the gradient needs."""
        x_NI, weight_OI = _half(x).flatten(0, -2), _half(weight)
        ctx.save_for_backward(x_NI, weight_OI)
        ctx.shape = x.shape
        return nn.functional.linear(x_NI, weight_OI, _half(bias)).unflatten(0, x.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs."""
        x_NI, weight_OI = ctx.saved_tensors
        grad_NO = grad.flatten(0, -2)
        dx = (grad_NO @ weight_OI).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return dx, _weight_grad(grad_NO, x_NI), grad_NO.sum(0) if ctx.needs_input_grad[2] else None


class _Perceptron(Function):
    """Two linear layers around the exact GELU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None) -> Tensor:
        """Computes the output and keeps what the gradient needs."""
        x_NI, w1_HI, w2_OH = _half(x).flatten(0, -2), _half(w1), _half(w2)
        hidden_NH = nn.functional.linear(x_NI, w1_HI, _half(b1))
        active_NH = nn.functional.gelu(hidden_NH)
        ctx.save_for_backward(x_NI, w1_HI, w2_OH, hidden_NH, active_NH)
        ctx.shape = x.shape
        return nn.functional.linear(active_NH, w2_OH, _half(b2)).unflatten(0, x.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs."""
        x_NI, w1_HI, w2_OH, hidden_NH, active_NH = ctx.saved_tensors
        grad_NO = grad.flatten(0, -2)
        dw2, db2 = _weight_grad(grad_NO, active_NH), grad_NO.sum(0) if ctx.needs_input_grad[4] else None
        grad_NH = torch.ops.aten.gelu_backward(grad_NO @ w2_OH, hidden_NH)
        dw1, db1 = _weight_grad(grad_NH, x_NI), grad_NH.sum(0) if ctx.needs_input_grad[2] else None
        return (grad_NH @ w1_HI).view(ctx.shape), dw1, db1, dw2, db2


class _SelfAttention(Function):
    """Attention of tokens whose queries, keys and values lie side by side."""

    @staticmethod
    def forward(ctx: Any, qkv_BSE: Tensor, heads: int) -> Tensor:
        """Computes the output and keeps what the gradient needs."""
        parts_3BHSd = qkv_BSE.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        qkv_3BHSd = torch.empty(parts_3BHSd.shape, dtype=qkv_BSE.dtype)
        torch.mul(parts_3BHSd[0], parts_3BHSd.shape[-1] ** -0.5, out=qkv_3BHSd[0])  # scaled and copied in one pass
        qkv_3BHSd[1:].copy_(parts_3BHSd[1:])
        mixed, share = _mix(*qkv_3BHSd.unbind(0))
        ctx.save_for_backward(qkv_3BHSd, share)
        return _join(mixed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradients of the inputs."""
        qkv_3BHSd, share = ctx.saved_tensors
        query, key, value = qkv_3BHSd.unbind(0)
        _, batch, heads, length, depth = qkv_3BHSd.shape
        out_BS3Hd = grad.new_empty(batch, length, 3, heads, depth)
        dquery, *pair = _unmix(_split(grad, heads), query, key, value, share)
        torch.mul(dquery.transpose(1, 2), depth**-0.5, out=out_BS3Hd[:, :, 0])
        for part, gradient in enumerate(pair, start=1):
            out_BS3Hd[:, :, part].copy_(gradient.transpose(1, 2))
        return out_BS3Hd.flatten(2), None


class _CrossAttention(Function):
    """See `attend`."""

    @staticmethod
    def forward(ctx: Any, query_BME: Tensor, key_value_BSE: Tensor, heads: int) -> Tensor:
        """Computes the output and keeps what the gradient needs."""
        query = _split(query_BME, heads) * (query_BME.shape[-1] // heads) ** -0.5
        pair_2BHSd = _pair(key_value_BSE, heads).contiguous()
        mixed, share = _mix(query, *pair_2BHSd.unbind(0))
        ctx.save_for_backward(query, pair_2BHSd, share)
        return _join(mixed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """The gradients of the inputs."""
        query, pair_2BHSd, share = ctx.saved_tensors
        _, batch, heads, length, depth = pair_2BHSd.shape
        key, value = pair_2BHSd.unbind(0)
        dquery, *pair = _unmix(_split(grad, heads), query, key, value, share)
        out_BS2Hd = grad.new_empty(batch, length, 2, heads, depth)
        for part, gradient in enumerate(pair):
            out_BS2Hd[:, :, part].copy_(gradient.transpose(1, 2))
        return _join(dquery * depth**-0.5), out_BS2Hd.flatten(2), None


def _mix(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Mixed values (B, H, M, d), and each query's shares (B, H, M, S); queries come scaled."""
    score = query @ key.transpose(-2, -1)
    share = torch.softmax(score, -1, out=score)
    return share @ value, share


def _unmix(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the scaled query, the key and the value."""
    dscore = grad @ value.transpose(-2, -1)
    torch._softmax_backward_data(dscore, share, -1, share.dtype, grad_input=dscore)
    return dscore @ key, dscore.transpose(-2, -1) @ query, share.transpose(-2, -1) @ grad


def _pair(key_value_BSE: Tensor, heads: int) -> Tensor:
    """Keys and values of each head (2, B, H, S, d)."""
    return key_value_BSE.unflatten(-1, (2, heads, -1)).permute(2, 0, 3, 1, 4)


def _split(x_BSE: Tensor, heads: int) -> Tensor:
    return x_BSE.unflatten(-1, (heads, -1)).transpose(1, 2).contiguous()


def _join(x_BHSd: Tensor) -> Tensor:
    return x_BHSd.transpose(1, 2).flatten(2)


def _weight_grad(grad_NO: Tensor, x_NI: Tensor) -> Tensor:
    """grad^T x, of half precision in float32."""
    if grad_NO.dtype not in (torch.bfloat16, torch.float16):
        return grad_NO.T @ x_NI
    if grad_NO.shape[1] <= x_NI.shape[1]:
        return (_turned(grad_NO) @ x_NI).float()
    return (_turned(x_NI) @ grad_NO).T.to(torch.float32, memory_format=torch.contiguous_format)


def _turned(x_NI: Tensor) -> Tensor:
    """x^T, contiguous: multiplying by ones and zeros is exact, and for bfloat16 faster than torch's copy."""
    return nn.functional.linear(torch.eye(x_NI.shape[1], dtype=x_NI.dtype), x_NI)


def _half(x: Tensor | None) -> Any:
    """As autocast would have it."""
    if x is None or not torch.is_autocast_enabled("cpu"):
        return x
    return x.to(torch.get_autocast_dtype("cpu"))


def _is_plain_attention(module: Attention) -> bool:
    identities = (module.q_norm, module.k_norm, module.norm)
    drops = module.attn_drop.p or module.proj_drop.p
    plain = module.gate is None and not drops and all(isinstance(norm, nn.Identity) for norm in identities)
    return plain and all(map(_is_linear, (module.qkv, module.proj)))


def _is_plain_mlp(module: Mlp) -> bool:
    plain = isinstance(module.act, nn.GELU) and module.act.approximate == "none" and not _is_watched(module.act)
    plain = plain and isinstance(module.norm, nn.Identity) and not (module.drop1.p or module.drop2.p)
    return plain and all(map(_is_linear, (module.fc1, module.fc2)))


def _is_linear(module: nn.Module) -> bool:
    """Whether a part is what it was: no adapter in its place, no parametrisation, pruning or hook on it."""
    return type(module) is nn.Linear and not _is_watched(module)


def _is_watched(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
