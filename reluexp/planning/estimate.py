"""What a plan will cost: seconds by phase, memory and disk. Nothing here imports torch.

A model of one CPU core and one of a GPU, whose constants were fitted to measurements (docs/performance.md); what
earlier runs on the same machine took corrects them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from reluexp.catalogue.activations import dies
from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.datasets import hints_of
from reluexp.config import Setting
from reluexp.planning.plan import Plan, Stack, Workload, own_key, probe_size, workload
from reluexp.planning.schedule import full_epochs

__all__ = ["Cost", "estimate", "kind_of", "stack_seconds"]

_DENSE, _CONVOLUTION, _DOUBLE = 85e9, 60e9, 25e9  # flop/s of products: single precision, convolutions, double precision
_PER_STEP, _PER_PASS = 6e-4, 5e-4  # seconds of a step, of an evaluation
_PER_SITE, _PER_NORM = 3e-5, 4e-4  # seconds that each activation, and each norm, at each site adds to a step
_ELEMENT, _PARAMETER = 1e-9, 1e-9  # seconds for each of them in a step
_SUM, _CENTRE, _EIGEN = 6e-9, 4e-9, 1.5e-8  # for each element in a measurement's sums, in its spectra; times width²
_CONFIRM = 1.7  # a pass that looks for the samples a unit responds to, against one that evaluates
_GPU_LAUNCHED, _GPU_REPLAYED, _GPU_MEASURED = 6e-3, 4e-4, 3e-2  # seconds of a step, of a measurement's operations
_GPU_ELEMENT, _GPU_PARAMETER, _GPU_SUM, _GPU_FORWARD = 6e-11, 2.6e-11, 7e-11, 2e-11
_START = 5.0  # seconds until the workers have imported torch and read the data
_REPORT, _REPORT_TRIAL, _REPORT_EPOCH = 3.5, 2.2e-4, 6e-5  # seconds of a report, of each trial and each of its epochs
_WORKER = 9e8  # bytes of a worker with torch
_PAGE, _PAGE_SETTING = 5e6, 4e5  # bytes of a report on disk, of each setting in it
_SHOWN = 12  # settings in a report's figures
_ROW, _TABLES = 200.0, 20_000.0  # bytes of a measurement of a trial, and of what is known of its layers and units


@dataclass(frozen=True)
class Cost:
    """Seconds of all workers by phase, the longest stack's, the report's; bytes of memory per worker, bytes on disk."""

    phases: Mapping[str, float]
    longest: float
    report: float
    memory: float
    disk: float

    def __add__(self, later: Cost) -> Cost:
        """With a phase that begins when this one has ended, and makes the report."""
        phases = {name: seconds + later.phases[name] for name, seconds in self.phases.items()}
        whole = self.longest + later.longest, later.report, max(self.memory, later.memory)
        return Cost(phases, *whole, self.disk + later.disk)

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
        seconds, work = stack_seconds(stack, device), workload(stack.setting)
        if seconds is None or work is None:
            return None
        factor = (speed or {}).get(kind_of(stack.setting, device), 1.0)
        for phase, value in seconds.items():
            phases[phase] += factor * value
        longest = max(longest, factor * sum(seconds.values()))
        train, replicas = stack.setting.train, len(stack.trials)
        memory = max(memory, _bytes(stack, work))
        tables = _ROW if stack.setting.probe.metrics == "network" else _TABLES
        disk += _TABLES + replicas * (4.0 * work.parameters * train.save_weights + _ROW * train.epochs + tables)
    rows = sum(trial.point.setting.train.epochs + 1 for trial in plan.trials)
    report = _REPORT + _REPORT_TRIAL * len(plan.trials) + _REPORT_EPOCH * rows
    settings = len({id(trial.point) for trial in plan.trials})
    disk += _PAGE + _PAGE_SETTING * min(settings, _SHOWN)
    return Cost(phases, longest, report, _WORKER + memory, disk)


def _bytes(stack: Stack, work: Workload) -> float:
    """Bytes for the data as they are read, for the weights and what trains them, for what passes through a network."""
    hints, replicas = hints_of(stack.setting.dataset), len(stack.trials)
    data = 1.5 * work.numbers * ((hints.train or 0) + (hints.test or 0))
    passing = 8 * replicas * work.elements * work.batch(stack.setting)
    return 4.0 * (data + 6 * work.parameters * replicas + passing)


def kind_of(setting: Setting, device: str = "cpu") -> str:
    """Networks whose speeds go together, by this model of them."""
    entry = setting.architecture.name
    kind = "conv" if entry in ARCHITECTURES and ARCHITECTURES[entry].convolutional else "dense"
    precision = setting.train.precision
    where = "" if device == "cpu" else " gpu" if device == "cuda" else f" {device}"
    return kind + where + (f" {precision}" if precision != "float32" else "")


def stack_seconds(stack: Stack, device: str = "cpu") -> dict[str, float] | None:
    """Seconds of one core, or of one GPU, for a stack, by phase; None where too little is known."""
    setting = stack.setting
    work, hints = workload(setting), hints_of(setting.dataset)
    if work is None or hints.test is None:
        return None
    train, probe = setting.train, setting.probe
    step, forward, light, full = (_on_gpu if device == "cuda" else _on_core)(stack, work)
    epochs = set(range(0, train.epochs + 1, probe.every)) | {0, train.epochs}
    gradients = set() if probe.metrics == "network" else full_epochs(probe.full, train.epochs) & epochs
    mortal = sum(dies(own.activation) for own in stack.settings) / len(stack.settings)
    confirming = _CONFIRM * mortal * forward * work.samples
    test = min(setting.dataset.test_size or hints.test, hints.test)
    return {
        "train": math.ceil(work.samples / train.batch_size) * train.epochs * step,
        "measure": (len(epochs) - len(gradients) + probe.early) * light + len(gradients) * full + confirming,
        "evaluate": (train.epochs + 1) * (forward * test + _PER_PASS),
    }


Prices = tuple[float, float, float, float]
"""seconds of a step, of evaluating a sample, of a light measurement and of a full one"""


def _on_core(stack: Stack, work: Workload) -> Prices:
    setting, replicas = stack.setting, len(stack.trials)
    rate = _CONVOLUTION if kind_of(setting).startswith("conv") else _DENSE
    fixed = len({own.activation for own in stack.settings}) * work.sites * _PER_SITE
    batch = work.batch(setting)
    each = 6 * work.products / rate + work.elements * _ELEMENT
    norms = work.sites * _PER_NORM * (getattr(setting.architecture, "normalization", "none") != "none")
    step = _PER_STEP + fixed + norms + replicas * (batch * each + work.parameters * _PARAMETER)
    forward = replicas * (2 * work.products / rate + work.elements * _ELEMENT)
    size = probe_size(setting.probe.size, work.samples)
    light = size * (forward + replicas * work.elements * _SUM) + 1.3e-3 + 3.5 * fixed
    full = light + size * 2 * forward
    if setting.probe.metrics == "full":
        spectra = size * (work.spectra / _DOUBLE + work.elements * _CENTRE) + work.squares * _EIGEN
        full += replicas * spectra
    return step, forward, light, full


def _on_gpu(stack: Stack, work: Workload) -> Prices:
    """Where launches count until there is much to compute; a step of built-in networks without dropout has one."""
    setting, replicas = stack.setting, len(stack.trials)
    launched = own_key(setting) is not None or getattr(setting.architecture, "dropout", 0.0) > 0
    samples = replicas * work.batch(setting)
    step = _GPU_LAUNCHED if launched else _GPU_REPLAYED
    step += samples * work.elements * _GPU_ELEMENT + replicas * work.parameters * _GPU_PARAMETER
    light = _GPU_MEASURED + replicas * probe_size(setting.probe.size, work.samples) * work.elements * _GPU_SUM
    return step, replicas * work.elements * _GPU_FORWARD, light, 2 * light
