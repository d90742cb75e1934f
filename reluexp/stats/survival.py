"""How long units live: Kaplan–Meier curves of lasting death, bands over trials, and one number per trial to compare.

A unit's lasting death is the start of its final dead spell, at the resolution of the measurements. Units that are alive
at the end are censored there; those that were not lastingly dead when their trial diverged met a competing event; units
that were dead before training stand apart and are at no risk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reluexp.catalogue.metrics import margin_of
from reluexp.errors import ConfigError
from reluexp.stats.comparison import compare
from reluexp.stats.dying import dying
from reluexp.stats.ends import over_sites
from reluexp.stats.intervals import curves, expanded_tail, finite
from reluexp.stats.results import Results
from reluexp.stats.settings import compared_by, groups, in_order, settings

__all__ = ["Survival", "survival_of"]

_RESAMPLES = 500
_CENSORED, _DIED, _DIVERGED = 0, 1, 2


@dataclass(frozen=True, repr=False)
class Survival:
    """What became of the units; every frame has the study's other axes and `by` as its first columns.

    - curves: step, survival (Kaplan & Meier 1958, divergence taken as censoring), died, diverged (cumulative incidence
      of lasting death and of divergence, Aalen & Johansen 1978; with alive they sum to 1), at_risk, and for survival
      and died the bounds `_low`, `_high`: pointwise 95 % bounds over resampled trials, by `expanded_tail` (NaN from one
      trial).
      Descriptive: units of one network are not independent, so no test is made of them.
    - lives: one row per trial: units, born_dead, died, diverged_units, alive, and value: the mean over its units that
      were not born dead of the time before lasting death, up to the horizon, as a share of it (restricted mean life;
      1 if none died).
    - comparison: that number against the baseline over paired seeds, as `compare` gives it, empty without a baseline;
      comparable: False where the units of an activation cannot die, so that the verdict is `by definition`.
    - groups: the counts summed, trials, diverged trials, and the same `comparable`.
    - dead: the plain share of units that are dead, born dead included: epoch, step, mean, low, high, n.
    """

    curves: pd.DataFrame
    lives: pd.DataFrame
    comparison: pd.DataFrame
    groups: pd.DataFrame
    dead: pd.DataFrame
    by: str
    baseline: Any

    def __repr__(self) -> str:
        frames = [
            f"{name} [{len(frame)} rows]" for name, frame in vars(self).items() if isinstance(frame, pd.DataFrame)
        ]
        return f"<Survival by {self.by!r} against {self.baseline!r}: {', '.join(frames)}>"


def survival_of(
    study: Results, by: str = "activation", baseline: Any = None, margins: Mapping[str, float] | None = None
) -> Survival:
    """The lives of a study's units. Raises ConfigError for an axis that there is not, or without a table of units."""
    others, base = compared_by(study, by, baseline)
    if len(study.trials) and study.trials["outcome"].eq("failed").all():
        raise ConfigError("every trial of this study failed, so that there are no units; `trials.failure` says why")
    if study.units.empty or "dead_since_step" not in study.units:
        raise ConfigError(
            "this study has no units to follow: none of its trials wrote the table; use probe.metrics full or basic"
        )
    trials = _with_ends(study, settings(study), others)
    fates = _fates(study.units, trials)
    keys = [*others, by]
    lives = _lives(fates, trials, keys)
    compared = compare(lives, "restricted_life", by, base, others, margin=margin_of("restricted_life", margins))
    if base is None:
        compared = compared.iloc[:0]
    if "activation" in compared:
        able = dying(study) if by != "activation" or base in dying(study) else frozenset()
        compared["comparable"] = compared["activation"].isin(able)
        tests = ["p", *(name for name in compared if name.startswith(("p_", "pairs_")))]
        compared.loc[~compared["comparable"], tests] = math.nan
        compared.loc[~compared["comparable"], "verdict"] = "by definition"
    return Survival(
        curves=_curves(fates.merge(trials[["trial", *keys]], on="trial"), keys),
        lives=lives,
        comparison=compared,
        groups=_groups(study, lives, keys),
        dead=_dead(study, trials, keys),
        by=by,
        baseline=base,
    )


def _with_ends(study: Results, trials: pd.DataFrame, others: list[str]) -> pd.DataFrame:
    """The trials with the step at which each was last measured, and the horizon: the longest among their like."""
    trials = trials[trials["outcome"] != "failed"].reset_index(drop=True)
    trials["end"] = trials["trial"].map(study.epochs.groupby("trial")["step"].max()).astype(float)
    alike = [trials[axis] for axis in others] or [pd.Series(0, index=trials.index)]
    trials["horizon"] = trials["end"].groupby(alike).transform("max")
    return trials


