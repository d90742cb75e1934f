"""From a config to trials and stacks, and what they will cost. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reluexp.catalogue.activations import ACTIVATIONS
from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.datasets import hints_of, validation_count
from reluexp.catalogue.registry import Options, is_own
from reluexp.config import LoadedConfig, Point, Setting, Train, identity

__all__ = [
    "NUMERICS",
    "Plan",
    "Stack",
    "Trial",
    "Workload",
    "make_plan",
    "make_trials",
    "name_of",
    "own_key",
    "probe_size",
    "stackable",
    "workload",
]

NUMERICS = 8
"""version of everything that decides numbers; raised whenever a trial's numbers change"""

_SMALLEST_STACK, _UNKNOWN_STACK, _LARGEST_STACK, _LARGEST_BIRTH = 8, 16, 128, 10_000
_CACHE_BYTES, _BIRTH_BYTES = 8_000_000, 100_000_000
_LARGEST_ON_GPU, _GPU_SHARE, _GPU_BYTES = 2048, 0.3, 8 << 30


@dataclass(frozen=True, slots=True)
class Trial:
    """One point of the grid with one seed; `id` is a hash of what decides its numbers."""

    id: str
    seed: int
    point: Point


@dataclass(frozen=True)
class Stack:
    """Trials that are trained together; `id` is a hash of theirs.

    They may differ in their seeds, activations, initialisations, learning rates and weight decays.
    """

    id: str
    trials: tuple[Trial, ...]

    @property
    def setting(self) -> Setting:
        """The first trial's: of data set, architecture, training and probe all have the same, but for those rates."""
        return self.trials[0].point.setting

    @property
    def settings(self) -> list[Setting]:
        """Each trial's setting."""
        return [trial.point.setting for trial in self.trials]

    def to_json(self) -> dict[str, Any]:
        """Plain data from which `from_json` makes the same stack in another process."""
        numbers = {id(trial.point): 0 for trial in self.trials}
        numbers = {key: number for number, key in enumerate(numbers)}
        points = {numbers[id(trial.point)]: trial.point for trial in self.trials}
        shown = [{"setting": p.setting.model_dump(mode="json"), "axes": p.axes} for p in points.values()]
        trials = [[trial.id, trial.seed, numbers[id(trial.point)]] for trial in self.trials]
        return {"stack": self.id, "points": shown, "trials": trials}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stack:
        """The stack that `to_json` wrote down."""
        points = [Point(Setting.model_validate(own["setting"]), own["axes"]) for own in data["points"]]
        return cls(data["stack"], tuple(Trial(name, seed, points[number]) for name, seed, number in data["trials"]))


@dataclass(frozen=True)
class Plan:
    """Every trial that the config asks for, and the stacks of those still to do."""

    trials: list[Trial]
    stacks: list[Stack]

    @property
    def to_do(self) -> int:
        """Trials that are not finished yet."""
        return sum(len(stack.trials) for stack in self.stacks)


def name_of(setting: Setting, seed: int) -> str:
    """A trial's name: a hash of everything that decides its numbers."""
    return _named(_start(identity(part) for _, part in setting), seed)


def _start(parts: Iterable[str]) -> Any:
    """A hash that has taken in the version of the numerics and the parts of a setting as `identity` gives them."""
    return hashlib.sha256(f"{NUMERICS}\n{','.join(parts)}\n".encode())


def _named(start: Any, seed: int) -> str:
    own = start.copy()
    own.update(str(seed).encode())
    return str(own.hexdigest()[:12])


def make_trials(loaded: LoadedConfig) -> list[Trial]:
    """Every trial of a study, point by point."""
    known: dict[int, str] = {}
    trials: list[Trial] = []
    seeds = loaded.seed_list
    for point in loaded.points:
        for _, part in point.setting:
            if id(part) not in known:
                known[id(part)] = identity(part)
        start = _start(known[id(part)] for _, part in point.setting)
        trials += [Trial(_named(start, seed), seed, point) for seed in seeds]
    return trials


