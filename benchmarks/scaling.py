"""Arithmetic achieved against attainable, stacks against vmap, and time against seeds, width, stack size and workers.

python benchmarks/scaling.py
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from reluexp.catalogue.loading import load_dataset
from reluexp.config import load_config
from reluexp.engine import Resources
from reluexp.layers import Site
from reluexp.measuring.probe import loss_per_sample
from reluexp.networks.network import Network, build_module
from reluexp.planning.plan import make_plan, make_trials
from reluexp.runner import run_loaded
from reluexp.training.loop import Training

ACTIVATIONS = ["relu", "leaky_relu", "prelu", "elu", "selu", "sigmoid", "tanh"]


def best(call: Callable[[], Any], times: int = 20) -> float:
    """The least seconds of several calls."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def peak() -> float:
    """Gflop/s of a large matrix product on one thread."""
    a = torch.randn(1024, 1024)
    return 2 * 1024**3 / best(lambda: a @ a) / 1e9


def step(width: int, trials: int) -> tuple[float, float, float]:
    """Seconds of a training step of a stack of digits MLPs of four layers: as written, replayed; its operations."""
    grid = {"activation": ACTIVATIONS} if trials % 7 == 0 else {"activation": ["relu"]}
    seeds = trials // len(grid["activation"])
    loaded = load_config({"study": "s", "architecture": {"depth": 4, "width": width}, "seeds": seeds, "grid": grid})
    (stack,) = make_plan(make_trials(loaded), largest=trials).stacks
    training = Training(stack, load_dataset(stack.setting.dataset), "s")
    training.run(lambda: bool(training.step), lambda *event: None)
    order = training._order()
    products = 64 * width + 3 * width * width + width * 10
    replay, training.replay = training.replay, None
    written = best(lambda: training._step(order, 1))
    training.replay = replay
    replayed = best(lambda: training._step(order, 1), 80)
    return written, replayed, 2 * 64 * trials * (3 * products - 64 * width)


def against_vmap(trials: int, convolutional: bool) -> tuple[float, float]:
    """Seconds of the losses and gradients of a stack of ReLU networks: of reluexp's own, and by torch.func.vmap."""
    from torch import nn
    from torch.func import functional_call, grad, stack_module_state, vmap

    dataset, architecture = "digits", {"name": "mlp", "depth": 4, "width": 64}
    if convolutional:
        architecture = {"name": "cnn", "channels": [16, 32], "dense": [64]}
    config = {"study": "s", "dataset": dataset, "architecture": architecture, "grid": {"activation": ["relu"]}}
    trial_list = make_trials(load_config({**config, "seeds": trials}))
    stacks = make_plan(trial_list, largest=trials).stacks
    data = load_dataset(stacks[0].setting.dataset)
    shape, outputs = data.input_shape, data.outputs
    x, y = data.train_x[:64], data.train_y[:64]
    networks = [Network(stack.settings, [trial.seed for trial in stack.trials], shape, outputs) for stack in stacks]

    def own() -> None:
        for network in networks:
            loss = loss_per_sample(network.forward(x, moment=(0, 0)), y[None]).mean(1).sum()
            network.flatten(torch.autograd.grad(loss, network.leaves))

    modules = [build_module(stacks[0].setting, shape, outputs, seed) for seed in range(trials)]
    parameters, _ = stack_module_state(modules)

    def loss_of(own: dict[str, Any], x: Any, y: Any) -> Any:
        return nn.functional.cross_entropy(functional_call(plain, own, (x,)), y)

    plain = _with_torchs_relu(modules[0])
    mapped = vmap(grad(loss_of), in_dims=(0, None, None))
    return best(own), best(lambda: mapped(parameters, x, y))


def _with_torchs_relu(module: Any) -> Any:
    """The same module with nn.ReLU at its sites: vmap takes no autograd function without a rule of its own."""
    for own in module.modules():
        if isinstance(own, Site):
            own.function = torch.nn.ReLU()
    return module


def whole(workers: int, **changes: Any) -> float:
    """Seconds of training a study from its plan to its end."""
    base = {
        "study": "s",
        "architecture": {"depth": 4, "width": 64},
        "train": {"epochs": 5},
        "grid": {"activation": ACTIVATIONS},
    }
    begun: list[float] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "plan":
            begun.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        resources = Resources.model_validate({"workers": workers})
        run_loaded(load_config({**base, **changes}), Path(folder), resources, listener=listen)
    return time.perf_counter() - begun[0]


def main() -> None:
    """Prints the tables in Markdown."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    attainable = peak()
    print(f"A product of 1024 × 1024 matrices on one thread: {attainable:.0f} Gflop/s\n")
    print("| width | trials in the stack | µs per step and trial, as written | replayed | Gflop/s | of the product's |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for width in (16, 64, 256):
        for trials in (1, 7, 35, 70):
            written, replayed, operations = step(width, trials)
            rate = operations / replayed / 1e9
            each = " | ".join(f"{1e6 * seconds / trials:.0f}" for seconds in (written, replayed))
            print(f"| {width} | {trials} | {each} | {rate:.1f} | {100 * rate / attainable:.0f} % |", flush=True)
    print("\n| network | trials | ms of losses and gradients | by vmap | |\n| --- | ---: | ---: | ---: | ---: |")
    for name, convolutional in (("mlp 4 × 64", False), ("cnn 16-32", True)):
        for trials in (1, 5, 35):
            own, mapped = against_vmap(trials, convolutional)
            ratio = f"{mapped / own:.1f} ×"
            print(f"| {name} | {trials} | {1e3 * own:.1f} | {1e3 * mapped:.1f} | {ratio} |", flush=True)
    print("\n| seeds | seconds, 2 workers | of one seed's |\n| ---: | ---: | ---: |")
    first = None
    for seeds in (1, 5, 10, 50):
        seconds = whole(2, seeds=seeds)
        first = first or seconds
        print(f"| {seeds} | {seconds:.1f} | {seconds / first:.1f} × |", flush=True)
    one, two = (min(whole(workers, seeds=10, train={"epochs": 20}) for _ in range(2)) for workers in (1, 2))
    print(f"\nTwo workers against one: {one / two:.2f} × ({one:.1f} s, {two:.1f} s)")


if __name__ == "__main__":
    main()
