"""Expectations stated in the config, tested: each needs all of its settings, and all of them share one correction."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from reluexp.catalogue.metrics import is_time, margin_of
from reluexp.config.inference import Hypothesis
from reluexp.config.levels import level_shown
from reluexp.errors import ConfigError
from reluexp.stats.contrasts import Contrast, decide, page, seeds_for, together
from reluexp.stats.outcomes import Outcome
from reluexp.stats.pairs import pairs
from reluexp.stats.readings import known_beforehand, readings
from reluexp.stats.results import Results
from reluexp.stats.settings import axis_names, groups, matching, setting_columns

__all__ = ["hypothesis_table", "marked"]

_COLUMNS = (
    *("statement", "metric", "at", "by", "level", "against", "direction", "margin", "settings", "n"),
    *("mean", "low", "high", "p_for", "p_against", "verdict", "seeds_to_decide", "kind"),
)


def hypothesis_table(
    study: Results,
    hypotheses: Sequence[Hypothesis],
    margins: Mapping[str, float] | None = None,
    confirmatory: Collection[int] = (),
) -> pd.DataFrame:
    """One row per hypothesis: what it says, settings, n (pairs in the smallest of them), mean difference and its 95 % t
    interval (of the setting that speaks most against it), Holm-corrected p for and against, verdict (`supported`,
    `contradicted`, `undecided`, `not tested here`), seeds that would decide if what was seen is the truth, and kind.

    `greater` is tested as difference > margin, `less` as < −margin, `equal` as within ±margin (0 for a metric without a
    margin); times by logarithms. Exact deaths of an activation that cannot die are not tested: their answer is known.
    `confirmatory` holds the places of those put down before any result was there.
    """
    rows, p_values, axes = [], [], setting_columns(study)
    for place, own in enumerate(hypotheses):
        margin = own.margin or margin_of(own.metric, margins)
        margin = 0.0 if math.isnan(margin) else margin
        level, against = _levels(own, study.baseline, axes)
        known = _known(study, own, level, against)
        try:
            contrasts = [] if known else _contrasts(study, own, margin)
        except ConfigError as error:  # what its trials do not have; the others, and the report, go on
            contrasts, known = [], f" ({error})"
        decisions = [decide(contrast, len(hypotheses)) for contrast in contrasts]
        p_values.append(together(decisions))
        weakest = max(decisions, key=lambda d: -1.0 if math.isnan(d.p_for) else d.p_for, default=None)
        rows.append(
            {
                **{
                    "statement": f"{_statement(own, level, against, margin, axes)}{known}",
                    "metric": own.metric,
                    "at": own.at,
                    "by": own.by,
                },
                **{"level": level, "against": against, "direction": own.direction, "margin": margin},
                **{"settings": len(decisions), "n": min((d.n for d in decisions), default=0)},
                **{name: getattr(weakest, name) if weakest else math.nan for name in ("mean", "low", "high")},
                "seeds_to_decide": seeds_for(decisions),
                "kind": "confirmatory" if place in confirmatory else "exploratory",
            }
        )
    table = pd.DataFrame(rows, columns=_COLUMNS)
    found = page(p_values)
    for number, column in enumerate(("verdict", "p_for", "p_against")):
        table[column] = [row[number] for row in found]
    table["seeds_to_decide"] = table["seeds_to_decide"].where(table["verdict"] == "undecided")
    return table


def marked(table: pd.DataFrame, by: str, stated: Sequence[Hypothesis], baseline: str | None) -> pd.DataFrame:
    """A table of comparisons with the column kind: `confirmatory` for the rows that a stated hypothesis is about."""
    kinds = pd.Series("exploratory", index=table.index, dtype=object)
    for own in stated:
        level, against = _levels(own, baseline, table.columns)
        where = _where(own, table.columns)
        if own.by != by or own.metric not in set(table["metric"]) or not where.keys() <= set(table.columns):
            continue  # of a table in which seeds' means over an axis stand, it says nothing
        about = matching(table, {by: level, "baseline": against, "at": own.at, **where})
        kinds[about.index] = "confirmatory"
    return table.assign(kind=kinds)


def _known(study: Results, own: Hypothesis, level: Any, against: Any) -> str:
    """Why definitions answer it, in brackets; empty where they do not."""
    undying = [label for label in (level, against) if known_beforehand(study, own.metric, own.by, label)]
    if undying:
        return f" (by definition: {' and '.join(undying)} cannot be dead exactly)"
    decided = known_beforehand(study, own.metric, own.by, level, against)
    return " (by definition: init.dead switched units off)" if decided else ""


def _levels(own: Hypothesis, baseline: str | None, axes: Iterable[str]) -> tuple[Any, Any]:
    level = own.activation if own.level is None else own.level
    against = baseline if own.against is None else level_shown(own.by, own.against, axes)
    return level_shown(own.by, level, axes), against  # type: ignore[arg-type]


def _where(own: Hypothesis, axes: Iterable[str]) -> dict[str, Any]:
    """The axes that it is confined to, each with its value as tables show it."""
    return {axis: level_shown(axis, value, axes) for axis, value in (own.where or {}).items()}


def _contrasts(study: Results, own: Hypothesis, margin: float) -> list[Contrast]:
    axes = setting_columns(study)
    frame = matching(readings(study, own.metric, own.at), _where(own, axes))
    others = [axis for axis in axes if axis != own.by]
    level, against = _levels(own, study.baseline, axes)
    found = pairs(frame[frame[own.by].isin([level, against])], own.by, against, others, log=is_time(own.metric))
    limit = {"greater": margin, "less": -margin, "equal": margin}[own.direction]
    found_in = [(", ".join(f"{k} {v}" for k, v in where.items()), part) for where, part in groups(found, others)]
    return [
        Contrast(label, part.loc[~part["unknown"], "difference"], own.direction, limit, int(part["unknown"].sum()))
        for label, part in found_in
    ]


def _statement(own: Hypothesis, level: Any, against: Any, margin: float, axes: Iterable[str]) -> str:
    """`test accuracy: elu above relu by more than 0.5 points`."""
    metric, time = Outcome(own.metric), is_time(own.metric)
    by = f"a factor of {math.exp(margin):.3g}" if time else metric.least(margin)
    shown = own.metric.replace("_", " ") if time else metric.name
    words = {
        "greater": f"above {against}" + (f" by more than {by}" if margin else ""),
        "less": f"below {against}" + (f" by more than {by}" if margin else ""),
        "equal": f"within {by} of {against}",
    }
    where = "".join(f", {axis} = {value}" for axis, value in _where(own, axes).items())
    if own.by != "activation":
        level = f"{axis_names([own.by])[own.by]} = {level}"
    return f"{shown}{'' if own.at == 'last' else f' ({own.at})'}: {level} {words[own.direction]}{where}"
