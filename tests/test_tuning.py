"""A fair fight and stated expectations: which trials choose, what is chosen, what is put down beforehand."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from made_results import made
from rich.console import Console

import reluexp
from reluexp.catalogue.activations import ACTIVATIONS
from reluexp.config import load_config
from reluexp.config.inference import TUNING_OFFSET, Hypothesis
from reluexp.cost import measure_cost
from reluexp.engine import Resources
from reluexp.errors import ConfigError
from reluexp.foretold import foretold
from reluexp.planning.plan import make_trials
from reluexp.planning.tuning import choices, for_choosing, for_comparing, shown_axes
from reluexp.registration import digest, register
from reluexp.report.tables.verdicts import choice_table, hypotheses_table
from reluexp.report.terminal import shown
from reluexp.stats import compare_study, hypothesis_table
from reluexp.store import Shard

TUNED: dict[str, Any] = {
    "study": "t",
    "dataset": {"name": "digits", "train_size": 200, "test_size": 60, "validation": 0.2},
    "architecture": {"width": [8]},
    "train": {"epochs": 1},
    "seeds": 3,
    "tune": {"over": ["train.optimizer.lr"], "seeds": 2},
    "grid": [{"activation": ["relu", "elu"], "train.optimizer.lr": [0.001, 0.1, 0.5]}],
}


def scored(config: dict[str, Any], score: Any) -> dict[str, float]:
    """A score for every trial of the first phase, made from its activation and rate."""
    trials = make_trials(for_choosing(load_config(config)))
    return {t.id: score(t.point.setting.activation.name, t.point.setting.train.optimizer.lr) for t in trials}


def test_candidates_are_trained_with_seeds_of_their_own() -> None:
    trials = make_trials(for_choosing(load_config(TUNED)))
    assert len(trials) == 2 * 3 * 2
    assert {trial.seed for trial in trials} == {TUNING_OFFSET, TUNING_OFFSET + 1}


def test_each_activation_gets_its_own_best_setting_and_the_studys_seeds() -> None:
    scores = scored(TUNED, lambda name, lr: -abs(lr - (0.1 if name == "relu" else 0.5)))
    trials = make_trials(for_comparing(load_config(TUNED), scores))
    found = {(t.point.setting.activation.name, t.point.setting.train.optimizer.lr) for t in trials}
    assert found == {("relu", 0.1), ("elu", 0.5)}
    assert sorted({trial.seed for trial in trials}) == [0, 1, 2]


def test_losses_are_minimised_ties_take_the_first_and_failures_are_not_chosen() -> None:
    by_loss = {**TUNED, "tune": {**TUNED["tune"], "metric": "validation_loss"}}
    assert choices(load_config(by_loss), scored(by_loss, lambda name, lr: lr))[0].best == 0
    assert choices(load_config(TUNED), scored(TUNED, lambda name, lr: 0.5))[0].best == 0
    failing = scored(TUNED, lambda name, lr: math.nan if lr == 0.5 else lr)
    assert choices(load_config(TUNED), failing)[0].best == 1
    assert choices(load_config(TUNED), scored(TUNED, lambda name, lr: math.nan))[0].best == 0


def test_axes_that_a_tuned_one_lies_in_do_not_tell_candidates_apart() -> None:
    adam = {"activation": ["relu"], "train.optimizer": [{"name": "adam", "lr": 0.02}]}
    config = {**TUNED, "grid": [*TUNED["grid"], adam]}
    found = choices(load_config(config), scored(config, lambda name, lr: lr))
    assert [len(choice.candidates) for choice in found] == [3, 3]
    point = found[0].candidates[2]
    assert shown_axes(point, ["train.optimizer.lr"]) == {
        **{"activation": "relu", "train.optimizer.lr": "tuned", "train.optimizer": "sgd(tuned)"}
    }


def test_nothing_is_chosen_before_all_candidates_are_known() -> None:
    scores = scored(TUNED, lambda name, lr: lr)
    del scores[next(iter(scores))]
    loaded = for_comparing(load_config(TUNED), scores)
    assert [point.setting.activation.name for point in loaded.points] == ["elu"]


def test_other_grids_of_a_union_are_left_as_they_are() -> None:
    config = {**TUNED, "grid": [*TUNED["grid"], {"activation": ["relu"], "train.optimizer.lr": [0.5]}]}
    scores = scored(config, lambda name, lr: -lr)
    points = for_comparing(load_config(config), scores).points
    found = {(point.setting.activation.name, point.setting.train.optimizer.lr) for point in points}
    assert found == {("relu", 0.5), ("relu", 0.001), ("elu", 0.001)}
    wide = [*TUNED["grid"], {"activation": ["tanh"], "train.optimizer.lr": [0.2, 0.3]}]
    named = {**config, "grid": wide, "tune": {**TUNED["tune"], "grids": [0]}}
    points = for_comparing(load_config(named), scored(named, lambda name, lr: lr)).points
    assert sum(point.setting.activation.name == "tanh" for point in points) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tune": {"over": ["activation"]}}, "axes other than the activation"),
        ({"tune": {"over": ["train.batch_size"]}}, "allowed: train.optimizer.lr"),
        ({"dataset": "digits"}, "no validation split"),
        ({"tune": {"over": ["train.optimizer.lr"], "grids": [1]}}, "places of the grids, 0 to 0"),
        ({"seeds": [1, TUNING_OFFSET + 1]}, "other seeds"),
        ({"hypotheses": [{"metric": "test_acuracy", "activation": "elu", "direction": "less"}]}, "test_accuracy"),
        ({"hypotheses": [{"metric": "test_accuracy", "activation": "tanh", "direction": "less"}]}, "relu, elu"),
        ({"hypotheses": [{"metric": "test_accuracy", "direction": "less"}]}, "either `activation`"),
        ({"hypotheses": [{"metric": "test_accuracy", "by": "depth", "level": 2, "against": 3, "direction": "less"}]},
         "hypotheses[0].by"),
        ({"hypotheses": [{"metric": "test_accuracy", "activation": "relu", "direction": "less"}]},
         "hypotheses[0].activation: got 'relu', which it is compared with"),
        ({"hypotheses": [{"metric": "test_accuracy", "by": "train.lr", "level": 0.5, "against": 0.5,
                          "direction": "less"}]}, "train.optimizer.lr', whose value tuning chooses"),
        ({"margins": {"test_acc": 0.1}}, "did you mean 'test_accuracy'?"),
        ({"margins": {"dead_fractoin": 0.1}}, "did you mean 'dead_fraction'?"),
        ({"margins": {"test_accuracy": 5}}, "got 5; allowed: a share below 1, such as 0.05 for 5 %"),
    ],
)  # fmt: skip
def test_what_the_grid_cannot_serve_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config({**TUNED, **change})
    assert words in str(error.value)


@pytest.mark.usefixtures("inline")
def test_a_tuned_study_end_to_end(tmp_path: Path) -> None:
    expected = [{"metric": "test_accuracy", "activation": "elu", "direction": "greater"}]
    config = {**TUNED, "hypotheses": expected}
    study = reluexp.run(config, tmp_path, workers=1)
    table = study.sensitivity()
    assert len(table) == 6
    assert table.groupby("activation")["chosen"].sum().tolist() == [1, 1]
    assert study.axes == ["activation"]
    own = study.trials.groupby("activation")["lr"].unique()
    chosen = study.choice().set_index("activation")
    for label in ("relu", "elu"):
        best = table[table["activation"] == label].sort_values("mean", kind="stable")["mean"].iloc[-1]
        assert own[label].tolist() == [chosen.loc[label, "train.optimizer.lr"]]
        assert chosen.loc[label, "mean"] == best
    at_edge = chosen[chosen["at_edge"]]
    assert (at_edge["train.optimizer.lr"].isin([0.001, 0.5])).all()
    assert at_edge["warning"].str.contains("widen the grid").all()
    compared = study.compare("test_accuracy")
    assert compared["n"].tolist() == [3]
    assert compared["kind"].tolist() == ["confirmatory"]
    assert study.hypotheses()["kind"].tolist() == ["confirmatory"]
    console = Console(width=160, record=True, file=io.StringIO())
    for part in shown(study, console):
        console.print(part)
    assert re.search(
        "undecided +test accuracy: elu above relu by more than 0.5 points +confirmatory", console.export_text()
    )
    drawn = study.plot.tuning().axes[0].get_lines()
    diamonds = {line.get_color(): line.get_xdata().tolist() for line in drawn if line.get_marker() == "D"}
    assert diamonds == {ACTIVATIONS[label].colour: own[label].tolist() for label in ("relu", "elu")}
    claims = study.claims().set_index("claim")
    assert len(claims) == 13
    assert "tuned" in claims.loc["sparsity", "numbers"]
    console = Console(width=120, file=io.StringIO(), markup=False, highlight=False)
    for part in shown(study, console):
        console.print(part)
    rates = chosen["train.optimizer.lr"]
    edges = {label: " (at the grid's edge)" if chosen.loc[label, "at_edge"] else "" for label in rates.index}
    told = f"chosen by tuning: ReLU: lr {rates['relu']}{edges['relu']}; ELU: lr {rates['elu']}{edges['elu']}"
    assert told in console.file.getvalue()  # type: ignore[attr-defined]
    late = [*expected, {"metric": "test_loss", "activation": "elu", "direction": "less"}]
    again = reluexp.run({**config, "hypotheses": late}, tmp_path, workers=1)
    assert again.hypotheses()["kind"].tolist() == ["confirmatory", "exploratory"]
    assert again.compare("test_loss")["kind"].tolist() == ["exploratory"]


@pytest.mark.usefixtures("inline")
def test_a_trial_that_a_grid_asks_for_and_tuning_chose_counts_for_both(tmp_path: Path) -> None:
    rates = TUNED["grid"][0]["train.optimizer.lr"]
    grids = [*TUNED["grid"], {"activation": ["relu"], "train.optimizer.lr": rates}]
    study = reluexp.run({**TUNED, "tune": {**TUNED["tune"], "grids": [0]}, "grid": grids}, tmp_path, workers=1)
    best = study.choice().set_index("activation").loc["relu", "train.optimizer.lr"]
    relu = study.trials[study.trials["activation"] == "relu"]
    chosen, asked = (relu[relu["train.optimizer.lr"] == value].reset_index(drop=True) for value in ("tuned", best))
    assert chosen["seed"].tolist() == asked["seed"].tolist() == [0, 1, 2]
    assert chosen["dead_fraction"].tolist() == asked["dead_fraction"].tolist()
    assert study.trials["trial"].is_unique
    assert len(study.trials) == 3 + 3 + 3 * len(rates)
    curves = [
        study.epochs.loc[study.epochs["trial"].eq(own["trial"][0]), "test_loss"].tolist() for own in (chosen, asked)
    ]
    assert curves[0] == curves[1] != []
    row = study.compare("test_accuracy").set_index("train.optimizer.lr").loc["tuned"]
    assert row["n"] == 3
    x, _ = study.probe(chosen["trial"][0])
    assert study.model(chosen["trial"][0])(x).equal(study.model(asked["trial"][0])(x))


def test_a_changed_hypothesis_is_another_and_an_old_one_keeps_its_entry() -> None:
    first = Hypothesis(metric="test_accuracy", activation="elu", direction="greater")
    other = first.model_copy(update={"direction": "less"})
    assert digest(first) != digest(other)
    assert digest(first) != digest(first, {"accuracy": 0.1})
    config = load_config({**TUNED, "hypotheses": [first.model_dump(exclude_none=True)]}).config
    before = register(config, None, 0)
    assert register(config, before, 99) == before
    assert next(iter(register(config, None, 7).values()))["trials_ended"] == 7


def test_a_hypothesis_that_definitions_decide_is_not_tested() -> None:
    dead = {"relu": 1.0, "relu6": 0.5, "leaky_relu": 0.0}
    extra = {(label, n): {"dead_fraction": share * (n + 1) / 100} for label, share in dead.items() for n in range(10)}
    study = made(dict.fromkeys(dead, [0.9] * 10), extra=extra)
    stated = [
        Hypothesis(metric="dead_fraction", activation=label, direction="less", margin=0.001)
        for label in ("leaky_relu", "relu6")
    ]
    found = hypothesis_table(study, stated)
    assert found["verdict"].tolist() == ["not tested here", "supported"]
    compared = compare_study(study, "dead_fraction").set_index("activation")
    assert compared.loc["leaky_relu", "verdict"] == "by definition"
    assert compared.loc["leaky_relu", ["p", "p_holm"]].isna().all()
    assert compared.loc["relu6", "p_holm"] < 0.01
    assert found["statement"].iloc[0].endswith("(by definition: leaky_relu cannot be dead exactly)")


def test_hypotheses_get_the_right_words() -> None:
    base = [0.9 + 0.001 * seed for seed in range(10)]
    study = made({"relu": base, "elu": [v + 0.02 for v in base], "tanh": base, "selu": [v - 0.02 for v in base]})
    stated = [
        Hypothesis(metric="test_accuracy", activation=label, direction=direction)
        for label, direction in (("elu", "greater"), ("tanh", "equal"), ("selu", "greater"), ("tanh", "greater"))
    ]
    found = hypothesis_table(study, stated, confirmatory=[0])
    assert found["verdict"].tolist() == ["supported", "supported", "contradicted", "contradicted"]
    assert found["kind"].tolist() == ["confirmatory", *["exploratory"] * 3]
    slope = {"name": "leaky_relu", "negative_slope": 0.3}
    mapping = made({"relu": base, "leaky_relu(negative_slope=0.3)": [v + 0.02 for v in base]})
    row = hypothesis_table(mapping, [Hypothesis(metric="test_accuracy", activation=slope, direction="greater")]).iloc[0]
    assert (row["level"], row["verdict"]) == ("leaky_relu(negative_slope=0.3)", "supported")
    few = made({"relu": base[:3], "elu": [v + 0.02 for v in base[:3]]})
    row = hypothesis_table(few, stated[:1]).iloc[0]
    assert row["verdict"] == "undecided"
    assert row["seeds_to_decide"] >= 5


def test_a_hypothesis_on_several_settings_says_so() -> None:
    finals = {"relu": [0.5 + 0.01 * seed for seed in range(8)], "elu": [0.6 + 0.01 * seed for seed in range(8)]}
    stated = [Hypothesis.model_validate({"metric": "test_accuracy", "activation": "elu", "direction": "greater"})]
    one = made(finals)
    deep = {
        "trials": one.trials.assign(trial=one.trials["trial"] + "d"),
        "epochs": one.epochs.assign(trial=one.epochs["trial"] + "d"),
    }
    deep["epochs"].loc[deep["epochs"]["trial"].str.startswith("elu"), ["test_accuracy"]] -= 0.05
    deep["epochs"].loc[deep["epochs"]["trial"] == "elu-0d", ["test_accuracy"]] -= 0.1
    frames = {name: pd.concat([getattr(one, name), deep[name]], ignore_index=True) for name in deep}
    frames["trials"]["depth"] = [2] * len(one.trials) + [4] * len(one.trials)
    both = replace(one, axes=["activation", "depth"], **frames)
    for study, several in ((one, False), (both, True)):
        table = hypotheses_table(study, hypothesis_table(study, stated))
        assert ("settings" in table.headers) is several
        assert ("must hold in each" in table.caption) is several
    row = dict(zip(table.headers, table.rows[0], strict=True))
    assert (row["settings"].text, row["difference"].text) == ("2", "+3.75")


@pytest.mark.usefixtures("inline")
def test_fresh_forgets_a_study_whose_tuning_has_nothing_to_choose(tmp_path: Path) -> None:
    grids = [
        {"activation": ["relu"], "train.optimizer.lr": [0.1]},
        {"activation": ["elu"], "train.optimizer.lr": [0.1, 1]},
    ]
    config = {**TUNED, "tune": {"over": ["train.optimizer.lr"], "seeds": 1, "grids": [0]}, "grid": grids, "seeds": 1}
    reluexp.run(config, tmp_path, workers=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "t" / "stacks").glob("*/stack.json")}
    reluexp.run(config, tmp_path, workers=1, fresh=True)
    assert before
    assert all(path.stat().st_mtime_ns > then for path, then in before.items())


@pytest.mark.usefixtures("inline")
def test_plan_foretells_both_phases(tmp_path: Path) -> None:
    grid = {"activation": ["relu", "elu"], "train.optimizer.lr": [0.1, 1]}
    config = {**TUNED, "tune": {"over": ["train.optimizer.lr"], "seeds": 1}, "grid": grid, "seeds": 3}

    def told() -> list[str]:
        return list(foretold(load_config(config), tmp_path, Resources()))

    first, then, *rest = told()
    assert first == "t: 4 trials at 4 settings, 4 to do"
    assert then == "these choose train.optimizer.lr; then 6 trials compare what was chosen, 6 to do"
    assert any(sentence.startswith("estimate: ") for sentence in rest)
    reluexp.run(config, tmp_path, workers=1)
    assert [sentence.rpartition(", ")[2] for sentence in told()[:2]] == ["0 to do"] * 2
    config["seeds"] = 5
    assert [sentence.rpartition(", ")[2] for sentence in told()[:2]] == ["0 to do", "4 to do"]


@pytest.mark.usefixtures("inline")
def test_activations_of_a_tuned_study_are_timed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reluexp.cost.measure_cost", partial(measure_cost, sizes=(1 << 8,), blocks=1))
    study = reluexp.run({**TUNED, "cost": True}, tmp_path, workers=1)
    assert set(study.cost["activation"]) == {"relu", "elu"}


@pytest.mark.usefixtures("inline")
def test_activations_that_cannot_be_timed_cost_their_times_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any, **named: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr("reluexp.cost.measure_cost", broken)
    notes: list[str] = []
    config = {key: value for key, value in TUNED.items() if key != "tune"}
    study = reluexp.run(
        {**config, "cost": True}, tmp_path, workers=1,
        listener=lambda event: notes.append(event["text"]) if event["event"] == "note" else None,
    )  # fmt: skip
    assert study.missing == 0
    assert any("could not be timed, which `cost: true` asks for: " in note and "no" in note for note in notes)


@pytest.mark.usefixtures("inline")
def test_a_run_that_is_only_foretold_heeds_fresh_and_shards(tmp_path: Path) -> None:
    config = {key: value for key, value in TUNED.items() if key != "tune"}
    reluexp.run(config, tmp_path, workers=1)

    def told(fresh: bool = False, shard: str | None = None) -> str:
        part = Shard.parse(shard) if shard else None
        return next(iter(foretold(load_config(config), tmp_path, Resources(), fresh, part)))

    assert told() == "t: 18 trials at 6 settings, 0 to do"
    assert told(fresh=True) == "t: 18 trials at 6 settings, 18 to do"
    parts = [int(told(shard=f"{number}/2").split()[1]) for number in (1, 2)]
    assert min(parts) > 0
    assert sum(parts) == 18
    with pytest.raises(ConfigError, match="--fresh with --shard would remove"):
        told(True, "1/2")


@pytest.mark.usefixtures("inline")
def test_scores_are_told_as_what_was_tuned_by(tmp_path: Path) -> None:
    config = {**TUNED, "tune": {**TUNED["tune"], "metric": "validation_loss"}}
    study = reluexp.run(config, tmp_path, workers=1)
    table = choice_table(study, study.choice())
    scores = [row[table.headers.index("score")].text for row in table.rows]
    assert not any("%" in score for score in scores)


@pytest.mark.slow
def test_a_first_shard_of_a_tuned_study_ends_well(tmp_path: Path) -> None:
    grid = {"activation": ["relu", "elu"], "train.optimizer.lr": [0.1, 1]}
    config = {**TUNED, "tune": {"over": ["train.optimizer.lr"], "seeds": 1}, "grid": grid, "seeds": 1}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(config))
    words = [sys.executable, "-m", "reluexp", "run", "t.yaml", "--shard", "1/2", "--quiet"]
    found = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    text = "other shards have not chosen yet; run this shard again when they have"
    assert (found.returncode, found.stdout) == (0, f"{Path('results/t')}: {text}\n")
