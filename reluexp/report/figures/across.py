"""Figures over all data sets and architectures together: performance profiles, and which average ranks differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from reluexp.plain import p_told
from reluexp.report.figures.spec import FigureSpec, View
from reluexp.report.frames.across import profiles, ranks_of, tasks_told
from reluexp.report.lines import lines_of, plain, short
from reluexp.report.panels import Panel, grid_of, legend, percent
from reluexp.report.style import Style
from reluexp.stats import Ranks, Results, axis_names, groups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ACROSS"]


def _profiles(study: Results, style: Style) -> Figure | None:
    """The share of runs above each test accuracy; a panel for each combination of the axes that are no tasks."""
    frame = profiles(study)
    rows = frame[frame["metric"] == "test_accuracy"] if len(frame) else frame
    if rows.empty:
        return None
    others = [str(name) for name in rows.columns[: list(rows.columns).index("activation")]]
    names = axis_names(others)
    panels = [
        Panel(plain(short(", ".join(f"{names[axis]} = {value}" for axis, value in where.items()), 48)), own, "share")
        for where, own in groups(rows, others)
    ][: style.facets]
    columns, lines = min(2, len(panels)), lines_of(study)
    figure, axes = grid_of(panels, style, columns, "xy")
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        for value, (_, colour, dashes) in lines.looks.items():
            own = panel.rows[panel.rows["activation"] == value]
            ax.plot(own["score"], own["share"], color=colour, ls=dashes, zorder=3)
            ax.fill_between(own["score"], own["low"], own["high"], color=colour, alpha=0.15, lw=0)
        percent(ax.xaxis)
        percent(ax.yaxis)
        if i + columns >= len(axes):
            ax.set_xlabel("test accuracy")
        if i % columns == 0:
            ax.set_ylabel("runs above it")
    legend(figure, lines, style)
    return figure


def _critical(study: Results, style: Style) -> Figure | None:
    found = ranks_of(study)
    if found is None:
        return None
    height = (0.9 + 0.24 * ((len(found.ranks) + 1) // 2) + 0.16 * len(found.groups)) / (1.25 * style.row_height)
    figure, (ax,) = grid_of([Panel("", found.ranks, "rank")], style, 1, height=height)
    _draw_ranks(ax, study, found)
    return figure


def _draw_ranks(ax: Axes, study: Results, found: Ranks) -> Axes:
    """Demšar's diagram: the best half of the levels at the left, bars below the axis over those that do not differ."""
    looks, average = lines_of(study).looks, found.ranks.set_index("activation")["rank"]
    levels, half = len(average), (len(average) + 1) // 2
    bars = 0.5 * len(found.groups)
    for place, (level, rank) in enumerate(average.items()):
        left = place < half
        row = bars + 0.9 * ((place if left else levels - 1 - place) + 1)
        end = 1 - 0.08 * (levels - 1) if left else levels + 0.08 * (levels - 1)
        name, colour, _ = looks[level]
        ax.plot([rank, rank, end], [0, row, row], color=colour, lw=1.6)
        label = f"{name}  {rank:.2f} " if left else f" {rank:.2f}  {name}"
        ax.text(end, row, label, ha="right" if left else "left", va="center")
    for place, group in enumerate(found.groups):
        ends = average.loc[group].iloc[[0, -1]] + np.array([-0.03, 0.03])
        ax.plot(ends, [0.35 + 0.5 * place] * 2, color="#555555", lw=4, solid_capstyle="butt")
    ax.plot([1, 1 + found.critical], [-0.9, -0.9], color="#555555", lw=1.6, marker="|")
    ax.text(1 + found.critical / 2, -1.05, f"critical difference {found.critical:.2f}", ha="center", va="bottom")
    ax.set_xlim(1 - 0.42 * (levels - 1), levels + 0.42 * (levels - 1))
    ax.set_ylim(bars + 0.9 * half + 0.5, -1.9)
    ax.set_xticks(range(1, levels + 1))
    ax.xaxis.set_ticks_position("top")
    ax.spines["bottom"].set_visible(False)
    ax.spines["left"].set_visible(False)
    ax.spines["top"].set(visible=True, position=("data", 0), bounds=(1, levels))
    ax.set_yticks([])
    ax.grid(False)
    return ax


def _profile_caption(study: Results) -> str:
    return (
        f"Share of runs, over all values of {tasks_told(study) or 'the data sets and architectures'} and all seeds, "
        "whose final test accuracy is above the value at the axis: a curve that lies higher is better at every level "
        "(performance profiles, Agarwal et al. 2021). Bands: pointwise 95 %, by a bootstrap of the seeds "
        "within each data set and architecture (percentiles of Hesterberg 2015)."
    )


def _rank_caption(study: Results) -> str:
    found = ranks_of(study)
    if found is None:
        return "Average ranks over data sets; shown from six data sets on."
    p = p_told(found.friedman)
    without = "" if found.friedman <= 0.05 else " Friedman's test finds no difference: read no pair from this."
    return (
        f"Average rank in test accuracy over {found.datasets} data sets, 1 the best; each rank is that of a mean over "
        f"seeds. Thick bars join activations whose ranks are less than {found.critical:.2f} apart (Nemenyi's test at "
        f"5 %); Friedman's test: {p}.{without} After Demšar 2006."
    )


ACROSS: tuple[FigureSpec, ...] = (
    FigureSpec(
        "performance_profiles",
        "How often each accuracy is reached",
        "across",
        _profile_caption,
        _profiles,
        View("curves", "profiles", "share"),
        terms=("performance profile", "interquartile mean", "chance of improvement"),
    ),
    FigureSpec(
        "critical_difference",
        "Average ranks over data sets",
        "across",
        _rank_caption,
        _critical,
        terms=("critical difference",),
    ),
)
