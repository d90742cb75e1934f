"""The activations: what each is called, how it is drawn, and the function itself.

Importing this module does not import torch; building an activation does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import Field

from reluexp.catalogue.registry import Options, Registry, import_attribute, is_own

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ACTIVATIONS",
    "OTHERS",
    "SPARE",
    "Activation",
    "build_activation",
    "dies",
    "display_name",
    "style_of",
]


class Plain(Options):
    """An activation without parameters."""


class LeakyRelu(Options):
    """max(z, a·z) with a fixed slope a."""

    negative_slope: float = Field(0.01, ge=0, lt=1, description="slope for z < 0")


class Prelu(Options):
    """A leaky ReLU whose slope is learned."""

    init: float = Field(0.25, gt=-1, lt=1, description="slope at birth")
    shared: bool = Field(True, description="one slope for a whole layer instead of one for each channel")


class Elu(Options):
    """z for z > 0, alpha·(eᶻ − 1) below."""

    alpha: float = Field(1.0, gt=0, le=10, description="minus the limit for z → −∞")


@dataclass(frozen=True)
class Activation:
    """One activation; `build(options, width)` makes the module applied to a site of `width` channels."""

    name: str
    label: str
    summary: str
    reference: str
    colour: str
    line: str
    build: Callable[[Any, int], nn.Module]
    options: type[Options] = Plain
    torchs: Callable[[Any, int], nn.Module] | None = None
    """likewise makes torch's own module of the same function, where there is one"""
    learned: bool = False
    half_line: Callable[[Any], bool] = lambda options: False
    """whether the function with these options is exactly 0 on a half-line, so that its units can die"""
    rectifies: bool = False
    """whether it passes what is above 0 and holds back what is below, so that units that are off can be compared"""


def _builder(package: str, name: str, *fields: str) -> Callable[[Any, int], nn.Module]:
    """A builder of the class of that name, with the options that are its arguments."""

    def build(options: Any, width: int) -> nn.Module:
        module: nn.Module = getattr(import_module(package), name)(*(getattr(options, field) for field in fields))
        return module

    return build


_build, _torchs = partial(_builder, "reluexp.catalogue.functions"), partial(_builder, "torch.nn")


def _sloped(package: str, name: str) -> Callable[[Any, int], nn.Module]:
    """A builder of the class of that name, whose arguments are the number of its slopes and what they begin with."""

    def build(options: Prelu, width: int) -> nn.Module:
        module: nn.Module = getattr(import_module(package), name)(1 if options.shared else width, options.init)
        return module

    return build


