"""Why a unit died: Shapley values of the fall of its largest pre-activation over bias, weights and input.

For the last alive → dead step of a unit, m is the maximum over the probe of w·X + β, with a batch norm folded into
w and β. Three things changed since the measurement before: the unit's bias β, its incoming weights w, and the inputs X
that the layers below give. The Shapley value of each (Shapley 1953) is its mean share in Δm over the orders in which
the three could have changed; the three add up to Δm.

Shapes: weights [unit, *input], bias and maxima [unit], inputs [sample, *input].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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

    def value(self, moment: M, name: str, replica: int) -> Tensor | None:
        """One replica's parameter or buffer at a moment, if there is one of that name."""

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
    layers = {death.site.layer or "" for death in deaths}
    tops: dict[tuple[int, int], Tensor] = {}
    biases: dict[tuple[int, int], Tensor] = {}
    both = [_inputs(network, layers, moment, x) for moment in (before, after)]
    for inputs in zip(*both, strict=True) if deaths else ():
        for death in deaths:
            was, now = (_fed(network, death, moment, own) for moment, own in zip((before, after), inputs, strict=True))
            own = tops_of(was, now, death.product)
            key = death.number, death.replica
            tops[key] = torch.maximum(tops[key], own) if key in tops else own
            biases[key] = now.bias - was.bias
    found: dict[int, dict[str, Tensor]] = {}
    for death in deaths:
        key = death.number, death.replica
        values, fall = shapley(tops[key], biases[key])
        below = death.site.below
        drowned = below is not None and bool(dead[below][death.replica].all())
        _lay(found.setdefault(death.number, _nothing(died[death.number])), death, (values / fall).cpu(), drowned)
    return found


def _inputs(network: Explained[M], layers: set[str], moment: M, x: Tensor) -> Iterator[dict[str, Tensor]]:
    """The inputs of the layers at a moment, chunk by chunk: as they were kept, else computed again."""
    if moment.inputs:
        yield from moment.inputs
        return
    for part, _ in chunks(network, x, x):
        yield network.inputs_of(layers, moment, part)


class _Death(NamedTuple):
    """The units of one site and replica that died."""

    number: int
    site: Site
    replica: int
    units: Tensor
    product: Product


def _deaths(network: Measured, died: list[Tensor]) -> Iterable[_Death]:
    for number, own in enumerate(died):
        site = network.sites[number]
        product = _product(network, site) if site.affine and bool(own.any()) else None
        if product is not None:
            for replica in torch.nonzero(own.any(1)).flatten().tolist():
                yield _Death(number, site, replica, torch.nonzero(own[replica]).flatten(), product)


def _nothing(died: Tensor) -> dict[str, Tensor]:
    shares = torch.full((3, *died.shape), torch.nan, dtype=torch.float64)
    causes = torch.zeros(died.shape, dtype=torch.long)
    return {"cause": causes, "cause_bias": shares[0], "cause_weights": shares[1], "cause_input": shares[2]}


def _lay(columns: dict[str, Tensor], death: _Death, shares: Tensor, drowned: bool) -> None:
    """Writes the causes of some units into a site's columns."""
    place = death.replica, death.units.cpu()
    columns["cause"][place] = named_cause(shares, torch.full(shares.shape[1:], drowned))
    for name, own in zip(("bias", "weights", "input"), shares, strict=True):
        columns[f"cause_{name}"][place] = own


def _fed(network: Explained[M], death: _Death, moment: M, inputs: dict[str, Tensor]) -> Fed:
    """Weights, bias and inputs of some units in float64, batch norm folded in."""
    _, site, replica, units, _ = death
    layer = site.layer or ""

    def own(name: str) -> Tensor | None:
        found = network.value(moment, name, replica)
        return None if found is None else found.double()[units.to(found.device)]

    weights = own(f"{layer}.weight")
    assert weights is not None, "an affine site has a feeding layer"
    bias = own(f"{layer}.bias")
    bias = torch.zeros(len(units), dtype=weights.dtype, device=weights.device) if bias is None else bias
    if site.norm:
        mean, var = own(f"{site.norm}.running_mean"), own(f"{site.norm}.running_var")
        assert mean is not None, "a batch norm on an affine path has running statistics"
        assert var is not None, "a batch norm on an affine path has running statistics"
        norm: Any = network.module.get_submodule(site.norm)
        scale, shift = own(f"{site.norm}.weight"), own(f"{site.norm}.bias")
        factor = (1 if scale is None else scale) / (var + norm.eps).sqrt()
        weights = weights * factor.reshape(-1, *[1] * (weights.dim() - 1))
        bias = (bias - mean) * factor + (0 if shift is None else shift)
    return Fed(weights, bias, inputs[layer][replica].double())


def _product(network: Measured, site: Site) -> Product | None:
    """w·X of the feeding layer, or None where rows of its weight cannot be taken alone."""
    layer = network.module.get_submodule(site.layer or "")
    if isinstance(layer, nn.Linear):
        return lambda inputs, weights: (inputs @ weights.mT).movedim(-1, 1)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        spacing: tuple[Any, ...] = (layer.stride, layer.padding, layer.dilation)
        return lambda inputs, weights: F.conv2d(inputs, weights, None, *spacing)
    return None
