"""Starved units, effective rank, update ratios, confirmed deaths and their causes, against slow references."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reluexp.catalogue.loading import load_dataset
from reluexp.config import load_config
from reluexp.measuring.causes import Fed, explain, named_cause, shapley, tops_of
from reluexp.measuring.metrics import effective_rank, merge, site_sums, summarise
from reluexp.networks.network import Network, build_module
from reluexp.planning.plan import make_plan, make_trials
from reluexp.training.loop import Training
from reluexp.training.steps import spikes

TINY = {"name": "digits", "train_size": 120, "test_size": 40}


def train(config: dict[str, Any]) -> Training:
    loaded = load_config({"study": "s", "dataset": TINY, "probe": {"size": 40}, "seeds": 2, **config})
    (stack,) = make_plan(make_trials(loaded)).stacks
    return Training(stack, load_dataset(stack.setting.dataset), "s")


def finish(training: Training, at_step: Any = lambda: False) -> dict[str, pd.DataFrame]:
    assert training.run(lambda: bool(at_step()), lambda *event: None)
    return training.result().tables


def sums(h: Tensor) -> dict[str, Tensor]:
    return site_sums(h, h, torch.ones_like(h), torch.ones(1, 1), spectrum=True)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_effective_rank_is_that_of_the_centred_values_in_any_chunking(n: int, width: int, cut: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    h = torch.from_numpy(random.normal(3, 1, (2, n + cut, width, 2)))
    whole = summarise(sums(h), torch.ones(1, 1))[0]["effective_rank"]
    parts = summarise(merge(sums(h[:, :cut]), sums(h[:, cut:])), torch.ones(1, 1))[0]["effective_rank"]
    for replica in range(2):
        rows = h[replica].transpose(1, 2).reshape(-1, width).numpy()
        values = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
        values = values[values > 1e-6 * values.max(initial=0)]
        share = values / values.sum()
        expected = float(np.exp(-(share * np.log(share)).sum())) if values.size else 0.0
        assert float(whole[replica]) == pytest.approx(expected, rel=1e-6)
        assert float(parts[replica]) == pytest.approx(expected, rel=1e-6)


def test_effective_rank_of_constants_is_zero_and_of_nonsense_null() -> None:
    assert float(summarise(sums(torch.full((1, 7, 3, 2), 0.1)), torch.ones(1, 1))[0]["effective_rank"]) == 0
    assert math.isnan(float(effective_rank(torch.full((1, 2, 2), math.nan))))


def test_update_ratio_is_that_of_the_last_sixteen_steps() -> None:
    training = train({"architecture": {"width": [6]}, "train": {"epochs": 2, "batch_size": 5}})
    flats: list[Tensor] = []
    found = finish(training, lambda: flats.append(training.network.flat.clone()))
    flats.append(training.network.flat)
    columns = training.network.columns["dense1.linear.weight"]
    weights = torch.stack(flats)[:, :, columns].double()
    ratio = (weights[1:] - weights[:-1]).norm(dim=2) / weights[:-1].norm(dim=2)
    rows = found["layers"][found["layers"]["site"].eq(0)]
    for epoch, end in ((1, 24), (2, 48)):
        expected = ratio[end - 16 : end].square().mean(0).sqrt()
        np.testing.assert_allclose(rows[rows["epoch"] == epoch]["update_ratio"], expected, rtol=1e-4)
    assert rows[rows["epoch"] == 0]["update_ratio"].isna().all()


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_starved_units_had_no_gradient_at_any_step(normalization: str) -> None:
    config = {"architecture": {"width": [30], "normalization": normalization}, "init": {"bias": -1.0}}
    training = train({**config, "train": {"epochs": 2, "batch_size": 10, "lr": 0.3}, "seeds": 1})
    shift = "dense1.norm.bias" if normalization == "batch" else "dense1.linear.bias"
    moved: list[list[Tensor]] = [[], []]

    def note() -> bool:
        network = training.network
        size = training.setting.train.batch_size
        batch = training.step % training.steps_per_epoch
        index = training._order()[0, batch * size : (batch + 1) * size]
        plain = build_module(training.setting, training.data.input_shape, 10)
        plain.load_state_dict(network.state(0))
        plain.train()
        torch.nn.functional.cross_entropy(plain(training.data.train_x[index]), training.data.train_y[index]).backward()
        gradient = plain.get_parameter(shift).grad
        assert gradient is not None
        moved[training.epoch].append(gradient != 0)
        return False

    found = finish(training, note)
    rows = found["layers"][found["layers"]["site"].eq(0)].set_index("epoch")["starved_fraction"]
    for epoch in (1, 2):
        starved = ~torch.stack(moved[epoch - 1]).any(0)
        assert rows[epoch] == pytest.approx(float(starved.double().mean()))
    assert found["units"]["starved_at_end"].tolist() == starved.tolist()
    assert math.isnan(rows[0])
    if normalization == "none":
        assert 0 < starved.sum() < 30


def test_a_unit_can_starve_without_being_dead_and_be_dead_without_starving() -> None:
    config = {"architecture": {"width": [40, 40], "dropout": 0.5}, "init": {"bias": {"normal": 1.0}}, "seeds": 3}
    units = finish(train({**config, "train": {"epochs": 1, "batch_size": 60, "lr": 0.5}}))["units"]
    assert (units["starved_at_end"] & ~units["dead_at_end"]).any()
    assert (~units["starved_at_end"] & units["dead_at_end"]).any()


def test_confirmed_deaths_and_probe_sizes_are_those_of_the_whole_training_set() -> None:
    training = train({"architecture": {"width": [50, 50]}, "train": {"epochs": 3, "lr": 0.5}, "seeds": 1})
    found = finish(training)
    units, data = found["units"], training.data
    plain = build_module(training.setting, data.input_shape, 10)
    plain.load_state_dict(training.network.state(0))
    x = data.train_x[data.probe_order].flatten(1)
    for site, name in enumerate(("dense1", "dense2")):
        z = plain.get_submodule(f"{name}.linear")(x)
        x = z.relu()
        own = units[units["site"] == site]
        assert own["confirmed_dead"].tolist() == (z <= 0).all(0).tolist()
        for size in (1, 5, 40, 120):
            alive = own["responds_after"].le(size).fillna(False)
            assert (~alive).tolist() == (z[:size] <= 0).all(0).tolist()
    assert (units["dead_at_end"] & ~units["confirmed_dead"]).any()
    assert found["trials"]["confirmed_dead_fraction"][0] == pytest.approx(float(units["confirmed_dead"].mean()))


def test_learned_slopes_are_the_parameters() -> None:
    config = {"architecture": {"width": [6]}, "activation": {"name": "prelu", "shared": False}}
    training = train({**config, "train": {"epochs": 1}})
    last = finish(training)["layers"].query("site == 0 and epoch == 1")
    slopes = torch.stack([training.network.state(i)["dense1.act.function.slope"] for i in range(2)])
    np.testing.assert_allclose(last["learned_slope_mean"], slopes.mean(1), rtol=1e-6)
    np.testing.assert_allclose(last["learned_slope_max"], slopes.amax(1), rtol=1e-6)
    assert (last["learned_slope_min"] < 0.25).any()


def product(inputs: Tensor, weights: Tensor) -> Tensor:
    return inputs @ weights.mT


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_shapley_values_are_means_over_the_orders_of_change(seed: int, samples: int, inputs: int) -> None:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    moments = [Fed(draw(3, inputs), draw(3), draw(samples, inputs)) for _ in range(2)]
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for order in itertools.permutations(range(3)):
        now = [0, 0, 0]
        for factor in order:
            tops = []
            for state in (0, 1):
                now[factor] = state
                weights, x = moments[now[1]].weights, moments[now[2]].inputs
                tops.append((x @ weights.mT + moments[now[0]].bias).amax(0))
            expected[factor] += (tops[1] - tops[0]) / 6
    values, fall = shapley(tops_of(*moments, product), moments[1].bias - moments[0].bias)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(values.sum(0), fall)


def test_names_of_causes() -> None:
    shares = torch.tensor([[0.7, 0.2, 0.4, -1.0], [0.2, 0.7, 0.35, 0.0], [0.1, 0.1, 0.25, 2.0]])
    below = torch.tensor([False, False, False, True])
    assert named_cause(shares, below).tolist() == [1, 2, 4, 5]


MOVES = {
    "bias": {"dense2.linear.bias": -50.0},
    "weights": {"dense2.linear.weight": -3.0},
    "input": {"dense1.linear.bias": 9.0},
    "below": {"dense1.linear.bias": -50.0},
}


@pytest.mark.parametrize("normalization", ["none", "batch"])
@pytest.mark.parametrize("cause", MOVES)
def test_a_death_is_laid_to_what_was_moved(cause: str, normalization: str) -> None:
    """One thing is moved; with `input` the second layer's weights are all negative, so that larger inputs kill."""
    config = {"architecture": {"width": [5, 6], "normalization": normalization}, "init": {"bias": 0.5}, "seeds": 2}
    training = train(config)
    network, probe = training.network, training.probe
    network.module.eval()
    moved = {name.replace("linear.bias", "norm.bias") if normalization == "batch" else name: value
             for name, value in MOVES[cause].items()}  # fmt: skip
    with torch.no_grad():
        if cause in ("input", "below"):
            network.module.get_parameter("dense2.linear.weight").abs_().neg_()
            shift = "dense2.norm.bias" if normalization == "batch" else "dense2.linear.bias"
            network.module.get_parameter(shift).fill_(20.0 if cause == "below" else 8.0)
        before, was = network.snapshot(), probe.measure(full=False)
        for name, value in moved.items():
            parameter = network.module.get_parameter(name)
            parameter.copy_(-parameter.abs()) if cause == "weights" else parameter.fill_(value)
        if cause == "weights":
            network.module.get_parameter("dense2.linear.weight").mul_(10)
        if cause == "below":
            shift = "dense2.norm.bias" if normalization == "batch" else "dense2.linear.bias"
            network.module.get_parameter(shift).fill_(-5.0)
    now = probe.measure(full=False)
    died = [a["dead"] & ~b["dead"] for a, b in zip(now.units, was.units, strict=True)]
    assert died[1].any()
    after = network.snapshot()
    found = explain(network, before, after, probe.x, died, [own["dead"] for own in now.units])[1]
    assert torch.equal(network.flat, after.flat)
    number = {"bias": 1, "weights": 2, "input": 3, "below": 5}[cause]
    assert set(found["cause"][died[1]].tolist()) == {number}
    assert set(found["cause"][~died[1]].tolist()) <= {0}
    if cause in ("bias", "weights"):
        torch.testing.assert_close(found[f"cause_{cause}"][died[1]], torch.ones(int(died[1].sum())).double())


