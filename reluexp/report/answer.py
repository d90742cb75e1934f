"""The answer of a study in three sentences: did units die, did it matter, which activation to choose.

Where most nets learned nothing, a first one says so.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.plain import counted, percentage
from reluexp.report.findings import any_of, at_setting, leading, share_told, switched_off
from reluexp.report.frames.across import across_sentences
from reluexp.report.tables.differences import seeds_to_tell
from reluexp.stats import (
    ALPHA,
    Outcome,
    Results,
    differences,
    dying,
    other_axes,
    outcome_of,
    settings,
    summary,
    was_trained,
)
from reluexp.stats.contrasts import MANY_SEEDS, seeds_told

__all__ = ["answer"]

_TOLD = {"better": "better than", "equal": "as good as", "worse": "worse than"}


def answer(study: Results, table: pd.DataFrame | None = None, compared: pd.DataFrame | None = None) -> list[str]:
    """At most five sentences; none before a trial has ended. `table` is `summary`, `compared` is `differences`."""
    if study.trials.empty or study.trials["outcome"].eq("failed").all():
        return []
    table = summary(study) if table is None else table
    compared = differences(study) if compared is None else compared
    rows = compared[compared["metric"] == outcome_of(study).metric] if len(compared) else compared
    idle, some = _unlearned(study)
    if not was_trained(study):
        idle, some = "Nothing was trained: these are networks at birth.", False
    told = (idle, _died(study, table), *((_mattered(study, rows), _choice(study, table, rows)) if some else ()))
    sentences = [sentence for sentence in told if sentence] or [_alone(study, table)]
    if study.missing:
        whole = study.missing + len(study.trials)
        return [f"{study.missing} of {whole} trials have not ended yet; this is of the others.", *sentences]
    return sentences


def _unlearned(study: Results) -> tuple[str, bool]:
    """What is said where most nets did not learn, else nothing; and whether any did, so that there is more to say."""
    trials = settings(study)
    ended = trials[trials["outcome"] != "failed"]
    stuck, diverged = int(ended["stuck"].sum()), int(ended["outcome"].eq("diverged").sum())
    lost, nets = stuck + diverged, len(ended)
    how = [f"{stuck} with a final training accuracy not above chance (stuck)"] if stuck else []
    how += [f"{diverged} diverged"] if diverged else []
    if lost == nets:
        alone = "their final training accuracy is not above chance (stuck)" if stuck else "all diverged"
        who = f"None of the {nets} nets learned" if nets > 1 else "The only net did not learn"
        return f"{who}: {', '.join(how) if len(how) > 1 else alone}.", False
    if 2 * lost <= nets:
        return "", True
    told = f"{lost} of {nets} nets did not learn: {', '.join(how)}"
    return f"{told}; differences in accuracy mostly tell which of them learned at all.", True


def _alone(study: Results, table: pd.DataFrame) -> str:
    """Where nothing died and nothing can be compared: what was reached."""
    outcome = outcome_of(study)
    rows = table[table[f"{outcome.metric}_mean"].notna()]
    if rows.empty:
        return "No unit that can die was dead at the end, and there is no accuracy to compare."
    row = _best(rows, outcome)
    name, value = display_name(row["activation"]), outcome.value(row[f"{outcome.metric}_mean"])
    return (
        f"{name} reached a mean {outcome.name} of {value}"
        f"{at_setting(study, row)}, over {counted(int(row[f'{outcome.metric}_n']), 'trial')}; "
        "there is nothing to compare it with."
    )


def _best(rows: pd.DataFrame, outcome: Outcome) -> Any:
    """The row with the best mean."""
    return rows.loc[(outcome.sign * rows[f"{outcome.metric}_mean"]).idxmax()]


def _died(study: Results, table: pd.DataFrame) -> str:
    """Of activations that can die: the setting with the largest share of dead units at the end."""
    rows = table[table["activation"].isin(dying(study)) & table["dead_fraction_n"].gt(0)]
    if rows.empty:
        return ""
    row, name, ahead = leading(study, rows, "dead_fraction_mean")
    if row["dead_fraction_mean"] == 0:
        return f"No {any_of(rows)} unit was dead at the end on the probe set."
    born = row["born_dead_fraction_mean"]
    before = f"; {percentage(born)} were dead before training{switched_off(study, row)}" if math.isfinite(born) else ""
    confirmed = row["confirmed_dead_fraction_mean"]
    whole = (
        f" ({share_told(row, 'confirmed_dead_fraction')} on the whole training set)" if math.isfinite(confirmed) else ""
    )
    most = " the most" if ahead else ""
    whose = "its" if name == display_name(row["activation"]) else "their"
    return (
        f"{name} had{most} dead units{at_setting(study, row)}: {share_told(row, 'dead_fraction')} of "
        f"{whose} hidden units at the end{whole}, over {counted(int(row['dead_fraction_n']), 'trial')}{before}."
    )


def _mattered(study: Results, rows: pd.DataFrame) -> str:
    """What the differences to the baseline are, by verdict, or by test where no margin is stated for a loss."""
    if rows.empty:
        return ""
    base, seeds, outcome = display_name(study.baseline), int(rows["n"].max()), outcome_of(study)
    margin = rows["margin"].iloc[0]
    bare, least = math.isnan(margin), outcome.least(margin)
    rows = rows.assign(verdict=[_judged(row, outcome) for row in rows.to_dict("records")])
    found = rows[rows["verdict"].isin(["better", "worse"])].sort_values("mean", ascending=outcome.sign < 0)
    told = [_difference(study, row) for row in found.to_dict("records")]
    beyond = "" if bare else f" by more than {least}"
    hopeless = rows["pairs_needed"].dropna()
    if not told and len(hopeless) and not rows["verdict"].eq("equal").any():
        many = int(rows["n"].gt(0).sum())
        what = f"{many} comparisons at once" if many > 1 else "a comparison"
        who, see = ("1 seed", "it shows") if seeds == 1 else (f"{seeds} seeds", "they show")
        return (
            f"Whether {outcome.name} differs from {base}'s stays open: {who} cannot settle {what}, whatever {see}; "
            f"{hopeless.max():.0f} could."
        )
    if not told:
        return f"In {outcome.name} no activation was shown to differ from {base}{beyond} (paired over {seeds} seeds)."
    shown = told if len(told) <= 3 else [told[0], told[-1]]
    more = f" ({len(told)} of {len(rows)} comparisons in all)" if len(told) > 3 else ""
    tested = f"by signed-rank tests; which difference matters, `margins: {{{outcome.metric}: …}}` would say"
    return (
        f"Against {base}, paired over {seeds} seeds, {outcome.name} was {'; '.join(shown)}{more}: "
        f"{tested if bare else f'by more than the {least} taken to matter'}."
    )


def _difference(study: Results, row: dict[Any, Any]) -> str:
    size = outcome_of(study).apart(row["mean"], row["low"], row["high"])
    return f"{row['verdict']} with {display_name(row['activation'])}{at_setting(study, row)} ({size})"


def _judged(row: dict[Any, Any], outcome: Outcome) -> str:
    """The verdict by the margin, or by the test alone where none is stated."""
    if row["verdict"] == "no margin" and row["p_holm"] <= ALPHA:
        return "better" if outcome.sign * row["mean"] > 0 else "worse"
    return str(row["verdict"])


def _choice(study: Results, table: pd.DataFrame, compared: pd.DataFrame) -> str:
    """The best mean, and whether it is told apart from the baseline; what the seeds leave open."""
    left, outcome = _left_open(compared), outcome_of(study)
    rows = _on_one_data_set(table[table[f"{outcome.metric}_n"] > 0], outcome)
    others, head = other_axes(study), ""
    if others and len(rows):
        beside = rows.groupby(others)["activation"].transform("nunique")
        if beside.nunique() > 1:  # what ran without most of the others is no choice among them
            rows, head = rows[beside == beside.max()], "Where most activations were compared, "
    if rows["activation"].nunique() < 2:
        return " ".join([*across_sentences(study), left]).strip()
    top = _best(rows, outcome)
    value, most = outcome.value(top[f"{outcome.metric}_mean"]), "highest" if outcome.sign > 0 else "lowest"
    whose = f"{display_name(top['activation'])}{at_setting(study, top)}"
    head = f"{head}{whose} had the {most} mean {outcome.name}, {value}"
    if compared.empty:
        return f"{head}; there is no baseline to compare it with."
    if top["activation"] == study.baseline:
        return f"{head}: it is the baseline. {left}".strip()
    keys = [*other_axes(study), "activation"]
    same = compared[(compared[keys] == top[keys]).all(axis=1)]
    row: dict[Any, Any] = same.iloc[0].to_dict() if len(same) else {"verdict": "not compared", "margin": math.nan}
    verdict = _judged(row, outcome)
    told = _TOLD.get(verdict, "not shown to be better than")
    beyond = f" by more than {outcome.least(row['margin'])}" if row["margin"] > 0 and verdict not in _TOLD else ""
    return f"{head}: {told} {display_name(study.baseline)}{beyond}. {left}".strip()


def _on_one_data_set(rows: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    """The settings on the data set that most trials used, none if several share that place.

    Accuracies and losses on different data say nothing of which activation to choose.
    """
    if "dataset" not in rows:
        return rows
    trials = rows.groupby("dataset")[f"{outcome.metric}_n"].sum()
    most = trials[trials == trials.max()].index
    return rows[rows["dataset"] == most[0]] if len(most) == 1 else rows[:0]


def _left_open(compared: pd.DataFrame) -> str:
    """How many comparisons are undecided, and the seeds that would do for half of them."""
    compared = compared[compared["n"] > 0] if len(compared) else compared
    undecided = compared[compared["verdict"] == "undecided"] if len(compared) else compared
    if undecided.empty:
        return ""
    seeds = sorted(math.inf if math.isnan(n := seeds_to_tell(row)) else n for row in undecided.to_dict("records"))
    half = seeds[(len(seeds) - 1) // 2]
    within = (undecided["mean"].abs() <= undecided["margin"]).all()
    mixed = "supposing no difference where the mean lies within the margin, else the one seen"
    truth = "if there is no difference" if within else mixed
    if len(seeds) > 1:
        at_most = "" if half > MANY_SEEDS else "at most "
        told = f"half of them would need {at_most}{seeds_told(half)} seeds, {truth}"
    else:
        told = f"{seeds_told(half)} seeds would tell, {truth if within else 'if what was seen is the truth'}"
    stay = "stays" if len(undecided) == 1 else "stay"
    more = f"; {told}" if math.isfinite(half) else ""
    return f"{len(undecided)} of {counted(len(compared), 'comparison')} {stay} undecided{more}."
