"""Checks of what a config says of its answers against the grid: levels, axes and splits that are not there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from reluexp.catalogue.datasets import Hints, hints_of
from reluexp.catalogue.metrics import MARGINS, METRICS, is_share, is_time, margin_of, times_of
from reluexp.catalogue.registry import nearest
from reluexp.config.grid import Point, label_of, once_each, value_at
from reluexp.config.inference import TUNING_OFFSET, Level
from reluexp.config.models import Config, Setting
from reluexp.config.problems import Problem

__all__ = ["answers_that_cannot_be", "level_label", "levels_that_cannot_be", "tuned_grids"]


def level_label(by: str, level: Level) -> Any:
    """A level as tables show it: a mapping, as the grid has it, by its label; anything else as it is.

    Raises ValueError for a mapping that is none of the axis's values.

    >>> level_label("activation", {"name": "leaky_relu", "negative_slope": 0.3})
    'leaky_relu(negative_slope=0.3)'
    >>> level_label("train.optimizer", {"name": "adam", "lr": 0.01})
    'adam(lr=0.01)'
    """
    if not isinstance(level, dict):
        return level
    whole: Any = level
    for part in reversed(by.split(".")):
        whole = {part: whole}
    return value_at(Setting.model_validate(whole), by)


def answers_that_cannot_be(config: Config, points: Sequence[Point]) -> list[Problem]:
    """Every hypothesis and tuned axis that cannot be, in this grid."""
    data = once_each((point.setting.dataset for point in points), hints_of)
    return [*_hypotheses(config, points), *_tune(config, points), *accuracies_of_none(config, data)]


def accuracies_of_none(config: Config, data: Sequence[Hints]) -> Iterator[Problem]:
    """Accuracies that are asked for where no data set, as far as they are known, has classes."""
    if not data or any(own.classes or not own.outputs for own in data):
        return
    asked: list[tuple[tuple[str | int, ...], str]] = [(("targets", metric), metric) for metric in config.targets or {}]
    asked += [(("hypotheses", n, "metric"), own.metric) for n, own in enumerate(config.hypotheses or [])]
    asked += [(("tune", "metric"), config.tune.metric)] if config.tune else []
    for path, metric in asked:
        if "accuracy" in metric:
            yield path, f"got {metric!r}, but data with real targets have losses alone, such as validation_loss"


def levels_that_cannot_be(config: Config) -> list[Problem]:
    """Every target and margin that cannot be."""
    return [*_targets(config), *_margins(config)]


def _targets(config: Config) -> list[Problem]:
    """Levels that no network can reach, or that each has reached before it trains."""
    found: list[Problem] = []
    for metric, levels in (config.targets or {}).items():
        share = is_share(metric)
        for number, level in enumerate(levels):
            if level <= 0 or (share and level > 1):
                allowed = "a share above 0 and up to 1" if share else "a loss above 0"
                found.append((("targets", metric, number), f"got {level:g}; allowed: {allowed}"))
    return found


def _margins(config: Config) -> list[Problem]:
    """Margins of what is no metric, which would be heeded by nothing, and shares that were meant in points."""
    found: list[Problem] = []
    known = [*MARGINS, *METRICS]
    for metric, margin in (config.margins or {}).items():
        if metric not in known and not is_time(metric):
            text = f"got {metric!r}; allowed: a metric such as test_accuracy, or a kind: {', '.join(MARGINS)}"
            found.append((("margins", metric), text + nearest(metric, known)))
        elif is_share(metric) and margin >= 1:
            text = f"got {margin:g}; allowed: a share below 1, such as {margin / 100:g} for {margin:g} %"
            found.append((("margins", metric), text))
    return found


def _hypotheses(config: Config, points: Sequence[Point]) -> list[Problem]:
    found: list[Problem] = []
    times = times_of(config.targets)
    for number, own in enumerate(config.hypotheses or []):
        here = ("hypotheses", number)
        if is_time(own.metric) and own.metric not in times:
            text = f"got {own.metric!r}; allowed: a time to a target, {', '.join(times)}"
            found.append(((*here, "metric"), text + nearest(own.metric, times)))
        axes = {"activation": [label_of(point.setting.activation) for point in points]}
        axes |= {axis: [point.axes[axis] for point in points] for axis in config.axes if axis != "activation"}
        if own.by not in axes:
            found.append(((*here, "by"), f"got {own.by!r}; allowed: {', '.join(axes)}{nearest(own.by, list(axes))}"))
            continue
        known = list(dict.fromkeys(axes[own.by]))
        named = {"activation" if own.level is None else "level": own.activation if own.level is None else own.level}
        for key, level in {**named, "against": own.against}.items():
            if level is None:
                continue
            label = _label(own.by, level)
            if label not in known:
                allowed = ", ".join(map(str, known))
                found.append(((*here, key), f"got {label!r}; allowed: {allowed}{nearest(label, known)}"))
        levels = {**named, "against": own.against}.items()
        labels = {key: _label(own.by, level) for key, level in levels if level is not None}
        other = labels.get("against", label_of(config.baseline.activation) if own.by == "activation" else None)
        for key in named:
            if labels.get(key) == other:
                found.append(((*here, key), f"got {other!r}, which it is compared with; allowed: another level"))
        if own.direction == "equal" and own.margin is None and math.isnan(margin_of(own.metric, config.margins)):
            text = f"of {own.metric} no margin is known; say by margin: within what difference it is equal"
            found.append(((*here, "direction"), text))
        if own.at == "best" and not all(point.setting.dataset.validation for point in points):
            text = "'best' is chosen on the validation split, and there is none; give `dataset.validation` a share"
            found.append(((*here, "at"), text))
        for axis, value in (own.where or {}).items():
            if axis not in axes or _label(axis, value) not in axes[axis]:
                found.append(((*here, "where", axis), f"no setting of the study has {axis} = {value!r}"))
    return found


def _label(by: str, level: Level) -> Any:
    """The label, or the level itself where it can have none, so that it is refused with what is allowed."""
    try:
        return level_label(by, level)
    except ValueError:
        return level


def tuned_grids(config: Config) -> set[int]:
    """The places of the grids in which there is something to choose."""
    tune = config.tune
    if tune is None:
        return set()
    several = {n for n, grid in enumerate(config.grid) if any(len(grid.get(axis, [])) > 1 for axis in tune.over)}
    return several if tune.grids is None else several & set(tune.grids)


def _tune(config: Config, points: Sequence[Point]) -> list[Problem]:
    tune = config.tune
    if tune is None:
        return []
    found: list[Problem] = []
    for number, axis in enumerate(tune.over):
        if not any(len(grid.get(axis, [])) > 1 for grid in config.grid):
            several = [a for a in config.axes if a != "activation" and any(len(g.get(a, [])) > 1 for g in config.grid)]
            allowed = ", ".join(several) or "none, since the grid has no other axis with several values"
            found.append((("tune", "over", number), f"got {axis!r}; allowed: {allowed}{nearest(axis, several)}"))
    for number, place in enumerate(tune.grids or []):
        if place not in range(len(config.grid)):
            text = f"got {place}; allowed: places of the grids, 0 to {len(config.grid) - 1}"
            found.append((("tune", "grids", number), text))
    tuned = tuned_grids(config)
    if any(set(point.grids) & tuned and not point.setting.dataset.validation for point in points):
        text = "there is no validation split to choose on; give `dataset.validation` a share such as 0.1"
        found.append((("tune", "metric"), text))
    taken = sorted(set(config.seed_list) & set(range(TUNING_OFFSET, TUNING_OFFSET + tune.seeds)))
    if taken:
        text = f"seed {taken[0]} is one of those used for tuning ({TUNING_OFFSET:,} and above); take other seeds"
        found.append((("seeds",), text))
    return found
