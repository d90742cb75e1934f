"""Which executed operations are activations, and each as a function of its pre-activation alone."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from reluexp.catalogue.functions import Function, Sigmoid, Tanh
from reluexp.layers import activate

__all__ = ["CONVOLUTIONS", "LINEAR_MAPS", "MAX_POOLS", "TRANSPOSED", "Applied", "Operation", "Recogniser", "bound"]

_NAMES = (
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *("hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh", "threshold", "softsign", "hardshrink", "softshrink"),
    *("tanhshrink", "logsigmoid", "log_sigmoid", "expit"),
)
_PIECEWISE_LINEAR = {"relu", "relu6", "leaky_relu", "prelu", "hardtanh", "clamp", "maximum", "where", "mul"}
_PLACES = (torch, F, Tensor, torch._C._nn, torch.special, torch.ops.aten)
_PRODUCT_NAMES = ("mul", "mul_", "multiply", "__mul__", "__rmul__")
_ORDERS = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
_ALIASES = {"greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le"}
_INVERSE = {"gt": "le", "ge": "lt", "lt": "ge", "le": "gt"}
_INVERSIONS = {Tensor.__invert__, torch.logical_not, Tensor.logical_not, torch.bitwise_not, Tensor.bitwise_not}
_CASTS = {
    *(Tensor.int, Tensor.long, Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16),
    *(Tensor.to, Tensor.type, Tensor.type_as),
}
_DETACHMENTS = {torch.detach, Tensor.detach, Tensor.data.__get__}  # type: ignore[attr-defined]
_ZEROS = {torch.zeros, torch.zeros_like, Tensor.new_zeros}


class Operation:
    """A function of z alone, never in place."""

    def __init__(self, name: str, function: Callable[..., Tensor], *rest: Any, **options: Any) -> None:
        self.name, self.function, self.rest, self.options = name, function, rest, options
        self.piecewise_linear = name in _PIECEWISE_LINEAR

    def __call__(self, z: Tensor) -> Tensor:
        """h = f(z)."""
        return self.function(z, *self.rest, **self.options)


class _Sigmoidal(Operation):
    """Torch's sigmoid or tanh, whose f' autograd takes from h, which is 1 far above 0 but for rounding."""

    def derivative(self, z: Tensor) -> Tensor:
        """f'(z) as the catalogue has it."""
        return _SIGMOIDAL[self.name].derivative(z)


_SIGMOIDAL: dict[str, Function] = {"sigmoid": Sigmoid(), "tanh": Tanh()}


class _Prelu(Function):
    """A leaky function whose slope is an argument of the operation."""

    name = "prelu"
    piecewise_linear = True

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = slope if isinstance(slope, nn.Parameter) else nn.Parameter(slope, slope.requires_grad)
        self.used = slope

    def forward(self, z: Tensor) -> Tensor:
        """h; the slope is taken in z's own precision."""
        return torch.prelu(z, self.used.to(z.dtype))


MAX_POOLS = {torch.max_pool2d, F.max_pool2d}
CONVOLUTIONS = {F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d}
TRANSPOSED = {
    *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
}
LINEAR_MAPS = {F.linear, *CONVOLUTIONS, *TRANSPOSED}


class Applied(NamedTuple):
    """One application of an activation: its name, z, the function, and the tensor that is to hold h in place.

    Where the operation does more, z is a part of `source`, and `rest` makes of h what the operation gives.
    """

    name: str
    z: Tensor
    function: Callable[[Tensor], Tensor]
    target: Tensor | None = None
    source: Tensor | None = None
    rest: Callable[[Tensor], Tensor] | None = None

    @property
    def origin(self) -> Tensor:
        """The tensor that the operation got."""
        return self.z if self.source is None else self.source


class _Made(NamedTuple):
    """What was made of a tensor of some version: a mask of its comparison with 0 by `how`, or `how` times it."""

    z: Tensor
    version: int
    how: Any


Reader = Callable[["Recogniser", Any, Any, dict[str, Any]], Applied | None]


