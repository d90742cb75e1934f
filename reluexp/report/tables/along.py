"""The axes beside the activation compared, as a table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.report.tables.cells import Cell, Table, rules_of
from reluexp.report.tables.differences import difference_cell, interval_cell, metric_name, p_cell
from reluexp.stats import Results, axis_names, other_axes, setting_name

__all__ = ["along_table"]

_MOST = 80  # rows that are read; more are for a program


def along_table(study: Results, frame: pd.DataFrame) -> Table:
    """One row for each value of an axis, activation, setting of the others, and metric."""
    if frame.empty or len(frame) > _MOST:
        return Table([], [], "")
    rows = frame.to_dict("records")
    several = len(other_axes(study)) > 1
    columns = {
        "axis": [Cell(_names(study)[row["axis"]], number=False) for row in rows],
        "compared": [Cell(f"{row['level']} − {row['reference']}", number=False) for row in rows],
        "activation": [Cell(display_name(row["activation"]), number=False) for row in rows],
        **({"setting": [Cell(_rest(study, row), number=False) for row in rows]} if several else {}),
        "metric": [Cell(metric_name(row["metric"]), number=False) for row in rows],
        "difference": [difference_cell(row) for row in rows],
        "95 % interval": [interval_cell(row) for row in rows],
        "p (Holm)": [Cell(p_cell(row["p_holm"]), sort=row["p_holm"]) for row in rows],
        "pairs": [Cell(str(int(row["n"])), sort=row["n"]) for row in rows],
        "verdict": [Cell(row["verdict"], number=False, mark=row["verdict"]) for row in rows],
    }
    caption = (
        "Paired by seed, activation and every other axis, minus the config's own value of the axis (else the first). "
        "Accuracies and shares in points; exact signed-rank tests, Holm-corrected within the axis and metric; verdicts "
        "by the margins of the table above. Dead units of activations that can die. Across architectures the seed "
        "pairs the order of the data only. Exploratory."
    )
    cells = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(list(columns), cells, caption, rules_of(frame, ["axis", "metric"]))


def _names(study: Results) -> dict[str, str]:
    return axis_names(other_axes(study))


def _rest(study: Results, row: dict[Any, Any]) -> str:
    """The values of the axes that are neither the activation nor the one that is compared."""
    return setting_name(study, {axis: row[axis] for axis in other_axes(study) if axis != row["axis"]})
