"""All data sets and architectures of a study together: what `Study.across` gives, as frames and in sentences."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.plain import p_told
from reluexp.stats import Across, Ranks, Results, across_tasks, axis_names, final_metrics, other_axes
from reluexp.stats.memory import remembered

__all__ = ["across_sentences", "across_summary", "nemenyi", "profiles", "ranks", "ranks_of", "tasks_told"]

_METRICS = ("test_accuracy", "off_fraction")
"""what is taken together: shares of one scale in every data set and architecture; a loss has none"""


@remembered
def _across(study: Results) -> dict[str, Across]:
    """The tasks together, by metric; empty where there is one task, one activation, or nothing has ended."""
    if study.trials.empty or study.trials["activation"].nunique() < 2:
        return {}
    final = final_metrics(study)
    known = [metric for metric in _METRICS if final[metric].notna().any()]
    found = {metric: across_tasks(study, metric) for metric in known}
    return {metric: own for metric, own in found.items() if own is not None}


def _frames(study: Results, part: str) -> pd.DataFrame:
    frames = [getattr(own, part).assign(metric=metric) for metric, own in _across(study).items()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def across_summary(study: Results) -> pd.DataFrame:
    """Interquartile mean of the differences and chance of improvement, one row for each metric and activation."""
    return _frames(study, "summary")


def profiles(study: Results) -> pd.DataFrame:
    """Share of runs above each score, with bounds."""
    return _frames(study, "profiles")


def ranks_of(study: Results, metric: str = "test_accuracy") -> Ranks | None:
    """Average ranks over the data sets; None for fewer than six."""
    found = _across(study).get(metric)
    return found.ranks if found else None


def ranks(study: Results) -> pd.DataFrame:
    """Average ranks over the data sets, best first: metric, activation, rank, datasets, friedman, critical."""
    parts = []
    for metric in _METRICS:
        own = ranks_of(study, metric)
        if own is not None:
            about = {"metric": metric, "datasets": own.datasets, "friedman": own.friedman, "critical": own.critical}
            parts.append(own.ranks.assign(**about))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def nemenyi(study: Results) -> pd.DataFrame:
    """p that two activations rank alike over the data sets (Nemenyi 1963): metric, activation, other, p."""
    parts = []
    for metric in _METRICS:
        own = ranks_of(study, metric)
        if own is not None:
            pairs = own.nemenyi.rename_axis(index="activation", columns="other").stack().rename("p").reset_index()
            parts.append(pairs[pairs["activation"] != pairs["other"]].assign(metric=metric))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def tasks_told(study: Results) -> str:
    """The axes whose values are taken together, in words; empty where there are none."""
    found = next(iter(_across(study).values()), None)
    return " and ".join(axis_names(found.tasks).values()) if found else ""


def across_sentences(study: Results) -> list[str]:
    """What the tasks together say of test accuracy, no more than its intervals carry; empty without several tasks."""
    found = _across(study).get("test_accuracy")
    if found is None or study.baseline not in set(study.trials["activation"]):
        return []
    base, table = display_name(study.baseline), found.summary
    table = table[table["tasks"] == table["tasks"].max()]  # what ran in fewer is not compared with the others over all
    apart = table[(table["iqm_low"] > 0) | (table["iqm_high"] < 0)].sort_values("iqm", ascending=False)
    what = "data sets" if found.tasks == ("dataset",) else f"settings of {tasks_told(study)}"
    where = f"Over {int(table['tasks'].max())} {what} together"
    if apart.empty:
        return [f"{where}, no activation was shown to differ from {base} in the interquartile mean of test accuracy."]
    rows = apart.to_dict("records")
    shown = rows if len(rows) <= 3 else [rows[0], rows[-1]]
    more = f" ({len(rows)} of {len(table)} differ)" if len(rows) > 3 else ""
    told = "; ".join(_told(study, row) for row in shown)
    how = "by bootstrap intervals that are not corrected for their number"
    return [f"{where}, against {base}, {how}: {told}{more}.", *_ranked(found.ranks)]


def _told(study: Results, row: dict[Any, Any]) -> str:
    size, low, high = (f"{100 * row[f'iqm{end}']:+.1f}".replace("-", "−") for end in ("", "_low", "_high"))
    chance = row["improvement"]
    better = f", the better of two runs, one of each, in {100 * chance:.0f} %" if math.isfinite(chance) else ""
    names = axis_names(other_axes(study))
    where = ", ".join(f"{name} = {row[axis]}" for axis, name in names.items() if axis in row)  # what is no task
    who = display_name(row["activation"]) + (f" at {where}" if where else "")
    return f"{who} {size} points of test accuracy [{low}, {high}]{better}"


def _ranked(found: Ranks | None) -> list[str]:
    if found is None:
        return []
    names = [display_name(label) for label in found.ranks["activation"]]
    p = p_told(found.friedman)
    if found.friedman > 0.05:
        return [f"Ranked on each of {found.datasets} data sets, no difference of the average ranks is shown ({p})."]
    first, last = found.ranks["rank"].iloc[0], found.ranks["rank"].iloc[-1]
    return [
        f"Ranked on each of {found.datasets} data sets, {names[0]} came first on average ({first:.1f}) and {names[-1]} "
        f"last ({last:.1f}; Friedman's test, {p}); ranks less than {found.critical:.2f} apart are not told apart."
    ]
