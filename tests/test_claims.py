"""Claims against planted studies: the truth is known, and the verdicts must say it, no more and no less."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_results import Made

from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.claims import CLAIMS, Evidence, Field, Part, Placed, claim_parts, claim_table, evidence_of, told_parts
from reluexp.claims.price import partial_conjunction
from reluexp.claims.signals import _skippable, lost_per_layer
from reluexp.claims.table import _seeds, _shown
from reluexp.config import Setting, label_of, load_config
from reluexp.cost import _module, measure_cost
from reluexp.report.figures import FIGURES
from reluexp.stats import Contrast, decide

SEEDS = 10
Truth = Callable[[Setting, str, np.random.Generator], dict[str, Any]]


@dataclass(frozen=True)
class Planted(Made):
    """A made study whose trials' settings are known."""

    placed: list[Placed] = field(default_factory=list)
    base: Setting = field(default_factory=lambda: Setting.model_validate({}))
    tuned_axes: list[str] = field(default_factory=list)
    cost: pd.DataFrame = field(default_factory=pd.DataFrame)


def setting(**changes: Any) -> Setting:
    """The shipped study's base setting, with dotted keys changed."""
    base = {"dataset": {"name": "digits"}, "architecture": {"depth": 4, "width": 64}}
    grid = {key: [value] for key, value in changes.items()}
    config = load_config({"study": "s", "seeds": 1, **base, "grid": grid})
    return config.points[0].setting


def planted(settings: list[Setting], truth: Truth, seeds: int = SEEDS, **changes: Any) -> Planted:
    """A study with what `truth` says of each trial: columns of trials, of the last epoch, and lists of site rows."""
    tables: dict[str, list[dict[str, Any]]] = {"trials": [], "epochs": [], "layers": [], "units": []}
    placed = []
    for (number, own), seed in itertools.product(enumerate(settings), range(seeds)):
        label, trial = label_of(own.activation), f"t{number}-{seed}"
        facts = truth(own, label, np.random.default_rng([seed, number]))
        about = {
            "trial": trial,
            "activation": label,
            "seed": seed,
            "outcome": "finished",
            "stuck": False,
            "classes": 10,
        }
        tables["trials"].append({**about, "place": number, "dead_fraction": 0.0, **facts.get("trial", {})})
        last = {
            "test_accuracy": 0.9,
            "probe_accuracy": 0.9,
            "test_loss": 0.3,
            "probe_loss": 0.3,
            **facts.get("end", {}),
        }
        path = facts.get("path", [0.1, last["probe_accuracy"], last["probe_accuracy"]])
        tables["epochs"] += [
            {"trial": trial, "epoch": e, "step": 100 * e, **last, "probe_accuracy": p} for e, p in enumerate(path)
        ]
        sites = facts.get("sites", {"birth": [{}], "end": [{}]})
        for when, step in (("birth", 0), ("end", 200)):
            tables["layers"] += [
                {"trial": trial, "epoch": step / 200, "step": step, "site": i, "width": 64, "dead_fraction": 0.0, **row}
                for i, row in enumerate(sites[when])
            ]
        tables["units"] += [{"trial": trial, **row} for row in facts.get("units", [])]
        placed.append(Placed(trial, seed, own, False))
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    return Planted(**frames, placed=placed, base=settings[0], axes=["activation", "place"], **changes)


def verdicts(study: Planted) -> dict[str, str]:
    return claim_table(evidence_of(study)).set_index("claim")["verdict"].to_dict()


def accuracies(**means: float) -> Truth:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        return {"end": {"test_accuracy": means[label] + rng.normal(0, 0.001)}}

    return truth


def test_every_entry_is_complete_and_is_listed() -> None:
    assert len(CLAIMS.names) == 13
    for claim in CLAIMS.entries:
        assert claim.statement
        assert claim.reference
        assert claim.needs
    assert {claim.name for claim in CLAIMS.entries if claim.figure not in {spec.name for spec in FIGURES}} == {"cost"}
    shown = subprocess.run([sys.executable, "-c", "from reluexp.cli import main; main()", "list", "claims"],
                           capture_output=True, text=True, check=True).stdout  # fmt: skip
    for name in CLAIMS:
        assert f"  {name} " in shown


