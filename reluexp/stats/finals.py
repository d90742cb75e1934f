"""One row per trial with its final metrics, one per setting with their means."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from reluexp.catalogue.metrics import TIME, is_time
from reluexp.stats.ends import end_of_training, over_all_units
from reluexp.stats.intervals import aggregate, finite
from reluexp.stats.memory import remembered
from reluexp.stats.results import Results
from reluexp.stats.settings import learned, setting_columns, settings
from reluexp.stats.targets import steps_to_target

__all__ = ["final_metrics", "summary"]

_FINALS = (
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "probe_accuracy",
    "dead_fraction",
    "born_dead_fraction",
    "confirmed_dead_fraction",
    "collapsed_at_end",
    "off_fraction",
    "zero_fraction",
    "grad_norm",
)
"""the columns of `final_metrics` that have a mean over seeds"""


_FROM_EPOCHS = ("test_accuracy", "test_loss", "train_accuracy", "probe_accuracy", "grad_norm")


@remembered
def final_metrics(study: Results) -> pd.DataFrame:
    """One row per trial: its setting, seed, outcome and metrics at the end, and `steps_to_<target>` columns.

    A diverged trial keeps its last finite values, else chance; a failed one has none. Steps are inf for never.
    """
    final = _finals(study)
    for metric in study.targets or ("probe_accuracy",):
        steps = steps_to_target(study, metric)
        for target, part in steps.groupby("target", sort=False):
            final[f"{TIME}{target}"] = final["trial"].map(part.set_index("trial")["steps"])
    return final


def summary(study: Results, level: float = 0.95, final: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per setting: counts of outcomes, `<metric>_{mean,low,high,n}`, and medians of the steps to each target.

    `test_accuracy_learned_*` leave out diverged and stuck trials. A median is inf when half of the trials or more never
    reached the target; `<steps>_never` counts them. `final` is `final_metrics(study)`, if it is at hand.
    """
    keys = setting_columns(study)
    final = final_metrics(study) if final is None else final
    final = final.assign(test_accuracy_learned=final["test_accuracy"].where(learned(final)))
    table = _counts(final, keys)
    for metric in (*_FINALS, "test_accuracy_learned"):
        part = aggregate(final, keys, metric, level).set_index(keys)
        table = table.join(part.add_prefix(f"{metric}_"))
    for column in filter(is_time, map(str, final.columns)):
        steps = final.groupby(keys, sort=False)[column]
        table[f"{column}_median"] = steps.median()
        table[f"{column}_never"] = steps.agg(lambda values: int(np.isinf(values).sum()))
        table[f"{column}_n"] = steps.count()
    return table.reset_index()


def _finals(study: Results) -> pd.DataFrame:
    trials = settings(study)
    frame = trials[["trial", *setting_columns(study), "seed", "outcome", "stuck"]].copy()
    for metric in _FROM_EPOCHS:
        frame[metric] = end_of_training(study, trials, metric)
    for metric in ("dead_fraction", "off_fraction", "zero_fraction"):
        frame[metric] = frame["trial"].map(over_all_units(study.layers, metric))
    frame["dead_fraction"] = finite(trials["dead_fraction"]).fillna(frame["dead_fraction"])
    frame["born_dead_fraction"] = frame["trial"].map(over_all_units(study.layers, "dead_fraction", first=True))
    unknown = pd.Series(math.nan, index=trials.index)
    for metric in ("confirmed_dead_fraction", "collapsed_at_end"):
        frame[metric] = finite(trials.get(metric, unknown))
    frame.loc[frame["outcome"] == "failed", list(_FINALS)] = math.nan
    return frame[["trial", *setting_columns(study), "seed", "outcome", "stuck", *_FINALS]]


def _counts(final: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    flags = final[keys].assign(
        trials=1,
        finished=final["outcome"].eq("finished"),
        diverged=final["outcome"].eq("diverged"),
        stuck=final["stuck"],
        failed=final["outcome"].eq("failed"),
    )
    return flags.groupby(keys, sort=False).sum().astype(int)
