"""A trial's numbers are the same bits alone and in any stack: every optimizer, norm, activation, odd shapes."""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from reluexp.catalogue.activations import ACTIVATIONS
from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.functions import Mixed
from reluexp.catalogue.inits import INITS
from reluexp.catalogue.loading import Dataset, load_dataset
from reluexp.catalogue.optimizers import OPTIMIZERS
from reluexp.config import load_config
from reluexp.networks.linear import linear
from reluexp.planning.plan import Stack, make_plan, make_trials
from reluexp.training.loop import Training

NAMES = ("trials", "epochs", "layers", "units")


DATA = {"name": "digits", "train_size": 87, "test_size": 31}


@cache
def data() -> Dataset:
    return load_dataset(load_config({"study": "s", "dataset": DATA}).config.dataset)


def stacks(config: dict[str, Any], largest: int | None = None) -> list[Stack]:
    base = {"study": "s", "dataset": DATA, "probe": {"size": 60, "early": 2}, "seeds": 2}
    return make_plan(make_trials(load_config({**base, **config})), largest=largest).stacks


def tables(found: list[Stack]) -> dict[str, pd.DataFrame]:
    results = []
    for stack in found:
        training = Training(Stack.from_json(stack.to_json()), data(), "s")
        assert training.run(lambda: False, lambda *event: None)
        results.append(training.result())
    outcomes = {t: o for r in results for t, o in r.tables["trials"][["trial", "outcome"]].itertuples(index=False)}
    for trial, weights in [pair for result in results for pair in result.weights.items()]:
        assert outcomes[trial] == "diverged" or all(
            torch.isfinite(value).all() or value.dtype == torch.long for value in weights.values()
        )
    frames = {n: pd.concat([result.tables[n] for result in results]) for n in NAMES}
    return {n: f.sort_values("trial", kind="stable").reset_index(drop=True) for n, f in frames.items()}


def same(config: dict[str, Any], largest: int | None = None) -> None:
    together, alone = stacks(config, largest), stacks(config, 1)
    assert len(together) < len(alone)
    left, right = tables(together), tables(alone)
    for name in NAMES:
        pd.testing.assert_frame_equal(left[name], right[name], check_exact=True)


_NORMALIZED = [pytest.param(own, marks=pytest.mark.slow) for own in ("batch", "layer")]


@pytest.mark.parametrize("normalization", ["none", *_NORMALIZED])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.names)
def test_every_activation_shares_a_stack_with_every_other(optimizer: str, normalization: str) -> None:
    rates = {"sgd": [0.05, 0.3]}.get(optimizer, [0.001, 0.02])[: 2 if normalization == "none" else 1]
    config = {
        "architecture": {"width": [10, 33, 7], "normalization": normalization, "dropout": 0.1},
        "train": {
            "epochs": 1,
            "batch_size": 29,
            "optimizer": {"name": optimizer, "weight_decay": 0.01},
            "clip_norm": 1.0,
        },
        "grid": {"activation": ACTIVATIONS.names, "train.optimizer.lr": rates},
    }
    assert len(stacks(config)) == 1
    same(config)


@pytest.mark.parametrize(("every", "normalization"), [(1, "none"), (3, "none"), (1, "batch")])
def test_what_a_diverging_replica_gets_does_not_depend_on_the_others(every: int, normalization: str) -> None:
    config = {
        "architecture": {"width": [12, 9], "normalization": normalization},
        "train": {"epochs": 7, "batch_size": 30},
        "probe": {"size": 60, "every": every},
        "grid": {"activation": ["relu", "identity"], "train.optimizer.lr": [0.05, 2.0, 30.0, 1e6]},
    }
    assert len(stacks(config)) == 1
    ended = tables(stacks(config))["epochs"].groupby("trial")["epoch"].max()
    assert ended.nunique() > 1
    same(config)


@pytest.mark.slow
def test_inits_disabled_units_and_decays_share_a_stack() -> None:
    inits = [*INITS.names, {"name": "he_normal", "dead": 0.3, "bias": {"normal": 0.1}}]
    config = {
        "architecture": {"width": [9, 12]},
        "train": {"epochs": 2, "batch_size": 30},
        "grid": {"activation": ["relu", "prelu", "elu"], "init": inits, "train.optimizer.weight_decay": [0.0, 0.1]},
    }
    assert len(stacks(config)) == 1
    same(config)


