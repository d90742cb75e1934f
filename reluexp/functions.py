"""The activation functions as modules: h = f(z) and f'(z) in closed form.

Elu, Selu and Sigmoid are written with operations whose rounding does not depend on where in a tensor an element
stands (torch's own vectorised versions round the tail of a tensor differently), so that a trial's numbers do not
depend on its stack. Shapes: any; Prelu expects its channel axis after the sample axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "Elementwise",
    "Elu",
    "Function",
    "Identity",
    "LeakyRelu",
    "Prelu",
    "Relu",
    "Relu6",
    "Selu",
    "Sigmoid",
    "Tanh",
]

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


class Function(nn.Module):
    """An elementwise function that knows its derivative."""

    piecewise_linear = False
    """whether f'(z) is the same for a float32 z and the same z in float64"""

    def derivative(self, z: Tensor) -> Tensor:
        """f'(z) as autograd computes it: by autograd here, in closed form in most subclasses."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self(z).sum(), z)
        return slope


class Relu(Function):
    """max(z, 0)."""

    piecewise_linear = True

    def forward(self, z: Tensor) -> Tensor:
        """h."""
        return z.relu()

    def derivative(self, z: Tensor) -> Tensor:
        """1 above 0, else 0."""
        return (z > 0).to(z.dtype)


class LeakyRelu(Function):
    """z above 0, a·z below."""

    piecewise_linear = True

    def __init__(self, negative_slope: float) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, z: Tensor) -> Tensor:
        """h."""
        return nn.functional.leaky_relu(z, self.negative_slope)

    def derivative(self, z: Tensor) -> Tensor:
        """1 above 0, else a."""
        return torch.where(z > 0, torch.ones_like(z), torch.full_like(z, self.negative_slope))


class Prelu(Function):
    """z above 0, a·z below, where a, [..., channel] or [..., 1], is learned (He et al. 2015, arXiv 1502.01852)."""

    piecewise_linear = True

    def __init__(self, channels: int, init: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((channels,), init))

    def _slope(self, z: Tensor) -> Tensor:
        slope = self.slope.unsqueeze(-2)
        return slope[(..., *([None] * (z.dim() - slope.dim())))]

    def forward(self, z: Tensor) -> Tensor:
        """h; a float64 z is multiplied by the float32 slope in float64."""
        return torch.where(z > 0, z, self._slope(z) * z)

    def derivative(self, z: Tensor) -> Tensor:
        """1 above 0, else the channel's slope."""
        return torch.where(z > 0, torch.ones_like(z), self._slope(z).to(z.dtype))


class _Elu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, alpha: float, scale: float) -> Tensor:
        negative = torch.expm1(z.clamp(max=0)) * (alpha * scale)
        h = torch.where(z > 0, z * scale, negative)
        ctx.save_for_backward(z, negative)
        ctx.alpha, ctx.scale = alpha, scale
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        z, negative = ctx.saved_tensors
        return gradients[0] * torch.where(z > 0, ctx.scale, negative + ctx.alpha * ctx.scale), None, None


class Elu(Function):
    """z above 0, α·(eᶻ − 1) below, times a scale (Clevert et al. 2015, arXiv 1511.07289)."""

    def __init__(self, alpha: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.scale = alpha, scale

    def forward(self, z: Tensor) -> Tensor:
        """h."""
        result: Tensor = _Elu.apply(z, self.alpha, self.scale)
        return result

    def derivative(self, z: Tensor) -> Tensor:
        """The scale above 0, else scale·α·eᶻ computed as h + scale·α."""
        limit = self.alpha * self.scale
        return torch.where(z > 0, self.scale, torch.expm1(z.clamp(max=0)) * limit + limit)


class Selu(Elu):
    """The scaled ELU that keeps mean 0 and variance 1 (Klambauer et al. 2017, arXiv 1706.02515)."""

    def __init__(self) -> None:
        super().__init__(SELU_ALPHA, SELU_SCALE)


def _logistic(z: Tensor) -> Tensor:
    """1/(1 + e⁻ᶻ) without overflow: the exponential is taken of −|z| alone."""
    small = torch.exp(-z.abs())
    return torch.where(z >= 0, torch.ones_like(z), small) / (1 + small)


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        h = _logistic(z)
        ctx.save_for_backward(h)
        return h

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        return gradients[0] * (h * (1 - h))


class Sigmoid(Function):
    """1/(1 + e⁻ᶻ)."""

    def forward(self, z: Tensor) -> Tensor:
        """h."""
        result: Tensor = _Sigmoid.apply(z)
        return result

    def derivative(self, z: Tensor) -> Tensor:
        """h·(1 − h)."""
        h = _logistic(z)
        return h * (1 - h)


class Tanh(Function):
    """Hyperbolic tangent."""

    def forward(self, z: Tensor) -> Tensor:
        """h."""
        return z.tanh()

    def derivative(self, z: Tensor) -> Tensor:
        """1 − h²."""
        h = z.tanh()
        return 1 - h * h


class Relu6(Function):
    """min(max(z, 0), 6)."""

    piecewise_linear = True

    def forward(self, z: Tensor) -> Tensor:
        """h."""
        return nn.functional.relu6(z)

    def derivative(self, z: Tensor) -> Tensor:
        """1 strictly between 0 and 6, else 0."""
        return ((z > 0) & (z < 6)).to(z.dtype)


class Identity(Function):
    """z itself, the linear control."""

    piecewise_linear = True

    def forward(self, z: Tensor) -> Tensor:
        """z."""
        return z

    def derivative(self, z: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(z)


class Elementwise(Function):
    """A function of a tensor that is not in the catalogue; its derivative comes from autograd."""

    def __init__(self, function: Callable[..., Tensor], options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.function, self.options = function, options or {}

    def forward(self, z: Tensor) -> Tensor:
        """f(z) with the given options."""
        return self.function(z, **self.options)