def test_a_study_of_one_activation_tests_hardly_anything() -> None:
    found = verdicts(planted([setting()], lambda own, label, rng: {}))
    assert found["convergence"] == found["cost"] == found["gradient"] == "not tested here"
    assert "supported" not in found.values()


def test_regression_has_no_accuracy_to_claim_anything_of() -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        nothing = {"test_accuracy": math.nan, "probe_accuracy": math.nan}
        return {"trial": {"classes": None}, "end": nothing, "path": [math.nan] * 3}

    found = verdicts(planted([setting(activation=label) for label in ("relu", "tanh", "elu", "sigmoid")], truth))
    assert found["convergence"] == found["nonlinear"] == "not tested here"


def both(activation: str, dataset: str) -> Setting:
    return setting(activation=activation, dataset=dataset)


@pytest.mark.parametrize(
    ("gap", "spirals", "seeds", "verdict"),
    [
        (0.05, 0.4, 10, "supported"),
        (0.05, 0.1, 10, "contradicted"),
        (0.0, 0.4, 10, "contradicted"),
        (0.05, 0.4, 3, "undecided"),
    ],
)
def test_nonlinear_needs_both_its_parts(gap: float, spirals: float, seeds: int, verdict: str) -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        ahead = spirals if own.dataset.name == "spirals" else gap
        return {"end": {"test_accuracy": 0.5 + ahead * (label == "relu") + rng.normal(0, 0.002)}}

    settings = [both(label, data) for data in ("digits", "spirals") for label in ("relu", "identity")]
    study = planted(settings, truth, seeds)
    row = claim_table(evidence_of(study)).set_index("claim").loc["nonlinear"]
    assert row["verdict"] == verdict
    if verdict == "undecided":
        assert "seeds, if what was seen" in row["decides"]


def test_a_missing_part_leaves_a_claim_undecided_and_says_what_it_needs() -> None:
    study = planted([both("relu", "digits"), both("identity", "digits")], accuracies(relu=0.95, identity=0.9))
    row = claim_table(evidence_of(study)).set_index("claim").loc["nonlinear"]
    assert row["verdict"] == "undecided"
    assert row["decides"] == "needs relu and identity on the data set spirals"
    worse = planted([both("relu", "digits"), both("identity", "digits")], accuracies(relu=0.8, identity=0.9))
    assert verdicts(worse)["nonlinear"] == "contradicted"  # one part that fails is enough


def test_rates_that_nobody_diverged_at_say_nothing_of_stability() -> None:
    rates = [0.1, 0.2, 0.4, 0.8]

    def verdict(limit: float, other: float = 1.0) -> str:
        def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
            beyond = own.train.optimizer.lr > (limit if label == "relu" else other)
            return {"trial": {"outcome": "diverged" if beyond else "finished"}}

        settings = [
            setting(**{"activation": label, "train.optimizer.lr": rate})
            for rate in rates for label in ("relu", "relu6")
        ]  # fmt: skip
        evidence = evidence_of(planted(settings, truth))
        parts = claim_parts(evidence)
        return str(parts[parts["part"].str.contains("largest stable rate")]["verdict"].iloc[0])

    assert verdict(0.2) == "supported"
    assert verdict(1.0) == "undecided"
    assert verdict(0.05, 0.05) == "undecided"  # both diverge at every rate
    assert verdict(0.2, 0.2) == "contradicted"


def test_multiply_adds_with_a_zero_factor_by_hand() -> None:
    rows = [(0, "dense", 4, 0.5), (1, "dense", 8, 0.25), (math.nan, "dense", 3, math.nan)]
    last = pd.DataFrame(rows, columns=["site", "kind", "width", "zero_fraction"]).assign(step=9, trial="a")
    layers = pd.concat([last.assign(step=0, zero_fraction=0.9), last, last.assign(trial="b", kind="conv")])
    assert _skippable(layers) == {"a": pytest.approx((4 * 8 * 0.5 + 8 * 3 * 0.25) / (4 * 8 + 8 * 3))}


