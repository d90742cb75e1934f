"""A stack of replicas of one model: parameters [replica, …], one forward pass for all of them.

Replicas may differ in seed, activation and initialisation. Shapes: inputs [replica, sample, *input], or
[sample, *input] shared by all; logits [replica, sample, class].
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from reluexp.catalogue.activations import build_activation
from reluexp.catalogue.architectures import build_model
from reluexp.catalogue.functions import Function, Mixed, Prelu
from reluexp.catalogue.inits import INITS, draw_layers
from reluexp.catalogue.registry import Options, is_own
from reluexp.config import Setting, once_each
from reluexp.errors import ConfigError
from reluexp.layers import Site as Marked
from reluexp.networks.gains import auto_gain, off_below
from reluexp.networks.intercept import Reading, SiteListener
from reluexp.networks.mode import own_random_state
from reluexp.networks.sites import Site, Trace, trace
from reluexp.planning.plan import own_key, stackable
from reluexp.seeds import generator, seeded_globals

__all__ = ["Network", "Snapshot", "build_module", "disabled_units", "ignores_activation"]

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Shape = tuple[int, ...]


def build_module(setting: Setting, shape: Shape, outputs: int, seed: int = 0) -> nn.Module:
    """The model of a setting as an ordinary module; whatever its constructor draws depends on the seed alone."""
    return _build(setting, shape, outputs, seed, lambda width: build_activation(setting.activation, width))


def ignores_activation(setting: Setting, shape: Shape, outputs: int) -> bool:
    """Whether a model of the user's own never asks for the activation that the setting names; False if it fails."""
    try:
        module = build_module(setting, shape, outputs)
    except Exception:  # whatever the user's code raises; its trials will say so
        return False
    return is_own(setting.architecture) and not any(isinstance(own, Marked) for own in module.modules())


def _refuse_unfit(found: Trace, model: str, outputs: int) -> None:
    if not found.sites:
        raise ConfigError(
            f"architecture: {model!r} has no activation to be measured: its model must use the `activation` that its "
            "factory is given, functions of torch, or reluexp.layers.activate"
        )
    if found.shape != (2, outputs):
        sizes = ["sample" if (place, size) == (0, 2) else str(size) for place, size in enumerate(found.shape or ())]
        gives = "no tensor" if found.shape is None else f"[{', '.join(sizes)}]" if sizes else "a single number"
        raise ConfigError(f"architecture: {model!r} gives {gives}; its output must be [sample, {outputs}]")


@cache
def _refuse_unfit_activation(activation: Options) -> None:
    """Raises ConfigError where what an activation of the user's own gives is of another shape, or has no derivative."""
    name = str(getattr(activation, "name", ""))
    if not is_own(activation):
        return
    with seeded_globals("unfit"), torch.enable_grad():
        z = torch.ones(2, 3, requires_grad=True)
        try:
            found = build_activation(activation, 3)(z.clone())
        except Exception:  # whatever the user's code raises; its trials will say so
            return
    # more dimensions than were given come of parameters that are laid out for the channels of images
    if not isinstance(found, Tensor) or (found.shape != z.shape and found.dim() <= z.dim()):
        gives = str(list(found.shape)) if isinstance(found, Tensor) else type(found).__name__
        raise ConfigError(f"activation: {name!r} gives {gives} for [2, 3]; it must give a tensor of the shape it gets")
    if not found.requires_grad:
        raise ConfigError(f"activation: {name!r} gives what has no derivative; take torch's functions, and no detach")


def _build(setting: Setting, shape: Shape, outputs: int, seed: int, activate: Callable[[int], nn.Module]) -> nn.Module:
    with seeded_globals(seed, "build"):
        return build_model(setting.architecture, shape, outputs, activate)


