"""What a study found, in sentences made from its numbers.

Every sentence carries its n and, where there is a mean, the 95 % t interval over seeds. Everything here is exploratory.
"""

from __future__ import annotations

import math
from collections import Counter
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.catalogue.metrics import METRICS
from reluexp.plain import counted, percentage
from reluexp.stats import (
    ALPHA,
    Interval,
    Outcome,
    Results,
    aggregate,
    along_axes,
    axis_names,
    differences,
    disabled,
    dying,
    final_metrics,
    headline_rows,
    headline_target,
    learned,
    matching,
    mean_interval,
    other_axes,
    outcome_of,
    setting_columns,
    setting_name,
    settings,
    summary,
    was_trained,
)

__all__ = [
    "any_of",
    "at_setting",
    "findings",
    "gradient_loss",
    "leading",
    "share_told",
    "switched_off",
    "undying_told",
]

_LIMIT = 7
_AXES = 2  # beside the activation, of which there are sentences
_REASON = 240  # characters of an error that a sentence quotes
_FEW_DEATHS = 10
_SMALL_LOSS = 0.5  # decades of gradient from the last hidden site to the first that are not worth a sentence


def findings(study: Results) -> list[str]:
    """The most telling sentences about a study, most telling first, at most seven."""
    if study.trials.empty:
        return ["No trial has ended yet."]
    final = final_metrics(study)
    table = summary(study, final=final)
    if final["outcome"].eq("failed").all():
        return _outcomes(study, final)
    sentences = [
        *_outcomes(study, final),
        *_deaths(study, table, final),
        *([*_learned(study), *_along(study)] if learned(final).any() and was_trained(study) else []),
        *_speed(study, table),
        *_gradients(study),
        *_zeros(study, table),
    ]
    return sentences[:_LIMIT]


def gradient_loss(study: Results, first: bool = True) -> pd.DataFrame:
    """Decades of backprop norm lost from the last hidden site to the first, per trial: setting, seed, sites, decades.

    At the first full measurement, or the last. Trials with a norm of exactly 0 at either end have no decades (NaN).
    """
    trials = settings(study)[["trial", *setting_columns(study), "seed", "outcome"]]
    layers = study.layers
    if layers.empty or "backprop_norm" not in layers:
        return trials.iloc[:0].assign(sites=0, decades=math.nan)
    norm = pd.to_numeric(layers["backprop_norm"], errors="coerce")
    known = layers["site"].notna() & np.isfinite(norm)
    rows = layers.loc[known, ["trial", "step", "site"]].assign(backprop_norm=norm[known])
    step = rows.groupby("trial")["step"].transform("min" if first else "max")
    ends = rows[rows["step"] == step].sort_values(["trial", "site"]).groupby("trial")["backprop_norm"]
    both = ends.agg(["first", "last", "size"])
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.log10(both["last"]) - np.log10(both["first"])
    both["decades"] = decades.where(np.isfinite(decades))
    found = trials.merge(both[["size", "decades"]].rename(columns={"size": "sites"}), on="trial")
    return found[found["outcome"] != "failed"]


def _top(rows: pd.DataFrame, column: str, least: bool = False) -> Any:
    """The row with the largest value, or the least."""
    values = rows[column].to_numpy(float)
    return rows.iloc[int(np.nanargmin(values) if least else np.nanargmax(values))]


def at_setting(study: Results, row: Any) -> str:
    """` at depth = 8` for a study with more axes than the activation; see `setting_name`."""
    return f" at {setting_name(study, row)}" if other_axes(study) else ""


def leading(study: Results, rows: pd.DataFrame, column: str, least: bool = False) -> tuple[Any, str, bool]:
    """The row that is first in a column, the activations that are so in its setting, and whether others are behind."""
    row = _top(rows, column, least)
    equal = rows[np.isclose(rows[column].to_numpy(float), float(row[column]), rtol=1e-9, atol=1e-12)]
    here = matching(equal, {axis: row[axis] for axis in other_axes(study)})
    names = list(map(display_name, here["activation"]))
    told = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return row, told, len(equal) < len(rows[rows[column].notna()])


