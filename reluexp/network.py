"""A stack of replicas of one model: parameters [replica, …], one forward pass for all of them.

Shapes: inputs [replica, sample, *input] or [sample, *input] shared by all; logits [replica, sample, class].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reluexp.catalogue.activations import build_activation
from reluexp.catalogue.architectures import build_model
from reluexp.catalogue.inits import INITS
from reluexp.config import Setting
from reluexp.functions import Function
from reluexp.gains import auto_gain
from reluexp.intercept import Reading, SiteListener
from reluexp.plan import stackable
from reluexp.seeds import derive, generator
from reluexp.sites import Site, Trace, trace

__all__ = ["Network", "Snapshot", "build_module"]

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Shape = tuple[int, ...]


def build_module(setting: Setting, shape: Shape, outputs: int, seed: int = 0) -> nn.Module:
    """The model of a setting as an ordinary module; whatever its constructor draws depends on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "build"))
        return build_model(
            setting.architecture, shape, outputs, lambda width: build_activation(setting.activation, width)
        )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The parameters [replica, number] and buffers of a network at one moment."""

    flat: Tensor
    buffers: dict[str, Tensor]

    def value(self, network: Network, name: str, replica: int) -> Tensor | None:
        """One replica's parameter or buffer of that name, if there is one; convolutions [out, in, *kernel]."""
        if name in self.buffers:
            found = self.buffers[name]
            return found[replica] if network.stacked else found
        if name not in network.columns:
            return None
        own = self.flat[replica : replica + 1, network.columns[name]]
        shape = network.module.get_parameter(name).shape[int(network.stacked) :]
        return own.view(shape) if network.stacked else network._view(own, shape)


