"""The answer in three sentences: planted studies get the words that their seeds carry, and no more."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from made import made_study
from made_results import Made, made
from test_across import tasks

from reluexp.report.answer import answer
from reluexp.report.figures import FIGURES, draw_figure
from reluexp.report.findings import findings
from reluexp.report.frames.choices import along, numeric_axis, over_axis
from reluexp.report.live.payload import live_data
from reluexp.report.tables.differences import differences_table, seeds_to_tell
from reluexp.report.tables.summary import gains_told, summary_table
from reluexp.report.tables.verdicts import choice_table
from reluexp.report.verdicts import cards_of
from reluexp.stats import (
    common_setting,
    compare_study,
    differences,
    groups,
    other_axes,
    setting_name,
    settings,
    summary,
)


def planted(seeds: int) -> Made:
    """ELU is better by two points, tanh equal, sigmoid worse by a point and wide."""
    rng = np.random.default_rng(1)
    relu = 0.9 + rng.normal(0, 0.01, seeds)
    return made(
        {
            "relu": list(relu),
            "elu": list(relu + 0.02 + rng.normal(0, 0.001, seeds)),
            "tanh": list(relu + rng.normal(0, 0.0005, seeds)),
            "sigmoid": list(relu - 0.01 + rng.normal(0, 0.02, seeds)),
        }
    )


def test_a_difference_beyond_the_margin_is_told_and_what_is_open_too() -> None:
    *_, mattered, choice = answer(planted(10))
    assert "test accuracy was better with ELU (+2.0 points" in mattered
    assert "Tanh" not in mattered
    assert "Sigmoid" not in mattered
    assert choice.startswith("ELU had the highest mean test accuracy")
    assert "better than ReLU. 1 of 3 comparisons stays undecided; " in choice
    assert choice.endswith(" seeds would tell, if what was seen is the truth.")


def test_too_few_seeds_are_said_to_settle_nothing() -> None:
    *_, mattered, choice = answer(planted(4))
    assert "stays open: 4 seeds cannot settle 3 comparisons at once, whatever they show; 7 could." in mattered
    assert "not shown to be better than ReLU by more than 0.5 points. 3 of 3 comparisons stay undecided; " in choice


def idle(nets: int, stuck: int, diverged: int = 0) -> Made:
    """ReLU and ELU at chance; of all nets so many stuck, then so many diverged."""
    places = [(label, seed) for seed in range(nets // 2) for label in ("relu", "elu")]
    return made(
        {label: [0.1] * (nets // 2) for label in ("relu", "elu")},
        outcomes=dict.fromkeys(places[stuck : stuck + diverged], "diverged"),
        extra={place: {"stuck": True} for place in places[:stuck]},
    )


def test_where_no_net_learned_that_is_told_first_and_nothing_of_accuracies() -> None:
    study = idle(16, 16)
    assert answer(study)[0] == (
        "None of the 16 nets learned: their final training accuracy is not above chance (stuck)."
    )
    assert not any("accuracy was" in told or "mean test accuracy" in told for told in answer(study))
    assert not any("test accuracy" in told for told in findings(study))
    (card,) = cards_of(study, differences(study))
    assert (card["verdict"], card["more"]) == ("no verdict", "In all pairs both nets were stuck.")
    rows = differences_table(study, differences(study)).rows
    assert rows[0][-1].text == "no verdict: in all pairs both nets were stuck"
    accuracies = [row[1] for row in summary_table(study, summary(study)).rows]
    assert [(cell.best, cell.mark) for cell in accuracies] == [(False, "")] * 2
    assert answer(idle(16, 12, 4))[0] == (
        "None of the 16 nets learned: 12 with a final training accuracy not above chance (stuck), 4 diverged."
    )
    assert answer(idle(4, 0, 4))[0] == "None of the 4 nets learned: all diverged."


def test_where_most_nets_did_not_learn_it_is_told_how_many() -> None:
    first, *rest = answer(idle(16, 11, 2))
    assert first.startswith(
        "13 of 16 nets did not learn: 11 with a final training accuracy not above chance (stuck), 2 diverged; "
    )
    assert any("mean test accuracy" in told for told in rest)
    assert not any("did not learn" in told for told in answer(idle(16, 8)))
    (card,) = cards_of(idle(16, 11, 2), differences(idle(16, 11, 2)))
    assert "both nets" not in card["more"]


def test_one_activation_that_cannot_die_is_told_alone() -> None:
    (only,) = answer(made({"elu": [0.9, 0.8]}, baseline=None))
    assert only == "ELU reached a mean test accuracy of 85.0 %, over 2 trials; there is nothing to compare it with."


def test_accuracies_on_different_data_choose_no_activation() -> None:
    *_, choice = answer(tasks(6, seeds=8))
    assert re.match("Over 6 data sets together, against ReLU, by bootstrap intervals .*: ELU [+]2[.]", choice)
    assert "Ranked on each of 6 data sets" in choice


def test_seeds_that_would_tell_are_those_of_what_was_seen_and_more_than_there_are() -> None:
    row = {"mean": -0.8, "margin": 0.005, "n": 10, "pairs_to_decide": 11.0, "pairs_to_resolve": 50_000.0}
    row["pairs_needed"] = np.nan
    assert seeds_to_tell(row) == 11
    assert seeds_to_tell({**row, "mean": 0.001, "pairs_to_resolve": 40.0}) == 40
    assert seeds_to_tell({**row, "n": 20}) == 21
    assert seeds_to_tell({**row, "n": 4, "pairs_to_decide": 6.0, "pairs_needed": 7.0}) == 7  # six reach no verdict
    assert np.isnan(seeds_to_tell({**row, "pairs_to_decide": np.nan}))


def union() -> Made:
    """A study of five axes, as a union of grids makes it: three activations in one setting, two or one in others."""
    base = {"train.optimizer": "sgd", "train.optimizer.lr": 0.01, "dataset": "digits", "train.epochs": 20, "init": "he"}
    fast = base | {"train.optimizer": "sgd(lr=0.1)", "train.optimizer.lr": 0.1, "train.epochs": 2}
    adam = base | {"train.optimizer": "adam(lr=0.1)", "train.optimizer.lr": 0.1}
    settings = [(adam, "relu"), (fast, "relu"), (fast, "elu"), (base, "relu"), (base, "elu"), (base, "tanh")]
    places = {f"{label}-{number}": where for number, (where, label) in enumerate(settings)}
    study = made({name: [0.9, 0.91, 0.92] for name in places})
    trials = study.trials.assign(
        **{axis: study.trials["activation"].map(lambda n, a=axis: places[n][a]) for axis in base}
    )
    trials["activation"] = trials["activation"].str.partition("-")[0]
    return replace(study, trials=trials, axes=["activation", *base])


def test_a_setting_of_many_axes_is_told_by_what_it_has_uncommon() -> None:
    study = union()
    told = [setting_name(study, where) for where, _ in groups(settings(study), other_axes(study))]
    assert told == ["the common setting", "lr = 0.1, epochs = 2", "optimizer = adam, lr = 0.1"]
    assert common_setting(study) == "optimizer = sgd, lr = 0.01, dataset = digits, epochs = 20, init = he"
    table = summary_table(study, summary(study))
    assert table.headers[:2] == ["activation", "setting"]
    assert [row[1].text for row in table.rows] == [told[0]] * 3 + [told[1]] * 2 + [told[2]]
    assert common_setting(study) in table.caption


def test_a_setting_of_few_axes_is_told_whole() -> None:
    study = replace(union(), axes=["activation", "dataset", "train.epochs"])
    assert setting_name(study, {"dataset": "digits", "train.epochs": 2}) == "dataset = digits, epochs = 2"


def test_settings_that_differ_have_names_that_differ() -> None:
    study = union()
    labels = ("sgd", "sgd(lr=0.1)", "sgd(lr=0.1, momentum=0.9)", "adam(lr=0.1)", "adam")
    trials = pd.concat(
        [study.trials.assign(**{"train.optimizer": label, "train.optimizer.lr": rate}) for label, rate in
         zip(labels, (0.01, 0.1, 0.1, 0.1, 0.01), strict=True)]
    )  # fmt: skip
    study = replace(study, trials=trials.assign(trial=range(len(trials))))
    places = [where for where, _ in groups(settings(study), other_axes(study))]
    assert len({setting_name(study, where) for where in places}) == len(places) > 5


def test_optimizers_are_not_pooled_where_a_rate_varies() -> None:
    axes = ("train.optimizer", "train.optimizer.lr")
    rows = [("sgd", 0.01), ("sgd(lr=0.1)", 0.1), ("sgd(lr=1.0)", 1.0), ("adam", 0.01), ("adam(lr=0.1)", 0.1)]
    study = made({str(i): [0.9, 0.8] for i in range(len(rows))})
    places = study.trials["activation"].astype(int)
    own = {axis: [rows[i][n] for i in places] for n, axis in enumerate(axes)}
    study = replace(study, trials=study.trials.assign(activation="relu", **own), axes=["activation", *axes])
    assert numeric_axis(study) == "train.optimizer.lr"
    assert along(study, "train.optimizer.lr") == [
        ({"train.optimizer": "sgd"}, [0.01, 0.1, 1.0]),
        ({"train.optimizer": "adam"}, [0.01, 0.1]),
    ]
    assert set(over_axis(study, "train.optimizer.lr")["train.optimizer"]) == {"sgd", "adam"}
    pairs = compare_study(study, "test_accuracy", "train.optimizer.lr", 0.01)
    assert pairs.groupby("train.optimizer")["n"].agg(list).to_dict() == {"adam": [2], "sgd": [2, 2]}


def test_the_rate_that_tuning_chose_for_all_is_told() -> None:
    frame = pd.DataFrame(
        {"train.epochs": 5, "activation": ["relu", "elu"], "train.optimizer.lr": 0.1, "mean": [0.9, 0.8]}
    )
    study = SimpleNamespace(
        axes=["activation", "train.epochs", "train.optimizer.lr"], tuned_axes=["train.optimizer.lr"]
    )
    assert choice_table(cast("Any", study), frame).headers == ["activation", "lr", "mean"]


def test_a_trial_that_diverged_counts_along_an_axis_at_its_own_place_alone() -> None:
    study = made_study(("relu", "elu"), 5, 8, axis="train.optimizer.lr", values=(0.01, 0.1, 1.0))
    final = over_axis(study, "train.optimizer.lr")
    expected = final.groupby(["activation", "train.optimizer.lr"])["test_accuracy"].mean()
    assert final["outcome"].eq("diverged").sum() == 3
    rows = live_data(study).frame
    rows = rows[rows["figure"].eq("axis") & rows["metric"].eq("test_accuracy")]
    assert rows["n"].tolist() == [5] * 6
    found = rows.set_index(["activation", "x"])["mean"]
    assert [found[key] for key in expected.index] == pytest.approx(expected.tolist())
    spec = next(spec for spec in FIGURES if spec.name == "axis_sensitivity")
    figure = draw_figure(spec, study)
    assert figure is not None
    heights = [line.get_ydata().tolist() for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 3]
    for label in ("relu", "elu"):
        assert any(np.allclose(own, expected[label]) for own in heights)


def test_no_two_activations_are_drawn_alike_along_an_axis() -> None:
    labels = ("leaky_relu(negative_slope=0.1)", "leaky_relu(negative_slope=0.3)")
    study = made_study(labels, 3, 4, axis="train.optimizer.lr", values=(0.01, 0.1, 1.0))
    figure = draw_figure(next(spec for spec in FIGURES if spec.name == "axis_sensitivity"), study)
    assert figure is not None
    looks = {(line.get_color(), str(line.get_linestyle())) for line in figure.legends[0].get_lines()}
    assert len(looks) == len(labels)


@pytest.mark.parametrize(
    ("gains", "told"),
    [
        ([1.41421, 1.41421, 1.5927, 1.5927], "ReLU 1.41, Tanh 1.59"),
        ([1.0, 1.41421, 1.5927, 1.0], "ReLU 1 or 1.41, Tanh 1.59 or 1"),
        ([1.0, 1.0, 1.0, 1.0], ""),
        ([math.nan, math.nan, math.nan, math.nan], ""),
    ],
)
def test_gains_are_told_where_they_differ(gains: list[float], told: str) -> None:
    trials = pd.DataFrame({"activation": ["relu", "relu", "tanh", "tanh"], "gain": gains})
    assert gains_told(cast(Any, SimpleNamespace(trials=trials))) == told


def test_silent_units_are_judged_among_rectifiers_alone() -> None:
    """A sigmoid's unit that is off passes as much as any other."""
    study = made_study(("relu", "leaky_relu", "sigmoid"), 8, 3, accidents=False)
    layers = study.layers.merge(study.trials[["trial", "activation", "seed"]], on="trial")
    off = {"relu": 0.3, "leaky_relu": 0.1, "sigmoid": 0.6}
    study.layers["off_fraction"] = (layers["activation"].map(off) + 0.001 * layers["seed"]).where(
        layers["site"].notna()
    )
    found = compare_study(study, "off_fraction", margins={"off_fraction": 0.02}).set_index("activation")
    assert found["verdict"].to_dict() == {"leaky_relu": "better", "sigmoid": "no judgement"}
    assert found.loc["sigmoid", ["p_beyond", "p_equal"]].isna().all()
    assert found.loc["sigmoid", "mean"] == pytest.approx(0.3)
    table = summary_table(study, summary(study))
    column = table.headers.index("off %")
    assert [row[column].mark for row in table.rows] == ["", "better", ""]


