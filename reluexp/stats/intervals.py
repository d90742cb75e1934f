"""Means over trials and their t intervals; values that are not finite are left out, and n says so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

__all__ = [
    *("Interval", "aggregate", "column_intervals", "curves", "expanded_tail", "finite", "mean_interval", "median_with"),
    "sound",
]


class Interval(NamedTuple):
    """A mean of n values and the bounds of its interval; the bounds are NaN where n is below 2."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def mean_interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Mean with its t interval (Student 1908); values that are not finite are left out, and n says so.

    >>> mean_interval([1.0, 2.0, 3.0, float("nan")]).n
    3
    """
    mean, low, high, n = column_intervals(np.asarray(list(values), dtype=float)[:, None], level)
    return Interval(float(mean[0]), float(low[0]), float(high[0]), int(n[0]))


def median_with(values: Iterable[float], unknown: int = 0) -> float:
    """The median of values and of `unknown` more, NaN where it depends on those.

    >>> median_with([1.0, 2.0, 3.0, 3.0], unknown=1), median_with([1.0, 2.0, 3.0], unknown=1)
    (nan, nan)
    >>> median_with([1.0, 2.0, 2.0, 2.0, 3.0], unknown=2)
    2.0
    """
    known = np.asarray(list(values), dtype=float)
    if not known.size + unknown:
        return math.nan
    with np.errstate(invalid="ignore"):  # −∞ and ∞ in the middle give NaN, which is what is known then
        low, high = (float(np.median(np.append(known, np.full(unknown, worst)))) for worst in (-math.inf, math.inf))
    return low if low == high else math.nan


def aggregate(frame: pd.DataFrame, by: Sequence[str], metric: str, level: float = 0.95) -> pd.DataFrame:
    """Mean, low, high and n of a metric's finite values for each combination of `by` (one row if `by` is empty)."""
    keys = list(by)
    values = frame[keys].assign(_value=finite(frame[metric]), _all=0)
    grouped = values.groupby(keys or ["_all"], sort=False, dropna=False)["_value"]
    with np.errstate(over="ignore", invalid="ignore"):
        found = grouped.agg(mean="mean", error="sem", n="count").reset_index()
    if not keys and found.empty:
        found = pd.DataFrame({"mean": [math.nan], "error": [math.nan], "n": [0]})
    half = half_width(found["error"], found["n"], level)
    found = found.assign(low=found["mean"] - half, high=found["mean"] + half)
    return found[[*keys, "mean", "low", "high", "n"]]


def column_intervals(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low, high and n of each column of [trial, x]: what `aggregate` gives, for a matrix that may hold NaN.

    >>> [part.tolist() for part in column_intervals(np.array([[1.0, 2.0], [1.0, np.nan]]))]
    [[1.0, 2.0], [1.0, nan], [1.0, nan], [2, 1]]
    """
    finite = np.isfinite(values)
    n = finite.sum(0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = np.where(finite, values, 0.0).sum(0) / n
        squares = np.where(finite, values - mean, 0.0) ** 2
        half = half_width(np.sqrt(squares.sum(0) / (n - 1) / n), n, level)
    return mean, mean - half, mean + half, n


def curves(frame: pd.DataFrame, metric: str, by: Sequence[str], x: str = "epoch", level: float = 0.95) -> pd.DataFrame:
    """Mean, low, high and n over trials at each x, for each combination of `by`; the band is pointwise."""
    return aggregate(frame, [*by, x], metric, level).sort_values([*by, x], kind="stable", ignore_index=True)


def sound(epochs: pd.DataFrame, metric: str) -> pd.Series:
    """A metric's finite values; an accuracy is NaN where its loss is not finite, being an accident of argmax there."""
    values, loss = finite(epochs[metric]), metric.replace("accuracy", "loss")
    measured = loss in epochs and not metric.startswith("train_")
    return values.where(finite(epochs[loss]).notna()) if measured else values


def finite(values: pd.Series) -> pd.Series:
    """The values as float64, NaN for all that is no finite number."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def expanded_tail(sizes: Sequence[int], level: float = 0.95) -> float:
    """The share of resamples to leave out at each end of an interval by the bootstrap of samples of these sizes.

    Plain percentiles (0.025 at 95 %) are too near for small samples, which vary by less than what they were drawn from,
    and whose spread is a guess: those of the expanded percentile interval (Hesterberg 2015, arXiv 1411.5279, section
    3.3) have both in them. 0 where a sample has one value.

    >>> round(expanded_tail([5]), 5), round(expanded_tail([1000]), 3)
    (0.00095, 0.025)
    """
    free = sum(sizes) - len(sizes)
    if not free or min(sizes) < 2:
        return 0.0
    wide = math.sqrt(sum(sizes) / free) * special.stdtrit(free, (1 + level) / 2)
    return float(special.ndtr(-wide))


def half_width(error: Any, n: Any, level: float) -> Any:
    """Half of the t interval from standard errors; NaN where n is below 2."""
    return special.stdtrit(np.where(n > 1, n - 1, np.nan), (1 + level) / 2) * error