def test_learned_slopes_of_another_layout_train_apart() -> None:
    config = {"architecture": {"width": [5]}, "train": {"epochs": 1},
              "grid": {"activation": ["relu", "prelu", {"name": "prelu", "shared": False}]}}  # fmt: skip
    labels = [sorted({setting.activation.name for setting in stack.settings}) for stack in stacks(config)]
    assert labels == [["prelu", "relu"], ["prelu"]]
    same(config)


@pytest.mark.slow
@given(
    widths=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    batch=st.integers(1, 90),
    activations=st.lists(st.sampled_from(ACTIVATIONS.names), min_size=2, max_size=4, unique=True),
    largest=st.integers(2, 6),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
def test_any_shape_gives_the_same_bits(widths: list[int], batch: int, activations: list[str], largest: int) -> None:
    train = {"epochs": 1, "batch_size": batch, "optimizer": {"name": "sgd", "lr": 0.02}}
    same({"architecture": {"width": widths}, "train": train, "grid": {"activation": activations}}, largest)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if ARCHITECTURES[name].convolutional])
def test_convolutions_train_alone_on_a_cpu_and_together_elsewhere(name: str) -> None:
    config = {"study": "s", "architecture": name, "grid": {"activation": ["relu", "tanh"]}, "dataset": "mnist"}
    trials = make_trials(load_config(config))
    assert {len(stack.trials) for stack in make_plan(trials).stacks} == {1}
    assert {len(stack.trials) for stack in make_plan(trials, device="cuda").stacks} == {20}


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    ("samples", "inputs", "outputs"),
    [(40, 20, 17), (40, 20, 10), (40, 9, 17), (40, 9, 3), (5, 20, 10), (1, 7, 4), (6, 1, 4)],
)
def test_linear_maps_are_those_of_their_replicas(samples: int, inputs: int, outputs: int, biased: bool) -> None:
    shapes = [(3, samples, inputs), (3, outputs, inputs), (3, outputs)]
    x, weight, bias = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    given = [x, weight, bias] if biased else [x, weight]
    expected = torch.stack([F.linear(*own) for own in zip(*given, strict=True)])
    found, g = linear(*given), torch.randn(3, samples, outputs, dtype=torch.float64)
    assert found.is_contiguous()
    pairs = zip(
        [found, *torch.autograd.grad(found, given, g)],
        [expected, *torch.autograd.grad(expected, given, g)],
        strict=True,
    )
    for own, reference in pairs:
        torch.testing.assert_close(own, reference)


def test_mixed_functions_are_their_parts() -> None:
    parts = [ACTIVATIONS[name].build(ACTIVATIONS.models[name](), 5) for name in ACTIVATIONS]
    for part in parts:
        for name, parameter in part.named_parameters():
            setattr(part, name, torch.nn.Parameter(parameter.expand(2, -1).clone()))
    mixed, z = Mixed(parts, [2] * len(parts)), torch.randn(2 * len(parts), 13, 5)
    own, whole = z.clone().requires_grad_(), z.clone().requires_grad_()
    g = torch.randn_like(z)
    h = torch.cat([part(x) for part, x in zip(parts, own.split(2), strict=True)])
    expected = torch.autograd.grad(h, [own, *mixed.parameters()], g)
    found = torch.autograd.grad(mixed(whole), [whole, *mixed.parameters()], g)
    assert torch.equal(mixed(z), h)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    slopes = [part.derivative(x) for part, x in zip(parts, z.split(2), strict=True)]
    assert torch.equal(mixed.derivative(z), torch.cat(slopes))


def test_stacks_are_of_equal_size_with_like_activations_together() -> None:
    config = {"architecture": {"width": [4]}, "seeds": 5, "grid": {"activation": ["relu", "elu", "tanh"]}}
    trials = make_trials(load_config({"study": "s", **config}))
    parts = make_plan(trials, workers=2).stacks
    assert [len(stack.trials) for stack in parts] == [7, 8]
    runs = [[setting.activation.name for setting in stack.settings] for stack in parts]
    assert runs == [["relu"] * 5 + ["elu"] * 2, ["elu"] * 3 + ["tanh"] * 5]