def test_no_verdict_is_given_where_all_nets_of_a_side_diverged() -> None:
    study = made_study(("relu", "leaky_relu"), 8, 3, accidents=False)
    lost = study.trials["activation"] == "leaky_relu"
    study = replace(study, trials=study.trials.assign(outcome=study.trials["outcome"].mask(lost, "diverged")))
    frame = differences(study)
    cells = {row[1].text: row[-1].text for row in differences_table(study, frame).rows}
    assert {cells[name] for name in cells if name != "test accuracy"} == {"no verdict: all nets of Leaky ReLU diverged"}


def test_a_target_that_differs_between_settings_stands_beside_its_steps() -> None:
    study = made_study(("relu", "tanh"), 4, 6, axis="depth", values=(2, 4), accidents=False)
    deep = study.epochs["trial"].map(study.trials.set_index("trial")["depth"]) == 4
    low = study.epochs["probe_accuracy"].where(~deep, 0.1 + (study.epochs["probe_accuracy"] - 0.1) / 2)
    own = replace(study, epochs=study.epochs.assign(probe_accuracy=low))
    table = summary_table(own, summary(own))
    column = next(i for i, header in enumerate(table.headers) if header.startswith("steps to"))
    goals = {row[column].text.partition(" to ")[2] for row in table.rows}
    assert len(goals) == 2
    assert all(re.fullmatch(r"\d\d\.\d %", goal) for goal in goals)
    alone = made_study(("relu", "tanh"), 4, 6, accidents=False)
    table = summary_table(alone, summary(alone))
    assert not any(" to " in row[column - 1].text for row in table.rows)
    assert re.search(r"Steps: median to 95 % of the way .* of ReLU \(\d\d\.\d %\)\.", table.caption)


def test_all_targets_of_a_config_are_tested() -> None:
    study = replace(planted(10), targets={"test_accuracy": [0.5, 0.8]})
    found = differences(study)
    times = found[found["metric"].str.startswith("steps_to_")]
    assert times["metric"].value_counts().to_dict() == {
        "steps_to_test_accuracy_0.5": 3, "steps_to_test_accuracy_0.8": 3}  # fmt: skip
    assert times["p_smallest"].nunique() == 1
    assert times["p_smallest"].iloc[0] == pytest.approx(6 * 2 / 2**10)


def test_the_sentence_on_deaths_says_how_many_came_back() -> None:
    study = made_study(("relu",), 4, 8, accidents=False)
    died = study.units[study.units["died_at_step"].notna()]
    shares = 1 - died["dead_at_end"].astype(float).groupby(died["trial"]).mean()
    sentence = next(told for told in findings(study) if "came" in told or "alive again" in told)
    assert f"Of those that died in training {100 * shares.mean():.1f} % [" in sentence
    assert sentence.endswith(f"were alive again at its end ({len(shares)} nets with deaths).")
