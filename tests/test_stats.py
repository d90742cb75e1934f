"""Statistics against hand-worked numbers and against scipy."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bare import Bare
from scipy import stats

from reluexp.catalogue.activations import ACTIVATIONS, dies
from reluexp.stats import (
    aggregate,
    column_intervals,
    curves,
    describe_targets,
    differences,
    dying,
    final_metrics,
    headline_rows,
    headline_target,
    in_order,
    mean_interval,
    over_sites,
    readings,
    settings,
    steps_to_target,
    summary,
)
from reluexp.stats.ends import over_all_units


@dataclass(frozen=True)
class Small(Bare):
    """A study small enough to work out by hand."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    units: pd.DataFrame = field(default_factory=pd.DataFrame)
    timing: pd.DataFrame = field(default_factory=pd.DataFrame)
    name: str = "small"
    margins: dict[str, float] | None = None
    path: Path = Path("small")
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    axes: list[str] = field(default_factory=lambda: ["activation"])
    baseline: str | None = "relu"
    targets: dict[str, list[float]] | None = None


def small(rows: list[tuple[str, int, list[float]]], **changes: Any) -> Small:
    """Trials of (activation, seed, probe accuracy at steps 0, 10, 20, …); test accuracy is the same."""
    outcomes = changes.pop("outcomes", ["finished"] * len(rows))
    extra = changes.pop("extra", [{} for _ in rows])
    trials, epochs = [], []
    for i, (label, seed, path) in enumerate(rows):
        trial = {"trial": f"t{i}", "activation": label, "seed": seed, "outcome": outcomes[i], "stuck": None}
        trials.append({**trial, "classes": 10, "dead_fraction": math.nan, **extra[i]})
        epochs += [
            {"trial": f"t{i}", "epoch": e, "step": 10 * e, "probe_accuracy": v, "test_accuracy": v}
            for e, v in enumerate(path)
        ]
    return Small(pd.DataFrame(trials), pd.DataFrame(epochs, columns=[*_EPOCHS]), **changes)


_EPOCHS = ("trial", "epoch", "step", "probe_accuracy", "test_accuracy")


def test_interval_equals_scipys() -> None:
    values = np.random.default_rng(0).normal(3, 2, 12)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = mean_interval([*values, math.nan, math.inf], 0.9)
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high])
    assert found.n == 12


def test_interval_by_hand() -> None:
    # 1, 2, 3: standard error 1/√3, t(0.975, 2) = 4.302653
    found = mean_interval([1, 2, 3])
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert found.mean == 2


def test_one_value_has_no_interval_and_equal_values_a_point() -> None:
    one, none, same = mean_interval([0.5]), mean_interval([]), mean_interval([0.3, 0.3, 0.3])
    assert (one.mean, one.n) == (0.5, 1)
    assert math.isnan(one.low)
    assert math.isnan(none.mean)
    assert none.n == 0
    assert (same.low, same.high) == (pytest.approx(0.3), pytest.approx(0.3))


def test_aggregate_keeps_groups_apart() -> None:
    frame = pd.DataFrame({"g": ["a", "a", "b", "b"], "v": [1.0, 3.0, math.inf, 5.0]})
    found = aggregate(frame, ["g"], "v").set_index("g")
    assert found.loc["a", "mean"] == 2
    assert found.loc["a", "high"] == pytest.approx(2 + stats.t.ppf(0.975, 1))
    assert (found.loc["b", "mean"], found.loc["b", "n"]) == (5, 1)


def test_column_intervals_are_those_of_aggregate() -> None:
    values = np.random.default_rng(1).normal(size=(6, 4))
    values[:5, 1] = np.nan
    values[0, 2] = np.inf
    values[:, 3] = np.nan
    tidy = pd.DataFrame(values).melt(var_name="x", value_name="v")
    expected = aggregate(tidy, ["x"], "v")
    for column, found in zip(("mean", "low", "high", "n"), column_intervals(values), strict=True):
        np.testing.assert_allclose(found, expected[column])


