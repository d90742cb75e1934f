"""Networks at birth: how many are born dead over depth and width, beside what theory says."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from reluexp.stats import Results, settings
from reluexp.stats.theory import dead_for_one_input, least_born_dead

__all__ = ["born_dead"]

_DEPTH, _WIDTH = "architecture.depth", "architecture.width"


def born_dead(study: Results) -> pd.DataFrame:
    """One row per depth and width of ReLU nets at birth: networks, dead, share, low, high, least, most.

    A network is born dead if a hidden layer is dead whole. `low` and `high` bound the share in 99.9 % intervals for all
    rows together (Clopper & Pearson 1934, Bonferroni); `least` and `most` are the bounds of Lu et al. 2019 for inputs
    of one dimension, `most` being the exact value for a single input. Empty for other studies.
    """
    trials = settings(study)
    known = {_DEPTH, _WIDTH} <= set(trials.columns) and set(trials["activation"]) == {"relu"}
    if not known or (len(study.epochs) and study.epochs["step"].max() > 0) or not _numbers(trials):
        return pd.DataFrame(columns=["depth", "width", "networks", "dead", "share", "low", "high", "least", "most"])
    counted = trials.assign(dead=trials["dead_layers_at_end"].gt(0)).groupby([_DEPTH, _WIDTH])["dead"]
    rows = []
    for (depth, width), own in counted:
        dead, networks = int(own.sum()), len(own)
        low, high = stats.binomtest(dead, networks).proportion_ci(1 - 0.001 / counted.ngroups)
        bounds = least_born_dead(int(width), int(depth)), dead_for_one_input([int(width)] * int(depth))
        rows.append((int(depth), int(width), networks, dead, dead / networks, low, high, *bounds))
    return pd.DataFrame(rows, columns=["depth", "width", "networks", "dead", "share", "low", "high", "least", "most"])


def _numbers(trials: pd.DataFrame) -> bool:
    return all(pd.api.types.is_numeric_dtype(trials[axis]) for axis in (_DEPTH, _WIDTH))
