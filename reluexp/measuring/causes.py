"""Why a unit died: Shapley values of the fall of its largest pre-activation over bias, weights and input.

For the last alive → dead step of a unit, m is the maximum over the probe of w·X + β, with a batch norm folded into
w and β. Three things changed since the measurement before: the unit's bias β, its incoming weights w, and the inputs X
that the layers below give. The Shapley value of each (Shapley 1953) is its mean share in Δm over the orders in which
the three could have changed; the three add up to Δm.

Shapes: weights [unit, *input], bias and maxima [unit], inputs [sample, *input].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reluexp.measuring.probe import chunks
from reluexp.measuring.subject import Measured
from reluexp.networks.sites import Site

__all__ = ["CAUSES", "Fed", "explain", "named_cause", "shapley", "tops_of"]

CAUSES = (None, "bias", "weights", "input", "mixed", "below")
"""the words for the numbers in which causes are kept"""

_MIXED, _BELOW = 4, 5


class Moment(Protocol):
    """The parameters and buffers of a network at one moment, and perhaps what linear maps got, chunk by chunk."""

    @property
    def inputs(self) -> list[dict[str, Tensor]]:
        """For each chunk of the probe the inputs [replica, sample, …] by layer; nothing if they were not kept."""


M = TypeVar("M", bound=Moment, contravariant=True)


class Explained(Measured, Protocol[M]):
    """A network that can be asked about its past."""

    def values(self, moment: M, name: str) -> Tensor | None:
        """A parameter or buffer [replica, …] at a moment, if there is one of that name; kernels [out, in, *size]."""

    def inputs_of(self, layers: Iterable[str], moment: M, x: Tensor) -> dict[str, Tensor]:
        """The inputs [replica, sample, …] of the named linear maps at a moment, for x [sample, …]."""


Product = Callable[[Tensor, Tensor], Tensor]


class Fed(NamedTuple):
    """What determines the pre-activations of some units at one moment."""

    weights: Tensor
    bias: Tensor
    inputs: Tensor


def tops_of(before: Fed, after: Fed, product: Product) -> Tensor:
    """max w·X [coalition, unit] over the samples: nothing changed, the weights alone, the inputs alone, both.

    `product(inputs, weights)` gives w·X as [sample, unit, *position]. Of the eight coalitions of bias, weights and
    inputs four differ, since the bias adds the same to m in each.
    """

    def top(weights: Tensor, inputs: Tensor) -> Tensor:
        return product(inputs, weights).transpose(0, 1).flatten(1).amax(1)

    pairs = [(w, x) for x in (before.inputs, after.inputs) for w in (before.weights, after.weights)]
    return torch.stack([top(*pair) for pair in pairs])


def shapley(tops: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Shapley values [bias | weights | input, unit] of Δm, and Δm [unit], for `tops_of` and what the bias rose by."""
    old, moved, fed, new = tops
    weights = ((moved - old) + (new - fed)) / 2
    inputs = ((fed - old) + (new - moved)) / 2
    return torch.stack([bias, weights, inputs]), bias + new - old


def named_cause(shares: Tensor, below: Tensor) -> Tensor:
    """Numbers of `CAUSES` [unit] for shares [3, unit] of Δm: the one with at least ½, else mixed; below where given."""
    largest = shares.max(0)
    found = torch.where(largest.values >= 0.5, largest.indices + 1, _MIXED)
    found = torch.where(torch.isfinite(shares).all(0), found, 0)
    return torch.where(below, _BELOW, found)


def explain(
    network: Explained[M], before: M, after: M, x: Tensor, died: list[Tensor], dead: list[Tensor]
) -> dict[int, dict[str, Tensor]]:
    """For each site with explained deaths: cause [replica, channel] and cause_bias, cause_weights, cause_input.

    `died` and `dead` hold for each site what became dead since `before`, and what is dead now [replica, channel]; x
    are the probe's samples, which pass in chunks. The network must be in evaluation mode, and is left as it was.
    """
    deaths = list(_deaths(network, died))
    layers = {death.layer for death in deaths}
    moments = before, after
    affine = [[_affine(network, death, moment) for moment in moments] for death in deaths]
    tops: list[Tensor] = []
    for inputs in zip(*(_inputs(network, layers, moment, x) for moment in moments), strict=True) if deaths else ():
        own = [_tops(death, maps, inputs) for death, maps in zip(deaths, affine, strict=True)]
        tops = [torch.maximum(*both) for both in zip(tops, own, strict=True)] if tops else own
    found = {}
    for death, top, (was, now) in zip(deaths, tops, affine, strict=True):
        values, fall = shapley(top, now.bias - was.bias)
        below = death.site.below
        drowned = torch.zeros_like(died[death.number]) if below is None else dead[below].cpu()
        found[death.number] = _laid(died[death.number], death.place, (values / fall).cpu(), drowned.all(1))
    return found


