"""Tables of verdicts: on claims, on what was expected beforehand, and of what tuning chose."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.report.tables.cells import Cell, Table
from reluexp.report.tables.differences import difference_cell, interval_cell, p_cell
from reluexp.stats import Results, axis_names, other_axes, tuned_by

__all__ = ["choice", "choice_table", "claim_parts", "claims", "hypotheses", "hypotheses_table"]

_SCORES = ["mean", "low", "high"]


def claims(study: Results) -> pd.DataFrame:
    """Verdicts on what the textbooks say, as `Study.claims` gives them."""
    return study.claims() if len(study.trials) else pd.DataFrame()


def claim_parts(study: Results) -> pd.DataFrame:
    """The contrasts behind them, as `Study.claim_parts` gives them."""
    return study.claim_parts() if len(study.trials) else pd.DataFrame()


def hypotheses(study: Results) -> pd.DataFrame:
    """What the config expected, tested, as `Study.hypotheses` gives it."""
    return study.hypotheses() if study.stated and len(study.trials) else pd.DataFrame()


def choice(study: Results) -> pd.DataFrame:
    """What tuning chose for each activation, as `Study.choice` gives it."""
    return study.choice() if study.tuned_axes and len(study.trials) else pd.DataFrame()


def hypotheses_table(study: Results, frame: pd.DataFrame) -> Table:
    """What was expected, what was seen, and the verdict; those put down after a trial had ended are exploratory."""
    if frame.empty:
        return Table([], [], "")
    several = ["settings"] if (frame["settings"] > 1).any() else []
    rows = frame.to_dict("records")
    caption = (
        "Put down in the config before any trial had ended: confirmatory; later: exploratory. Differences are those of "
        "the first minus the second, shares in points, times as a ratio, with the 95 % t interval; verdicts by exact "
        "signed-rank tests, Holm-corrected over all of them."
    )
    if several:
        caption += (
            " One about several settings must hold in each; its numbers are of the one that speaks most against it."
        )
    columns = {
        "what was expected": [Cell(row["statement"], number=False) for row in rows],
        **{name: [Cell(f"{row[name]:.0f}", sort=float(row[name])) for row in rows] for name in several},
        "pairs": [Cell(f"{row['n']:.0f}", sort=float(row["n"])) for row in rows],
        "difference": [difference_cell(row) for row in rows],
        "95 % interval": [interval_cell(row) for row in rows],
        "p (Holm)": [Cell(p_cell(_deciding(row)), sort=_deciding(row)) for row in rows],
        "verdict": [Cell(row["verdict"], number=False, mark=row["verdict"]) for row in rows],
        "kind": [Cell(row["kind"], number=False) for row in rows],
    }
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)], caption)


def _deciding(row: dict[Any, Any]) -> float:
    """The p of the verdict: that what was expected fails where it was contradicted, else that it holds, by chance."""
    return float(row["p_against" if row["verdict"] == "contradicted" else "p_for"])


def choice_table(study: Results, frame: pd.DataFrame) -> Table:
    """The setting that each activation was compared at, as far as they differ."""
    caption = (
        "Each activation's own setting, chosen by its mean score on the validation split with other seeds than those "
        "that are compared."
    )
    if frame.empty:
        return Table([], [], "")
    plain = [axis for axis in other_axes(study) if axis in frame and axis not in study.tuned_axes]
    same = [axis for axis in plain if frame[axis].nunique(dropna=False) == 1]
    scores = _SCORES if set(_SCORES) <= set(frame) else []
    told = frame.drop(columns=[*same, *scores, "activation"])
    told.insert(0, "activation", frame["activation"].map(display_name))
    if scores:
        told.insert(told.columns.get_loc("n"), "score", [_score(study, row) for row in frame.to_dict("records")])
    return _plain(told.rename(columns=axis_names(other_axes(study))), caption)


def _score(study: Results, row: dict[Any, Any]) -> str:
    """`58.9 % [51.4 %, 66.3 %]`, the bounds cut to what a share can be; or a loss."""
    outcome = tuned_by(study)
    low, high = (min(max(row[end], 0.0), 1.0) if outcome.share else row[end] for end in ("low", "high"))
    bounds = f" [{outcome.value(low)}, {outcome.value(high)}]" if math.isfinite(row["low"]) else ""
    return f"{outcome.value(row['mean'])}{bounds}"


def _plain(frame: pd.DataFrame, caption: str) -> Table:
    headers = [str(column).replace("_", " ") for column in frame]
    rows = [[_cell(column, value) for column, value in row.items()] for row in frame.to_dict("records")]
    return Table(headers, rows, caption)


def _cell(column: Any, value: Any) -> Cell:
    if isinstance(value, bool):
        return Cell("yes" if value else "no", number=False)
    if not isinstance(value, (int, float)):
        return Cell("–" if value is None else str(value), number=False, mark=str(value) if column == "verdict" else "")
    return Cell(f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "–", sort=float(value))