def test_curves_give_a_band_at_each_epoch() -> None:
    study = small([("relu", 0, [0.1, 0.5]), ("relu", 1, [0.3, 0.5]), ("relu", 2, [0.2])])
    found = curves(study.epochs.assign(activation="relu"), "test_accuracy", ["activation"])
    assert found["n"].tolist() == [3, 2]
    np.testing.assert_allclose(found["mean"], [0.2, 0.5])
    assert found["low"][1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ([0.1, 0.4, 0.8, 0.9], 12.5),  # crosses 0.5 a quarter of the way from step 10 to 20
        ([0.1, 0.6, 0.4, 0.7, 0.9], 20 + 10 / 3),  # the first crossing does not hold
        ([0.1, 0.2, 0.9], math.inf),  # reached at the last measurement only
        ([0.1, 0.2, 0.3], math.inf),
        ([0.6, 0.7], 0.0),  # held from birth
        ([0.9], math.inf),
        ([0.1, math.nan, 0.8, 0.9], 20 * 0.4 / 0.7),  # an epoch between measurements
        ([0.1, 0.5, 0.5], 10.0),  # at the target counts
    ],
)
def test_steps_to_target_by_hand(path: list[float], steps: float) -> None:
    found = steps_to_target(small([("relu", 0, path)], targets={"probe_accuracy": [0.5]}))
    assert found["steps"].tolist() == [pytest.approx(steps)]
    assert found["rule"].tolist() == ["probe accuracy ≥ 0.5"]


def test_epochs_between_measurements_do_not_keep_a_target_from_being_reached() -> None:
    path = [0.1, math.nan, 0.9, math.nan, 0.95, math.nan, 0.97]
    study = small([("relu", 0, path)], targets={"probe_accuracy": [0.8]})
    assert steps_to_target(study)["steps"].tolist() == pytest.approx([20 * 0.7 / 0.8])
    wild = study.epochs.assign(probe_loss=[2.0, math.nan, math.inf, math.nan, 0.1, math.nan, 0.1])
    unsound = Small(study.trials, wild, targets=study.targets)  # what was measured at step 20 made no sense
    assert steps_to_target(unsound)["steps"].tolist() == [40.0]


def test_a_loss_target_is_reached_from_above() -> None:
    study = small([("relu", 0, [0, 0, 0])], targets={"probe_loss": [1.0]})
    study = Small(study.trials, study.epochs.assign(probe_loss=[2.0, 0.5, 0.4]), targets={"probe_loss": [1.0]})
    assert steps_to_target(study, "probe_loss")["steps"].tolist() == [pytest.approx(20 / 3)]
    assert headline_target(study) == ("steps_to_probe_loss_1", "probe loss ≤ 1")


def test_targets_without_a_wish_are_shares_of_the_way_to_the_baseline() -> None:
    study = small([("relu", 0, [0.1, 0.8]), ("relu", 1, [0.1, 0.9]), ("relu", 2, [0.1, 0.2]), ("tanh", 0, [0.1, 1.0])])
    found = steps_to_target(study)
    assert found["target"].unique().tolist() == ["50%", "90%", "95%", "99%"]
    # the median of 0.8, 0.9, 0.2 is 0.8; chance is 0.1
    np.testing.assert_allclose(found.loc[found["trial"] == "t0", "value"], 0.1 + np.array([0.5, 0.9, 0.95, 0.99]) * 0.7)
    assert "median final probe accuracy of ReLU" in describe_targets(study)
    rows = [("relu", 0, []), ("relu", 1, [0.1, 0.9])]
    first_failed = small(rows, outcomes=["failed", "finished"], extra=[{"classes": math.nan}, {}])
    assert steps_to_target(first_failed)["value"].iloc[0] == pytest.approx(0.5)


def test_without_a_baseline_the_best_activation_sets_the_targets_and_the_rule_says_so() -> None:
    study = small([("elu", 0, [0.1, 0.6]), ("tanh", 0, [0.1, 0.7])], baseline=None)
    assert steps_to_target(study)["value"].max() == pytest.approx(0.1 + 0.99 * 0.6)
    assert "Tanh (the best" in describe_targets(study)


def test_the_headline_target_is_each_settings_own() -> None:
    rows = [("relu", 0, [0.1, 0.1]), ("tanh", 0, [0.1, 0.1]), ("relu", 0, [0.1, 0.8]), ("tanh", 0, [0.1, 0.9])]
    rows += [("relu", 0, [0.1, 0.1]), ("tanh", 0, [0.1, 0.6])]
    extra = [{"depth": depth} for depth in (2, 2, 4, 4, 8, 8)]
    study = small(rows, extra=extra, axes=["activation", "depth"])
    found = headline_rows(study)
    assert found["depth"].tolist() == [2, 4, 8]
    np.testing.assert_allclose(found["value"], [math.nan, 0.1 + 0.95 * 0.7, 0.1 + 0.95 * 0.5])
    whose = [rule.rpartition("accuracy of ")[2].split(" (")[0] for rule in found["rule"]]
    assert whose == ["no activation, since none got beyond chance", "ReLU", "Tanh"]
    column, rule = headline_target(study)
    assert column == "steps_to_95%"
    assert rule.endswith("of ReLU, or of the best activation where that is absent or not beyond chance")


def test_when_nobody_learns_no_target_is_ever_reached() -> None:
    study = small([("relu", 0, [0.1, 0.1, 0.1])])
    assert np.isinf(steps_to_target(study)["steps"]).all()
    assert "none got beyond chance" in describe_targets(study)