def any_of(rows: pd.DataFrame) -> str:
    """`ReLU or ReLU6`: the activations of some rows."""
    return " or ".join(display_name(label) for label in dict.fromkeys(rows["activation"]))


def switched_off(study: Results, row: Any) -> str:
    """`, 50.0 % of all by init.dead`, where units of a setting were disabled from the start."""
    share = disabled(study, dict(row))
    return f", {percentage(share)} of all by init.dead" if share > 0 else ""


def undying_told(study: Results) -> str:
    """What the dagger at an activation says, whose f' is never exactly 0 in real arithmetic."""
    some = any(disabled(study, row) for row in settings(study)[setting_columns(study)].to_dict("records"))
    return f"cannot be dead exactly: what is counted is underflow{', or was switched off by init.dead' if some else ''}"


def _several(study: Results, word: str, rows: pd.DataFrame) -> str:
    return f" ({word} of {len(rows)} settings)" if other_axes(study) and len(rows) > 1 else ""


def share_told(row: Any, metric: str) -> str:
    """`12.4 % [10.1, 14.7]`, the bounds cut to what a share can be."""
    low, high = max(row[f"{metric}_low"], 0.0), min(row[f"{metric}_high"], 1.0)
    bounds = "" if math.isnan(row[f"{metric}_low"]) else f" [{percentage(low, '')}, {percentage(high, '')}]"
    return f"{percentage(row[f'{metric}_mean'])}{bounds}"


def _size(outcome: Outcome, interval: Interval) -> str:
    """How far apart, in the direction of the mean: `1.2 points [+0.8, +1.6]`."""
    mean, low, high, _ = interval
    ahead = (mean, low, high) if mean >= 0 else (-mean, -high, -low)
    return outcome.apart(*ahead, 1 if abs(100 * mean) >= 0.95 else 2).removeprefix("+")


def _outcomes(study: Results, final: pd.DataFrame) -> list[str]:
    """One sentence for all that went wrong, one for nets that never learned."""
    total = len(final)
    bad = []
    for outcome in ("diverged", "failed"):
        count = int(final["outcome"].eq(outcome).sum())
        if count:
            bad.append(f"{count} of {total} trials {outcome} ({_by_activation(final, final['outcome'].eq(outcome))})")
    rules = {
        "diverged": "a diverged trial stays in every mean with its last finite value",
        "failed": "a failed one is in no mean",
    }
    kept = " and ".join(rule for outcome, rule in rules.items() if final["outcome"].eq(outcome).any())
    sentences = [f"{' and '.join(bad)}; {kept}{_reason(study.trials)}."] if bad else []
    if final["stuck"].any():
        counts = _by_activation(final, final["stuck"])
        sentences.append(f"Stuck, with a training accuracy not above chance at the end: {counts}.")
    return sentences


def _reason(trials: pd.DataFrame) -> str:
    """The most common reason of failures, its first line."""
    known = trials["failure"].dropna() if "failure" in trials else []
    lines = Counter(str(text).strip().partition("\n")[0] for text in known)
    return f"; why, most often: {shorten(lines.most_common(1)[0][0], _REASON).rstrip('.')}" if lines else ""


def _by_activation(final: pd.DataFrame, flag: pd.Series) -> str:
    counts = flag.groupby(final["activation"], sort=False).agg(["sum", "size"])
    rows = counts[counts["sum"] > 0].sort_values("sum", ascending=False, kind="stable")
    return ", ".join(f"{display_name(label)} {row['sum']} of {row['size']}" for label, row in rows.iterrows())


