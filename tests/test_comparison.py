"""Paired comparisons against enumerated signs, scipy, statsmodels and hand-worked verdicts."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline import inline
from made import made_study
from made_results import Made, made, rows_of
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

import reluexp
from reluexp.catalogue.metrics import MARGINS, margin_of
from reluexp.errors import ConfigError
from reluexp.report.findings import switched_off, undying_told
from reluexp.report.tables.along import along_table
from reluexp.stats import (
    across_tasks,
    along_axes,
    axis_of,
    compare,
    compare_pairs,
    compare_study,
    compare_times,
    pairs,
    readings,
    survival_of,
)
from reluexp.stats.contrasts import Contrast, decide, seeds_for
from reluexp.stats.signed_rank import pairs_for, pairs_to_resolve, signed_rank, smallest_p, tidy_differences


def enumerated(d: list[float]) -> tuple[float, float]:
    """P(T⁺ ≥ observed) and P(T⁺ ≤ observed) over all signs of the non-zero differences' ranks, one by one."""
    values = [value for value in d if value]
    ranks = stats.rankdata([abs(value) for value in values])
    seen = sum(rank for rank, value in zip(ranks, values, strict=True) if value > 0)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(values))]
    return float(np.mean([s >= seen for s in sums])), float(np.mean([s <= seen for s in sums]))


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_test_equals_the_enumeration_of_all_signs(d: list[int]) -> None:
    found = signed_rank(d)
    assert (found.greater, found.less) == pytest.approx(enumerated([float(value) for value in d]))
    assert found.both == pytest.approx(min(1.0, 2 * min(found.greater, found.less)))


@pytest.mark.parametrize("n", [5, 12, 25, 60])
def test_the_test_equals_scipys_exact_one_without_ties(n: int) -> None:
    d = np.random.default_rng(n).normal(0.2, 1, n)
    for side in ("greater", "less"):
        assert getattr(signed_rank(d), side) == pytest.approx(
            stats.wilcoxon(d, alternative=side, method="exact").pvalue
        )
    assert signed_rank(d).both == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)


def test_the_test_equals_scipys_permutations_with_ties_and_zeros() -> None:
    d = np.random.default_rng(3).integers(-3, 5, 11).astype(float)
    method = stats.PermutationMethod(n_resamples=np.inf)
    expected = stats.wilcoxon(d, alternative="greater", method=method, zero_method="wilcox").pvalue
    assert signed_rank(d).greater == pytest.approx(expected)


def test_many_pairs_take_the_normal_approximation() -> None:
    d = np.random.default_rng(0).normal(0.03, 1, 1200)
    assert signed_rank(d).both == pytest.approx(stats.wilcoxon(d).pvalue, rel=1e-6)


def test_effect_by_hand_and_infinite_differences_rank_first() -> None:
    assert signed_rank([1, 2, -3]).effect == 0.0  # 1 + 2 against 3
    assert signed_rank([1, 2, -np.inf]).effect == 0.0
    assert signed_rank([0, 0]) == (1, 1, 1, 0)


def test_rounding_makes_no_differences_out_of_ties() -> None:
    assert len(set(tidy_differences([0.9, 0.8, 0.7], [0.8, 0.7, 0.6]).tolist())) == 1
    assert tidy_differences([np.inf, np.inf, 1], [np.inf, 1, np.inf]).tolist() == [0, np.inf, -np.inf]
    thirds = tidy_differences([1.0, 8 / 9, 1 / 9], [17 / 18, 15 / 18, 1 / 18])  # shares on both sides of a power of ten
    assert len(set(thirds.tolist())) == 1


