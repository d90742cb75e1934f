"""GPUs, and stacks of convolutions, which train together there alone: everything that can be tried on a CPU is."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

import reluexp
from reluexp.catalogue.activations import ACTIVATIONS
from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.loading import load_dataset
from reluexp.catalogue.optimizers import OPTIMIZERS
from reluexp.config import load_config
from reluexp.engine import Resources, gpus, places
from reluexp.engine.work import _kind, settle_torch
from reluexp.networks.batching import reads_batched
from reluexp.networks.network import Network
from reluexp.planning.plan import Stack, make_plan, make_trials
from reluexp.store.checkpoints import Checkpoints
from reluexp.training.loop import Training
from reluexp.training.replay import _BEFORE, Graphs

CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
CONVOLUTIONAL = [name for name in ARCHITECTURES if ARCHITECTURES[name].convolutional]


def images() -> tuple[np.ndarray, ...]:
    """The digits with a margin: published networks want sides of 12 at least."""
    x, y = load_digits(return_X_y=True)
    wide = np.pad(x.reshape(-1, 1, 8, 8), ((0, 0), (0, 0), (2, 2), (2, 2)))
    return wide[:87], y[:87], wide[87:118], y[87:118]


def stack_of(config: dict[str, Any], device: str = "cuda", largest: int | None = None) -> list[Stack]:
    data = {"name": "digits", "train_size": 87, "test_size": 31}
    base = {"study": "s", "dataset": data, "probe": {"size": 60, "early": 2}, "seeds": 2}
    return make_plan(make_trials(load_config({**base, **config})), device=device, largest=largest).stacks


def trained(stacks: list[Stack], device: str) -> dict[str, pd.DataFrame]:
    settle_torch()
    results = []
    for stack in stacks:
        training = Training(stack, load_dataset(stack.setting.dataset).to(device), "s", device)
        assert training.run(lambda: False, lambda *event: None)
        results.append(training.result())
    frames = {n: pd.concat([own.tables[n] for own in results]) for n in ("trials", "epochs", "layers", "units")}
    return {n: f.sort_values("trial", kind="stable").reset_index(drop=True) for n, f in frames.items()}


def alike(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame], tolerance: float) -> None:
    """Equal but for rounding: two steps of training let it grow."""
    for name in ("epochs", "layers"):
        numbers = left[name].select_dtypes("number").columns
        assert len(left[name]) == len(right[name])
        for column in numbers:
            own, other = (frame[name][column].to_numpy(float) for frame in (left, right))
            assert np.array_equal(np.isnan(own), np.isnan(other)), column
            size = np.nanmax(np.abs(other), initial=1e-3)
            np.testing.assert_allclose(own, other, rtol=tolerance, atol=tolerance * size, err_msg=f"{name}.{column}")
    for column in ("born_dead", "dead_at_end", "off_at_end", "confirmed_dead"):
        assert left["units"][column].eq(right["units"][column]).mean() > 0.995, column


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("normalization", ["none", "batch"])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_networks_are_in_a_stack_what_they_are_alone(
    name: str, normalization: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reluexp.networks.network.stackable", lambda *args: True)
    own = {"normalization": normalization} if "normalization" in ARCHITECTURES.models[name].model_fields else {}
    config = {
        "dataset": f"{__name__}:images",
        "architecture": {"name": name, **own},
        "train": {"epochs": 1, "batch_size": 44, "optimizer": {"name": "sgd", "lr": 0.01}},
        "grid": {"activation": ["relu", "tanh", "prelu"]},
    }
    together, alone = (stack_of(config, "cuda", largest) for largest in (None, 1))
    assert len(together) < len(alone)
    alike(trained(together, device), trained(alone, device), 2e-2)


@pytest.mark.parametrize("config", [
    {"architecture": {"width": [10, 33, 7]}},
    {"architecture": {"width": [10, 33, 7], "normalization": "batch", "dropout": 0.1}},
    {"architecture": {"name": "cnn", "channels": [4, 6], "dense": [8]}},
    {"architecture": {"name": "cnn", "channels": [4, 6], "dense": [8]}, "train": {"epochs": 1, "precision": "tf32"}},
    *({"train": {"epochs": 1, "batch_size": 29, "optimizer": {"name": own}}} for own in OPTIMIZERS.names),
], ids=str)  # fmt: skip
@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_trains_and_measures_what_a_cpu_does(config: dict[str, Any]) -> None:
    train = {"train": {"epochs": 1, "batch_size": 29, "optimizer": {"name": "sgd", "lr": 0.01}}}
    config = {**train, **config, "grid": {"activation": ACTIVATIONS.names}}
    alike(trained(stack_of(config), "cuda"), trained(stack_of(config, "cpu"), "cpu"), 2e-2)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("architecture", ["mlp", {"name": "cnn", "channels": [4, 6], "dense": [8]}], ids=str)
def test_a_gpu_gives_the_same_bits_again(architecture: Any) -> None:
    config = {"architecture": architecture, "grid": {"activation": ["relu", "tanh"]}, "train": {"epochs": 2}}
    first, second = (trained(stack_of(config), "cuda") for _ in range(2))
    for name, frame in first.items():
        pd.testing.assert_frame_equal(frame, second[name], check_exact=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", OPTIMIZERS.names)
@pytest.mark.parametrize("architecture", [{"name": "mlp", "normalization": "batch"},
                                          {"name": "cnn", "channels": [4, 6], "dense": [8]}], ids=str)  # fmt: skip
def test_steps_replayed_on_a_gpu_are_those_launched(
    architecture: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"epochs": 6, "batch_size": 12, "optimizer": name, "schedule": "cosine"}
    stacks = stack_of({"architecture": architecture, "grid": {"activation": ["relu", "prelu", "tanh"]}, "train": train})
    recorded: list[Any] = []
    record = Graphs.record
    monkeypatch.setattr(Graphs, "record", lambda *args: (recorded.append(args), record(*args))[1])
    replayed = trained(stacks, "cuda")
    assert len(recorded) == 2 * len(stacks)  # whole batches and last ones
    monkeypatch.setitem(_BEFORE, "cuda", 1 << 30)
    for name, frame in trained(stacks, "cuda").items():
        pd.testing.assert_frame_equal(frame, replayed[name], check_exact=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_gpu_trains_to_nearly_the_same_in_other_precisions(precision: str) -> None:
    config = {
        "architecture": {"name": "cnn", "channels": [8, 16], "dense": [8]},
        "grid": {"activation": ["relu", "elu"]},
    }
    losses = []
    for own in ("float32", precision):
        stacks = stack_of({**config, "train": {"epochs": 4, "batch_size": 12, "precision": own}})
        losses.append(trained(stacks, "cuda")["epochs"].groupby("trial")["train_loss"].last().sort_values().to_numpy())
    assert not np.array_equal(*losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_training_on_a_gpu_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    config = {"architecture": {"name": "cnn", "channels": [4], "dense": [8]}, "train": {"epochs": 2}}
    (stack,) = stack_of(config)
    whole = trained([stack], "cuda")
    data = load_dataset(stack.setting.dataset).to("cuda")
    first, second = (Training(stack, data, "s", "cuda") for _ in range(2))
    assert not first.run(lambda: first.step == 3, lambda *event: None)
    saved = Checkpoints(tmp_path)
    saved.save("x", {"trials": []}, first.checkpoint())
    second.restore(saved.load("x", {}) or {})
    assert second.run(lambda: False, lambda *event: None)
    for name in ("epochs", "layers", "units"):
        found = second.result().tables[name].sort_values("trial", kind="stable").reset_index(drop=True)
        pd.testing.assert_frame_equal(found, whole[name], check_exact=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("per_gpu", [1, 2])
def test_processes_share_a_gpu(tmp_path: Path, per_gpu: int) -> None:
    config = {"study": "s", "train": {"epochs": 1}, "seeds": 3, "grid": {"activation": ["relu", "prelu", "tanh"]}}
    study = reluexp.run(config, tmp_path, device="cuda", per_gpu=per_gpu)
    assert len(study.trials) == 9
    assert (study.trials["outcome"] == "finished").all()
    assert len(study.timing["stack"].unique()) == per_gpu


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_memory_that_runs_out_on_a_gpu_is_told_from_other_failures() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
    assert _kind(caught.value) == "memory"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_stack_on_a_gpu_waits_for_nothing_between_steps() -> None:
    config = {"architecture": {"name": "cnn", "channels": [4], "dense": [8]}, "grid": {"activation": ["relu", "prelu"]}}
    (stack,) = stack_of(config)
    training = Training(stack, load_dataset(stack.setting.dataset).to("cuda"), "s", "cuda")
    training.run(lambda: training.step == 1, lambda *event: None)
    assert training.replay
    order = training._order()
    with warnings.catch_warnings(), training.replay.here():
        warnings.simplefilter("ignore")  # that this is a prototype
        torch.cuda.set_sync_debug_mode("error")
        try:
            training._step(order, 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
def test_a_users_convolutions_share_a_stack_on_a_gpu(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_torch()
    monkeypatch.setattr("reluexp.networks.batching._CONVOLUTIONS", ())  # which forbid it on a CPU
    setting = load_config({"study": "s", "architecture": f"{__name__}:Own"}).points[0].setting
    assert reads_batched(setting, (1, 8, 8), 10, device)
    assert Network([setting] * 2, [0, 1], (1, 8, 8), 10, device, batched=True).stacked


class Own(torch.nn.Sequential):
    """A user's model."""

    def __init__(self, input_shape: Any, num_outputs: int, activation: Any) -> None:
        super().__init__(torch.nn.Conv2d(input_shape[0], 5, 3, padding="same"), activation(5), torch.nn.MaxPool2d(2),
                         torch.nn.Conv2d(5, 4, 3, stride=2), activation(4), torch.nn.Flatten(),
                         torch.nn.Linear(4, num_outputs))  # fmt: skip


