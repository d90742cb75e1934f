"""Tables over all data sets and architectures together."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.catalogue.metrics import METRICS
from reluexp.plain import p_told
from reluexp.report.frames.across import tasks_told
from reluexp.report.tables.cells import Cell, Table, axis_cells, signed
from reluexp.stats import Results

__all__ = ["across_table", "ranks_table"]

_OWN = ("activation", "metric", "tasks", "n", "iqm", "iqm_low", "iqm_high")


def across_table(study: Results, frame: pd.DataFrame) -> Table:
    """Interquartile mean of the differences to the baseline and chance of improvement, each with its bounds."""
    if frame.empty:
        return Table([], [], "")
    others = [str(name) for name in frame if name not in _OWN and not str(name).startswith("improvement")]
    rows = frame.to_dict("records")
    columns = {
        "activation": [Cell(display_name(row["activation"]), number=False) for row in rows],
        **axis_cells(study, frame, others),
        "metric": [Cell(METRICS[row["metric"]].label, number=False) for row in rows],
        "difference": [Cell(signed(100 * row["iqm"]), sort=row["iqm"]) for row in rows],
        "95 % bounds": [Cell(_bounds(row, "iqm", signed), sort=row["iqm_low"]) for row in rows],
        "chance of improvement": [Cell(_percent(row["improvement"]), sort=row["improvement"]) for row in rows],
        "its bounds": [Cell(_bounds(row, "improvement", _plain), sort=row["improvement_low"]) for row in rows],
        "settings": [Cell(str(int(row["tasks"])), sort=row["tasks"]) for row in rows],
        "pairs": [Cell(str(int(row["n"])), sort=row["n"]) for row in rows],
    }
    caption = (
        f"All values of {tasks_told(study)} together, against {display_name(study.baseline)}. Difference: "
        "interquartile mean of the paired differences, in points. Chance of improvement: that a run is better than one "
        "of the baseline on the same data set and architecture (for units off: has fewer), ties half. Bounds: "
        "a bootstrap of the seeds within each (Agarwal et al. 2021; percentiles of Hesterberg 2015); they speak of "
        "these data sets and architectures and of no others."
    )
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)], caption)


def ranks_table(study: Results, frame: pd.DataFrame) -> Table:
    """Average ranks over the data sets, and how far apart they must be."""
    if frame.empty:
        return Table([], [], "")
    rows = frame.to_dict("records")
    columns = {
        "activation": [Cell(display_name(row["activation"]), number=False) for row in rows],
        "metric": [Cell(METRICS[row["metric"]].label, number=False) for row in rows],
        "average rank": [Cell(f"{row['rank']:.2f}", sort=row["rank"]) for row in rows],
        "critical difference": [Cell(f"{row['critical']:.2f}", sort=row["critical"]) for row in rows],
        "p (Friedman)": [Cell(p_told(row["friedman"]).removeprefix("p ").removeprefix("= ")) for row in rows],
        "data sets": [Cell(str(int(row["datasets"])), sort=row["datasets"]) for row in rows],
    }
    caption = (
        "Ranks of the means over seeds on each data set, 1 the best, averaged. Two activations differ at 5 % from the "
        "critical difference on (Nemenyi), if Friedman's test finds any difference at all (Demšar 2006). p of each "
        "pair: tables/nemenyi.csv."
    )
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)], caption)


def _bounds(row: dict[Any, Any], name: str, text: Any) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{text(100 * low)} to {text(100 * high)}" if math.isfinite(low) else "–"


def _percent(value: float) -> str:
    return f"{_plain(100 * value)} %" if math.isfinite(value) else "–"


def _plain(value: float) -> str:
    return f"{value:.0f}"
