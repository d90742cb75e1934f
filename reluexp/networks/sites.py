"""Where a model's activations are: found by executing it once, not by module type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from reluexp.networks.gains import FAR_BELOW
from reluexp.networks.mode import measuring_mode
from reluexp.networks.operations import LINEAR_MAPS, MAX_POOLS, TRANSPOSED, Applied, Recogniser, bound

__all__ = ["Kind", "Site", "Trace", "trace"]

Kind = Literal["dense", "conv", "token", "sum", "concat"]

_ADDITIONS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
_CONCATENATIONS = {torch.cat, torch.concat, torch.concatenate}
_NORMS = {F.batch_norm, F.group_norm, F.layer_norm, F.instance_norm, F.rms_norm}
_POOLINGS = {
    *(*MAX_POOLS, F.avg_pool2d, torch.max_pool1d, F.max_pool1d, F.avg_pool1d),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.adaptive_avg_pool1d),
}
_TRANSPARENT = {
    *_POOLINGS,
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout),
    *(torch.flatten, Tensor.flatten, Tensor.view, Tensor.reshape, torch.reshape, Tensor.unflatten),
    *(Tensor.contiguous, Tensor.squeeze, torch.squeeze, Tensor.unsqueeze, torch.unsqueeze),
}


_OF_BOTH = {
    *(torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, torch.bmm, Tensor.bmm, torch.baddbmm),
    *(torch.einsum, F.scaled_dot_product_attention),
}
"""whose results have axes of both of what they multiply"""

_PERMUTATIONS = {
    getattr(place, name)
    for name in ("transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis")
    for place in (torch, Tensor)
} | {Tensor.mT.__get__, Tensor.T.__get__}  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Site:
    """One application of an activation: its name, kind, channels, and what feeds it.

    `name` is the path of the module that executes it, with #2, #3 … for the second and later applications there;
    `function` is the operation's name, such as `relu`. `axis` is the channel axis of one replica's z; `layer` names
    the feeding linear map's module, if there is one. `shift` names the parameter whose gradient tells whether a unit
    starves: the normalisation's shift, else the layer's bias, else its weight. `norm` names a batch norm on the way
    from the layer; `affine` says that for fixed running statistics z is an affine map of the layer's input, whose own
    source is the site number `below`, if it is one. `half_line` says that the function is exactly 0 far below 0;
    `pooled` that the next operation is a max pool of what it gives; `weighed` that parameters have a part in z.
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
    function: str = ""
    half_line: bool = False
    pooled: bool = False
    weighed: bool = True


@dataclass(frozen=True)
class Trace:
    """What one forward pass showed: the sites in order, the layer that feeds the output, and the output's shape.

    The shape is None where the model gives no tensor.
    """

    sites: list[Site]
    output: str | None
    shape: torch.Size | None


@dataclass(frozen=True)
class _Origin:
    """Where a tensor comes from, through transparent operations; `axis` is its channel axis (1 or −1) if known."""

    kind: Kind | None = None
    layer: str | None = None
    axis: int | None = None
    shift: str | None = None
    norm: str | None = None
    affine: bool = False
    below: int | None = None


