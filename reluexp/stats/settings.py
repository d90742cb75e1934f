"""Settings: combinations of the activation and the other grid axes, and the order in which they are listed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reluexp.catalogue.registry import nearest
from reluexp.config.levels import bare, level_shown
from reluexp.config.models import CHOICES
from reluexp.errors import ConfigError, ResultsError
from reluexp.stats.memory import remembered
from reluexp.stats.results import Results

__all__ = [
    "axis_names",
    "axis_of",
    "common_setting",
    "compared_by",
    "groups",
    "has_many_axes",
    "in_order",
    "learned",
    "matching",
    "other_axes",
    "outcomes_told",
    "setting_columns",
    "setting_name",
    "settings",
]

_MANY_AXES = 3  # more than these are not all told of each setting


def axis_names(axes: Sequence[str]) -> dict[str, str]:
    """Short names of dotted axes: the last part where that is unique, of a name what it is the name of.

    >>> axis_names(["architecture.depth", "train.optimizer.lr", "init.name"])
    {'architecture.depth': 'depth', 'train.optimizer.lr': 'lr', 'init.name': 'init'}
    >>> axis_names(["init.dead"])
    {'init.dead': 'init.dead'}
    """
    last = [axis.removesuffix(".name").rpartition(".")[2] for axis in axes]
    told = {axis: part if last.count(part) == 1 else axis for axis, part in zip(axes, last, strict=True)}
    return {axis: axis if part == "dead" else part for axis, part in told.items()}  # beside shares of dead units


def other_axes(study: Results) -> list[str]:
    """The grid's axes besides the activation."""
    return [axis for axis in study.axes if axis != "activation"]


def setting_columns(study: Results) -> list[str]:
    """The columns that tell one setting from another: the activation first, then the other axes."""
    return ["activation", *other_axes(study)]


def compared_by(study: Results, by: str, baseline: Any, needed: bool = False) -> tuple[list[str], Any]:
    """The other axes, and the baseline of a comparison by one: the study's own for activations, unless it is given.

    Raises ConfigError for an axis or a baseline that the study does not have, and where one is `needed` and there is
    none.
    """
    axes = setting_columns(study)
    if by not in axes:
        raise ConfigError(f"by: got {by!r}; allowed: {', '.join(axes)}{nearest(by, axes)}")
    baseline = None if baseline is None else level_shown(by, baseline, axes)
    base = study.baseline if baseline is None and by == "activation" else baseline
    levels = in_order(settings(study)[by], by)
    if base is not None and base not in levels:
        raise ConfigError(f"baseline: got {base!r}; allowed: {', '.join(map(str, levels))}")
    if base is None and needed:
        raise ConfigError(f"baseline: {by} has none of its own; say which: baseline={levels[0]!r}, for example")
    return [axis for axis in axes if axis != by], base


def axis_of(study: Results, name: str) -> str:
    """The dotted name of an axis that may be given by its last part, as figures show it; else what was given.

    `train.lr` is short for `train.optimizer.lr`, as in a config.
    """
    short = {part: axis for axis, part in axis_names(setting_columns(study)).items()}
    return short.get("lr" if name == "train.lr" else name, name)


def outcomes_told(trials: pd.DataFrame) -> pd.Series:
    """The outcomes, and `stuck` where a trial finished without having learned."""
    return trials["outcome"].where(~(trials["stuck"].eq(True) & trials["outcome"].eq("finished")), "stuck")


def learned(trials: pd.DataFrame) -> pd.Series:
    """Which trials neither failed nor diverged nor got stuck."""
    return trials["outcome"].eq("finished") & ~trials["stuck"].astype(bool)


@remembered
def settings(study: Results) -> pd.DataFrame:
    """The trials, in the order of settings and seeds, with axis values that can be grouped by.

    What an axis of its own tells stands in no other: with `train.optimizer.lr`, `train.optimizer` is sgd or adam. With
    many axes settings with more activations come first, and of these such with commoner values. Raises ResultsError
    before any trial has ended.
    """
    if study.trials.empty:
        raise ResultsError(f"{study.name}: no trial has ended yet")
    frame = study.trials.copy()
    for axis in setting_columns(study):
        frame[axis] = [_groupable(bare(axis, value, other_axes(study))) for value in frame[axis]]
    frame["stuck"] = frame["stuck"].eq(True).fillna(False).astype(bool)
    columns = [*other_axes(study), "activation"]
    ranks = {axis: {value: i for i, value in enumerate(in_order(frame[axis], axis))} for axis in columns}
    keys = pd.DataFrame({axis: frame[axis].map(ranks[axis]) for axis in columns}).assign(seed=frame["seed"])
    places = keys.sort_values([*columns, "seed"], kind="stable")
    if has_many_axes(study) and len(places):
        others = other_axes(study)
        compared = places.groupby(others)["activation"].transform("nunique")
        common = sum(places[axis].map(places.drop_duplicates(others)[axis].value_counts()) for axis in others)
        first = pd.DataFrame({"compared": -compared, "common": -common}).sort_values(
            ["compared", "common"], kind="stable"
        )
        places = places.loc[first.index]
    return frame.loc[places.index].reset_index(drop=True)


def has_many_axes(study: Results) -> bool:
    """Whether settings have so many axes that each is told by what it has uncommon, as in a union of grids."""
    return len(other_axes(study)) > _MANY_AXES


def setting_name(study: Results, where: Mapping[str, Any]) -> str:
    """`depth = 8, lr = 0.1`: the axes' values of a setting; of many axes those that the first setting has otherwise.

    The first is the one with the most activations and, of these, the commonest values.
    """
    names = axis_names(other_axes(study))
    axes = [axis for axis in names if axis in where]
    if has_many_axes(study):
        first = _first(study)
        axes = [axis for axis in axes if where[axis] != first[axis]]
        axes = [a for a in axes if not (where[a] == "not set" and any(a.startswith(f"{whole}.") for whole in axes))]
        if not axes:
            return "the common setting"
    return ", ".join(f"{names[axis]} = {_told(where[axis])}" for axis in axes)


def common_setting(study: Results) -> str:
    """All axes' values of the setting that others are told apart from."""
    first = _first(study)
    return ", ".join(f"{name} = {_told(first[axis])}" for axis, name in axis_names(other_axes(study)).items())


@remembered
def _first(study: Results) -> dict[str, Any]:
    """The axes of the setting that `settings` begins with; each name asks for them, and the frame would be copied."""
    found: dict[str, Any] = settings(study)[other_axes(study)].iloc[0].to_dict()
    return found


def _told(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def in_order(values: Iterable[Any], axis: str) -> list[Any]:
    """The distinct values as tables and figures list them: choices by catalogue, numbers by size, then by name."""
    registry = CHOICES.get(axis.rpartition(".")[2])
    known = registry.names if registry else []

    def place(value: Any) -> tuple[float, float, str]:
        if isinstance(value, (int, float, np.number)):
            return (0, float(value), "")
        name = str(value).partition("(")[0]
        return (1 + (known.index(name) if name in known else len(known)), 0.0, str(value))

    return sorted(set(values), key=place)


def groups(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The parts of a frame for each combination of `by`, in order of appearance; the whole if `by` is empty."""
    if not by:
        yield {}, frame
        return
    for key, part in frame.groupby(list(by), sort=False, dropna=False):
        yield dict(zip(by, key, strict=True)), part


def matching(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """The rows in which every named column has the given value."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def _groupable(value: Any) -> Any:
    if isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (float, np.number)):
        return "not set" if math.isnan(value) else value
    return "not set" if value is None or value is pd.NA else str(value)