def _deaths(study: Results, table: pd.DataFrame, final: pd.DataFrame) -> list[str]:
    """Of activations that are 0 on a half-line alone: for others an exact 0 of f' is underflow, and is not compared."""
    rows = table[table["activation"].isin(dying(study)) & table["dead_fraction_n"].gt(0)]
    if rows.empty:
        return []
    row, name, ahead = leading(study, rows, "dead_fraction_mean")
    own = final[(final[setting_columns(study)] == row[setting_columns(study)]).all(axis=1)]["dead_fraction"].dropna()
    where, n = at_setting(study, row), int(row["dead_fraction_n"])
    if not own.gt(0).any():
        nets = counted(int(rows["dead_fraction_n"].sum()), "net")
        return [f"No {any_of(rows)} unit was dead at the end on the probe set ({nets})."]
    births = f"{percentage(row['born_dead_fraction_mean'])} were born dead{switched_off(study, row)}"
    born = f" ({births})" if row["born_dead_fraction_n"] else ""
    most = _several(study, "the most", rows) if ahead else ""
    return [
        f"{name} units were dead at the end in {own.gt(0).sum()} of {counted(n, 'net')}{where}"
        f"{most}: {share_told(row, 'dead_fraction')} of the hidden units{born}.{_came_back(study, row)}"
    ]


def _came_back(study: Results, row: Any) -> str:
    """What share of the units of a setting that died in training was alive at its end; nothing for a handful."""
    units, trials = study.units, settings(study)
    if not {"died_at_step", "dead_at_end"} <= set(units):
        return ""
    keys = setting_columns(study)
    own = trials.loc[(trials[keys] == row[keys]).all(axis=1) & (trials["outcome"] == "finished"), "trial"]
    died = units.loc[units["trial"].isin(own) & units["died_at_step"].notna(), ["trial", "dead_at_end"]]
    if len(died) < _FEW_DEATHS:
        return ""
    mean, low, high, n = mean_interval(1 - died["dead_at_end"].astype(float).groupby(died["trial"].astype(str)).mean())
    bounds = "" if math.isnan(low) else f" [{percentage(max(low, 0), '')}, {percentage(min(high, 1), '')}]"
    share = f"{percentage(mean)}{bounds}"
    return f" Of those that died in training {share} were alive again at its end ({counted(n, 'net')} with deaths)."


def _learned(study: Results) -> list[str]:
    """What the corrected tests say; where so few seeds can't pass any, what the intervals do, as exploration."""
    found, outcome = differences(study), outcome_of(study)
    rows = found[(found["metric"] == outcome.metric) & (found["n"] > 0)]
    if rows.empty:
        return []
    if rows["n"].max() < 2:
        return [f"One seed says nothing about differences in {outcome.name} between activations: run more seeds."]
    base, pairs = display_name(study.baseline), _range(rows["n"])
    count = counted(len(rows), "comparison")
    few = rows["pairs_needed"].max()
    if math.isnan(few):
        clear = rows[rows["p_holm"] <= ALPHA]
        how = f"signed-rank tests, Holm-corrected: {len(clear)} of {count} {'differs' if len(clear) == 1 else 'differ'}"
    else:
        clear = rows[rows["spread"] & ((rows["low"] > 0) | (rows["high"] < 0))]
        how = f"exploratory: intervals that exclude 0, of {count}: {len(clear)}; tests need {few:.0f} seeds"
    if clear.empty:
        return [
            f"No activation differs from {base} in {outcome.name} by more than the seeds' spread "
            f"({count}, paired over {pairs} seeds; that is not evidence that they are equal)."
        ]
    clear = clear.sort_values("mean", ascending=outcome.sign < 0)
    ends = [clear.iloc[0]] if len(clear) == 1 else [clear.iloc[0], clear.iloc[-1]]
    told = "; ".join(_beat(study, row, base) for row in ends)
    return [f"{told} ({outcome.name}, paired over {pairs} seeds; {how})."]


def _beat(study: Results, row: Any, base: str) -> str:
    found = Interval(row["mean"], row["low"], row["high"], int(row["n"]))
    outcome = outcome_of(study)
    verb, ahead = ("was ahead of", row["wins"]) if outcome.sign * found.mean > 0 else ("fell behind", row["losses"])
    where = at_setting(study, row)
    size, name = _size(outcome, found), display_name(row["activation"])
    return f"{name} {verb} {base} by {size} (in {ahead:.0f} of {found.n} seeds){where}"