def test_gradient_is_decided_apart_at_birth_and_later_and_by_gain() -> None:
    decades = {"relu": 0.0, "sigmoid": 0.3, "tanh": 0.3}

    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        def sites(slope: float) -> list[dict[str, Any]]:
            return [{"backprop_norm": 10 ** (slope * i + rng.normal(0, 0.001))} for i in range(16)]

        kept = label == "tanh" and own.init.gain == "auto"
        return {"sites": {"birth": sites(0.0 if kept else decades[label]), "end": sites(decades[label])}}

    settings = [
        setting(**{"activation": label, "architecture.depth": 16, "init.gain": gain})
        for gain in ("auto", 1.0) for label in decades
    ]  # fmt: skip
    evidence = evidence_of(planted(settings, truth))
    assert claim_table(evidence).set_index("claim").loc["gradient", "verdict"] == "contradicted"
    parts = claim_parts(evidence).query("claim == 'gradient'").set_index("part")["verdict"]
    assert parts["tanh − relu at birth, auto gain"] == "contradicted"
    assert (parts.drop("tanh − relu at birth, auto gain") == "supported").all()
    assert len(parts) == 8


def test_decades_lost_per_layer_by_hand() -> None:
    rows = pd.DataFrame({"backprop_norm": [1e-6, 1e-4, 1e-2, 1.0]})
    assert lost_per_layer(rows) == pytest.approx(2.0)
    assert math.isnan(lost_per_layer(rows.iloc[:1]))


def test_a_gradient_that_vanished_altogether_is_the_greatest_loss() -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        def sites(decades: float, gone: bool) -> list[dict[str, Any]]:
            lost = decades + rng.normal(0, 0.01)
            return [{"backprop_norm": 0.0 if gone and i < 8 else 10.0 ** (-lost * (15 - i))} for i in range(16)]

        gone = label == "relu" and rng.random() < 0.9  # where it is not, sigmoid's is the smaller one
        found = sites({"relu": 0.0, "sigmoid": 0.4, "tanh": 0.0}[label], gone)
        return {"sites": {"birth": found, "end": found}}

    settings = [
        setting(**{"activation": label, "architecture.depth": 16, "init.gain": gain})
        for gain in ("auto", 1.0) for label in ("relu", "sigmoid", "tanh")
    ]  # fmt: skip
    evidence = evidence_of(planted(settings, truth, seeds=10))
    part = evidence["gradient"].parts[0]
    assert part.label == "sigmoid − relu at birth, auto gain"
    assert len(part.contrasts[0].values) == 10
    assert (part.contrasts[0].values == -math.inf).sum() >= 7
    assert claim_parts(evidence).query("claim == 'gradient'")["verdict"].iloc[0] == "contradicted"
    assert "vanished altogether: sigmoid 0 of 10, relu" in part.numbers


def test_who_vanishes_in_both_says_nothing() -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        return {"sites": {when: [{"backprop_norm": 0.0}, {"backprop_norm": 1.0}] for when in ("birth", "end")}}

    settings = [setting(**{"activation": label, "architecture.depth": 16}) for label in ("relu", "sigmoid")]
    part = evidence_of(planted(settings, truth))["gradient"].parts[0]
    assert (len(part.contrasts[0].values), part.contrasts[0].unknown) == (10, 10)
    assert np.isnan(part.contrasts[0].values).all()
    assert part.p == (1.0, 1.0)


def test_convergence_counts_never_as_slowest() -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        fast, never = [0.1, 0.99, 0.99, 0.99], [0.1, 0.2, 0.3, 0.3]
        return {"path": fast if label == "relu" else never}

    study = planted([setting(activation=label) for label in ("relu", "sigmoid", "tanh")], truth)
    row = claim_table(evidence_of(study)).set_index("claim").loc["convergence"]
    assert row["verdict"] == "supported"
    assert "never within the budget: sigmoid 10 of 10, relu 0 of 10" in row["numbers"]


