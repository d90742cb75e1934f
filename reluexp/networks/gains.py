"""Two numbers that follow from an activation itself: the gain of its init, and its reference slope."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reluexp.catalogue.activations import build_activation, dies
from reluexp.catalogue.functions import Function, Mixed
from reluexp.catalogue.registry import is_own
from reluexp.errors import WatchError
from reluexp.networks.mode import own_random_state

__all__ = [
    "FAR_BELOW",
    "auto_gain",
    "can_be_dead",
    "derivative",
    "exact_slope",
    "off_below",
    "reference_slope",
    "slopes_of",
]

FAR_BELOW, _FAR = -4.5, 15.0
"""where relu, relu6, hardswish and hardsigmoid are exactly 0, and gelu, silu, elu and sigmoid are not; and how far from
0, on either side, the former are flat and the latter are not"""

GRID = torch.arange(-500, 501, dtype=torch.float64) / 100
"""z = −5, −4.99 … 5"""


def auto_gain(function: nn.Module) -> float:
    """1/√E f(z)² for z ~ N(0, 1): the gain that keeps the second moment (He et al. 2015, arXiv 1502.01852).

    By Gauss–Legendre quadrature over pieces of length ½ from −12 to 12: many activations have a kink at 0 or at another
    whole number. Raises ValueError when f is 0 or not finite there.
    """
    nodes, weights = np.polynomial.legendre.leggauss(16)
    z = torch.from_numpy((np.arange(-12, 12, 0.5)[:, None] + (nodes + 1) / 4).ravel())
    density = torch.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    with torch.no_grad():
        h = _on_grid(function, z).mean(-1)
    moment = float((torch.from_numpy(np.tile(weights / 4, 48)) * density * h * h).sum())
    if not 0 < moment < float("inf"):
        raise ValueError(f"the activation's second moment under a standard normal input is {moment}; give init.gain")
    return moment**-0.5


def _on_grid(function: nn.Module, z: Tensor) -> Tensor:
    """f(z) [point, channel] for a module that may hold one parameter for each channel."""
    channels = max((parameter.numel() for parameter in function.parameters()), default=1)
    h: Tensor = _in_double(function)(z.unsqueeze(-1).repeat(1, channels))  # a copy: the user's own may work in place
    return h.double()


def _in_double(function: Any) -> Any:
    """The function for inputs in float64: of a module of the user's a copy whose parameters and buffers are so, too."""
    if not isinstance(function, nn.Module) or isinstance(function, Function):
        return function
    return copy.deepcopy(function).double()


def derivative(function: nn.Module, z: Tensor) -> Tensor:
    """f'(z) in closed form where the module offers it, else by autograd; shaped like z."""
    if hasattr(function, "derivative"):
        closed: Any = function
        slope: Tensor = closed.derivative(z)
        return slope
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        h = function(z.clone()).sum()  # the user's own may work in place
        if not h.requires_grad:
            raise WatchError("what was given to reluexp.layers.activate has no derivative that autograd knows of")
        return torch.autograd.grad(h, z)[0]


def exact_slope(function: Any, z: Tensor) -> Tensor:
    """f'(z) evaluated in float64, unless that makes no difference; shaped like z.

    In float32 it is 0 or not by the accident of a formula: that of the sigmoid at +18, but not at −18.
    """
    if isinstance(function, Mixed) and not function.piecewise_linear:
        both = zip(function.functions, z.split(function.sizes), strict=True)
        return torch.cat([exact_slope(own, part).double() for own, part in both])
    if getattr(function, "piecewise_linear", False):
        return derivative(function, z)
    return _in_float64(function, z)


def _in_float64(function: Any, z: Tensor) -> Tensor:
    try:
        return derivative(_in_double(function), z.double())
    except RuntimeError:  # one with tensors of its own that do not go with float64
        return derivative(function, z.float())


