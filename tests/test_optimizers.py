"""Optimizers, schedules and clipping against torch's own, in double precision; every entry has its reference here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reluexp.catalogue.loading import load_dataset
from reluexp.catalogue.optimizers import OPTIMIZERS
from reluexp.catalogue.schedules import SCHEDULES, factor
from reluexp.config import load_config
from reluexp.networks.network import build_module
from reluexp.planning.plan import make_plan, make_trials
from reluexp.training.loop import Training

STEPS = 20
Make = Callable[[list[nn.Parameter], Any, float], torch.optim.Optimizer]

TORCH: dict[str, Make] = {
    "sgd": lambda p, o, d: torch.optim.SGD(p, o.lr, o.momentum, weight_decay=d, nesterov=o.nesterov),
    "adam": lambda p, o, d: torch.optim.Adam(p, o.lr, (o.beta1, o.beta2), o.eps, d),
    "adamw": lambda p, o, d: torch.optim.AdamW(p, o.lr, (o.beta1, o.beta2), o.eps, d),
    "rmsprop": lambda p, o, d: torch.optim.RMSprop(p, o.lr, o.alpha, o.eps, d, o.momentum),
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "sgd": [{"momentum": 0.0}, {"momentum": 0.7}, {"momentum": 0.7, "nesterov": True}],
    "adam": [{}, {"beta1": 0.6, "beta2": 0.9, "eps": 1e-3}],
    "adamw": [{}, {"beta1": 0.6, "beta2": 0.9, "eps": 1e-3}],
    "rmsprop": [{}, {"alpha": 0.8, "momentum": 0.5}],
}
CASES = [(name, own, decay) for name in OPTIMIZERS.names for own in OPTIONS[name] for decay in (0.0, 0.2)]


def gradient(p: Tensor, step: int) -> Tensor:
    return (p + torch.arange(p.shape[-1]) / 7 + step / 5).sin()


@pytest.mark.parametrize(("name", "own", "decay"), CASES)
def test_twenty_steps_are_torchs(name: str, own: dict[str, Any], decay: float) -> None:
    options = OPTIMIZERS.models[name](**{"lr": 0.05, **own})
    start = torch.linspace(-1, 1, 12, dtype=torch.float64).view(2, 6)
    lr = torch.tensor([[0.05], [0.02]], dtype=torch.float64)
    ours, state = start.clone(), dict[str, Tensor]()
    plain = [nn.Parameter(row.clone()) for row in start]
    theirs = [TORCH[name]([row], options.model_copy(update={"lr": float(rate)}), decay)
              for row, rate in zip(plain, lr, strict=True)]  # fmt: skip
    for step in range(1, STEPS + 1):
        shrink = torch.full_like(ours, decay) if decay else None
        ours -= OPTIMIZERS[name].update(ours, gradient(ours, step), state, step, lr, shrink, options)
        for row, optimizer in zip(plain, theirs, strict=True):
            row.grad = gradient(row.detach(), step)
            optimizer.step()
    torch.testing.assert_close(ours, torch.stack([row.detach() for row in plain]), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(ours, start, atol=1e-2)


def rates(make: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    schedule, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


SCHEDULED: dict[str, tuple[dict[str, Any], Callable[[torch.optim.Optimizer], Any]]] = {
    "constant": ({}, lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0)),
    "cosine": ({"final": 0.1}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 24, 0.1)),
    "step": ({"every": 2, "gamma": 0.3}, lambda o: torch.optim.lr_scheduler.StepLR(o, 8, 0.3)),
}


@pytest.mark.parametrize("name", SCHEDULES.names)
def test_schedules_are_torchs(name: str) -> None:
    own, make = SCHEDULED[name]
    options = SCHEDULES.models[name](**own)
    found = [factor(options, step, steps_per_epoch=4, epochs=6) for step in range(24)]
    assert found == pytest.approx(rates(make, 24), abs=1e-12)
    warm = [factor(options.model_copy(update={"warmup": 2}), step, 4, 6) for step in range(24)]
    assert warm == pytest.approx([own * min(1, (step + 1) / 8) for step, own in enumerate(found)])


@pytest.mark.parametrize("most", [0.05, 1e3])
def test_a_clipped_step_is_torchs(most: float) -> None:
    sgd = {"name": "sgd", "lr": 0.3, "momentum": 0.0}
    train = {"epochs": 1, "batch_size": 100, "clip_norm": most, "optimizer": sgd}
    dataset = {"name": "digits", "train_size": 100, "test_size": 50}
    loaded = load_config({"study": "s", "dataset": dataset, "architecture": {"width": [8]}, "seeds": 1, "train": train})
    (stack,) = make_plan(make_trials(loaded)).stacks
    data = load_dataset(stack.setting.dataset)
    ours = Training(stack, data, "s")
    plain = build_module(ours.setting, data.input_shape, 10)
    plain.load_state_dict(ours.network.state(0))
    torch.nn.functional.cross_entropy(plain(data.train_x), data.train_y).backward()
    norm = float(nn.utils.clip_grad_norm_(plain.parameters(), most))
    assert (norm > most) == (most < 1)
    torch.optim.SGD(plain.parameters(), 0.3).step()
    assert ours.run(lambda: False, lambda *event: None)
    for name, value in ours.network.state(0).items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-4, atol=1e-6)
