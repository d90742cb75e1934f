"""Times to targets compared: ratios over paired seeds, with those that never arrived ranked last and shown as such."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reluexp.catalogue.metrics import TIME, is_time, margin_of, target_of
from reluexp.stats.comparison import compare_pairs
from reluexp.stats.finals import final_metrics
from reluexp.stats.pairs import pairs
from reluexp.stats.results import Results
from reluexp.stats.settings import compared_by
from reluexp.stats.unlearned import unlearned

__all__ = ["compare_times"]

_RATIOS = {"ratio": "mean", "ratio_low": "low", "ratio_high": "high", "ratio_median": "median"}


def compare_times(
    study: Results, by: str = "activation", baseline: Any = None, margins: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Every target × setting × level against the baseline, one family of tests: `compare_pairs` and more columns.

    Differences are natural logarithms of the ratio of steps (below one step counts as one). ratio, ratio_low,
    ratio_high: the geometric mean and its 95 % t interval, NaN as soon as one of the pairs never arrived (`censored`
    counts those); ratio_median: the median, inf or 0 where half of the pairs say never. never, never_base: trials of
    the level and of the baseline that never reached the target. Raises ConfigError for an axis that there is not, and
    without a baseline.
    """
    others, base = compared_by(study, by, baseline, needed=True)
    final, parts = final_metrics(study), []
    for column in filter(is_time, map(str, final.columns)):
        found = pairs(final.assign(value=final[column]), by, base, others, log=True)
        parts.append(found.assign(target=target_of(column), margin=margin_of(column, margins)))
    keys = ["target", *others, by]
    whole = pd.concat(parts, ignore_index=True)
    table = compare_pairs(whole, keys, -1)
    with np.errstate(over="ignore"):
        for name, column in _RATIOS.items():
            table[name] = np.exp(table[column].to_numpy(float))
    told = table.assign(metric=TIME + table["target"], baseline=base)
    if table.empty:
        return table.assign(never=0, never_base=0)
    table["verdict"] = table["verdict"].mask([bool(why) for why in unlearned(study, told, by)], "no verdict")
    return table.merge(_nevers(whole, keys), on=keys, how="left")


def _nevers(found: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    never = found.assign(never=np.isposinf(found["value"]), never_base=np.isposinf(found["base"]))
    return never.groupby(keys, sort=False)[["never", "never_base"]].sum().astype(int).reset_index()