def _along(study: Results) -> list[str]:
    """For the first further axes the largest difference that was told apart, in each metric."""
    frame, names = along_axes(study), axis_names(other_axes(study))
    told = []
    for axis, part in frame.groupby("axis", sort=False) if len(frame) else ():
        found = []
        for metric, own in part[part["verdict"].isin(["better", "worse"])].groupby("metric", sort=False):
            row = own.loc[own["mean"].abs().idxmax()]
            rest = setting_name(study, {other: row[other] for other in names if other != axis})
            whose = display_name(row["activation"]) + (f" at {rest}" if rest else "")
            size = Outcome(str(metric)).apart(row["mean"], row["low"], row["high"])
            many = int((part["metric"] == metric).sum())
            most = f", the most of {len(own)} of {many} that differ" if many > 1 else ""
            found.append(f"{METRICS[str(metric)].label} {size} with {row['level']} for {whose}{most}")
        if found:
            pairs = _range(part["n"])
            against = f"{names[str(axis)]} = {part['reference'].iloc[0]}"
            told.append(f"Against {against}, paired over {pairs} seeds: {'; '.join(found)}.")
    return told[:_AXES]


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def _speed(study: Results, table: pd.DataFrame) -> list[str]:
    """The lowest median of steps to the headline target, in the setting where the target asks most, and the pairs."""
    column, rule = headline_target(study)
    if table["test_accuracy_n"].eq(0).all() or study.epochs["step"].nunique() < 2:
        return []
    targets = headline_rows(study)
    if targets["value"].isna().all():
        return ["No activation got beyond chance in half of its nets."]
    others = other_axes(study)
    whole = table.merge(targets, on=others) if others else table.merge(targets, how="cross")
    rows = whole[np.isfinite(whole[f"{column}_median"])]
    if rows.empty:
        return [f"No activation came to hold the target at two measurements in a row in half of its nets: {rule}."]
    if others:
        compared = rows.groupby(others)["activation"].transform("nunique") > 1
        rows = rows[compared] if compared.any() else rows
    hardest = rows[rows["value"] == rows["value"].max()]
    row, name, _ = leading(study, hardest.assign(_steps=hardest[f"{column}_median"].round()), "_steps", least=True)
    took, where = _median(row, column), at_setting(study, row)
    if where and targets["value"].nunique() > 1:
        where += ", where the target asks most"
    same = matching(table, {axis: row[axis] for axis in others})
    if len(same) < 2:
        return [f"{name} reached {row['rule']} after a median of {took}{where}."]
    several = name != display_name(row["activation"])
    rival = "" if several else f"; {_rival(study, same, row, column)}"
    head = f"By medians {name} came first{where}: {took} to {row['rule']}"
    return [f"{head}{rival}{_elsewhere(study, whole, row, column)}."]


def _elsewhere(study: Results, rows: pd.DataFrame, row: Any, column: str) -> str:
    """In how many of several settings, those with something to compare, it was among the first."""
    others = other_axes(study)
    if not others:
        return ""
    rows = rows[rows[f"{column}_n"].gt(0) & rows["value"].notna()]
    rows = rows[rows.groupby(others)["activation"].transform("nunique") > 1]
    steps = rows[f"{column}_median"].round()
    first = np.isfinite(steps) & (steps == steps.groupby([rows[axis] for axis in others]).transform("min"))
    count, won = rows.groupby(others).ngroups, int((first & (rows["activation"] == row["activation"])).sum())
    return f"; so it was in {won} of {count} settings" if count > 1 else ""


def _rival(study: Results, same: pd.DataFrame, row: Any, column: str) -> str:
    """The baseline's steps beside the fastest's, or the next one's beside the baseline's, and what the pairs say."""
    rest = same[same["activation"] != row["activation"]]
    other = rest[rest["activation"] == study.baseline]
    slow = other.iloc[0] if len(other) else rest.sort_values(f"{column}_median").iloc[0]
    level = row if len(other) else slow
    found = differences(study)
    pairs = matching(found[found["metric"] == column], {k: level[k] for k in setting_columns(study)})
    told = f"{display_name(slow['activation'])} took {_median(slow, column)}"
    if len(pairs) != 1 or not pairs["n"].iloc[0] > 1:
        return told
    pair = pairs.iloc[0]
    name, base = display_name(level["activation"]), display_name(study.baseline)
    told += f"; paired over {int(pair['n'])} seeds {name}"
    if math.isnan(pair["low"]):
        return f"{told} was faster than {base} in {int(pair['wins'])}, slower in {int(pair['losses'])}"
    ratio, low, high = (math.exp(pair[part]) for part in ("mean", "low", "high"))
    none = ", which shows no difference" if low <= 1 <= high else ""
    return f"{told} took {ratio:.2f} times {base}'s steps [{low:.2f}, {high:.2f}]{none}"


