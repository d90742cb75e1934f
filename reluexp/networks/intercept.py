"""How a module's operations are read: one replica as written, or a whole stack at once; and where its sites are.

Shapes: [replica, sample, channel, *positions] in a batched reading, without the first in a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from reluexp.networks.convolution import convolve
from reluexp.networks.linear import linear
from reluexp.networks.operations import CONVOLUTIONS, MAX_POOLS, Applied, Recogniser, bound
from reluexp.networks.pooling import both, max_pool2d
from reluexp.seeds import generator

__all__ = ["Reading", "SiteListener", "disable"]

SiteListener = Callable[[int, Tensor, Tensor, Callable[[Tensor], Tensor]], None]
"""called with a site's number, its pre-activation z, what its function makes of it, and that function"""

_RANDOM = {
    *(F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
    *(torch.dropout, torch.alpha_dropout, torch.feature_dropout, torch.feature_alpha_dropout),
}
"""what is off in measuring mode, even where a model's author has switched it on for good"""


class Reading(TorchFunctionMode):
    """Runs a module's operations for one replica (`replicas` None) or for a stack, and reports its sites.

    A stack's parameters and inputs carry a leading replica dimension; linear maps, convolutions, normalisation,
    dropout and pooling are read as operations on the whole stack, everything else must not care about leading
    dimensions. `seeds` draw dropout's masks, each replica's from its own generator keyed by (seed, "dropout", *moment).
    `copies` is for code of the user's: there what a linear map got may be a parameter itself, or be written over.
    What the activations of the sites in `pooled` give goes into a max pool and nowhere else: for a function that rises
    everywhere the pool may come first, f(max z) being max f(z), and the function has a quarter of the work.
    """

    def __init__(
        self,
        replicas: int | None,
        masks: list[Tensor],
        seeds: Iterable[int] = (),
        copies: bool = False,
        pooled: Collection[int] = (),
    ) -> None:
        super().__init__()
        self.replicas, self.masks, self.seeds, self.copies = replicas, masks, tuple(seeds), copies
        self.pooled = frozenset(pooled)
        self.products_in: torch.dtype | None = None
        """the precision of linear maps and convolutions in training, if it is another than that of their weights"""
        self.moment: tuple[int, ...] | None = None
        self.listener: SiteListener | None = None
        self._generators: list[torch.Generator] | None = None
        self._known = Recogniser()
        self._site = 0
        self._postponed: Callable[[Tensor], Tensor] | None = None
        self._wanted: dict[int, str] = {}
        self._heard: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to the latest pass alone, some of which cannot be pickled."""
        return {**vars(self), "listener": None, "_known": None, "_generators": None, "_wanted": {}, "_heard": {}}

    @contextmanager
    def hearing(self, wanted: dict[int, str]) -> Iterator[dict[str, Tensor]]:
        """While open, the inputs of linear maps whose weights have these ids are kept under the given names."""
        self._wanted, self._heard = wanted, {}
        try:
            yield self._heard
        finally:
            self._wanted = {}

    def begin(self, moment: tuple[int, ...] | None, listener: SiteListener | None = None) -> Reading:
        """Prepares a forward pass: in training its moment (epoch, step), in measuring mode None."""
        self.moment, self.listener, self._generators, self._site = moment, listener, None, 0
        self._postponed = None
        self._known = Recogniser()
        return self

    def __exit__(self, *error: Any) -> None:
        """Keeps nothing alive that heard the pass."""
        self.listener = None
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = bound(func, args, kwargs or {})
        applied = self._known(func, args, kwargs)
        if applied:
            site, self._site = self._site, self._site + 1
            if self.listener or self.masks:
                return self._activate(site, applied)
            if site in self.pooled and getattr(applied.function, "rises", False):
                self._postponed = applied.function
                return applied.z
            return func(*args, **kwargs)
        if self._postponed:
            function, self._postponed = self._postponed, None
            return function(self._execute(func, args, kwargs))
        if func is F.dropout:
            return self._dropout(*args, **kwargs)
        out = self._execute(func, args, kwargs)
        self._known.note(func, args, out)
        return out

    def _execute(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """An operation that is no activation, read for the whole stack."""
        if func in _RANDOM and self.moment is None:
            return args[0]
        if self.products_in and self.moment is not None:
            args, kwargs = _in_precision(func, args, kwargs, self.products_in)
        if self._wanted and len(args) > 1 and id(args[1]) in self._wanted:
            self._heard[self._wanted[id(args[1])]] = args[0].detach().clone() if self.copies else args[0]
        if func in MAX_POOLS and (self.replicas is not None or not torch.is_grad_enabled()):
            return max_pool2d(*args, **kwargs)
        if self.replicas is not None:
            if func in _BATCHED:
                return _BATCHED[func](*args, **kwargs)
            if func in _FLATTENINGS:
                return _flatten(*args, **kwargs)
            if func in _VIEWS and _flattens(*args):
                return args[0].flatten(2)
            if func in _FOLDED:
                folded = func(args[0].flatten(0, 1), *args[1:], **kwargs)
                return folded.unflatten(0, args[0].shape[:2])
        elif func is F.batch_norm and kwargs.get("training") and args[0].numel() == args[0].shape[1]:
            # torch refuses to train on a single value for each channel, which a last batch of one sample may be
            named = dict(zip(kwargs, _with_replica(tuple(kwargs.values())), strict=True))
            return _batch_norm(*_with_replica(args), **named).squeeze(0)
        return func(*args, **kwargs)

    def _activate(self, site: int, applied: Applied) -> Tensor:
        """Reports a site and computes h; what is written in place comes from a copy of z, which stays whole."""
        z, function, target = applied.z, applied.function, applied.target
        if target is z:
            z = z.clone()
        h = function(z)
        if self.masks:
            mask = self.masks[site] if self.replicas is not None else self.masks[site][0]
            h = h * _beside(mask.to(h), h)
        if self.listener:
            self.listener(site, z, h, function)
        if applied.rest:
            h = applied.rest(h)
        return h if target is None else target.copy_(h)

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0 or self.moment is None:
            return x
        if self._generators is None:
            self._generators = [generator(seed, "dropout", *self.moment) for seed in self.seeds]
        shape = x.shape if self.replicas is None else x.shape[1:]
        kept = [torch.empty(shape).bernoulli_(1 - p, generator=g) for g in self._generators]
        mask = kept[0] if self.replicas is None else torch.stack(kept)
        return x * mask.to(x.device, non_blocking=True) / (1 - p)


class _Disabling(Reading):
    """Disables units and leaves everything else as it is written.

    `off` while a watch does so itself, which looks at the very operations.
    """

    off = False

    def _execute(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)

    def _dropout(self, *args: Any, **kwargs: Any) -> Tensor:
        return F.dropout(*args, **kwargs)


def disable(module: nn.Module, masks: list[Tensor]) -> None:
    """Keeps the units of each site [1, channel] that a mask says 0 for disabled in every pass from now on.

    The module says which these are, as `reluexp_disabled`, so that `watch` counts them among the dead.
    """
    reading = _Disabling(None, masks)
    module.reluexp_disabled, module.reluexp_disabling = masks, reading  # type: ignore[assignment]
    module.register_forward_pre_hook(lambda *_: None if reading.off else _none(reading.begin(None).__enter__()))
    module.register_forward_hook(
        lambda *_: None if reading.off else reading.__exit__(None, None, None), always_call=True
    )


def _none(_: Any) -> None:
    """What a hook returns that changes nothing."""


def _in_precision(func: Any, args: Any, kwargs: dict[str, Any], half: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """Arguments of a product in half precision, those of a norm in single precision, others as they are."""
    wanted = half if func in _IN_HALF else torch.float32 if func in _NORMS else None
    if wanted is None:
        return args, kwargs

    def cast(value: Any) -> Any:
        return value.to(wanted) if isinstance(value, Tensor) and value.is_floating_point() else value

    return tuple(map(cast, args)), {name: cast(value) for name, value in kwargs.items()}


def _with_replica(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.unsqueeze(0) if isinstance(a, Tensor) else a for a in args)


def _beside(channelwise: Tensor, x: Tensor) -> Tensor:
    """[…, channel] shaped to multiply x [..., sample, channel, *positions]."""
    column = channelwise.unsqueeze(-2)
    return column[(..., *([None] * (x.dim() - column.dim())))]


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, groups: int = 1, **kwargs: Any
) -> Tensor:
    """All replicas at once: as products of patches, or, where channels are grouped, as groups of one convolution."""
    spacing: dict[str, Any] = dict(zip(("stride", "padding", "dilation", "groups"), rest, strict=False))
    groups = spacing.pop("groups", groups)
    spacing = {"stride": 1, "padding": 0, "dilation": 1, **spacing, **kwargs}
    if groups == 1 and not isinstance(spacing["padding"], str):
        return convolve(x, weight, bias, **{name: both(value) for name, value in spacing.items()})
    replicas = x.shape[0]
    together = x.transpose(0, 1).flatten(1, 2)
    flat = None if bias is None else bias.flatten()
    out = F.conv2d(together, weight.flatten(0, 1), flat, groups=groups * replicas, **spacing)
    return out.unflatten(1, (replicas, -1)).transpose(0, 1)


def _flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """As for one replica: dimensions counted from the front are one further back in a stack."""
    start, end = (dim + 1 if dim >= 0 else dim for dim in (start_dim, end_dim))
    return x.flatten(start, end)


def _flattens(x: Tensor, *shape: Any) -> bool:
    """Whether a view is `x.view(len(x), -1)` or `x.view(-1, numbers)`, by which one flattens samples."""
    sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return x.dim() > 2 and sizes in ((x.shape[0], -1), (-1, x[0, 0].numel()))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """By hand over samples and positions, since folding replicas into channels rounds differently."""
    if training or running_mean is None or running_var is None:
        dims = [1, *range(3, x.dim())]
        mean = x.mean(dims)
        centred = x - _beside(mean, x)
        var = (centred * centred).mean(dims)
        if training and running_mean is not None and running_var is not None:
            count = x.numel() // (x.shape[0] * x.shape[2])
            with torch.no_grad():
                running_mean.copy_((1 - momentum) * running_mean + momentum * mean)
                running_var.copy_((1 - momentum) * running_var + momentum * var * (count / max(count - 1, 1)))
    else:
        mean, var = running_mean, running_var
        centred = x - _beside(mean, x)
    normal = centred / (_beside(var, x) + eps).sqrt()
    return _affine(normal, weight, bias)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        x = x * _beside(weight, x)
    return x if bias is None else x + _beside(bias, x)


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    split = x.unflatten(2, (groups, -1)).flatten(3)
    centred = split - split.mean(-1, keepdim=True)
    var = (centred * centred).mean(-1, keepdim=True)
    return _affine((centred / (var + eps).sqrt()).reshape(x.shape), weight, bias)


_IN_HALF = {F.linear, *CONVOLUTIONS}
_NORMS = {F.batch_norm, F.group_norm, F.layer_norm, F.instance_norm, torch.layer_norm}
_BATCHED: dict[Any, Callable[..., Tensor]] = {
    F.linear: linear,
    F.conv2d: _conv2d,
    torch.conv2d: _conv2d,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
}
_FLATTENINGS = {torch.flatten, Tensor.flatten}
_VIEWS = {Tensor.view, Tensor.reshape, torch.reshape}
_FOLDED = {
    F.avg_pool2d,
    *(F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
}
