"""The initialisations of weights; importing this module does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from reluexp.catalogue.registry import Options, Registry

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["INITS", "Init", "InitOptions", "NormalBias"]


class NormalBias(Options):
    """Biases drawn from a normal distribution with mean 0."""

    normal: float = Field(gt=0, le=100, description="standard deviation")


class InitOptions(Options):
    """What every initialisation has."""

    gain: Literal["auto"] | float = Field("auto", description="factor of the weights; auto: from the activation")
    bias: float | NormalBias | None = Field(
        None, description="a number, or {normal: std}; default 0 (for `torch`: the framework's uniform draw)"
    )
    dead: float = Field(0.0, ge=0, lt=1, description="share of each hidden site's units disabled for good")


Fans = tuple[int, int]
"""fan-in and fan-out: inputs and outputs of one position times the kernel's area"""


@dataclass(frozen=True)
class Init:
    """One initialisation; `draw(weight, fans, gain, generator)` fills `weight` [out, in, *kernel] in place."""

    name: str
    label: str
    summary: str
    reference: str
    draw: Callable[[Tensor, Fans, float, Generator], object]
    uses_gain: bool = True
    options: type[Options] = InitOptions


def _normal(std: Callable[[Fans, float], float]) -> Callable[[Tensor, Fans, float, Generator], object]:
    return lambda weight, fans, gain, generator: weight.normal_(0, std(fans, gain), generator=generator)


def _uniform(std: Callable[[Fans, float], float]) -> Callable[[Tensor, Fans, float, Generator], object]:
    def draw(weight: Tensor, fans: Fans, gain: float, generator: Generator) -> object:
        bound = math.sqrt(3) * std(fans, gain)
        return weight.uniform_(-bound, bound, generator=generator)

    return draw


def _orthogonal(weight: Tensor, fans: Fans, gain: float, generator: Generator) -> object:
    from torch import nn

    return nn.init.orthogonal_(weight, gain, generator=generator)


def _he(fans: Fans, gain: float) -> float:
    return gain / math.sqrt(fans[0])


def _xavier(fans: Fans, gain: float) -> float:
    return gain * math.sqrt(2 / sum(fans))


_HE, _GLOROT = "He et al. 2015, arXiv 1502.01852", "Glorot & Bengio 2010"

INITS: Registry[Init] = Registry(
    "init",
    [
        Init("he_normal", "He normal", "normal, std gain/√fan_in", _HE, _normal(_he)),
        Init("he_uniform", "He uniform", "uniform, std gain/√fan_in", _HE, _uniform(_he)),
        Init("xavier_normal", "Xavier normal", "normal, std gain·√(2/(fan_in + fan_out))", _GLOROT, _normal(_xavier)),
        Init(
            "xavier_uniform", "Xavier uniform", "uniform, std gain·√(2/(fan_in + fan_out))", _GLOROT, _uniform(_xavier)
        ),
        Init(
            "lecun_normal",
            "LeCun normal",
            "normal, std 1/√fan_in",
            "LeCun et al. 1998",
            _normal(lambda f, g: _he(f, 1)),
            False,
        ),
        Init(
            "orthogonal",
            "Orthogonal",
            "gain times an orthogonal matrix",
            "Saxe et al. 2014, arXiv 1312.6120",
            _orthogonal,
        ),
        Init(
            "torch",
            "PyTorch default",
            "uniform within ±1/√fan_in, biases too",
            "LeCun et al. 1998",
            _uniform(lambda f, g: _he(f, 1) / math.sqrt(3)),
            False,
        ),
    ],
)
