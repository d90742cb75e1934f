"""The summary: one row per setting."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.catalogue.metrics import times_of
from reluexp.report.findings import undying_told
from reluexp.report.tables.cells import (
    Cell,
    Table,
    loss_cells,
    rules_of,
    setting_cells,
    share_cells,
    step,
    target_name,
    whole_cells,
)
from reluexp.report.tables.differences import marks_of
from reluexp.stats import (
    Outcome,
    Results,
    common_setting,
    differences,
    dying,
    has_many_axes,
    headline_rows,
    headline_target,
    other_axes,
    outcome_of,
    was_trained,
)

__all__ = ["caption_parts", "gains_told", "summary_table"]

_APART = 0.005
_TARGETS = 4  # columns of times, at most


def summary_table(study: Results, frame: pd.DataFrame) -> Table:
    """One row per setting: mean ± half of the 95 % t interval over seeds, the median steps to the headline target."""
    times = _targets(study, frame)
    best = _best(frame, other_axes(study), times)
    found = differences(study)
    found = found[found["verdict"] != "no verdict"]  # accuracies of nets that learned nothing get none
    outcome, undying = outcome_of(study), set(frame["activation"]) - dying(study)
    verdicts = {name: _verdicts(study, frame, found, name) for name in (outcome.metric, "off_fraction", *times)}
    confirmed = {"confirmed dead %": share_cells(frame, "confirmed_dead_fraction", best, undying)}
    columns = {
        **setting_cells(study, frame),
        **_reached(frame, best, verdicts[outcome.metric], outcome),
        "dead %": share_cells(frame, "dead_fraction", best, undying),
        **(confirmed if _apart(study, frame) else {}),
        "off %": share_cells(frame, "off_fraction", best, verdicts=verdicts["off_fraction"]),
        "zero %": share_cells(frame, "zero_fraction", best),
        **{f"steps to {target_name(own)}": _steps(study, frame, own, best, verdicts[own]) for own in times},
        "trials": whole_cells(frame["trials"]),
        **{
            name: whole_cells(frame[name])
            for name in ("diverged", "stuck", "failed")
            if frame[name].any() or name == "diverged" or (name == "stuck" and outcome.share)
        },
    }
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(list(columns), rows, " ".join(caption_parts(study, frame)), rules_of(frame, other_axes(study)))


def gains_told(study: Results) -> str:
    """`ReLU 1.41, Tanh 1.59`: what the initial weights of each activation were multiplied by, where that differs."""
    if "gain" not in study.trials:  # every trial failed
        return ""
    known = study.trials[["activation", "gain"]].dropna().assign(gain=lambda own: own["gain"].map("{:.3g}".format))
    if known["gain"].nunique() < 2 or known["activation"].nunique() < 2:
        return ""
    found = known.drop_duplicates().groupby("activation", sort=False, observed=True)["gain"].agg(" or ".join)
    return ", ".join(f"{display_name(label)} {gain}" for label, gain in found.items())


def _targets(study: Results, frame: pd.DataFrame) -> list[str]:
    """The times to targets that have a column: the headline's, or those that the config gives, if they are few."""
    if not _has_steps(study):
        return []
    given = [name for name in times_of(study.targets) if study.targets and f"{name}_median" in frame]
    return given if 0 < len(given) <= _TARGETS else [headline_target(study)[0]]


def _best(frame: pd.DataFrame, group: list[str], steps: list[str]) -> dict[str, pd.Series]:
    """Which rows are best among several of a group, for the columns in which better has a meaning."""
    found = {}
    times = [(f"{name}_median", -1.0) for name in steps]
    for column, sign in (("test_accuracy_mean", 1.0), ("test_loss_mean", -1.0), *times):
        values = (sign * frame[column]).replace([np.inf, -np.inf], np.nan)
        keys = [frame[axis] for axis in group] or [pd.Series(0, index=frame.index)]
        top, size = values.groupby(keys).transform("max"), values.groupby(keys).transform("size")
        found[column] = (
            (values == top) & (size > 1) & (frame["trials"] > frame[["diverged", "stuck", "failed"]].sum(axis=1))
        )
    return found


def _reached(
    frame: pd.DataFrame, best: dict[str, pd.Series], verdicts: list[tuple[str, bool]], outcome: Outcome
) -> dict[str, list[Cell]]:
    """What was learned: accuracy where there are classes, else the loss; and networks that are constant by the end."""
    collapsed = {"collapsed": _counts(frame, "collapsed_at_end")} if frame["collapsed_at_end_mean"].any() else {}
    if not outcome.share:
        return {outcome.name: loss_cells(frame, outcome.metric, best, verdicts), **collapsed}
    return {
        "test accuracy %": share_cells(frame, "test_accuracy", best, verdicts=verdicts),
        **_learned(frame),
        **collapsed,
    }


