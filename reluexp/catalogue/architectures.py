"""The architectures: each one function from options and shapes to an ordinary `nn.Module`.

Importing this module does not import torch; building a model does.
"""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from reluexp.catalogue.registry import Options, Registry, import_attribute, is_own
from reluexp.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ARCHITECTURES", "Architecture", "ArchitectureOptions", "build_model"]

Width = Annotated[int, Field(ge=1, le=1_000_000)]
Shape = tuple[int, ...]
Activate = Callable[[int], "nn.Module"]
Layer = tuple[int, int, int]
"""of a linear map, the last being the output: inputs (times the kernel's area), outputs, positions it is applied at"""


class ArchitectureOptions(Options):
    """Options that every catalogue architecture has."""

    normalization: Literal["none", "batch", "layer"] = Field("none", description="before each activation")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden outputs dropped in training")


class Mlp(ArchitectureOptions):
    """A multilayer perceptron."""

    depth: int = Field(4, ge=1, le=1000, description="hidden layers; a list of widths says it itself")
    width: Width | Annotated[list[Width], Field(min_length=1, max_length=1000)] = Field(
        64, description="units per hidden layer, or one number for each"
    )

    @model_validator(mode="after")
    def depth_is_said_once(self) -> Mlp:
        """A depth beside a list of widths would be heeded by nothing, but make another trial of the same network."""
        if isinstance(self.width, list) and self.depth != type(self).model_fields["depth"].default:
            raise ValueError(f"depth {self.depth} or a list of widths, which says the depth, too; not both")
        return self

    @property
    def widths(self) -> list[int]:
        """Units of each hidden layer."""
        return self.width if isinstance(self.width, list) else [self.width] * self.depth


class Cnn(ArchitectureOptions):
    """VGG-like stages of 3×3 convolutions, each ended by 2×2 pooling, and a dense head."""

    channels: Annotated[list[Width], Field(min_length=1, max_length=100)] = Field(
        [16, 32], description="channels of each stage"
    )
    convolutions: int = Field(1, ge=1, le=20, description="convolutions per stage")
    pooling: Literal["max", "average"] = Field("max", description="2×2, at the end of each stage")
    dense: list[Width] = Field([128], max_length=100, description="units of the hidden layers of the head")


class LeNet5(ArchitectureOptions):
    """Two convolutions and two dense layers (LeCun et al. 1998), with max pooling."""


@dataclass(frozen=True)
class Architecture:
    """One architecture; `build(options, input_shape, outputs, activate)` makes the module.

    `activate(width)` makes a fresh activation for a site of `width` channels; `check(options, input_shape)`
    says in a phrase why the two do not fit, or nothing; `layers(options, input_shape, outputs)` foretells the linear
    maps, so that a plan can be made without building anything.
    """

    name: str
    label: str
    summary: str
    reference: str
    options: type[Options]
    build: Callable[[Any, Shape, int, Activate], nn.Module]
    check: Callable[[Any, Shape], str]
    layers: Callable[[Any, Shape, int], list[Layer]]
    convolutional: bool = False

    def parameters(self, options: Any, shape: Shape, outputs: int) -> int:
        """Weights and biases of the linear maps and of the norms before activations; not those of activations."""
        layers = self.layers(options, shape, outputs)
        norms = 0 if options.normalization == "none" else sum(2 * units for _, units, _ in layers[:-1])
        return norms + sum((inputs + 1) * units for inputs, units, _ in layers)


def _fits_any(options: Any, shape: Shape) -> str:
    return ""


def _fits_images(stages: int, shape: Shape) -> str:
    if len(shape) != 3:
        return f"a convolution needs images [channels, height, width]; the data set has shape {list(shape)}"
    if min(shape[1:]) < 2**stages:
        return f"{stages} halvings need images of at least {2**stages}×{2**stages}; these have {shape[1]}×{shape[2]}"
    return ""


def _lenet_fits(options: LeNet5, shape: Shape) -> str:
    if len(shape) != 3 or min(shape[1:]) >= 12:
        return _fits_images(2, shape)
    return f"lenet5 needs images of at least 12×12; these have {shape[1]}×{shape[2]}"


def _block(linear: nn.Module, options: ArchitectureOptions, width: int, activate: Activate) -> nn.Module:
    """A linear map and what follows it: normalisation, activation, dropout."""
    from torch import nn

    from reluexp.layers import BatchNorm, Site

    parts: dict[str, nn.Module] = {"linear": linear}
    if options.normalization != "none":
        parts["norm"] = BatchNorm(width) if options.normalization == "batch" else nn.GroupNorm(1, width)
    parts["act"] = Site(activate(width))
    if options.dropout:
        parts["drop"] = nn.Dropout(options.dropout)
    return nn.Sequential(OrderedDict(parts))


def _dense(options: Any, inputs: int, widths: list[int], outputs: int, activate: Activate) -> dict[str, nn.Module]:
    from torch import nn

    layers: dict[str, nn.Module] = {}
    for index, width in enumerate(widths, 1):
        layers[f"dense{index}"] = _block(nn.Linear(inputs, width), options, width, activate)
        inputs = width
    return {**layers, "output": nn.Linear(inputs, outputs)}