def test_dying_counts_recoveries_of_trials_with_enough_deaths() -> None:
    def units(alive: int, deaths: int = 20) -> list[dict[str, Any]]:
        return [
            {"died_at_step": 50.0, "dead_at_end": i >= alive, "born_dead": False, "confirmed_dead": i >= alive}
            for i in range(deaths)
        ]

    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        narrow = own.architecture.width == 8
        few = own.train.optimizer.name == "adam" and rng.random() < 0.3
        return {"units": units(1, 5 if few else 20) if narrow else units(15 + rng.integers(3))}

    narrow = {"activation": "relu", "architecture.depth": 12, "architecture.width": 8}
    settings = [
        setting(), setting(**{"train.optimizer.lr": 0.5}), setting(**narrow),
        setting(**narrow, **{"train.optimizer": {"name": "adam", "lr": 0.01}}),
    ]  # fmt: skip
    evidence = evidence_of(planted(settings, truth))
    assert claim_table(evidence).set_index("claim").loc["dying", "verdict"] == "supported"
    values = next(p for p in evidence["dying"].parts if "adam" in p.label).contrasts[0].values
    assert np.isnan(values).any()
    assert np.nanmax(values) == 0.05


def test_claims_on_training_are_not_tested_on_networks_at_birth() -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        unit = {"died_at_step": math.nan, "born_dead": False, "dead_at_end": False, "confirmed_dead": False}
        return {"path": [0.1], "units": [unit] * 4}

    settings = [setting(), setting(**{"train.optimizer.lr": 0.5}), setting(activation="leaky_relu")]
    found = verdicts(planted(settings, truth))
    assert {name for name, verdict in found.items() if verdict != "not tested here"} <= {"cost", "gradient", "selu"}


def test_where_no_unit_was_alive_at_birth_none_can_die() -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        unit = {"died_at_step": math.nan, "born_dead": True, "dead_at_end": True, "confirmed_dead": True}
        return {"units": [unit] * 4}

    study = planted([setting(), setting(**{"train.optimizer.lr": 0.5})], truth)
    assert verdicts(study)["dying"] == "not tested here"


def test_units_that_only_the_probe_saw_dead_at_birth_have_not_died() -> None:
    """The whole training set shows that half of those born dead on the probe live; as many die as revive."""

    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        unit = {"died_at_step": math.nan}
        rows = [(False, False, False)] * 80 + [(True, True, True)] * 10 + [(True, True, False)] * 10
        rows += ([(False, True, True)] * 3 + [(True, False, False)] * 3) if own.train.optimizer.lr > 0.1 else []
        return {"units": [{**unit, "born_dead": b, "dead_at_end": d, "confirmed_dead": c} for b, d, c in rows]}

    parts = evidence_of(planted([setting(), setting(**{"train.optimizer.lr": 0.5})], truth))["dying"].parts
    assert [part.contrasts[0].values.tolist() for part in parts[:2]] == [[0.0] * SEEDS] * 2


@pytest.mark.parametrize("name", ARCHITECTURES.names)
def test_every_architecture_has_verdicts(name: str) -> None:
    own = {"dataset": {"name": "mnist"}, "architecture": {"name": name}, "train": {"epochs": 4}}
    labels = ["relu", "leaky_relu", "prelu", "elu", "selu", "sigmoid", "tanh", "relu6", "identity"]
    points = load_config({"study": "s", **own, "grid": {"activation": labels}}).points
    found = verdicts(planted([point.setting for point in points], lambda own, label, rng: {}, 3))
    assert list(found) == CLAIMS.names


def test_accuracy_is_decided_by_the_intervention_with_its_control_beside() -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        lost = 0.03 if own.init.dead else 0.01 if own.architecture.width == 32 else 0.0
        return {"end": {"test_accuracy": 0.95 - lost + rng.normal(0, 0.001)}}

    study = planted([setting(), setting(**{"init.dead": 0.5}), setting(**{"architecture.width": 32})], truth)
    evidence = evidence_of(study)
    assert claim_table(evidence).set_index("claim").loc["accuracy", "verdict"] == "supported"
    assert "half the width costs 1." in evidence["accuracy"].notes[0]


