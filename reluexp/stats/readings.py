"""One number per trial and metric: at the end, at the epoch that validation chose, or averaged over training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import integrate

from reluexp.catalogue.activations import rectifies
from reluexp.catalogue.metrics import METRICS, better_sign, is_time
from reluexp.catalogue.registry import nearest
from reluexp.errors import ConfigError
from reluexp.stats.dying import disabled, dying
from reluexp.stats.ends import end_of_training, over_all_units, over_sites
from reluexp.stats.finals import final_metrics
from reluexp.stats.intervals import finite, sound
from reluexp.stats.outcomes import outcome_of
from reluexp.stats.results import Results
from reluexp.stats.settings import other_axes, setting_columns, settings

__all__ = ["MOMENTS", "known_beforehand", "means_another", "none_at_all", "readings"]

MOMENTS = ("last", "best", "auc")
"""`last`: the end of training; `best`: the epoch with the best validation accuracy (for a loss, the least validation
loss); `auc`: the mean over training, by the trapezoidal rule from the first measurement on"""

_FINAL = ("dead_fraction", "born_dead_fraction")
"""what only `final_metrics` knows, besides times"""

_NO_METRICS = ("seed", "classes", "parameters", "lr", "batch_size", "epoch", "step", "site", "width", "site_name")
"""numbers that say what a trial or a measurement is, not what came of it"""

_ABOUT = ("seed", "outcome", "stuck")


def readings(study: Results, metric: str, at: str = "last") -> pd.DataFrame:
    """One row per trial: trial, its setting, seed, outcome, stuck, value.

    A diverged trial has its last finite value, else chance; a failed one NaN; steps to a target are inf for never.
    Raises ConfigError for a metric or moment that there is not, and for `best` without a validation split.
    """
    if at not in MOMENTS:
        raise ConfigError(f"at: got {at!r}; allowed: {', '.join(MOMENTS)}{nearest(at, MOMENTS)}")
    if not isinstance(metric, str):
        raise ConfigError(f"metric: got {metric!r}; allowed: the name of a column")
    frame = settings(study)
    keys = list(dict.fromkeys(["trial", *setting_columns(study), *_ABOUT]))
    if frame["outcome"].eq("failed").all():  # then there is no table that could know the metric
        return frame[keys].assign(value=np.nan)
    value = _last(study, frame, metric) if at == "last" else _along(study, frame, metric, at)
    return frame[keys].assign(value=value.where(frame["outcome"] != "failed"))


def _last(study: Results, frame: pd.DataFrame, metric: str) -> pd.Series:
    if metric in _NO_METRICS:
        raise _unknown(study, final_metrics(study), metric)
    if metric in study.epochs and pd.api.types.is_numeric_dtype(study.epochs[metric]):
        return end_of_training(study, frame, metric)
    if metric in _FINAL or is_time(metric):
        final = final_metrics(study)
        if metric in final:
            return frame["trial"].map(final.set_index("trial")[metric]).astype(float)
    if metric in study.layers and pd.api.types.is_numeric_dtype(study.layers[metric]):
        return frame["trial"].map(over_all_units(study.layers, metric)).astype(float)
    if metric in frame and (pd.api.types.is_numeric_dtype(frame[metric]) or metric == "stuck"):
        return finite(frame[metric])
    raise _unknown(study, final_metrics(study), metric)


def none_at_all(study: Results, metric: str, at: str = "last") -> str:
    """Why a metric that studies have can be compared in none of this one's trials; empty where it has values."""
    frame = readings(study, metric, at)
    if frame["value"].notna().any() or frame["outcome"].eq("failed").all():
        return ""
    split = "; there is no validation split, which `dataset.validation` would make" * metric.startswith("validation_")
    return f"metric: {metric!r} has no value in any trial of this study{split}"


def _unknown(study: Results, final: pd.DataFrame, metric: str) -> ConfigError:
    tables = (final, study.epochs, study.layers, study.trials)
    numbers = [table.select_dtypes("number").dropna(axis=1, how="all").columns for table in tables]
    about = {"trial", *_NO_METRICS, *setting_columns(study)}
    names = [str(name) for name in dict.fromkeys(name for part in numbers for name in part) if name not in about]
    near = nearest(metric, names)
    return ConfigError(f"unknown metric {metric!r}{f'{near} This' if near else '; this'} study has {', '.join(names)}")


