"""What a plan says it will cost: more of anything costs more, earlier runs correct it, the report is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from reluexp.catalogue.architectures import ARCHITECTURES, build_model
from reluexp.config import load_config
from reluexp.engine import Resources
from reluexp.engine.gpus import Gpu
from reluexp.foretold import foretold
from reluexp.planning.estimate import Cost, estimate
from reluexp.planning.plan import make_plan, make_trials, workload

BASE: dict[str, Any] = {
    "study": "s",
    "dataset": {"name": "mnist"},
    "architecture": {"name": "mlp", "depth": 2, "width": 32},
    "train": {"epochs": 4},
    "seeds": 4,
    "grid": {"activation": ["relu", "tanh"]},
}


def cost(speed: dict[str, float] | None = None, device: str = "cpu", **changes: Any) -> Cost:
    found = estimate(make_plan(make_trials(load_config({**BASE, **changes})), device=device), speed, device)
    assert found is not None
    return found


@pytest.mark.parametrize("more", [
    {"seeds": 40},
    {"train": {"epochs": 9}},
    {"architecture": {"name": "mlp", "depth": 2, "width": 64}},
    {"architecture": {"name": "mlp", "depth": 4, "width": 32}},
    {"dataset": {"name": "mnist"}, "architecture": {"name": "cnn", "channels": [8, 8]}},
], ids=str)  # fmt: skip
def test_more_of_anything_takes_longer(more: dict[str, Any]) -> None:
    few, many = cost(), cost(**more)
    assert all(many.phases[phase] > few.phases[phase] for phase in few.phases)
    assert many.wall(2) > few.wall(2)


@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
@pytest.mark.parametrize("name", ARCHITECTURES.names)
def test_parameters_are_those_of_the_model(name: str, normalization: str) -> None:
    config = {**BASE, "architecture": {"name": name, "normalization": normalization}}
    options = load_config(config).points[0].setting
    work = workload(options)
    model = build_model(options.architecture, (1, 28, 28), 10, lambda width: nn.ReLU())
    assert work is not None
    assert work.parameters == sum(p.numel() for p in model.parameters())


def test_measuring_less_costs_less() -> None:
    often, seldom, simple = (cost(probe=probe) for probe in ({}, {"every": 4}, {"metrics": "basic"}))
    assert seldom.phases["measure"] < often.phases["measure"]
    assert simple.phases["measure"] < often.phases["measure"]
    assert seldom.phases["train"] == often.phases["train"]


def test_what_can_die_is_confirmed_and_norms_take_time() -> None:
    mortal, immortal = (cost(grid={}, activation=name) for name in ("relu", "tanh"))
    assert mortal.phases["measure"] > immortal.phases["measure"]
    assert mortal.phases["train"] == immortal.phases["train"]
    plain, normed = (cost(architecture={"normalization": own}) for own in ("none", "batch"))
    assert normed.phases["train"] > plain.phases["train"]


def test_a_gpu_is_another_machine_where_dropout_is_dear() -> None:
    core, gpu, dropping = cost(), cost(device="cuda"), cost(device="cuda", architecture={"dropout": 0.1})
    assert gpu.phases["train"] < core.phases["train"]
    assert dropping.phases["train"] > 5 * gpu.phases["train"]
    few, many = (cost(device="cuda", seeds=seeds).phases["train"] for seeds in (10, 100))
    assert many < 5 * few


def test_memory_and_disk_hold_the_data_the_worker_and_the_report() -> None:
    small, large = cost(dataset="digits"), cost()
    assert 0.5e9 < small.memory < 1.5e9
    assert large.memory - small.memory > 4 * 784 * 70_000
    assert cost(seeds=40).disk > small.disk > 5e6


def test_workers_share_the_work_but_not_the_longest_stack_nor_the_report() -> None:
    found = Cost({"train": 90.0, "measure": 10.0, "evaluate": 0.0}, 60.0, 7.0, 0.0, 0.0)
    alone, two, many = (found.wall(workers) for workers in (1, 2, 50))
    assert alone - two == pytest.approx(40.0)  # not 50: the longest stack takes 60
    assert two == many
    assert found.measuring == pytest.approx(1 / 9)


def test_the_report_grows_with_the_trials_whether_they_are_done_or_not() -> None:
    trials = make_trials(load_config({**BASE, "seeds": 400}))
    left = estimate(make_plan(trials, [trial.id for trial in trials[1:]]))
    assert left is not None
    assert left.report == cost(seeds=400).report > cost().report


def test_earlier_runs_on_the_same_device_correct_it() -> None:
    plain, slow = cost(), cost({"dense": 2.0, "conv": 5.0, "dense gpu": 9.0})
    assert slow.phases["train"] == pytest.approx(2 * plain.phases["train"])
    fast = cost({"dense": 2.0, "dense gpu": 0.1}, "cuda")
    assert fast.phases["train"] == pytest.approx(0.1 * cost(None, "cuda").phases["train"])


def test_a_plan_says_how_trials_stack_and_what_that_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_config({**BASE, "dataset": "digits"})
    assert "stacks: 2, of 1 to 2 trials" in foretold(
        load_config({**BASE, "dataset": "digits", "seeds": 3, "grid": {}}),
        tmp_path,
        Resources.model_validate({"workers": 2, "device": "cpu"}),
    )

    def said(**means: Any) -> list[str]:
        return list(foretold(loaded, tmp_path, Resources.model_validate({"workers": 2, **means})))

    first, stacks, seconds, measuring, memory = said(device="cpu")
    assert first == "s: 8 trials at 2 settings, 8 to do"
    assert stacks == "stacks: 2, of 4 trials"
    assert seconds.endswith("with 2 workers (no run here yet to go by: within a factor of 2 or 3)")
    assert measuring.endswith("% of the time of training")
    assert memory.endswith("MB on disk")
    assert said(device="cpu", stack=1)[1] == "stacks: 8, of 1 trial"
    monkeypatch.setattr("reluexp.engine.visible_gpus", lambda: [Gpu("0", 8 << 30)])
    assert "with 2 workers on a GPU (no run here yet to go by: what an NVIDIA H200 takes)" in said()[2]
    assert "on a GPU" not in said(device="cpu")[2]


@pytest.mark.parametrize(("download", "then"), [(True, "download it"), (False, "end there, since download is false")])
def test_a_plan_says_which_data_are_not_there(tmp_path: Path, download: bool, then: str) -> None:
    own = {"name": "mnist", "root": str(tmp_path / "x"), "download": download}
    loaded = load_config({**BASE, "dataset": own, "grid": {"dataset.train_size": [100, 200]}})

    def notes() -> list[str]:
        return [text for text in foretold(loaded, tmp_path, Resources()) if text.startswith("note: ")]

    assert notes() == [f"note: mnist is not in {own['root']!r}: run would {then}"]
    raw = tmp_path / "x" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").touch()
    assert notes() == []


def test_what_is_unknown_before_it_is_loaded_has_no_estimate() -> None:
    own = {**BASE, "dataset": "nowhere.mine:data"}
    assert estimate(make_plan(make_trials(load_config(own)))) is None


def test_births_take_little_room_on_a_disk() -> None:
    """Of networks of which nothing but trials and epochs is kept."""
    config = {"study": "s", "dataset": "line", "train": {"epochs": 0, "save_weights": False},
              "probe": {"metrics": "network"}, "seeds": 10_000}  # fmt: skip
    births = estimate(make_plan(make_trials(load_config(config))))
    assert births is not None
    assert births.disk < 12e6
