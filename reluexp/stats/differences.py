"""Every activation against the study's baseline, as all its tables, sentences and pages take it."""

from __future__ import annotations

import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.catalogue.metrics import TIME
from reluexp.config import value_at
from reluexp.stats.comparison import compare_study
from reluexp.stats.dying import dying
from reluexp.stats.memory import remembered
from reluexp.stats.outcomes import outcome_of
from reluexp.stats.results import Results
from reluexp.stats.settings import in_order, other_axes, settings
from reluexp.stats.targets import headline_target
from reluexp.stats.times import compare_times

__all__ = ["along_axes", "differences"]


@remembered
def differences(study: Results) -> pd.DataFrame:
    """Every activation against the baseline in outcome, silent units and speed: `compare_study`, a family for each.

    Empty without a baseline, without another activation, and before any trial has ended.
    """
    frame = settings(study) if len(study.trials) else study.trials
    keys = [*other_axes(study), "activation", "metric", "baseline", "n", "mean", "low", "high", "p_holm", "verdict"]
    nothing = pd.DataFrame({key: [] for key in keys})
    levels = set(frame["activation"]) if len(frame) else set()
    if study.baseline not in levels or len(levels) < 2:
        return nothing
    parts = [compare_study(study, metric, margins=study.margins) for metric in _metrics(study)]
    parts += [_times(study)] if study.targets else []
    kept = [part for part in parts if part["n"].gt(0).any()]
    found = pd.concat(kept, ignore_index=True) if kept else nothing
    found.attrs["baseline"] = display_name(study.baseline)
    return found


@remembered
def along_axes(study: Results) -> pd.DataFrame:
    """Each value of the axes beside the activation against one of them, for each activation and all else equal.

    That one is the config's own outside its grid, else the first. The outcome, and dead units of activations that can
    die: `compare_study`, a family for each axis and metric, with the columns axis, level and reference. Data sets are
    not compared: what is reached on one says nothing of another. Empty where there is nothing to compare.
    """
    frame = settings(study) if len(study.trials) else study.trials
    parts = []
    for axis in (own for own in other_axes(study) if own != "dataset" and len(frame)):
        levels = in_order(frame[axis], axis)
        own = value_at(study.base, axis) if study.base else None
        reference = own if own in levels else levels[0]
        for metric in (outcome_of(study).metric, "dead_fraction"):
            found = compare_study(study, metric, axis, reference, margins=study.margins)
            if metric == "dead_fraction":
                found = found[found["activation"].isin(dying(study))]
            found = found[found["n"] > 0].rename(columns={axis: "level", "baseline": "reference"})
            kept_apart = {name: found[name].astype(object) for name in ("level", "reference")}  # 2 beside 0.1 stays 2
            parts.append(found.assign(axis=axis, **kept_apart))
    kept = [part for part in parts if len(part)]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()


def _metrics(study: Results) -> list[str]:
    outcome = outcome_of(study)
    silent = ["off_fraction"] if "off_fraction" in study.layers else []
    speed = [headline_target(study)[0]] if outcome.share and not study.targets else []  # the default is of accuracy
    return [outcome.metric, *silent, *speed]


def _times(study: Results) -> pd.DataFrame:
    """Times to all targets that the config gives, which are one family."""
    found = compare_times(study, margins=study.margins)
    found.insert(0, "metric", TIME + found["target"])
    ratios = [name for name in found if name.startswith("ratio")]
    return found.assign(baseline=study.baseline, at="last").drop(columns=["target", "never", "never_base", *ratios])
