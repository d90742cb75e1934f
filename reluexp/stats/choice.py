"""What tuning found: each candidate's score, the choice of each activation, and whether it lies at the grid's edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reluexp.config import LoadedConfig, label_of
from reluexp.planning.plan import make_trials
from reluexp.planning.tuning import choices, for_choosing, touched
from reluexp.stats.intervals import mean_interval
from reluexp.stats.readings import readings
from reluexp.stats.results import Results

__all__ = ["chosen", "scores", "sensitivity"]


def scores(study: Results, metric: str) -> dict[str, float]:
    """The metric of every trial that has ended, by its name; NaN for those that failed."""
    if study.trials.empty:
        return {}
    found = readings(study, metric)
    return dict(zip(found["trial"], found["value"], strict=True))


def sensitivity(loaded: LoadedConfig, study: Results) -> pd.DataFrame:
    """One row per candidate: the other axes, activation, the tuned axes, mean, low, high, n, diverged, chosen.

    The interval is the 95 % t interval over the tuning seeds. `study` holds the trials of the first phase; the frame is
    empty where nothing is tuned.
    """
    tune = loaded.config.tune
    over = tune.over if tune else []
    known = scores(study, tune.metric) if tune else {}
    outcomes = dict(zip(study.trials["trial"], study.trials["outcome"], strict=True)) if known else {}
    names: dict[int, list[str]] = {}
    for trial in make_trials(for_choosing(loaded)):
        names.setdefault(id(trial.point), []).append(trial.id)
    rows = []
    for choice in choices(loaded, known):
        for place, point in enumerate(choice.candidates):
            own = names[id(point)]
            interval = mean_interval([known.get(name, np.nan) for name in own])
            rows.append(
                {
                    **{"activation": label_of(point.setting.activation), **choice.others},
                    **{axis: point.axes[axis] for axis in over if axis in point.axes},
                    **{"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n},
                    "diverged": sum(outcomes.get(name) == "diverged" for name in own),
                    "chosen": place == choice.best,
                }
            )
    others = [axis for axis in loaded.config.axes if axis != "activation" and not touched(axis, over)]
    columns = [*others, "activation", *over, "mean", "low", "high", "n", "diverged", "chosen"]
    return pd.DataFrame(rows, columns=columns)


def chosen(table: pd.DataFrame, over: Sequence[str]) -> pd.DataFrame:
    """The chosen row of each group of a `sensitivity` frame, with candidates, at_edge and warning.

    A choice is at the edge where a tuned axis of three numbers or more has its smallest or largest value there: what
    lies beyond was not tried.
    """
    end = table.columns.get_loc(over[0]) if over else 0
    keys = list(table.columns[: int(end)])
    rows = []
    for _, group in table.groupby(keys, sort=False, dropna=False):
        for row in group[group["chosen"]].to_dict("records"):
            edges = [axis for axis in over if _at_edge(group[axis], row[axis])]
            about = {"candidates": len(group), "at_edge": bool(edges), "warning": _warning(row, edges, group)}
            rows.append({**row, **about})
    columns = [*table.columns.drop("chosen"), "candidates", "at_edge", "warning"]
    return pd.DataFrame(rows, columns=columns)


def _at_edge(values: pd.Series, best: Any) -> bool:
    numbers = {float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)}
    return len(numbers) == values.nunique() > 2 and best in (min(numbers), max(numbers))


def _warning(row: dict[Any, Any], edges: Sequence[str], group: pd.DataFrame) -> str:
    parts = []
    for axis in edges:
        end = "largest" if row[axis] == group[axis].max() else "smallest"
        parts.append(f"{row['activation']}: the best {axis} is the {end} that was tried, {row[axis]:g}; widen the grid")
    return "; ".join(parts)