class _Tracer(TorchFunctionMode):
    def __init__(self, model: nn.Module, samples: int) -> None:
        super().__init__()
        self.samples = samples
        named = [*model.named_parameters(), *model.named_buffers()]
        self.names = {id(own): name for name, own in named}
        self.sizes = {name: own.shape[0] if own.dim() else 1 for name, own in named}
        self.path: list[str] = []
        self.calls: Counter[str] = Counter()
        self.uses: Counter[str] = Counter()
        self.sites: list[Site] = []
        self.origins = WeakTensorKeyDictionary()
        self.weighed = WeakTensorKeyDictionary()
        self.known = Recogniser()
        self.latest: Tensor | None = None  # what the latest operation gave, if that was an activation

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = bound(func, args, kwargs or {})
        applied = self.known(func, args, kwargs)
        if func in MAX_POOLS and self.latest is not None and args[0] is self.latest:
            self.sites[-1] = replace(self.sites[-1], pooled=True)
        origin = self._record(applied) if applied else self._origin(func, args, kwargs)
        given = _tensors((*args, *kwargs.values()))
        weighed = any(isinstance(own, nn.Parameter) or own in self.weighed for own in given)
        out = func(*args, **kwargs)
        if not applied:
            self.known.note(func, args, out)
        self.latest = out if applied else None
        if origin and origin.axis and func in _TRANSPARENT:
            origin = replace(origin, axis=_reshaped(args[0].shape, origin.axis, out.shape))
        for part in _tensors((out,)):
            self.origins[part] = origin or self._along(func, args, kwargs, part)
            if weighed:
                self.weighed[part] = True
        if applied and applied.target is not None:
            self.origins[applied.target] = origin
        return out

    def _along(self, func: Any, args: Any, kwargs: dict[str, Any], out: Tensor) -> _Origin | None:
        """Of what any other operation gives only the channel axis is known: that of what it got, unless it moved."""
        known = [a for a in args if isinstance(a, Tensor) and a.dim() > 2 and out.dim() > 1]
        axes = [(a, origin.axis) for a in known if (origin := self._of(a)) and origin.axis]
        if not axes or func in _OF_BOTH:
            return None
        given, axis = axes[0]
        moves = func in _PERMUTATIONS or given.dim() != out.dim()
        return _Origin(axis=(_moved(func, given.dim(), axis, args[1:], kwargs) if moves else axis) or None)

    def _origin(self, func: Any, args: Any, kwargs: dict[str, Any]) -> _Origin | None:
        before = self._of(args[0]) if args else None
        if func in LINEAR_MAPS:
            return self._linear(before, func, *args[1:3], **kwargs)
        if func in _CONCATENATIONS:
            parts = [self._of(part) for part in (args[0] if args else kwargs["tensors"])]
            return _Origin("concat", axis=next((part.axis for part in parts if part and part.axis), None))
        if func in _ADDITIONS and len(args) > 1 and all(isinstance(term, Tensor) for term in args[:2]):
            return self._sum(before, *args[:2])
        if func in _NORMS:
            return self._normalised(before or _Origin(), func, args, kwargs)
        if func in _TRANSPARENT:
            return replace(before, affine=before.affine and func not in _POOLINGS) if before else None
        return None

    def _linear(self, before: _Origin | None, func: Any, *args: Any, **kwargs: Any) -> _Origin:
        weight = args[0] if args else kwargs["weight"]
        bias = args[1] if len(args) > 1 else kwargs.get("bias")
        name = self._name(weight)
        layer = name.removesuffix(".weight") if name.endswith(".weight") else None
        self.uses[layer or ""] += 1
        below = before.below if before else None
        if func in TRANSPOSED:
            return _Origin("conv", layer, 1, self._name(bias) or None, below=below)
        shift = self._name(weight if bias is None else bias) or None
        kind: Kind | None = None if func is F.linear else "conv"
        return _Origin(kind, layer, 1 if kind else -1, shift, None, layer is not None, below)

    def _sum(self, before: _Origin | None, one: Tensor, other: Tensor) -> _Origin | None:
        """A sum of two branches; a parameter that is added is part of the branch."""
        if self.known.fixed(other):
            return replace(before, affine=False) if before else None
        axis = next((part.axis for part in (before, self._of(other)) if part and part.axis), None)
        return _Origin("sum", axis=axis)

    def _normalised(self, before: _Origin, func: Any, args: Any, kwargs: dict[str, Any]) -> _Origin:
        if func is F.rms_norm:  # which has no shift, and in which each unit's gradient depends on the others
            return replace(before, axis=before.axis or -1, shift=None, affine=False)
        place = 4 if func is F.batch_norm else 3
        shift = self._name(args[place] if len(args) > place else kwargs.get("bias")) or before.shift
        if func is F.layer_norm:
            return replace(before, axis=before.axis or -1, shift=shift, affine=False)
        if func is not F.batch_norm:
            return replace(before, axis=1, shift=shift, affine=False)
        norm = self._name(args[1] if len(args) > 1 else kwargs.get("running_mean")).rpartition(".")[0] or None
        rows = args[0].dim() == 2 or before.axis == 1  # else the norm's channels are no rows of the weights
        affine = before.affine and before.norm is None and norm is not None and rows
        return replace(before, axis=1, shift=shift, norm=norm, affine=affine)

    def _of(self, tensor: Any) -> _Origin | None:
        return self.origins.get(tensor) if isinstance(tensor, Tensor) else None

    def origin(self, out: Any) -> _Origin | None:
        """Where the model's output comes from."""
        return self._of(out)

    def _name(self, tensor: Any) -> str:
        return self.names.get(id(tensor), "")

    def _record(self, applied: Applied) -> _Origin:
        """Notes a site, and returns where its output comes from."""
        z = applied.z
        origin = self._of(applied.origin) or _Origin()
        axis = 1 if z.dim() < 3 else (origin.axis or (-1 if z.dim() == 3 else 1)) % z.dim()
        by_shape: Kind = "dense" if z.dim() < 3 else "token" if axis == z.dim() - 1 else "conv"
        path = self.path[-1] if self.path else "model"
        self.calls[path] += 1
        name = path if self.calls[path] == 1 else f"{path}#{self.calls[path]}"
        width = z.shape[axis] if z.dim() > 1 else 1
        positions = max(1, z.numel() // (self.samples * width))
        kind: Kind = "dense" if origin.kind == "conv" and z.dim() == 2 else origin.kind or by_shape
        shift = origin.shift if origin.shift and self.sizes[origin.shift] == width else None
        silent = bool((applied.function(torch.full_like(z.detach(), FAR_BELOW)) == 0).all())
        rest = (shift, origin.norm, origin.affine and shift is not None, origin.below, applied.name, silent)
        weighed = applied.origin in self.weighed
        self.sites.append(Site(name, kind, width, axis, origin.layer, positions, *rest, weighed=weighed))
        return _Origin(axis=origin.axis, below=len(self.sites) - 1)


def _reshaped(before: Sequence[int], axis: int, after: Sequence[int]) -> int | None:
    """Where an axis is in another shape of the same numbers in the same order, from the end if it is the last.

    >>> _reshaped([2, 8, 6, 5], 1, [2, 240]), _reshaped([6, 8, 4, 4], 1, [2, 3, 8, 4, 4])
    (None, 2)
    >>> _reshaped([2, 3, 7], -1, [6, 7])
    -1
    """
    ahead = math.prod(before[: axis % len(before)])
    for place, size in enumerate(after):
        if size == before[axis] and math.prod(after[:place]) == ahead:
            return -1 if place == len(after) - 1 else place
    return None


def _moved(func: Any, dimensions: int, axis: int, args: Any, kwargs: dict[str, Any]) -> int | None:
    """Where an operation that only moves, drops or adds axes puts one of them: what it does to one of known sizes."""
    sizes = _SIZES[:dimensions]
    try:
        out = func(torch.empty(sizes, device="meta"), *args, **kwargs)
        shape = list(next(_tensors((out,))).shape)
        place = shape.index(sizes[axis])
    except Exception:  # not such an operation, or one that has lost the axis
        return None
    return -1 if place == len(shape) - 1 else place


_SIZES = (101, 103, 107, 109, 113, 127, 131, 137)
"""sizes that no two axes share, by which each is known again"""


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among values, and in tuples and lists among them."""
    for value in values:
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, Tensor):
                yield part


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
    """The sites of a model in the order of execution, by one forward pass of x [sample, …] in measuring mode.

    The model is left as it was: modes, buffers, random state.
    """
    with measuring_mode(model), torch.no_grad():
        tracer = _Tracer(model, len(x))
        with _module_paths(model, tracer.path), tracer:
            out = model(x)
    origin = tracer.origin(out)
    # what fell at one use of a layer's weights cannot be told from what fell at another
    sites = [replace(site, affine=site.affine and tracer.uses[site.layer or ""] == 1) for site in tracer.sites]
    return Trace(sites, origin.layer if origin else None, out.shape if isinstance(out, Tensor) else None)
