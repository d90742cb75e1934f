"""The differences to the baseline as a table: size, interval, test and verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.catalogue.metrics import METRICS, TIME, is_share, is_time
from reluexp.plain import p_told
from reluexp.report.tables.cells import Cell, Table, rules_of, setting_cells, signed
from reluexp.stats import ALPHA, LOSS, Outcome, Results, unlearned
from reluexp.stats.contrasts import seeds_told

__all__ = [
    "difference_cell",
    "differences_table",
    "interval_cell",
    "marks_of",
    "metric_name",
    "p_cell",
    "seeds_to_tell",
    "size_of",
]

_NO_JUDGEMENT = ("no margin", "no judgement", "no verdict", "by definition")


def marks_of(frame: pd.DataFrame, metric: str, keys: list[str]) -> dict[tuple[Any, ...], tuple[str, bool]]:
    """For each setting the verdict by the margin, and whether the difference is significant in its family."""
    rows = frame[(frame["metric"] == metric) & (frame["n"] > 0)]
    return {
        tuple(row[key] for key in keys): (
            "" if row["verdict"] in _NO_JUDGEMENT else str(row["verdict"]),
            bool(row["p_holm"] <= ALPHA),
        )
        for row in rows.to_dict("records")
    }


def differences_table(study: Results, frame: pd.DataFrame) -> Table:
    """The comparisons as they are read: accuracies and shares in points, losses as they are, times as ratios."""
    if frame.empty:
        return Table([], [], "")
    rows = frame.to_dict("records")
    columns = {
        **setting_cells(study, frame),
        "metric": [Cell(metric_name(row["metric"]), number=False) for row in rows],
        "difference": [difference_cell(row) for row in rows],
        "95 % interval": [interval_cell(row) for row in rows],
        "p (Holm)": [Cell(p_cell(row["p_holm"]), sort=row["p_holm"]) for row in rows],
        "effect": [Cell(signed(row["effect"]), sort=row["effect"]) for row in rows],
        "won · tied · lost": [
            Cell(f"{row['wins']:.0f} · {row['ties']:.0f} · {row['losses']:.0f}", sort=row["wins"]) for row in rows
        ],
        "pairs": [Cell(str(int(row["n"])), sort=row["n"]) for row in rows],
        "verdict": [_verdict(row, idle) for row, idle in zip(rows, unlearned(study, frame), strict=True)],
    }
    cells = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(list(columns), cells, _caption(study, frame), rules_of(frame, ["metric"]))


def metric_name(metric: str) -> str:
    """A metric as tables name it."""
    if metric in METRICS:
        return METRICS[metric].label
    return metric.replace(TIME, "steps to ").replace("_", " ").replace("%", " %")


def _is_time(row: dict[Any, Any]) -> bool:
    return is_time(str(row["metric"]))


def size_of(metric: str, value: float, half: float = math.nan) -> str:
    """A difference as tables show it: `× 1.15` of times, `+1.2` in points of shares, `−0.0435` of anything else."""
    if not math.isfinite(value):
        return "–"
    if is_time(metric):
        return f"× {math.exp(value):.2f}"
    return signed(100 * value) if is_share(metric) else LOSS.difference(value, half=half)


def difference_cell(row: dict[Any, Any]) -> Cell:
    """The mean difference, to what its interval knows."""
    return Cell(size_of(row["metric"], row["mean"], (row["high"] - row["low"]) / 2), sort=row["mean"])


def interval_cell(row: dict[Any, Any]) -> Cell:
    """`+0.8 to +1.6`."""
    if not math.isfinite(row["low"]):
        return Cell("–")
    low, high = (size_of(row["metric"], row[end], (row["high"] - row["low"]) / 2) for end in ("low", "high"))
    return Cell(f"{low} to {high}", sort=row["low"])


def p_cell(value: float) -> str:
    """`0.012`, `< 0.001`, or a dash."""
    return p_told(value).removeprefix("p ").removeprefix("= ") if math.isfinite(value) else "–"


def _verdict(row: dict[Any, Any], idle: str) -> Cell:
    seeds = seeds_to_tell(row)
    more = f" ({seeds_told(seeds)} seeds would tell)" if math.isfinite(seeds) else ""
    if idle:
        return Cell(f"no verdict: {idle}", number=False)
    return Cell(f"{row['verdict']}{more}", number=False, mark=str(row["verdict"]))


def seeds_to_tell(row: Mapping[Any, Any]) -> float:
    """About how many seeds would end in a verdict that is undecided now, more than there are; NaN where unknown.

    For a mean beyond the margin as many as would show it, were it the truth; for one within, as would show that a true
    0 is within.
    """
    beyond = abs(row["mean"]) > row["margin"]
    least = np.fmax(row["n"] + 1, row["pairs_needed"])  # fewer can reach no verdict, whatever they show
    return float(np.maximum(row["pairs_to_decide" if beyond else "pairs_to_resolve"], least))


def _caption(study: Results, frame: pd.DataFrame) -> str:
    base = display_name(study.baseline)
    margins = ", ".join(_margin(row) for row in frame.drop_duplicates("metric").to_dict("records"))
    hopeless = frame["pairs_needed"].dropna()
    needed = f" At this number of seeds no p can reach 0.05; {hopeless.max():.0f} would do." if len(hopeless) else ""
    told = (
        " Seeds that would tell: those that would show a mean beyond the margin to be so, were it the truth; for a "
        "mean within it, those that would show a true 0 to be within."
        if frame["verdict"].eq("undecided").any()
        else ""
    )
    return (
        f"Minus {base}, paired by seed and every other axis; accuracies and shares in points, losses as they are, "
        "steps as a ratio. Mean with its paired 95 % t interval; exact signed-rank p, Holm-corrected within the "
        "metric; rank-biserial effect. "
        f"Verdicts by the smallest difference that matters ({margins}): better or worse beyond it, equal within it "
        f"(TOST), else undecided.{needed}{told} Exploratory."
    )


def _margin(row: dict[Any, Any]) -> str:
    if math.isnan(row["margin"]):
        return f"{metric_name(row['metric'])} none unless `margins` states one"
    least = Outcome(row["metric"]).least
    size = f"a factor of {math.exp(row['margin']):.2f}" if _is_time(row) else least(row["margin"])
    return f"{metric_name(row['metric'])} {size}"
