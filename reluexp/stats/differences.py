"""Mean paired differences, uncorrected: for figures and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reluexp.stats.finals import final_metrics
from reluexp.stats.intervals import Interval, aggregate
from reluexp.stats.results import Results
from reluexp.stats.settings import matching, other_axes, setting_columns
from reluexp.stats.signed_rank import tidy_differences

__all__ = ["paired_difference", "paired_differences"]


def paired_differences(
    study: Results,
    metric: str = "test_accuracy",
    by: str = "activation",
    baseline: str | None = None,
    final: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Level minus baseline, paired by seed and every other axis: one row per other-axes combination and level.

    Columns: the other axes, `by`, metric, baseline, mean, low, high, n (pairs). Pairs without a finite difference are
    dropped; without a baseline the frame is empty. These are exploratory: nothing is corrected for their number.
    """
    base = baseline or study.baseline
    others = [axis for axis in setting_columns(study) if axis != by]
    final = final_metrics(study) if final is None else final
    own = final.loc[final[by] == base, [*others, "seed", metric]]
    pairs = final.loc[final[by] != base, [*others, by, "seed", metric]].merge(
        own, on=[*others, "seed"], suffixes=("", "_base"), how="inner"
    )
    pairs["difference"] = tidy_differences(pairs[metric], pairs[f"{metric}_base"])
    found = aggregate(pairs, [*others, by], "difference")
    found.insert(len(others) + 1, "metric", metric)
    found.insert(len(others) + 2, "baseline", base)
    return found


def paired_difference(
    study: Results, metric: str, level: str, baseline: str, where: Mapping[str, Any] | None = None
) -> Interval:
    """Mean difference of one activation to another, paired by seed, in the one combination of other axes `where`.

    Raises ValueError when `where` leaves several combinations: axes are never pooled as if they were seeds.
    """
    found = paired_differences(study, metric, baseline=baseline)
    found = matching(found[found["activation"] == level], where or {})
    if len(found) > 1:
        raise ValueError(f"several settings have {level!r}; name one by {', '.join(other_axes(study))}")
    if found.empty:
        return Interval(math.nan, math.nan, math.nan, 0)
    row = found.iloc[0]
    return Interval(float(row["mean"]), float(row["low"]), float(row["high"]), int(row["n"]))
