"""The tables of a report: raw numbers as CSV; for reading as Markdown, LaTeX, and rows for a terminal or a page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reluexp.catalogue.activations import style_of
from reluexp.stats import (
    Results,
    axis_names,
    can_die,
    final_metrics,
    headline_target,
    other_axes,
    paired_differences,
    summary,
)

__all__ = ["TABLES", "Cell", "Table", "TableSpec", "summary_rows", "to_csv", "to_latex", "to_markdown"]


@dataclass(frozen=True)
class Cell:
    """What a table shows in one place; `best` is set in bold."""

    text: str
    best: bool = False
    number: bool = True


@dataclass(frozen=True)
class Table:
    """A table to be read: headers, rows of cells, a caption, and the rows before which a rule separates groups."""

    headers: list[str]
    rows: list[list[Cell]]
    caption: str
    rules: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TableSpec:
    """One table: file name, title, the frame of raw numbers, and how that is shown."""

    name: str
    title: str
    frame: Callable[[Results], pd.DataFrame]
    shown: Callable[[Results, pd.DataFrame], Table]


def summary_rows(study: Results) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the summary for a terminal: setting × accuracy, dead, off, zero, steps; counts."""
    table = summary_table(study, summary(study))
    return table.headers, [[cell.text for cell in row] for row in table.rows]


def summary_table(study: Results, frame: pd.DataFrame) -> Table:
    """One row per setting: mean ± half of the 95 % t interval over seeds, the median steps to the headline target."""
    column, rule = headline_target(study)
    best = _best(frame, other_axes(study), column)
    columns = {
        **_setting_cells(study, frame),
        "test accuracy %": _shares(frame, "test_accuracy", best),
        **_learned(frame),
        "dead %": _shares(frame, "dead_fraction", best, mark=True),
        "off %": _shares(frame, "off_fraction", best),
        "zero %": _shares(frame, "zero_fraction", best),
        f"steps to {_target_name(column)}": _steps(frame, column, best),
        "trials": _whole(frame["trials"]),
        **{
            name: _whole(frame[name])
            for name in ("diverged", "stuck", "failed")
            if name != "failed" or frame[name].any()
        },
    }
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(list(columns), rows, _summary_caption(study, frame, rule), _rules(frame, other_axes(study)))


def trials_table(study: Results, frame: pd.DataFrame) -> Table:
    """One row per trial; within a setting the diverged stand after the finished and the failed last."""
    steps = [name for name in map(str, frame.columns) if name.startswith("steps_to_")]
    columns = {
        **_setting_cells(study, frame),
        "seed": _whole(frame["seed"]),
        "outcome": [Cell(_outcome(row), number=False) for _, row in frame.iterrows()],
        **{
            header: [Cell(_number(100 * value, 2)) for value in frame[metric]]
            for header, metric in (
                ("test accuracy %", "test_accuracy"),
                ("train accuracy %", "train_accuracy"),
                ("dead %", "dead_fraction"),
                ("off %", "off_fraction"),
                ("zero %", "zero_fraction"),
            )
        },
        "test loss": [Cell(f"{value:.4g}" if math.isfinite(value) else "–") for value in frame["test_loss"]],
        **{f"steps to {_target_name(name)}": [Cell(_step(value)) for value in frame[name]] for name in steps},
    }
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(list(columns), rows, "Every trial at its end.")


def differences_table(study: Results, frame: pd.DataFrame) -> Table:
    """Paired differences in final test accuracy to the baseline, in points."""
    columns = {
        **_setting_cells(study, frame),
        "difference, points": [Cell(_signed(100 * value)) for value in frame["mean"]],
        "95 % interval": [
            Cell(f"{_signed(100 * low)} to {_signed(100 * high)}" if math.isfinite(low) else "–")
            for low, high in zip(frame["low"], frame["high"], strict=True)
        ],
        "pairs": _whole(frame["n"]),
    }
    base = style_of(str(study.baseline))[0]
    caption = (
        f"Final test accuracy minus that of {base}, paired by seed and every other axis, with the paired t interval. "
        "Exploratory: not corrected for the number of comparisons."
    )
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(list(columns), rows, caption, _rules(frame, other_axes(study)))