def _fates(units: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """When and how units left the ranks of the living: a row, with their number, for all of a trial that did alike."""
    told = ["trial", "born_dead", "dead_at_end", "dead_since_step"]
    counted = units.groupby(told, dropna=False, sort=False).size().rename("units").reset_index()
    about = trials.reindex(columns=["trial", "outcome", "diverged_at_step", "end", "horizon"])
    found = counted.merge(about, on="trial")
    left = finite(found["diverged_at_step"]).where(found["outcome"].eq("diverged"))
    died = found["dead_at_end"].astype(bool) & found["dead_since_step"].notna()
    died &= ~(found["dead_since_step"] > left)  # what is found dead after its net diverged was not followed till then
    diverged = found["outcome"].eq("diverged") & ~died
    found["fate"] = np.select([died, diverged], [_DIED, _DIVERGED], _CENSORED)
    found["step"] = found["dead_since_step"].where(died, found["end"].where(~(left < found["end"]), left))
    found["born_dead"] = found["born_dead"].astype(bool)
    return found[["trial", "born_dead", "fate", "step", "horizon", "units"]]


def _lives(fates: pd.DataFrame, trials: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    risk = fates[~fates["born_dead"]]
    life = np.where(risk["fate"].eq(_DIED), risk["step"].clip(upper=risk["horizon"]), risk["horizon"])
    share = life / risk["horizon"].where(risk["horizon"] > 0)
    counts = pd.DataFrame({"units": fates["units"], "born_dead": fates["units"].where(fates["born_dead"], 0)})
    counts = counts.groupby(fates["trial"]).sum()
    for name, fate in (("died", _DIED), ("diverged_units", _DIVERGED), ("alive", _CENSORED)):
        counts[name] = risk["units"].where(risk["fate"].eq(fate), 0).groupby(risk["trial"]).sum()
    lived = (share * risk["units"]).groupby(risk["trial"]).sum(min_count=1)
    counts["value"] = lived / risk.groupby("trial")["units"].sum()
    columns = list(dict.fromkeys(["trial", *keys, "activation", "seed", "outcome", "stuck"]))
    found = trials[columns].merge(counts.reset_index(), on="trial")
    return found.assign(**found[["units", "born_dead", "died", "diverged_units", "alive"]].fillna(0).astype(int))


def _groups(study: Results, lives: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    flags = lives.assign(trials=1, diverged_trials=lives["outcome"].eq("diverged"))
    columns = ["trials", "diverged_trials", "units", "born_dead", "died", "diverged_units", "alive"]
    found = flags.groupby(keys, sort=False)[columns].sum().astype(int)
    able = flags["activation"].isin(dying(study)).groupby([flags[key] for key in keys], sort=False).all()
    return found.assign(comparable=able, restricted_life=flags.groupby(keys, sort=False)["value"].mean()).reset_index()


def _curves(fates: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    parts = []
    for where, part in groups(fates, keys):
        risk = part[~part["born_dead"]]
        if risk.empty:
            continue
        found = _curve(risk, part["trial"].nunique())
        parts.append(found.assign(**where))
    columns = ["step", "survival", "survival_low", "survival_high", "died", "died_low", "died_high", "diverged"]
    if not parts:
        return pd.DataFrame({name: [] for name in [*keys, *columns, "at_risk"]})
    whole = pd.concat(parts, ignore_index=True)
    for axis in reversed(keys):
        ranks = {value: i for i, value in enumerate(in_order(whole[axis], axis))}
        whole = whole.sort_values(axis, key=lambda values, ranks=ranks: values.map(ranks), kind="stable")
    return whole[[*keys, *columns, "at_risk"]].reset_index(drop=True)


def _curve(risk: pd.DataFrame, trials: int) -> pd.DataFrame:
    """The curves of one group on the steps at which anything happened, from 0 on."""
    counted = risk.groupby(["trial", "step", "fate"], as_index=False)["units"].sum()
    steps = np.unique(np.append(0.0, counted["step"].to_numpy(float)))
    time, fate = counted["step"].to_numpy(float), counted["fate"].to_numpy(int)
    names = counted["trial"].astype("category").cat.codes.to_numpy()
    weights, rng = counted["units"].to_numpy(float), np.random.default_rng(0)
    survival, died, diverged = _estimates(time, fate, weights, steps)
    low = high = low_died = high_died = np.full(len(steps), math.nan)
    if trials > 1 and not fate.any():  # nobody left: every resample says the same
        low = high = survival
        low_died = high_died = died
    elif trials > 1:
        draws = rng.multinomial(trials, np.full(trials, 1 / trials), size=_RESAMPLES)
        again = [_estimates(time, fate, weights * own[names], steps) for own in draws]
        tail = expanded_tail([trials])
        low, high = np.nanquantile([part[0] for part in again], [tail, 1 - tail], axis=0)
        low_died, high_died = np.nanquantile([part[1] for part in again], [tail, 1 - tail], axis=0)
    at_risk = [int(weights[time >= step].sum()) for step in steps]
    return pd.DataFrame(
        {
            **{"step": steps, "survival": survival, "survival_low": low, "survival_high": high, "died": died},
            **{"died_low": low_died, "died_high": high_died, "diverged": diverged, "at_risk": at_risk},
        }
    )


def _estimates(time: np.ndarray, fate: np.ndarray, weights: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, ...]:
    """Survival, and cumulative incidence of death and of divergence, at the steps; NaN where nobody is at risk."""
    from statsmodels.duration.survfunc import CumIncidenceRight, SurvfuncRight

    if not weights.any():
        return (np.full(len(steps), math.nan),) * 3
    kept = weights > 0
    time, fate = time[kept], fate[kept]
    zero, one = np.zeros(len(steps)), np.ones(len(steps))
    if not fate.any():
        return one, zero, zero
    alive = SurvfuncRight(time, (fate == _DIED).astype(int), freq_weights=weights[kept])
    survival = _at(alive.surv_times, alive.surv_prob, steps, 1.0)
    if not (fate == _DIVERGED).any():  # without a competing event
        return survival, 1 - survival, zero
    found = CumIncidenceRight(time, fate, freq_weights=weights[kept])
    incidence = [_at(found.times, curve, steps, 0.0) for curve in found.cinc]
    return survival, incidence[0], incidence[1] if len(incidence) > 1 else zero


def _at(times: np.ndarray, values: np.ndarray, steps: np.ndarray, before: float) -> np.ndarray:
    """A step function, continuous from the right, at the steps."""
    return np.append(before, values)[np.searchsorted(times, steps, side="right")]


def _dead(study: Results, trials: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    rows = over_sites(study.layers, "dead_fraction").merge(trials[["trial", *keys]], on="trial")
    return curves(rows, "dead_fraction", [*keys, "epoch"], "step") if len(rows) else rows
