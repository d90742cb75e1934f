"""The table of every trial."""

from __future__ import annotations

import math

import pandas as pd

from reluexp.catalogue.metrics import is_time
from reluexp.report.tables.cells import Cell, Table, number, setting_cells, step, target_name, whole_cells
from reluexp.stats import Results, final_metrics, other_axes, outcome_of, outcomes_told

__all__ = ["by_outcome", "trials_table"]


def trials_table(study: Results, frame: pd.DataFrame) -> Table:
    """One row per trial; within a setting the diverged stand after the finished and the failed last."""
    share = outcome_of(study).share
    steps = list(filter(is_time, map(str, frame.columns))) if share or study.targets else []
    columns = {
        **setting_cells(study, frame),
        "seed": whole_cells(frame["seed"]),
        "outcome": [Cell(text, number=False) for text in outcomes_told(frame)],
        **(
            {"asked": [Cell("yes" if own else "no", number=False) for own in frame["asked"]]}
            if "asked" in frame
            else {}
        ),
        **{
            header: [Cell(number(100 * value, 2)) for value in frame[metric]]
            for header, metric in (
                ("test accuracy %", "test_accuracy"),
                ("train accuracy %", "train_accuracy"),
                ("dead %", "dead_fraction"),
                ("off %", "off_fraction"),
                ("zero %", "zero_fraction"),
            )
            if share or not metric.endswith("_accuracy")
        },
        "test loss": [Cell(f"{value:.4g}" if math.isfinite(value) else "–") for value in frame["test_loss"]],
        **{
            f"steps to {target_name(name)}": [Cell(step(value), sort=float(value)) for value in frame[name]]
            for name in steps
        },
    }
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(list(columns), rows, "Every trial at its end.")


def by_outcome(study: Results) -> pd.DataFrame:
    """Final metrics of every trial; within a setting the diverged after the finished, the failed last.

    Beside trials of earlier configs, `asked` says which the config asks for.
    """
    frame = final_metrics(study)
    if "asked" in study.trials:
        frame["asked"] = frame["trial"].map(study.trials.set_index("trial")["asked"])
    rank = frame["outcome"].map({"finished": 0, "diverged": 1}).fillna(2)
    place = frame.groupby([*other_axes(study), "activation"], sort=False).ngroup()
    order = pd.DataFrame({"place": place, "rank": rank}).sort_values(["place", "rank"], kind="stable").index
    return frame.loc[order].reset_index(drop=True)