def disabled_units(sites: Sequence[Site], settings: Sequence[Setting], seeds: Sequence[int]) -> list[Tensor]:
    """For each site [replica, channel]: 0 where `init.dead` disables a unit, else 1; nothing when no setting has it."""
    shares = [setting.init.dead for setting in settings]
    if not any(shares):
        return []
    masks = []
    for index, site in enumerate(sites):
        mask = torch.ones(len(seeds), site.width)
        for replica, (seed, share) in enumerate(zip(seeds, shares, strict=True)):
            chosen = torch.randperm(site.width, generator=generator(seed, "dead", index))
            mask[replica, chosen[: round(share * site.width)]] = 0
        masks.append(mask)
    return masks


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The parameters [replica, number] and buffers of a network at one moment.

    `inputs` are those of linear maps [replica, sample, …], by name and for each chunk of the probe, if they were kept.
    """

    flat: Tensor
    buffers: dict[str, Tensor]
    inputs: list[dict[str, Tensor]] = field(default_factory=list)


class Network:
    """R replicas of one architecture, each with its own setting's activation and initialisation, and its own seed.

    `flat` [replica, number] holds every parameter of every replica, what activations learn last; the module's own
    parameters are views of it. Replicas with equal activations must stand beside each other. `batched` says that
    the user's own code can be read as a batched computation.
    Raises ConfigError when the model cannot be built, ValueError when these replicas cannot share a stack.
    """

    chunk: int | None = None
    """the largest number of samples that are measured at a time, where the probe is not to choose it"""

    memory_share = 1.0
    """of a GPU's memory, what these replicas may count on"""

    def __init__(
        self,
        settings: Sequence[Setting],
        seeds: Sequence[int],
        shape: Shape,
        outputs: int,
        device: str = "cpu",
        batched: bool = False,
    ) -> None:
        self.settings, self.seeds, self.device = list(settings), list(seeds), device
        self.stacked = stackable(settings[0], device, {own_key(settings[0]) or ""} if batched else ())
        if not self.stacked and len(seeds) > 1:
            raise ValueError("this setting's trials train one by one")
        for activation in dict.fromkeys(setting.activation for setting in settings):
            _refuse_unfit_activation(activation)
        self._input_dims, self._made_for = len(shape) + 1, (shape, outputs)
        plain = build_module(settings[0], shape, outputs, seeds[0])
        if not any(parameter.requires_grad for parameter in plain.parameters()):
            raise ConfigError(f"architecture: {settings[0].architecture.name!r} has no parameters to train")
        self.trace: Trace = trace(plain, torch.zeros(2, *shape))
        _refuse_unfit(self.trace, settings[0].architecture.name, outputs)
        linear = [(name, module) for name, module in plain.named_modules() if isinstance(module, _LINEAR)]
        last = linear[-1][0] if linear and linear[-1][1]._parameters.get("weight") is not None else None
        self.output_layer = self.trace.output or last
        self.gains = [self._gain(setting) for setting in settings]
        self.module = self._mixed(plain, shape, outputs)
        self.masks = [mask.to(device) for mask in disabled_units(self.sites, settings, seeds)]
        self._stack(shape, outputs)
        copies = own_key(settings[0]) is not None
        pooled = [] if copies else [number for number, site in enumerate(self.sites) if site.pooled]
        self.reading = Reading(len(seeds) if self.stacked else None, self.masks, seeds, copies, pooled)

    def only(self, replicas: Sequence[int]) -> Network | None:
        """A network of some of the replicas, with their parameters and buffers as they are now, to be evaluated.

        None for code of the user's, which may keep more than parameters and buffers.
        """
        if own_key(self.settings[0]) is not None:
            return None
        settings, seeds = [self.settings[own] for own in replicas], [self.seeds[own] for own in replicas]
        found = Network(settings, seeds, *self._made_for, self.device, self.stacked)
        with torch.no_grad():
            for name, rows, _ in found._named:
                own = torch.tensor(replicas[rows], device=self.device)
                found.flat[rows, found.columns[name]] = self.flat[own, self.columns[name]]
            for name, buffer in found.buffers().items():
                other = self.buffers()[name]
                buffer.copy_(other[list(replicas)] if self.stacked and other.is_floating_point() else other)
        found.chunk, found.memory_share = self.chunk, self.memory_share
        found.module.eval()
        return found

    @property
    def sites(self) -> list[Site]:
        """The places of activations, in the order of execution."""
        return self.trace.sites

    @property
    def decides(self) -> bool:
        """Whether forward passes take one way or another by what was drawn or learned, so that none is like the next.

        Dropout draws anew; a pool comes before a PReLU while its slopes are positive, if that can be asked.
        """
        modules = list(self.module.modules())
        asks = self.device == "cpu" and bool(self.reading.pooled) and any(isinstance(own, Prelu) for own in modules)
        return asks or any(isinstance(own, nn.Dropout) and own.p > 0 for own in modules)

    @property
    def has_other_deaths(self) -> bool:
        """Whether the model has an activation that is 0 far below 0 besides the one it is given."""
        return any(site.half_line and not self._is_given(site) for site in self.sites)

    @property
    def off_below(self) -> Tensor:
        """Whether a site's function is exactly 0 far below 0 [site, replica], so that its units can die of z ≤ 0."""
        given = once_each((setting.activation for setting in self.settings), off_below)
        rows = [given if self._is_given(site) else [site.half_line] * self.replicas for site in self.sites]
        return torch.tensor(rows, dtype=torch.bool).reshape(-1, self.replicas)

    def _is_given(self, site: Site) -> bool:
        """Whether a site is one of the activation that the model was given."""
        return isinstance(self._modules.get(site.name.partition("#")[0]), (Function, Marked))

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return dict(self.module.named_modules())

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

    def hearing(self, layers: Iterable[str]) -> AbstractContextManager[dict[str, Tensor]]:
        """While open, forward passes keep the inputs of the named linear maps in the mapping that it gives."""
        return self.reading.hearing({id(self.weight(layer)): layer for layer in layers})

    def weight(self, layer: str | None) -> Tensor | None:
        """The weights of a named layer, a leaf: [replica, out, in, *kernel], without the first dimension if alone."""
        return None if layer is None else self.module.get_parameter(f"{layer}.weight")

    def per_replica(self, values: Tensor) -> Tensor:
        """A leaf's values or gradient as [replica, …]."""
        return values if self.stacked else values.unsqueeze(0)

    def flatten(self, gradients: tuple[Tensor | None, ...]) -> Tensor:
        """Gradients of `leaves` as one [replica, number], laid out like `flat`; zeros for a leaf without gradient.

        The result is the same memory at every call.
        """
        for place, gradient in zip(self._places, gradients, strict=True):
            if gradient is None:
                place.zero_()
            else:
                place.copy_(gradient)
        return self._gradient

    def norm(self, gradient: Tensor) -> Tensor:
        """L2 norm [replica] of a gradient laid out like `flat`: the same bits whatever other replicas learn."""
        norm = torch.linalg.vector_norm(gradient[:, : self.plain], dim=1)
        if self.plain == gradient.shape[1]:
            return norm
        learned = torch.linalg.vector_norm(gradient[:, self.plain :], dim=1)
        return (norm.double().square() + learned.double().square()).sqrt().to(norm.dtype)

    def size(self, replica: int) -> int:
        """The number of a replica's parameters."""
        return sum(shape.numel() for _, rows, shape in self._named if rows.start <= replica < rows.stop)

    def state(self, replica: int) -> dict[str, Tensor]:
        """One replica's parameters and buffers, as a plain module's state dict."""
        found = {}
        for name, rows, shape in self._named:
            if rows.start <= replica < rows.stop:
                own = self.flat[replica : replica + 1, self.columns[name]]
                found[name] = self._view(own, shape, alone=True)
        found |= {name: found[first] for name, first in self._shared.items()}
        for name, buffer in self.buffers().items():
            found[name] = buffer[replica] if self.stacked and buffer.is_floating_point() else buffer
        return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}

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

    def values(self, moment: Snapshot, name: str) -> Tensor | None:
        """A parameter or buffer [replica, …] at a moment, if there is one of that name; kernels [out, in, *size]."""
        if name in moment.buffers:
            return self.per_replica(moment.buffers[name])
        if name not in self.columns:
            return None
        shape = self.module.get_parameter(name).shape[int(self.stacked) :]
        return self.per_replica(self._view(moment.flat[:, self.columns[name]], shape))

    def inputs_of(self, layers: Iterable[str], moment: Snapshot, x: Tensor) -> dict[str, Tensor]:
        """The inputs [replica, sample, …] of the named linear maps at a moment, for x [sample, …]."""
        now = self.snapshot()
        try:
            self.take(moment)
            with torch.no_grad(), self.hearing(layers) as heard:
                self.forward(x)
        finally:
            self.take(now)
        return {layer: self.per_replica(value) for layer, value in heard.items()}

    @staticmethod
    def _gain(setting: Setting) -> float:
        init = setting.init
        if not INITS[init.name].uses_gain:
            return 1.0
        return _auto_gain(setting.activation) if init.gain == "auto" else float(init.gain)

    def _mixed(self, plain: nn.Module, shape: Shape, outputs: int) -> nn.Module:
        """The module of the stack: the plain one, or one whose activations are mixed."""
        runs = [(own, len(list(same))) for own, same in groupby(s.activation for s in self.settings)]
        if len(runs) == 1:
            return plain
        sizes = [count for _, count in runs]

        def activate(width: int) -> nn.Module:
            functions: list[Any] = [build_activation(own, width) for own, _ in runs]
            return Mixed(functions, sizes)

        return _build(self.settings[0], shape, outputs, self.seeds[0], activate)

    def _draw(self, views: dict[str, Tensor]) -> None:
        """Fills the weights and biases of linear maps [replica, …]; a user's model with init `torch` keeps its own."""
        inits = [setting.init for setting in self.settings]
        if inits[0].name == "torch" and is_own(self.settings[0].architecture):
            return
        layers = [(name, m) for name, m in self.module.named_modules() if isinstance(m, _LINEAR)]
        drawn: set[str] = set()
        for index, (name, layer) in enumerate(layers):
            weight, bias = layer._parameters.get("weight"), layer._parameters.get("bias")
            if weight is None or (layer.bias is not None and bias is None):
                raise ConfigError(
                    f"init: {inits[0].name!r} cannot draw the weights of {name!r}, which are computed from others "
                    "(weight norm, spectral norm); use init: torch, which keeps what the constructor drew"
                )
            own, shift = (self._shared.get(known, known) for known in (f"{name}.weight", f"{name}.bias"))
            if own in drawn:  # layers that share their weights
                continue
            drawn.add(own)
            shape = weight.shape
            area = math.prod(shape[2:])
            draw_layers(
                inits,
                views[own],
                None if bias is None else views[shift],
                (shape[1] * area, shape[0] * area),
                [1.0] * self.replicas if name == self.output_layer else self.gains,
                [(seed, "init", index) for seed in self.seeds],
            )

    def _stack(self, input_shape: Shape, outputs: int) -> None:
        """Replaces parameters and buffers by their stacked forms, and draws each replica's values."""
        learned = self._learned()
        named = [(parameter, *self._rows(name)) for name, parameter in self.module.named_parameters()]
        first = {id(parameter): name for name, parameter in self.module.named_parameters()}
        every = self.module.named_parameters(remove_duplicate=False)
        self._shared = {name: first[id(parameter)] for name, parameter in every if first[id(parameter)] != name}
        named.sort(key=lambda item: id(item[0]) in learned)
        self._named = [(plain, rows, parameter.shape) for parameter, plain, rows in named]
        self.columns = self._lay_out()
        self.plain = sum(p.numel() for p, *_ in named if id(p) not in learned)
        total = max((columns.stop for columns in self.columns.values()), default=0)
        self.decayed = torch.zeros(total, device=self.device)
        self.decayed[: self.plain] = 1
        self.flat = torch.zeros(self.replicas, total, device=self.device)
        self._gradient = torch.zeros_like(self.flat)
        self._places: list[Tensor] = []
        placed = {id(parameter): self._place(parameter, plain, rows) for parameter, plain, rows in named}
        if self.stacked and is_own(self.settings[0].architecture):
            self._take_drawn(input_shape, outputs)
        shapes = {plain: shape for plain, _, shape in self._named}
        with torch.no_grad():
            views = {plain: self._view(self.flat[:, own], shapes[plain]) for plain, own in self.columns.items()}
            self._draw(views if self.stacked else {name: view.unsqueeze(0) for name, view in views.items()})
        self.leaves = [leaf for leaf in placed.values() if leaf.requires_grad]
        self.columns |= {name: self.columns[first] for name, first in self._shared.items()}
        self._put_in(placed)

    def _learned(self) -> set[int]:
        """The ids of what activations learn, which stands last and does not decay."""
        modules = list(self.module.modules())
        inner = [m.function for m in modules if isinstance(getattr(m, "function", None), nn.Module)]
        owners = [m for m in modules if isinstance(m, (Function, nn.PReLU))] + inner
        return {id(parameter) for owner in owners for parameter in owner.parameters()}  # type: ignore[union-attr]

    def _lay_out(self) -> dict[str, slice]:
        """Which columns of `flat` each parameter of the plain model has; those of mixed activations share them."""
        columns: dict[str, slice] = {}
        total = 0
        for plain, _, shape in self._named:
            if plain not in columns:
                columns[plain] = slice(total, total + shape.numel())
                total += shape.numel()
        return columns

    def _place(self, parameter: nn.Parameter, plain: str, rows: slice) -> nn.Parameter:
        """A parameter as a view of `flat`, with its values; its gradient has a place beside it."""
        columns, shape = self.columns[plain], parameter.shape
        view = self._view(self.flat[rows, columns], shape)
        with torch.no_grad():
            view.copy_(parameter)
        if parameter.requires_grad:
            self._places.append(self._view(self._gradient[rows, columns], shape))
        else:
            self.decayed[columns] = 0
        return nn.Parameter(view, requires_grad=parameter.requires_grad)

    def _put_in(self, placed: dict[int, nn.Parameter]) -> None:
        """Gives the module its stacked parameters, by the ids of those it had, and buffers of its own."""
        for module in self.module.modules():
            for name, before in list(module._parameters.items()):
                if before is not None:
                    module._parameters[name] = placed[id(before)]
            for name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    wide = self.stacked and buffer.is_floating_point()
                    copy = buffer.expand(self.replicas, *buffer.shape).clone() if wide else buffer.clone()
                    module._buffers[name] = copy.to(self.device)

    def _take_drawn(self, shape: Shape, outputs: int) -> None:
        """What the constructor of a user's model draws, for each replica by its own seed; inits come after it."""
        for replica, (setting, seed) in enumerate(zip(self.settings, self.seeds, strict=True)):
            values = dict(build_module(setting, shape, outputs, seed).named_parameters())
            for name, rows, _ in self._named:
                if rows.start <= replica < rows.stop:
                    self.flat[replica, self.columns[name]] = values[name].detach().flatten().to(self.device)

    def _rows(self, name: str) -> tuple[str, slice]:
        """A parameter's name in the plain model, and the replicas that have it."""
        found = re.fullmatch(r"(.*)\.parts\.(\d+)\.(.*)", name)
        owner = self.module.get_submodule(found[1]) if found else None
        if not found or not isinstance(owner, Mixed):
            return name, slice(0, self.replicas)
        first = sum(owner.sizes[: int(found[2])])
        return f"{found[1]}.{found[3]}", slice(first, first + owner.sizes[int(found[2])])

    def _view(self, part: Tensor, shape: torch.Size, alone: bool = False) -> Tensor:
        """Numbers [replica, n] as a parameter; convolutions alone are laid out channels last, which CPUs like."""
        if self.stacked:
            return part[0].view(shape) if alone else part.unflatten(1, shape)
        if len(shape) == 4:
            out, inputs, *kernel = shape
            return part[0].view(out, *kernel, inputs).permute(0, 3, 1, 2)
        return part[0].view(shape)


@cache
def _auto_gain(activation: Options) -> float:
    with own_random_state():  # what the user's own draws must not make the initial weights another trial's
        return auto_gain(build_activation(activation, 1).eval())
