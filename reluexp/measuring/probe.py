"""Measuring a stack of networks on fixed samples, in measuring mode; nothing of the networks changes.

Shapes as in `metrics`; losses and accuracies are float64 [replica].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

from reluexp.catalogue.functions import Function, Mixed
from reluexp.measuring.metrics import STEEPEST, Sums, first_sample, merge, site_sums, summaries, top_count
from reluexp.measuring.subject import Measured
from reluexp.measuring.totals import Place, Totals, accuracy, place
from reluexp.networks.gains import exact_slope, reference_slope, slopes_of
from reluexp.networks.mode import throwaway_buffers
from reluexp.networks.operations import Operation

__all__ = [
    "Measurement",
    "Probe",
    "chunks",
    "evaluate",
    "loss_per_sample",
    "settle",
    "settled_norms",
]

Loss = Callable[[Tensor, Tensor], Tensor]

_DENSE_CHUNK, _IMAGE_CHUNK = 512, 128
_LEAST_CHUNK, _MOST_CHUNK, _GPU_SHARE = 32, 4096, 40
_STEEP = 0.02
_FIRST = 32
_KEPT = 1 << 25
"""how many numbers of inputs a measurement may keep to explain deaths; beyond it they are computed again"""


@dataclass(frozen=True)
class Measurement:
    """One measurement: metrics of each site and of the output, states of each site's units, the loss."""

    layers: list[dict[str, Tensor]]
    units: list[dict[str, Tensor]]
    output: dict[str, Tensor]
    loss: Tensor
    accuracy: Tensor
    output_range: Tensor
    outputs: int
    inputs: list[dict[str, Tensor]]
    """for each chunk the inputs [replica, sample, …] of the linear maps that were asked for, by name"""

    @property
    def dead_fraction(self) -> Tensor:
        """Share of dead units over all sites [replica], each unit counted once."""
        dead = torch.cat([units["dead"] for units in self.units], 1) if self.units else torch.zeros(len(self.loss), 1)
        return dead.double().mean(1)

    def rows(self, network: Measured) -> Iterator[tuple[str | None, dict[str, Any]]]:
        """The rows of `layers`, one for each site and one for the output, each with the layer that feeds it."""
        for number, (site, metrics) in enumerate(zip(network.sites, self.layers, strict=True)):
            about = {"site": number, "site_name": site.name, "kind": site.kind, "width": site.width}
            yield site.layer, {**about, **metrics}
        about = {"site": None, "site_name": "output", "kind": "dense", "width": self.outputs}
        yield network.output_layer, {**about, **self.output}


def loss_per_sample(outputs: Tensor, y: Tensor) -> Tensor:
    """The loss [replica, sample] of outputs [replica, sample, output].

    Cross-entropy for integer labels y [replica or 1, sample]; for real targets [replica or 1, sample, output] the mean
    over the outputs of the squared error.
    """
    if y.is_floating_point():
        return (outputs - y).square().mean(-1)
    loss: Tensor = _CrossEntropy.apply(outputs, y.expand(outputs.shape[0], -1).unsqueeze(-1))
    return loss


class _CrossEntropy(torch.autograd.Function):
    """−log softmax(outputs)[label]: torch's own takes four times as long for ten outputs."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, labels: Tensor) -> Tensor:
        apart = outputs - outputs.amax(-1, keepdim=True)
        powers = apart.exp()
        total = powers.sum(-1, keepdim=True)
        ctx.save_for_backward(powers, total, labels)
        return (total.log() - apart.gather(-1, labels)).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        powers, total, labels = ctx.saved_tensors
        found = powers / total
        found.scatter_add_(-1, labels, found.new_full(labels.shape, -1.0))
        return found.mul_(g.unsqueeze(-1)), None


def chunks(network: Measured, x: Tensor, y: Tensor, size: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of nearly equal size, on the network's device: no sample's numbers depend on its companions there."""
    count = math.ceil(len(x) / (size or network.chunk or _chunk(network)))
    for part, labels in zip(torch.tensor_split(x, count), torch.tensor_split(y, count), strict=True):
        yield part.to(network.device), labels.to(network.device)


