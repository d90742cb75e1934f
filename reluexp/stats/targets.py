"""Levels that trials are to reach, and the steps that each took: inf for never."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.catalogue.metrics import REACHED, TIME, better_sign
from reluexp.stats.ends import end_of_training
from reluexp.stats.intervals import finite, sound
from reluexp.stats.memory import remembered
from reluexp.stats.outcomes import outcome_of
from reluexp.stats.results import Results
from reluexp.stats.settings import groups, matching, other_axes, settings

__all__ = ["describe_targets", "headline_rows", "headline_target", "steps_to_level", "steps_to_target"]

_HEADLINE = 95


def steps_to_target(study: Results, metric: str = "probe_accuracy") -> pd.DataFrame:
    """Steps at which each trial reached each target: trial, target, rule, value, steps (inf: never, NaN: failed).

    Interpolated linearly between measurements; reached when it holds at two in a row.
    """
    trials, targets = settings(study), _targets(study, metric)
    paths = _paths(study.epochs, metric)
    sign = better_sign(metric)
    found = []
    for where, part in groups(trials, other_axes(study)):
        for target in matching(targets, where).to_dict("records"):
            for trial, outcome in zip(part["trial"], part["outcome"], strict=True):
                steps, values = paths.get(trial, (np.empty(0), np.empty(0)))
                reached = math.nan if outcome == "failed" else _crossing(steps, sign * values, sign * target["value"])
                found.append((trial, target["target"], target["rule"], target["value"], reached))
    return pd.DataFrame(found, columns=["trial", "target", "rule", "value", "steps"])


def steps_to_level(study: Results, metric: str, level: float) -> dict[str, float]:
    """Steps at which each trial that did not fail came to hold a level of a metric; inf for never."""
    sign = better_sign(metric)
    paths = _paths(study.epochs, metric)
    ended = study.trials.loc[study.trials["outcome"] != "failed", "trial"]
    nothing = (np.empty(0), np.empty(0))
    return {
        str(trial): _crossing(steps, sign * values, sign * level)
        for trial, (steps, values) in ((trial, paths.get(str(trial), nothing)) for trial in ended)
    }


def describe_targets(study: Results) -> str:
    """The rule behind every target, for a table's caption; empty for a regression without targets of its own."""
    if not (study.targets or outcome_of(study).share):
        return ""
    rules = [rule for metric in study.targets or ("probe_accuracy",) for rule in _targets(study, metric)["rule"]]
    chosen = [rule for rule in dict.fromkeys(rules) if not study.targets] or list(dict.fromkeys(rules))
    return (
        "Steps to a target are interpolated between measurements and count when the target holds at two in a row; "
        f"medians, with never ranked last. Targets: {'; '.join(chosen)}."
    )


def headline_target(study: Results) -> tuple[str, str]:
    """The target that tables show when they show one, as its column in `final_metrics` and its rule in words.

    The words hold for all settings: where a share of somebody's accuracy is meant, it may be somebody else's in each.
    """
    rows = headline_rows(study)
    rules = rows["rule"].unique()
    rule = str(rules[0]) if len(rules) == 1 else _way(_HEADLINE, "probe_accuracy", _whose(study.baseline))
    return f"{TIME}{rows['target'].iloc[0]}", rule


@remembered
def headline_rows(study: Results) -> pd.DataFrame:
    """The headline target in each combination of the other axes: those columns, target, rule and value.

    The value is NaN where nobody got beyond chance.
    """
    if not study.targets:
        rows = _targets(study, "probe_accuracy")
        return rows[rows["target"] == f"{_HEADLINE}%"]
    rows = _targets(study, next(iter(study.targets)))
    return rows[rows["target"] == rows["target"].iloc[-1]]


def _whose(baseline: str | None) -> str:
    if baseline is None:
        return "the best activation of each setting"
    return f"{display_name(baseline)}, or of the best activation where that is absent or not beyond chance"


def _targets(study: Results, metric: str) -> pd.DataFrame:
    """The targets of a metric for each combination of the other axes: those columns, target, rule, value."""
    others = other_axes(study)
    shown = metric.replace("_", " ")
    given = (study.targets or {}).get(metric)
    if given is None:
        return _relative_targets(study, metric)
    sign = "≤" if better_sign(metric) < 0 else "≥"
    rows = [
        {**where, "target": f"{metric}_{value:g}", "rule": f"{shown} {sign} {value:g}", "value": float(value)}
        for where, _ in groups(settings(study), others)
        for value in given
    ]
    return pd.DataFrame(rows, columns=[*others, "target", "rule", "value"])


def _relative_targets(study: Results, metric: str) -> pd.DataFrame:
    others = other_axes(study)
    trials = settings(study)
    ended = trials["outcome"] != "failed"
    final = trials.assign(value=end_of_training(study, trials, metric).where(ended))
    rows = []
    for where, part in groups(final, others):
        chance = 1 / float(finite(part["classes"]).max())  # one that failed does not know
        goal, whose = _goal(part, chance, study.baseline)
        for share in REACHED:
            rule = _way(share, metric, whose)
            value = chance + share / 100 * (goal - chance)
            rows.append({**where, "target": f"{share}%", "rule": rule, "value": value})
    return pd.DataFrame(rows, columns=[*others, "target", "rule", "value"])


def _way(share: int, metric: str, whose: str) -> str:
    return f"{share} % of the way from chance to the median final {metric.replace('_', ' ')} of {whose}"


def _goal(part: pd.DataFrame, chance: float, baseline: str | None) -> tuple[float, str]:
    """The median that targets are shares of, and whose it is; NaN when nobody got beyond chance."""
    found = part.groupby("activation", sort=False)["value"].median().dropna()
    medians = {str(label): float(value) for label, value in found.items()}
    if medians.get(str(baseline), chance) > chance:
        return medians[str(baseline)], display_name(baseline)
    best = max(medians, key=lambda label: medians[label], default="")
    if not medians.get(best, chance) > chance:  # NaN in regression
        return math.nan, "no activation, since none got beyond chance"
    return medians[best], f"{display_name(best)} (the best; the baseline did not get beyond chance or is absent)"


def _paths(epochs: pd.DataFrame, metric: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values of each trial's measurements, in order; NaN where a measurement made no sense.

    Epochs between measurements (`probe.every`) have neither a loss nor an accuracy, and are none.
    """
    if epochs.empty or metric not in epochs:
        return {}
    pair = {metric.replace(*words) for words in (("loss", "accuracy"), ("accuracy", "loss"))}
    measured = epochs[[name for name in epochs if name in pair]].notna().any(axis=1)
    rows = epochs[["trial", "step"]].assign(value=sound(epochs, metric))[measured]
    rows = rows.sort_values(["trial", "step"], kind="stable")
    if rows.empty:
        return {}
    names, starts = np.unique(rows["trial"].to_numpy(str), return_index=True)
    steps = np.split(rows["step"].to_numpy(float), starts[1:])
    values = np.split(rows["value"].to_numpy(float), starts[1:])
    return dict(zip(map(str, names), zip(steps, values, strict=True), strict=True))


def _crossing(steps: np.ndarray, values: np.ndarray, target: float) -> float:
    """The interpolated step at which `values` comes to stay at or above `target` for two measurements; inf if never."""
    above = values >= target
    held = np.flatnonzero(above[:-1] & above[1:])
    if held.size == 0:
        return math.inf
    i = int(held[0])
    if i == 0 or math.isnan(values[i - 1]):
        return float(steps[i])
    share = (target - values[i - 1]) / (values[i] - values[i - 1])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))
