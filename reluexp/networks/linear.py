"""A stack's linear maps as batched products, each in the order that suits the libraries that compute it.

Shapes: x [replica, sample, in], weight [replica, out, in], bias [replica, out].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["linear"]

_NARROW = 16
"""numbers in a row of a result below which a CPU takes up to five times as long as for the transposed product"""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear of each replica: [replica, sample, out]; a replica's bits do not depend on the others."""
    if 1 in (*x.shape[1:], weight.shape[1]):
        # products with a dimension of 1 take another path in a stack than alone, with other rounding
        product = (x.unsqueeze(-2) * weight.unsqueeze(1)).sum(-1)
        return product if bias is None else product + bias.unsqueeze(1)
    if x.device.type == "cpu":
        result: Tensor = _Linear.apply(x, weight, bias)
        return result
    if bias is None:
        return torch.bmm(x, weight.mT)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


class _Linear(torch.autograd.Function):
    """Autograd computes the gradient of the weights transposed, and to turn it round costs a fifth of its time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight.mT, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            _product(g, weight) if to_x else None,
            _product(g.mT, x) if to_weight else None,
            g.sum(1) if to_bias else None,
        )


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left @ right + bias [replica, column], contiguous."""
    if right.shape[2] >= _NARROW or left.shape[1] < _NARROW:
        return torch.bmm(left, right) if bias is None else torch.baddbmm(bias.unsqueeze(1), left, right)
    if bias is None:
        return torch.bmm(right.mT, left.mT).mT.contiguous()
    return torch.baddbmm(bias.unsqueeze(2), right.mT, left.mT).mT.contiguous()
