"""How two metrics go together over trials: within each setting, then combined; never over settings.

No verdict rests on it: what makes units die may also make training bad. The intervention `init.dead` decides.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from reluexp.stats.readings import readings
from reluexp.stats.results import Results
from reluexp.stats.settings import groups, setting_columns

__all__ = ["LEAST_SEEDS", "combined", "relation"]

LEAST_SEEDS = 20
"""trials that a setting needs for its correlation to be shown"""


def relation(study: Results, x: str = "dead_fraction", y: str = "test_accuracy") -> pd.DataFrame:
    """Spearman's rank correlation of two metrics over the trials of each setting, and combined for each activation.

    One row per setting of at least 20 trials with both values, and one per activation with several such settings whose
    other axes are null: n, rho, low, high (95 %), settings. Settings in which either metric has no spread have no
    correlation and no row. Raises ConfigError for a metric that there is not.
    """
    keys, right = setting_columns(study), readings(study, y)[["trial", "value"]]
    both = readings(study, x).merge(right, on="trial", suffixes=("", "_y"))
    both = both[np.isfinite(both["value"]) & np.isfinite(both["value_y"])]
    rows = []
    for where, part in groups(both, keys):
        if len(part) < LEAST_SEEDS or part["value"].nunique() < 2 or part["value_y"].nunique() < 2:
            continue
        rho = float(stats.spearmanr(part["value"], part["value_y"]).statistic)
        rows.append(
            {**where, "n": len(part), **_bounds(rho, 1 / math.sqrt(_information(rho, len(part)))), "settings": 1}
        )
    found = pd.DataFrame(rows, columns=[*keys, "n", "rho", "low", "high", "settings"])
    several = [{**where, **combined(part)} for where, part in groups(found, ["activation"]) if len(part) > 1]
    whole = [found, pd.DataFrame(several, columns=found.columns)] if several else [found]
    return pd.concat(whole, ignore_index=True)


def combined(found: pd.DataFrame) -> dict[str, float]:
    """One correlation from several settings' rho and n, by Fisher's z with weights by its variance."""
    rho, n = found["rho"].to_numpy(float), found["n"].to_numpy(int)
    weights = np.array([_information(r, k) for r, k in zip(rho, n, strict=True)])
    z = float((weights * _fisher(rho)).sum() / weights.sum())
    error = 1 / math.sqrt(weights.sum())
    return {"n": int(n.sum()), **_bounds(math.tanh(z), error), "settings": len(found)}


def _fisher(rho: np.ndarray) -> np.ndarray:
    return np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))


def _information(rho: float, n: int) -> float:
    """The inverse variance of Fisher's z of Spearman's rho: (n − 3)/(1 + rho²/2) (Bonett & Wright 2000)."""
    return (n - 3) / (1 + rho**2 / 2)


def _bounds(rho: float, error: float) -> dict[str, float]:
    z, half = float(_fisher(np.array(rho))), float(stats.norm.ppf(0.975)) * error
    return {"rho": rho, "low": math.tanh(z - half), "high": math.tanh(z + half)}
