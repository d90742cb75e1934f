"""Recorded steps: replayed on the same memory they are the steps that would have been taken.

On a CPU the operations of a step are recorded as a CUDA graph records kernels, with the tensors that they were applied
to and with every number as it was, so that whatever a step would have taken from elsewhere is missed.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from reluexp.catalogue.activations import ACTIVATIONS
from reluexp.catalogue.loading import load_dataset
from reluexp.catalogue.optimizers import OPTIMIZERS
from reluexp.config import load_config
from reluexp.planning.plan import make_plan, make_trials
from reluexp.training.loop import Training
from reluexp.training.replay import Tapes

NAMES = ("trials", "epochs", "layers", "units")


class Counted(Tapes):
    """Steps recorded soon, and counted."""

    def __init__(self) -> None:
        super().__init__()
        self._before = 3
        self.played: list[int] = []

    def record(self, body: Any, inputs: Any) -> Any:
        place, replay = len(self.played), super().record(body, inputs)
        self.played.append(0)

        def counted(*inputs: Any) -> Any:
            self.played[place] += 1
            return replay(*inputs)

        return counted


def trained(config: dict[str, Any], recorded: bool) -> tuple[dict[str, pd.DataFrame], Counted | None]:
    data = {"name": "digits", "train_size": 103, "test_size": 31}
    base = {"study": "s", "dataset": data, "probe": {"size": 60, "early": 2, "full": "every"}, "seeds": 1}
    (stack,) = make_plan(make_trials(load_config({**base, **config})), device="cuda").stacks
    training = Training(stack, load_dataset(stack.setting.dataset), "s")
    training.replay = replay = Counted() if recorded and training.replay else None
    assert training.run(lambda: False, lambda *event: None)
    return {name: training.result().tables[name] for name in NAMES}, replay


def compare(config: dict[str, Any]) -> list[int]:
    left, replay = trained(config, True)
    right, _ = trained(config, False)
    for name in NAMES:
        pd.testing.assert_frame_equal(left[name], right[name], check_exact=True)
    return replay.played if replay else []


@pytest.mark.parametrize(
    ("name", "normalization"), [*((name, "none") for name in OPTIMIZERS), ("sgd", "batch"), ("sgd", "layer")]
)
def test_recorded_steps_are_the_steps(name: str, normalization: str) -> None:
    train = {"epochs": 5, "batch_size": 12, "optimizer": {"name": name, "weight_decay": 0.01}, "clip_norm": 1.0,
             "schedule": {"name": "cosine", "warmup": 1.5}}  # fmt: skip
    played = compare({"architecture": {"width": [9, 5], "normalization": normalization}, "train": train,
                      "grid": {"activation": ACTIVATIONS.names, "train.optimizer.lr": [0.001, 0.02]}})  # fmt: skip
    assert len(played) == 2  # the last batch is smaller
    assert sum(played) == 5 * 9 - 2 * 3


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
    played = compare({"architecture": {"width": [9, 5], "dropout": 0.3}, "train": train})
    assert not played


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recorded_steps_of_convolutions_are_the_steps(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr("reluexp.networks.network.stackable", lambda *args: True)
    train = {"epochs": 2, "batch_size": 20, "precision": precision}
    architecture = {"name": "cnn", "channels": [4, 6], "dense": [5], "normalization": "batch"}
    played = compare({"architecture": architecture, "train": train, "grid": {"activation": ["relu", "tanh", "elu"]}})
    assert played


def test_steps_that_ask_whether_slopes_are_positive_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reluexp.networks.network.stackable", lambda *args: True)
    architecture = {"name": "cnn", "channels": [4, 6], "dense": [5]}
    config = {"architecture": architecture, "train": {"epochs": 2, "batch_size": 20}}
    assert not compare({**config, "grid": {"activation": ["relu", "prelu"]}})
    assert compare({**config, "activation": "relu"})


def test_a_body_that_decides_by_numbers_cannot_be_recorded() -> None:
    tapes = Counted()
    x = torch.ones(3)

    def body(x: torch.Tensor) -> tuple[torch.Tensor]:
        return (x * 2 if bool((x > 0).all()) else x,)

    for _ in range(3):
        tapes("key", body, x)
    with pytest.raises(RuntimeError, match="asks for numbers"):
        tapes("key", body, x)


@pytest.mark.parametrize("before", [torch.float32, torch.float64])
def test_a_copy_stays_a_copy(before: torch.dtype) -> None:
    """Whatever kind of call was recorded first: one that converts must not stand for one that only copies."""
    for dtype in (before, torch.float64):
        tapes = Counted()
        x = torch.ones(3, dtype=dtype)

        def body(x: torch.Tensor) -> tuple[torch.Tensor]:
            return (x.to(torch.float64, copy=True).mul_(2),)

        for _ in range(6):
            (found,) = tapes("key", body, x)
            assert found.tolist() == [2.0] * 3
        assert tapes.played == [3]
        assert x.tolist() == [1.0] * 3
