"""What a config may ask can be answered: every metric, moment and public question, on small studies of every sort."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from inline import inline

import reluexp
from reluexp.catalogue.metrics import METRICS, times_of
from reluexp.config import load_config
from reluexp.errors import ConfigError, ReluexpError
from reluexp.progress import _State
from reluexp.stats import MOMENTS, hypothesis_table

DIGITS = {"name": "digits", "train_size": 60, "test_size": 20, "validation": 0.2}
COMMON: dict[str, Any] = {"study": "s", "architecture": {"width": [4]}, "seeds": 2, "train": {"epochs": 1}}
RATES = {"activation": ["relu", "elu"], "train.optimizer.lr": [0.01, 0.1]}
SORTS: dict[str, dict[str, Any]] = {
    "classes": {"dataset": DIGITS, "grid": {"activation": ["relu", "elu"]}},
    "no_validation": {"dataset": {**DIGITS, "validation": 0}, "grid": {"activation": ["relu", "elu"]}},
    "regression": {
        "dataset": {"name": "functions", "train_size": 60, "test_size": 20, "validation": 0.2},
        "grid": {"activation": ["relu", "elu"]},
    },
    "birth": {"dataset": DIGITS, "train": {"epochs": 0}, "grid": {"activation": ["relu", "elu"]}},
    "tuned": {"dataset": DIGITS, "grid": RATES, "tune": {"over": ["train.optimizer.lr"], "seeds": 2}},
    "alone": {"dataset": DIGITS, "activation": "relu"},
    "union": {
        "dataset": DIGITS,
        "grid": [
            {
                "activation": ["relu", "elu"],
                "train.optimizer": [{"name": "adam", "lr": 0.1}, {"name": "sgd", "lr": 0.1}],
            },
            {"activation": ["relu"], "train.optimizer.lr": [0.2]},
        ],
    },
}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, reluexp.Study]:
    folder = tmp_path_factory.mktemp("accepted")
    with inline():
        return {name: reluexp.run({**COMMON, **own, "study": name}, folder, workers=1) for name, own in SORTS.items()}


@pytest.mark.parametrize("name", SORTS)
@pytest.mark.parametrize("at", MOMENTS)
def test_a_hypothesis_is_refused_or_answered(studies: dict[str, reluexp.Study], name: str, at: str) -> None:
    study, answered = studies[name], 0
    about = {"activation": "elu"} if name != "alone" else {"activation": "relu", "against": "elu"}
    for metric in [*METRICS, *times_of(None), "stuck", "collapsed_at_end"]:
        own = {"metric": metric, "direction": "greater", "at": at, **about}
        try:
            stated = load_config({**COMMON, **SORTS[name], "hypotheses": [own]}).config.hypotheses
        except ConfigError:
            continue
        assert stated
        table = hypothesis_table(study, stated, study.margins)
        assert table["verdict"].isin(["supported", "contradicted", "undecided", "not tested here"]).all()
        answered += 1
    assert answered or name == "alone" or (at == "best" and name == "no_validation")


@pytest.mark.parametrize("name", SORTS)
def test_every_question_to_a_study_has_an_answer_or_a_sentence(studies: dict[str, reluexp.Study], name: str) -> None:
    study = studies[name]
    for by in ["activation", *study.axes]:
        for ask in (study.compare, study.across):
            for metric in ("test_accuracy", "test_loss", "dead_fraction", "nonsense"):
                _asked(ask, metric, by=by)
        for other in (study.survival, study.times):
            _asked(other, by=by)
    for frame in (study.claims(), study.claim_parts(), study.hypotheses(), study.relation(), study.choice()):
        assert isinstance(frame, pd.DataFrame)
    assert name in repr(study)


def _asked(question: Any, *given: Any, **named: Any) -> None:
    with contextlib.suppress(ReluexpError):  # anything else is a fault
        question(*given, **named)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"by": "train.optimizer.lr", "level": 0.1, "against": 0.01},
            r"by: got 'train.optimizer.lr', whose value tuning",
        ),
        ({"activation": "elu", "where": {"train.lr": 0.1}}, r"where.train.optimizer.lr: tuning chooses the value of"),
    ],
)
def test_what_tuning_chooses_cannot_be_stated(changes: dict[str, Any], words: str) -> None:
    own = {"metric": "test_accuracy", "direction": "greater", **changes}
    with pytest.raises(ConfigError, match=words):
        load_config({**COMMON, **SORTS["tuned"], "hypotheses": [own]})


def test_targets_are_of_what_is_measured() -> None:
    with pytest.raises(ConfigError, match=r"targets\.validation_accuracy: .*there is no validation split"):
        load_config({**COMMON, **SORTS["no_validation"], "targets": {"validation_accuracy": [0.5]}})
    own = {"metric": "steps_to_95%", "activation": "elu", "direction": "less"}
    with pytest.raises(ConfigError, match="data with real targets have losses alone"):
        load_config({**COMMON, **SORTS["regression"], "hypotheses": [own]})


def test_levels_of_axes_that_overlap_go_by_either_name(studies: dict[str, reluexp.Study]) -> None:
    study, given = studies["union"], {"name": "sgd", "lr": 0.1}
    shown = study.compare("test_accuracy", by="train.optimizer", baseline="sgd")
    pd.testing.assert_frame_equal(study.compare("test_accuracy", by="train.optimizer", baseline=given), shown)
    assert shown["n"].max() == 2
    own = {"metric": "test_accuracy", "by": "train.optimizer", "level": {"name": "adam", "lr": 0.1}, "against": given}
    loaded = load_config({**COMMON, **SORTS["union"], "hypotheses": [{**own, "direction": "greater"}]})
    assert loaded.config.hypotheses
    assert hypothesis_table(study, loaded.config.hypotheses)["n"].tolist() == [2]
    chosen = {"train.optimizer": given}
    assert set(study.only(chosen).trials["seed"]) == {0, 1}
    assert len(study.only(chosen).trials) == len(study.only({"train.optimizer": "sgd"}).trials) == 6


@pytest.mark.parametrize("metric", ["epoch", "step", "site", "width", "lr", "seed"])
def test_what_says_where_a_number_stands_is_no_metric(studies: dict[str, reluexp.Study], metric: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown metric '{metric}'"):
        studies["classes"].compare(metric)


def test_births_are_work_that_is_done_when_they_are_measured() -> None:
    state, stacks = _State(), [SimpleNamespace(id=name, trials=range(9)) for name in "ab"]
    state.take({"event": "plan", "stacks": stacks, "trials": 18, "to_do": 18})
    worked = [state.trials_worked]
    for name in "ab":
        state.take({"event": "progress", "stack": name, "epoch": 0, "epochs": 0})
        state.take({"event": "done", "stack": name})
        worked.append(state.trials_worked)
    assert worked == [0, 9, 18]