@pytest.mark.parametrize("huge", [1e10, 1e31, np.inf])
def test_a_trial_that_ran_away_blurs_no_other_difference(huge: float) -> None:
    level, base = np.array([0.9, 0.8, 0.3, huge]), np.array([0.8, 0.7, 0.31, 0.1])
    found = tidy_differences(level, base)
    np.testing.assert_allclose(found[:3], [0.1, 0.1, -0.01], rtol=1e-12)
    assert found[0] == found[1]
    assert found[3] == pytest.approx(huge)


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=1, max_size=30), st.integers(1, 3000))
def test_differences_of_shares_tie_exactly_where_whole_numbers_do(pairs_: list[tuple[int, int]], of: int) -> None:
    left, right = np.array(pairs_).T
    found = tidy_differences(left / of, right / of)
    exact = left - right
    assert [len(set(found[np.abs(exact) == size]) - set(-found)) <= 2 for size in set(np.abs(exact))]
    for size in set(np.abs(exact).tolist()):
        assert len(set(np.abs(found[np.abs(exact) == size]).tolist())) == 1
    np.testing.assert_array_equal(np.sign(found), np.sign(exact))
    assert len(set(np.abs(found).tolist())) == len(set(np.abs(exact).tolist()))


def test_the_least_p_and_the_pairs_that_would_do() -> None:
    assert [pairs_for(m) for m in (1, 6, 12)] == [6, 8, 9]
    for m in range(1, 40):
        assert smallest_p(pairs_for(m), m) <= 0.05 < smallest_p(pairs_for(m) - 1, m)
    best = signed_rank(np.arange(1, 9)).both
    assert 6 * best == smallest_p(8, 6)


def test_pairs_to_resolve_agree_with_statsmodels_power() -> None:
    for effect in (0.3, 0.7, 1.2):
        expected = TTestPower().solve_power(effect_size=effect, power=0.9, alpha=0.05 / 3, alternative="larger")
        assert pairs_to_resolve(1.0, effect, 3) == pytest.approx(expected * math.pi / 3, abs=1.5)
    assert pairs_to_resolve(0.0, 0.1) == 5
    assert math.isnan(pairs_to_resolve(math.nan, 0.1))


def random_frame(seed: int, levels: int = 4, seeds: int = 10) -> pd.DataFrame:
    """Values in steps of 0.01, so that ties abound; a tenth of the trials is missing, the rows are shuffled."""
    rng = np.random.default_rng(seed)
    rows = [
        {"activation": f"a{level}", "depth": depth, "seed": s, "value": round(rng.normal(0.9 + 0.01 * level, 0.02), 2)}
        for level, depth, s in itertools.product(range(levels), (2, 4), range(seeds))
    ]
    frame = pd.DataFrame(rows).assign(outcome="finished", stuck=False)
    return frame.sample(frac=0.9, random_state=seed).reset_index(drop=True)


@pytest.mark.parametrize("seed", range(5))
def test_every_column_equals_another_computation(seed: int) -> None:
    frame = random_frame(seed)
    found = compare(frame, "test_accuracy", "activation", "a0", ["depth"], margin=0.01)
    assert len(found) == 6
    wide = frame.pivot(index=["depth", "seed"], columns="activation", values="value")
    expected_p = []
    for row in found.to_dict("records"):
        own = wide.loc[row["depth"]]
        d = (own[row["activation"]] - own["a0"]).round(9)
        assert row["missing"] == (own[row["activation"]].notna() ^ own["a0"].notna()).sum()
        d = d.dropna().to_numpy()
        interval = stats.ttest_1samp(d, 0).confidence_interval()
        greater, less = enumerated(list(d))
        expected_p.append(min(1, 2 * min(greater, less)))
        ranks = stats.rankdata(np.abs(d[d != 0]))
        for column, value in {
            "n": len(d), "mean": d.mean(), "low": interval.low, "high": interval.high, "median": np.median(d),
            "sd": d.std(ddof=1), "wins": (d > 0).sum(), "ties": (d == 0).sum(), "losses": (d < 0).sum(),
            "effect": (ranks * np.sign(d[d != 0])).sum() / ranks.sum(), "p": expected_p[-1],
        }.items():  # fmt: skip
            assert row[column] == pytest.approx(value, abs=1e-9), column
    np.testing.assert_allclose(found["p_holm"], multipletests(expected_p, method="holm")[1])