def to_csv(frame: pd.DataFrame) -> str:
    """Raw numbers as CSV; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    guarded = frame.rename(columns=_guard)
    for column in guarded.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in guarded.dtypes]]:
        guarded[column] = guarded[column].map(_guard)
    return str(guarded.to_csv(index=False, lineterminator="\n"))


def to_markdown(table: Table) -> str:
    """A Markdown table with its caption below; the best values are bold."""
    cells = [[f"**{_markdown(c.text)}**" if c.best else _markdown(c.text) for c in row] for row in table.rows]
    first = table.rows[0] if table.rows else []
    marks = ["---:" if cell.number else ":---" for cell in first] or ["---"] * len(table.headers)
    lines = [[_markdown(header) for header in table.headers], marks, *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{_markdown(table.caption)}\n"


def to_latex(table: Table) -> str:
    """A tabular for the booktabs package, to be placed in a table environment; the best values are bold."""
    first = table.rows[0] if table.rows else []
    align = "".join("r" if cell.number else "l" for cell in first) or "l" * len(table.headers)
    lines = [
        f"% {' '.join(table.caption.split())}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        _row([_latex(header) for header in table.headers]),
        r"\midrule",
    ]
    for i, row in enumerate(table.rows):
        lines += [r"\addlinespace"] if i in table.rules else []
        lines.append(_row([rf"\textbf{{{_latex(c.text)}}}" if c.best else _latex(c.text) for c in row]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "−": "$-$",
        "†": r"$\dagger$",
        "–": "--",
        "…": r"\ldots{}",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "\n": " ",
        "\r": " ",
    }
)
_MARKDOWN = str.maketrans(
    {**{sign: f"\\{sign}" for sign in "\\`*_{}[]#|~"}, "&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "}
)


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _markdown(text: str) -> str:
    return text.translate(_MARKDOWN)


def _guard(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = " ".join(value.splitlines())
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@") else text


def _setting_cells(study: Results, frame: pd.DataFrame) -> dict[str, list[Cell]]:
    names = axis_names(other_axes(study))
    cells = {"activation": [Cell(style_of(str(label))[0], number=False) for label in frame["activation"]]}
    return {
        **cells,
        **{name: [Cell(str(value), number=False) for value in frame[axis]] for axis, name in names.items()},
    }


def _best(frame: pd.DataFrame, group: list[str], steps: str) -> dict[str, pd.Series]:
    """Which rows are best among several of a group, for the columns in which better has a meaning."""
    found = {}
    for column, sign in (("test_accuracy_mean", 1.0), (f"{steps}_median", -1.0)):
        values = (sign * frame[column]).replace([np.inf, -np.inf], np.nan)
        keys = [frame[axis] for axis in group] or [pd.Series(0, index=frame.index)]
        top, size = values.groupby(keys).transform("max"), values.groupby(keys).transform("size")
        found[column] = (values == top) & (size > 1) & (frame["trials"] > frame["diverged"] + frame["failed"])
    return found


def _rules(frame: pd.DataFrame, others: list[str]) -> frozenset[int]:
    if not others or frame.empty:
        return frozenset()
    changed = (frame[others] != frame[others].shift()).any(axis=1).to_numpy()
    return frozenset(int(i) for i in np.flatnonzero(changed) if i)


def _shares(frame: pd.DataFrame, metric: str, best: dict[str, pd.Series], mark: bool = False) -> list[Cell]:
    """Percent, with as many decimals in the whole column as its typical interval deserves."""
    half = 100 * (frame[f"{metric}_high"] - frame[f"{metric}_low"]) / 2
    digits = 2 if half[half > 0].median() < 0.1 else 1
    bold = best.get(f"{metric}_mean", pd.Series(False, index=frame.index))
    cells = []
    for label, mean, spread, is_best in zip(
        frame["activation"], 100 * frame[f"{metric}_mean"], half, bold, strict=True
    ):
        text = _number(mean, digits) + (f" ± {spread:.{digits}f}" if math.isfinite(spread) else "")
        dagger = " †" if mark and math.isfinite(mean) and not can_die(label) else ""
        cells.append(Cell(text + dagger, bool(is_best)))
    return cells


def _learned(frame: pd.DataFrame) -> dict[str, list[Cell]]:
    if not (frame["diverged"] + frame["stuck"]).any():
        return {}
    return {"… of those that learned": _shares(frame, "test_accuracy_learned", {})}


def _steps(frame: pd.DataFrame, column: str, best: dict[str, pd.Series]) -> list[Cell]:
    medians, nevers, counts = (frame[f"{column}_{part}"] for part in ("median", "never", "n"))
    cells = []
    for median, never, n, is_best in zip(medians, nevers, counts, best[f"{column}_median"], strict=True):
        few = f" ({never} of {n} never)" if never and math.isfinite(median) else ""
        cells.append(Cell(_step(median) + few, bool(is_best)))
    return cells


def _target_name(column: str) -> str:
    return column.removeprefix("steps_to_").replace("_", " ").replace("%", " %")


def _whole(values: pd.Series) -> list[Cell]:
    return [Cell(str(int(value))) for value in values]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _signed(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else "–"


def _step(value: float) -> str:
    return "never" if math.isinf(value) else "–" if math.isnan(value) else f"{value:.0f}"


def _outcome(row: Any) -> str:
    return "stuck" if row["stuck"] and row["outcome"] == "finished" else str(row["outcome"])


def _summary_caption(study: Results, frame: pd.DataFrame, rule: str) -> str:
    marked = not all(can_die(str(label)) for label in frame["activation"])
    dagger = " † cannot be dead exactly: underflow, not compared." if marked and frame["dead_fraction_n"].any() else ""
    lost = (frame["diverged"] + frame["failed"]).any()
    kept = (
        " Diverged trials stay in with their last finite values, else chance; failed ones are left out." if lost else ""
    )
    return (
        f"Mean ± half of the 95 % t interval over seeds, at the end of training. Dead and off: share of hidden units; "
        f"zero: share of hidden activations. Steps: median to {rule}.{dagger}{kept}"
    )


def _by_outcome(study: Results) -> pd.DataFrame:
    frame = final_metrics(study)
    rank = frame["outcome"].map({"finished": 0, "diverged": 1}).fillna(2)
    place = frame.groupby([*other_axes(study), "activation"], sort=False).ngroup()
    order = pd.DataFrame({"place": place, "rank": rank}).sort_values(["place", "rank"], kind="stable").index
    return frame.loc[order].reset_index(drop=True)


TABLES: tuple[TableSpec, ...] = (
    TableSpec("summary", "Summary", summary, summary_table),
    TableSpec("differences", "Differences to the baseline", paired_differences, differences_table),
    TableSpec("trials", "Every trial", _by_outcome, trials_table),
)