class Network:
    """R replicas of a setting's model, which differ in their seeds.

    `flat` [replica, number] holds every parameter of every replica; the module's own parameters are views of it.
    Raises ConfigError when the model cannot be built, ValueError when these replicas cannot share a stack.
    """

    def __init__(self, setting: Setting, seeds: list[int], shape: Shape, outputs: int, device: str = "cpu") -> None:
        self.setting, self.seeds, self.device = setting, seeds, device
        self.stacked = stackable(setting, device)
        if not self.stacked and len(seeds) > 1:
            raise ValueError("this setting's trials train one by one")
        self._input_dims = len(shape) + 1
        self.module = build_module(setting, shape, outputs, seeds[0])
        self.trace: Trace = trace(self.module, torch.zeros(2, *shape))
        linear = [name for name, module in self.module.named_modules() if isinstance(module, _LINEAR)]
        self.output_layer = self.trace.output or (linear[-1] if linear else None)
        self.gain = self._gain()
        self.decayed = self._decayed()
        self.masks = self._masks()
        values = [dict(self._initial(seed)) for seed in seeds]
        self._stack(values)
        self.reading = Reading(len(seeds) if self.stacked else None, self.masks, seeds)

    @property
    def sites(self) -> list[Site]:
        """The places of activations, in the order of execution."""
        return self.trace.sites

    @property
    def replicas(self) -> int:
        """The number of trials in the stack."""
        return len(self.seeds)

    def forward(self, x: Tensor, moment: tuple[int, ...] | None = None, listener: SiteListener | None = None) -> Tensor:
        """Logits [replica, sample, class]; `moment` is given in training, `listener` hears each site."""
        if self.stacked and x.dim() == self._input_dims:
            x = x.expand(self.replicas, *x.shape)
        elif not self.stacked and x.dim() > self._input_dims:
            x = x[0]
        with self.reading.begin(moment, listener):
            out: Tensor = self.module(x)
        return out if self.stacked else out.unsqueeze(0)

    def weight(self, layer: str | None) -> Tensor | None:
        """The weights of a named layer, a leaf: [replica, out, in, *kernel], without the first dimension if alone."""
        return None if layer is None else self.module.get_parameter(f"{layer}.weight")

    def per_replica(self, values: Tensor) -> Tensor:
        """A leaf's values or gradient as [replica, …]."""
        return values if self.stacked else values.unsqueeze(0)

    def flatten(self, gradients: tuple[Tensor | None, ...]) -> Tensor:
        """Gradients of `leaves` as one [replica, number], laid out like `flat`; zeros for a leaf without gradient."""
        rows = []
        for leaf, gradient in zip(self.leaves, gradients, strict=True):
            g = torch.zeros_like(leaf) if gradient is None else gradient
            rows.append(_laid_out(g, self.stacked).reshape(self.replicas, -1))
        return torch.cat(rows, 1)

    def state(self, replica: int) -> dict[str, Tensor]:
        """One replica's parameters and buffers, as a plain module's state dict."""
        own = {name: tensor.detach().cpu() for name, tensor in self.module.state_dict().items()}
        return {
            name: (tensor[replica] if self.stacked and name not in self._counters else tensor).contiguous().clone()
            for name, tensor in own.items()
        }

    def buffers(self) -> dict[str, Tensor]:
        """The buffers by name, such as running statistics."""
        return dict(self.module.named_buffers())

    def snapshot(self) -> Snapshot:
        """A copy of every parameter and buffer."""
        return Snapshot(self.flat.clone(), {name: buffer.clone() for name, buffer in self.buffers().items()})

    def take(self, snapshot: Snapshot) -> None:
        """Puts the values of a snapshot in place."""
        with torch.no_grad():
            self.flat.copy_(snapshot.flat)
            for name, buffer in self.buffers().items():
                buffer.copy_(snapshot.buffers[name])

    def inputs_of(self, layers: Iterable[str], moment: Snapshot, x: Tensor) -> dict[str, Tensor]:
        """The inputs [replica, sample, …] of the named linear maps at a moment, for x [sample, …]."""
        now = self.snapshot()
        wanted = {id(self.weight(layer)): layer for layer in layers}
        try:
            self.take(moment)
            with torch.no_grad(), self.reading.hearing(wanted) as heard:
                self.forward(x)
        finally:
            self.take(now)
        return {layer: self.per_replica(value) for layer, value in heard.items()}

    def _gain(self) -> float:
        init = self.setting.init
        if not INITS[init.name].uses_gain:
            return 1.0
        return auto_gain(build_activation(self.setting.activation, 1)) if init.gain == "auto" else float(init.gain)

    def _decayed(self) -> Tensor:
        """1 for each number that weight decay applies to, 0 for what the activations learn."""
        activations: list[object] = [m for m in self.module.modules() if isinstance(m, (Function, nn.PReLU))]
        activations += [m.function for m in self.module.modules() if hasattr(m, "function")]
        own = {id(p) for m in activations if isinstance(m, nn.Module) for p in m.parameters()}
        sizes = [torch.full((p.numel(),), float(id(p) not in own)) for p in self.module.parameters()]
        return (torch.cat(sizes) if sizes else torch.zeros(0)).to(self.device)

    def _masks(self) -> list[Tensor]:
        """For each site [replica, channel]: 0 where `init.dead` disables a unit, else 1; nothing when it is 0."""
        share = self.setting.init.dead
        if not share:
            return []
        masks = []
        for index, site in enumerate(self.sites):
            mask = torch.ones(self.replicas, site.width)
            for replica, seed in enumerate(self.seeds):
                chosen = torch.randperm(site.width, generator=generator(seed, "dead", index))
                mask[replica, chosen[: round(share * site.width)]] = 0
            masks.append(mask.to(self.device))
        return masks

    def _initial(self, seed: int) -> Iterator[tuple[str, Tensor]]:
        """Every parameter at birth; a user's model with init `torch` keeps what its own constructor drew."""
        for name, parameter in self.module.named_parameters():
            yield name, parameter.detach().clone()
        init = self.setting.init
        if init.name == "torch" and ":" in self.setting.architecture.name:
            return
        layers = [(name, m) for name, m in self.module.named_modules() if isinstance(m, _LINEAR)]
        for index, (name, layer) in enumerate(layers):
            weight = torch.empty(layer.weight.shape)
            area = math.prod(weight.shape[2:])
            fans = (weight.shape[1] * area, weight.shape[0] * area)
            gain = 1.0 if name == self.output_layer else self.gain
            INITS[init.name].draw(weight, fans, gain, generator(seed, "init", index, "weight"))
            yield f"{name}.weight", weight
            if layer.bias is not None:
                yield f"{name}.bias", self._bias(layer.bias.shape, fans[0], generator(seed, "init", index, "bias"))

    def _bias(self, shape: torch.Size, fan_in: int, random: torch.Generator) -> Tensor:
        given = self.setting.init.bias
        if given is None:
            bound = 1 / math.sqrt(fan_in) if self.setting.init.name == "torch" else 0.0
            return torch.empty(shape).uniform_(-bound, bound, generator=random) if bound else torch.zeros(shape)
        if isinstance(given, float):
            return torch.full(shape, given)
        return torch.empty(shape).normal_(0, given.normal, generator=random)

    def _stack(self, values: list[dict[str, Tensor]]) -> None:
        """Replaces parameters and buffers by their stacked forms, filled with each replica's values."""
        named = dict(self.module.named_parameters())
        total = sum(p.numel() for p in named.values())
        self.flat = torch.zeros(self.replicas, total, device=self.device)
        placed: dict[int, nn.Parameter] = {}
        offset = 0
        self.columns: dict[str, slice] = {}
        for name, parameter in named.items():
            self.columns[name] = slice(offset, offset + parameter.numel())
            part = self.flat[:, self.columns[name]]
            offset += parameter.numel()
            view = self._view(part, parameter.shape)
            with torch.no_grad():
                for replica, own in enumerate(values):
                    (view[replica] if self.stacked else view).copy_(own[name])
            placed[id(parameter)] = nn.Parameter(view, requires_grad=parameter.requires_grad)
        self.leaves = list(placed.values())
        self._counters = {name for name, b in self.module.named_buffers() if not b.is_floating_point()}
        for module in self.module.modules():
            for name, before in list(module._parameters.items()):
                if before is not None:
                    module._parameters[name] = placed[id(before)]
            for name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    wide = self.stacked and buffer.is_floating_point()
                    copy = buffer.expand(self.replicas, *buffer.shape).clone() if wide else buffer.clone()
                    module._buffers[name] = copy.to(self.device)

    def _view(self, part: Tensor, shape: torch.Size) -> Tensor:
        """Numbers [replica, n] as a parameter; convolutions alone are laid out channels last, which CPUs like."""
        if self.stacked:
            return part.view(self.replicas, *shape)
        if len(shape) == 4:
            out, inputs, *kernel = shape
            return part[0].view(out, *kernel, inputs).permute(0, 3, 1, 2)
        return part[0].view(shape)


def _laid_out(gradient: Tensor, stacked: bool) -> Tensor:
    return gradient if stacked or gradient.dim() != 4 else gradient.permute(0, 2, 3, 1)
