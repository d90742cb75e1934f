"""What the steps of an epoch add up to: means, the spread of updates, starving units, gradient spikes.

Shapes: losses, accuracies and norms are [replica]; gradients and updates [replica, number], as `Network.flat`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from reluexp.networks.network import Network

__all__ = ["UPDATES", "Steps", "spikes"]

UPDATES = 16
"""the steps at the end of an epoch that the update ratio is taken over"""

_SPIKE, _WINDOW, _LEAST = 10.0, 100, 20
_BLOCK = 1024  # steps whose windows are sorted at a time


def spikes(norms: Tensor, before: int) -> Tensor:
    """Whether any of the steps from `before` on [replica, step] was a spike [replica].

    A spike is a gradient norm above 10 × the median of the 100 before it, or of all before it if they are 20 at least.
    """
    found = torch.zeros(len(norms), dtype=torch.bool, device=norms.device)
    for step in range(max(before, _LEAST), min(norms.shape[1], _WINDOW)):
        found |= norms[:, step] > _SPIKE * _median(norms[:, :step])
    for first in range(max(before, _WINDOW), norms.shape[1], _BLOCK):
        own = norms[:, first : first + _BLOCK]
        windows = norms[:, first - _WINDOW : first + own.shape[1] - 1].unfold(1, _WINDOW, 1)
        found |= (own > _SPIKE * _median(windows)).any(1)
    return found


def _median(values: Tensor) -> Tensor:
    """Over the last dimension; of an even number the mean of the two in the middle, where torch's takes the lower."""
    count = values.shape[-1]
    ordered = values.sort(-1).values
    return (ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2


class Steps:
    """Sums over the steps of one epoch of a stack, and gradient norms since a little before the last measurement."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.begun = False
        """whether an epoch is under way"""
        self.sums: dict[str, Tensor] = {}
        self.norms: list[Tensor] = []
        self.seen = 0
        self._gauges = [network.columns[site.shift] if site.shift else None for site in network.sites]
        self._layers = {site.layer for site in network.sites if site.layer} | {network.output_layer or ""} - {""}

    def begin(self, alive: Tensor) -> None:
        """Starts an epoch of the replicas that still train; sums stay where they are, see `Replay`."""
        self.begun = True
        if self.sums:
            for own in self.sums.values():
                own.zero_()
            self.sums["active"].copy_(alive)
            return
        zero = torch.zeros(len(alive), dtype=torch.float64, device=alive.device)
        self.sums = {name: zero.clone() for name in ("steps", "loss", "accuracy", "norm", "norm_max")}
        self.sums["active"] = alive.double()
        for number, (site, columns) in enumerate(zip(self.network.sites, self._gauges, strict=True)):
            if columns:
                self.sums[f"moved{number}"] = torch.zeros(len(alive), site.width, dtype=torch.bool, device=alive.device)

    @property
    def active(self) -> Tensor:
        """The replicas that trained in this epoch."""
        return self.sums["active"].bool()

    def add(self, alive: Tensor, loss: Tensor, right: Tensor, norm: Tensor, gradient: Tensor) -> None:
        """Counts a step of the replicas that are alive, in place; the gradient is that before decay and clipping."""
        sums = self.sums
        sums["steps"] += alive.double()
        for name, value in (("loss", loss), ("accuracy", right), ("norm", norm)):
            sums[name] += torch.where(alive, value.double(), 0.0)
        torch.maximum(sums["norm_max"], torch.where(alive, norm.double(), 0.0), out=sums["norm_max"])
        for number, columns in enumerate(self._gauges):
            if columns:
                moved = gradient[:, columns] != 0
                own = sums[f"moved{number}"]
                own |= moved if moved.shape == own.shape else moved.unflatten(1, (own.shape[1], -1)).any(2)

    def update(self, amount: Tensor) -> None:
        """Counts ‖ΔW‖/‖W‖ of each layer for an update that is about to be subtracted."""
        for layer in self._layers:
            columns = self.network.columns[f"{layer}.weight"]
            change, size = (
                torch.linalg.vector_norm(values[:, columns], dim=1).double() for values in (amount, self.network.flat)
            )
            self.sums.setdefault(f"ratio {layer}", torch.zeros_like(change)).add_((change / size).square())
        self.sums.setdefault("updates", torch.zeros_like(self.sums["steps"])).add_(1)

    def row(self) -> dict[str, Tensor]:
        """The epoch's columns of the table `epochs`."""
        sums, steps = self.sums, self.sums["steps"]
        return {
            **{"train_loss": sums["loss"] / steps, "train_accuracy": sums["accuracy"] / steps},
            **{"grad_norm": sums["norm"] / steps, "grad_norm_max": sums["norm_max"].clone()},
        }

    def update_ratio(self, layer: str | None) -> Tensor | None:
        """RMS over the last steps of the epoch of ‖ΔW‖/‖W‖ [replica]; NaN in an epoch that counted none."""
        found = self.sums.get(f"ratio {layer}")
        return None if found is None else (found / self.sums["updates"]).sqrt()

    def starved(self, site: int) -> Tensor | None:
        """Units [replica, channel] whose gauge had a gradient of exactly 0 at every step of the epoch."""
        moved = self.sums.get(f"moved{site}")
        return None if moved is None else ~moved

    def spiked(self, replicas: Tensor) -> Tensor:
        """Whether a gradient spike came since the last measurement [replica]; False where it is not asked for."""
        norms = torch.stack(self.norms, 1)
        found = torch.zeros(len(norms), dtype=torch.bool, device=norms.device)
        found[replicas] = spikes(norms[replicas], self.seen)
        return found

    def measured(self) -> None:
        """Notes that there was a measurement: spikes count from here."""
        self.norms = self.norms[-_WINDOW:]
        self.seen = len(self.norms)

    def end(self) -> None:
        """Ends the epoch."""
        self.begun = False

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {"sums": self.sums if self.begun else {}, "norms": self.norms, "seen": self.seen}

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes up what `state` gave."""
        self.sums, self.norms, self.seen = saved["sums"], saved["norms"], saved["seen"]
        self.begun = bool(self.sums)

    def mean_loss(self) -> Tensor:
        """The epoch's mean loss [replica], NaN where there was no step."""
        return torch.where(self.sums["steps"] > 0, self.sums["loss"] / self.sums["steps"], math.nan)