# Colours: Okabe & Ito 2008, told apart by the common forms of colour blindness; line styles repeat the distinction.
ACTIVATIONS: Registry[Activation] = Registry(
    "activation",
    [
        Activation(
            "relu",
            "ReLU",
            "max(z, 0)",
            "Nair & Hinton 2010; Glorot et al. 2011",
            "#D55E00",
            "-",
            _build("Relu"),
            torchs=_torchs("ReLU"),
            half_line=lambda options: True,
            rectifies=True,
        ),
        Activation(
            "leaky_relu",
            "Leaky ReLU",
            "z above 0, a·z below",
            "Maas et al. 2013",
            "#0072B2",
            "--",
            _build("LeakyRelu", "negative_slope"),
            LeakyRelu,
            _torchs("LeakyReLU", "negative_slope"),
            half_line=lambda options: options.negative_slope == 0,
            rectifies=True,
        ),
        Activation(
            "prelu",
            "PReLU",
            "leaky ReLU with a learned slope",
            "He et al. 2015, arXiv 1502.01852",
            "#56B4E9",
            "-.",
            _sloped("reluexp.catalogue.functions", "Prelu"),
            Prelu,
            _sloped("torch.nn", "PReLU"),
            learned=True,
            rectifies=True,
        ),
        Activation(
            "elu",
            "ELU",
            "z above 0, a·(exp z − 1) below",
            "Clevert et al. 2015, arXiv 1511.07289",
            "#009E73",
            ":",
            _build("Elu", "alpha"),
            Elu,
            _torchs("ELU", "alpha"),
            rectifies=True,
        ),
        Activation(
            "selu",
            "SELU",
            "scaled ELU, self-normalising",
            "Klambauer et al. 2017, arXiv 1706.02515",
            "#CC79A7",
            "-",
            _build("Selu"),
            torchs=_torchs("SELU"),
            rectifies=True,
        ),
        Activation(
            "sigmoid",
            "Sigmoid",
            "1/(1 + exp −z)",
            "Rumelhart et al. 1986",
            "#E69F00",
            "--",
            _build("Sigmoid"),
            torchs=_torchs("Sigmoid"),
        ),
        Activation(
            "tanh",
            "Tanh",
            "hyperbolic tangent",
            "LeCun et al. 1998",
            "#000000",
            "-.",
            _build("Tanh"),
            torchs=_torchs("Tanh"),
        ),
        Activation(
            "relu6",
            "ReLU6",
            "min(max(z, 0), 6), the bounded twin",
            "Krizhevsky 2010",
            "#882255",
            "--",
            _build("Relu6"),
            torchs=_torchs("ReLU6"),
            half_line=lambda options: True,
            rectifies=True,
        ),
        Activation(
            "gelu",
            "GELU",
            "z·Φ(z), Φ the normal distribution function",
            "Hendrycks & Gimpel 2016, arXiv 1606.08415",
            "#332288",
            "-",
            _build("Gelu"),
            torchs=_torchs("GELU"),
            rectifies=True,
        ),
        Activation(
            "silu",
            "SiLU",
            "z/(1 + exp −z), also called swish",
            "Elfwing et al. 2017, arXiv 1702.03118; Ramachandran et al. 2017, arXiv 1710.05941",
            "#999933",
            "-.",
            _build("Silu"),
            torchs=_torchs("SiLU"),
            rectifies=True,
        ),
        Activation(
            "softplus",
            "Softplus",
            "log(1 + exp z), the smooth rectifier",
            "Dugas et al. 2000; Glorot et al. 2011",
            "#661100",
            "--",
            _build("Softplus"),
            torchs=_torchs("Softplus"),
            rectifies=True,
        ),
        Activation(
            "identity",
            "Identity",
            "z, the linear control",
            "Saxe et al. 2014, arXiv 1312.6120",
            "#777777",
            ":",
            _build("Identity"),
        ),
    ],
)

_FURTHER = "CELU Hardsigmoid Hardswish Hardtanh LogSigmoid Mish Softsign"
OTHERS = {own.lower(): f"torch.nn:{own}" for own in _FURTHER.split()} | {"swish": "silu"}
"""other names of activations, and how they are named here"""

SPARE = ("#AA4499", "#117733", "#44AA99", "#DDCC77", "#004488", "#EE3377", "#6699CC")
"""colours of the user's own activations (Tol 2021), none like one of the catalogue's"""


def build_activation(options: Any, width: int) -> nn.Module:
    """A fresh module for a site of `width` channels, from a catalogue entry or the user's `package.module:attribute`.

    The user's object is a function of a tensor, or a class of modules, called with the config's options and, where its
    signature names it, with `width`.
    """
    if not is_own(options):
        return ACTIVATIONS[options.name].build(options, width)
    from reluexp.catalogue.functions import Elementwise

    found = import_attribute(options.name)
    extra: dict[str, Any] = dict(options.model_extra or {})
    if not isinstance(found, type):
        return Elementwise(found, extra)
    wanted = {"width": width} if "width" in inspect.signature(found).parameters else {}
    module: nn.Module = found(**{**wanted, **extra})
    return module


def dies(options: Any) -> bool:
    """Whether the activation is exactly 0 on a half-line, so that its units can die of z ≤ 0."""
    return options.name in ACTIVATIONS and ACTIVATIONS[options.name].half_line(options)


def rectifies(label: str) -> bool:
    """Whether an activation, by its label, passes what is above 0 and holds back what is below."""
    name = label.partition("(")[0]
    return name in ACTIVATIONS and ACTIVATIONS[name].rectifies


def display_name(label: Any) -> str:
    """A trial's activation label as it is shown: `Leaky ReLU (negative_slope=0.3)`."""
    return style_of(str(label))[0]


def style_of(label: str) -> tuple[str, str, str]:
    """Display label, colour and line style of a trial's activation label, such as `leaky_relu(negative_slope=0.3)`."""
    name, _, options = label.partition("(")
    if name in ACTIVATIONS:
        entry = ACTIVATIONS[name]
        line = entry.line if not options else ":"
        return entry.label + (f" ({options}" if options else ""), entry.colour, line
    return label, SPARE[sum(map(ord, label)) % len(SPARE)], "-."