def test_of_the_intervention_too_pairs_in_which_neither_net_learned_say_nothing() -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        return {"end": {"test_accuracy": 0.1}, "trial": {"stuck": True}}

    cnn = {"dataset": {"name": "mnist"}, "architecture": {"name": "cnn"}}  # which has no width to halve
    points = load_config({"study": "s", **cnn, "grid": {"init.dead": [0.0, 0.5]}}).points
    (part,) = evidence_of(planted([point.setting for point in points], truth))["accuracy"].parts
    assert (len(part.contrasts[0].values), part.contrasts[0].unknown) == (0, SEEDS)
    assert part.numbers.endswith(f"in {SEEDS} of {SEEDS} pairs neither net learned")


def test_depth_takes_the_largest_depth_that_was_trained() -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        limit = {"relu": 8, "sigmoid": 2, "tanh": 8}[label]
        return {"path": [0.1, 0.95, 0.95] if own.architecture.depth <= limit else [0.1, 0.1, 0.1]}

    settings = [
        setting(**{"activation": label, "architecture.depth": d, "train.epochs": 10})
        for d in (2, 4, 8, 16) for label in ("relu", "sigmoid", "tanh")
    ]  # fmt: skip
    parts = {part.label: part for part in evidence_of(planted(settings, truth))["depth"].parts}
    found = {label.split(" ")[4]: part.contrasts[0].values[0] for label, part in parts.items()}
    assert found == {"sigmoid": 2.0, "tanh": 0.0}


@pytest.mark.parametrize(
    ("depths", "limits", "verdict"),
    [
        ((2, 4, 8), (2, 2), "contradicted"),
        ((2, 4, 8), (8, 8), "undecided"),  # both may train deeper
        ((2, 4, 8), (1, 1), "undecided"),  # neither trains any
        ((8, 16, 32), (32, 32), "contradicted"),  # the claim asks no more
        ((8, 10, 32, 64), (10, 8), "contradicted"),  # a third of a doubling
        ((6, 8, 10), (10, 8), "undecided"),  # as much, but relu may train deeper
        ((6, 8, 10), (10, 6), "supported"),
        ((33, 34, 35), (35, 35), None),
        ((32, 33, 34), (32, 32), None),
    ],
)
def test_depths_that_were_not_tried_are_not_known(
    depths: tuple[int, ...], limits: tuple[int, int], verdict: str | None
) -> None:
    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        trained = own.architecture.depth <= limits[label == "sigmoid"]
        return {"path": [0.1, 0.95, 0.95] if trained else [0.1, 0.1, 0.1]}

    settings = [
        setting(**{"activation": label, "architecture.depth": d, "train.epochs": 10})
        for d in depths for label in ("relu", "sigmoid")
    ]  # fmt: skip
    evidence = evidence_of(planted(settings, truth))
    parts = claim_parts(evidence).query("claim == 'depth'")["verdict"].tolist()
    assert parts == ([verdict] if verdict else [])
    if not verdict:
        assert "relu and sigmoid at three depths or more up to 32, 10 epochs" in evidence["depth"].missing


def test_cost_needs_three_sizes_of_four() -> None:
    def times(ratios: list[float]) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        return pd.DataFrame(
            [
                {"kind": "alone", "activation": label, "elements": 10**i, "block": block,
                 "seconds": (1.0 if label == "relu" else ratio) * rng.lognormal(0, 0.01)}
                for i, ratio in enumerate(ratios, 3) for block in range(12) for label in ("relu", "sigmoid", "tanh")
            ]
        )  # fmt: skip

    base = [setting()]
    assert verdicts(planted(base, lambda *_: {}, cost=times([1.0, 2, 2, 2])))["cost"] == "supported"
    assert verdicts(planted(base, lambda *_: {}, cost=times([1.0, 1.0, 2, 2])))["cost"] == "contradicted"
    assert partial_conjunction([0.9, 0.01, 0.02, 0.03], 3) == pytest.approx(0.06)


