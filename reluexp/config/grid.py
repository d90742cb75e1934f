"""From a base setting and a grid to points: each one setting, validated once."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.datasets import Hints, hints_of, validation_count
from reluexp.catalogue.registry import Options
from reluexp.config.identity import identity
from reluexp.config.models import PARTS, Config, Setting
from reluexp.config.problems import Problem, meant, places_in, problems_of
from reluexp.config.source import put

__all__ = [
    *("LABELLED", "MOST_TRIALS", "Point", "count_trials", "expand", "label_of", "misfits", "never_warm", "once_each"),
    *("said_twice", "unheard", "value_at", "without_baseline"),
]

MOST_TRIALS = 1_000_000

LABELLED = ("dataset", "architecture", "activation", "init")
"""the parts that the table of trials has a column for, whatever varies"""


@dataclass(frozen=True)
class Point:
    """One setting of the grid; `axes` holds the value of every axis of the study, as tables show it.

    `grids` are the places in the union of the grids that ask for it.
    """

    setting: Setting
    axes: dict[str, Any]
    grids: tuple[int, ...] = (0,)

    @property
    def labels(self) -> dict[str, str]:
        """The choices that every table of trials tells of, by their labels."""
        return {part: label_of(getattr(self.setting, part)) for part in LABELLED}

    @property
    def further_axes(self) -> dict[str, Any]:
        """The other axes."""
        return {axis: value for axis, value in self.axes.items() if axis not in LABELLED}


@dataclass(frozen=True)
class _Place:
    """One grid of the union and the indices of the values that a point takes in it."""

    number: int
    grid: dict[str, list[Any]]
    choice: dict[str, int]


def count_trials(config: Config) -> int:
    """How many trials the config asks for, without making them; equal points of several grids count twice."""
    grids = config.grid or [{}]
    return len(config.seed_list) * sum(math.prod(len(values) for values in grid.values()) for grid in grids)


def once_each(parts: Iterable[Any], function: Callable[[Any], Any]) -> list[Any]:
    """A function of each part, worked out once for those that are the same object, as many settings share theirs.

    >>> once_each([[1, 2]] * 3, len)
    [2, 2, 2]
    """
    listed = list(parts)
    found = {key: function(own) for key, own in {id(own): own for own in listed}.items()}
    return [found[id(own)] for own in listed]


def label_of(options: Options) -> str:
    """A choice as tables show it: its name, and the options that are not the default.

    >>> from reluexp.catalogue.activations import ACTIVATIONS
    >>> label_of(ACTIVATIONS.models["leaky_relu"](negative_slope=0.3))
    'leaky_relu(negative_slope=0.3)'
    """
    values = {
        key: getattr(options, key)
        for key, field in type(options).model_fields.items()
        if key != "name"
        and key not in options.outside_identity
        and getattr(options, key) != field.get_default(call_default_factory=True, validated_data={})
    }
    values |= options.model_extra or {}
    inner = ", ".join(f"{key}={_text(value)}" for key, value in values.items())
    name = str(getattr(options, "name", ""))
    return f"{name}({inner})" if inner else name


def value_at(setting: Setting, key: str) -> Any:
    """The value of a dotted key as tables show it: a number or text as it is, a choice by its label, else None."""
    value = _inside(setting, key.split("."))
    if isinstance(value, Options):
        return label_of(value) if hasattr(value, "name") else _text(value)
    return value if value is None or isinstance(value, (str, int, float, bool)) else _text(value)


def _inside(options: Any, way: Sequence[str]) -> Any:
    """What stands in some options, one key after the other; None where there is nothing."""
    for part in way:
        options = getattr(options, part, None)
    return options


def _text(value: Any) -> str:
    if isinstance(value, Options):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in value) + "}"
    if isinstance(value, str) and _looks_otherwise(value):
        return repr(value)
    return "true" if value is True else "false" if value is False else str(value)


def _looks_otherwise(text: str) -> bool:
    """Whether a text looks like what is none, so that own options `1` and `"1"` would have one name."""
    try:
        return text in ("true", "false", "None") or math.isfinite(float(text))
    except ValueError:
        return False


def expand(config: Config, data: dict[str, Any]) -> tuple[list[Point], list[Problem]]:
    """Every point of the grid, without repetitions, and what is wrong with it.

    `data` is what the config was made from; the values of the axes are put into copies of its parts.
    """
    parts = _Parts(config, data)
    points: dict[tuple[int, ...], Point] = {}
    for place in _places(config):
        setting = parts.setting(place)
        if setting is None:
            continue
        key = tuple(parts.serial(getattr(setting, part)) for part in PARTS)
        if key not in points:
            axes = {axis: value_at(setting, axis) for axis in config.axes}
            points[key] = Point(setting, axes, (place.number,))
            parts.check(setting, place)
        elif place.number not in points[key].grids:
            points[key] = replace(points[key], grids=(*points[key].grids, place.number))
    parts.refuse_idle_axes([point.setting for point in points.values()])
    return list(points.values()), list(_once_for_each_axis(parts.problems))


def _once_for_each_axis(problems: Sequence[Problem]) -> Iterator[Problem]:
    """What is said of several values of an axis alike is said of the axis."""
    count = Counter((path[:-1], text) for path, text in problems if isinstance(path[-1], int))
    for path, text in problems:
        several = count[path[:-1], text] > 1 and isinstance(path[-1], int)
        yield (path[:-1] if several else path), text


def unheard(config: Config, data: dict[str, Any]) -> list[str]:
    """Sentences on options that the base gives and no trial has: each value of the grid takes their place whole."""
    told = []
    for axis in config.axes:
        base: Any = data
        for part in axis.split("."):
            base = base.get(part) if isinstance(base, dict) else None
        given = [key for key in base if key != "name"] if isinstance(base, dict) else []
        if given and all(axis in grid for grid in config.grid):
            keys = ", ".join(f"{axis}.{key}" for key in given)
            told.append(f"{keys}: not used, since each value of grid.{axis} takes the place of the whole {axis}")
    return told


def said_twice(config: Config, points: Sequence[Point]) -> Iterator[str]:
    """Sentences on settings of a grid that are the same in other words."""
    for number, grid in enumerate(config.grid):
        count = math.prod(map(len, grid.values()))
        if several := count - sum(number in point.grids for point in points):
            where = f"grid[{number}]" if len(config.grid) > 1 else "grid"
            same = "is another one" if several == 1 else "are others"
            yield f"{where}: {several} of its {count} settings {same} in other words, and trained once"


def never_warm(points: Sequence[Point]) -> Iterator[str]:
    """Sentences on rates that training ends before they are reached."""
    trains = {id(point.setting.train): point.setting.train for point in points}.values()
    for warmup, epochs in sorted({(own.schedule.warmup, own.epochs) for own in trains}):
        if 0 < epochs < warmup:
            yield f"train.schedule.warmup: {warmup:g} epochs, of which {epochs} are trained: the rate never reaches lr"


def without_baseline(config: Config, points: Sequence[Point]) -> Iterator[str]:
    """A sentence on several activations of which none is what the others would be compared with."""
    labels = once_each((point.setting.activation for point in points), label_of)
    base = label_of(config.baseline.activation)
    if len(set(labels)) > 1 and base not in labels:
        told = f"baseline: {base} is none of the activations, so that they are not compared; say which one is"
        yield f"{told}, as `baseline: {{activation: {labels[0].partition('(')[0]}}}`"


def _places(config: Config) -> Iterator[_Place]:
    for number, grid in enumerate(config.grid or [{}]):
        for indices in itertools.product(*(range(len(values)) for values in grid.values())):
            yield _Place(number, grid, dict(zip(grid, indices, strict=True)))


class _Parts:
    """Validated parts of settings, each made once for each combination of the axes that touch it."""

    def __init__(self, config: Config, data: dict[str, Any]) -> None:
        self.config, self.data = config, data
        self.problems: list[Problem] = []
        self._made: dict[tuple[Any, ...], Options | None] = {}
        self._serials: dict[int, int] = {}
        self._known: dict[str, int] = {}
        self._checked: set[tuple[int, ...]] = set()
        self._listed = isinstance(data.get("grid"), list)
        self._touching = [{part: _touching(grid, part) for part in PARTS} for grid in config.grid or [{}]]
        self._unknown_axes()

    def setting(self, place: _Place) -> Setting | None:
        """The setting of a point, or None where it is wrong."""
        made: dict[str, Any] = {part: self._part(part, place) for part in PARTS}
        return Setting.model_construct(**made) if all(made.values()) else None

    def serial(self, part: Options) -> int:
        """A number that parts share that decide the same numbers."""
        if id(part) not in self._serials:
            self._serials[id(part)] = self._known.setdefault(identity(part), len(self._known))
        return self._serials[id(part)]

    def check(self, setting: Setting, place: _Place) -> None:
        """Adds what does not fit together, once for each combination."""
        key = tuple(self.serial(part) for part in (setting.dataset, setting.architecture, setting.probe))
        if key not in self._checked:
            self._checked.add(key)
            for path, text in misfits(setting, hints_of(setting.dataset)):
                self._add(self._placed(path, place), text)

    def refuse_idle_axes(self, settings: Sequence[Setting]) -> None:
        """Adds the axes that say where or how, and decide no number: their values would be one trial under one name."""
        for number, grid in enumerate(self.config.grid):
            for axis in grid:
                *way, last = axis.split(".")
                shared = {id(part): part for part in (getattr(own, way[0], None) for own in settings)} if way else {}
                parents = (_inside(part, way[1:]) for part in shared.values())
                if any(isinstance(own, Options) and last in own.outside_identity for own in parents):
                    text = f"decides no number; say it once for all trials, as {axis}: …"
                    self._add((*self._grid(number), axis), text)

    def _part(self, part: str, place: _Place) -> Options | None:
        axes = self._touching[place.number][part]
        key = (part, place.number, *(place.choice[axis] for axis in axes))
        if not axes:
            return getattr(self.config, part)
        if key not in self._made:
            self._made[key] = self._make(part, axes, place)
        return self._made[key]

    def _make(self, part: str, axes: list[str], place: _Place) -> Options | None:
        data = {part: _copy(self.data[part])} if part in self.data else {}
        for axis in axes:
            put(data, axis.split("."), _copy(place.grid[axis][place.choice[axis]]))
        try:
            made: Options = getattr(Setting.model_validate(data), part)
        except ValidationError as error:
            for path, text in problems_of(error, Setting, data):
                self._add(self._placed(path, place), text)
            return None
        return made

    def _placed(self, path: Sequence[str | int], place: _Place) -> tuple[str | int, ...]:
        """Where the grid says it, if an axis does: `grid.activation[2].alpha`."""
        for axis in sorted(place.choice, key=len, reverse=True):
            own = axis.split(".")
            if list(path[: len(own)]) == own or own[: len(path)] == list(path):
                return (*self._grid(place.number), axis, place.choice[axis], *path[len(own) :])
        return tuple(path)

    def _grid(self, number: int) -> tuple[str | int, ...]:
        """Where a grid of the union stands in the config."""
        return ("grid", number) if self._listed else ("grid",)

    def _add(self, path: tuple[str | int, ...], text: str) -> None:
        if (path, text) not in self.problems:
            self.problems.append((path, text))

    def _unknown_axes(self) -> None:
        for number, touching in enumerate(self._touching):
            grid = (self.config.grid or [{}])[number]
            known = {axis for axes in touching.values() for axis in axes}
            for axis in grid:
                if axis not in known or axis in ("train", "probe"):
                    parts = [*PARTS[:4], "train.optimizer.lr", "train.batch_size"]
                    near = meant(axis, [*parts, *PARTS, *places_in(Setting)], Setting)
                    text = f"unknown axis; allowed: dotted keys of a setting, such as {', '.join(parts)}{near}"
                    self._add((*self._grid(number), axis), text)


def _touching(grid: dict[str, list[Any]], part: str) -> list[str]:
    """The axes that change a part, the whole of it first."""
    return sorted((axis for axis in grid if axis == part or axis.startswith(f"{part}.")), key=lambda a: a.count("."))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def misfits(setting: Setting, hints: Hints) -> list[Problem]:
    """What in a setting cannot go together, as far as the data set is known."""
    found: list[Problem] = []
    architecture, dataset = setting.architecture, setting.dataset
    if hints.shape and architecture.name in ARCHITECTURES:
        text = ARCHITECTURES[architecture.name].check(architecture, hints.shape)
        if text:
            found.append((("architecture",), text))
    for key, known in (("train_size", hints.train), ("test_size", hints.test)):
        size = getattr(dataset, key)
        if known is not None and size is not None and size > known:
            found.append((("dataset", key), f"got {size}; {dataset.name} has {known} such samples"))
    if hints.train is not None:
        count = min(dataset.train_size or hints.train, hints.train)
        count -= validation_count(count, dataset.validation)
        if setting.probe.size != "auto" and setting.probe.size > count:
            found.append((("probe", "size"), f"got {setting.probe.size}; there are {count} training samples"))
    return found
