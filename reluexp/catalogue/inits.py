"""The initialisations of weights; importing this module does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from reluexp.catalogue.registry import Options, Registry
from reluexp.seeds import derive, generator

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["INITS", "Init", "InitOptions", "NormalBias", "draw_layers", "symmetric"]


class NormalBias(Options):
    """Biases drawn from a normal distribution with mean 0."""

    normal: float = Field(gt=0, le=100, description="standard deviation")


class NoBiasOptions(Options):
    """What an initialisation has that draws the biases itself."""

    gain: Literal["auto"] = Field("auto", description="this initialisation has no gain")
    bias: None = Field(None, description="this initialisation draws the biases itself")
    dead: float = Field(0.0, ge=0, lt=1, description="share of each hidden site's units disabled for good")


class InitOptions(Options):
    """What every other initialisation has."""

    gain: Literal["auto"] | Annotated[float, Field(ge=0, le=1e6)] = Field(
        "auto", description="factor of the weights; auto: from the activation"
    )
    bias: Annotated[float, Field(ge=-1e6, le=1e6)] | NormalBias | None = Field(
        None, description="a number, or {normal: std}; default 0 (for `torch`: the framework's uniform draw)"
    )
    dead: float = Field(0.0, ge=0, lt=1, description="share of each hidden site's units disabled for good")


class NoGainOptions(InitOptions):
    """What an initialisation has whose weights have a scale of their own."""

    gain: Literal["auto"] = Field("auto", description="this initialisation has no gain")


Fans = tuple[int, int]
"""fan-in and fan-out: inputs and outputs of one position times the kernel's area"""


@dataclass(frozen=True)
class Init:
    """One initialisation; `draw(weight, fans, gain, generator)` fills `weight` [out, in, *kernel] in place.

    With `joint` it is given weights and biases together, [out, in·kernel + 1], the bias last.
    """

    name: str
    label: str
    summary: str
    reference: str
    draw: Callable[[Tensor, Fans, float, Generator], object]
    uses_gain: bool = True
    options: type[Options] = InitOptions
    joint: bool = False


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


def _rai(weight: Tensor, fans: Fans, gain: float, generator: Generator) -> object:
    """Normal entries, and in each row one at a random place from Beta(2, 1), which is the root of a uniform draw."""
    import torch

    weight.normal_(0, 0.6007 / math.sqrt(fans[0]), generator=generator)
    rows, columns = weight.shape
    place = torch.randint(columns, (rows, 1), generator=generator)
    return weight.scatter_(1, place, torch.rand(rows, 1, generator=generator).sqrt())


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
            NoGainOptions,
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
            NoGainOptions,
        ),
        Init(
            "rai",
            "Randomized asymmetric",
            "weights and biases normal, std 0.6007/√fan_in, one of each row from Beta(2, 1)",
            "Lu et al. 2019, arXiv 1903.06733",
            _rai,
            False,
            NoBiasOptions,
            joint=True,
        ),
    ],
)


def draw_layers(
    options: Sequence[Any],
    weights: Tensor,
    biases: Tensor | None,
    fans: Fans,
    gains: Sequence[float],
    keys: Sequence[tuple[int | str, ...]],
) -> None:
    """Fills one linear map's weights [replica, out, in, *kernel] and biases [replica, out].

    Each replica has its own options and gain, and for each of the two a random sequence of its own under its key.
    """
    import torch

    if biases is not None:
        _draw_biases(options, biases, fans[0], keys)
    random, drawn = torch.Generator(), torch.empty(weights.shape)
    for number, (own, weight) in enumerate(zip(options, drawn.unbind(), strict=True)):
        entry = INITS[own.name]
        random.manual_seed(derive(*keys[number], "weight"))
        if entry.joint:
            whole = torch.empty(len(weight), weight[0].numel() + 1)
            entry.draw(whole, fans, gains[number], random)
            weight.copy_(whole[:, :-1].reshape(weight.shape))
            if biases is not None:
                biases[number] = whole[:, -1]
        else:
            entry.draw(weight, fans, gains[number], random)
    weights.copy_(drawn)


def symmetric(options: Any) -> bool:
    """Whether weights are symmetric about 0 and biases 0, as theories of networks at birth suppose."""
    return options.name not in ("torch", "rai") and options.bias in (None, 0)


def _draw_biases(options: Sequence[Any], biases: Tensor, fan_in: int, keys: Sequence[tuple[int | str, ...]]) -> None:
    """Those that are not drawn together with the weights."""
    import torch

    bound = 1 / math.sqrt(fan_in)
    biases.zero_()
    for number, own in enumerate(options):
        if isinstance(own.bias, float):
            biases[number] = own.bias
        elif isinstance(own.bias, NormalBias):
            drawn = torch.empty(biases.shape[1:])
            biases[number] = drawn.normal_(0, own.bias.normal, generator=generator(*keys[number], "bias"))
        elif own.name == "torch":
            drawn = torch.empty(biases.shape[1:])
            biases[number] = drawn.uniform_(-bound, bound, generator=generator(*keys[number], "bias"))
