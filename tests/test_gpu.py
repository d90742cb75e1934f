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
from torch.nn import functional as F

import reluexp
from reluexp.catalogue.activations import ACTIVATIONS
from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.loading import load_dataset
from reluexp.catalogue.optimizers import OPTIMIZERS
from reluexp.config import load_config
from reluexp.engine import Resources, gpus, places
from reluexp.engine.work import _kind, settle_torch
from reluexp.networks.batching import reads_batched
from reluexp.networks.convolution import _summed_product, convolve
from reluexp.networks.network import Network
from reluexp.networks.pooling import max_pool2d
from reluexp.planning.plan import Stack, make_plan, make_trials
from reluexp.store.checkpoints import Checkpoints
from reluexp.training.loop import Training
from reluexp.training.replay import _BEFORE, Graphs

CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2e-2}
CONVOLUTIONAL = [name for name in ARCHITECTURES if ARCHITECTURES[name].convolutional]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "sides", "inputs", "outputs", "samples"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1), (8, 7), 3, 5, 4),
        ((3, 3), (2, 2), (1, 1), (1, 1), (8, 9), 3, 5, 4),
        ((5, 3), (1, 2), (2, 0), (1, 1), (9, 9), 1, 2, 3),
        ((1, 1), (1, 1), (0, 0), (1, 1), (4, 4), 6, 3, 2),
        ((1, 1), (2, 2), (0, 0), (1, 1), (5, 4), 6, 3, 2),
        ((3, 2), (1, 1), (0, 1), (2, 1), (9, 8), 2, 4, 4),
        ((3, 3), (1, 1), (2, 2), (1, 1), (6, 6), 2, 2, 1),
        ((1, 1), (1, 1), (1, 1), (1, 1), (4, 5), 2, 3, 4),
        ((3, 3), (1, 1), (1, 1), (1, 1), (40, 41), 2, 3, 24),
        ((3, 3), (1, 1), (1, 1), (1, 1), (7, 9), 2, 3, 45),
        ((3, 3), (1, 1), (1, 1), (1, 1), (7, 9), 2, 3, 47),
        ((3, 3), (1, 1), (1, 1), (1, 1), (5, 6), 8, 4, 2),
        ((3, 3), (2, 1), (0, 1), (1, 2), (7, 9), 4, 12, 3),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
def test_a_convolution_by_products_is_a_convolution(
    device: str, kernel: Any, stride: Any, padding: Any, dilation: Any, sides: Any, inputs: int, outputs: int,
    samples: int, biased: bool, dtype: torch.dtype,
) -> None:  # fmt: skip
    settle_torch()
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, generator=random).to(device).requires_grad_()

    x, weight = drawn(3, samples, inputs, *sides), drawn(3, outputs, inputs, *kernel)
    bias = drawn(3, outputs) if biased else None
    found = convolve(x, weight, bias, stride, padding, dilation)
    expected = torch.stack(
        [F.conv2d(x[i], weight[i], None if bias is None else bias[i], stride, padding, dilation) for i in range(3)]
    )
    leaves = [leaf for leaf in (x, weight, bias) if leaf is not None]

    def close(own: torch.Tensor, other: torch.Tensor) -> None:
        size = float(other.detach().abs().max())
        torch.testing.assert_close(own, other, rtol=0, atol=size * ROUNDING[dtype])

    close(found, expected)
    g = torch.randn(found.shape, dtype=dtype, generator=random).to(device)
    pairs = zip(torch.autograd.grad(found, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True)
    for own, other in pairs:
        close(own, other)


@pytest.mark.parametrize(("samples", "parts"), [(16, 1), (45, 3), (47, 47), (128, 4)])
def test_sums_over_many_places_are_cut_at_few_samples(
    monkeypatch: pytest.MonkeyPatch, samples: int, parts: int
) -> None:
    batches: list[int] = []
    bmm = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda left, right: (batches.append(len(left)), bmm(left, right))[1])
    rows, out = torch.randn(2, samples * 63, 18), torch.randn(2, samples * 63, 5)
    found = _summed_product(rows, out, samples)
    assert batches == [2 * parts]
    torch.testing.assert_close(found, rows.mT @ out, rtol=1e-3, atol=1e-3)


def test_a_convolution_of_what_stands_anywhere_in_memory_is_the_same() -> None:
    memory = torch.randn(1 + 2 * 3 * 5 * 5 * 4)
    x = memory[1:].view(2, 3, 5, 5, 4).movedim(-1, 2)  # channels last, and at no multiple of 16 bytes
    weight = torch.randn(2, 3, 4, 3, 3)
    found = convolve(x, weight, None, (1, 1), (0, 0), (1, 1))
    assert torch.equal(
        found, convolve(x.clone(memory_format=torch.contiguous_format), weight, None, (1, 1), (0, 0), (1, 1))
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(
    ("sides", "options"),
    [((6, 8), {}), ((7, 8), {}), ((9, 8), {"stride": 1}), ((8, 8), {"padding": 1}), ((6, 6), {"ceil_mode": True})],
    ids=str,
)
def test_a_max_pool_and_its_gradient_are_torchs(device: str, last: bool, sides: Any, options: dict[str, Any]) -> None:
    drawn = torch.randint(-3, 3, (2, 5, 4, *sides), generator=torch.Generator().manual_seed(0))  # ties abound
    x = drawn.float().to(device)
    if last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    own, other = (x.detach().clone().requires_grad_() for _ in range(2))
    found = max_pool2d(own, 2, **options)
    expected = F.max_pool2d(other.flatten(0, 1), 2, **options).unflatten(0, (2, 5))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    g = torch.arange(1.0, found.numel() + 1, device=device).view(found.shape)
    (left,), (right,) = torch.autograd.grad(found, own, g), torch.autograd.grad(expected, other, g)
    torch.testing.assert_close(left, right, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(max_pool2d(x, 2, **options), expected, rtol=0, atol=0)


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
