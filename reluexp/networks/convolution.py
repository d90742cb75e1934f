"""A stack's convolution as one batched matrix product over the patches of all samples, for GPUs.

A grouped convolution computes the same, but libraries run its groups one by one or by slow kernels. Where channels are
few, kernels of our own read the patches from the images; else they are laid out as rows. Either way everything between
two convolutions stands channels last, which metrics read best, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from reluexp.networks.compiled import kernels_for

__all__ = ["convolve"]

Pair = tuple[int, int]

_WORD = 16
"""bytes that a GPU moves at once"""

_FEW = 64
"""channels up to which patches are not written down: with more of them products take longer than memory"""

_SHORT = 1 << 11
"""rows that a product sums over at most: longer ones are cut, since a GPU's blocks share the batch and not the sum"""


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Convolves x [replica, sample, in, *size] with weight [replica, out, in, *kernel]: [replica, sample, out, *size].

    As F.conv2d of each replica, to rounding; the same bits whenever the shapes are the same. bias is [replica, out].
    """
    given = x, weight, bias
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:  # which sees no further than `apply`
        dtype = torch.get_autocast_dtype(x.device.type)
        given = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    result: Tensor = _Convolve.apply(*given, stride, padding, dilation)
    return result


class _Convolve(torch.autograd.Function):
    """rows @ columns: a row is the patch under one position of one sample, a column an output's kernel and bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        kernel = weight.shape[3:]
        size = _size(x.shape[3:], kernel, stride, padding, dilation)
        ctx.sizes, ctx.spacing, ctx.biased = (x.shape, size), (stride, padding, dilation), bias is not None
        ctx.kernels = kernels_for(x) if max(weight.shape[1:3]) <= _FEW else None
        if ctx.kernels:
            images = _channels_last(x)
            ctx.save_for_backward(images, weight)
            columns = _columns(weight, None, weight[0, 0].numel())
            out = ctx.kernels.convolved(images, columns, bias, kernel, size, ctx.spacing, _precision())
            return out.movedim(-1, 2)
        rows = _rows(x, kernel, stride, padding, dilation, ctx.biased)
        ctx.save_for_backward(rows, weight)
        return _images(torch.bmm(rows, _columns(weight, bias, rows.shape[2])), x.shape[1], size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        given, weight = ctx.saved_tensors
        kernel, length = weight.shape[3:], weight[0, 0].numel()
        if ctx.kernels:
            last = g.movedim(2, -1)
            gradient = ctx.kernels.summed_over_places(given, last, ctx.biased, kernel, ctx.spacing, _precision())
            gradient = gradient.to(weight.dtype)
        else:
            gradient = _summed_product(given, g.movedim(2, -1).flatten(1, 3), g.shape[1])
        to_weight = gradient[:, :length].unflatten(1, (*kernel, -1)).permute(0, 4, 3, 1, 2)
        to_x = _to_input(g, weight, ctx) if ctx.needs_input_grad[0] else None
        return to_x, to_weight, gradient[:, length] if ctx.needs_input_grad[2] else None, None, None, None


def _precision() -> str:
    """Of products in float32, as torch has it."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"


def _size(sides: Any, kernel: Any, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """How many positions there are along each side."""
    each = zip(sides, kernel, stride, padding, dilation, strict=True)
    height, width = ((side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in each)
    return height, width


def _channels_last(x: Tensor) -> Tensor:
    """x as [replica, sample, row, column, channel], channels side by side in memory; shared samples remain shared."""
    last = x.movedim(2, -1)
    if last.shape[-1] == 1 or last.stride(-1) == 1:
        return last
    return last[:1].contiguous().expand_as(last) if last.stride(0) == 0 else last.contiguous()


def _rows(x: Tensor, kernel: Any, stride: Pair, padding: Pair, dilation: Pair, biased: bool = False) -> Tensor:
    """The patches [replica, sample · position, kernel · in …].

    A row ends with a 1 for the bias and is filled up with zeros to a multiple of 16 bytes, by which it is copied.
    """
    last = x.movedim(2, -1)
    if any(padding):
        last = F.pad(last, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    last = last.contiguous()
    replicas, samples, *sides, channels = last.shape
    size = _size(sides, kernel, stride, (0, 0), dilation)
    length = kernel[0] * kernel[1] * channels
    whole = length + int(biased)
    word = max(1, _WORD // last.itemsize)
    rows = last.new_empty(replicas, samples * size[0] * size[1], whole + -whole % word)
    if rows.shape[2] > length:
        rows[..., length:] = F.pad(rows.new_full((int(biased),), 1.0), (0, rows.shape[2] - whole))
    target = rows[..., :length].unflatten(1, (samples, *size)).unflatten(-1, (*kernel, channels))
    if channels % word == 0 == last.storage_offset() % word and last.itemsize < _WORD:  # a word at a time
        last, target = last.view(torch.complex128), target.view(torch.complex128)
    r, n, h, w, c = last.stride()
    strides = (r, n, h * stride[0], w * stride[1], h * dilation[0], w * dilation[1], c)
    target.copy_(last.as_strided(target.shape, strides))
    return rows


def _columns(weight: Tensor, bias: Tensor | None, length: int) -> Tensor:
    """Kernels and biases as [replica, kernel · in …, out], filled up with zeros to that length."""
    columns = weight.permute(0, 3, 4, 2, 1).flatten(1, 3)
    if bias is not None:
        columns = torch.cat([columns, bias[:, None]], 1)
    return F.pad(columns, (0, 0, 0, length - columns.shape[1]))


def _images(rows: Tensor, samples: int, size: Pair) -> Tensor:
    """[replica, sample · position, channel] as [replica, sample, channel, *size], without a copy."""
    return rows.unflatten(1, (samples, *size)).movedim(-1, 2)


def _summed_product(rows: Tensor, out: Tensor, samples: int) -> Tensor:
    """rowsᵀ @ out [replica, kernel · in …, out], the long sum cut at samples into parts that run side by side."""
    divisors = (part for part in range(1, samples + 1) if samples % part == 0)
    parts = next((part for part in divisors if rows.shape[1] // part <= _SHORT), samples)
    left, right = (own.unflatten(1, (parts, -1)).flatten(0, 1) for own in (rows, out))
    return torch.bmm(left.mT, right).unflatten(0, (len(rows), parts)).sum(1)


def _to_input(g: Tensor, weight: Tensor, ctx: Any) -> Tensor:
    """The gradient of x: for steps of 1 a convolution with the turned kernel, else patches added where they were."""
    (shape, size), (stride, padding, dilation) = ctx.sizes, ctx.spacing
    kernel = weight.shape[3:]
    if stride == dilation == (1, 1) and all(p < k for p, k in zip(padding, kernel, strict=True)):
        turned, sides = weight.flip(3, 4).transpose(1, 2), (shape[3], shape[4])
        spacing = (1, 1), (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1]), (1, 1)
        if ctx.kernels:
            columns = _columns(turned, None, turned[0, 0].numel())
            out = ctx.kernels.convolved(_channels_last(g), columns, None, kernel, sides, spacing, _precision())
            return out.movedim(-1, 2)
        rows = _rows(g, kernel, *spacing)
        return _images(torch.bmm(rows, _columns(turned, None, rows.shape[2])), shape[1], sides)
    columns = weight.permute(0, 3, 4, 2, 1).flatten(1, 3)
    patches = (
        torch.bmm(g.movedim(2, -1).flatten(1, 3), columns.mT)
        .unflatten(1, (shape[1], *size))
        .unflatten(-1, (*kernel, -1))
    )
    wide = [side + 2 * p for side, p in zip(shape[3:], padding, strict=True)]
    whole = g.new_zeros(*shape[:2], *wide, shape[2])
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            ends = top + stride[0] * (size[0] - 1) + 1, left + stride[1] * (size[1] - 1) + 1
            whole[:, :, top : ends[0] : stride[0], left : ends[1] : stride[1]] += patches[:, :, :, :, i, j]
    inner = whole[:, :, padding[0] : wide[0] - padding[0], padding[1] : wide[1] - padding[1]]
    return inner.movedim(-1, 2)
