"""Kernels for GPUs: a stack's convolutions without patches in memory, and its max pools in one pass each.

Written in Triton, which comes with torch where there are GPUs, and compiled when they are first used. Images stand
channels last. `compiled` says where they are used; elsewhere the same is composed of torch's operations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["convolved", "pooled", "spread", "summed_over_places"]

Pair = tuple[int, int]

_AT_ONCE = 2048
"""positions × numbers of their patches that a program works on at a time"""

_TERMS = 16
"""numbers of a patch that it multiplies before it adds"""

_WARPS = 4

_LONG = 2048
"""positions that a program sums over"""

_WIDE, _ROWS = 1024, 8
"""numbers of a row, and rows, that a program pools"""


@triton.jit
def _patch(
    x, first, top, left, n_at, known, xh, xw, xc, H, W,
    C: tl.constexpr, KW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr, LENGTH: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """BK numbers of the patches at some positions [position, number]: 0 beyond the image and beyond the last number."""
    k = first + tl.arange(0, BK)
    if C % BK == 0:  # all of one pixel
        h, w = top + first // C // KW * DH, left + first // C % KW * DW
        inside = (h >= 0) & (h < H) & (w >= 0) & (w < W) & known & (first < LENGTH)
        return tl.load(x + (n_at + h * xh + w * xw)[:, None] + (k % C * xc)[None, :], mask=inside[:, None], other=0.0)
    h = top[:, None] + (k // C // KW * DH)[None, :]
    w = left[:, None] + (k // C % KW * DW)[None, :]
    inside = (h >= 0) & (h < H) & (w >= 0) & (w < W) & known[:, None] & (k < LENGTH)[None, :]
    return tl.load(x + n_at[:, None] + h * xh + w * xw + (k % C * xc)[None, :], mask=inside, other=0.0)


@triton.jit(do_not_specialize=["positions"])
def _convolve(
    x, weight, bias, out, positions, H, W, OH, OW, xr, xn, xh, xw, xc,
    C: tl.constexpr, O: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr, BIASED: tl.constexpr,
    BM: tl.constexpr, BO: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    replica = tl.program_id(1).to(tl.int64)
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    o = tl.program_id(2) * BO + tl.arange(0, BO)
    place = m % (OH * OW)
    top, left = place // OW * SH - PH, place % OW * SW - PW
    n_at = (m // (OH * OW)).to(tl.int64) * xn
    length: tl.constexpr = KH * KW * C
    sums = tl.zeros((BM, BO), tl.float32)
    for first in range(0, length, BK):
        k = first + tl.arange(0, BK)
        given = (top, left, n_at, m < positions, xh, xw, xc, H, W)
        rows = _patch(x + replica * xr, first, *given, C, KW, DH, DW, length, BK)
        at = (replica * length + k)[:, None] * O + o[None, :]
        columns = tl.load(weight + at, mask=(k < length)[:, None] & (o < O)[None, :], other=0.0)
        sums = tl.dot(rows, columns, sums, input_precision=PRECISION)
    if BIASED:
        sums += tl.load(bias + replica * O + o, mask=o < O, other=0.0).to(tl.float32)[None, :]
    at = (replica * positions + m)[:, None] * O + o[None, :]
    tl.store(out + at, sums.to(out.dtype.element_ty), mask=(m < positions)[:, None] & (o < O)[None, :])


@triton.jit(do_not_specialize=["positions", "parts"])
def _sum_products(
    x, g, out, positions, parts, H, W, OH, OW, xr, xn, xh, xw, xc,
    C: tl.constexpr, O: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr, ROWS: tl.constexpr,
    BM: tl.constexpr, BO: tl.constexpr, BK: tl.constexpr, CHUNKS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(O, BO)
    first = tl.program_id(0) // blocks * BK
    k = first + tl.arange(0, BK)
    o = tl.program_id(0) % blocks * BO + tl.arange(0, BO)
    part = tl.program_id(1)
    replica = tl.program_id(2).to(tl.int64)
    length: tl.constexpr = KH * KW * C
    sums = tl.zeros((BK, BO), tl.float32)
    for chunk in range(CHUNKS):
        m = (part * CHUNKS + chunk) * BM + tl.arange(0, BM)
        place = m % (OH * OW)
        top, left = place // OW * SH - PH, place % OW * SW - PW
        n_at = (m // (OH * OW)).to(tl.int64) * xn
        given = (top, left, n_at, m < positions, xh, xw, xc, H, W)
        rows = _patch(x + replica * xr, first, *given, C, KW, DH, DW, length, BK)
        rows = tl.where((k == length)[None, :], 1.0, rows).to(rows.dtype)  # by which the bias is multiplied
        at = (replica * positions + m)[:, None] * O + o[None, :]
        own = tl.load(g + at, mask=(m < positions)[:, None] & (o < O)[None, :], other=0.0)
        sums = tl.dot(tl.trans(rows), own, sums, input_precision=PRECISION)
    at = ((replica * parts + part) * ROWS + k)[:, None] * O + o[None, :]
    tl.store(out + at, sums, mask=(k < ROWS)[:, None] & (o < O)[None, :])


@triton.jit
def _window(x, rows, W, C: tl.constexpr, BLOCK: tl.constexpr, N: tl.constexpr):
    """Where N rows of windows stand: in x the first number of each window, in the result, and which there are."""
    row = tl.program_id(0) * N + tl.arange(0, N)
    t = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    across = W // 2 * C
    at = (2 * row).to(tl.int64)[:, None] * (W * C) + (t // C * 2 * C + t % C)[None, :]
    known = (row < rows)[:, None] & (t < across)[None, :]
    return at, row.to(tl.int64)[:, None] * across + t[None, :], known


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit(do_not_specialize=["rows"])
def _pool(x, out, rows, W, C: tl.constexpr, BLOCK: tl.constexpr, N: tl.constexpr):
    at, to, known = _window(x, rows, W, C, BLOCK, N)
    upper = _larger(tl.load(x + at, mask=known), tl.load(x + at + C, mask=known))
    lower = _larger(tl.load(x + at + W * C, mask=known), tl.load(x + at + W * C + C, mask=known))
    tl.store(out + to, _larger(upper, lower), mask=known)


@triton.jit(do_not_specialize=["rows"])
def _spread(x, g, out, rows, W, C: tl.constexpr, BLOCK: tl.constexpr, N: tl.constexpr):
    at, to, known = _window(x, rows, W, C, BLOCK, N)
    own = tl.load(g + to, mask=known)
    a, b = tl.load(x + at, mask=known), tl.load(x + at + C, mask=known)
    c, d = tl.load(x + at + W * C, mask=known), tl.load(x + at + W * C + C, mask=known)
    above = _larger(a, b) >= _larger(c, d)
    left, right = a >= b, c >= d
    tl.store(out + at, tl.where(above & left, own, 0.0), mask=known)
    tl.store(out + at + C, tl.where(above & ~left, own, 0.0), mask=known)
    tl.store(out + at + W * C, tl.where(~above & right, own, 0.0), mask=known)
    tl.store(out + at + W * C + C, tl.where(~above & ~right, own, 0.0), mask=known)


def convolved(
    x: Tensor, columns: Tensor, bias: Tensor | None, kernel: Pair, size: Pair, spacing: tuple[Pair, Pair, Pair],
    precision: str,
) -> Tensor:  # fmt: skip
    """x [replica, sample, row, column, in] with columns [replica, kernel · in, out]: [replica, sample, *size, out].

    `spacing` is stride, padding and dilation; `precision` of products in float32 is `ieee` or `tf32`.
    """
    replicas, samples, height, width, channels = x.shape
    outputs, positions = columns.shape[2], samples * size[0] * size[1]
    out = x.new_empty(replicas, samples, *size, outputs)
    places, block = _AT_ONCE // _TERMS, _power(outputs, 64)
    grid = (triton.cdiv(positions, places), replicas, triton.cdiv(outputs, block))
    _convolve[grid](
        x, columns.contiguous(), columns if bias is None else bias.contiguous(), out, positions, height, width, *size,
        *x.stride(), channels, outputs, *kernel, *(own for pair in spacing for own in pair), bias is not None,
        places, block, _TERMS, precision, num_warps=_WARPS,
    )  # fmt: skip
    return out


def summed_over_places(
    x: Tensor, g: Tensor, biased: bool, kernel: Pair, spacing: tuple[Pair, Pair, Pair], precision: str
) -> Tensor:
    """The gradient of columns, and of the bias below them, for g [replica, sample, *size, out] of what they gave."""
    replicas, samples, height, width, channels = x.shape
    size, outputs = g.shape[2:4], g.shape[4]
    positions, rows = samples * size[0] * size[1], kernel[0] * kernel[1] * channels + int(biased)
    terms, block = _power(rows, 32), _power(outputs, 64)
    places, parts = _AT_ONCE // terms, triton.cdiv(positions, _LONG)
    out = x.new_empty(replicas, parts, rows, outputs, dtype=torch.float32)
    grid = (triton.cdiv(rows, terms) * triton.cdiv(outputs, block), parts, replicas)
    _sum_products[grid](
        x, g.contiguous(), out, positions, parts, height, width, *size, *x.stride(), channels, outputs,
        *kernel, *(own for pair in spacing for own in pair), rows, places, block, terms, _LONG // places, precision,
        num_warps=_WARPS,
    )  # fmt: skip
    return out.sum(1)


def pooled(x: Tensor) -> Tensor:
    """The maxima of windows of 2 × 2 of x [..., row, column, channel], contiguous and of even sides."""
    out = x.new_empty(*x.shape[:-3], x.shape[-3] // 2, x.shape[-2] // 2, x.shape[-1])
    _pool[_grid(x)](x, out, x.shape[:-2].numel() // 2, x.shape[-2], x.shape[-1], _block(x), _ROWS)
    return out


def spread(x: Tensor, g: Tensor) -> Tensor:
    """The gradient of x for g of `pooled`: to the first maximum of a window, over columns first."""
    out = torch.empty_like(x)
    _spread[_grid(x)](x, g.contiguous(), out, x.shape[:-2].numel() // 2, x.shape[-2], x.shape[-1], _block(x), _ROWS)
    return out


def _power(number: int, most: int) -> int:
    """The next power of two, from 16 on, which is what products take at least."""
    return max(16, min(most, triton.next_power_of_2(number)))


def _block(x: Tensor) -> int:
    return _power(x.shape[-2] // 2 * x.shape[-1], _WIDE)


def _grid(x: Tensor) -> tuple[int, int]:
    return triton.cdiv(x.shape[:-2].numel() // 2, _ROWS), triton.cdiv(x.shape[-2] // 2 * x.shape[-1], _block(x))
