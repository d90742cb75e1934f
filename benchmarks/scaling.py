"""Arithmetic achieved against attainable, and time against seeds, width, stack size and workers.

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
from reluexp.plan import make_plan, make_trials
from reluexp.runner import run_loaded
from reluexp.train import Training

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


def step(width: int, trials: int) -> tuple[float, float]:
    """Seconds of one training step of a stack of digits MLPs of four layers, and its floating-point operations."""
    grid = {"activation": ACTIVATIONS} if trials % 7 == 0 else {"activation": ["relu"]}
    seeds = trials // len(grid["activation"])
    loaded = load_config({"study": "s", "architecture": {"depth": 4, "width": width}, "seeds": seeds, "grid": grid})
    (stack,) = make_plan(make_trials(loaded), largest=trials).stacks
    training = Training(stack, load_dataset(stack.setting.dataset), "s")
    training.run(lambda: bool(training.step), lambda *event: None)
    order = training._order()
    products = 64 * width + 3 * width * width + width * 10
    seconds = best(lambda: training._step(order, 1))
    return seconds, 2 * 64 * trials * (3 * products - 64 * width)


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
    print("| width | trials in the stack | µs per step and trial | Gflop/s | of the product's |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for width in (16, 64, 256):
        for trials in (1, 7, 35, 70):
            seconds, operations = step(width, trials)
            rate = operations / seconds / 1e9
            print(
                f"| {width} | {trials} | {1e6 * seconds / trials:.0f} | {rate:.1f} | {100 * rate / attainable:.0f} % |",
                flush=True,
            )
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