def test_timings_are_of_what_they_say() -> None:
    found = measure_cost([setting(), setting(activation="tanh")], (64,), 10, sizes=(1 << 14,), blocks=2)
    assert (found["seconds"] > 0).all()
    assert found["kind"].value_counts().to_dict() == {"alone": 4, "step": 4, "inside": 4}
    assert found.loc[found["kind"] == "step", "elements"].unique().tolist() == [4 * 64 * 64]


def test_steps_are_timed_on_a_batch_that_there_is() -> None:
    def steps(regression: bool = False, **train: Any) -> pd.DataFrame:
        norm = {"name": "mlp", "width": [8], "normalization": "batch"}
        own = setting(architecture=norm, **{f"train.{name}": value for name, value in train.items()})
        found = measure_cost([own], (64,), 10, sizes=(1 << 10,), blocks=1, regression=regression)
        return found[found["kind"] == "step"]

    assert steps(batch_size=100_000)["elements"].tolist() == [1437 * 8]
    assert steps(batch_size=1)["elements"].tolist() == [2 * 8]  # batch norm takes no single sample
    assert (steps(regression=True)["seconds"] > 0).all()


def test_sentences_of_a_claim_are_told_whole_whatever_is_written_in_them() -> None:
    part = Part("a; b: supported", [Contrast("a", np.arange(1.0, 11))], numbers="one; two")
    texts, verdicts_ = zip(*told_parts(Evidence([part], notes=["note: x; y"])), strict=True)
    assert verdicts_ == ("supported", "")
    assert texts[0].startswith("a; b: supported: ")
    assert texts[0].endswith(" (one; two)")
    assert texts[1] == "note: x; y"


def test_an_activation_is_timed_with_a_slope_for_each_channel_where_it_has_that() -> None:
    own = {"name": "prelu", "shared": False, "init": 0.5}
    assert [tuple(p.shape) for p in _module(setting(activation=own), 7).parameters()] == [(7,)]
    assert float(_module(setting(activation=own), 7)(torch.tensor([[-2.0] * 7])).mean().detach()) == -1.0
    assert (measure_cost([setting(activation=own)], (64,), 10, sizes=(1 << 10,), blocks=1)["seconds"] > 0).all()


def test_p_of_a_claim_is_the_largest_of_its_parts_and_one_failure_is_enough() -> None:
    good, bad = Contrast("a", np.arange(1.0, 11)), Contrast("b", -np.arange(1.0, 11))
    assert Evidence([Part("x", [good]), Part("y", [good])]).p == (1 / 1024, 1.0)
    assert Evidence([Part("x", [good]), Part("y", [bad])]).p == (1.0, 2 / 1024)
    assert Evidence([Part("x", [bad]), Part("y", [bad])]).p == (1.0, 1 / 1024)  # Simes
    assert Evidence([Part("x", [good])], ["something"]).p == (1.0, 1.0)
    assert math.isnan(Evidence([Part("x", [Contrast("none", [math.nan])])]).p[0])


def shuffled(rng: np.random.Generator) -> Iterator[Truth]:
    """Studies in which the activations' labels say nothing: every trial is drawn alike."""
    while True:
        key = int(rng.integers(2**32))

        def truth(own: Setting, label: str, local: np.random.Generator, key: int = key) -> dict[str, Any]:
            again = np.random.default_rng([key, *local.integers(2**32, size=2)])
            return {"end": {"test_accuracy": 0.9 + again.normal(0, 0.01)}}

        yield truth


def test_shuffled_labels_support_no_claim_about_differences() -> None:
    settings = [both(label, data) for data in ("digits", "spirals") for label in ("relu", "identity", "leaky_relu")]
    for truth in itertools.islice(shuffled(np.random.default_rng(0)), 10):
        evidence = CLAIMS["nonlinear"].decide(Field(planted(settings, truth)))
        assert evidence.p[0] > 0.05
        assert len(evidence.parts) == 2


