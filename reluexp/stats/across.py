"""Several data sets or architectures at once: interquartile mean, probability of improvement, performance profiles.

After Agarwal, Schwarzer, Castro, Courville, Bellemare 2021, arXiv 2108.13264: a *task* is one combination of the task
axes; every bound is by a bootstrap that resamples the seeds within each task (stratified), so it speaks of these tasks
and says nothing of others. Its percentiles are those of `expanded_tail`: plain ones cover too little from few seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from reluexp.catalogue.metrics import better_sign, is_time
from reluexp.errors import ConfigError
from reluexp.stats.intervals import expanded_tail
from reluexp.stats.pairs import pairs
from reluexp.stats.ranks import Ranks, rank_levels
from reluexp.stats.readings import readings
from reluexp.stats.results import Results
from reluexp.stats.settings import compared_by, groups, in_order, setting_columns

__all__ = ["Across", "across_tasks", "improvement", "interquartile_mean", "profile", "task_axes"]

_RESAMPLES = 2000
_LEVELS = 101
Samples = Sequence[np.ndarray]


@dataclass(frozen=True, repr=False)
class Across:
    """Levels of an axis compared with the baseline over all tasks; frames begin with the axes that are not tasks.

    - summary: by, tasks, n (pairs), iqm, iqm_low, iqm_high (interquartile mean of the paired differences over all tasks
      and seeds), improvement, improvement_low, improvement_high (the chance that a run of the level is better than one
      of the baseline on the same task, ties half).
    - profiles: by, score, share, low, high: share of runs whose metric is above the score, the baseline included.
    - ranks: average ranks over the data sets, or None for fewer than six.
    """

    tasks: tuple[str, ...]
    summary: pd.DataFrame
    profiles: pd.DataFrame
    ranks: Ranks | None

    def __repr__(self) -> str:
        ranked = "ranked" if self.ranks else "not ranked"
        return f"<Across {', '.join(self.tasks)}: {len(self.summary)} levels, {ranked}>"


def task_axes(study: Results, by: str = "activation") -> list[str]:
    """The axes of data sets and architectures."""
    own = ("dataset", "architecture")
    return [axis for axis in setting_columns(study) if axis != by and axis.partition(".")[0] in own]


def across_tasks(
    study: Results, metric: str, by: str = "activation", baseline: Any = None, at: str = "last"
) -> Across | None:
    """The study's tasks taken together, or None where it has one task only; values of other axes stand apart.

    Raises ConfigError for what the study does not have, for an axis without a baseline, and for times to a target,
    whose *never* has no mean.
    """
    if is_time(metric):
        raise ConfigError(f"metric: got {metric!r}; a time that is never reached has no mean over tasks")
    others, base = compared_by(study, by, baseline, needed=by != "activation")
    tasks, frame = task_axes(study, by), readings(study, metric, at)
    if not tasks or len(frame[tasks].drop_duplicates()) < 2:
        return None
    others = [axis for axis in others if axis not in tasks]
    sign = better_sign(metric) or 1
    summaries, profiles = [], []
    for where, part in groups(frame, others):
        if len(part[tasks].drop_duplicates()) < 2:
            continue
        found = pairs(part, by, base, tasks)
        levels = in_order(part[by], by)
        summaries += [{**where, by: level, **_summary(part, found, by, level, base, tasks, sign)}
                      for level in levels if level != base]  # fmt: skip
        grid = np.linspace(part["value"].min(), part["value"].max(), _LEVELS)
        profiles += [profile(_samples(part, by, level, tasks), grid).assign(**{**where, by: level}) for level in levels]
    if not profiles:
        return None
    dataset = next((axis for axis in tasks if axis in ("dataset", "dataset.name")), "dataset")
    columns = ["tasks", "n", *(f"{name}{end}" for name in ("iqm", "improvement") for end in ("", "_low", "_high"))]
    return Across(
        tasks=tuple(tasks),
        summary=pd.DataFrame(summaries, columns=[*others, by, *columns]),
        profiles=pd.concat(profiles, ignore_index=True)[[*others, by, "score", "share", "low", "high"]],
        ranks=None if others else rank_levels(frame, by, dataset, sign),
    )


def _summary(
    part: pd.DataFrame, found: pd.DataFrame, by: str, level: Any, base: Any, tasks: list[str], sign: int
) -> Mapping[str, float]:
    own = found[found[by] == level].dropna(subset="difference")
    differences = [group["difference"].to_numpy(float) for _, group in groups(own, tasks)]
    both = [
        [sign * group.loc[group[by] == name, "value"].dropna().to_numpy(float) for name in (level, base)]
        for _, group in groups(part, tasks)
    ]
    shared = [pair for pair in both if all(len(side) for side in pair)]
    columns = ("iqm", "iqm_low", "iqm_high"), ("improvement", "improvement_low", "improvement_high")
    return {
        "tasks": len(differences),
        "n": len(own),
        **dict(zip(columns[0], interquartile_mean(differences), strict=True)),
        **dict(zip(columns[1], improvement(*zip(*shared, strict=True)) if shared else (math.nan,) * 3, strict=True)),
    }


def _samples(part: pd.DataFrame, by: str, level: Any, tasks: list[str]) -> list[np.ndarray]:
    own = part[part[by] == level].dropna(subset="value")
    return [group["value"].to_numpy(float) for _, group in groups(own, tasks)]


def interquartile_mean(samples: Samples) -> tuple[Any, Any, Any]:
    """Mean of the middle half of all values together, and its bounds; one sample per task.

    >>> float(interquartile_mean([np.array([0.0, 1.0, 2.0, 99.0])])[0])
    1.5
    """

    def statistic(*parts: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(stats.trim_mean(np.concatenate(parts, axis=axis), 0.25, axis=axis))

    return _bounds(samples, statistic)


def improvement(levels: Samples, baselines: Samples) -> tuple[Any, Any, Any]:
    """The chance that a value of a level is above one of the baseline's on the same task, averaged over the tasks."""
    tasks = len(levels)

    def statistic(*parts: np.ndarray, axis: int) -> np.ndarray:
        chances = []
        for left, right in zip(parts[:tasks], parts[tasks:], strict=True):
            left, right = np.moveaxis(left, axis, -1)[..., :, None], np.moveaxis(right, axis, -1)[..., None, :]
            chances.append(((left > right) + 0.5 * (left == right)).mean((-2, -1)))
        return np.mean(chances, axis=0)

    return _bounds([*levels, *baselines], statistic)


def profile(samples: Samples, scores: np.ndarray) -> pd.DataFrame:
    """Share of values above each score, every task with the weight of its runs: score, share, low, high."""

    def statistic(*parts: np.ndarray, axis: int) -> np.ndarray:
        whole = np.moveaxis(np.concatenate(parts, axis=axis), axis, -1)
        return np.asarray((whole[None, ...] > scores.reshape(-1, *[1] * whole.ndim)).mean(-1))

    share, low, high = _bounds(samples, statistic)
    return pd.DataFrame({"score": scores, "share": share, "low": low, "high": high})


def _bounds(samples: Samples, statistic: Callable[..., np.ndarray]) -> tuple[Any, Any, Any]:
    """The statistic and its 95 % bounds over resampled samples; NaN bounds where one has a single value."""
    if not samples:
        return math.nan, math.nan, math.nan
    value = statistic(*samples, axis=-1)
    if min(map(len, samples)) < 2:
        return value, math.nan, math.nan
    found = stats.bootstrap(
        tuple(samples),
        statistic,
        n_resamples=_RESAMPLES,
        vectorized=True,
        method="percentile",
        confidence_level=1 - 2 * expanded_tail([len(own) for own in samples]),
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return value, found.low, found.high