def _sequential(shape: Shape, features: dict[str, nn.Module], head: dict[str, nn.Module]) -> nn.Module:
    from torch import nn

    from reluexp.layers import Flatten

    flatten = {"flatten": Flatten(len(shape))} if len(shape) > 1 else {}
    return nn.Sequential(OrderedDict({**features, **flatten, **head}))


def _mlp(options: Mlp, shape: Shape, outputs: int, activate: Activate) -> nn.Module:
    return _sequential(shape, {}, _dense(options, math.prod(shape), options.widths, outputs, activate))


def _cnn(options: Cnn, shape: Shape, outputs: int, activate: Activate) -> nn.Module:
    from torch import nn

    pool = nn.MaxPool2d if options.pooling == "max" else nn.AvgPool2d
    inputs, height, width = shape
    features: dict[str, nn.Module] = {}
    for stage, channels in enumerate(options.channels, 1):
        for index in range(1, options.convolutions + 1):
            convolution = nn.Conv2d(inputs, channels, 3, padding=1)
            features[f"conv{stage}_{index}"] = _block(convolution, options, channels, activate)
            inputs = channels
        features[f"pool{stage}"] = pool(2)
        height, width = height // 2, width // 2
    head = _dense(options, inputs * height * width, options.dense, outputs, activate)
    return _sequential(shape, features, head)


def _lenet5(options: LeNet5, shape: Shape, outputs: int, activate: Activate) -> nn.Module:
    from torch import nn

    padding = 2 if min(shape[1:]) < 32 else 0
    height, width = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in shape[1:])
    features = {
        "conv1": _block(nn.Conv2d(shape[0], 6, 5, padding=padding), options, 6, activate),
        "pool1": nn.MaxPool2d(2),
        "conv2": _block(nn.Conv2d(6, 16, 5), options, 16, activate),
        "pool2": nn.MaxPool2d(2),
    }
    return _sequential(shape, features, _dense(options, 16 * height * width, [120, 84], outputs, activate))


def _dense_layers(inputs: int, widths: list[int], outputs: int) -> list[Layer]:
    sizes = [inputs, *widths, outputs]
    return [(before, after, 1) for before, after in pairwise(sizes)]


def _cnn_layers(options: Cnn, shape: Shape, outputs: int) -> list[Layer]:
    inputs, height, width = shape
    layers = []
    for channels in options.channels:
        for _ in range(options.convolutions):
            layers.append((inputs * 9, channels, height * width))
            inputs = channels
        height, width = height // 2, width // 2
    return layers + _dense_layers(inputs * height * width, options.dense, outputs)


def _lenet_layers(options: LeNet5, shape: Shape, outputs: int) -> list[Layer]:
    padding = 2 if min(shape[1:]) < 32 else 0
    first = [side + 2 * padding - 4 for side in shape[1:]]
    second = [side // 2 - 4 for side in first]
    convolutions = [(shape[0] * 25, 6, math.prod(first)), (6 * 25, 16, math.prod(second))]
    return convolutions + _dense_layers(16 * math.prod(side // 2 for side in second), [120, 84], outputs)


ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    [
        Architecture(
            "mlp",
            "MLP",
            "dense layers: depth × width, or a list of widths",
            "Rumelhart et al. 1986",
            Mlp,
            _mlp,
            _fits_any,
            lambda options, shape, outputs: _dense_layers(math.prod(shape), options.widths, outputs),
        ),
        Architecture(
            "cnn",
            "CNN",
            "stages of 3×3 convolutions with pooling, and a dense head",
            "Simonyan & Zisserman 2015, arXiv 1409.1556",
            Cnn,
            _cnn,
            lambda options, shape: _fits_images(len(options.channels), shape),
            _cnn_layers,
            convolutional=True,
        ),
        Architecture(
            "lenet5",
            "LeNet-5",
            "two 5×5 convolutions and two dense layers",
            "LeCun et al. 1998",
            LeNet5,
            _lenet5,
            _lenet_fits,
            _lenet_layers,
            convolutional=True,
        ),
    ],
)


def build_model(options: Any, shape: Shape, outputs: int, activate: Activate) -> nn.Module:
    """The model of a catalogue entry, or of the user's `package.module:attribute`.

    The user's factory is called with the options of the config and with as many of `input_shape`, `num_outputs`
    and `activation` (a factory: width → module, a site whatever it is made of) as its signature names. Raises
    ConfigError where it makes no module.
    """
    if not is_own(options):
        return ARCHITECTURES[options.name].build(options, shape, outputs, activate)
    from torch import nn

    from reluexp.layers import Site

    def activation(width: int) -> nn.Module:
        return Site(activate(width))

    factory = import_attribute(options.name)
    offered = {"input_shape": shape, "num_outputs": outputs, "activation": activation}
    known = inspect.signature(factory).parameters
    model = factory(**{k: v for k, v in offered.items() if k in known}, **(options.model_extra or {}))
    if not isinstance(model, nn.Module):
        raise ConfigError(f"architecture: {options.name!r} made {type(model).__name__}, not a torch.nn.Module")
    return model