def test_causes_of_convolutional_deaths_add_up_to_the_fall() -> None:
    config = {"architecture": {"name": "cnn", "channels": [12], "dense": []}, "train": {"epochs": 3, "lr": 1.0}}
    units = finish(train({**config, "seeds": [1]}))["units"]
    died = units[units["cause"].notna()]
    assert len(died)
    np.testing.assert_allclose(died[["cause_bias", "cause_weights", "cause_input"]].astype(float).sum(axis=1), 1)
    first = died[died["cause"] != "below"]
    np.testing.assert_allclose(first["cause_input"].astype(float), 0, atol=1e-9)  # the images did not change


@pytest.mark.parametrize("block", [1024, 37])
def test_spikes_by_a_slow_reference(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("reluexp.training.steps._BLOCK", block)
    random = torch.Generator().manual_seed(3)
    norms = torch.rand(40, 260, generator=random).exp() + 100 * (torch.rand(40, 260, generator=random) < 0.003)
    for before in (0, 20, 50, 150, 259):
        expected = [
            any(row[i] > 10 * np.median(row[max(0, i - 100) : i]) for i in range(max(before, 20), 260)) for row in norms
        ]
        assert spikes(norms, before).tolist() == expected
    halves = torch.tensor([[1.0] * 50 + [2.0] * 50 + [last] for last in (14.9, 15.1)])
    assert spikes(halves, 0).tolist() == [False, True]


def test_networks_at_birth_have_measurements_and_no_training() -> None:
    found = finish(train({"architecture": {"width": [6]}, "train": {"epochs": 0}}))
    assert set(found["epochs"]["epoch"]) == {0}
    assert found["units"]["confirmed_dead"].notna().all()
    assert isinstance(Network, type)