def test_never_ranks_last_in_the_median_and_is_counted() -> None:
    rows = [("relu", seed, path) for seed, path in enumerate([[0, 1, 1], [0, 1, 1], [0, 0, 0]])]
    rows += [("tanh", 0, [0, 0, 0]), ("tanh", 1, [0, 0, 0]), ("tanh", 2, [0, 1, 1])]
    table = summary(small(rows, targets={"probe_accuracy": [0.5]})).set_index("activation")
    column = "steps_to_probe_accuracy_0.5"
    assert table[f"{column}_median"].tolist() == [5.0, math.inf]
    assert table[f"{column}_never"].tolist() == [1, 2]
    assert table[f"{column}_n"].tolist() == [3, 3]


def test_a_diverged_trial_keeps_its_last_finite_value_else_chance() -> None:
    rows = [("relu", 0, [0.1, 0.7, math.nan]), ("relu", 1, [math.nan]), ("relu", 2, [0.1, 0.9]), ("relu", 3, [0.5])]
    study = small(rows, outcomes=["diverged", "diverged", "finished", "failed"])
    final = final_metrics(study)["test_accuracy"]
    assert final.tolist()[:3] == [0.7, 0.1, 0.9]
    assert math.isnan(final[3])
    row = summary(study).iloc[0]
    assert (row["trials"], row["finished"], row["diverged"], row["failed"]) == (4, 1, 2, 1)
    assert row["test_accuracy_mean"] == pytest.approx((0.7 + 0.1 + 0.9) / 3)
    assert row["test_accuracy_n"] == 3
    assert row["test_accuracy_learned_mean"] == pytest.approx(0.9)


def test_a_diverged_net_ends_with_what_its_last_finite_weights_give_and_not_where_it_was_best() -> None:
    study = small([("relu", 0, [0.1, 0.7, 0.098])], outcomes=["diverged"])
    study = Small(study.trials, study.epochs.assign(test_loss=[2.3, 0.9, math.nan]))
    assert final_metrics(study)["test_accuracy"].tolist() == [0.098]
    assert readings(study, "test_accuracy")["value"].tolist() == [0.098]


def _layers() -> pd.DataFrame:
    """Two sites of 10 and 30 units at steps 0 and 10, and the output layer, which must enter no average."""
    rows = [
        (0, 0, 10, 0.1, 0.5),
        (0, 1, 30, 0.0, 0.5),
        (0, None, 10, 1.0, 1.0),
        (10, 0, 10, 0.5, 0.2),
        (10, 1, 30, 0.1, 0.6),
        (10, None, 10, 1.0, 1.0),
    ]
    frame = pd.DataFrame(rows, columns=["step", "site", "width", "dead_fraction", "zero_fraction"])
    return frame.assign(trial="t0", epoch=frame["step"] / 10, off_fraction=frame["dead_fraction"])


def test_fractions_over_sites_are_weighted_by_width() -> None:
    found = over_sites(_layers(), "dead_fraction")
    np.testing.assert_allclose(found["dead_fraction"], [1 / 40, (5 + 3) / 40])
    study = small([("relu", 0, [0.1, 0.9])])
    final = final_metrics(Small(study.trials, study.epochs, _layers())).iloc[0]
    assert final["off_fraction"] == pytest.approx(0.2)
    assert final["zero_fraction"] == pytest.approx((2 + 18) / 40)
    assert final["born_dead_fraction"] == pytest.approx(1 / 40)
    assert final["dead_fraction"] == pytest.approx(0.2)  # no column of the trials says otherwise


def test_zeros_of_live_units_are_weighted_by_live_units() -> None:
    layers = pd.DataFrame(
        [(0, 10, 0.5, 0.2), (1, 30, 0.9, 0.6), (2, 5, 1.0, math.nan)],
        columns=["site", "width", "dead_fraction", "zero_fraction_live"],
    ).assign(trial="t", epoch=1, step=10)
    expected = (5 * 0.2 + 3 * 0.6) / 8
    assert over_sites(layers, "zero_fraction_live")["zero_fraction_live"].tolist() == pytest.approx([expected])
    assert over_all_units(layers, "zero_fraction_live")["t"] == pytest.approx(expected)


def test_sites_without_a_value_have_no_weight() -> None:
    layers = _layers()
    layers.loc[4, "zero_fraction"] = math.nan
    assert over_sites(layers, "zero_fraction")["zero_fraction"].tolist() == [0.5, 0.2]
    assert over_sites(pd.DataFrame(), "zero_fraction").empty


