"""Where a model's activations are: found by executing it once, not by module type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from reluexp.intercept import is_site, site_function

__all__ = ["Kind", "Site", "Trace", "trace"]

Kind = Literal["dense", "conv", "token", "sum", "concat"]

_CONVOLUTIONS = {F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d}
_ADDITIONS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
_CONCATENATIONS = {torch.cat, torch.concat, torch.concatenate}
_NORMS = {F.batch_norm, F.group_norm, F.layer_norm, F.instance_norm}
_POOLINGS = {
    *(torch.max_pool2d, F.max_pool2d, F.avg_pool2d, torch.max_pool1d, F.max_pool1d, F.avg_pool1d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.adaptive_avg_pool1d),
}
_TRANSPARENT = {
    *_POOLINGS,
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout),
    *(torch.flatten, Tensor.flatten, Tensor.view, Tensor.reshape, torch.reshape, Tensor.unflatten),
    *(Tensor.contiguous, Tensor.squeeze, torch.squeeze, Tensor.unsqueeze, torch.unsqueeze),
}


@dataclass(frozen=True)
class Site:
    """One application of an activation: its name, kind, channels, and what feeds it.

    `axis` is the channel axis of one replica's z; `layer` names the feeding linear map's module, if there is one.
    `shift` names the parameter whose gradient tells whether a unit starves: the normalisation's shift, else the layer's
    bias, else its weight. `norm` names a batch norm on the way from the layer; `affine` says that for fixed running
    statistics z is an affine map of the layer's input, whose own source is the site number `below`, if it is one.
    """

    name: str
    kind: Kind
    width: int
    axis: int
    layer: str | None
    positions: int
    shift: str | None = None
    norm: str | None = None
    affine: bool = False
    below: int | None = None


@dataclass(frozen=True)
class Trace:
    """What one forward pass showed: the sites in order, and the layer that feeds the output."""

    sites: list[Site]
    output: str | None


@dataclass(frozen=True)
class _Origin:
    """Where a tensor comes from, through transparent operations."""

    kind: Kind | None
    layer: str | None
    channels_first: bool
    shift: str | None = None
    norm: str | None = None
    affine: bool = False
    below: int | None = None


def _marked(out: Any, origin: _Origin | None) -> Any:
    if origin:
        out._reluexp_origin = origin
    return out


class _Tracer(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {id(own): name for name, own in model.named_parameters(remove_duplicate=False)}
        self.names |= {id(own): name for name, own in model.named_buffers(remove_duplicate=False)}
        self.path: list[str] = []
        self.calls: Counter[str] = Counter()
        self.sites: list[Site] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_site(func, args, kwargs):
            z = args[0] if args else kwargs["input"]
            return _marked(site_function(func, args, kwargs)(z), self._record(z))
        out = func(*args, **kwargs)
        return _marked(out, self._origin(func, args, kwargs)) if isinstance(out, Tensor) else out

    def _origin(self, func: Any, args: Any, kwargs: dict[str, Any]) -> _Origin | None:
        before: _Origin | None = getattr(args[0], "_reluexp_origin", None) if args else None
        if func is F.linear or func in _CONVOLUTIONS:
            weight, bias = args[1], args[2] if len(args) > 2 else kwargs.get("bias")
            layer = self._name(weight).rpartition(".")[0] or None
            shift = self._name(weight if bias is None else bias) or None
            convolution = func in _CONVOLUTIONS
            below = before.below if before else None
            return _Origin("conv" if convolution else None, layer, convolution, shift, None, layer is not None, below)
        if func in _CONCATENATIONS:
            return _Origin("concat", None, args[0][0].dim() != 3)
        if func in _ADDITIONS and all(isinstance(term, Tensor) for term in args[:2]):
            return _Origin("sum", None, args[0].dim() != 3)
        if func in _NORMS:
            return self._normalised(before or _Origin(None, None, False), func, args, kwargs)
        if func in _TRANSPARENT:
            return replace(before, affine=before.affine and func not in _POOLINGS) if before else None
        return None

    def _normalised(self, before: _Origin, func: Any, args: Any, kwargs: dict[str, Any]) -> _Origin:
        place = 4 if func is F.batch_norm else 3
        shift = self._name(args[place] if len(args) > place else kwargs.get("bias")) or before.shift
        if func is not F.batch_norm:
            return replace(before, shift=shift, affine=False)
        norm = self._name(args[1] if len(args) > 1 else kwargs.get("running_mean")).rpartition(".")[0] or None
        affine = before.affine and before.norm is None and norm is not None
        return replace(before, channels_first=True, shift=shift, norm=norm, affine=affine)

    def _name(self, tensor: Any) -> str:
        return self.names.get(id(tensor), "")

    def _record(self, z: Tensor) -> _Origin:
        """Notes a site, and returns where its output comes from."""
        origin: _Origin = getattr(z, "_reluexp_origin", None) or _Origin(None, None, z.dim() != 3)
        axis = z.dim() - 1 if z.dim() == 3 and not origin.channels_first else min(1, z.dim() - 1)
        by_shape: Kind = {2: "dense", 3: "token"}.get(z.dim(), "conv")  # type: ignore[assignment]
        path = self.path[-1] if self.path else "model"
        self.calls[path] += 1
        name = path if self.calls[path] == 1 else f"{path}#{self.calls[path]}"
        width = z.shape[axis]
        positions = z.numel() // (z.shape[0] * width)
        kind: Kind = "dense" if origin.kind == "conv" and z.dim() == 2 else origin.kind or by_shape
        rest = (origin.layer, positions, origin.shift, origin.norm, origin.affine, origin.below)
        self.sites.append(Site(name, kind, width, axis, *rest))
        return _Origin(None, None, origin.channels_first, below=len(self.sites) - 1)


@contextmanager
def _module_paths(model: nn.Module, path: list[str]) -> Iterator[None]:
    """While it is open, `path` ends with the dotted name of the module that is being executed."""
    handles = []
    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(lambda m, i, name=name: path.append(name)))
            handles.append(module.register_forward_hook(lambda m, i, o: path.pop() and None, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def trace(model: nn.Module, x: Tensor) -> Trace:
    """The sites of a model in the order of execution, by one forward pass of x [sample, …] in evaluation mode.

    The model is left as it was: its mode, and its buffers, which evaluation does not change.
    """
    training = model.training
    tracer = _Tracer(model)
    with torch.no_grad(), _module_paths(model, tracer.path):
        model.eval()
        try:
            with tracer:
                out = model(x)
        finally:
            model.train(training)
    origin = getattr(out, "_reluexp_origin", None)
    return Trace(tracer.sites, origin.layer if origin else None)
