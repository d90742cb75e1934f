"""Trials of earlier configs: left out unless asked for; then pairs are still equal in every axis but one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from inline import inline

import reluexp
from reluexp.catalogue.registry import Options
from reluexp.config import Setting, load_config
from reluexp.planning.earlier import axes_of, shown_at
from reluexp.report import write_report
from reluexp.report.figures import FIGURES
from reluexp.store.files import seal

BASE: dict[str, Any] = {
    "study": "s",
    "dataset": {"name": "digits", "train_size": 200, "test_size": 60},
    "architecture": {"width": [8, 8]},
    "train": {"epochs": 2},
    "seeds": 3,
    "grid": {"activation": ["relu", "elu"]},
}
CHANGED = {
    **BASE,
    "train": {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.02}},
    "seeds": 2,
    "grid": {"activation": ["elu", "tanh"], "init.gain": [1.0, "auto"]},
    "baseline": {"activation": "elu"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One study run with two configs, the results of each alone beside it."""
    folder = tmp_path_factory.mktemp("earlier")
    with inline():
        reluexp.run(BASE, folder / "first")
        shutil.copytree(folder / "first", folder / "both")
        reluexp.run(CHANGED, folder / "both")
        reluexp.run(CHANGED, folder / "second")
    return folder


def test_only_what_the_config_asks_for_unless_told_otherwise(folder: Path) -> None:
    study, whole = reluexp.load(folder / "both" / "s"), reluexp.load(folder / "both" / "s", earlier=True)
    apart = [reluexp.load(folder / name / "s").trials for name in ("first", "second")]
    assert set(study.trials["trial"]) == set(apart[1]["trial"])
    assert set(whole.trials["trial"]) == set(apart[0]["trial"]) | set(apart[1]["trial"])
    assert set(whole.trials[whole.trials["asked"]]["trial"]) == set(apart[1]["trial"])
    assert "6 trials of earlier configs" in " ".join(study.notes())
    assert "6 of 14 trials were asked for by earlier configs" in " ".join(whole.notes())


def test_what_differs_between_the_configs_is_an_axis(folder: Path) -> None:
    whole = reluexp.load(folder / "both" / "s", earlier=True)
    assert whole.axes == ["activation", "init.gain", "train.optimizer.lr"]
    rows = whole.trials[["activation", "init.gain", "train.optimizer.lr", "seed", "asked"]]
    assert not rows.drop(columns="asked").astype(str).duplicated().any()
    told = set(rows[~rows["asked"]].astype(str).groupby(["init.gain", "train.optimizer.lr"]).groups)
    assert told == {("auto", "0.05")}


def test_pairs_are_equal_in_all_axes_but_one(folder: Path) -> None:
    """By hand, from the two configs run apart: ELU − ReLU only where both were trained, seed by seed."""
    first = reluexp.load(folder / "first" / "s")
    last = first.epochs[first.epochs["epoch"] == 2].merge(first.trials[["trial", "activation", "seed"]], on="trial")
    by_seed = last.pivot(index="seed", columns="activation", values="test_accuracy")
    whole = reluexp.load(folder / "both" / "s", earlier=True)
    found = whole.compare("test_accuracy", baseline="relu").set_index(["train.optimizer.lr", "activation"])
    row = found.loc[(0.05, "elu")]
    assert row["n"] == 3
    assert row["mean"] == pytest.approx((by_seed["elu"] - by_seed["relu"]).mean(), abs=1e-12)
    assert found.index.get_level_values(0).unique().tolist() == [0.05]  # ReLU was trained with no other rate
    own = whole.compare("test_accuracy", by="train.optimizer.lr", baseline=0.05)
    assert own.loc[own["activation"].eq("elu") & own["init.gain"].eq("auto"), "n"].tolist() == [2]


@pytest.mark.usefixtures("inline")
def test_nothing_is_confirmatory_beside_earlier_trials(tmp_path: Path) -> None:
    stated = [{"metric": "off_fraction", "activation": "elu", "direction": "equal"}]
    reluexp.run({**BASE, "hypotheses": stated}, tmp_path, workers=1)
    reluexp.run({**BASE, "hypotheses": stated, "seeds": 1}, tmp_path, workers=1)
    assert reluexp.load(tmp_path / "s").hypotheses()["kind"].tolist() == ["confirmatory"]
    assert reluexp.load(tmp_path / "s", earlier=True).hypotheses()["kind"].tolist() == ["exploratory"]