def test_a_planner_leaves_no_gpu_without_work_and_cuts_stacks_for_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [gpus.Gpu("0", 8 << 30), gpus.Gpu("1", 8 << 30)]
    monkeypatch.setattr("reluexp.engine.visible_gpus", lambda: found)
    assert places(Resources.model_validate({}), True) == 2
    assert places(Resources.model_validate({"per_gpu": 3}), True) == 6
    assert places(Resources.model_validate({"workers": 5}), True) == 5


def test_a_stack_on_a_gpu_is_as_large_as_its_memory_holds() -> None:
    config = {"study": "s", "dataset": "mnist", "architecture": {"name": "cnn", "channels": [16, 32], "dense": [128]},
              "train": {"batch_size": 128}, "seeds": 1000}  # fmt: skip
    trials = make_trials(load_config(config))

    def largest(memory: int | None) -> int:
        return max(len(stack.trials) for stack in make_plan(trials, device="cuda", memory=memory).stacks)

    each = 4 * (6 * 206_922 + 8 * 128 * (16 * 28 * 28 + 32 * 14 * 14 + 128))  # 82 MB; 78 to 80 were measured
    for memory in (80 << 30, 8 << 30):
        stacks = math.ceil(1000 / (0.3 * memory // each))
        assert largest(memory) == math.ceil(1000 / stacks)
    assert largest(8 << 30) == largest(None)
    assert largest(1 << 20) == 1


def test_gpus_are_found_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = "0, GPU-aa, 81559\n1, GPU-bb, 40960\n2, GPU-cc, [N/A]\n"
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{told}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for visible, expected in (
        (None, [("GPU-aa", 81559 << 20), ("GPU-bb", 40960 << 20), ("GPU-cc", None)]),
        ("1", [("1", 40960 << 20)]),
        ("GPU-aa, MIG-x", [("GPU-aa", 81559 << 20), ("MIG-x", None)]),
        ("GPU-b, 0", [("GPU-b", None), ("0", 81559 << 20)]),
        ("0, 7, 1", [("0", 81559 << 20)]),
        ("0, -1, 1", [("0", 81559 << 20)]),
        ("-1", []),
        ("7", []),
        ("", []),
    ):
        gpus._installed.cache_clear()
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [(gpu.name, gpu.memory) for gpu in gpus.visible_gpus()] == expected
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    for failing in ("exit 9", "echo No devices were found"):
        tool.write_text(f"#!/bin/sh\n{failing}\n")
        gpus._installed.cache_clear()
        assert gpus.visible_gpus() == []
    gpus._installed.cache_clear()
