"""Pairs: two trials equal in every axis but one, seed included; matched by those values, never by the order of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reluexp.errors import ConfigError
from reluexp.stats.settings import learned
from reluexp.stats.signed_rank import rounded, tidy_differences

__all__ = ["pairs"]


def pairs(
    frame: pd.DataFrame, by: str, baseline: Any, others: Sequence[str] = (), over: Sequence[str] = (), log: bool = False
) -> pd.DataFrame:
    """Every pair of a level of `by` with the baseline: the other axes, `by`, seed, value, base and difference.

    `sound`: both trials learned, neither diverged nor stuck; `unknown`: neither value is finite, since both never
    arrived, and 0 stands for a difference that nobody knows.

    A row without a partner, or whose partner has no value, has NaN as difference; where the other axes have values at
    which the baseline has no trial at all, there are no rows. `over` names axes that are averaged
    within a seed first, where all of the axis's pairs are there. `log` takes the difference of logarithms (values below
    1 count as 1). `frame` has the columns of `readings`. Raises ConfigError for an axis that is not there, and
    ValueError when two trials share a place, since then they cannot be told apart.
    """
    _check(frame, by, others, over)
    keys = [*others, "seed"]
    slim = frame[[*keys, by, "value"]].assign(sound=learned(frame))
    if slim.duplicated([*keys, by]).any():
        raise ValueError(f"two trials have the same {', '.join([*keys, by])}; name the axis that tells them apart")
    if log:
        slim["value"] = np.log(slim["value"].clip(lower=1.0))
    base = slim[slim[by] == baseline].drop(columns=by)
    parts = []
    for level in slim.loc[slim[by] != baseline, by].drop_duplicates():
        own = slim[slim[by] == level].drop(columns=by)
        where = own[list(others)].drop_duplicates() if others else None
        partners = base if where is None else base.merge(where, on=list(others))
        if where is not None:  # where no trial of the baseline is, there is nothing to compare with
            own = own.merge(partners[list(others)].drop_duplicates(), on=list(others))
        both = own.merge(partners, on=keys, how="outer", suffixes=("", "_base"))
        parts.append(both.assign(**{by: level}))
    columns = [*keys, by, "value", "base", "difference", "sound", "unknown"]
    if not parts:
        return pd.DataFrame({column: [] for column in columns})
    found = pd.concat(parts, ignore_index=True).rename(columns={"value_base": "base"})
    found["sound"] = found["sound"].eq(True) & found["sound_base"].eq(True)
    found["difference"] = tidy_differences(found["value"], found["base"])
    found["unknown"] = np.isinf(found["value"]) & found["value"].eq(found["base"])
    return _averaged(found[columns], by, others, over) if over else found[columns]


def _check(frame: pd.DataFrame, by: str, others: Sequence[str], over: Sequence[str]) -> None:
    for axis in over:
        if axis not in others:
            allowed = ", ".join(others) or "none, since there is no other axis"
            raise ConfigError(f"over: got {axis!r}; allowed: {allowed}")
    if by not in frame:
        raise ConfigError(f"by: got {by!r}; allowed: an axis of the study")


def _averaged(found: pd.DataFrame, by: str, others: Sequence[str], over: Sequence[str]) -> pd.DataFrame:
    """One row per seed: the mean over the axes of `over`; NaN where a seed lacks one of a level's pairs."""
    kept = [axis for axis in others if axis not in over]
    grouped = found.groupby([*kept, "seed", by], sort=False, dropna=False)
    means = grouped[["value", "base", "difference"]].agg(lambda values: values.mean(skipna=False))
    means["difference"] = rounded(means["difference"], means[["value", "base"]].abs().max(axis=1))
    means["sound"], means["unknown"] = grouped["sound"].all(), grouped["unknown"].any()
    places = grouped.size()
    whole = places.groupby([*kept, by]).transform("max") if kept else places.groupby(by).transform("max")
    means.loc[places < whole, ["value", "base", "difference"]] = np.nan
    return means.reset_index()[[*kept, "seed", by, "value", "base", "difference", "sound", "unknown"]]
