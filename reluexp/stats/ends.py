"""What each trial came to: the last values of its curves, and its sites averaged over units."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from reluexp.stats.intervals import finite
from reluexp.stats.results import Results

__all__ = ["end_of_training", "over_all_units", "over_sites"]


def end_of_training(study: Results, trials: pd.DataFrame, metric: str) -> pd.Series:
    """The last finite value of each trial, which its last finite weights give; of a diverged one without, chance's."""
    values = trials["trial"].map(_last_finite(study.epochs, metric))
    classes = finite(trials["classes"])  # none in regression, which has no chance level
    chance = {"accuracy": 1 / classes, "loss": np.log(classes)}
    default = chance.get(metric.rpartition("_")[2], pd.Series(math.nan, index=trials.index))
    return values.where(values.notna() | (trials["outcome"] != "diverged"), default)


def over_sites(layers: pd.DataFrame, metric: str, by: Sequence[str] = ("trial", "epoch", "step")) -> pd.DataFrame:
    """A site metric averaged over the hidden sites by their widths, so that every unit counts once.

    `zero_fraction_live` is a mean over units that are not dead: of each site only those count.
    Rows without a site (the output layer) and values that are not finite enter no average.
    """
    keys = list(by)
    if layers.empty or metric not in layers:
        return pd.DataFrame({key: [] for key in [*keys, metric]})
    value = finite(layers[metric])
    known = layers["site"].notna() & value.notna()
    weight = layers.loc[known, "width"].astype(float)
    if metric == "zero_fraction_live":
        weight = weight * (1 - layers.loc[known, "dead_fraction"])
    sums = layers.loc[known, keys].assign(_total=value[known] * weight, _weight=weight).groupby(keys).sum()
    return (sums["_total"] / sums["_weight"]).rename(metric).reset_index()


def over_all_units(layers: pd.DataFrame, metric: str, first: bool = False) -> pd.Series:
    """A site metric over all hidden units of each trial, at its first or last measurement."""
    if layers.empty or metric not in layers:
        return pd.Series(dtype=float)
    needed = list(dict.fromkeys(["trial", "step", "site", "width", "dead_fraction", metric]))
    rows = layers.loc[layers["site"].notna() & layers[metric].notna(), needed]
    step = rows.groupby("trial")["step"].transform("min" if first else "max")
    return over_sites(rows[rows["step"] == step], metric, ["trial"]).set_index("trial")[metric]


def _last_finite(epochs: pd.DataFrame, metric: str) -> pd.Series:
    if epochs.empty or metric not in epochs:
        return pd.Series(dtype=float)
    rows = epochs[["trial", "step"]].assign(value=finite(epochs[metric])).dropna().sort_values("step", kind="stable")
    return rows.drop_duplicates("trial", keep="last").set_index("trial")["value"]
