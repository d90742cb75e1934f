"""What is claimed of deaths: that units die, and that the dead do not recover."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from reluexp.claims.claim import Evidence, Part
from reluexp.claims.field import Field, Group
from reluexp.claims.learning import dying_setting
from reluexp.stats import Contrast

__all__ = ["dying"]

_DEATHS = 10
"""deaths that a trial needs for its share of recoveries to count"""


def dying(field: Field) -> Evidence:
    """Units that died less those that revived above 0.01 at three rates or depths; of those that died few recover."""
    parts, missing = [], []
    base = float(field.study.base.train.optimizer.lr)
    rates = field.around("train.optimizer.lr", "relu")
    for factor, words in ((1, "at the base rate"), (10, "at ten times the base rate")):
        found = [group for rate, group in rates.items() if math.isclose(rate, factor * base)]
        if found:
            parts.append(_died(field, found[0], words))
        else:
            missing.append(f"relu in the base setting {words} ({factor * base:g}), not tuned")
    deep = dying_setting(field, "relu")
    for name in ("sgd", "adam"):
        own = [group for group in deep if group.setting.train.optimizer.name == name]
        if own:
            parts += [_died(field, own[0], "in deep narrow nets")] if name == "sgd" else []
            parts.append(_recovered(field, own[0], name))
        else:
            missing.append(f"relu in deep narrow nets (depth ≥ 10, width ≤ 10) with {name}")
    return Evidence(parts, missing)


def _died(field: Field, group: Group, words: str) -> Part:
    contrast = Contrast("died", field.single(group, "relu", _died_shares(_units(field, group))), "greater", 0.01)
    label = f"units that died for good, less those born dead that revived, {words} ({group.about})"
    return Part(label, [contrast], "points", 100)


def _units(field: Field, group: Group) -> pd.DataFrame:
    """The units of the group's ReLU nets: a study has millions of others."""
    units = field.study.units
    return units if units.empty else units[units["trial"].isin(group.trials["relu"].values())]


def _died_shares(units: pd.DataFrame) -> dict[str, float]:
    """Of each trial's units, the share that died, confirmed on the whole training set, less that revived.

    Died: alive at birth and confirmed dead at the end; revived: dead at birth and alive at the end. Not the share
    confirmed less the share born dead: births are seen on the probe alone, where some units are dead that respond to
    other samples, so that this difference is below 0 in a net that never trains.
    """
    if units.empty or "confirmed_dead" not in units:
        return {}
    known = units[units["confirmed_dead"].notna()]
    lived = (~known["born_dead"].astype(bool)).groupby(known["trial"]).transform("any")
    known = known[lived]  # where no unit was alive at birth none can die
    born, dead, confirmed = (known[name].astype(bool) for name in ("born_dead", "dead_at_end", "confirmed_dead"))
    change = (confirmed & ~born).astype(int) - (born & ~dead).astype(int)
    return {str(trial): float(share) for trial, share in change.groupby(known["trial"]).mean().items()}


def _recovered(field: Field, group: Group, name: str) -> Part:
    """Of the units that died in training, the share alive at the end; trials of fewer than ten deaths have no share."""
    shares = _shares(_units(field, group))
    values = field.single(group, "relu", shares)
    few = int(np.isnan(values).sum())
    numbers = f"{few} of {len(values)} nets had fewer than {_DEATHS} deaths" if few else ""
    contrast = Contrast("recovered", values, "less", 0.10)
    return Part(f"alive again at the end, {name} ({group.about})", [contrast], "%", 100, numbers)


def _shares(units: pd.DataFrame) -> dict[str, float]:
    if units.empty:
        return {}
    died = units[units["died_at_step"].notna()]
    alive = (~died["dead_at_end"].astype(bool)).groupby(died["trial"]).agg(["mean", "size"])
    return {str(k): float(row["mean"]) for k, row in alive.iterrows() if row["size"] >= _DEATHS}
