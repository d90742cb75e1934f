"""Levels of an axis compared with one of them over paired seeds: size, interval, test, effect and verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from reluexp.catalogue.metrics import better_sign, is_time, margin_of
from reluexp.stats.intervals import mean_interval, median_with
from reluexp.stats.pairs import pairs
from reluexp.stats.readings import known_beforehand, means_another, readings
from reluexp.stats.results import Results
from reluexp.stats.settings import compared_by, groups
from reluexp.stats.signed_rank import (
    ALPHA,
    beyond,
    holm,
    pairs_for,
    pairs_to_resolve,
    pairs_to_see,
    signed_rank,
    smallest_p,
)
from reluexp.stats.unlearned import unlearned

__all__ = ["BCA_FROM", "compare", "compare_pairs", "compare_study"]

BCA_FROM = 20
"""pairs from which the bootstrap interval stands beside the t interval; at 5 it covers 85 %"""

_RESAMPLES = 9999


def compare_study(
    study: Results,
    metric: str,
    by: str = "activation",
    baseline: Any = None,
    at: str = "last",
    over: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """`compare` on a study's own numbers; the baseline is the study's unless given.

    Raises ConfigError for an axis, metric, moment or baseline that the study does not have.
    """
    frame = readings(study, metric, at)
    others, base = compared_by(study, by, baseline, needed=True)
    found = compare(frame, metric, by, base, others, over, margin_of(metric, margins))
    idle = np.array([bool(why) for why in unlearned(study, found, by, over)], bool)
    found.loc[idle, ["p_beyond", "p_equal", "pairs_to_decide", "pairs_to_resolve"]] = math.nan
    found.loc[idle, "verdict"] = "no verdict"
    known = np.array([known_beforehand(study, metric, by, level, base) for level in found[by]], bool)
    found.loc[known, ["p", "p_holm", "p_beyond", "p_equal", "pairs_to_decide", "pairs_to_resolve"]] = math.nan
    found.loc[known, "verdict"] = "by definition"
    other = np.array([means_another(metric, by, level, base) for level in found[by]], bool)
    found.loc[other, ["p_beyond", "p_equal", "pairs_to_decide", "pairs_to_resolve"]] = math.nan
    found.loc[other, "verdict"] = "no judgement"
    found.insert(found.columns.get_loc("baseline") + 1, "at", at)
    return found


def compare(
    frame: pd.DataFrame,
    metric: str,
    by: str,
    baseline: Any,
    others: Sequence[str] = (),
    over: Sequence[str] = (),
    margin: float = math.nan,
) -> pd.DataFrame:
    """Each level of `by` against the baseline in each combination of the other axes: one family of tests.

    `frame` has the columns of `readings`. The columns of the result are described at `compare_pairs`; differences are
    level − baseline, for times to a target of the natural logarithms.
    """
    found = pairs(frame, by, baseline, others, over, is_time(metric))
    kept = [axis for axis in others if axis not in over]
    table = compare_pairs(found, [*kept, by], better_sign(metric), margin)
    table.insert(len(kept) + 1, "metric", metric)
    table.insert(len(kept) + 2, "baseline", baseline)
    return table


def compare_pairs(found: pd.DataFrame, keys: Sequence[str], sign: int = 1, margin: float = math.nan) -> pd.DataFrame:
    """One row for each combination of `keys` in a frame of `pairs`; the rows are one family.

    Where the frame has a column `margin`, that holds instead of the one for all.

    - n, missing: pairs, and trials without a partner or a value; censored: pairs in which one or both never arrived.
    - mean, low, high: mean difference and its 95 % t interval (NaN if any pair is censored); median; sd;
      bca_low, bca_high: the bootstrap's from 20 pairs on; spread: False where all differences are equal.
    - wins, ties, losses: pairs in which the level is better, as good, worse (`sign` −1: less is better);
      effect: rank-biserial, positive where the level's values are the larger ones.
    - p: exact two-sided signed-rank; p_holm: Holm's correction over the family; p_smallest: the least that the family
      could reach; where that is above 0.05 p and p_holm are NaN and pairs_needed says how many would do.
    - margin, verdict: `better`, `worse` (`higher`, `lower` where neither is good), `equal`, `undecided`, or
      `no margin`, or `by definition` (exact deaths of what cannot die), or `no judgement` (silent units of what is
      no rectifier), or `no verdict` (both nets of all pairs learned nothing, or all nets of a side diverged: see
      `unlearned`); p_beyond, p_equal: Holm-corrected p of the tests behind them; at the spread seen, pairs_to_resolve:
      how many pairs would show that a true 0 is within the margin; pairs_to_decide: how many would decide if the mean
      seen were the truth.
    - mean_sound, n_sound: the mean and number of the pairs in which neither trial diverged or got stuck.
    """
    margins = found["margin"] if "margin" in found else pd.Series(margin, index=found.index, dtype=float)
    rows = [{**where, **_row(part, sign, float(margins[part.index[0]]))} for where, part in groups(found, keys)]
    table = pd.DataFrame(rows, columns=[*keys, *_COLUMNS])
    tested = table["n"] > 0
    comparisons = int(tested.sum())
    most = int(table["n"].max()) if comparisons else 0
    table["p_smallest"] = smallest_p(most, comparisons) if comparisons else math.nan
    hopeless = comparisons and table["p_smallest"].iloc[0] > ALPHA
    table["pairs_needed"] = float(pairs_for(comparisons, ALPHA)) if hopeless else math.nan
    table["p"] = math.nan if hopeless else table["p"].where(tested)
    table["p_holm"] = holm(table["p"].to_numpy(float))
    for column in ("p_beyond", "p_equal"):
        table[column] = holm(table[column].where(tested).to_numpy(float))
    table["verdict"] = [_verdict(row, sign) for row in table.to_dict("records")]
    decide = [_to_decide(row, max(comparisons, 1)) for row in table.to_dict("records")]
    table["pairs_to_decide"] = pd.Series(decide, dtype=float).where(table["verdict"] == "undecided")
    resolve = [pairs_to_resolve(row["sd"], row["margin"], max(comparisons, 1)) for row in table.to_dict("records")]
    table["pairs_to_resolve"] = pd.Series(resolve, dtype=float).where(table["verdict"] == "undecided")
    return table[[*keys, *(column for column in _COLUMNS if column != "beyond")]]


_COLUMNS = (
    *("n", "missing", "censored", "mean", "low", "high", "bca_low", "bca_high", "median", "sd", "spread"),
    *("wins", "ties", "losses", "effect", "p", "p_holm", "p_smallest", "pairs_needed"),
    *("margin", "verdict", "beyond", "p_beyond", "p_equal", "pairs_to_resolve", "pairs_to_decide"),
    *("mean_sound", "n_sound"),
)


def _row(part: pd.DataFrame, sign: int, margin: float) -> dict[str, Any]:
    whole = part["difference"].to_numpy(float)
    known = ~np.isnan(whole)
    d, sound, unknown = (part[name].to_numpy()[known] for name in ("difference", "sound", "unknown"))
    infinite = np.isinf(part["value"].to_numpy(float)[known]) | np.isinf(part["base"].to_numpy(float)[known])
    whole = np.where(infinite, math.nan, d)
    measured = not infinite.any()
    interval = mean_interval(whole if measured else [])
    flat = d.size > 1 and bool(np.all(d == d[0]))
    if flat and measured:
        interval = interval._replace(mean=float(d[0]), low=float(d[0]), high=float(d[0]))
    test = signed_rank(d)
    low, high = _bca(d) if d.size >= BCA_FROM and measured and not flat else (math.nan, math.nan)
    ahead = d if sign >= 0 else -d
    return {
        **{"n": int(d.size), "missing": int((~known).sum()), "censored": int(infinite.sum())},
        **{"mean": interval.mean, "low": interval.low, "high": interval.high, "bca_low": low, "bca_high": high},
        "median": median_with(d[~unknown], int(unknown.sum())),
        "sd": float(np.std(d, ddof=1)) if d.size > 1 and measured else math.nan,
        **{"spread": not flat, "wins": int((ahead > 0).sum()), "ties": int((d == 0).sum())},
        **{"losses": int((ahead < 0).sum()), "effect": test.effect if d.size else math.nan, "p": test.both},
        **{"margin": margin, **_against_margin(d[~unknown], margin, int(unknown.sum()))},
        **{"mean_sound": mean_interval(whole[sound]).mean, "n_sound": int((sound & ~infinite).sum())},
    }


def _against_margin(d: np.ndarray, margin: float, unknown: int) -> dict[str, float]:
    """Which side of the margin the differences lie beyond, the two-sided p of that, and the p of lying within."""
    if math.isnan(margin) or d.size + unknown == 0:
        return {"beyond": math.nan, "p_beyond": math.nan, "p_equal": math.nan}
    (higher, not_higher), (not_lower, lower) = (beyond(d, side, unknown) for side in (margin, -margin))
    return {
        "beyond": 1.0 if higher <= lower else -1.0,
        "p_beyond": min(1.0, 2 * min(higher, lower)),
        "p_equal": max(not_higher, not_lower),
    }


def _verdict(row: Mapping[Any, Any], sign: int) -> str:
    if math.isnan(row["margin"]):
        return "no margin"
    if row["p_beyond"] <= ALPHA:
        names = {0: ("higher", "lower"), 1: ("better", "worse"), -1: ("worse", "better")}[sign]
        return names[0] if row["beyond"] > 0 else names[1]
    return "equal" if row["p_equal"] <= ALPHA else "undecided"


def _to_decide(row: Mapping[Any, Any], comparisons: int) -> float:
    """Pairs for `better` or `worse` (two-sided) where the mean lies beyond the margin, else for `equal`."""
    gap = abs(row["mean"]) - row["margin"]
    if gap > 0:
        return pairs_to_see(row["sd"], gap, comparisons, ALPHA / 2)
    return pairs_to_see(row["sd"], -gap, comparisons, power=0.9)


def _bca(d: np.ndarray) -> tuple[float, float]:
    """The bias-corrected accelerated bootstrap interval (Efron 1987) of the mean of finite differences."""
    found = stats.bootstrap(
        (d,), np.mean, n_resamples=_RESAMPLES, method="BCa", vectorized=True, random_state=np.random.default_rng(0)
    ).confidence_interval
    return float(found.low), float(found.high)