def test_pairs_do_not_depend_on_the_order_of_rows() -> None:
    frame = random_frame(1)
    first = compare(frame, "test_accuracy", "activation", "a0", ["depth"]).sort_values(["depth", "activation"])
    other = compare(frame[::-1], "test_accuracy", "activation", "a0", ["depth"]).sort_values(["depth", "activation"])
    pd.testing.assert_frame_equal(first.reset_index(drop=True), other.reset_index(drop=True))


def test_over_averages_within_a_seed_and_drops_incomplete_seeds() -> None:
    frame = random_frame(2)
    found = compare(frame, "test_accuracy", "activation", "a0", ["depth"], over=["depth"]).set_index("activation")
    wide = frame.pivot(index=["seed", "depth"], columns="activation", values="value")
    for level in ("a1", "a2", "a3"):
        d = (wide[level] - wide["a0"]).groupby("seed").agg(lambda v: v.sum() / 2 if v.notna().sum() == 2 else np.nan)
        assert found.loc[level, "n"] == d.notna().sum()
        assert found.loc[level, "mean"] == pytest.approx(d.mean())
        assert found.loc[level, "missing"] == d.isna().sum()


def test_axes_that_are_not_named_are_refused_rather_than_pooled() -> None:
    with pytest.raises(ValueError, match="tells them apart"):
        pairs(random_frame(0), "activation", "a0")
    with pytest.raises(ConfigError, match="depth"):
        pairs(random_frame(0), "activation", "a0", ["depth"], over=["width"])


def one_row(d: list[float], metric: str = "test_accuracy", **changes: Any) -> dict[str, Any]:
    frame = rows_of({"relu": [0.5] * len(d), "elu": [0.5 + value for value in d]})
    return compare(frame, metric, "activation", "relu", margin=margin_of(metric), **changes).iloc[0].to_dict()


def test_verdicts_by_hand() -> None:
    ten = np.linspace(-0.002, 0.002, 10)
    assert one_row(list(0.02 + ten))["verdict"] == "better"
    assert one_row(list(-0.02 + ten))["verdict"] == "worse"
    assert one_row(list(ten))["verdict"] == "equal"
    assert one_row(list(0.02 + ten), "test_loss")["verdict"] == "no margin"
    few = one_row([0.02, 0.03, 0.02, 0.04])
    assert few["verdict"] == "undecided"
    assert few["pairs_to_resolve"] >= 5
    assert math.isnan(few["p"])
    assert (few["p_smallest"], few["pairs_needed"]) == (0.125, 6)
    assert one_row(list(0.1 + ten), "dead_fraction")["verdict"] == "worse"


def test_a_difference_beyond_zero_but_within_the_margin_is_equal() -> None:
    row = one_row([0.001 + 0.0001 * i for i in range(10)])
    assert row["p"] < 0.01
    assert row["verdict"] == "equal"


def test_equal_differences_are_a_point_without_spread() -> None:
    row = one_row([0.1] * 8)
    assert (row["low"], row["mean"], row["high"]) == pytest.approx((0.1, 0.1, 0.1))
    assert not row["spread"]
    assert row["p"] == pytest.approx(2 / 2**8)
    assert one_row([0.0, 0.1])["spread"]


def test_bca_from_twenty_pairs_equals_scipys() -> None:
    d = np.random.default_rng(5).lognormal(0, 0.5, 20)
    frame = rows_of({"relu": [0.0] * 20, "elu": list(d)})
    row = compare(frame, "gain", "activation", "relu").iloc[0]
    rng = np.random.default_rng(99)
    expected = stats.bootstrap((d,), np.mean, method="BCa", n_resamples=20_000, random_state=rng).confidence_interval
    assert (row["bca_low"], row["bca_high"]) == pytest.approx((expected.low, expected.high), rel=0.03)
    assert math.isnan(one_row(list(d[:19]))["bca_low"])


