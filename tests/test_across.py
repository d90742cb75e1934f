"""Statistics over several tasks against scipy, scikit-posthocs, published examples and constructed cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from made_results import Made, made
from scipy import stats

from reluexp.errors import ConfigError
from reluexp.report.figures import FIGURES, draw_figure
from reluexp.report.frames.across import across_sentences, across_summary, nemenyi, ranks
from reluexp.stats import across_tasks, rank_levels, relation
from reluexp.stats.across import improvement, interquartile_mean, profile
from reluexp.stats.ranks import critical_difference


def tasks(datasets: int, seeds: int = 5, better: float = 0.02) -> Made:
    """Three activations on several data sets of different difficulty; elu is better, tanh is like relu."""
    rng = np.random.default_rng(0)
    trials, epochs = [], []
    for label, number, seed in itertools.product(("relu", "elu", "tanh"), range(datasets), range(seeds)):
        trial = f"{label}-{number}-{seed}"
        value = 0.5 + 0.05 * number + better * (label == "elu") + rng.normal(0, 0.005)
        trials.append({"trial": trial, "activation": label, "dataset": f"d{number}", "seed": seed, "stuck": False,
                       "outcome": "finished", "classes": 10, "dead_fraction": 0.0})  # fmt: skip
        epochs += [{"trial": trial, "epoch": e, "step": e, "test_accuracy": v} for e, v in enumerate((0.1, value))]
    return Made(pd.DataFrame(trials), pd.DataFrame(epochs), axes=["activation", "dataset"])


def test_interquartile_mean_and_its_bounds_equal_scipys() -> None:
    rng = np.random.default_rng(2)
    samples = [rng.normal(size=8) for _ in range(3)]
    value, low, high = interquartile_mean(samples)
    assert value == pytest.approx(stats.trim_mean(np.concatenate(samples), 0.25))
    tail = stats.norm.cdf(-math.sqrt(24 / 21) * stats.t.ppf(0.975, 21))  # Hesterberg 2015
    draws = [
        stats.trim_mean(np.concatenate([rng.choice(sample, sample.size) for sample in samples]), 0.25)
        for _ in range(4000)
    ]
    assert (low, high) == pytest.approx(tuple(np.quantile(draws, [tail, 1 - tail])), abs=0.06)


def test_improvement_is_the_mean_of_mann_whitneys_u() -> None:
    rng = np.random.default_rng(3)
    left, right = ([rng.integers(0, 5, n).astype(float) for n in (6, 9)] for _ in range(2))
    expected = np.mean(
        [stats.mannwhitneyu(a, b).statistic / (a.size * b.size) for a, b in zip(left, right, strict=True)]
    )
    assert improvement(left, right)[0] == pytest.approx(expected)
    assert improvement([np.array([2.0, 3])], [np.array([0.0, 1])]) == (1, 1, 1)


def test_profile_is_the_share_above_each_score() -> None:
    found = profile([np.array([1.0, 2.0]), np.array([3.0, 4.0])], np.array([0.0, 2.0, 4.0]))
    assert found["share"].tolist() == [1, 0.5, 0]
    assert (found["low"] <= found["share"]).all()
    assert (found["high"] >= found["share"]).all()


def test_a_study_of_several_data_sets() -> None:
    found = across_tasks(tasks(6), "test_accuracy")
    assert found is not None
    table = found.summary.set_index("activation")
    assert table.loc["elu", "tasks"] == 6
    assert table.loc["elu", "n"] == 30
    assert table.loc["elu", "iqm_low"] < 0.02 < table.loc["elu", "iqm_high"]
    assert table.loc["elu", "improvement"] > 0.95
    assert table.loc["tanh", "improvement_low"] < 0.5 < table.loc["tanh", "improvement_high"]
    assert set(found.profiles["activation"]) == {"relu", "elu", "tanh"}
    assert found.ranks is not None
    assert found.ranks.ranks["activation"].iloc[0] == "elu"
    assert across_tasks(made({"relu": [0.5], "elu": [0.6]}), "test_accuracy") is None
    with pytest.raises(ConfigError, match="never"):
        across_tasks(tasks(2), "steps_to_95%")


def test_the_report_says_what_the_data_sets_together_carry_and_no_more() -> None:
    study = tasks(6)
    first, second = across_sentences(study)
    assert "Over 6 data sets together, against ReLU, by bootstrap intervals that are not corrected" in first
    assert ": ELU +2.2 points" in first
    assert "Tanh" not in first  # planted to be like relu
    assert "ELU came first on average" in second
    assert "no activation was shown to differ" in across_sentences(tasks(2, better=0.0))[0]
    assert across_sentences(made({"relu": [0.5, 0.6], "elu": [0.6, 0.7]})) == []


def test_the_tables_hold_what_across_gives() -> None:
    study = tasks(6)
    found = across_tasks(study, "test_accuracy")
    assert found is not None
    assert found.ranks is not None
    assert across_summary(study)["iqm"].tolist() == found.summary["iqm"].tolist()
    assert ranks(study)["rank"].tolist() == found.ranks.ranks["rank"].tolist()
    pairs = nemenyi(study).set_index(["activation", "other"])["p"]
    assert len(pairs) == 6
    assert pairs["elu", "tanh"] == found.ranks.nemenyi.loc["elu", "tanh"]


def test_the_diagram_places_each_level_at_its_rank_and_joins_what_does_not_differ() -> None:
    study = tasks(6)
    found = across_tasks(study, "test_accuracy")
    figure = draw_figure(next(spec for spec in FIGURES if spec.name == "critical_difference"), study)
    assert found is not None
    assert found.ranks is not None
    assert figure is not None
    lines = [line.get_xdata() for line in figure.axes[0].get_lines()]
    assert [x[0] for x in lines if len(x) == 3] == found.ranks.ranks["rank"].tolist()
    assert len([x for x in lines if len(x) == 2]) == len(found.ranks.groups) + 1  # and the critical difference


def test_values_of_other_axes_stand_apart_and_one_task_alone_is_left_out() -> None:
    study = tasks(2)
    rates = [study.trials.assign(trial=f"{lr}" + study.trials["trial"], lr=lr) for lr in (0.1, 0.2)]
    trials = pd.concat(rates, ignore_index=True)
    trials = trials[(trials["lr"] == 0.1) | (trials["dataset"] == "d0")]
    epochs = pd.concat([study.epochs.assign(trial=f"{lr}" + study.epochs["trial"]) for lr in (0.1, 0.2)])
    found = across_tasks(Made(trials, epochs, axes=["activation", "dataset", "lr"]), "test_accuracy")
    assert found is not None
    assert found.summary["lr"].tolist() == [0.1, 0.1]


def test_single_runs_have_no_bounds_and_five_data_sets_no_ranks() -> None:
    found = across_tasks(tasks(5, seeds=1), "test_accuracy")
    assert found is not None
    assert found.ranks is None
    assert found.summary["iqm_low"].isna().all()


def scores(levels: int, datasets: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        {"dataset": d, "activation": f"a{level}", "value": round(rng.normal(0.03 * level, 0.05), 2)}
        for d, level in itertools.product(range(datasets), range(levels))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seed", range(3))
def test_friedman_and_nemenyi_equal_other_computations(seed: int) -> None:
    frame = scores(5, 12, seed)
    found = rank_levels(frame, "activation")
    assert found is not None
    table = frame.pivot(index="dataset", columns="activation", values="value")
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*(table[c] for c in table)).pvalue)
    expected = scikit_posthocs.posthoc_nemenyi_friedman(table)
    order = found.nemenyi.index
    np.testing.assert_allclose(found.nemenyi, expected.loc[order, order], atol=1e-6)
    assert found.ranks["rank"].tolist() == pytest.approx(sorted((-table).rank(axis=1).mean()))


def test_tiny_values_have_ranks_too() -> None:
    rows = [
        {"dataset": d, "activation": a, "value": size * (1 + d / 100)}
        for d in range(7) for a, size in (("relu", 3e-13), ("elu", 2e-13), ("tanh", 1e-13))
    ]  # fmt: skip
    found = rank_levels(pd.DataFrame(rows), "activation")
    assert found is not None
    assert found.ranks["rank"].tolist() == [1, 2, 3]
    assert found.friedman < 0.01


def test_demsars_example_and_the_groups_of_a_diagram() -> None:
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    frame = pd.DataFrame(
        [
            {"dataset": d, "activation": a, "value": v}
            for d in range(20)
            for a, v in zip("abcd", (4, 3, 2, 1), strict=True)
        ]
    )
    found = rank_levels(frame, "activation")
    assert found is not None
    assert found.critical < 1.1
    assert found.groups == [["a", "b"], ["b", "c"], ["c", "d"]]
    reverse = rank_levels(frame, "activation", sign=-1)
    assert reverse is not None
    assert reverse.ranks["activation"].tolist() == ["d", "c", "b", "a"]
    assert rank_levels(scores(5, 5), "activation") is None


def related(seeds: int, slope: float, seed: int = 0) -> Made:
    rng = np.random.default_rng(seed)
    dead = rng.uniform(0, 1, seeds)
    accuracy = 0.9 + slope * dead + rng.normal(0, 0.02, seeds)
    return made({"relu": accuracy}, extra={("relu", s): {"dead_fraction": dead[s]} for s in range(seeds)})


def test_relation_equals_spearman_and_needs_twenty_seeds() -> None:
    study = related(25, -0.1)
    row = relation(study).iloc[0]
    accuracy = study.epochs[study.epochs["epoch"] == 1]["test_accuracy"]
    assert row["rho"] == pytest.approx(stats.spearmanr(study.trials["dead_fraction"], accuracy).statistic)
    assert row["low"] < row["rho"] < row["high"] < 0
    assert relation(related(19, -0.1)).empty


def test_relations_are_combined_within_settings_never_over_them() -> None:
    first, second = related(30, 0.0, 1), related(30, 0.0, 2)
    shifted = second.trials.assign(trial="x" + second.trials["trial"], dead_fraction=lambda t: t["dead_fraction"] + 1)
    ends = second.epochs.assign(trial="x" + second.epochs["trial"], test_accuracy=lambda e: e["test_accuracy"] - 0.5)
    trials = pd.concat([first.trials.assign(depth=2), shifted.assign(depth=4)], ignore_index=True)
    study = Made(trials, pd.concat([first.epochs, ends]), axes=["activation", "depth"])
    found = relation(study)
    assert found["settings"].tolist() == [1, 1, 2]
    whole = found.iloc[2]
    assert whole["low"] < 0 < whole["high"]  # pooled over settings it would be strongly negative
    z = np.arctanh(found["rho"][:2])
    weights = 27 / (1 + found["rho"][:2] ** 2 / 2)
    assert whole["rho"] == pytest.approx(np.tanh((z * weights).sum() / weights.sum()))
