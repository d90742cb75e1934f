"""The lives of units against scipy's Kaplan–Meier, a product-limit worked out in a loop, and constructed lives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_results import Made, made
from scipy import stats

from reluexp.errors import ConfigError
from reluexp.stats import survival_of
from reluexp.stats.survival import _estimates

END = 40


def lived(lives: dict[tuple[str, int], list[float | str]], outcomes: dict[tuple[str, int], str] | None = None) -> Made:
    """A study of four epochs of ten steps; a unit's life is its step of lasting death, `born` or `alive`."""
    labels = list(dict.fromkeys(label for label, _ in lives))
    seeds = 1 + max(seed for _, seed in lives)
    paths = {place: {"test_accuracy": [0.5] * (3 if (outcomes or {}).get(place) else 5)} for place in lives}
    study = made({label: [0.5] * seeds for label in labels}, paths, outcomes)
    units = [
        {
            **{"trial": f"{label}-{seed}", "site": 0, "unit": unit, "born_dead": life == "born"},
            "dead_at_end": life != "alive",
            "dead_since_step": {"alive": math.nan, "born": 0.0}.get(str(life), life),
        }
        for (label, seed), own in lives.items()
        for unit, life in enumerate(own)
    ]
    layers = [
        {"trial": f"{label}-{seed}", "epoch": float(e), "step": 10 * e, "site": 0, "width": len(own),
         "dead_fraction": float(np.mean([life == "born" or (life != "alive" and life <= 10 * e) for life in own]))}
        for (label, seed), own in lives.items() for e in range(5)
    ]  # fmt: skip
    return Made(study.trials, study.epochs, pd.DataFrame(layers), pd.DataFrame(units))


def test_curves_equal_scipys_kaplan_meier() -> None:
    rng = np.random.default_rng(0)
    lives: dict[tuple[str, int], list[Any]] = {
        ("relu", seed): [rng.choice([10, 20, 30, 40, "alive"]) for _ in range(30)] for seed in range(4)
    }
    lives = {place: [life if life == "alive" else float(life) for life in own] for place, own in lives.items()}
    found = survival_of(lived(lives)).curves
    flat = [life for own in lives.values() for life in own]
    sample = stats.CensoredData(
        uncensored=[life for life in flat if life != "alive"], right=[END for life in flat if life == "alive"]
    )
    expected = stats.ecdf(sample).sf
    np.testing.assert_allclose(found["survival"], expected.evaluate(found["step"].to_numpy()))
    np.testing.assert_allclose(found["died"], 1 - found["survival"])
    assert found["at_risk"].tolist()[0] == 120
    told = repr(survival_of(lived(lives)))
    assert told.startswith("<Survival by 'activation' against 'relu': curves [")
    assert "\n" not in told


def test_competing_events_equal_a_product_limit_in_a_loop() -> None:
    rng = np.random.default_rng(1)
    time, fate = rng.integers(1, 9, 60).astype(float), rng.integers(0, 3, 60)
    steps = np.arange(10.0)
    alive, incidence = 1.0, {1: 0.0, 2: 0.0}
    expected = {1: [], 2: []}
    for step in steps:
        risk, before = (time >= step).sum(), alive
        for kind in (1, 2):
            events = ((time == step) & (fate == kind)).sum()
            incidence[kind] += before * events / max(risk, 1)
            alive -= before * events / max(risk, 1)
            expected[kind].append(incidence[kind])
    _, died, diverged = _estimates(time, fate, np.ones(60), steps)
    np.testing.assert_allclose(died, expected[1])
    np.testing.assert_allclose(diverged, expected[2])


def test_lives_by_hand() -> None:
    found = survival_of(
        lived(
            {("relu", 0): ["born", 10.0, 30.0, "alive"], ("relu", 1): ["born", "born"], ("elu", 0): ["alive"] * 4},
        )
    )
    lives = found.lives.set_index("trial")
    assert lives.loc["relu-0", ["units", "born_dead", "died", "alive"]].tolist() == [4, 1, 2, 1]
    assert lives.loc["relu-0", "value"] == pytest.approx((10 + 30 + 40) / 3 / 40)
    assert math.isnan(lives.loc["relu-1", "value"])  # nobody was at risk
    assert lives.loc["elu-0", "value"] == 1
    assert found.comparison["mean"].tolist() == [pytest.approx(1 - 80 / 120)]
    assert not found.comparison["comparable"].iloc[0]
    assert found.groups.set_index("activation").loc["relu", "born_dead"] == 3
    dead = found.dead[found.dead["activation"] == "relu"].set_index("step")["mean"]
    assert dead.to_dict() == pytest.approx({0: 0.625, 10: 0.75, 20: 0.75, 30: 0.875, 40: 0.875})


def test_divergence_competes_with_death() -> None:
    study = lived(
        {("relu", 0): [10.0, "alive"], ("relu", 1): [10.0, "alive", "alive", "alive"]}, {("relu", 1): "diverged"}
    )
    found = survival_of(study)
    last = found.curves.iloc[-1]
    assert (last["died"], last["diverged"]) == pytest.approx((2 / 6, 3 / 6))
    assert found.groups["diverged_trials"].tolist() == [1]
    assert found.lives["value"].tolist() == pytest.approx([(10 + 40) / 80, (10 + 3 * 40) / 160])


def test_what_is_found_dead_after_its_net_diverged_did_not_die() -> None:
    study = lived(
        {("relu", 0): [10.0, 20.0, "alive"], ("relu", 1): [20.0, "alive", "alive"]}, {("relu", 1): "diverged"}
    )
    trials = study.trials.assign(diverged_at_step=[math.nan, 15.0])
    lives = survival_of(Made(trials, study.epochs, study.layers, study.units)).lives.set_index("seed")
    assert lives.loc[1, ["died", "diverged_units"]].tolist() == [0, 3]
    assert lives.loc[0, ["died", "alive"]].tolist() == [2, 1]


def test_bands_resample_trials_not_units() -> None:
    alike = survival_of(lived({("relu", seed): [10.0, "alive"] * 50 for seed in range(5)})).curves
    np.testing.assert_allclose(alike["survival_low"], alike["survival_high"])
    apart = survival_of(lived({("relu", seed): [10.0 if seed % 2 else "alive"] * 100 for seed in range(4)})).curves
    assert apart["survival_low"].iloc[-1] == 0  # all of a resample's trials dead
    assert apart["survival_high"].iloc[-1] == 1
    assert survival_of(lived({("relu", 0): [10.0]})).curves["survival_low"].isna().all()


def test_units_that_were_never_measured_are_said_to_be_missing() -> None:
    with pytest.raises(ConfigError, match=r"probe\.metrics"):
        survival_of(made({"relu": [0.5]}))
    with pytest.raises(ConfigError, match="depth"):
        survival_of(lived({("relu", 0): [10.0]}), by="depth")
