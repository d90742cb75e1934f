"""Why a unit died: Shapley values of the fall of its largest pre-activation over bias, weights and input.

For the last alive → dead step of a unit, m is the maximum over the probe of w·X + β, with a batch norm folded into
w and β. Three things changed since the measurement before: the unit's bias β, its incoming weights w, and the inputs X
that the layers below give. The Shapley value of each (Shapley 1953) is its mean share in Δm over the orders in which
the three could have changed; the three add up to Δm.

Shapes: weights [unit, *input], bias and maxima [unit], inputs [sample, *input].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reluexp.network import Network, Snapshot
from reluexp.sites import Site

__all__ = ["CAUSES", "Fed", "explain", "named_cause", "shapley"]

CAUSES = (None, "bias", "weights", "input", "mixed", "below")
"""the words for the numbers in which causes are kept"""

_MIXED, _BELOW = 4, 5


Moment = tuple[Snapshot, dict[str, Tensor]]
"""the parameters of a network, and the inputs [replica, sample, …] of its layers"""


class Fed(NamedTuple):
    """What determines the pre-activations of some units at one moment."""

    weights: Tensor
    bias: Tensor
    inputs: Tensor


def shapley(before: Fed, after: Fed, product: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Shapley values [bias | weights | input, unit] of Δm, and Δm [unit].

    `product(inputs, weights)` gives w·X as [sample, unit, *position]. Of the eight coalitions four differ, since the
    bias adds the same to m in each.
    """

    def top(weights: Tensor, inputs: Tensor) -> Tensor:
        return product(inputs, weights).transpose(0, 1).flatten(1).amax(1)

    old, new = top(before.weights, before.inputs), top(after.weights, after.inputs)
    moved, fed = top(after.weights, before.inputs), top(before.weights, after.inputs)
    bias = after.bias - before.bias
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
    network: Network, before: Snapshot, after: Snapshot, x: Tensor, died: list[Tensor], dead: list[Tensor]
) -> dict[int, dict[str, Tensor]]:
    """For each site with explained deaths: cause [replica, channel] and cause_bias, cause_weights, cause_input.

    `died` and `dead` hold for each site what became dead since `before`, and what is dead now [replica, channel]; x
    are the probe's samples. The network must be in evaluation mode, and is left with the parameters it had.
    """
    sites = [i for i, own in enumerate(died) if network.sites[i].affine and bool(own.any())]
    sites = [i for i in sites if _product(network, network.sites[i]) is not None]
    if not sites:
        return {}
    layers = {network.sites[i].layer or "" for i in sites}
    inputs = {moment: network.inputs_of(layers, moment, x) for moment in (before, after)}
    found = {}
    for i in sites:
        below = network.sites[i].below
        drowned = dead[below].all(1) if below is not None else torch.zeros(network.replicas, dtype=torch.bool)
        was, now = (before, inputs[before]), (after, inputs[after])
        found[i] = _causes_at(network, network.sites[i], was, now, died[i].cpu(), drowned.cpu())
    return found


def _causes_at(
    network: Network, site: Site, was: Moment, now: Moment, died: Tensor, drowned: Tensor
) -> dict[str, Tensor]:
    """The columns of one site, for the deaths between two moments."""
    product = _product(network, site)
    assert product is not None, "only sites with a product are explained"
    shares = torch.full((3, *died.shape), torch.nan, dtype=torch.float64)
    causes = torch.zeros(died.shape, dtype=torch.long)
    for replica in torch.nonzero(died.any(1)).flatten().tolist():
        units = torch.nonzero(died[replica]).flatten()
        before, after = (_fed(network, site, *moment, replica, units) for moment in (was, now))
        values, fall = shapley(before, after, product)
        own = (values / fall).cpu()
        shares[:, replica, units] = own
        causes[replica, units] = named_cause(own, drowned[replica].expand(len(units)))
    return {"cause": causes, "cause_bias": shares[0], "cause_weights": shares[1], "cause_input": shares[2]}


def _fed(
    network: Network, site: Site, snapshot: Snapshot, inputs: dict[str, Tensor], replica: int, units: Tensor
) -> Fed:
    """Weights, bias and inputs of some units in float64, batch norm folded in."""
    layer = site.layer or ""

    def own(name: str) -> Tensor | None:
        found = snapshot.value(network, name, replica)
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


def _product(network: Network, site: Site) -> Callable[[Tensor, Tensor], Tensor] | None:
    """w·X of the feeding layer, or None where rows of its weight cannot be taken alone."""
    layer = network.module.get_submodule(site.layer or "")
    if isinstance(layer, nn.Linear):
        return lambda inputs, weights: (inputs @ weights.mT).movedim(-1, 1)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        spacing: tuple[Any, ...] = (layer.stride, layer.padding, layer.dilation)
        return lambda inputs, weights: F.conv2d(inputs, weights, None, *spacing)
    return None
