"""A part of a study has the numbers that it has in the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import reluexp
from reluexp.claims import claim_table
from reluexp.errors import ConfigError
from reluexp.report import write_report

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