def stackable(setting: Setting, device: str, batched: Container[str] = ()) -> bool:
    """Whether trials of this setting can be read as one batched computation.

    Models and activations that are the user's own may not survive a batched reading: `batched` holds the keys of those
    that do. Convolutions on a CPU lose by it, and train one by one.
    """
    own = own_key(setting)
    if own is not None:
        return own in batched
    return device != "cpu" or not ARCHITECTURES[setting.architecture.name].convolutional


def own_key(setting: Setting) -> str | None:
    """What the user's own code in a setting's network is, and with what options; None if there is none."""
    model, activation = (is_own(part) for part in (setting.architecture, setting.activation))
    if not (model or activation):
        return None
    return json.dumps([identity(setting.architecture), identity(setting.activation) if activation else None])


def make_plan(
    trials: list[Trial],
    finished: Iterable[str] = (),
    begun: Iterable[Iterable[str]] = (),
    workers: int = 1,
    device: str = "cpu",
    largest: int | None = None,
    batched: Container[str] = (),
    memory: int | None = None,
) -> Plan:
    """The stacks of the trials that are not finished, sized so that no worker is without work.

    `batched` holds the keys of the user's own models that can be read as a batched computation (`own_key`), `memory`
    is what a worker has of its GPU, in bytes, if that is known. Stacks that were begun (their trials' names) stay
    together, since a checkpoint holds all of a stack.
    """
    done = set(finished)
    left = {trial.id: trial for trial in trials if trial.id not in done}
    stacks = []
    for names in map(tuple, begun):
        if names and all(name in left for name in names):
            stacks.append(_stack([left.pop(name) for name in names]))
    groups = _groups(left.values(), device, batched)
    for group in groups:
        most = largest or _preferred(group[0].point.setting, device, memory)
        most = most if stackable(group[0].point.setting, device, batched) else 1
        stacks += [_stack(part) for part in _parts(group, workers, len(groups), most)]
    return Plan(trials, stacks)


def _groups(trials: Iterable[Trial], device: str, batched: Container[str]) -> list[list[Trial]]:
    """Trials that may share a stack, those with the same activation beside each other."""
    known: dict[int, str] = {}
    layouts: dict[tuple[str, ...], dict[str | None, list[Trial]]] = {}
    for trial in trials:
        setting = trial.point.setting
        parts = (setting.dataset, setting.architecture, setting.train, setting.probe)
        for part in parts:
            if id(part) not in known:
                known[id(part)] = _common(part)
        key = tuple(known[id(part)] for part in parts)
        if is_own(setting.architecture):  # whose own initialisation is kept with `torch`
            key = (*key, str(setting.init.name == "torch"))
        if is_own(setting.activation):  # which cannot write into a slice
            key = (*key, identity(setting.activation))
        if not stackable(setting, device, batched):
            key = (*key, trial.id)
        layouts.setdefault(key, {}).setdefault(_layout(setting), []).append(trial)
    groups = []
    for own in layouts.values():
        plain = own.pop(None, [])
        learned = list(own.values()) or [[]]
        groups += [[*plain, *learned[0]], *learned[1:]]
    order = {name: place for place, name in enumerate(ACTIVATIONS)}

    def place(trial: Trial) -> tuple[int, str]:
        options = trial.point.setting.activation
        if id(options) not in known:
            known[id(options)] = identity(options)
        return order.get(options.name, 0), known[id(options)]

    return [sorted(group, key=place) for group in groups]


def _common(part: Options) -> str:
    """What trials of one stack must have in common of a part: all but the rates, which each replica has for itself."""
    return identity(part, ["optimizer.lr", "optimizer.weight_decay"] if isinstance(part, Train) else [])


def _layout(setting: Setting) -> str | None:
    """Which learned parameters an activation adds; nets with different ones cannot lie in one block of memory."""
    name = setting.activation.name
    return identity(setting.activation) if name in ACTIVATIONS and ACTIVATIONS[name].learned else None