def test_never_is_the_longest_time_and_censored() -> None:
    never = math.inf
    times = {"relu": [100.0, 100, 200, never, never, 0], "elu": [50.0, never, 200, never, 100, 0]}
    row = compare(rows_of(times), "steps_to_95%", "activation", "relu").iloc[0]
    assert (row["n"], row["censored"], row["wins"], row["ties"], row["losses"]) == (6, 3, 2, 3, 1)
    assert math.isnan(row["mean"])
    ratio = compare(rows_of({"relu": [100.0, 10], "elu": [50.0, 5]}), "steps_to_95%", "activation", "relu").iloc[0]
    assert ratio["mean"] == pytest.approx(math.log(0.5))


def test_two_that_never_arrived_say_nothing_of_a_mean_and_are_not_equal() -> None:
    never, margin = math.inf, math.log(1.1)

    def row(relu: list[float], elu: list[float]) -> pd.Series:
        frame = rows_of({"relu": relu, "elu": elu})
        return compare(frame, "steps_to_95%", "activation", "relu", margin=margin).iloc[0]

    nobody = row([never] * 10, [never] * 10)
    assert (nobody["verdict"], nobody["ties"], nobody["censored"]) == ("undecided", 10, 10)
    assert nobody[["mean", "low", "median", "sd", "mean_sound"]].isna().all()
    half = row([100.0] * 6 + [never] * 6, [50.0] * 6 + [never] * 6)
    assert half[["mean", "low", "median"]].isna().all()  # the median may lie anywhere from −∞ to ln ½
    assert half["verdict"] == "undecided"
    most = row([100.0] * 14 + [never], [50.0] * 14 + [never])
    assert most["median"] == pytest.approx(math.log(0.5))
    assert most["verdict"] == "better"  # whatever the one pair would have said


def test_a_claim_about_times_is_not_decided_by_those_that_never_arrived() -> None:
    unknown = decide(Contrast("steps", [], "greater", math.log(1.1), unknown=12))
    assert (unknown.p_for, unknown.p_against, unknown.n) == (1.0, 1.0, 12)
    known = decide(Contrast("steps", [1.0 + i / 100 for i in range(12)], "greater", math.log(1.1), unknown=1))
    assert known.p_for < 0.02
    assert math.isnan(known.mean)
    assert math.isinf(known.seeds)
    censored = decide(Contrast("", [0.3, 0.2, -0.1, 0.05, math.inf, 0.2, -0.3, 0.1, 0, 0.4], "greater", math.log(1.1)))
    assert math.isnan(seeds_for([censored]))
    assert seeds_for([decide(Contrast("", [0.3, 0.2, 0.25]))]) == 5.0
    assert seeds_for([decide(Contrast("", [0.3, 0.2, 0.25, 0.1, 0.2, 0.3]))]) == 7.0  # more than there were
    worst = [*(1.0 + i / 100 - math.log(1.1) for i in range(12)), -math.inf]
    assert known.p_for == signed_rank(worst).greater


def test_means_over_an_axis_tie_as_exactly_as_single_values() -> None:
    frame = pd.concat(
        [
            rows_of({"relu": [0.7, 0.6, 0.5], "elu": [0.8, 0.7, 0.6]}).assign(depth=1),
            rows_of({"relu": [0.1, 0.2, 0.3], "elu": [0.3, 0.4, 0.5]}).assign(depth=2),
        ]
    )
    found = pairs(frame, "activation", "relu", ["depth"], over=["depth"])
    assert len(set(found["difference"])) == 1


def test_diverged_and_stuck_trials_stay_and_the_mean_without_them_stands_beside() -> None:
    frame = rows_of({"relu": [0.5, 0.5, 0.5], "elu": [0.6, 0.7, 0.1]})
    frame.loc[frame.index[-1], "outcome"] = "diverged"
    row = compare(frame, "test_accuracy", "activation", "relu").iloc[0]
    assert (row["n"], row["n_sound"]) == (3, 2)
    assert row["mean"] == pytest.approx(-0.1 / 3)
    assert row["mean_sound"] == pytest.approx(0.15)


