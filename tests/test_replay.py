"""Recorded steps: played again on the same memory they are the steps that would have been taken.

A CPU has no graphs; here the operations of a step are recorded as a graph records kernels, with the tensors that they
were applied to and with every number as it was, so that whatever a step would have taken from elsewhere is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from reluexp.catalogue.activations import ACTIVATIONS
from reluexp.catalogue.loading import load_dataset
from reluexp.catalogue.optimizers import OPTIMIZERS
from reluexp.config import load_config
from reluexp.planning.plan import make_plan, make_trials
from reluexp.training.loop import Training
from reluexp.training.replay import Replay

NAMES = ("trials", "epochs", "layers", "units")


class Recorder(TorchDispatchMode):
    """The operations of one run; `replay` applies them again to the same memory, but the first time, when they ran."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.output: torch.Tensor | None = None
        self.played = -1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        self.played += 1
        if not self.played:
            return
        made: dict[int, torch.Tensor] = {}

        def now(value: Any) -> Any:
            return made.get(id(value), value)

        for func, args, kwargs, out in self.operations:
            found = func(*tree_map(now, args), **tree_map(now, kwargs))
            olds, news = (value if isinstance(value, (list, tuple)) else [value] for value in (out, found))
            written = {id(argument) for argument in [*args, *kwargs.values()]}
            made |= {id(old): new for old, new in zip(olds, news, strict=True) if id(old) not in written}
        assert self.output is not None
        self.output.copy_(now(self.output))


class Recorded(Replay):
    """Steps recorded on a CPU."""

    def __init__(self) -> None:
        self._ways = {}
        self.recorders: list[Recorder] = []

    @contextmanager
    def here(self) -> Iterator[None]:
        yield

    def _recorded(self, body: Any, way: Any) -> Any:
        with Recorder() as recorder:
            recorder.output = body(*way.inputs)
        self.recorders.append(recorder)
        return recorder, recorder.output


@contextmanager
def as_on_a_device(training: Training) -> Iterator[None]:
    """A step must not ask whether a replica has diverged, which a CPU may."""
    training.device = "like cuda"
    yield
    training.device = "cpu"


def trained(config: dict[str, Any], recorded: bool) -> tuple[dict[str, pd.DataFrame], Replay | None]:
    data = {"name": "digits", "train_size": 103, "test_size": 31}
    base = {"study": "s", "dataset": data, "probe": {"size": 60, "early": 2, "full": "every"}, "seeds": 1}
    (stack,) = make_plan(make_trials(load_config({**base, **config})), device="cuda").stacks
    training = Training(stack, load_dataset(stack.setting.dataset), "s")
    training.replay = Recorded() if recorded else None
    step = training._step

    def taken(*args: Any) -> None:
        with as_on_a_device(training):
            step(*args)

    training._step = taken  # type: ignore[method-assign]
    assert training.run(lambda: False, lambda *event: None)
    return {name: training.result().tables[name] for name in NAMES}, training.replay


def compare(config: dict[str, Any]) -> Recorded:
    left, replay = trained(config, True)
    right, _ = trained(config, False)
    for name in NAMES:
        pd.testing.assert_frame_equal(left[name], right[name], check_exact=True)
    assert isinstance(replay, Recorded)
    return replay


@pytest.mark.parametrize(
    ("name", "normalization"), [*((name, "none") for name in OPTIMIZERS), ("sgd", "batch"), ("sgd", "layer")]
)
def test_recorded_steps_are_the_steps(name: str, normalization: str) -> None:
    train = {"epochs": 5, "batch_size": 12, "optimizer": {"name": name, "weight_decay": 0.01}, "clip_norm": 1.0,
             "schedule": {"name": "cosine", "warmup": 1.5}}  # fmt: skip
    replay = compare({"architecture": {"width": [9, 5], "normalization": normalization}, "train": train,
                      "grid": {"activation": ACTIVATIONS.names, "train.optimizer.lr": [0.001, 0.02]}})  # fmt: skip
    played = [recorder.played for recorder in replay.recorders]
    assert len(played) == 2  # the last batch is smaller, and every step of an epoch of nine counts for updates
    assert sum(played) > 30


def test_what_diverges_while_steps_are_replayed_is_frozen() -> None:
    train = {"epochs": 6, "batch_size": 12, "optimizer": {"name": "sgd", "momentum": 0.0},
             "schedule": {"name": "constant", "warmup": 6}}  # fmt: skip
    config = {"architecture": {"width": [9, 5]}, "activation": "leaky_relu", "train": train, "seeds": 2,
              "grid": {"train.optimizer.lr": [0.01, 10.0]}}  # fmt: skip
    compare(config)
    (frames, _) = trained(config, True)
    diverged = frames["trials"]["diverged_at_step"].dropna()
    assert len(diverged) == 2
    assert diverged.min() > 9


def test_steps_that_draw_random_numbers_are_not_recorded() -> None:
    train = {"epochs": 3, "batch_size": 12}
    replay = compare({"architecture": {"width": [9, 5], "dropout": 0.3}, "train": train})
    assert not replay.recorders


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recorded_steps_of_convolutions_are_the_steps(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr("reluexp.networks.network.stackable", lambda *args: True)
    train = {"epochs": 2, "batch_size": 20, "precision": precision}
    architecture = {"name": "cnn", "channels": [4, 6], "dense": [5], "normalization": "batch"}
    replay = compare({"architecture": architecture, "train": train, "grid": {"activation": ["relu", "prelu", "elu"]}})
    assert replay.recorders
