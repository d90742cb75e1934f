"""A module of anybody's as a stack of one replica, for the probe; and what it was at a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from reluexp.errors import WatchError
from reluexp.networks.intercept import Reading, SiteListener
from reluexp.networks.sites import Site, Trace

__all__ = ["Moment", "Watched", "device_of", "first_tensor", "unseen", "unwrapped"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@dataclass(frozen=True, eq=False)
class Moment:
    """Copies of a module's parameters and buffers, by name; `inputs` as in `network.Snapshot`, never kept here."""

    values: dict[str, Tensor]
    inputs: list[dict[str, Tensor]] = field(default_factory=list)


class Watched:
    """One module, measured as it stands; see `Measured` for the meaning of each part.

    `output` is what the module last returned. Raises WatchError when a pass goes through other activations than the
    traced one did.
    """

    replicas = 1
    memory_share = 1.0
    stacked = False

    def __init__(self, module: nn.Module, trace: Trace, chunk: int | None) -> None:
        self.module, self.trace, self.chunk = module, trace, chunk
        self.masks: list[Tensor] = list(getattr(module, "reluexp_disabled", []))
        self.output: Any = None
        self._reading = Reading(None, self.masks, copies=True)

    @property
    def sites(self) -> list[Site]:
        """The places of activations, in the order of execution."""
        return self.trace.sites

    @property
    def output_layer(self) -> str | None:
        """The linear map that gives the output, where nothing but reshaping comes after it."""
        return self.trace.output

    @property
    def device(self) -> str:
        """Where the first parameter is."""
        return device_of(self.module)

    def only(self, replicas: Sequence[int]) -> Watched | None:
        """There is but one."""
        return None

    def forward(self, x: Tensor, moment: tuple[int, ...] | None = None, listener: SiteListener | None = None) -> Tensor:
        """Outputs [1, sample, number] for x [sample, …], whatever their shape; measuring mode must be on."""
        heard = [0]

        def listen(site: int, z: Tensor, h: Tensor, function: Any) -> None:
            heard[0] += 1
            if site >= len(self.sites) or listener is None:
                return
            own = self.sites[site]
            if z.dim() > 1 and (z.dim() <= own.axis or z.shape[own.axis] != own.width):
                raise WatchError(_path(f"at {own.name!r} it met a tensor {list(z.shape)}, not {own.width} channels"))
            listener(site, z, h, function)

        with self._reading.begin(None, listen if listener else None):
            self.output = self.module(x.clone())  # which it may write over
        if listener and heard[0] != len(self.sites):
            raise WatchError(_path(f"{heard[0]} activations were met, {len(self.sites)} when it was first seen"))
        return first_tensor(self.output).reshape(1, len(x), -1)

    def hearing(self, layers: Iterable[str]) -> AbstractContextManager[dict[str, Tensor]]:
        """While open, passes of the module as it is keep the inputs of the named linear maps."""
        return self._reading.hearing({id(self.weight(layer)): layer for layer in layers})

    def weight(self, layer: str | None) -> Tensor | None:
        """The weights of a named layer [out, in, *kernel], a leaf."""
        return None if layer is None else self.module.get_parameter(f"{layer}.weight")

    def per_replica(self, values: Tensor) -> Tensor:
        """With the replica dimension."""
        return values.unsqueeze(0)

    def moment(self) -> Moment:
        """A copy of every parameter and buffer."""
        values: dict[str, Tensor] = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        for name, parameter in self.module.named_parameters():
            values[name] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
        return Moment(values)

    def values(self, moment: Moment, name: str) -> Tensor | None:
        """The parameter or buffer of that name at a moment as [1, …], if there is one."""
        found = moment.values.get(name)
        return None if found is None else found.unsqueeze(0)

    def inputs_of(self, layers: Iterable[str], moment: Moment, x: Tensor) -> dict[str, Tensor]:
        """The inputs [1, sample, …] of the named linear maps at a moment, for x [sample, …]."""
        wanted = {id(moment.values[f"{layer}.weight"]): layer for layer in layers}
        with torch.no_grad(), self._reading.hearing(wanted) as heard, self._reading.begin(None):
            functional_call(self.module, moment.values, (x,))
        return {layer: value.unsqueeze(0) for layer, value in heard.items()}


def device_of(module: nn.Module) -> str:
    """Where the first parameter or buffer is; the CPU for a module without any."""
    return str(next((own.device for own in (*module.parameters(), *module.buffers())), "cpu"))


def first_tensor(output: Any) -> Tensor:
    """The output that is measured: the first tensor of a tuple, list, mapping or record."""
    if isinstance(output, Tensor):
        return output
    parts: Iterable[Any] = ()
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, (tuple, list)):
        parts = output
    for part in parts:
        if isinstance(part, Tensor) and part.is_floating_point():
            return part
    raise WatchError(f"the model returns {type(output).__name__}; a tensor, or a tuple or mapping with one, is needed")


def _path(what: str) -> str:
    return f"the model took another way than at first: {what}; units can only be followed where the way is the same"


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DataParallel-style wrappers, which split a batch and change nothing.

    Raises WatchError for a module whose operations cannot be seen, or that has parameters without a shape.
    """
    if not isinstance(model, nn.Module):
        raise WatchError(f"reluexp.watch takes a torch.nn.Module, not {type(model).__name__}")
    while isinstance(model, _WRAPPERS):
        model = model.module
    for name, own in model.named_modules():
        where = f"its part {name!r}" if name else "this model"
        if isinstance(own, torch.jit.ScriptModule):
            raise WatchError(
                f"{where} is a ScriptModule, whose operations cannot be seen; watch the module that was scripted or"
                " traced: they share their parameters"
            )
        if own._compiled_call_impl is not None:
            raise WatchError(
                f"{where} was compiled by torch.compile in place, which leaves no operations to be seen; compile it "
                "apart: compiled = torch.compile(model), train with compiled, and reluexp.watch(model, …)"
            )
        if _compiled(own):
            raise WatchError(
                f"{where} is compiled by torch.compile, which leaves no operations to be seen; watch the module that"
                " was compiled, they share their parameters: compiled = torch.compile(model), reluexp.watch(model, …)"
            )
    if any(nn.parameter.is_lazy(own) for own in (*model.parameters(), *model.buffers())):
        raise WatchError("this model has lazy parameters without a shape; run it once on a batch, then watch it")
    return model


def _compiled(module: nn.Module) -> bool:
    if type(module).__name__ == "OptimizedModule":  # importing its class costs seconds
        return True
    forward = getattr(module.forward, "__func__", module.forward)
    return hasattr(forward, "_torchdynamo_orig_callable")


def unseen(model: nn.Module) -> list[str]:
    """Sentences on parts whose activations run inside one kernel."""
    kernels = (nn.RNNBase, nn.RNNCellBase)
    fused = [(name, own) for name, own in model.named_modules() if isinstance(own, kernels)]
    return [
        f"{name or 'the model'}: the gates of {type(own).__name__} run inside one kernel and cannot be seen"
        for name, own in fused
    ]
