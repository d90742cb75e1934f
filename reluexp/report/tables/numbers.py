"""The numbers behind figures, as frames for CSV files."""

from __future__ import annotations

import pandas as pd

from reluexp.report.frames.lives import FATES, fates
from reluexp.stats import Results, aggregate, other_axes

__all__ = ["fate_means"]


def fate_means(study: Results) -> pd.DataFrame:
    """What became of the units: mean share over trials with its 95 % t interval, by setting, kind of site and fate."""
    frame = fates(study)
    if frame.empty:
        return frame
    keys = ["activation", *other_axes(study), "kind"]
    parts = [aggregate(frame, keys, fate).assign(fate=fate) for fate in FATES]
    return pd.concat(parts, ignore_index=True)[[*keys, "fate", "mean", "low", "high", "n"]]
