"""Every activation against the study's baseline, as all its tables, sentences and pages take it."""

from __future__ import annotations

import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.stats.comparison import compare_study
from reluexp.stats.memory import remembered
from reluexp.stats.outcomes import outcome_of
from reluexp.stats.results import Results
from reluexp.stats.settings import other_axes, settings
from reluexp.stats.targets import headline_target

__all__ = ["differences"]


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
    kept = [part for part in parts if part["n"].gt(0).any()]
    found = pd.concat(kept, ignore_index=True) if kept else nothing
    found.attrs["baseline"] = display_name(study.baseline)
    return found


def _metrics(study: Results) -> list[str]:
    outcome = outcome_of(study)
    silent = ["off_fraction"] if "off_fraction" in study.layers else []
    speed = [headline_target(study)[0]] if outcome.share or study.targets else []  # the default is one of accuracy
    return [outcome.metric, *silent, *speed]
