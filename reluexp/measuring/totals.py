"""What adds up over the chunks of a probe besides the sites' sums: losses, the logits' moments, squared gradients."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from reluexp.measuring.metrics import extreme
from reluexp.measuring.subject import Measured

__all__ = ["Place", "Totals", "accuracy", "place"]


def accuracy(outputs: Tensor, y: Tensor) -> Tensor:
    """The share of right labels [replica], float64; NaN for targets that are none. Shapes as in `loss_per_sample`."""
    if y.is_floating_point() or y.dim() != outputs.dim() - 1:
        return torch.full((outputs.shape[0],), math.nan, dtype=torch.float64, device=outputs.device)
    return (outputs.max(-1).indices == y).double().mean(1)  # argmax takes longer


class Place(NamedTuple):
    """Where in the graph a pre-activation stands, whatever is written over it later; and how many numbers it has."""

    edge: GradientEdge | None
    number: int


def place(z: Tensor) -> Place:
    """The place of a pre-activation before anything is written over it."""
    return Place(get_gradient_edge(z) if z.requires_grad and torch.is_grad_enabled() else None, z.numel())


class Totals:
    """What adds up over chunks besides the sites' sums: losses, the logits' moments, squared gradients."""

    def __init__(self, network: Measured) -> None:
        self.network = network
        zero = torch.zeros(network.replicas, dtype=torch.float64, device=network.device)
        self.loss, self.right, self.first, self.second = zero, zero, zero, zero
        self.low: Tensor | None = None
        self.high: Tensor | None = None
        self.count = self.width = 0
        self.gradients: list[Tensor] = []
        self.places: list[int] = []
        self.weights = [network.weight(site.layer) for site in network.sites] + [network.weight(network.output_layer)]
        self.leaves = list({id(w): w for w in self.weights if w is not None and w.requires_grad}.values())
        self.weight_gradients: list[Tensor] = []

    def add(self, logits: Tensor, losses: Tensor, y: Tensor) -> None:
        """A chunk's outputs [replica, sample, number], losses [replica, sample] and labels [sample]."""
        self.loss = self.loss + losses.double().sum(1)
        self.right = self.right + accuracy(logits, y[None]) * len(y)
        self.first = self.first + logits.sum((1, 2), dtype=torch.float64)
        self.second = self.second + self._length(logits).square()
        self.count += logits.shape[1] * logits.shape[2]
        self.width = logits.shape[2]
        low, high = extreme(logits, torch.amin), extreme(logits, torch.amax)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    @property
    def range(self) -> Tensor:
        """The largest range of an output over the probe."""
        return (self.high - self.low).amax(1).double()  # type: ignore[operator]

    def backward(self, loss: Tensor, pre: list[Place], logits: Tensor) -> None:
        """Adds the squares of ∂ℓ_p/∂z_p, and the gradients of weights."""
        inputs = [*pre, place(logits)]
        wanted = [i for i, place in enumerate(inputs) if place.edge is not None]
        edges: list[Any] = [inputs[i].edge for i in wanted]
        found = torch.autograd.grad(loss, edges + self.leaves, allow_unused=True) if loss.requires_grad else ()
        squares = [torch.full_like(self.loss, math.nan) for _ in inputs]
        for index, gradient in zip(wanted, found, strict=False):
            squares[index] = torch.zeros_like(self.loss) if gradient is None else self._length(gradient).square()
        places = [place.number // len(self.loss) for place in inputs]
        self.gradients = [a + b for a, b in zip(self.gradients, squares, strict=True)] if self.gradients else squares
        self.places = [a + b for a, b in zip(self.places, places, strict=True)] if self.places else places
        weights = [
            torch.zeros_like(leaf) if g is None else g
            for leaf, g in zip(self.leaves, found[len(wanted) :], strict=True)
        ]
        before = self.weight_gradients
        self.weight_gradients = [a + b for a, b in zip(before, weights, strict=True)] if before else weights

    def finish(self, layers: list[dict[str, Tensor]], samples: int, full: bool) -> dict[str, Tensor]:
        """Adds the gradient columns to the sites' metrics and returns the output's."""
        mean = self.first / self.count
        output = {"pre_mean": mean, "pre_std": (self.second / self.count - mean * mean).clamp(min=0).sqrt()}
        by_leaf = {id(leaf): g / samples for leaf, g in zip(self.leaves, self.weight_gradients, strict=False)}
        for index, (metrics, weight) in enumerate(zip([*layers, output], self.weights, strict=True)):
            if weight is not None:
                metrics["weight_norm"] = self._length(weight)
            if full:
                metrics["backprop_norm"] = (self.gradients[index] / self.places[index]).sqrt()
                if weight is not None and id(weight) in by_leaf:
                    norm = self._length(by_leaf[id(weight)])
                    metrics["weight_grad_norm"] = torch.where(metrics["backprop_norm"].isnan(), math.nan, norm)
        return output

    def _length(self, values: Tensor) -> Tensor:
        """L2 norm [replica], summed in double precision without a copy in it."""
        own = values.detach().reshape(len(self.loss), -1)
        return torch.linalg.vector_norm(own, dim=1, dtype=torch.float64)
