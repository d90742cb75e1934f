"""From a config to trials and stacks, and what they will cost. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.datasets import hints_of, validation_count
from reluexp.catalogue.registry import Options
from reluexp.config import LoadedConfig, Point, Setting

__all__ = [
    "NUMERICS",
    "Plan",
    "Stack",
    "Trial",
    "estimate",
    "make_plan",
    "make_trials",
    "probe_size",
    "stackable",
    "trial_id",
]

NUMERICS = 2
"""version of everything that decides numbers; raised whenever a trial's numbers change"""

_LARGEST_STACK = 64


@dataclass(frozen=True)
class Trial:
    """One point of the grid with one seed; `id` is a hash of what decides its numbers."""

    id: str
    seed: int
    point: Point


@dataclass(frozen=True)
class Stack:
    """Trials of one setting that are trained together; `id` is a hash of theirs."""

    id: str
    trials: tuple[Trial, ...]

    @property
    def setting(self) -> Setting:
        """What the trials have in common: everything but the seed."""
        return self.trials[0].point.setting


@dataclass(frozen=True)
class Plan:
    """Every trial that the config asks for, and the stacks of those still to do."""

    trials: list[Trial]
    stacks: list[Stack]

    @property
    def to_do(self) -> int:
        """Trials that are not finished yet."""
        return sum(len(stack.trials) for stack in self.stacks)


def identity(options: Options) -> str:
    """Canonical JSON of everything in the options that decides numbers."""
    return json.dumps(_identity(options), sort_keys=True, separators=(",", ":"))


def _identity(value: Any) -> Any:
    if isinstance(value, Options):
        return {key: _identity(item) for key, item in value if key not in value.outside_identity}
    return [_identity(item) for item in value] if isinstance(value, (list, tuple)) else value


def trial_id(setting: str, seed: int) -> str:
    """A short name: the same for the same setting (as `identity` gives it), seed and version of the numerics."""
    return hashlib.sha256(f"{NUMERICS}\n{setting}\n{seed}".encode()).hexdigest()[:12]


def make_trials(loaded: LoadedConfig) -> list[Trial]:
    """Every trial of a study, point by point."""
    known: dict[int, str] = {}
    trials = []
    for point in loaded.points:
        for _, part in point.setting:
            if id(part) not in known:
                known[id(part)] = identity(part)
        setting = ",".join(known[id(part)] for _, part in point.setting)
        trials += [Trial(trial_id(setting, seed), seed, point) for seed in loaded.config.seed_list]
    return trials


def stackable(setting: Setting, device: str) -> bool:
    """Whether trials of this setting can be read as one batched computation.

    Models and activations that are the user's own may not survive a batched reading, and convolutions on a CPU
    lose by it: both train one by one.
    """
    names = (setting.architecture.name, setting.activation.name)
    if any(":" in name for name in names):
        return False
    return device != "cpu" or not ARCHITECTURES[names[0]].convolutional


def make_plan(
    trials: list[Trial],
    finished: Iterable[str] = (),
    begun: Iterable[Iterable[str]] = (),
    workers: int = 1,
    device: str = "cpu",
    largest: int | None = None,
) -> Plan:
    """The stacks of the trials that are not finished, sized so that no worker is without work.

    Stacks that were begun (their trials' names) stay together, since a checkpoint holds all of a stack.
    """
    done = set(finished)
    left = {trial.id: trial for trial in trials if trial.id not in done}
    stacks = []
    for names in map(tuple, begun):
        if names and all(name in left for name in names):
            stacks.append(_stack([left.pop(name) for name in names]))
    groups: dict[int, list[Trial]] = {}
    for trial in left.values():
        groups.setdefault(id(trial.point), []).append(trial)
    for group in groups.values():
        size = 1
        if stackable(group[0].point.setting, device):
            pieces = max(1, math.ceil(workers / len(groups)))
            size = min(largest or _LARGEST_STACK, math.ceil(len(group) / pieces))
        stacks += [_stack(group[start : start + size]) for start in range(0, len(group), size)]
    return Plan(trials, stacks)


def _stack(trials: list[Trial]) -> Stack:
    digest = hashlib.sha256(" ".join(trial.id for trial in trials).encode()).hexdigest()
    return Stack(digest[:12], tuple(trials))


def probe_size(size: int | str, train: int) -> int:
    """Samples in the probe set: N/32 within [320, 2048] and at most N, or as given."""
    return min(train, max(320, min(2048, train // 32))) if size == "auto" else int(size)


def estimate(plan: Plan, workers: int) -> Mapping[str, float] | None:
    """Rough seconds, bytes of memory per worker and bytes on disk; None where a data set or a model is unknown.

    Arithmetic at 10 Gflop/s and 0.4 ms of overhead per step of a stack, both typical of one CPU core.
    """
    seconds = memory = disk = 0.0
    for stack in plan.stacks:
        work = _work(stack.setting)
        if work is None:
            return None
        parameters, products, samples, size = work
        train, replicas = stack.setting.train, len(stack.trials)
        steps = math.ceil(samples / train.batch_size) * train.epochs
        seconds += steps * 4e-4 * (1 + 0.1 * replicas) + 8 * products * samples * train.epochs * replicas / 1e10
        memory = max(memory, 4.0 * (size * samples * 1.2 + 6 * parameters * replicas))
        disk += replicas * (4.0 * parameters * train.save_weights + 200.0 * train.epochs + 20_000)
    return {"seconds": seconds / max(1, min(workers, len(plan.stacks))) + 6, "memory": memory + 4e8, "disk": disk}


def _work(setting: Setting) -> tuple[int, float, int, int] | None:
    """Parameters, multiply-adds per sample, training samples and numbers per sample."""
    hints = hints_of(setting.dataset)
    entry = setting.architecture.name
    if hints.shape is None or hints.classes is None or hints.train is None or entry not in ARCHITECTURES:
        return None
    layers = ARCHITECTURES[entry].layers(setting.architecture, hints.shape, hints.classes)
    samples = min(setting.dataset.train_size or hints.train, hints.train)
    samples -= validation_count(samples, setting.dataset.validation)
    parameters = sum((inputs + 1) * outputs for inputs, outputs, _ in layers)
    products = float(sum(inputs * outputs * positions for inputs, outputs, positions in layers))
    return parameters, products, samples, math.prod(hints.shape)
