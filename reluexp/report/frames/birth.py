"""Networks at birth: how many are born dead over depth and width, beside what theory says."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from reluexp.catalogue.datasets import hints_of
from reluexp.catalogue.inits import symmetric
from reluexp.stats import Results, other_axes, settings, was_trained
from reluexp.stats.theory import dead_for_one_input, least_born_dead

__all__ = ["born_dead"]

_DEPTH, _WIDTH = "architecture.depth", "architecture.width"


_COLUMNS = ["depth", "width", "networks", "dead", "share", "low", "high", "least", "most"]


def born_dead(study: Results) -> pd.DataFrame:
    """One row per depth and width of ReLU nets at birth: networks, dead, share, low, high, least, most.

    A network is born dead if a hidden layer is dead whole. `low` and `high` bound the share in 99.9 % intervals for all
    rows together (Clopper & Pearson 1934, Bonferroni); `least` and `most` are the bounds of Lu et al. 2019 for inputs
    of one dimension, `most` being the exact value for a single input. Empty for studies that these do not hold for.
    """
    trials = settings(study)
    trials = trials[trials["outcome"].ne("failed")]
    if not _of_theory(study) or not _numbers(trials):
        return pd.DataFrame(columns=_COLUMNS)
    counted = trials.assign(dead=trials["dead_layers_at_end"].gt(0)).groupby([_DEPTH, _WIDTH])["dead"]
    rows = []
    for (depth, width), own in counted:
        dead, networks = int(own.sum()), len(own)
        low, high = stats.binomtest(dead, networks).proportion_ci(1 - 0.001 / counted.ngroups)
        bounds = least_born_dead(int(width), int(depth)), dead_for_one_input([int(width)] * int(depth))
        rows.append((int(depth), int(width), networks, dead, dead / networks, low, high, *bounds))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _of_theory(study: Results) -> bool:
    """Whether it is about untrained ReLU nets of one input, with symmetric weights, no biases, and nothing else."""
    base = study.base
    if base is None or set(other_axes(study)) != {_DEPTH, _WIDTH}:
        return False
    alone = set(study.trials["activation"]) == {"relu"} and not was_trained(study)
    plain = base.architecture.name == "mlp" and base.architecture.normalization == "none" and not base.init.dead
    single = base.dataset.name == "point" or hints_of(base.dataset).shape == (1,)
    return alone and plain and symmetric(base.init) and single


def _numbers(trials: pd.DataFrame) -> bool:
    return len(trials) > 0 and all(pd.api.types.is_numeric_dtype(trials[axis]) for axis in (_DEPTH, _WIDTH))