def _median(row: Any, column: str) -> str:
    """`140 steps (1 of 10 never did)`."""
    median, never, n = row[f"{column}_median"], int(row[f"{column}_never"]), int(row[f"{column}_n"])
    shown = f"{median:,.0f} steps" if math.isfinite(median) else "more steps than it was trained for"
    return shown + (f" ({never} of {n} never did)" if never else "")


def _gradients(study: Results) -> list[str]:
    decades = gradient_loss(study)
    if decades.empty or decades["sites"].max() < 2:
        return []
    keys = setting_columns(study)
    gone = decades["decades"].isna().groupby([decades[key] for key in keys], sort=False).agg(["sum", "size"])
    rows = aggregate(decades, keys, "decades").merge(gone.reset_index(), on=keys)
    worst = _top(rows.assign(share=rows["sum"] / rows["size"]), "share")
    if worst["share"] > 0.5:
        nets = f"{int(worst['sum'])} of {counted(int(worst['size']), 'net')}"
        return [
            f"At birth the gradient vanished altogether before the first hidden layer in {nets} of "
            f"{display_name(worst['activation'])}{at_setting(study, worst)}{_of_base(study, rows, worst)}."
        ]
    rows = rows.dropna(subset="mean")
    if rows.empty:
        return []
    row = _top(rows, "mean")
    if row["mean"] < _SMALL_LOSS:
        most = math.ceil(10 * max(row["mean"], 0.1)) / 10
        told = f"{most:.1f} decades of gradient between its last hidden layer and its first"
        return [f"At birth no activation lost more than {told}."]
    bounds = "" if math.isnan(row["low"]) else f" [{row['low']:.1f}, {row['high']:.1f}]"
    sites = int(decades.loc[(decades[keys] == row[keys]).all(axis=1), "sites"].max())
    return [
        f"At birth {display_name(row['activation'])} lost {row['mean']:.1f} decades{bounds} of gradient from the last "
        f"of {sites} hidden layers to the first{at_setting(study, row)} ({_nets(row)}){_of_base(study, rows, row)}."
    ]


def _nets(row: Any) -> str:
    """`21 nets; in 29 more it vanished altogether`."""
    return counted(int(row["n"]), "net") + (f"; in {int(row['sum'])} more it vanished altogether" if row["sum"] else "")


def _of_base(study: Results, rows: pd.DataFrame, row: Any) -> str:
    """`; ReLU lost 2.7 (21 nets; …)`, of the same setting's nets of the baseline."""
    own = matching(rows, {**{axis: row[axis] for axis in other_axes(study)}, "activation": study.baseline})
    if row["activation"] == study.baseline or len(own) != 1 or math.isnan(own["mean"].iloc[0]):
        return ""
    base = own.iloc[0]
    return f"; {display_name(study.baseline)} {_change(base['mean'])}" + (f" ({_nets(base)})" if base["sum"] else "")


def _change(decades: float) -> str:
    return f"lost {decades:.1f}" if decades >= 0.05 else f"gained {-decades:.1f}" if decades <= -0.05 else "lost none"


def _zeros(study: Results, table: pd.DataFrame) -> list[str]:
    rows = table[table["zero_fraction_mean"] > 0.01]
    if rows.empty:
        return []
    row, name, ahead = leading(study, rows, "zero_fraction_mean")
    verb, whose = ("was", "its") if name == display_name(row["activation"]) else ("were", "their")
    first = table["activation"].nunique() > 1 and (ahead or len(rows) < len(table))
    was = f" {verb} the sparsest" if first else ""
    return [
        f"{name}{was}{at_setting(study, row)}: {share_told(row, 'zero_fraction')} of {whose} hidden "
        f"activations were exactly 0 at the end ({counted(int(row['zero_fraction_n']), 'net')})."
    ]