@pytest.mark.parametrize("by", [("trial", "epoch", "step"), ("trial",)])
def test_means_over_sites_are_those_of_a_plain_groupby(by: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({
        "trial": rng.permutation([f"t{i % 5}" for i in range(200)]),
        "epoch": rng.choice([0.0, 0.5, 3.0, math.nan], 200),
        "site": rng.choice([0.0, 1.0, math.nan], 200),
        "width": rng.integers(1, 9, 200),
        "metric": rng.choice([0.1, 0.7, math.nan, math.inf], 200),
    }).assign(step=lambda frame: (10 * frame["epoch"].fillna(1)).astype(int))  # fmt: skip
    known = rows[rows["site"].notna() & np.isfinite(rows["metric"])]
    sums = known.assign(metric=known["metric"] * known["width"]).groupby(list(by))[["metric", "width"]].sum()
    expected = (sums["metric"] / sums["width"]).rename("metric").reset_index()
    pd.testing.assert_frame_equal(over_sites(rows, "metric", by), expected)


def accuracies(study: Small) -> pd.DataFrame:
    found = differences(study)
    return found[found["metric"] == "test_accuracy"]


def test_differences_are_paired_by_seed_not_by_row() -> None:
    rows = [("relu", 2, [0.5]), ("relu", 0, [0.9]), ("relu", 1, [0.7]), ("tanh", 0, [0.92]), ("tanh", 2, [0.51])]
    found = accuracies(small(rows)).iloc[0]
    expected = stats.ttest_1samp([0.02, 0.01], 0).confidence_interval()
    assert found["n"] == 2
    np.testing.assert_allclose(found[["mean", "low", "high"]].astype(float), [0.015, expected.low, expected.high])


def test_other_axes_are_never_pooled() -> None:
    rows = [("relu", 0, [0.5]), ("tanh", 0, [0.6]), ("relu", 0, [0.8]), ("tanh", 0, [0.7])]
    extra = [{"depth": 2}, {"depth": 2}, {"depth": 4}, {"depth": 4}]
    study = small(rows, extra=extra, axes=["activation", "depth"])
    found = accuracies(study)
    np.testing.assert_allclose(found["mean"], [0.1, -0.1])
    assert found["n"].tolist() == [1, 1]
    assert found["depth"].tolist() == [2, 4]


def test_no_partner_gives_no_difference() -> None:
    assert differences(small([("relu", 0, [0.5]), ("tanh", 1, [0.6])])).empty
    assert differences(small([("elu", 0, [0.5]), ("tanh", 0, [0.6])], baseline=None)).empty
    assert differences(small([("relu", 0, [0.5])])).empty


def test_settings_stand_in_the_catalogues_order_and_numbers_by_size() -> None:
    rows = [(label, 0, [0.5]) for label in ("mine:f", "tanh", "leaky_relu(negative_slope=0.3)", "relu", "leaky_relu")]
    order = ["relu", "leaky_relu", "leaky_relu(negative_slope=0.3)", "tanh", "mine:f"]
    assert settings(small(rows))["activation"].tolist() == order
    assert in_order([16, 2, 4.5, "auto"], "depth") == [2, 4.5, 16, "auto"]
    optimizers = ["mine", "adam", "sgd(lr=0.1)", "sgd"]
    assert in_order(optimizers, "train.optimizer") == ["sgd", "sgd(lr=0.1)", "adam", "mine"]


def test_axis_values_that_are_lists_or_missing_can_be_grouped() -> None:
    rows = [("relu", 0, [0.5]), ("relu", 0, [0.6]), ("relu", 0, [0.7])]
    study = small(rows, extra=[{"w": [64, 32]}, {"w": None}, {"w": [64, 32]}], axes=["w"])
    table = summary(study)
    assert table["w"].tolist() == ["[64, 32]", "not set"]
    assert table["trials"].tolist() == [2, 1]


def test_only_half_line_activations_and_the_users_own_can_die() -> None:
    labels = ("relu", "relu6", "mine:f", "tanh", "leaky_relu(negative_slope=0.3)", "leaky_relu(negative_slope=0.0)")
    assert dying(small([(label, 0, [0.5]) for label in labels])) == {"relu", "relu6", "mine:f"}
    flat = ACTIVATIONS.models["leaky_relu"](negative_slope=0.0)
    assert dies(flat)
    assert dying(small([("leaky_relu(negative_slope=0.0)", 0, [0.5])], extra=[{"can_die": dies(flat)}]))


def test_frames_without_layers_give_no_fractions_but_an_accuracy() -> None:
    row = summary(small([("relu", 0, [0.1, 0.9]), ("relu", 1, [0.1, 0.8])])).iloc[0]
    assert row["test_accuracy_mean"] == pytest.approx(0.85)
    assert row["zero_fraction_n"] == 0
    assert math.isnan(row["zero_fraction_mean"])
