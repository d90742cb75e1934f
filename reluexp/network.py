"""A stack of replicas of one model: parameters [replica, …], one forward pass for all of them.

Shapes: inputs [replica, sample, *input] or [sample, *input] shared by all; logits [replica, sample, class].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from reluexp.catalogue.activations import build_activation
from reluexp.catalogue.architectures import ARCHITECTURES, build_model
from reluexp.catalogue.inits import INITS
from reluexp.gains import auto_gain
from reluexp.intercept import Reading, SiteListener
from reluexp.seeds import derive, generator
from reluexp.sites import Site, Trace, trace

__all__ = ["Network", "build_module", "stackable"]

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def stackable(setting: Any, device: str) -> bool:
    """Whether trials of this setting can be read as one batched computation.

    Models and activations that are the user's own may not survive a batched reading, and convolutions on a CPU
    lose by it: both train one by one.
    """
    names = (setting.architecture.name, setting.activation.name)
    if any(":" in name for name in names):
        return False
    return device != "cpu" or not ARCHITECTURES[names[0]].convolutional


def build_module(setting: Any, shape: tuple[int, ...], outputs: int, seed: int = 0) -> nn.Module:
    """The model of a setting as an ordinary module; whatever its constructor draws depends on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "build"))
        return build_model(
            setting.architecture, shape, outputs, lambda width: build_activation(setting.activation, width)
        )


class Network:
    """R replicas of a setting's model, which differ in their seeds.

    `flat` [replica, number] holds every parameter of every replica; the module's own parameters are views of it.
    Raises ConfigError when the model cannot be built.
    """

    def __init__(
        self, setting: Any, seeds: list[int], shape: tuple[int, ...], outputs: int, device: str = "cpu"
    ) -> None:
        self.setting, self.seeds, self.device = setting, seeds, device
        self.stacked = stackable(setting, device)
        if not self.stacked and len(seeds) > 1:
            raise ValueError("this setting's trials train one by one")
        self.module = build_module(setting, shape, outputs, seeds[0])
        self.trace: Trace = trace(self.module, torch.zeros(2, *shape))
        self.gain = self._gain()
        self.names = [name for name, _ in self.module.named_parameters()]
        self.decayed = self._decayed()
        self.masks = self._masks()
        self._stack()
        self.initialise()
        self.reading = Reading(len(seeds) if self.stacked else None, self.masks, seeds)

    @property
    def sites(self) -> list[Site]:
        """The places of activations, in the order of execution."""
        return self.trace.sites

    @property
    def replicas(self) -> int:
        """The number of trials in the stack."""
        return len(self.seeds)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The leaves, views of `flat`, in the order of `names`."""
        return list(self.module.parameters())

    def forward(self, x: Tensor, moment: tuple[int, ...] | None = None, listener: SiteListener | None = None) -> Tensor:
        """Logits [replica, sample, class]; `moment` is given in training, `listener` hears each site."""
        if self.stacked:
            shared = x.dim() == self._input_dims
            x = x.expand(self.replicas, *x.shape) if shared else x
        elif x.dim() > self._input_dims:
            x = x[0]
        with self.reading.begin(moment, listener):
            out: Tensor = self.module(x)
        return out if self.stacked else out.unsqueeze(0)

    def weight(self, layer: str | None) -> nn.Parameter | None:
        """The weights [replica, out, in, *kernel] of a named layer (without the first dimension unless stacked)."""
        return None if layer is None else self.module.get_parameter(f"{layer}.weight")

    def state(self, replica: int) -> dict[str, Tensor]:
        """One replica's parameters and buffers, as a plain module's state dict."""
        return {
            name: (tensor[replica] if self.stacked else tensor).detach().cpu().contiguous().clone()
            for name, tensor in self.module.state_dict().items()
        }

    def buffers(self) -> dict[str, Tensor]:
        """The buffers by name, such as running statistics."""
        return dict(self.module.named_buffers())

    def _gain(self) -> float:
        init = self.setting.init
        if not INITS[init.name].uses_gain:
            return 1.0
        return auto_gain(build_activation(self.setting.activation, 1)) if init.gain == "auto" else float(init.gain)

    def _decayed(self) -> Tensor:
        """1 for each number that weight decay applies to, 0 for the activations' own."""
        own = {id(p) for m in self.module.modules() if _is_activation(m) for p in m.parameters()}
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

    def _stack(self) -> None:
        """Replaces parameters and buffers by their stacked forms."""
        self._input_dims = 4 if len(self._shape()) == 3 else len(self._shape()) + 1
        lead = (self.replicas,) if self.stacked else ()
        total = sum(p.numel() for p in self.module.parameters())
        self.flat = torch.zeros(self.replicas, total, device=self.device)
        self._shapes: dict[str, torch.Size] = {}
        offset = 0
        for module in self.module.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is None or id(parameter) in self._placed:
                    continue
                view = self.flat[:, offset : offset + parameter.numel()]
                offset += parameter.numel()
                view = view.view(*lead, *parameter.shape)
                with torch.no_grad():
                    view.copy_(parameter.to(self.device).expand_as(view))
                module._parameters[name] = nn.Parameter(view)
            for name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    stacked = buffer.is_floating_point() and self.stacked
                    fresh = buffer.expand(*lead, *buffer.shape).clone() if stacked else buffer.clone()
                    module._buffers[name] = fresh.to(self.device)