class Recogniser:
    """Tells activations among the operations of one forward pass.

    What is computed from parameters alone is no activation; masks of comparisons with 0 are remembered, since
    where(z > 0, z, 0), z * (z > 0) and the like are one operation in spirit.
    """

    def __init__(self) -> None:
        self._fixed = WeakTensorKeyDictionary()
        self._masks = WeakTensorKeyDictionary()
        self._multiples = WeakTensorKeyDictionary()
        self._zeros = WeakTensorKeyDictionary()
        self._detached = WeakTensorKeyDictionary()

    def __call__(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Applied | None:
        """The activation that is applied by this operation, if it is one; its arguments are `bound`."""
        reader = _READERS.get(func)
        applied = reader(self, func, args, kwargs) if reader else None
        if applied is None or not applied.z.is_floating_point() or self.fixed(applied.origin):
            return None
        return applied

    def note(self, func: Any, args: Any, out: Any) -> None:
        """Remembers what later operations are judged by; to be called with every other operation's output."""
        if self._is_fixed(args):
            for own in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(own, Tensor) and own is not args[0]:
                    self._fixed[own] = True
        if not isinstance(out, Tensor):
            return
        if func in _ZEROS:
            self._zeros[out] = out._version
        if not args:
            return
        if func in _DETACHMENTS:
            self._detached[out] = args[0]
        elif func in _COMPARISONS and len(args) > 1 and self.zero(args[1]):
            z = self._detached.get(args[0], args[0])
            self._masks[out] = _Made(z, z._version, _COMPARISONS[func])
        elif func in _MULTIPLICATIONS and len(args) == 2 and isinstance(args[1], float) and out is not args[0]:
            self._multiples[out] = _Made(args[0], args[0]._version, args[1])
        elif func in _DIVISIONS and len(args) == 2 and isinstance(args[1], (int, float)) and args[1] > 1:
            self._multiples[out] = _Made(args[0], args[0]._version, 1 / args[1])
        elif self._masks.data and func in _CASTS and args[0] in self._masks:
            self._masks[out] = self._masks[args[0]]
        elif self._masks.data and func in _INVERSIONS and args[0] in self._masks:
            made = self._masks[args[0]]
            self._masks[out] = made._replace(how=_INVERSE[made.how])

    def _is_fixed(self, args: Any) -> bool:
        """Whether all tensors among the arguments, of which there are some, stand for parameters alone."""
        if args and isinstance(args[0], Tensor) and not self.fixed(args[0]):  # nearly always
            return False
        parts = [part for a in args for part in (a if isinstance(a, (tuple, list)) else (a,))]
        tensors = [part for part in parts if isinstance(part, Tensor)]
        return bool(tensors) and all(map(self.fixed, tensors))

    def fixed(self, value: Any) -> bool:
        """Whether a tensor is a parameter or was computed from parameters alone."""
        if isinstance(value, nn.Parameter):
            return True
        return bool(self._fixed.data) and isinstance(value, Tensor) and value in self._fixed

    def zero(self, value: Any) -> bool:
        """Whether it is the number 0, one element that is 0, or a tensor made of zeros in this pass."""
        if not isinstance(value, Tensor):
            return _is_number(value, 0)
        if value in self._zeros:
            return bool(self._zeros[value] == value._version)
        return value.numel() == 1 and not value.requires_grad and not bool(value.any())

    def order(self, mask: Any, z: Any) -> str | None:
        """How z stands to 0 where the mask is true, if that is what the mask says."""
        order: str | None = self._made(self._masks, mask, z)
        return order

    def multiple(self, value: Any, z: Any) -> float | None:
        """The number by which z was multiplied to give the value, if it was."""
        factor: float | None = self._made(self._multiples, value, z)
        return factor

    @staticmethod
    def _made(kept: WeakTensorKeyDictionary, value: Any, z: Any) -> Any:
        known = kept.get(value) if kept.data and isinstance(value, Tensor) else None
        return known.how if known and known.z is z and known.version == z._version else None


def bound(func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Arguments with the tensors in their places that were given by name, as positions say it everywhere else.

    >>> bound(torch.add, (1,), {"other": 2, "alpha": 3})
    ((1, 2), {'alpha': 3})
    """
    if not kwargs:
        return args, kwargs
    rest = dict(kwargs)
    names = ("condition", "input", "other") if func is torch.where else ("input", "other")
    if func in LINEAR_MAPS:
        names = ("input", "weight", "bias")
    if func is Tensor.where:
        names = ("self", "condition", "other")
    placed = list(args)
    for name in names[len(args) :]:
        if name not in rest:
            break
        placed.append(rest.pop(name))
    return tuple(placed), rest


def _is_number(value: Any, number: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == number


def _argument(args: Any, kwargs: dict[str, Any], place: int, *names: str) -> Any:
    return args[place] if len(args) > place else next((kwargs[name] for name in names if name in kwargs), None)


def _input(args: Any, kwargs: dict[str, Any]) -> Any:
    return _argument(args, kwargs, 0, "input", "self")


def _activated(known: Recogniser, func: Any, args: Any, kwargs: dict[str, Any]) -> Applied:
    """The explicit marked operation."""
    z, function = args
    name = getattr(function, "__name__", type(function).__name__).lower()
    if getattr(function, "inplace", False) or name.endswith("_"):
        return Applied(name.rstrip("_"), z, Operation(name, _on_a_copy, function), z)
    return Applied(name, z, function)


def _on_a_copy(z: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return function(z.clone())


def _named(name: str, func: Any, twin: Any) -> Reader:
    """A reader of an elementwise function; `twin` is the same out of place."""
    place = _place_of_inplace(func)
    always = twin is not func

    def read(known: Recogniser, func: Any, args: Any, kwargs: dict[str, Any]) -> Applied:
        z = _input(args, kwargs)
        options = {k: v for k, v in kwargs.items() if k not in ("inplace", "input", "self", "out")}
        rest = list(args[1:])
        inplace = always or bool(kwargs.get("inplace"))
        if place is not None and len(args) > place:
            inplace, rest[place - 1] = bool(args[place]), False
        target = z if inplace else kwargs.get("out")
        if name == "hardtanh" and _between_0_and_6(args, kwargs):  # by which nn.ReLU6 is computed
            return Applied("relu6", z, Operation("relu6", twin, *rest, **options), target)
        if name == "prelu":
            return Applied(name, z, _Prelu(_argument(args, kwargs, 1, "weight")), target)
        kind = _Sigmoidal if name in _SIGMOIDAL else Operation
        return Applied(name, z, kind(name, twin, *rest, **options), target)

    return read


def _between_0_and_6(args: Any, kwargs: dict[str, Any]) -> bool:
    return (_argument(args, kwargs, 1, "min_val"), _argument(args, kwargs, 2, "max_val")) == (0, 6)


def _place_of_inplace(func: Any) -> int | None:
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):  # functions written in C++ have no signature, and no such argument
        return None
    return names.index("inplace") if "inplace" in names else None


def _in_place(func: Any) -> bool:
    return bool(func.__name__.partition(".")[0].endswith("_"))


def _clamped(known: Recogniser, func: Any, args: Any, kwargs: dict[str, Any]) -> Applied | None:
    """Clamping counts when its lower bound is 0, or where it is hard tanh, between -1 and 1."""
    z, low, high = _input(args, kwargs), _argument(args, kwargs, 1, "min"), _argument(args, kwargs, 2, "max")
    target = z if _in_place(func) else kwargs.get("out")
    if _is_number(low, -1) and _is_number(high, 1):
        return Applied("clamp", z, Operation("clamp", torch.clamp, min=-1, max=1), target)
    if not known.zero(low):
        return None
    if isinstance(high, Tensor):  # torch.clamp takes no number beside a tensor
        function = Operation("clamp", _between, high)
    else:
        function = Operation("clamp", torch.clamp, min=0, max=high)
    return Applied("clamp", z, function, target)


def _between(z: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(z.clamp(min=0), high)


def _halved(known: Recogniser, func: Any, args: Any, kwargs: dict[str, Any]) -> Applied:
    """A gated linear unit (Dauphin et al. 2017, arXiv 1612.08083) is a site of its gate, whose h weighs the rest."""
    both, dim = _input(args, kwargs), _argument(args, kwargs, 1, "dim")
    kept, z = both.chunk(2, -1 if dim is None else dim)
    return Applied("glu", z, _Sigmoidal("sigmoid", torch.sigmoid), source=both, rest=lambda h: kept * h)


def _larger(known: Recogniser, func: Any, args: Any, kwargs: dict[str, Any]) -> Applied | None:
    """The larger of z and 0, or of z and a·z, in either order."""
    left, right = _input(args, kwargs), _argument(args, kwargs, 1, "other")
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return None
    for z, other in ((left, right), (right, left)):
        slope = 0.0 if known.zero(other) else known.multiple(other, z)
        if slope is not None and 0 <= slope <= 1 and z.shape == torch.broadcast_shapes(z.shape, other.shape):
            return Applied("maximum", z, Operation("maximum", _maximum, slope), kwargs.get("out"))
    return None


def _maximum(z: Tensor, slope: float) -> Tensor:
    return torch.maximum(z, slope * z if slope else z.new_zeros(()))


def _chosen(known: Recogniser, func: Any, args: Any, kwargs: dict[str, Any]) -> Applied | None:
    """where(z > 0, z, 0) and where(z > 0, z, a·z), as a function or a method."""
    if len(args) != 3:
        return None
    mask, one, other = args if func is torch.where else (args[1], args[0], args[2])
    kept = _EMPTIES.get(known.order(mask, one) or "")
    if kept is None and known.order(mask, other) in _EMPTIES.values():
        kept, one, other = known.order(mask, other), other, one
    slope = None if kept is None else 0.0 if known.zero(other) else known.multiple(other, one)
    return None if slope is None else Applied("where", one, Operation("where", _filled, kept, slope))


def _filled(z: Tensor, order: str, slope: float = 0.0) -> Tensor:
    below = _ORDERS[order](z, 0)
    return torch.where(below, slope * z, z) if slope else z.masked_fill(below, 0)


_EMPTIES = {"gt": "le", "ge": "lt"}
"""what is set to 0 where z is kept above it"""


def _gated(known: Recogniser, func: Any, args: Any, kwargs: dict[str, Any]) -> Applied | None:
    """z * (z > 0), in either order."""
    if len(args) != 2:
        return None
    for z, mask in (args, args[::-1]):
        if known.order(mask, z) in ("gt", "ge"):
            target = z if _in_place(func) and z is args[0] else None
            return Applied("mul", z, Operation("mul", _times, known.order(mask, z)), target)
    return None


def _times(z: Tensor, order: str) -> Tensor:
    return z * _ORDERS[order](z, 0)


def _emptied(known: Recogniser, func: Any, args: Any, kwargs: dict[str, Any]) -> Applied | None:
    """z.masked_fill(z < 0, 0) and z[z < 0] = 0."""
    z, mask, value = (_argument(args, kwargs, place, name) for place, name in enumerate(("input", "mask", "value")))
    order = known.order(mask, z)
    if order not in ("lt", "le") or not known.zero(value):
        return None
    target = None if func in (Tensor.masked_fill, torch.masked_fill) else z
    return Applied("where", z, Operation("where", _filled, order), target)


def _found(name: str) -> list[Any]:
    """Every operation of that name."""
    found = [getattr(place, name) for place in _PLACES if hasattr(place, name)]
    return found + [packet.default for packet in found if hasattr(packet, "default")]


def _table() -> dict[Any, Reader]:
    readers: dict[Any, Reader] = {activate: _activated}
    for name in _NAMES:
        plain = {"log_sigmoid": "logsigmoid", "expit": "sigmoid"}.get(name, name)
        for func in _found(name):
            readers[func] = _named(plain, func, func)
        for func in _found(f"{name}_"):
            readers[func] = _named(plain, func, getattr(torch, name, None) or getattr(F, name))
    for reader, names in (
        (_clamped, ("clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_")),
        (_halved, ("glu",)),
        (_larger, ("maximum", "max", "fmax")),
        (_chosen, ("where",)),
        (_gated, _PRODUCT_NAMES),
        (_emptied, ("masked_fill", "masked_fill_", "__setitem__")),
    ):
        readers |= dict.fromkeys([func for name in names for func in _found(name)], reader)
    return readers


_READERS = _table()
_MULTIPLICATIONS = {func for name in _PRODUCT_NAMES for func in _found(name)}
_DIVISIONS = {func for name in ("div", "divide", "true_divide", "__truediv__") for func in _found(name)}
_COMPARISONS = {func: name for name in _ORDERS for func in _found(name)}
_COMPARISONS |= {func: name for alias, name in _ALIASES.items() for func in _found(alias)}