def test_the_same_activation_under_another_name_differs_by_exactly_nothing() -> None:
    values = list(np.random.default_rng(0).normal(0.9, 0.02, 10))
    row = compare(rows_of({"relu": values, "copy": values}), "test_accuracy", "activation", "relu", margin=0.005).iloc[
        0
    ]
    assert (row["mean"], row["low"], row["high"], row["p"], row["effect"]) == (0, 0, 0, 1, 0)
    assert not row["spread"]
    assert row["verdict"] == "equal"


def test_a_planted_study_gets_the_right_words() -> None:
    rng = np.random.default_rng(7)
    base = rng.normal(0.9, 0.01, 10)
    study = made({"relu": base, "elu": base + 0.03 + rng.normal(0, 0.003, 10),
                  "tanh": base + rng.normal(0, 0.002, 10)})  # fmt: skip
    words = compare_study(study, "test_accuracy").set_index("activation")["verdict"].to_dict()
    assert words == {"elu": "better", "tanh": "equal"}
    few = made({"relu": base[:4], "selu": base[:4] - 0.03 + rng.normal(0, 0.003, 4)})
    row = compare_study(few, "test_accuracy").iloc[0]
    assert (row["verdict"], row["pairs_needed"]) == ("undecided", 6)


def test_best_is_chosen_on_validation_never_on_test() -> None:
    paths = {"test_accuracy": [0.1, 0.8, 0.9, 0.7], "validation_accuracy": [0.1, 0.9, 0.6, 0.8]}
    study = made({"relu": [0.0]}, paths={("relu", 0): paths})
    assert readings(study, "test_accuracy", "best")["value"].tolist() == [0.8]
    with pytest.raises(ConfigError, match="validation split"):
        readings(made({"relu": [0.5]}), "test_accuracy", "best")


def test_auc_is_the_mean_over_steps_and_a_diverged_trial_keeps_its_last_value() -> None:
    paths = {("relu", 0): {"test_accuracy": [0.0, 0.5, 1.0]}, ("elu", 0): {"test_accuracy": [0.0, 0.5]}}
    study = made({"relu": [0], "elu": [0]}, paths=paths, outcomes={("elu", 0): "diverged"})
    found = readings(study, "test_accuracy", "auc").set_index("activation")["value"]
    assert found.to_dict() == pytest.approx({"relu": 0.5, "elu": 0.375})


def test_what_a_study_does_not_have_is_refused_in_a_sentence() -> None:
    study = made({"relu": [0.5], "elu": [0.6]})
    for arguments, words in (
        ({"metric": "test_acuracy"}, "did you mean 'test_accuracy'"),
        ({"metric": "test_accuracy", "at": "end"}, "last, best, auc"),
        ({"metric": "test_accuracy", "by": "depth"}, "activation"),
        ({"metric": "test_accuracy", "baseline": "gelu"}, "relu, elu"),
    ):
        with pytest.raises(ConfigError, match=words):
            compare_study(study, **arguments)
    for metric in ("seed", None):
        with pytest.raises(ConfigError, match="metric"):
            compare_study(study, metric)  # type: ignore[arg-type]
    for answer in (survival_of, compare_times):
        with pytest.raises(ConfigError, match="baseline: got 'gelu'; allowed: relu, elu"):
            answer(study, baseline="gelu")  # type: ignore[operator]


def test_an_axis_needs_a_baseline_of_its_own_in_whatever_compares() -> None:
    study = made({"relu": [0.5], "elu": [0.6]})
    deep = study.trials.assign(**{"architecture.depth": [2, 2]})
    study = Made(deep, study.epochs, axes=["activation", "architecture.depth"])
    for answer in (compare_times, across_tasks, compare_study):
        about = () if answer is compare_times else ("test_accuracy",)
        with pytest.raises(ConfigError, match=r"architecture\.depth has none of its own; say which: baseline=2"):
            answer(study, *about, by="architecture.depth")  # type: ignore[operator]


