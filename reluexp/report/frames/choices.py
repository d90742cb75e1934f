"""How shares of units depend on choices: the threshold, the size of the probe, the value of an axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reluexp.report.frames.lives import followed, shares_below
from reluexp.stats import Results, final_metrics, groups, other_axes, settings

__all__ = [
    "along",
    "candidates",
    "dormant_shares",
    "firing_rates",
    "numeric_axis",
    "over_axis",
    "probe_shares",
    "saturated_shares",
]

_SLOPES = np.logspace(-6, np.log10(0.5), 37)
_ACTIVITIES = np.logspace(-3, 0, 37)
_RATES = np.linspace(0, 1, 51)


def _by_kind(study: Results, column: str, grid: np.ndarray, x: str, inclusive: bool) -> pd.DataFrame:
    if not followed(study) or column not in study.units or not study.units[column].notna().any():
        return pd.DataFrame({"trial": []})
    return shares_below(study, column, grid, x, inclusive)


def saturated_shares(study: Results) -> pd.DataFrame:
    """Share of a trial's units with max |f'(z)| / s_f below each threshold, by kind of site."""
    return _by_kind(study, "slope_ratio", _SLOPES, "threshold", inclusive=False)


def dormant_shares(study: Results) -> pd.DataFrame:
    """Share of a trial's units with mean |h| at most each threshold times the layer's mean, by kind of site."""
    return _by_kind(study, "activity", _ACTIVITIES, "threshold", inclusive=True)


def firing_rates(study: Results) -> pd.DataFrame:
    """Share of a trial's units that fire at most at each rate, by kind of site: their distribution at the end."""
    return _by_kind(study, "firing_rate", _RATES, "rate", inclusive=True)


def probe_shares(study: Results) -> pd.DataFrame:
    """Share of a trial's units that a probe of the first n samples would call dead: trial, kind, samples, share.

    From `responds_after`, the number of samples of one fixed order until a unit responds, on the whole training set:
    nested probes from one pass. The largest n is the last response; units that never respond are dead on all.
    """
    units = study.units
    if not followed(study) or "responds_after" not in units or not units["responds_after"].notna().any():
        return pd.DataFrame({"trial": []})
    largest = float(units["responds_after"].max())
    grid = np.unique(np.append(2.0 ** np.arange(0, np.ceil(np.log2(max(largest, 2)))), largest))
    table = shares_below(study, "responds_after", grid, "samples", inclusive=True)
    confirmed = units.loc[units["confirmed_dead"].notna(), "trial"].unique()
    table = table[table["trial"].isin(confirmed)]
    return table.assign(share=1 - table["share"])


def candidates(study: Results) -> pd.DataFrame:
    """The score of every candidate of tuning, as `Study.sensitivity` gives it; empty where nothing was tuned."""
    return pd.DataFrame() if not study.tuned_axes or study.trials.empty else study.sensitivity()


def numeric_axis(study: Results) -> str | None:
    """The axis to draw metrics against: numbers, three values or more in an otherwise equal setting; rates first."""
    frame = settings(study)
    numeric = [
        axis
        for axis in other_axes(study)
        if all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in frame[axis])
        and max((len(values) for _, values in along(study, axis)), default=0) > 2
    ]
    rates = [axis for axis in numeric if axis.rpartition(".")[2] == "lr"]
    return next(iter(rates + numeric), None)


def along(study: Results, axis: str) -> list[tuple[dict[str, Any], list[Any]]]:
    """Each otherwise equal setting with its values of an axis, those with the most values first."""
    others = [other for other in other_axes(study) if other != axis]
    found = [(where, list(part[axis].unique())) for where, part in groups(settings(study), others)]
    return sorted(found, key=lambda pair: -len(pair[1]))


def over_axis(study: Results, axis: str, final: pd.DataFrame | None = None) -> pd.DataFrame:
    """Final metrics of each trial with the axis's values as numbers; failed trials are left out."""
    found = final_metrics(study) if final is None else final
    found = found[found["outcome"] != "failed"]
    return found.assign(**{axis: found[axis].astype(float)})
