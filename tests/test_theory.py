"""Networks at birth against theory, and the collapse of narrow deep ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from reluexp.catalogue.inits import INITS
from reluexp.catalogue.loading import load_dataset
from reluexp.config import Setting, load_config
from reluexp.networks.network import Network
from reluexp.planning.plan import make_plan, make_trials
from reluexp.stats.theory import dead_for_one_input, least_born_dead
from reluexp.training.loop import Training

NETS = 2000


def born_dead(data: str, depths: list[int], widths: list[int]) -> dict[tuple[int, int], float]:
    """How many of NETS networks are born dead at each depth and width."""
    grid = {"architecture.depth": depths, "architecture.width": widths}
    config = {"study": "s", "dataset": data, "train": {"epochs": 0}, "probe": {"metrics": "network"}, "seeds": NETS}
    found = {}
    for stack in make_plan(make_trials(load_config({**config, "grid": grid}))).stacks:
        training = Training(stack, load_dataset(stack.setting.dataset), "s")
        assert training.run(lambda: False, lambda *event: None)
        trials, options = training.result().tables["trials"], stack.setting.architecture
        found[options.depth, options.width] = int(trials["dead_layers_at_end"].gt(0).sum())
    return found


def interval(count: int, family: int) -> Any:
    """A 99.9 % interval for all the members of a family together."""
    return stats.binomtest(count, NETS).proportion_ci(1 - 0.001 / family)


def test_a_single_input_dies_as_often_as_it_must() -> None:
    found = born_dead("point", [1, 3, 6], [1, 3, 5])
    for (depth, width), count in found.items():
        low, high = interval(count, len(found))
        assert low <= dead_for_one_input([width] * depth) <= high


def test_born_dead_networks_lie_between_the_bounds_and_on_the_exact_value() -> None:
    found = born_dead("line", [1, 2, 5, 10], [2, 3, 4])
    for (depth, width), count in found.items():
        low, high = interval(count, len(found))
        assert high >= least_born_dead(width, depth)
        assert low <= dead_for_one_input([width] * depth)
        if depth == 2:
            assert low <= least_born_dead(width, depth) <= high
        if depth == 1:
            assert count == 0


def weights(init: Any, width: int = 30, seeds: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [seed, out, in] and biases [seed, out] of a layer of 30 inputs and as many units."""
    setting = load_config(
        {"study": "s", "dataset": "line", "init": init, "architecture": {"width": [30, width]}}
    ).points[0]
    network = Network([setting.setting] * seeds, list(range(seeds)), (1,), 1)
    layer = [network.module.get_parameter(f"dense2.linear.{part}").detach() for part in ("weight", "bias")]
    return layer[0], layer[1]


@pytest.mark.parametrize("name", INITS.names)
def test_weights_have_the_spread_that_the_init_promises(name: str) -> None:
    drawn, biases = weights(name)
    gain = 2**0.5
    expected = {
        **{"he_normal": gain / 30**0.5, "he_uniform": gain / 30**0.5, "xavier_normal": gain / 30**0.5},
        **{"xavier_uniform": gain / 30**0.5, "lecun_normal": 30**-0.5, "orthogonal": gain / 30**0.5},
        **{"torch": (1 / 30 / 3) ** 0.5},
    }
    if name in expected:
        assert float(drawn.std()) == pytest.approx(expected[name], rel=0.01)
        assert float(drawn.mean()) == pytest.approx(0, abs=0.003)
    if name not in ("torch", "rai"):
        assert not biases.any()
    if name == "torch":
        assert float(biases.std()) == pytest.approx((1 / 30 / 3) ** 0.5, rel=0.05)


def test_rai_has_one_large_entry_in_each_row() -> None:
    drawn, biases = weights("rai")
    rows = torch.cat([drawn, biases.unsqueeze(-1)], -1).double()
    beta = rows.reshape(-1, 31).sort(1).values[:, -1].numpy()
    assert stats.kstest(beta[beta > 0.45], stats.truncnorm(0, 1).cdf).pvalue < 1e-9  # they are not normal
    share = np.mean(rows.numpy() > 0.5)
    assert share == pytest.approx((1 - stats.beta(2, 1).cdf(0.5)) / 31, rel=0.05)
    normal = rows[rows < 0].numpy()
    assert np.sqrt(np.mean(normal**2)) == pytest.approx(0.6007 / 30**0.5, rel=0.01)


@pytest.mark.parametrize("init", ["he_normal", "rai"])
def test_narrow_deep_nets_collapse_with_he_and_less_with_rai(init: str) -> None:
    config = {**load_config("collapse").config.model_dump(), "seeds": 120, "init": init, "grid": []}
    config["train"] = {"epochs": 6, "batch_size": 128, "optimizer": {"name": "adam", "lr": 1e-3}}
    del config["baseline"]
    (stack,) = make_plan(make_trials(load_config({k: v for k, v in config.items() if v is not None}))).stacks
    training = Training(stack, load_dataset(stack.setting.dataset), "s")
    assert training.run(lambda: False, lambda *event: None)
    trials = training.result().tables["trials"]
    share = trials["collapsed_at_end"].mean()
    assert share > 0.84 if init == "he_normal" else share < 0.75
    assert trials["classes"].isna().all()
    assert trials["stuck"].isna().all()


def test_the_shipped_study_of_births_asks_for_360_000_networks(tmp_path: Path) -> None:
    loaded = load_config("born_dead")
    assert len(loaded.points) * len(loaded.seed_list) == 360_000
    assert all(isinstance(point.setting, Setting) and point.setting.train.epochs == 0 for point in loaded.points)
