"""Average ranks over data sets: Friedman's and Nemenyi's tests, and what a critical-difference diagram needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from reluexp.stats.settings import in_order
from reluexp.stats.signed_rank import rounded

__all__ = ["LEAST_DATASETS", "Ranks", "critical_difference", "nemenyi", "rank_levels"]

LEAST_DATASETS = 6
"""with fewer the ranks can tell next to nothing apart"""


@dataclass(frozen=True)
class Ranks:
    """Demšar's (2006) comparison of several levels over several data sets.

    - ranks: the levels with their average rank (1 best), best first.
    - friedman: p that all levels rank alike (Friedman 1937).
    - nemenyi: p that two levels rank alike, a symmetric frame (Nemenyi 1963).
    - critical: the difference of average ranks from which two levels differ at 5 %.
    - groups: sets of neighbouring levels that do not differ, as the diagram's bars join them.
    """

    ranks: pd.DataFrame
    datasets: int
    friedman: float
    nemenyi: pd.DataFrame
    critical: float
    groups: list[list[str]]


def rank_levels(frame: pd.DataFrame, by: str, dataset: str = "dataset", sign: int = 1) -> Ranks | None:
    """Ranks of the levels by their mean over seeds on each data set; `sign` −1: less is better.

    Data sets that lack a level are left out; None for fewer than six data sets or three levels.
    """
    if dataset not in frame:
        return None
    table = frame.pivot_table(index=dataset, columns=by, values="value", aggfunc="mean", dropna=False)
    table = table.replace([np.inf, -np.inf], np.nan).dropna()
    if len(table) < LEAST_DATASETS or table.shape[1] < 3:
        return None
    table = table[in_order(table.columns, by)]
    tidy = [rounded(row, np.abs(row)) for row in table.to_numpy(float)]
    placed = pd.DataFrame(stats.rankdata(-sign * np.array(tidy), axis=1), columns=table.columns)
    average = placed.mean().sort_values(kind="stable")
    friedman = float(stats.friedmanchisquare(*(placed[level] for level in placed)).pvalue)
    critical = critical_difference(placed.shape[1], len(placed))
    return Ranks(
        ranks=average.rename_axis(by).rename("rank").reset_index(),
        datasets=len(placed),
        friedman=1.0 if math.isnan(friedman) else friedman,  # all ranks are tied
        nemenyi=nemenyi(average, len(placed)),
        critical=critical,
        groups=_cliques(average, critical),
    )


def critical_difference(levels: int, datasets: int, alpha: float = 0.05) -> float:
    """q_α·√(k(k + 1)/6N) (Demšar 2006), q_α the studentized range's quantile over √2.

    >>> round(critical_difference(4, 14), 2)  # Demšar's own example
    1.25
    """
    quantile = float(stats.studentized_range.ppf(1 - alpha, levels, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(levels * (levels + 1) / (6 * datasets))


def nemenyi(average: pd.Series, datasets: int) -> pd.DataFrame:
    """p of each pair of levels from their average ranks."""
    apart = np.abs(average.to_numpy()[:, None] - average.to_numpy()[None, :])
    error = math.sqrt(len(average) * (len(average) + 1) / (6 * datasets))
    found = stats.studentized_range.sf(apart / error * math.sqrt(2), len(average), np.inf)
    return pd.DataFrame(np.where(apart == 0, 1.0, found), index=average.index, columns=average.index)


def _cliques(average: pd.Series, critical: float) -> list[list[str]]:
    """The longest runs of sorted levels whose ends are within the critical difference, of two levels or more."""
    values, found, last = average.to_numpy(), [], 0
    for start in range(len(values)):
        end = int(np.searchsorted(values, values[start] + critical, side="right"))
        if end > max(last, start + 1):
            found.append([str(level) for level in average.index[start:end]])
            last = end
    return found