def off_below(options: Any) -> bool:
    """Whether an activation is exactly 0 far below 0, so that its units can die of z ≤ 0; a user's own is tried."""
    if not is_own(options):
        return dies(options)
    return _tried(options, lambda function: bool((function(torch.full((3, 4), FAR_BELOW).double()) == 0).all()), False)


def can_be_dead(options: Any) -> bool:
    """Whether f' is exactly 0 far from 0 on either side, so that units can be dead; True where that cannot be tried."""
    if not is_own(options):
        return dies(options)

    def flat(function: nn.Module) -> bool:
        sides = (exact_slope(function, torch.full((3, 4), side)) for side in (-_FAR, _FAR))
        return any(bool((slope == 0).all()) for slope in sides)

    return _tried(options, flat, True)


def _tried(options: Any, test: Callable[[nn.Module], bool], otherwise: bool) -> bool:
    try:
        with own_random_state():
            return test(build_activation(options, 4).double().eval())
    except Exception:  # whatever the user's code raises: it may be for images alone; its trials say what is wrong
        return otherwise


def slopes_of(function: Any, replicas: int) -> Tensor | None:
    """The learned slopes [replica, channel or 1] of a site's activation, NaN for replicas without; None if none has."""
    if isinstance(function, Mixed):
        parts = [slopes_of(own, size) for own, size in _parts(function)]
        width = max((own.shape[1] for own in parts if own is not None), default=0)
        if not width:
            return None
        nothing = [torch.full((size, 1), torch.nan, dtype=torch.float64) for size in function.sizes]
        known = [none if own is None else own for own, none in zip(parts, nothing, strict=True)]
        device = next(own.device for own in parts if own is not None)
        return torch.cat([own.to(device).expand(-1, width) for own in known])
    slope = getattr(function, "slope", getattr(function, "weight", None))
    if not isinstance(slope, Tensor) or not isinstance(function, (Function, nn.PReLU)):
        return None
    return slope.detach().double().reshape(replicas, -1)


def reference_slope(
    function: Any, shape: torch.Size, axis: int, samples: int, device: torch.device | str = "cpu"
) -> Tensor:
    """s_f = max |f'(z)| over z = −5, −4.99 … 5 for inputs of that shape: a number, or [*lead, channel or 1].

    At the current values of the activation's parameters: relu 1, prelu max(1, |a|), selu 1.758, sigmoid ¼. `axis` is
    the channel axis of the shape, `samples` the sample axis; what stands before it are replicas.
    """
    if isinstance(function, Mixed):
        parts = [(own, torch.Size([size, *shape[1:]])) for own, size in _parts(function)]
        slopes = [reference_slope(own, sizes, axis, samples, device) for own, sizes in parts]
        width = max(slope.shape[-1] if slope.dim() else 1 for slope in slopes)
        return torch.cat([slope.expand(sizes[0], width) for slope, (_, sizes) in zip(slopes, parts, strict=True)])
    if isinstance(function, Function):
        if next(function.parameters(), None) is None:
            return _known_slope(function).to(device)
        known = function.steepest()
        if known is not None:
            return known.to(device)
    lead = shape[:samples]
    sizes = [*lead, *([1] * (len(shape) - samples))]
    sizes[samples] = len(GRID)
    if axis < len(shape):
        sizes[axis] = next(function.parameters()).shape[-1] if isinstance(function, Function) else shape[axis]
    columns = [1] * len(shape)
    columns[samples] = len(GRID)
    where = next(function.parameters()).device if isinstance(function, Function) else device
    slope = _in_float64(function, GRID.to(where).view(columns).expand(sizes))
    return slope.detach().double().abs().amax(samples).reshape(*lead, -1).to(device)


@lru_cache(256)
def _known_slope(function: Function) -> Tensor:
    return derivative(function, GRID).detach().abs().amax()


def _parts(function: Mixed) -> list[tuple[Function, int]]:
    return list(zip(function.functions, function.sizes, strict=True))