def test_the_shipped_study_has_what_every_claim_needs() -> None:
    for name in ("claims", "claims_quick"):
        loaded = load_config(name)
        placed = [Placed(f"t{i}", 0, point.setting, tuned) for i, point in enumerate(loaded.points)
                  for tuned in (point.grids == (0,),)]  # fmt: skip
        trials = pd.DataFrame([{"trial": own.trial, "outcome": "finished"} for own in placed])
        base = Setting.model_construct(**{part: getattr(loaded.config, part) for part in Setting.model_fields})
        found = Field(Planted(trials, pd.DataFrame(), placed=placed, base=base, tuned_axes=["train.optimizer.lr"]))
        assert found.home("relu", "identity", "leaky_relu", "leaky_relu(negative_slope=0.25)", "prelu", "elu", "relu6")
        assert {0.05, 0.5} <= set(found.around("train.optimizer.lr", "relu"))
        assert found.where("selu", architecture__depth=16, init__name="lecun_normal")
        assert found.where("relu", init__dead=0.5)


@pytest.mark.parametrize(
    ("values", "unknown", "told"),
    [
        ([0.5, 0.5], 0, "1.65× [1.65, 1.65] against > 1.1, n = 2"),
        ([0.5, math.inf, math.inf], 0, "in the median pair the first never arrived against > 1.1, n = 3"),
        ([-math.inf, -math.inf, 0.2], 0, "in the median pair the second never arrived against > 1.1, n = 3"),
        ([0.0, 0.0, 0.0, 0.5], 3, "in the median pair neither arrived against > 1.1, n = 4"),
        ([0.5, math.inf, 0.2], 0, "median 1.65× against > 1.1, n = 3"),
    ],
)
def test_ratios_of_steps_that_never_came_are_told(values: list[float], unknown: int, told: str) -> None:
    contrast = Contrast("steps", values[unknown:], "greater", math.log(1.1), unknown)
    assert _shown(Part("steps", [contrast], "ratio"), decide(contrast)) == told


@pytest.mark.parametrize("idle", [0, 3, SEEDS])
def test_pairs_in_which_neither_net_learned_say_nothing_of_accuracies(idle: int) -> None:
    """Both at chance is no evidence that they are equal, nor that one is no worse than the other."""
    settings = [setting(activation=label) for label in ("relu", "leaky_relu")]

    def truth(own: Setting, label: str, rng: np.random.Generator) -> dict[str, Any]:
        return {"end": {"test_accuracy": 0.9}}

    study = planted(settings, truth)
    lost = study.trials["seed"] < idle
    study.trials["stuck"] = lost
    study.epochs.loc[study.epochs["trial"].isin(study.trials.loc[lost, "trial"]), "test_accuracy"] = 0.1
    evidence = evidence_of(study)
    parts = claim_parts(evidence).query("claim == 'leaky'").set_index("part")
    (harm,) = [row for part, row in parts.iterrows() if str(part).startswith("no harm")]
    assert harm["verdict"] == ("undecided" if idle else "supported")  # the unknown speak for neither side
    told = claim_table(evidence).set_index("claim").loc["leaky", "numbers"]
    shown = {0: "0 points [0, 0] against", 3: "0 points where a net learned", SEEDS: "no pair in which a net learned"}
    assert shown[idle] in told
    assert (f"in {idle} of {SEEDS} pairs neither net learned" in told) is (idle > 0)
    only = planted([setting(activation=label) for label in ("relu", "identity")], truth)
    only.trials["stuck"] = True
    row = claim_table(evidence_of(only)).set_index("claim").loc["nonlinear"]
    assert row["verdict"] == "undecided"


def test_seeds_that_would_decide_are_those_of_one_contrast_where_one_is_enough() -> None:
    rng = np.random.default_rng(0)
    near = decide(Contrast("near", 0.002 + rng.normal(0, 1, 6)))
    against = decide(Contrast("against", -1.0 + rng.normal(0, 1, 6)))
    good = decide(Contrast("for", 1.0 + rng.normal(0, 1, 6)))
    assert against.p_against < against.p_for
    assert _seeds([against, good]) == max(against.seeds, 7)
    for_both = [own for own in (near, good) if own.p_for <= own.p_against]
    assert _seeds(for_both) == max(max(own.seeds, 7) for own in for_both)
