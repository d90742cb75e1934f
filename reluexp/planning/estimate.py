"""What a plan will cost: seconds by phase, memory and disk. Nothing here imports torch.

A model of one CPU core, whose constants were fitted to measurements (docs/performance.md); what earlier runs on the
same machine took corrects it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.datasets import hints_of
from reluexp.config import Setting
from reluexp.planning.plan import Plan, Stack, probe_size, workload
from reluexp.planning.schedule import full_epochs

__all__ = ["Cost", "estimate", "kind_of", "stack_seconds"]

_DENSE, _CONVOLUTION, _DOUBLE = 85e9, 60e9, 30e9  # flop/s of products: single precision, convolutions, double precision
_PER_STEP, _PER_SITE = 6e-4, 3e-5  # seconds of a step, and of each activation at each site in it
_ELEMENT, _PARAMETER, _SUM = 1e-9, 1e-9, 5.5e-9  # seconds for each of them in a step; for each in a measurement's sums
_START = 5.0  # seconds until the workers have imported torch and read the data
_REPORT, _REPORT_TRIAL, _REPORT_EPOCH = 3.5, 2.2e-4, 6e-5  # seconds of a report, of each trial and each of its epochs


@dataclass(frozen=True)
class Cost:
    """Seconds of all workers by phase, the longest stack's, the report's; bytes of memory per worker, bytes on disk."""

    phases: Mapping[str, float]
    longest: float
    report: float
    memory: float
    disk: float

    def wall(self, workers: int) -> float:
        """Seconds from the command to its end."""
        return max(sum(self.phases.values()) / workers, self.longest) + _START + self.report

    @property
    def measuring(self) -> float:
        """Measuring against training; NaN where nothing trains."""
        return self.phases["measure"] / self.phases["train"] if self.phases["train"] else math.nan


def estimate(plan: Plan, speed: Mapping[str, float] | None = None, device: str = "cpu") -> Cost | None:
    """The cost of the stacks still to do; None where a data set or a model is unknown before it is loaded.

    `speed` has, for each kind of network, what earlier runs took against this estimate.
    """
    phases = {"train": 0.0, "measure": 0.0, "evaluate": 0.0}
    longest = memory = disk = 0.0
    for stack in plan.stacks:
        seconds, work = stack_seconds(stack), workload(stack.setting)
        if seconds is None or work is None:
            return None
        factor = (speed or {}).get(kind_of(stack.setting, device), 1.0)
        for phase, value in seconds.items():
            phases[phase] += factor * value
        longest = max(longest, factor * sum(seconds.values()))
        train, replicas = stack.setting.train, len(stack.trials)
        memory = max(memory, 4.0 * (work.numbers * work.samples * 1.2 + 6 * work.parameters * replicas))
        disk += replicas * (4.0 * work.parameters * train.save_weights + 200.0 * train.epochs + 20_000)
    rows = sum(trial.point.setting.train.epochs + 1 for trial in plan.trials)
    report = _REPORT + _REPORT_TRIAL * len(plan.trials) + _REPORT_EPOCH * rows
    return Cost(phases, longest, report, memory + 4e8, disk)


def kind_of(setting: Setting, device: str = "cpu") -> str:
    """Networks whose speeds go together."""
    entry = setting.architecture.name
    kind = "conv" if entry in ARCHITECTURES and ARCHITECTURES[entry].convolutional else "dense"
    return kind if device == "cpu" else f"{kind} {device}"


def stack_seconds(stack: Stack) -> dict[str, float] | None:
    """Seconds of one core for a stack, by phase; None where too little is known."""
    setting, replicas = stack.setting, len(stack.trials)
    work, hints = workload(setting), hints_of(setting.dataset)
    if work is None or hints.test is None:
        return None
    train, probe = setting.train, setting.probe
    activations = len({own.activation for own in stack.settings})
    rate = _CONVOLUTION if kind_of(setting) == "conv" else _DENSE
    fixed = activations * work.sites * _PER_SITE

    def forward(samples: float) -> float:
        each = 2 * work.products / rate + work.elements * _ELEMENT
        return replicas * samples * each + 3e-4 + fixed / 2

    steps = math.ceil(work.samples / train.batch_size) * train.epochs
    each = 6 * work.products / rate + work.elements * _ELEMENT
    batch = min(train.batch_size, work.samples)
    step = _PER_STEP + fixed + replicas * (batch * each + work.parameters * _PARAMETER)
    size = probe_size(probe.size, work.samples)
    light = forward(size) + replicas * size * work.elements * _SUM + 1e-3 + 3 * fixed
    spectra = replicas * work.spectra * size / _DOUBLE if probe.metrics == "full" else 0.0
    full = light + 2 * forward(size) + spectra
    epochs = set(range(0, train.epochs + 1, probe.every)) | {0, train.epochs}
    gradients = set() if probe.metrics == "network" else full_epochs(probe.full, train.epochs) & epochs
    test = min(setting.dataset.test_size or hints.test, hints.test)
    return {
        "train": steps * step,
        "measure": (len(epochs) - len(gradients) + probe.early) * light + len(gradients) * full,
        "evaluate": (train.epochs + 1) * forward(test),
    }
