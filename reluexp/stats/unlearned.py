"""Comparisons from which nothing follows: of nets that learned nothing, or of a side that diverged whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.stats.outcomes import outcome_of
from reluexp.stats.results import Results
from reluexp.stats.settings import axis_names, setting_columns, settings

__all__ = ["unlearned"]


def unlearned(study: Results, frame: pd.DataFrame, by: str = "activation", over: Sequence[str] = ()) -> list[str]:
    """For each comparison by an axis, a row of `compare_study`, why nothing follows from it, else an empty text.

    Of what was learned: both nets of all pairs were stuck or diverged; of anything else: all nets of a side diverged.
    """
    if frame.empty:
        return []
    trials = settings(study)
    trials = trials[trials["outcome"] != "failed"]
    keys = [*(axis for axis in setting_columns(study) if axis not in (by, *over)), by]
    diverged = trials["outcome"].eq("diverged")
    flags = trials[keys].assign(idle=trials["stuck"] | diverged, diverged=diverged).groupby(keys, observed=True)
    found = flags.agg(idle=("idle", "all"), some=("diverged", "any"), all=("diverged", "all")).reset_index()
    fates = {tuple(row[key] for key in keys): row for row in found.to_dict("records")}
    outcome = outcome_of(study).metric
    return [_why(row, fates, keys, outcome) for row in frame.to_dict("records")]


def _why(row: Mapping[Any, Any], fates: Mapping[Any, Mapping[Any, Any]], keys: list[str], outcome: str) -> str:
    where, by = [row[axis] for axis in keys[:-1]], keys[-1]
    both = [own for level in (row[by], row["baseline"]) if (own := fates.get((*where, level)))]
    if row["n"] == 0 or len(both) < 2:
        return ""
    if row["metric"] == outcome and all(own["idle"] for own in both):
        return f"in all pairs both nets were stuck{' or diverged' * any(own['some'] for own in both)}"
    lost = [_named(by, own[by]) for own in both if own["all"]]
    return f"all nets of {' and '.join(lost)} diverged" if row["metric"] != outcome and lost else ""


def _named(axis: str, level: Any) -> str:
    return display_name(level) if axis == "activation" else f"{axis_names([axis])[axis]} = {level}"
