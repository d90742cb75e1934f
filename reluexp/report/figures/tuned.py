"""The figure of what tuning saw: the score of every candidate against the axis that was tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reluexp.report.figures.spec import FigureSpec
from reluexp.report.frames.choices import candidates
from reluexp.report.lines import Lines, lines_of, plain, short
from reluexp.report.panels import Panel, by_factors, grid_of, legend, percent
from reluexp.report.style import Style
from reluexp.stats import Results, axis_names, groups, tuned_by

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["TUNED"]

_NUMBERS = ("mean", "low", "high", "n", "diverged", "chosen")


def _tuned_axis(study: Results, frame: pd.DataFrame) -> str | None:
    """The first axis that was tuned over two numbers or more."""
    for axis in study.tuned_axes:
        values = frame[axis].dropna().unique() if axis in frame else ()
        if len(values) > 1 and all(isinstance(value, (int, float, np.number)) for value in values):
            return str(axis)
    return None


def _tuning(study: Results, style: Style) -> Figure | None:
    """A panel for each combination of the other axes; the chosen candidate is a diamond."""
    frame = candidates(study)
    axis = _tuned_axis(study, frame)
    if axis is None:
        return None
    others = [name for name in frame if name not in ("activation", axis, *_NUMBERS)]
    names = axis_names([*map(str, others), axis])
    panels = [
        Panel(plain(short(", ".join(f"{names[name]} = {value}" for name, value in where.items()), 48)), rows, "mean")
        for where, rows in groups(frame, [str(name) for name in others])
    ][: style.facets]
    columns, lines = min(2, len(panels)), lines_of(study)
    figure, axes = grid_of(panels, style, columns, "xy")
    metric = tuned_by(study)
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw_candidates(ax, panel, lines, axis, metric.share)
        if metric.share:
            percent(ax.yaxis)
        if i + columns >= len(axes):
            ax.set_xlabel(plain("learning rate" if names[axis] == "lr" else names[axis]))
        if i % columns == 0:
            ax.set_ylabel(metric.name)
    legend(figure, lines, style, [_diamond()])
    return figure


def _draw_candidates(ax: Axes, panel: Panel, lines: Lines, axis: str, share: bool) -> Axes:
    from matplotlib.ticker import NullLocator

    for value, (_, colour, dashes) in lines.looks.items():
        own = panel.rows[panel.rows["activation"] == value].sort_values(axis)
        ax.plot(own[axis], own["mean"], color=colour, ls=dashes, marker="o", ms=3, zorder=3)
        bounds = (own[["low", "high"]].clip(0, 1) if share else own[["low", "high"]]).astype(float)
        ax.fill_between(own[axis].astype(float), bounds["low"], bounds["high"], color=colour, alpha=0.15, lw=0)
        best = own[own["chosen"]]
        ax.plot(best[axis], best["mean"], color=colour, ls="", marker="D", ms=7, mec="black", mew=1.1, zorder=5)
    values = np.sort(panel.rows[axis].astype(float).unique())
    if by_factors(values):
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    if len(values) <= 8:
        ax.set_xticks(values, [f"{value:g}" for value in values])
    return ax


def _diamond() -> tuple[Any, str]:
    from matplotlib.lines import Line2D

    return Line2D([], [], ls="", marker="D", ms=6, color="white", mec="black"), "chosen"


def _caption(study: Results) -> str:
    frame = candidates(study)
    seeds = int(frame["n"].max()) if len(frame) else 0
    lost = int(frame["diverged"].sum()) if len(frame) else 0
    return (
        f"Score of every candidate on the validation split, mean over {seeds} seeds that are not compared; band: "
        "pointwise 95 % t interval. Diamond: what was chosen and compared on other seeds. "
        f"{lost} of these trials diverged. A best value at the edge of the grid is said in the table of choices."
    )


TUNED: tuple[FigureSpec, ...] = (
    FigureSpec("tuning", "What tuning saw", "outcome", _caption, _tuning, terms=("interval",)),
)