def _chunk(network: Measured) -> int:
    """Samples in a part: what a core's cache likes, or a share of a GPU's memory: there the number of parts counts."""
    if torch.device(network.device).type != "cuda":
        return _plain_chunk(network)
    share = int(network.memory_share * torch.cuda.get_device_properties(network.device).total_memory) // _GPU_SHARE
    numbers = network.replicas * sum(site.width * site.positions for site in network.sites)
    return max(_LEAST_CHUNK, min(_MOST_CHUNK, share // (4 * max(1, numbers))))


def _plain_chunk(network: Measured) -> int:
    return _IMAGE_CHUNK if any(site.positions > 1 for site in network.sites) else _DENSE_CHUNK


def evaluate(network: Measured, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss and accuracy of every replica on [sample, …]; the module must be in evaluation mode."""
    loss = torch.zeros(network.replicas, dtype=torch.float64, device=x.device)
    right = torch.zeros_like(loss)
    with torch.no_grad():
        for part, labels in chunks(network, x, y):
            logits = network.forward(part)
            loss += loss_per_sample(logits, labels[None]).double().sum(1)
            right += accuracy(logits, labels[None]) * len(part)
    return loss / len(x), right / len(x)


@contextmanager
def settled_norms(network: Measured, x: Tensor, y: Tensor) -> Iterator[None]:
    """While open, running statistics are those of one cumulative pass over x; afterwards they are what they were.

    Before the first step they are (0, 1), which would make normalisation the identity.
    """
    norms = [m for m in network.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with throwaway_buffers(network.module):
        settle(network, norms, x, y)
        yield


def settle(network: Measured, norms: Sequence[nn.modules.batchnorm._BatchNorm], x: Tensor, y: Tensor) -> None:
    """Sets the running statistics of these norms by one cumulative pass over x; leaves them evaluating.

    Batch statistics depend on the batches: these are of one size, whatever shares the stack and on whatever device, or
    as large as `network.chunk` allows where that is smaller.
    """
    size = min(_plain_chunk(network), network.chunk or _plain_chunk(network))
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = None
            norm.train()
        with torch.no_grad():
            for part, _ in chunks(network, x, y, size) if norms else ():
                network.forward(part)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


class Probe:
    """The probe samples x [sample, …] and their labels, and how a stack is measured on them.

    `loss` gives [replica, sample] of outputs and labels [1, sample].
    """

    def __init__(self, network: Measured, x: Tensor, y: Tensor, loss: Loss = loss_per_sample) -> None:
        self.network, self.x, self.y, self.loss = network, x, y, loss
        self._samples = len(x)
        """of the chunk that passes just now"""
        self._references: dict[int, Tensor] = {}
        self._learned: dict[int, dict[str, Tensor]] = {}

    def measure(
        self, full: bool, spectra: bool = True, gradients: bool = True, hear: Sequence[str] = ()
    ) -> Measurement:
        """A light measurement (forward only), or a full one, with gradients and spectra if they are wanted.

        The module must be in evaluation mode. `hear` names linear maps whose inputs are kept,
        unless they are too many.
        """
        network, gradients = self.network, full and gradients
        sums: list[Sums] = []
        tops = [top_count(len(self.x) * s.positions * s.width) if full else 0 for s in network.sites]
        totals = Totals(network)
        inputs: list[dict[str, Tensor]] = []
        for x, y in chunks(network, self.x, self.y):
            self._samples = len(x)
            found: list[Sums] = []
            pre: list[Place] = []
            least = [_least(*own) for own in zip(sums, tops, strict=True)] if sums else [-1.0] * len(tops)

            def listen(site: int, z: Tensor, h: Tensor, function: Callable[[Tensor], Tensor],
                       found: list[Sums] = found, pre: list[Place] = pre, least: list[float] = least,
                       ) -> None:  # fmt: skip
                pre.append(place(z))
                with torch.no_grad(), _unpacked():
                    spectrum, values = full and spectra, (z.detach(), h.detach())
                    found.append(self._site(site, *values, function, tops[site], spectrum, least[site]))

            with torch.set_grad_enabled(gradients), network.hearing(hear) as heard:
                logits = network.forward(x, listener=listen)
                losses = self.loss(logits, y[None])
            if hear:
                inputs.append({layer: network.per_replica(value.detach()) for layer, value in heard.items()})
                if sum(value.numel() for chunk in inputs for value in chunk.values()) > _KEPT:
                    inputs, hear = [], ()
            totals.add(logits.detach(), losses.detach(), y)
            if gradients:
                totals.backward(losses.sum(), pre, self._outgoing(logits))
            sums = [merge(a, b, top) for a, b, top in zip(sums, found, tops, strict=True)] if sums else found
        summed = summaries(sums, [self._references[site] for site in range(len(sums))])
        layers = [layer for layer, _ in summed]
        for site, layer in enumerate(layers):
            layer.update(self._learned.get(site, {}))
        output = totals.finish(layers, len(self.x), gradients)
        return Measurement(
            layers,
            [units for _, units in summed],
            output,
            totals.loss / len(self.x),
            totals.right / len(self.x),
            totals.range,
            totals.width,
            inputs,
        )

    def _outgoing(self, logits: Tensor) -> Tensor:
        """The tensor that the loss was computed from, which are the logits where the network's own shape is kept."""
        return logits

    def confirm(self, x: Tensor, order: Tensor) -> list[Tensor]:
        """For each site [replica, channel]: how many of the samples x[order] must be seen until the unit responds.

        A unit responds to a sample where f'(z) ≠ 0 at some position; −1 says that it responds to none. The pass ends
        when every unit has responded, so that it costs one evaluation at most, of the replicas that it is about.
        """
        network = self.network
        seen = [torch.full((network.replicas, site.width), -1, device=network.device) for site in network.sites]
        few = min(_FIRST, network.chunk or _FIRST)
        self._look(x, order[:few], seen, 0)  # most units respond at once
        left = torch.stack([(own < 0).any(1) for own in seen]).any(0).nonzero().flatten().tolist() if seen else []
        few_left = network.only(left) if left and 2 * len(left) <= network.replicas else None
        if few_left:
            own = [all_of[left] for all_of in seen]
            Probe(few_left, self.x, self.y, self.loss)._look(x, order[few:], own, few)
            for all_of, part in zip(seen, own, strict=True):
                all_of[left] = part
        elif left:
            self._look(x, order[few:], seen, few)
        return seen

    def _look(self, x: Tensor, order: Tensor, seen: list[Tensor], start: int) -> None:
        """Goes on with `confirm` after `start` samples, until every unit has responded."""

        def listen(site: int, z: Tensor, h: Tensor, function: Callable[[Tensor], Tensor]) -> None:
            for rows, own in self._parts(function) if z.numel() else ():
                left = seen[site][rows] < 0
                if bool(left.any()):
                    slope = self._exact(site, own, z, rows)
                    if self.network.masks:
                        slope = slope * self.network.masks[site][rows, None, :, None]
                    if not bool(z.sum().isfinite()):  # a unit whose z is not finite is in no state
                        slope = slope.where(self._wide(site, z)[rows].isfinite(), 1.0)
                    first = first_sample(slope)
                    seen[site][rows] = torch.where(left & (first > 0), start + first, seen[site][rows])

        for part, _ in chunks(self.network, order, order) if len(order) else ():
            if not any(bool((own < 0).any()) for own in seen):
                break
            self._samples = len(part)
            with torch.no_grad():
                self.network.forward(x[part.to(x.device)].to(self.network.device), listener=listen)
            start += len(part)

    def _parts(self, function: Any) -> list[tuple[slice, Any]]:
        """The replicas of each function of a site."""
        if not isinstance(function, Mixed):
            return [(slice(0, self.network.replicas), function)]
        ends = list(accumulate(function.sizes))
        return [
            (slice(end - size, end), own)
            for end, size, own in zip(ends, function.sizes, function.functions, strict=True)
        ]

    def _site(
        self, site: int, z: Tensor, h: Tensor, function: Any, top: int, spectrum: bool, least: float = -1.0
    ) -> Sums:
        """The sums of one chunk at one site."""
        self._references[site] = reference = self._reference(site, z, function)
        learned = slopes_of(function, self.network.replicas)
        if learned is not None:
            self._learned[site] = {"learned_slope_mean": learned.mean(1), "learned_slope_min": learned.amin(1),
                                   "learned_slope_max": learned.amax(1)}  # fmt: skip
        mask = self.network.masks[site][:, None, :, None] if self.network.masks else None
        wide_z, wide_h, slope = self._wide(site, z), self._wide(site, h), self._slope(site, z, h, function)
        slope = slope if mask is None else slope * mask
        sums = site_sums(wide_z, wide_h, slope, reference, top, spectrum, least)
        for rows, own in self._unsound(site, function, sums["extremes"][:, STEEPEST], reference):
            slope = self._exact(site, own, z, rows).abs()
            slope = slope if mask is None else slope * mask[rows]
            limits = reference[rows] if len(reference) > 1 else reference
            for name, value in site_sums(wide_z[rows], wide_h[rows], slope, limits).items():
                if isinstance(value, Tensor):
                    sums[name][rows] = value
        return sums

    def _slope(self, site: int, z: Tensor, h: Tensor, function: Any) -> Tensor:
        """|f'(z)| [replica, sample, channel, position], in single precision where the function knows it itself."""
        if not isinstance(function, Function):
            return self._wide(site, exact_slope(function, z)).abs()
        fast = self._wide(site, function.derivative(z, h))
        return fast if function.rises else fast.abs()

    def _unsound(
        self, site: int, function: Any, steepest: Tensor, reference: Tensor
    ) -> Iterator[tuple[slice, Function]]:
        """Single replicas with a unit whose largest |f'(z)| is near a threshold, where single precision will not do.

        Each replica by itself, so that it does not matter which others are there.
        """
        if not isinstance(function, Function) or function.piecewise_linear:
            return
        limits = _STEEP * reference
        if self.network.masks:
            limits = limits * self.network.masks[site]
        sound = (steepest >= limits).all(1).tolist()
        for rows, own in [] if all(sound) else self._parts(function):
            if not own.piecewise_linear:
                yield from ((slice(r, r + 1), own) for r in range(rows.start, rows.stop) if not sound[r])

    def _exact(self, site: int, function: Any, z: Tensor, rows: slice) -> Tensor:
        """f'(z) of some replicas in float64, unless that makes no difference."""
        return self._wide(site, exact_slope(function, z[rows] if self.network.stacked else z))

    def _wide(self, site: int, values: Tensor) -> Tensor:
        """[replica, sample, channel, position], whatever the site's own layout.

        Where a model folds positions into samples, as `x.reshape(samples * tokens, …)` does, they are positions still.
        """
        while values.dim() < 2 + int(self.network.stacked):
            values = values.unsqueeze(-1)
        values, axis = self.network.per_replica(values), self.network.sites[site].axis + 1
        if values.shape[1] != self._samples:  # samples second, as torch's own recurrent layers have them
            places = [d for d in range(2, values.dim()) if d != axis and values.shape[d] == self._samples]
            if places:
                values, axis = values.movedim(places[0], 1), axis + (axis < places[0])
        values = values.movedim(axis, 2)
        values = values.flatten(3) if values.dim() > 3 else values.unsqueeze(-1)
        each, left = divmod(values.shape[1], self._samples)
        if each > 1 and not left:
            values = values.unflatten(1, (self._samples, each)).movedim(2, -1).flatten(3)
        return values

    def _reference(self, site: int, z: Tensor, function: Any) -> Tensor:
        """s_f as [replica or 1, channel or 1]; worked out again only for learned parameters."""
        if isinstance(function, nn.Module):
            learned = next(function.parameters(), None) is not None
        else:
            learned = not isinstance(function, Operation)  # any other may hold tensors that are learned
        if site in self._references and not learned:
            return self._references[site]
        if site in self._references and isinstance(function, Mixed):
            known = self._references[site].clone()
            for rows, own in self._parts(function):
                if next(own.parameters(), None) is not None:
                    known[rows] = self._reference_of(site, own, z[rows])
            return known
        return self._reference_of(site, function, z)

    def _reference_of(self, site: int, function: Any, z: Tensor) -> Tensor:
        lead = int(self.network.stacked)
        slope = reference_slope(function, z.shape, self.network.sites[site].axis + lead, lead, z.device)
        return slope.reshape(1, 1) if slope.dim() == 0 else slope.reshape(-1, slope.shape[-1])


def _least(sums: Sums, top: int) -> float:
    """What the largest values of one replica must exceed to change what is known of them; −1 where all may."""
    known = sums.get("top")
    return float(known[0, -1]) if known is not None and known.shape == (1, top) else -1.0


def _unpacked() -> Any:
    """While open, what is saved for a gradient is not seen by the model's own hooks, such as a checkpoint's."""
    return saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
