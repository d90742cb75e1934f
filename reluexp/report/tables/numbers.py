"""The numbers behind figures, as frames for CSV files."""

from __future__ import annotations

import pandas as pd

from reluexp.report.frames.lives import FATES, fates
from reluexp.stats import Results, aggregate, other_axes, survival_of

__all__ = ["fate_means", "survival_curves"]

_MOST = 2000


def fate_means(study: Results) -> pd.DataFrame:
    """What became of the units: mean share over trials with its 95 % t interval, by setting, kind of site and fate."""
    frame = fates(study)
    if frame.empty:
        return frame
    keys = ["activation", *other_axes(study), "kind"]
    parts = [aggregate(frame, keys, fate).assign(fate=fate) for fate in FATES]
    return pd.concat(parts, ignore_index=True)[[*keys, "fate", "mean", "low", "high", "n"]]


def survival_curves(study: Results) -> pd.DataFrame:
    """Kaplan-Meier curves of lasting death, as `Study.survival` gives them.

    Empty where units were not followed, and for more trials than 2,000: resampling them takes longer than the report.
    """
    if len(study.trials) > _MOST or study.units.empty or "dead_since_step" not in study.units or study.epochs.empty:
        return pd.DataFrame()
    return survival_of(study).curves