def _parts(group: list[Trial], workers: int, groups: int, most: int) -> Iterator[list[Trial]]:
    """A group cut into stacks of nearly equal size, `most` at most, so that workers are busy to the end.

    Neighbours have the same activation: each one in a stack adds to the fixed cost of a step.
    """
    count = math.ceil(len(group) / most)
    if most > 1 and groups < workers:
        count = max(count, min(len(group), math.ceil(workers / groups)))
    if 1 < count < 4 * workers and len(group) >= count + -count % workers:
        count += -count % workers
    for part in range(count):
        yield group[part * len(group) // count : (part + 1) * len(group) // count]


def _preferred(setting: Setting, device: str, memory: int | None) -> int:
    """Trials in a stack: as many as keep a step's working memory near what a core's cache holds, but not too few.

    A step reads and writes weights, gradients and the optimizer's state once each; from about 8 MB on more replicas
    save nothing, and below it a step's fixed cost is shared by them (docs/performance.md has the measurement).
    On a GPU a step's cost is its number of operations until the GPU is full: as many as a share of its memory holds.
    """
    if is_own(setting.architecture):
        return _UNKNOWN_STACK
    work = workload(setting)
    if work is None:
        return _LARGEST_STACK
    if device != "cpu":
        each = 4 * (6 * work.parameters + 8 * work.batch(setting) * work.elements)
        return max(1, min(_LARGEST_ON_GPU, int(_GPU_SHARE * (memory or _GPU_BYTES)) // each))
    born = setting.train.epochs == 0
    budget, largest = (_BIRTH_BYTES, _LARGEST_BIRTH) if born else (_CACHE_BYTES, _LARGEST_STACK)
    each = 4 * (4 * work.parameters + work.batch(setting) * (work.numbers + 2 * work.elements))
    return max(_SMALLEST_STACK, min(largest, budget // each))


def _stack(trials: list[Trial]) -> Stack:
    digest = hashlib.sha256(" ".join(trial.id for trial in trials).encode()).hexdigest()
    return Stack(digest[:12], tuple(trials))


def probe_size(size: int | str, train: int) -> int:
    """Samples in the probe set: N/32 within [320, 2048] and at most N, or as given."""
    return min(train, max(320, min(2048, train // 32))) if size == "auto" else int(size)


@dataclass(frozen=True)
class Workload:
    """How much a network is, for each network or each sample, as far as it can be foretold.

    `elements` are the values of all hidden sites, `spectra` the floating-point operations of their Gram matrices,
    `squares` the elements of these matrices, `numbers` those of an input, `samples` the training samples.
    """

    parameters: int
    products: float
    elements: int
    spectra: float
    squares: int
    sites: int
    samples: int
    numbers: int

    def batch(self, setting: Setting) -> int:
        """Samples of a step: no more than there are to train on."""
        return min(setting.train.batch_size, self.samples)


def workload(setting: Setting) -> Workload | None:
    """The work of a setting's network; None where a data set or a model is unknown before it is loaded."""
    hints = hints_of(setting.dataset)
    entry = setting.architecture.name
    if hints.shape is None or hints.width is None or hints.train is None or entry not in ARCHITECTURES:
        return None
    layers = ARCHITECTURES[entry].layers(setting.architecture, hints.shape, hints.width)
    parameters = ARCHITECTURES[entry].parameters(setting.architecture, hints.shape, hints.width)
    samples = min(setting.dataset.train_size or hints.train, hints.train)
    samples -= validation_count(samples, setting.dataset.validation)
    hidden = layers[:-1]
    return Workload(
        parameters=parameters,
        products=float(sum(inputs * outputs * positions for inputs, outputs, positions in layers)),
        elements=sum(outputs * positions for _, outputs, positions in hidden),
        spectra=float(sum(2 * outputs * outputs * positions for _, outputs, positions in hidden)),
        squares=sum(outputs * outputs for _, outputs, _ in hidden),
        sites=len(hidden),
        samples=samples,
        numbers=math.prod(hints.shape),
    )
