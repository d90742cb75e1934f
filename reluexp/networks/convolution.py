"""A stack's convolution as one batched matrix product over the patches of all samples, for GPUs.

A grouped convolution computes the same, but libraries run its groups one by one or by slow kernels. Here patches
are laid out as rows, so that everything between two convolutions stands channels last, which metrics read best, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["convolve"]

Pair = tuple[int, int]

_WORD = 16
"""bytes that a GPU moves at once"""

_SHORT = 1 << 11
"""rows that a product sums over at most: longer ones are cut, since a GPU's blocks share the batch and not the sum"""


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Convolves x [replica, sample, in, *size] with weight [replica, out, in, *kernel]: [replica, sample, out, *size].

    As F.conv2d of each replica, to rounding; the same bits whenever the shapes are the same. bias is [replica, out].
    """
    result: Tensor = _Convolve.apply(x, weight, bias, stride, padding, dilation)
    return result


class _Convolve(torch.autograd.Function):
    """rows @ columns: a row is the patch under one position of one sample, a column an output's kernel and bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        rows, size = _rows(x, weight.shape[3:], stride, padding, dilation, bias is not None)
        ctx.save_for_backward(rows, weight)
        ctx.sizes, ctx.spacing = (x.shape, size), (stride, padding, dilation)
        return _images(torch.bmm(rows, _columns(weight, bias, rows.shape[2])), x.shape[1], size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        rows, weight = ctx.saved_tensors
        out = g.movedim(2, -1).flatten(1, 3)
        gradient = _summed_product(rows, out, g.shape[1])
        kernel, length = weight.shape[3:], weight[0, 0].numel()
        to_weight = gradient[:, :length].unflatten(1, (*kernel, -1)).permute(0, 4, 3, 1, 2)
        to_x = _to_input(g, out, weight, ctx) if ctx.needs_input_grad[0] else None
        return to_x, to_weight, gradient[:, length] if ctx.needs_input_grad[2] else None, None, None, None


def _rows(
    x: Tensor, kernel: Any, stride: Pair, padding: Pair, dilation: Pair, biased: bool = False
) -> tuple[Tensor, Pair]:
    """The patches [replica, sample · position, kernel · in …], and how many positions there are along each side.

    A row ends with a 1 for the bias and is filled up with zeros to a multiple of 16 bytes, by which it is copied.
    """
    last = x.movedim(2, -1)
    if any(padding):
        last = F.pad(last, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    last = last.contiguous()
    replicas, samples, *sides, channels = last.shape
    size = tuple(
        (side - d * (k - 1) - 1) // s + 1 for side, k, s, d in zip(sides, kernel, stride, dilation, strict=True)
    )
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
    return rows, (size[0], size[1])


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


def _to_input(g: Tensor, out: Tensor, weight: Tensor, ctx: Any) -> Tensor:
    """The gradient of x: for steps of 1 a convolution with the turned kernel, else patches added where they were."""
    (shape, size), (stride, padding, dilation) = ctx.sizes, ctx.spacing
    kernel = weight.shape[3:]
    if stride == dilation == (1, 1) and all(p < k for p, k in zip(padding, kernel, strict=True)):
        turned = weight.flip(3, 4).transpose(1, 2)
        rows, _ = _rows(g, kernel, (1, 1), (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1]), (1, 1))
        return _images(torch.bmm(rows, _columns(turned, None, rows.shape[2])), shape[1], (shape[3], shape[4]))
    columns = weight.permute(0, 3, 4, 2, 1).flatten(1, 3)
    patches = torch.bmm(out, columns.mT).unflatten(1, (shape[1], *size)).unflatten(-1, (*kernel, -1))
    sides = [side + 2 * p for side, p in zip(shape[3:], padding, strict=True)]
    whole = g.new_zeros(*shape[:2], *sides, shape[2])
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            ends = top + stride[0] * (size[0] - 1) + 1, left + stride[1] * (size[1] - 1) + 1
            whole[:, :, top : ends[0] : stride[0], left : ends[1] : stride[1]] += patches[:, :, :, :, i, j]
    inner = whole[:, :, padding[0] : sides[0] - padding[0], padding[1] : sides[1] - padding[1]]
    return inner.movedim(-1, 2)
