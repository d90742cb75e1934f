"""Checks of what a config says of its answers against the grid: levels, axes and splits that are not there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reluexp.catalogue.columns import TABLES
from reluexp.catalogue.datasets import Hints, hints_of
from reluexp.catalogue.metrics import MARGINS, METRICS, is_share, is_time, margin_of, times_of
from reluexp.catalogue.registry import nearest
from reluexp.config.grid import Point, label_of, once_each
from reluexp.config.inference import TUNING_OFFSET, Hypothesis, Level
from reluexp.config.levels import bare, level_shown
from reluexp.config.models import Config
from reluexp.config.problems import Problem

__all__ = ["answers_that_cannot_be", "levels_that_cannot_be", "tuned_grids"]


def answers_that_cannot_be(config: Config, points: Sequence[Point]) -> list[Problem]:
    """Every hypothesis and tuned axis that cannot be, in this grid."""
    data = once_each((point.setting.dataset for point in points), hints_of)
    found = [*_hypotheses(config, points), *_tune(config, points), *_splits(config, points)]
    return [*found, *accuracies_of_none(config, data)]


def _splits(config: Config, points: Sequence[Point]) -> Iterator[Problem]:
    """Targets on a split that is not there."""
    for metric in config.targets or {}:
        if metric.startswith("validation_") and not any(point.setting.dataset.validation for point in points):
            text = f"got {metric!r}, but there is no validation split; give `dataset.validation` a share such as 0.1"
            yield ("targets", metric), text


def accuracies_of_none(config: Config, data: Sequence[Hints]) -> Iterator[Problem]:
    """Accuracies that are asked for where no data set, as far as they are known, has classes."""
    if not data or any(own.classes or not own.outputs for own in data):
        return
    asked: list[tuple[tuple[str | int, ...], str]] = [(("targets", metric), metric) for metric in config.targets or {}]
    asked += [(("hypotheses", n, "metric"), own.metric) for n, own in enumerate(config.hypotheses or [])]
    asked += [(("tune", "metric"), config.tune.metric)] if config.tune else []
    for path, metric in asked:
        if "accuracy" in metric or (is_time(metric) and not config.targets):  # the usual targets are of accuracy
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
    axes = {axis: [label_of(point.setting.activation) for point in points] for axis in ["activation"]}
    axes |= {axis: [point.axes[axis] for point in points] for axis in config.axes if axis != "activation"}
    tuned = _hidden(config, points)
    axes = {axis: [bare(axis, own, axes) for own in values] for axis, values in axes.items() if axis not in tuned}
    found: list[Problem] = []
    for number, own in enumerate(config.hypotheses or []):
        wrong = [*_time(config, own), *_moment(points, own), *_places(axes, tuned, own)]
        wrong += _levels(config, axes, own) if own.by in axes else []
        if own.direction == "equal" and own.margin is None and math.isnan(margin_of(own.metric, config.margins)):
            text = f"of {own.metric} no margin is known; say by margin: within what difference it is equal"
            wrong.append((("direction",), text))
        found += [(("hypotheses", number, *path), text) for path, text in wrong]
    return found


def _hidden(config: Config, points: Sequence[Point]) -> Sequence[str]:
    """The axes whose values no table shows, since tuning chose one for each activation wherever they are."""
    tuned = tuned_grids(config)
    return config.tune.over if config.tune and all(set(point.grids) <= tuned for point in points) else ()


def _time(config: Config, own: Hypothesis) -> Iterator[Problem]:
    times = times_of(config.targets)
    if is_time(own.metric) and own.metric not in times:
        text = f"got {own.metric!r}; allowed: a time to a target, {', '.join(times)}"
        yield ("metric",), text + nearest(own.metric, times)


def _moment(points: Sequence[Point], own: Hypothesis) -> Iterator[Problem]:
    """Moments other than the end, at which not every metric has a value."""
    along = own.metric in {*TABLES["epochs"], *TABLES["layers"]}
    single = is_time(own.metric) or own.metric in {*METRICS, *TABLES["trials"]}
    if own.at != "last" and single and not along:
        yield ("at",), f"got {own.at!r}, but {own.metric} has one value per trial; allowed: last"
    elif own.at == "best" and not all(point.setting.dataset.validation for point in points):
        text = "'best' is chosen on the validation split, and there is none; give `dataset.validation` a share"
        yield ("at",), text


def _places(axes: Mapping[str, list[Any]], tuned: Sequence[str], own: Hypothesis) -> Iterator[Problem]:
    """Axes that there are not, or whose values tuning chooses, and values that they do not have."""
    if own.by not in axes:
        text = f"got {own.by!r}, whose value tuning chooses" if own.by in tuned else f"got {own.by!r}"
        yield ("by",), f"{text}; allowed: {', '.join(axes)}{nearest(own.by, list(axes))}"
    for axis, value in (own.where or {}).items():
        if axis in tuned:
            yield ("where", axis), f"tuning chooses the value of {axis}; allowed: {', '.join(axes)}"
        elif axis not in axes or _label(axis, value, axes) not in axes[axis]:
            yield ("where", axis), f"no setting of the study has {axis} = {value!r}"


def _levels(config: Config, axes: Mapping[str, list[Any]], own: Hypothesis) -> Iterator[Problem]:
    """Levels that the axis does not have, or that are the one that they are compared with."""
    known = list(dict.fromkeys(axes[own.by]))
    named = {"activation" if own.level is None else "level": own.activation if own.level is None else own.level}
    levels = {**named, "against": own.against}.items()
    labels = {key: _label(own.by, level, axes) for key, level in levels if level is not None}
    for key, label in labels.items():
        if label not in known:
            yield (key,), f"got {label!r}; allowed: {', '.join(map(str, known))}{nearest(label, known)}"
    other = labels.get("against", label_of(config.baseline.activation) if own.by == "activation" else None)
    for key in named:
        if labels.get(key) == other:
            yield (key,), f"got {other!r}, which it is compared with; allowed: another level"


def _label(by: str, level: Level, axes: Iterable[str]) -> Any:
    """The label, or the level itself where it can have none, so that it is refused with what is allowed."""
    try:
        return level_shown(by, level, axes)
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
