"""The optimizers, as updates of whole stacks; importing this module does not import torch.

Shapes: a parameter, its gradient and its state are [replica, *parameter]; lr and decay are [replica, 1, …].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from reluexp.catalogue.registry import Options, Registry

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OPTIMIZERS", "Optimizer", "OptimizerOptions"]


class OptimizerOptions(Options):
    """What every optimizer has."""

    lr: float = Field(0.01, gt=0, le=1e6, description="learning rate")
    weight_decay: float = Field(0.0, ge=0, le=1e3, description="of weights and biases; learned slopes get none")


class Sgd(OptimizerOptions):
    """Stochastic gradient descent."""

    lr: float = Field(0.05, gt=0, le=1e6, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = Field(False, description="look ahead; needs momentum")

    @model_validator(mode="after")
    def nesterov_needs_momentum(self) -> Sgd:
        """Nesterov's method is a form of momentum."""
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0")
        return self


class Adam(OptimizerOptions):
    """Adaptive moments."""

    lr: float = Field(0.001, gt=0, le=1e6, description="learning rate")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0, le=1e3)


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    weight_decay: float = Field(0.01, ge=0, le=1e3, description="decoupled from the gradient")


class RmsProp(OptimizerOptions):
    """Gradients divided by their running root mean square."""

    lr: float = Field(0.001, gt=0, le=1e6, description="learning rate")
    alpha: float = Field(0.99, ge=0, lt=1, description="smoothing")
    eps: float = Field(1e-8, gt=0, le=1e3)
    momentum: float = Field(0.0, ge=0, lt=1)


State = dict[str, "Tensor"]
Update = Callable[["Tensor", "Tensor", State, "int | Tensor", "Tensor", "Tensor | None", Any], "Tensor"]


@dataclass(frozen=True)
class Optimizer:
    """One optimizer; `update(p, g, state, step, lr, decay, options)` returns what is to be subtracted from p.

    `state` is empty before step 1 and then holds the optimizer's own tensors, shaped like p, which are changed in
    place: a recorded step (see `Replay`) knows them by where they lie, and passes over memory are what a step costs.
    For that, the result may be changed in place, too. decay is None where there is none, `step` a number or, where
    steps are recorded, a tensor.
    """

    name: str
    label: str
    summary: str
    reference: str
    options: type[Options]
    update: Update


def _decayed(p: Tensor, g: Tensor, decay: Tensor | None) -> Tensor:
    return g if decay is None else g + decay * p


def _running(state: State, name: str, kept: float, new: Tensor) -> Tensor:
    """kept · what was before + new, in place; at first `new` itself."""
    state[name] = state[name].mul_(kept).add_(new) if name in state else new.clone()
    return state[name]


def _sgd(p: Tensor, g: Tensor, state: State, step: int | Tensor, lr: Tensor, decay: Tensor | None, o: Sgd) -> Tensor:
    g = _decayed(p, g, decay)
    if not o.momentum:
        return lr * g
    momentum = _running(state, "momentum", o.momentum, g)
    return lr * (g + o.momentum * momentum if o.nesterov else momentum)


def _moments(g: Tensor, state: State, step: int | Tensor, o: Adam) -> Tensor:
    """The bias-corrected first moment over the root of the second (Kingma & Ba 2015)."""
    first = _running(state, "first", o.beta1, (1 - o.beta1) * g)
    second = _running(state, "second", o.beta2, ((1 - o.beta2) * g).mul_(g))
    root = second.sqrt().div_((1 - o.beta2**step) ** 0.5).add_(o.eps)
    return (first / (1 - o.beta1**step)).div_(root)


def _adam(p: Tensor, g: Tensor, state: State, step: int | Tensor, lr: Tensor, decay: Tensor | None, o: Adam) -> Tensor:
    return _moments(_decayed(p, g, decay), state, step, o).mul_(lr)


def _adamw(
    p: Tensor, g: Tensor, state: State, step: int | Tensor, lr: Tensor, decay: Tensor | None, o: AdamW
) -> Tensor:
    moments = _moments(g, state, step, o)
    return (moments if decay is None else moments.add_(decay * p)).mul_(lr)


def _rmsprop(
    p: Tensor, g: Tensor, state: State, step: int | Tensor, lr: Tensor, decay: Tensor | None, o: RmsProp
) -> Tensor:
    g = _decayed(p, g, decay)
    square = _running(state, "square", o.alpha, ((1 - o.alpha) * g).mul_(g))
    scaled = g / square.sqrt().add_(o.eps)
    return lr * (_running(state, "momentum", o.momentum, scaled) if o.momentum else scaled)


OPTIMIZERS: Registry[Optimizer] = Registry(
    "optimizer",
    [
        Optimizer(
            "sgd",
            "SGD",
            "gradient descent, with momentum or Nesterov's",
            "Robbins & Monro 1951; Sutskever et al. 2013",
            Sgd,
            _sgd,
        ),
        Optimizer("adam", "Adam", "adaptive moments", "Kingma & Ba 2015, arXiv 1412.6980", Adam, _adam),
        Optimizer(
            "adamw", "AdamW", "Adam with decoupled decay", "Loshchilov & Hutter 2019, arXiv 1711.05101", AdamW, _adamw
        ),
        Optimizer(
            "rmsprop", "RMSprop", "divides by a running root mean square", "Tieleman & Hinton 2012", RmsProp, _rmsprop
        ),
    ],
)