def _along(study: Results, frame: pd.DataFrame, metric: str, at: str) -> pd.Series:
    """The metric at the chosen epoch, or its mean over training."""
    if is_time(metric):
        raise ConfigError(f"at: got {at!r} for {metric!r}; a time to a target has one value per trial: at='last'")
    rows = _series(study, metric)
    if at == "auc":
        return _mean_over_training(frame, rows, other_axes(study))
    chosen = frame["trial"].map(_best_epochs(study, metric))
    at_epoch = rows.drop_duplicates(["trial", "epoch"], keep="last").set_index(["trial", "epoch"])["value"]
    found = at_epoch.reindex(pd.MultiIndex.from_arrays([frame["trial"], chosen])).to_numpy(float)
    fallback = _last(study, frame, metric).where(frame["outcome"].eq("diverged") & chosen.isna())
    return pd.Series(found, index=frame.index).fillna(fallback)


def _series(study: Results, metric: str) -> pd.DataFrame:
    """trial, epoch, step and the metric's finite values, in order."""
    if metric in study.epochs:
        rows = study.epochs[["trial", "epoch", "step"]].assign(value=sound(study.epochs, metric))
    elif metric in study.layers:
        rows = over_sites(study.layers, metric).rename(columns={metric: "value"})
    else:
        raise ConfigError(f"{metric!r} is not measured along training; take at='last', or a column of epochs or layers")
    return rows.dropna(subset="value").sort_values(["trial", "step"], kind="stable")


def _best_epochs(study: Results, metric: str) -> pd.Series:
    """For each trial the first epoch that validation likes best; never chosen on test."""
    of_losses = metric.endswith("loss") or not outcome_of(study).share
    column = "validation_loss" if of_losses else "validation_accuracy"
    if column not in study.epochs or finite(study.epochs[column]).isna().all():
        raise ConfigError(
            "at='best' is chosen on the validation split, never on test, and this study has none; "
            "give `dataset.validation` a share such as 0.1, or take at='last' or 'auc'"
        )
    rows = study.epochs[["trial", "epoch"]].assign(value=sound(study.epochs, column)).dropna()
    ranked = rows.sort_values(["trial", "value", "epoch"], ascending=[True, better_sign(column) < 0, True])
    return ranked.drop_duplicates("trial").set_index("trial")["epoch"]


def _mean_over_training(frame: pd.DataFrame, rows: pd.DataFrame, others: list[str]) -> pd.Series:
    """The area under the curve over the steps that it spans; a diverged trial keeps its last value to the end."""
    ends = frame["trial"].map(rows.groupby("trial")["step"].max()).fillna(0)
    latest = ends.groupby([frame[axis] for axis in others]).transform("max") if others else ends.max()
    horizon = dict(zip(frame["trial"], ends.where(~frame["outcome"].eq("diverged"), latest), strict=True))
    areas = {trial: _mean(part, horizon.get(trial, 0.0)) for trial, part in rows.groupby("trial", sort=False)}
    return frame["trial"].map(areas).astype(float)


def _mean(part: pd.DataFrame, end: float) -> float:
    steps, values = part["step"].to_numpy(float), part["value"].to_numpy(float)
    if end > steps[-1]:
        steps, values = np.append(steps, end), np.append(values, values[-1])
    width = steps[-1] - steps[0]
    return float(integrate.trapezoid(values, steps) / width) if width else float(values[-1])


def known_beforehand(study: Results, metric: str, by: str, *levels: Any) -> bool:
    """Whether definitions decide a comparison: of exact deaths, where one of the activations cannot die so, or where
    `init.dead` switched off more of the units of one.
    """
    if metric not in METRICS or not METRICS[metric].death:
        return False
    if by in ("init", "init.dead"):
        return len({disabled(study, {by: level}) for level in levels}) > 1
    return by == "activation" and not dying(study).issuperset(map(str, levels))


def means_another(metric: str, by: str, *levels: Any) -> bool:
    """Whether a metric is no merit or fault of one of these activations: to be off is none of a sigmoid's unit."""
    return by == "activation" and metric == "off_fraction" and not all(rectifies(str(level)) for level in levels)
