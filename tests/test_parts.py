"""A part of a study has the numbers that it has in the whole."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import reluexp
from reluexp.claims import claim_table
from reluexp.errors import ConfigError
from reluexp.report import write_report
from reluexp.report.style import Style, styled

LEAKY = {"name": "leaky_relu", "negative_slope": 0.1}
CONFIG: dict[str, Any] = {
    "study": "whole",
    "dataset": {"name": "digits", "train_size": 200, "test_size": 60, "validation": 0.2},
    "architecture": {"width": [8]},
    "train": {"epochs": 1},
    "seeds": 3,
    "hypotheses": [{"metric": "test_accuracy", "activation": "elu", "direction": "greater"}],
    "grid": {"activation": ["relu", LEAKY, "elu"], "train.optimizer.lr": [0.01, 0.1]},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> reluexp.Study:
    from inline import inline

    with inline():
        return reluexp.run(CONFIG, tmp_path_factory.mktemp("parts"), workers=1)


def test_its_tables_are_the_rows_of_the_whole(whole: reluexp.Study) -> None:
    part = whole.only(activation=["relu", LEAKY], lr=0.1)
    rows = whole.trials[
        whole.trials["activation"].isin(["relu", "leaky_relu(negative_slope=0.1)"])
        & whole.trials["train.optimizer.lr"].eq(0.1)
    ]
    assert part.trials["trial"].tolist() == rows["trial"].tolist()
    for name in ("epochs", "layers", "units"):
        table = getattr(whole, name)
        expected = table[table["trial"].isin(rows["trial"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(getattr(part, name), expected)
    assert (part.missing, whole.missing) == (0, 0)
    assert "only activation relu or leaky_relu(negative_slope=0.1), lr 0.1" in repr(part)
    assert part.notes()[0].startswith("a part of the study: ")


def test_values_may_come_as_a_notebook_has_them(whole: reluexp.Study) -> None:
    one = whole.only(lr=0.1).trials["trial"].tolist()
    rates = whole.trials["train.optimizer.lr"]
    for given in (np.array([0.1]), rates[rates == 0.1], rates[rates == 0.1].unique(), {0.1}, "0.1", (0.1,)):
        assert whole.only(lr=given).trials["trial"].tolist() == one
    assert whole.only(seed=range(2)).trials["seed"].unique().tolist() == [0, 1]
    for given, words in (([], "got no value"), (0.3, "got 0.3; allowed: 0.01, 0.1"), ("x", "got 'x'")):
        with pytest.raises(ConfigError, match=words):
            whole.only(lr=given)
    with pytest.raises(ConfigError, match=r"only\(activation='relu'\)"):
        whole.only("relu")  # type: ignore[arg-type]


def test_it_can_be_sent_to_another_process(whole: reluexp.Study) -> None:
    part = whole.only(lr=0.1)
    again = pickle.loads(pickle.dumps(part))
    pd.testing.assert_frame_equal(again.trials, part.trials)
    assert repr(again) == repr(part)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(whole)).layers, whole.layers)


def test_its_report_takes_not_the_place_of_the_wholes(whole: reluexp.Study, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out: a part of a study needs a folder"):
        write_report(whole.only(lr=0.1), formats="csv")
    assert (write_report(whole.only(lr=0.1), str(tmp_path), "csv,md") / "tables" / "summary.md").is_file()
    with pytest.raises(ConfigError, match=r"a study, as reluexp\.load gives it; got: str"):
        write_report("results/whole")  # type: ignore[arg-type]


def test_what_has_no_value_in_any_trial_cannot_be_compared(whole: reluexp.Study) -> None:
    with pytest.raises(ConfigError, match="'learned_slope_mean' has no value in any trial"):
        whole.compare("learned_slope_mean")
    with pytest.raises(ConfigError) as caught:
        whole.compare("validation_los")
    assert "learned_slope_mean" not in str(caught.value)


def test_styles_may_be_rcparams(whole: reluexp.Study, tmp_path: Path) -> None:
    wrong: list[tuple[Any, str]] = [({"axes.titelsize": 9}, "did you mean 'axes.titlesize'"), (3, "got: int")]
    for style, words in [*wrong, ("no.mplstyle", "no such file")]:
        with pytest.raises(ConfigError, match=words):
            write_report(whole, tmp_path, ["png"], style)
    with pytest.raises(ConfigError, match="'figsize': a figure takes ax, width"):
        whole.plot.final_accuracy(figsize=(3, 2))
    assert styled(Style(), {"figure.figsize": (4, 3), "font.size": 7}).width == 4


def test_comparisons_are_those_of_the_whole_and_families_those_of_the_part(whole: reluexp.Study) -> None:
    part = whole.only(activation=["relu", "elu"]).only({"train.optimizer.lr": [0.1]})
    (row,) = part.compare("test_accuracy").to_dict("records")
    every = whole.compare("test_accuracy")
    (same,) = every[every["activation"].eq("elu") & every["train.optimizer.lr"].eq(0.1)].to_dict("records")
    assert (row["mean"], row["low"], row["n"]) == (same["mean"], same["low"], same["n"])
    assert row["p_smallest"] < same["p_smallest"]
    assert whole.hypotheses()["kind"].tolist() == ["confirmatory"]
    assert part.hypotheses()["kind"].tolist() == ["exploratory"]
    assert len(part.placed) == 6
    assert len(claim_table(part.evidence)) == len(claim_table(whole.evidence))


@pytest.mark.slow
def test_it_has_a_report_of_its_own(whole: reluexp.Study, tmp_path: Path) -> None:
    page = write_report(whole.only(lr=0.1), tmp_path, formats=("html", "csv"))
    assert "A part of the study: lr 0.1." in page.read_text()
    assert len(pd.read_csv(tmp_path / "tables" / "summary.csv")) == 3


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ({"activation": "elux"}, "got 'elux'; allowed: relu, leaky_relu(negative_slope=0.1), elu; did you mean 'elu'"),
        ({"depth": 3}, "got 'depth'; allowed: activation, train.optimizer.lr"),
        ({"lr": 0.2}, "lr: got 0.2; allowed: 0.01, 0.1"),
    ],
)
def test_what_there_is_not_is_refused(whole: reluexp.Study, levels: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        whole.only(levels)
    assert words in str(caught.value)


@pytest.mark.usefixtures("inline")
def test_trials_that_stand_twice_are_told_apart(tmp_path: Path) -> None:
    """One that a grid asks for and tuning chose, too, counts under a rate and as the tuned one."""
    grids = [{"activation": ["relu", "elu"], "train.optimizer.lr": [0.01, 0.1]}, {"train.optimizer.lr": [0.01, 0.1]}]
    tune = {"over": ["train.optimizer.lr"], "seeds": 1, "grids": [0]}
    study = reluexp.run({**CONFIG, "grid": grids, "tune": tune, "hypotheses": []}, tmp_path, workers=1)
    assert study.trials.groupby("train.optimizer.lr", sort=False).size().to_dict() == {0.01: 3, 0.1: 3, "tuned": 6}
    assert len(study.only(lr="tuned").trials) == 6
    assert {own.tuned for own in study.only(lr="tuned").placed} == {True}
    assert {own.tuned for own in study.only(lr=[0.01, 0.1]).placed} == {False}


@pytest.mark.usefixtures("inline")
def test_a_study_is_read_on_wherever_its_reader_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"study": "s", "dataset": {"name": "digits", "train_size": 100}, "train": {"epochs": 0}, "seeds": 1}
    made, found = reluexp.run(config, "results"), reluexp.load("results/s")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for study in (made, found):
        assert len(study.layers) > 0
        assert study.model(study.trials["trial"][0])
    assert list((tmp_path / "elsewhere").iterdir()) == []
