"""A training that is stopped and taken up again, at every single step: the same bits as one that was not."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
import torch

from reluexp.catalogue.loading import Dataset, load_dataset
from reluexp.catalogue.optimizers import OPTIMIZERS
from reluexp.catalogue.schedules import SCHEDULES
from reluexp.config import load_config
from reluexp.planning.plan import Stack, make_plan, make_trials
from reluexp.training.loop import Training

_DATA: dict[str, Dataset] = {}


def stack_of(config: dict[str, Any]) -> tuple[Stack, Dataset]:
    """The config's one stack, and its data set."""
    loaded = load_config({"study": "s", "dataset": {"name": "digits", "train_size": 100, "test_size": 50}, **config})
    (stack,) = make_plan(make_trials(loaded)).stacks
    key = stack.setting.dataset.model_dump_json()
    if key not in _DATA:
        _DATA[key] = load_dataset(stack.setting.dataset)
    return stack, _DATA[key]


def tables(training: Training) -> dict[str, pd.DataFrame]:
    found = training.result()
    weights = {f"{t} {k}": v.flatten().tolist() for t, own in found.weights.items() for k, v in own.items()}
    frames = {name: found.tables[name] for name in ("trials", "epochs", "layers", "units")}
    return {**frames, "weights": pd.DataFrame({"values": pd.Series(weights, dtype=object)})}


def undisturbed(stack: Stack, data: Dataset) -> dict[str, pd.DataFrame]:
    training = Training(stack, data, "s")
    assert training.run(lambda: False, lambda *event: None)
    return tables(training)


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    found: dict[str, Any] = torch.load(buffer, weights_only=True)
    return found


def broken_off(stack: Stack, data: Dataset, after: Iterator[int]) -> tuple[dict[str, pd.DataFrame], int]:
    """The same, but ended after so many steps each time and taken up by another object from a checkpoint's bytes."""
    saved, breaks = None, 0
    while True:
        training = Training(stack, data, "s")
        if saved:
            training.restore(saved)
        left = iter(range(next(after) + 1))
        if training.run(lambda left=left: next(left, None) is None, lambda *event: None):  # type: ignore[misc]
            return tables(training), breaks
        saved, breaks = through_a_file(training.checkpoint()), breaks + 1


def same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    for name in left:
        pd.testing.assert_frame_equal(left[name], right[name], check_exact=True)


def cases() -> list[dict[str, Any]]:
    """Every optimizer × schedule × normalisation × dropout × early measurements."""
    found = []
    schedules = [{"name": name, "warmup": 0.5} for name in SCHEDULES.names]
    for optimizer, schedule, normalization, dropout, early in itertools.product(
        OPTIMIZERS.names, schedules, ("none", "batch", "layer"), (0.0, 0.2), (0, 2)
    ):
        found.append(
            {
                "architecture": {"width": [9, 6], "normalization": normalization, "dropout": dropout},
                "train": {
                    "epochs": 3,
                    "batch_size": 29,
                    "optimizer": optimizer,
                    "schedule": schedule,
                    "clip_norm": 2.0,
                },
                "probe": {"size": 40, "early": early},
                "seeds": 2,
                "grid": {"activation": ["relu", "prelu"]},
            }
        )
    return found


def test_at_every_single_step(full: bool, figure: Callable[[str], None]) -> None:
    every = cases()
    count = breaks = 0
    for config in every if full else random.Random(3).sample(every, 4):
        stack, data = stack_of(config)
        found, broken = broken_off(stack, data, itertools.repeat(1))
        same(undisturbed(stack, data), found)
        count, breaks = count + 1, breaks + broken
    figure(
        f"stopped and taken up after every step: {count} of {len(every)} combinations of optimizer, schedule, "
        f"normalisation, dropout and early measurements, {breaks} interruptions: all tables and weights equal"
    )


@pytest.mark.parametrize("extra", [{"augment": "none"}, {"validation": 0.1}], ids=["plain", "validation"])
def test_a_convolution_at_random_steps(extra: dict[str, Any]) -> None:
    dataset = {
        "name": "digits",
        "train_size": 100,
        "test_size": 50,
        **{k: v for k, v in extra.items() if k != "augment"},
    }
    config = {
        "dataset": dataset,
        "architecture": {"name": "cnn", "channels": [4], "dense": [8], "normalization": "batch", "dropout": 0.1},
        "train": {"epochs": 2, "batch_size": 29, "optimizer": "adam"},
        "probe": {"size": 40, "early": 2},
        "seeds": 1,
    }
    stack, data = stack_of(config)
    steps = random.Random(5)
    same(undisturbed(stack, data), broken_off(stack, data, iter(lambda: steps.randrange(1, 4), None))[0])


def test_while_replicas_diverge() -> None:
    config = {
        "architecture": {"width": [9]},
        "activation": "identity",
        "train": {"epochs": 4, "batch_size": 29},
        "probe": {"size": 40},
        "seeds": 3,
        "grid": {"train.lr": [0.05, 30.0]},
    }
    stack, data = stack_of(config)
    whole = undisturbed(stack, data)
    assert set(whole["trials"]["outcome"]) == {"finished", "diverged"}
    same(whole, broken_off(stack, data, itertools.repeat(1))[0])