def _counts(frame: pd.DataFrame, metric: str) -> list[Cell]:
    """How many nets of how many, of what each is or is not."""
    means, counts = frame[f"{metric}_mean"], frame[f"{metric}_n"]
    told = [f"{mean * n:.0f} of {n:.0f}" if n else "–" for mean, n in zip(means, counts, strict=True)]
    return [Cell(text, sort=float(mean)) for text, mean in zip(told, means, strict=True)]


def _learned(frame: pd.DataFrame) -> dict[str, list[Cell]]:
    if not (frame["diverged"] + frame["stuck"]).any():
        return {}
    return {"… of those that learned": share_cells(frame, "test_accuracy_learned", {})}


def _verdicts(study: Results, frame: pd.DataFrame, found: pd.DataFrame, metric: str) -> list[tuple[str, bool]]:
    """The verdict on each row's difference to the baseline; empty for the baseline itself and where there is none."""
    keys = [*other_axes(study), "activation"]
    marks = marks_of(found, metric, keys) if len(found) else {}
    return [marks.get(tuple(row), ("", False)) for row in frame[keys].itertuples(index=False)]


def _steps(
    study: Results, frame: pd.DataFrame, column: str, best: dict[str, pd.Series], verdicts: list[tuple[str, bool]]
) -> list[Cell]:
    """Medians; where a share of somebody's accuracy is another accuracy in each setting, with which."""
    goals = _goals(study, frame)
    medians, nevers, counts = (frame[f"{column}_{part}"] for part in ("median", "never", "n"))
    bold = best[f"{column}_median"]
    cells = []
    rows = zip(medians, nevers, counts, goals, bold, verdicts, strict=True)
    for median, never, n, goal, is_best, (verdict, star) in rows:
        few = f" ({never} of {n} never)" if never and math.isfinite(median) else ""
        cells.append(Cell(f"{step(median)}{goal}{few}", bool(is_best), sort=float(median), mark=verdict, star=star))
    return cells


def _goals(study: Results, frame: pd.DataFrame) -> list[str]:
    """For each row ` to 94.9 %`, the headline target in its setting; empty texts where it is the same in all."""
    found, others = headline_rows(study), other_axes(study)
    if study.targets or not others or found["value"].nunique() < 2:
        return [""] * len(frame)
    values = {tuple(row[axis] for axis in others): row["value"] for row in found.to_dict("records")}
    told = [values.get(row, math.nan) for row in frame[others].itertuples(index=False, name=None)]
    return [f" to {100 * value:.1f} %" if math.isfinite(value) else "" for value in told]


def _apart(study: Results, frame: pd.DataFrame) -> bool:
    """Whether the probe is so small that more seem dead on it than are on the whole training set."""
    rows = frame[frame["activation"].isin(dying(study))]
    return bool((rows["dead_fraction_mean"] - rows["confirmed_dead_fraction_mean"] > _APART).any())


def _rules(study: Results, frame: pd.DataFrame) -> list[str]:
    """What the columns of times are the times to."""
    if len(names := _targets(study, frame)) < 2:
        values = headline_rows(study)["value"].dropna().unique()
        one = f" ({100 * values[0]:.1f} %)" if len(values) == 1 and not study.targets else ""
        return [f"{headline_target(study)[1]}{one}"]
    return [target_name(name) for name in names]


def _has_steps(study: Results) -> bool:
    """Whether steps to a target are told: the default one is of accuracy."""
    return (outcome_of(study).share or bool(study.targets)) and was_trained(study)


def caption_parts(study: Results, frame: pd.DataFrame) -> list[str]:
    """The sentences below the summary: what its numbers and marks mean."""
    found = [
        "Mean ± half of the 95 % t interval over seeds, at the end of training.",
        "Dead and off: share of hidden units, on the probe"
        f"{'; confirmed: on the whole training set' if _apart(study, frame) else ''}.",
        "Zero: share of hidden activations.",
    ]
    if (frame["diverged"] + frame["stuck"]).any():
        found.append("Those that learned: the trials less those that diverged or got stuck, which may be few.")
    if frame["collapsed_at_end_mean"].any():
        found.append("Collapsed: output range below 0.001.")
    if _has_steps(study):
        found.append(f"Steps: median to {'; '.join(_rules(study, frame))}.")
    if has_many_axes(study):
        found.append(f"The common setting: {common_setting(study)}.")
    if gains := gains_told(study):
        found.append(f"Gains of the initial weights: {gains}.")
    if len(differences(study)):
        base = display_name(study.baseline)
        found.append(
            f"* differs from {base}, if only by less than matters: exact signed-rank test, Holm-corrected p ≤ 0.05."
        )
    if frame["dead_fraction_n"].any() and not dying(study).issuperset(frame["activation"]):
        found.append(f"† {undying_told(study)}; not compared.")
    if (frame["diverged"] + frame["failed"]).any():
        found.append("Diverged trials stay in with their last finite values, else chance; failed ones are left out.")
    return found