def test_where_the_baseline_never_ran_nothing_is_compared() -> None:
    study = made({"relu": [0.5, 0.6], "elu": [0.6, 0.7], "tanh": [0.1, 0.2]})
    depths = study.trials["activation"].map({"relu": 1, "elu": 1, "tanh": 4})
    study = Made(study.trials.assign(depth=depths), study.epochs, axes=["activation", "depth"])
    assert compare_study(study, "test_accuracy")["activation"].tolist() == ["elu"]


def test_nets_that_learned_nothing_get_no_verdict_whichever_axis_is_compared() -> None:
    places = [(label, seed) for label in ("relu", "elu") for seed in range(12)]
    study = made({"relu": [0.1] * 12, "elu": [0.1] * 12}, extra={place: {"stuck": True} for place in places})
    assert compare_study(study, "test_accuracy")["verdict"].tolist() == ["no verdict"]
    depths = [2] * 12 + [4] * 12
    deep = study.trials.assign(activation="relu", depth=depths, seed=[*range(12), *range(12)])
    study = Made(deep, study.epochs, axes=["activation", "depth"])
    (row,) = compare_study(study, "test_accuracy", "depth", 2).to_dict("records")
    assert (row["verdict"], row["mean"]) == ("no verdict", 0)
    assert np.isnan(row["p_equal"])
    assert along_axes(study)["verdict"].tolist() == ["no verdict", "equal"]  # of accuracies; none of them died


@pytest.mark.parametrize(("axis", "levels"), [("init.dead", (0.0, 0.5)), ("init", ("he", "he(dead=0.5)"))])
def test_deaths_that_init_dead_made_are_decided_by_definition(axis: str, levels: tuple[Any, Any]) -> None:
    study = made({"relu": [0.9] * 16})
    trials = study.trials.assign(**{axis: [levels[0]] * 8 + [levels[1]] * 8, "seed": [*range(8), *range(8)]})
    trials["dead_fraction"] = [0.0] * 8 + [0.5] * 8
    study = Made(trials, study.epochs, axes=["activation", axis])
    (row,) = compare_study(study, "dead_fraction", axis, levels[0]).to_dict("records")
    assert row["verdict"] == "by definition"
    assert switched_off(study, {axis: levels[1]}) == ", 50.0 % of all by init.dead"
    assert not switched_off(study, {axis: levels[0]})
    assert "switched off by init.dead" in undying_told(study)


def test_an_axis_goes_by_its_last_part_too() -> None:
    study = made({"relu": [0.5], "elu": [0.6]}, axes=["activation", "train.optimizer.lr", "architecture.depth"])
    names = ("train.lr", "lr", "train.optimizer.lr", "depth", "activation", "nothing")
    assert [axis_of(study, name) for name in names] == [
        *["train.optimizer.lr"] * 3,
        "architecture.depth",
        "activation",
        "nothing",
    ]


def test_a_study_of_one_activation_compares_nothing() -> None:
    found = compare_study(made({"relu": [0.5, 0.6]}), "test_accuracy")
    assert found.empty
    assert "verdict" in found
    assert compare_pairs(pairs(rows_of({"relu": [1.0]}), "activation", "relu"), ["activation"]).empty


def test_margins_come_from_the_config_before_the_defaults() -> None:
    assert margin_of("steps_to_95%") == MARGINS["steps"] == pytest.approx(math.log(1.1))
    assert margin_of("confirmed_dead_fraction", {"dead_fraction": 0.1}) == 0.1
    assert margin_of("test_accuracy", {"test_accuracy": 0.2, "accuracy": 0.1}) == 0.2


