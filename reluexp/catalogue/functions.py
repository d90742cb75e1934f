"""The activation functions as modules: h = f(z), and its pull-back g ↦ g·f'(z), both written into given memory.

A stack's replicas may have different functions: `Mixed` applies each to its slice, and all of them write into one
result. They are built from operations whose rounding does not depend on where in a tensor an element stands, so that a
trial's numbers do not depend on its stack, and from the cheapest of these on a CPU, where `where` costs as much as 40
products and expm1 as 150; torch's vectorised sigmoid rounds the tail of a tensor differently, hence the padding.

Shapes: any; Prelu expects its channel axis after the sample axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Elementwise",
    "Elu",
    "Function",
    "Gelu",
    "Identity",
    "LeakyRelu",
    "Mixed",
    "Prelu",
    "Relu",
    "Relu6",
    "Selu",
    "Sigmoid",
    "Silu",
    "Softplus",
    "Tanh",
]

SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805
_LANES = 32  # elements that torch's vectorised loops take at a time; what is left over is computed one by one

_FEW = 1 << 20  # numbers that a constant may have to be kept

_aten = torch.ops.aten  # overloads are named, since choosing one costs twice as long as a small operation
_threshold_backward = _aten.threshold_backward.grad_input


class Function(nn.Module):
    """An elementwise function that knows its derivative.

    A subclass gives `value`, `pull` and `plain`, or overrides `forward` alone, and then autograd differentiates it.
    """

    piecewise_linear = False
    """whether f'(z) is the same for a float32 z and the same z in float64"""

    rises: bool = False
    """whether f'(z) ≥ 0 everywhere: it need not be told from |f'(z)|, and f(max z) is max f(z)"""

    def value(self, z: Tensor, out: Tensor) -> None:
        """Writes h = f(z)."""
        raise NotImplementedError

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """Writes g·f'(z)."""
        raise NotImplementedError

    def pull_parameters(self, z: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """The gradient of each learned parameter, for the gradient g of h."""
        return ()

    def plain(self, z: Tensor) -> Tensor:
        """h by torch's own operations, for what looks into them: second derivatives, torch.func, tracing, compiling."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """h = f(z)."""
        if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self.plain(z)
        result: Tensor = _Apply.apply(z, self, *self.parameters())
        return result

    def derivative(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """f'(z) as training computes it, in z's own precision: the pull-back of 1, else by autograd.

        h = f(z) need not be computed again where it is known.
        """
        if type(self).pull is Function.pull:
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                return torch.autograd.grad(self(z.clone()).sum(), z)[0]  # the user's own may work in place
        with torch.no_grad():
            slope = torch.empty_like(z)
            if h is None:
                h = torch.empty_like(z)
                self.value(z, h)
            self.pull(z, h, _ones(z), slope)
        return slope

    def steepest(self) -> Tensor | None:
        """max |f'(z)| over all z of each learned slope, where that is a formula; shaped like the slopes."""
        return None


def _ones(z: Tensor) -> Tensor:
    """Ones laid out like z, kept where they are few: writing them costs as much as a derivative."""
    if z.device.type != "cpu" or z.numel() > _FEW:
        return torch.ones_like(z)
    return _kept_ones(z.shape, z.stride(), z.dtype)


@lru_cache(8)
def _kept_ones(shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, stride, dtype=dtype).fill_(1)


class _Apply(torch.autograd.Function):
    """A function as one operation, differentiated by its pull-back."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, function: Function, *parameters: Tensor) -> Tensor:
        h = torch.empty_like(z)
        function.value(z, h)
        ctx.save_for_backward(z, h)
        ctx.function, ctx.learns = function, bool(parameters)
        return h

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        z, h = ctx.saved_tensors
        if torch.is_grad_enabled():  # with create_graph, where the derivative must have one, too
            inputs = [own for own in (z, *ctx.function.parameters()) if own.requires_grad]
            found = iter(torch.autograd.grad(ctx.function.plain(z), inputs, g, create_graph=True))
            every = [next(found) if own.requires_grad else None for own in (z, *ctx.function.parameters())]
            return every[0], None, *every[1:]
        result = torch.empty_like(z)
        ctx.function.pull(z, h, g, result)
        return result, None, *(ctx.function.pull_parameters(z, g) if ctx.learns else ())


class Mixed(Function):
    """Different functions for the replicas of a stack: z is [replica, …], each function has `sizes` of them in turn."""

    def __init__(self, functions: Sequence[Function], sizes: Sequence[int]) -> None:
        super().__init__()
        self.parts, self.sizes = nn.ModuleList(functions), list(sizes)
        self.piecewise_linear = all(function.piecewise_linear for function in functions)

    @property
    def rises(self) -> bool:  # type: ignore[override]
        """Whether all of them do."""
        return all(function.rises for function in self.functions)

    @property
    def functions(self) -> list[Function]:
        """The functions in the order of their replicas."""
        return list(self.parts)  # type: ignore[arg-type]

    def plain(self, z: Tensor) -> Tensor:
        """Each replica's own h, by torch's operations."""
        both = zip(self.functions, z.split(self.sizes), strict=True)
        return torch.cat([function.plain(own) for function, own in both])

    def value(self, z: Tensor, out: Tensor) -> None:
        """Each replica's own h."""
        for function, *own in zip(self.functions, z.split(self.sizes), out.split(self.sizes), strict=True):
            function.value(*own)

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """Each replica's own g·f'(z)."""
        for function, *own in zip(self.functions, *(t.split(self.sizes) for t in (z, h, g, out)), strict=True):
            function.pull(*own)

    def pull_parameters(self, z: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """The gradient of what each function learns."""
        parts = zip(self.functions, z.split(self.sizes), g.split(self.sizes), strict=True)
        return tuple(own for function, *both in parts for own in function.pull_parameters(*both))


class Relu(Function):
    """max(z, 0)."""

    piecewise_linear = rises = True

    def plain(self, z: Tensor) -> Tensor:
        """Torch's relu."""
        return torch.relu(z)

    def value(self, z: Tensor, out: Tensor) -> None:
        """0 below 0."""
        torch.clamp_min(z, 0, out=out)

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g above 0, else 0."""
        _threshold_backward(g, z, 0, grad_input=out)

    def derivative(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """1 above 0, else 0."""
        return torch.gt(z, 0, out=torch.empty_like(z))


class LeakyRelu(Function):
    """z above 0, a·z below."""

    piecewise_linear = True

    def __init__(self, negative_slope: float) -> None:
        super().__init__()
        self.negative_slope, self.rises = negative_slope, negative_slope >= 0

    def plain(self, z: Tensor) -> Tensor:
        """Torch's leaky_relu."""
        return F.leaky_relu(z, self.negative_slope)

    def value(self, z: Tensor, out: Tensor) -> None:
        """a·z below 0."""
        _aten.leaky_relu.out(z, self.negative_slope, out=out)

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g above 0, else a·g."""
        _aten.leaky_relu_backward.grad_input(g, z, self.negative_slope, False, grad_input=out)


class Prelu(Function):
    """z above 0, a·z below, where a, [..., channel] or [..., 1], is learned (He et al. 2015, arXiv 1502.01852)."""

    piecewise_linear = True

    def __init__(self, channels: int, init: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((channels,), init))

    @property
    def rises(self) -> bool:  # type: ignore[override]
        """Whether no slope is negative just now; a GPU is not kept waiting for the answer."""
        return not self.slope.is_cuda and bool(self.slope.detach().ge(0).all())

    def steepest(self) -> Tensor:
        """max(1, |a|)."""
        return self.slope.detach().double().abs().clamp_min(1)

    def _slope(self, z: Tensor) -> Tensor:
        """The slopes, shaped to multiply z."""
        slope = self.slope.to(z.dtype).unsqueeze(-2)
        return slope[(..., *([None] * (z.dim() - slope.dim())))]

    def plain(self, z: Tensor) -> Tensor:
        """max(z, 0) + a·min(z, 0)."""
        return torch.relu(z) - self._slope(z) * torch.relu(-z)

    def value(self, z: Tensor, out: Tensor) -> None:
        """max(z, 0) + a·min(z, 0): one of the two is 0."""
        torch.mul(z.clamp_max(0), self._slope(z).detach(), out=out)
        out.add_(z.clamp_min(0))

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g above 0, else a·g."""
        above = _threshold_backward(g, z, 0, grad_input=torch.empty_like(g))
        torch.mul(g - above, self._slope(z).detach(), out=out)
        out.add_(above)

    def pull_parameters(self, z: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """Σ g·min(z, 0) over samples and positions, and over channels where they share the slope."""
        own = z.clamp_max(0).mul_(g)
        sample = self.slope.dim() - 1  # replicas stand before it
        channels = own.sum([sample, *range(sample + 2, z.dim())])
        return (channels if self.slope.shape[-1] > 1 or z.shape[sample + 1] == 1 else channels.sum(-1, keepdim=True),)


class Elu(Function):
    """z above 0, α·(eᶻ − 1) below, times a scale (Clevert et al. 2015, arXiv 1511.07289).

    Below 0 the absolute error is half a unit in the last place of 1, as eᶻ is rounded before 1 is taken away.
    """

    def __init__(self, alpha: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.scale, self.rises = alpha, scale, alpha * scale >= 0 and scale >= 0

    def plain(self, z: Tensor) -> Tensor:
        """Torch's elu, times the scale."""
        return self.scale * F.elu(z, self.alpha)

    def value(self, z: Tensor, out: Tensor) -> None:
        """scale·max(z, 0) + scale·α·(exp(min(z, 0)) − 1): one of the two is 0."""
        torch.clamp_max(z, 0, out=out)
        out.exp_().sub_(1)
        above = z.clamp_min(0)
        if self.scale != 1:
            above.mul_(self.scale)
        if self.alpha * self.scale != 1:
            out.mul_(self.alpha * self.scale)
        out.add_(above)

    def derivative(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """scale above 0, else h + scale·α, in float64 scale·α·eᶻ, which is not 0 where h is −scale·α by rounding."""
        if z.dtype != torch.float64:
            return super().derivative(z, h)
        below = z.clamp_max(0).exp_().mul_(self.alpha * self.scale)
        return torch.where(z > 0, self.scale, below)

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """scale·g above 0, else (h + scale·α)·g."""
        _aten.elu_backward.grad_input(g, self.alpha, self.scale, 1.0, True, h, grad_input=out)


class Selu(Elu):
    """The scaled ELU that keeps mean 0 and variance 1 (Klambauer et al. 2017, arXiv 1706.02515)."""

    def __init__(self) -> None:
        super().__init__(SELU_ALPHA, SELU_SCALE)


class Sigmoid(Function):
    """1/(1 + e⁻ᶻ)."""

    rises = True

    def plain(self, z: Tensor) -> Tensor:
        """Torch's sigmoid."""
        return torch.sigmoid(z)

    def value(self, z: Tensor, out: Tensor) -> None:
        """The logistic function, every element by the vectorised loop."""
        _logistic(z, out)

    def derivative(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """h·(1 − h), in float64 σ(z)·σ(−z), which is as exact above 0, where h is 1 from 37 on, as below."""
        return _logistic_slope(z) if z.dtype == torch.float64 else super().derivative(z, h)

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g·h·(1 − h)."""
        _aten.sigmoid_backward.grad_input(g, h, grad_input=out)


def _logistic(z: Tensor, out: Tensor) -> None:
    count = z.numel()
    if z.is_cuda or (count % _LANES == 0 and z.is_contiguous() and out.is_contiguous()):
        torch.sigmoid(z, out=out)
        return
    padded = z.new_zeros(count + -count % _LANES)
    padded[:count] = z.flatten()
    out.copy_(padded.sigmoid_()[:count].view(z.shape))


def _logistic_slope(z: Tensor) -> Tensor:
    above, below = torch.empty_like(z), torch.empty_like(z)
    _logistic(z, above)
    _logistic(-z, below)
    return above.mul_(below)


class Tanh(Function):
    """Hyperbolic tangent."""

    rises = True

    def derivative(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """1 − h², in float64 4·σ(2z)·σ(−2z), which is not 0 where h is 1 but for rounding."""
        return _logistic_slope(2 * z).mul_(4) if z.dtype == torch.float64 else super().derivative(z, h)

    def plain(self, z: Tensor) -> Tensor:
        """Torch's tanh."""
        return torch.tanh(z)

    def value(self, z: Tensor, out: Tensor) -> None:
        """tanh z."""
        torch.tanh(z, out=out)

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g·(1 − h²)."""
        _aten.tanh_backward.grad_input(g, h, grad_input=out)


class Relu6(Function):
    """min(max(z, 0), 6)."""

    piecewise_linear = rises = True

    def plain(self, z: Tensor) -> Tensor:
        """Torch's relu6."""
        return F.relu6(z)

    def value(self, z: Tensor, out: Tensor) -> None:
        """Cut at 0 and 6."""
        torch.clamp(z, 0, 6, out=out)

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g strictly between 0 and 6, else 0."""
        _aten.hardtanh_backward.grad_input(g, z, 0, 6, grad_input=out)


class Gelu(Function):
    """z·Φ(z), with the normal distribution function itself (Hendrycks & Gimpel 2016, arXiv 1606.08415)."""

    def plain(self, z: Tensor) -> Tensor:
        """Torch's gelu."""
        return F.gelu(z)

    def value(self, z: Tensor, out: Tensor) -> None:
        """z·(1 + erf(z/√2))/2; torch's own rounds the tail of a tensor differently."""
        torch.mul(z, math.sqrt(0.5), out=out)
        out.erf_().add_(1).mul_(0.5).mul_(z)

    def derivative(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """Φ(z) + z·φ(z), in float64 with Φ from erfc, which is not 0 where erf is −1 by rounding."""
        if z.dtype != torch.float64:
            return super().derivative(z, h)
        return torch.special.erfc(z * -math.sqrt(0.5)).mul_(0.5).add_(_normal_density(z).mul_(z))

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g·(Φ(z) + z·φ(z))."""
        torch.mul(z, math.sqrt(0.5), out=out)
        out.erf_().add_(1).mul_(0.5).add_(_normal_density(z).mul_(z)).mul_(g)


def _normal_density(z: Tensor) -> Tensor:
    return (z * z).mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))


class Silu(Function):
    """z/(1 + e⁻ᶻ) (Elfwing et al. 2017, arXiv 1702.03118)."""

    def plain(self, z: Tensor) -> Tensor:
        """Torch's silu."""
        return F.silu(z)

    def value(self, z: Tensor, out: Tensor) -> None:
        """z·σ(z)."""
        _logistic(z, out)
        out.mul_(z)

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g·σ(z)·(1 + z·σ(−z)), where z·σ(−z) is z − h."""
        rate = torch.empty_like(z)
        _logistic(z, rate)
        torch.sub(z, h, out=out)
        out.add_(1).mul_(rate).mul_(g)


class Softplus(Function):
    """log(1 + eᶻ), the smooth rectifier (Dugas et al. 2000)."""

    rises = True

    def plain(self, z: Tensor) -> Tensor:
        """Torch's softplus, which is z itself beyond the threshold: where e^−z is nothing beside 1."""
        return F.softplus(z, threshold=40)

    def value(self, z: Tensor, out: Tensor) -> None:
        """max(z, 0) + log(1 + e^−|z|), which overflows nowhere."""
        torch.abs(z, out=out)
        out.neg_().exp_().log1p_().add_(z.clamp_min(0))

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g·σ(z)."""
        _logistic(z, out)
        out.mul_(g)


class Identity(Function):
    """z itself, the linear control."""

    piecewise_linear = rises = True

    def plain(self, z: Tensor) -> Tensor:
        """A copy of z."""
        return z.clone()

    def value(self, z: Tensor, out: Tensor) -> None:
        """z."""
        out.copy_(z)

    def pull(self, z: Tensor, h: Tensor, g: Tensor, out: Tensor) -> None:
        """g."""
        out.copy_(g)


class Elementwise(Function):
    """A function of a tensor that is not in the catalogue; its derivative comes from autograd."""

    def __init__(self, function: Callable[..., Tensor], options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.function, self.options = function, options or {}

    def forward(self, z: Tensor) -> Tensor:
        """f(z) with the given options; of a copy, since it may work in place."""
        return self.function(z.clone(), **self.options)
