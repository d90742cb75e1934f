"""The few modules that torch lacks or whose own checks forbid leading dimensions.

Shapes: a module sees [..., sample, channel, *positions]; the dimensions before `sample` may be any number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["BatchNorm", "Flatten", "Site", "activate"]


def activate(z: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Applies an elementwise function to a pre-activation: the marked operation that makes any function a site."""
    if torch.overrides.has_torch_function((z,)):
        result: Tensor = torch.overrides.handle_torch_function(activate, (z,), z, function)
        return result
    return function(z)


class Site(nn.Module):
    """A place of an activation in a catalogue model; `function` may hold learned parameters."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        """h = f(z), elementwise."""
        return activate(z, self.function)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over samples and positions, for dense and convolutional channels alike."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of positions is fine."""


class Flatten(nn.Module):
    """[..., channel, height, width] → [..., channel·height·width], whatever stands before; or other dimensions."""

    def __init__(self, dimensions: int = 3) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, x: Tensor) -> Tensor:
        """The last dimensions as one."""
        return x.flatten(-self.dimensions)