def _inputs(network: Explained[M], layers: set[str], moment: M, x: Tensor) -> Iterator[dict[str, Tensor]]:
    """The inputs of the layers at a moment, chunk by chunk: as they were kept, else computed again."""
    if moment.inputs:
        yield from moment.inputs
        return
    for part, _ in chunks(network, x, x):
        yield network.inputs_of(layers, moment, part)


class _Deaths(NamedTuple):
    """The units of one site that died: their replicas and channels [unit], replica by replica."""

    number: int
    site: Site
    layer: str
    place: tuple[Tensor, Tensor]
    product: Product

    @property
    def replicas(self) -> list[tuple[int, slice]]:
        """The replicas that have any, each with its part of the units."""
        numbers, counts = self.place[0].unique_consecutive(return_counts=True)
        ends = accumulate(counts.tolist())
        return [
            (replica, slice(end - count, end))
            for replica, count, end in zip(numbers.tolist(), counts.tolist(), ends, strict=True)
        ]


def _deaths(network: Measured, died: list[Tensor]) -> Iterable[_Deaths]:
    for number, own in enumerate(died):
        site = network.sites[number]
        product = _product(network, site) if site.affine and bool(own.any()) else None
        if product is not None and site.layer:
            replicas, units = torch.nonzero(own.cpu(), as_tuple=True)
            yield _Deaths(number, site, site.layer, (replicas, units), product)


def _laid(died: Tensor, place: tuple[Tensor, Tensor], shares: Tensor, drowned: Tensor) -> dict[str, Tensor]:
    """A site's columns [replica, channel] with the shares [3, unit] of the units that died; `drowned` [replica]."""
    columns = {"cause": torch.zeros(died.shape, dtype=torch.long)}
    columns["cause"][place] = named_cause(shares, drowned[place[0]])
    for name, own in zip(("bias", "weights", "input"), shares, strict=True):
        columns[f"cause_{name}"] = torch.full(died.shape, torch.nan, dtype=torch.float64)
        columns[f"cause_{name}"][place] = own
    return columns


class _Affine(NamedTuple):
    """Weights [unit, *input] and bias [unit] in float64, a batch norm folded in."""

    weights: Tensor
    bias: Tensor


def _affine(network: Explained[M], death: _Deaths, moment: M) -> _Affine:
    """What makes pre-activations of inputs, for the units that died."""

    def own(name: str) -> Tensor | None:
        found, (replicas, units) = network.values(moment, name), death.place
        return None if found is None else found[replicas.to(found.device), units.to(found.device)].double()

    weights = own(f"{death.layer}.weight")
    assert weights is not None, "an affine site has a feeding layer"
    bias = own(f"{death.layer}.bias")
    bias = torch.zeros(len(weights), dtype=weights.dtype, device=weights.device) if bias is None else bias
    norm = death.site.norm
    if norm:
        mean, var = own(f"{norm}.running_mean"), own(f"{norm}.running_var")
        assert mean is not None, "a batch norm on an affine path has running statistics"
        assert var is not None, "a batch norm on an affine path has running statistics"
        module: Any = network.module.get_submodule(norm)
        scale, shift = own(f"{norm}.weight"), own(f"{norm}.bias")
        factor = (1 if scale is None else scale) / (var + module.eps).sqrt()
        weights = weights * factor.reshape(-1, *[1] * (weights.dim() - 1))
        bias = (bias - mean) * factor + (0 if shift is None else shift)
    return _Affine(weights, bias)


def _tops(death: _Deaths, affine: Sequence[_Affine], inputs: Sequence[dict[str, Tensor]]) -> Tensor:
    """`tops_of` the units that died [coalition, unit], for a chunk's inputs before and after."""
    found = []
    for replica, units in death.replicas:  # each by itself, so that it does not matter which others are there
        was, now = (
            Fed(maps.weights[units].clone(), maps.bias[units], own[death.layer][replica].double())
            for maps, own in zip(affine, inputs, strict=True)
        )
        found.append(tops_of(was, now, death.product))
    return torch.cat(found, 1)


def _product(network: Measured, site: Site) -> Product | None:
    """w·X of the feeding layer, or None where rows of its weight cannot be taken alone."""
    layer = network.module.get_submodule(site.layer or "")
    if isinstance(layer, nn.Linear):
        return lambda inputs, weights: (inputs @ weights.mT).movedim(-1, 1)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        spacing: tuple[Any, ...] = (layer.stride, layer.padding, layer.dilation)
        return lambda inputs, weights: F.conv2d(inputs, weights, None, *spacing)
    return None
