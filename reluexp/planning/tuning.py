"""A fair fight: which trials choose each activation's own setting, and which points are chosen by their results.

Two phases: every point of the grids that have several values of a tuned axis is first trained with seeds of its own,
then the best point of each group (points that are equal in all other axes) with the study's seeds. Pure functions of
the config and of one score per trial; nothing here imports torch or pandas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reluexp.catalogue.metrics import better_sign
from reluexp.config import LoadedConfig, Point, identity, value_at
from reluexp.config.answers import tuned_grids
from reluexp.config.inference import TUNING_OFFSET
from reluexp.planning.plan import make_trials

__all__ = [
    "TUNED",
    "Choice",
    "choices",
    "for_choosing",
    "for_comparing",
    "is_fixed",
    "settled",
    "shown_axes",
    "touched",
]

TUNED = "tuned"
"""what a study shows as the value of a tuned axis where it was chosen"""


@dataclass(frozen=True)
class Choice:
    """The candidates of one group, their scores (None: not known yet, NaN: all failed) and the place of the best.

    `others` holds the axes that the candidates have in common; `best` is None until every score is known.
    """

    others: dict[str, Any]
    candidates: tuple[Point, ...]
    scores: tuple[float | None, ...]
    best: int | None


def for_choosing(loaded: LoadedConfig) -> LoadedConfig:
    """The first phase: every candidate, with the tuning seeds; no points where nothing is tuned."""
    points = [point for group in _groups(loaded) for point in group]
    count = loaded.config.tune.seeds if loaded.config.tune else 0
    seeds = tuple(range(TUNING_OFFSET, TUNING_OFFSET + count))
    return replace(loaded, points=points, seeds=seeds, phase="choosing")


def for_comparing(loaded: LoadedConfig, scores: Mapping[str, float]) -> LoadedConfig:
    """The second phase: the points that are not tuned, and the best of each group whose scores are all known.

    `scores` holds the metric of each trial of the first phase that has ended, by its name.
    """
    found = [choice.candidates[choice.best] for choice in choices(loaded, scores) if choice.best is not None]
    fixed = [point for point in loaded.points if is_fixed(loaded, point)]
    chosen = [point for point in found if not is_fixed(loaded, point)]
    return replace(loaded, points=[*fixed, *chosen], chosen=tuple(found), phase="comparing")


def settled(loaded: LoadedConfig) -> list[list[Point]]:
    """The points that the second phase will hold: each that is not tuned, and the candidates of each that is."""
    return [*([point] for point in loaded.points if is_fixed(loaded, point)), *_groups(loaded)]


def choices(loaded: LoadedConfig, scores: Mapping[str, float]) -> list[Choice]:
    """Every group with the mean score of each candidate; the first of equally good ones is the best."""
    tune = loaded.config.tune
    if tune is None:
        return []
    names: dict[int, list[str]] = {}
    for trial in make_trials(for_choosing(loaded)):
        names.setdefault(id(trial.point), []).append(trial.id)
    found = []
    for group in _groups(loaded):
        means = tuple(_mean([scores.get(name) for name in names[id(point)]]) for point in group)
        best = None
        if all(mean is not None for mean in means):
            sign = better_sign(tune.metric)
            ranked = [-math.inf if math.isnan(mean or 0.0) else sign * (mean or 0.0) for mean in means]
            best = ranked.index(max(ranked))
        others = {axis: value for axis, value in group[0].axes.items() if not touched(axis, tune.over)}
        found.append(Choice(others, tuple(group), means, best))
    return found


def is_fixed(loaded: LoadedConfig, point: Point) -> bool:
    """Whether a grid that is not tuned asks for the point, so that it is compared whatever tuning finds."""
    return any(not _tuned(loaded, number) for number in point.grids)


def _mean(scores: list[float | None]) -> float | None:
    """None if one is missing; trials that failed do not count unless all did."""
    if any(score is None for score in scores):
        return None
    values = [score for score in scores if score is not None and not math.isnan(score)]
    return sum(values) / len(values) if values else math.nan


def _groups(loaded: LoadedConfig) -> list[list[Point]]:
    """Points of tuned grids whose settings differ in the tuned axes alone."""
    tune = loaded.config.tune
    if tune is None:
        return []
    found: dict[str, dict[int, Point]] = {}
    for point in loaded.points:
        if any(_tuned(loaded, number) for number in point.grids):
            found.setdefault(identity(point.setting, tune.over), {})[id(point)] = point
    return [list(group.values()) for group in found.values()]


def touched(axis: str, over: Sequence[str]) -> bool:
    """Whether an axis is a tuned one, or one that a tuned one lies in."""
    return any(f"{key}.".startswith(f"{axis}.") for key in over)


def shown_axes(point: Point, over: Sequence[str]) -> dict[str, Any]:
    """The axes of a chosen point as tables show them: a word for what was tuned, `sgd(tuned)` for what it lies in."""
    found = {}
    for axis, value in point.axes.items():
        if axis in over:
            found[axis] = TUNED
        elif touched(axis, over):
            found[axis] = f"{value_at(point.setting, f'{axis}.name') or axis}({TUNED})"
        else:
            found[axis] = value
    return found


def _tuned(loaded: LoadedConfig, number: int) -> bool:
    return loaded.config.tune is not None and number in tuned_grids(loaded.config)