def test_times_to_all_targets_are_one_family_with_never_last() -> None:
    fast, slow, never = [0.1, 0.95, 0.95, 0.95], [0.1, 0.5, 0.95, 0.95], [0.1, 0.6, 0.6, 0.6]
    paths = {("relu", s): {"probe_accuracy": slow, "test_accuracy": slow} for s in range(10)}
    paths |= {("elu", s): {"probe_accuracy": fast, "test_accuracy": fast} for s in range(10)}
    paths |= {
        ("tanh", s): {"probe_accuracy": p, "test_accuracy": p} for s in range(10) for p in [never if s < 6 else slow]
    }
    finals = dict.fromkeys(("relu", "elu", "tanh"), [0.0] * 10)
    study = made(finals, paths, targets={"probe_accuracy": [0.5, 0.9]})
    found = compare_times(study).set_index(["target", "activation"])
    assert len(found) == 4
    assert found["p_smallest"].iloc[0] == pytest.approx(4 * 2 / 2**10)
    elu = found.loc[("probe_accuracy_0.9", "elu")]
    crossing = [10 * 0.8 / 0.85, 10 + 10 * 0.4 / 0.45]
    assert elu["ratio"] == pytest.approx(crossing[0] / crossing[1])
    assert elu["verdict"] == "better"
    tanh = found.loc[("probe_accuracy_0.9", "tanh")]
    assert (tanh["never"], tanh["never_base"], tanh["censored"], tanh["ratio_median"]) == (6, 0, 6, math.inf)
    assert math.isnan(tanh["ratio"])
    assert found.loc[("probe_accuracy_0.5", "tanh"), "censored"] == 0


def test_an_axis_without_a_baseline_of_its_own_asks_for_one() -> None:
    study = made_study(("relu", "tanh"), 3, 2, axis="train.batch_size", values=(32, 64))
    with pytest.raises(ConfigError, match=r"train.batch_size has none of its own; say which: baseline=32"):
        compare_study(study, "test_accuracy", "train.batch_size")
    with pytest.raises(ConfigError, match=r"by: got 'activatoin'; .*did you mean 'activation'"):
        compare_study(study, "test_accuracy", "activatoin")


def test_further_axes_are_compared_with_the_configs_own_value(tmp_path: Path) -> None:
    config = {
        "study": "s",
        "dataset": {"name": "digits", "train_size": 200, "test_size": 60},
        "architecture": {"width": [8, 8]},
        "train": {"epochs": 1, "lr": 0.1},
        "seeds": 3,
        "grid": {"activation": ["relu", "elu"], "train.lr": [0.01, 0.1, 0.5], "init.dead": [0.25, 0.0]},
    }
    with inline():
        study = reluexp.run(config, tmp_path)
    found = along_axes(study)
    assert found.groupby("axis", sort=False)["reference"].unique().map(list).to_dict() == {
        "train.optimizer.lr": [0.1], "init.dead": [0.0]}  # fmt: skip
    for axis, base in (("train.optimizer.lr", 0.1), ("init.dead", 0.0)):
        for metric in ("test_accuracy", "dead_fraction"):
            own = study.compare(metric, by=axis, baseline=base)
            own = own if metric == "test_accuracy" else own[own["activation"] == "relu"]
            rows = found[(found["axis"] == axis) & (found["metric"] == metric)]
            columns = ["activation", "n", "mean", "low", "high", "p", "p_holm", "verdict"]
            pd.testing.assert_frame_equal(rows[columns].reset_index(drop=True), own[columns].reset_index(drop=True))
    table = along_table(study, found)
    assert len(table.rows) == len(found)
    assert {row[1].text for row in table.rows} == {"0.01 − 0.1", "0.5 − 0.1", "0.25 − 0.0"}
    with inline():
        alone = reluexp.run({**config, "study": "t", "grid": {"activation": ["relu", "elu"]}}, tmp_path)
    assert along_axes(alone).empty
    assert not along_table(alone, along_axes(alone)).rows