@pytest.mark.slow
def test_the_page_says_so_and_takes_no_other_pages_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reluexp.report.figures.FIGURES", FIGURES[:1])
    root = folder / "both" / "s"
    plain = write_report(reluexp.load(root), formats=["html"])
    whole = write_report(reluexp.load(root, earlier=True), formats=["html", "csv"])
    assert plain.parent != whole.parent
    assert "6 trials of earlier configs: kept, but not asked for and left out" in plain.read_text("utf-8")
    assert "6 of 14 trials were asked for by earlier configs" in whole.read_text("utf-8")
    assert pd.read_csv(whole.parent / "tables" / "trials.csv")["asked"].value_counts().to_dict() == {True: 8, False: 6}


def test_a_model_of_an_earlier_trial_is_there(folder: Path) -> None:
    whole = reluexp.load(folder / "both" / "s", earlier=True)
    name = whole.trials.loc[~whole.trials["asked"], "trial"].iloc[0]
    assert sum(p.numel() for p in whole.model(name).parameters()) == 64 * 8 + 8 + 8 * 8 + 8 + 8 * 10 + 10


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("settings"),
        lambda record: record.update(seeds=[seed + 1 for seed in record["seeds"]]),
        lambda record: [own.update(activation={"name": "no_longer_there"}) for own in record["settings"]],
        lambda record: [own["train"].update(epochs=3) for own in record["settings"]],
        lambda record: record.update(setting_of=[-1, 99, "x", None, [], {}]),
        lambda record: record.update(settings={"a": 1}, seeds="012345"),
    ],
)
def test_a_record_that_does_not_say_how_its_trials_were_made_is_left_out(
    folder: Path, tmp_path: Path, change: Any
) -> None:
    root = tmp_path / "s"
    shutil.copytree(folder / "both" / "s", root)
    for path in root.glob("stacks/*/stack.json"):
        record = json.loads(path.read_text())
        record.pop("seal")
        change(record)
        path.write_bytes(seal(record))
    whole = reluexp.load(root, earlier=True)
    assert set(whole.trials["trial"]) == set(reluexp.load(root).trials["trial"])
    assert "6 trials of earlier configs: their stacks do not say how they were made" in " ".join(whole.notes())


def settings_of(*changes: dict[str, Any]) -> list[Setting]:
    return [load_config({**BASE, "grid": {}, **change}).points[0].setting for change in changes]


AXES = [
    ([{}, {"architecture": {"width": [8]}}], ["architecture.width"]),
    ([{}, {"dataset": "blobs"}], ["dataset"]),
    ([{}, {"activation": {"name": "leaky_relu", "negative_slope": 0.3}}], ["activation"]),
    ([{}, {"train": {"epochs": 2, "optimizer": "adam"}, "probe": {"every": 2}}], ["train.optimizer", "probe.every"]),
    ([{}, {"train": {"epochs": 2, "save_weights": False}}], []),
    ([{"dataset": {"name": "mnist", "root": "a"}}, {"dataset": {"name": "mnist", "root": "b"}}], []),
]


@pytest.mark.parametrize(("changes", "axes"), AXES)
def test_axes_are_the_keys_that_differ_and_decide_numbers(changes: list[dict[str, Any]], axes: list[str]) -> None:
    assert axes_of(settings_of(*changes), []) == axes


def test_a_choice_is_shown_without_what_another_axis_says() -> None:
    deep, conv = settings_of({"architecture": {"width": 8, "depth": 4}}, {"dataset": "mnist", "architecture": "cnn"})
    axes = axes_of([deep, conv], ["architecture.depth"])
    assert axes == ["architecture.depth", "dataset", "architecture"]
    shown = [shown_at(own, axes, ["architecture.depth"]) for own in (deep, conv)]
    assert [own["architecture.depth"] for own in shown] == [4, None]
    assert [own["architecture"] for own in shown] == ["mlp(width=8)", "cnn"]
    assert isinstance(deep.architecture, Options)


def test_results_of_other_numerics_are_never_mixed_in(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "s"
    shutil.copytree(folder / "both" / "s", root)
    (path, *_) = root.glob("stacks/*/stack.json")
    record = json.loads(path.read_text())
    record.pop("seal")
    path.write_bytes(seal({**record, "numerics": record["numerics"] + 1}))
    for earlier in (False, True):
        study = reluexp.load(root, earlier=earlier)
        assert not set(record["trials"]) & set(study.trials["trial"])
        assert f"{len(record['trials'])} trials by a version of reluexp that computes other" in " ".join(study.notes())
