"""Everything that a study's tables hold, measured by hooks in a hand-written loop, one network at a time."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Gauges", "confirm", "measure_all"]

Row = dict[str, float]


def measure_all(model: nn.Module, kinds: tuple[type, ...], probe: Tensor, labels: Tensor, full: bool) -> list[Row]:
    """A row for each activation: states of units, sparsity, moments; with `full` gradients and effective ranks."""
    places: list[tuple[nn.Module, Tensor, Tensor]] = []
    handles = [m.register_forward_hook(lambda own, args, out: places.append((own, args[0], out)))
               for m in model.modules() if isinstance(m, kinds)]  # fmt: skip
    model.eval()
    model.zero_grad()
    with torch.set_grad_enabled(full):
        loss = nn.functional.cross_entropy(model(probe), labels, reduction="sum")
        if full:
            for _, z, _ in places:
                z.retain_grad()
            loss.backward()
    for handle in handles:
        handle.remove()
    rows = [_row(own, z.detach(), h.detach(), full) for own, z, h in places]
    linear = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    for row, (_, z, _), layer in zip(rows, places, linear, strict=False):
        row["weight_norm"] = float(layer.weight.norm())
        if full:
            row["backprop_norm"] = float(z.grad.double().square().mean().sqrt())
            row["weight_grad_norm"] = float(layer.weight.grad.norm() / len(probe))
    model.zero_grad()
    return rows


def _slope(function: nn.Module, z: Tensor) -> Tensor:
    with torch.enable_grad():
        wide = z.double().requires_grad_()
        return torch.autograd.grad(copy.deepcopy(function).double()(wide).sum(), wide)[0]


def _row(function: nn.Module, z: Tensor, h: Tensor, full: bool) -> Row:
    slope = _slope(function, z).abs()
    steepest = float(_slope(function, torch.linspace(-5, 5, 1001)).abs().max())
    channels = [0, *range(2, z.dim())]
    top, low, reach = z.amax(channels), z.amin(channels), slope.amax(channels)
    dead, active = reach == 0, slope >= 1e-3 * steepest
    rate = (active.flatten(2).any(2) if z.dim() > 2 else active).double().mean(0)
    size, zero = h.abs().mean(channels), (h == 0).double().mean(channels)
    vectors = h.movedim(1, -1).flatten(0, -2)
    n, lengths = vectors.shape[1], vectors.norm(dim=1)
    ratio = (vectors.abs().sum(1) / lengths)[lengths > 0]
    row = {
        "dead": dead.double().mean(),
        "off": (top <= 0).double().mean(),
        "always_on": (low > 0).double().mean(),
        "saturated": (reach < 1e-3 * steepest).double().mean(),
        "dormant": (size <= 0.025 * size.mean()).double().mean(),
        "rare": ((rate > 0) & (rate < 0.01)).double().mean(),
        "firing": active.double().mean(),
        "zero": zero.mean(),
        "zero_live": zero[~dead].mean(),
        "hoyer": ((n**0.5 - ratio) / (n**0.5 - 1)).mean(),
        **{"pre_mean": z.mean(), "pre_std": z.std(), "post_mean": h.mean(), "post_std": h.std()},
        "post_absmax": h.abs().max(),
        "mean_shift": h.mean(channels).square().mean().sqrt() / h.square().mean().sqrt(),
        "slope_mean": slope.mean(),
    }
    if full:
        row["post_q999"] = torch.quantile(h.abs().flatten(), 0.999)
        wide = torch.nan_to_num(vectors.double())  # of a network that diverged
        values = torch.linalg.svdvals(wide - wide.mean(0))
        share = values / values.sum()
        row["effective_rank"] = torch.exp(-torch.special.xlogy(share, share).sum())
    return {name: float(value) for name, value in row.items()}


class Gauges:
    """What is followed at every step: biases whose gradient was never other than 0, and how far weights move."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
        self.moved = [torch.zeros_like(layer.bias, dtype=torch.bool) for layer in self.layers]
        self.ratios: list[list[float]] = []
        self._before: list[Tensor] | None = None

    def before(self, ratios: bool) -> None:
        """Between the backward pass and the optimizer's step."""
        for moved, layer in zip(self.moved, self.layers, strict=True):
            moved |= layer.bias.grad != 0
        self._before = [layer.weight.detach().clone() for layer in self.layers] if ratios else None

    def after(self) -> None:
        """After the optimizer's step."""
        if self._before:
            pairs = zip(self._before, self.layers, strict=True)
            self.ratios.append([float((layer.weight.detach() - old).norm() / old.norm()) for old, layer in pairs])


def confirm(model: nn.Module, kinds: tuple[type, ...], x: Tensor) -> list[Any]:
    """For each activation which units are dead on all of x."""
    functions = [own for own in model.modules() if isinstance(own, kinds)]
    reach: list[Tensor | float] = [0.0 for _ in functions]
    model.eval()
    for part in x.split(512):
        inputs: list[Tensor] = []
        handles = [own.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
                   for own in functions]  # fmt: skip
        with torch.no_grad():
            model(part)
        for handle in handles:
            handle.remove()
        largest = [_slope(own, z).abs().amax([0, *range(2, z.dim())]) for own, z in zip(functions, inputs, strict=True)]
        reach = [torch.maximum(own, torch.as_tensor(before)) for own, before in zip(largest, reach, strict=True)]
    return [(own == 0).tolist() for own in reach]
