"""Figures in which each trial is a dot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reluexp.report.figures.axes import KINDS
from reluexp.report.figures.captions import count_note, facet_note, of_picture
from reluexp.report.figures.spec import FigureSpec, View
from reluexp.report.frames.lives import starved_and_dead
from reluexp.report.lines import Lines, facets_of, lines_of
from reluexp.report.panels import Panel, grid_of, legend, percent
from reluexp.report.style import NARROW, Style
from reluexp.stats import (
    ACCURACY,
    LOSS,
    Interval,
    Outcome,
    Results,
    final_metrics,
    learned,
    mean_interval,
    outcome_of,
    outcomes_told,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DOTS", "RELATIONS"]

_FATES = {"finished": ("o", 13, "one trial"), "stuck": ("v", 26, "stuck"), "diverged": ("x", 34, "diverged")}
"""marker, size in points², and the word for each way in which a trial can end"""
_BESIDE = 22  # characters of a label beside which two panels have room
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def _final(study: Results, style: Style, outcome: Outcome) -> Figure | None:
    """Every trial's final outcome as a dot; beside it without diverged and stuck trials, where there are any."""
    final, lines = final_metrics(study), lines_of(study)
    if outcome_of(study) != outcome or final[outcome.metric].notna().sum() == 0:
        return None
    facets, _ = facets_of(study, style.facets // len(_variants(final)))
    shown = [(facet.title, *variant) for facet in facets for variant in _variants(facet.of(final))]
    panels = [Panel("\n".join(filter(None, [where, title])), rows, outcome.metric) for where, title, rows in shown]
    longest = max(len(label) for label, _, _ in lines.looks.values())
    columns = 2 if len(panels) > 1 and longest <= _BESIDE and style.width >= NARROW else 1
    height = max(0.55, (0.5 + 0.3 * len(lines.looks)) / style.row_height)
    figure, axes = grid_of(panels, style, columns, height=height)
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw_dots(ax, panel, lines, outcome)
        ax.locator_params(axis="x", nbins=5 if columns == 1 else 3)
        if i + columns >= len(axes):
            ax.set_xlabel(f"final {outcome.name}")
    for variant in dict.fromkeys(title for _, title, _ in shown):  # what is told apart by eye has one scale
        _share_scale([ax for ax, (_, title, _) in zip(axes, shown, strict=True) if title == variant])
    legend(figure, Lines("", {}), style, _dot_key(pd.concat([panel.rows for panel in panels])))
    return figure


def _share_scale(axes: Sequence[Axes]) -> None:
    ends = [ax.get_xlim() for ax in axes]
    for ax in axes:
        ax.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))


def _variants(final: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """All trials, and, where some but not all were lost, those that learned."""
    sound = learned(final)
    lost = ~sound & final["outcome"].ne("failed")
    both = [("all trials", final), ("without diverged and stuck", final[sound])]
    return both if lost.any() and sound.any() else [("", final)]


def _draw_dots(ax: Axes, panel: Panel, lines: Lines, outcome: Outcome) -> Axes:
    """A row for each line in the panel: dots, ×, triangles, the mean with its interval, how many trials are shown."""
    there = set(panel.rows[lines.by])
    looks = {value: look for value, look in lines.looks.items() if value in there}
    for row, (value, (_, colour, _)) in enumerate(looks.items()):
        own = panel.rows[panel.rows[lines.by] == value].sort_values("seed")
        _dots_of(ax, row, own, colour, outcome)
        shown = int(own[outcome.metric].notna().sum())
        about: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
        ax.annotate(f"{shown} of {len(own)}", (1, row), (5, 0), fontsize=8, **about)
    ax.margins(x=0.06)  # half a marker, at least
    ax.set_yticks(range(len(looks)), [label for label, _, _ in looks.values()])
    ax.set_ylim(len(looks) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    if outcome.share:
        percent(ax.xaxis)
    return ax


def _dots_of(ax: Axes, row: int, own: pd.DataFrame, colour: str, outcome: Outcome) -> None:
    own = own[own[outcome.metric].notna()]
    heights = row + (np.linspace(-0.22, 0.22, len(own)) if len(own) > 1 else np.zeros(len(own)))
    for fate, (marker, size, _) in _FATES.items():
        flag = (outcomes_told(own) == fate).to_numpy()
        if flag.any():
            dots = ax.scatter(own[outcome.metric][flag], heights[flag], s=size, marker=marker, color=colour)
            dots.set(clip_on=False, rasterized=len(own) > 100, alpha=0.5 if fate == "finished" else 0.9, linewidths=1.5)
    found: Interval = mean_interval(own[outcome.metric])
    if found.n > 1:
        most = 1 if outcome.share else math.inf
        ends = [[found.mean - max(found.low, 0)], [min(found.high, most) - found.mean]]
        ax.errorbar(found.mean, row, xerr=ends, color="black", lw=1.6, capsize=4, zorder=5)
    if found.n:
        ax.plot([found.mean], [row], marker="D", ms=4.5, color="white", mec="black", mew=1.2, zorder=6, clip_on=False)


def _dot_key(final: pd.DataFrame) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    def dot(marker: str, colour: str = "#555555", edge: str | None = None) -> Line2D:
        return Line2D([], [], marker=marker, ls="", color=colour, mec=edge or colour, mew=1.4, ms=5.5)

    seen = set(outcomes_told(final))
    mean = "mean with 95 % interval" if final["seed"].nunique() > 1 else "mean"
    found = [(dot(marker), text) for fate, (marker, _, text) in _FATES.items() if fate in seen]
    return [*found, (dot("D", "white", "black"), mean)]


def _scatter(
    study: Results, style: Style, rows: pd.DataFrame, across: tuple[str, str], up: tuple[str, str], diagonal: bool
) -> Figure | None:
    """One dot for each row: `across` and `up` are (metric, label); a panel for each facet and kind of site."""
    lines = lines_of(study)
    rows = rows[rows[across[0]].notna() & rows[up[0]].notna()]
    facets, _ = facets_of(study, style.facets)
    kinds = list(dict.fromkeys(rows["kind"])) if "kind" in rows else [""]
    panels = [
        Panel(" · ".join(filter(None, [facet.title, KINDS.get(kind, kind) if len(kinds) > 1 else ""])), own, up[0])
        for facet in facets
        for kind in kinds
        if len(own := facet.of(rows[rows["kind"] == kind] if kind else rows))
    ]
    if not panels:
        return None
    columns = min(2, len(panels))
    figure, axes = grid_of(panels, style, columns, height=1.1)
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw_scatter(ax, panel, lines, across[0], diagonal)
        if i + columns >= len(axes):
            ax.set_xlabel(across[1])
        if i % columns == 0:
            ax.set_ylabel(up[1])
    legend(figure, Lines("", {}), style, _line_key(lines))
    return figure


def _draw_scatter(ax: Axes, panel: Panel, lines: Lines, across: str, diagonal: bool) -> Axes:
    for number, (value, (_, colour, _)) in enumerate(lines.looks.items()):
        own = panel.rows[panel.rows[lines.by] == value].groupby([across, panel.metric]).size().reset_index(name="count")
        sizes = 18 * np.sqrt(own["count"].to_numpy(float))
        marker = _MARKERS[number % len(_MARKERS)]
        dots = ax.scatter(own[across], own[panel.metric], s=sizes, marker=marker, color=colour)
        dots.set(alpha=0.55, linewidths=0, rasterized=len(panel.rows) > 300)
    if diagonal:
        ax.axline((0, 0), slope=1, color="#777777", lw=0.9, ls=":")
    for axis in (ax.xaxis, ax.yaxis):
        percent(axis)
    for set_limits, metric in ((ax.set_xlim, across), (ax.set_ylim, panel.metric)):
        if not panel.rows[metric].any():  # nothing but zeros: no room below them
            set_limits(-0.0005, 0.01)
    ax.locator_params(axis="x", nbins=6)
    return ax


def _line_key(lines: Lines) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    return [
        (Line2D([], [], marker=_MARKERS[i % len(_MARKERS)], ls="", color=colour, ms=5.5, mew=0), label)
        for i, (label, colour, _) in enumerate(lines.looks.values())
    ]


def _starved(study: Results, style: Style) -> Figure | None:
    rows = starved_and_dead(study)
    if rows.empty:
        return None
    return _scatter(
        study, style, rows, ("dead_fraction", "dead on the probe"), ("starved_fraction", "starved in the epoch"), True
    )


def _relation(study: Results, style: Style) -> Figure | None:
    final = final_metrics(study)
    final = final[final["outcome"] != "failed"]
    across = ("off_fraction", "units that are off at the end")
    return _scatter(study, style, final, across, ("test_accuracy", "final test accuracy"), False)


def _final_spec(name: str, outcome: Outcome) -> FigureSpec:
    return FigureSpec(
        name,
        f"Final {outcome.name}",
        "outcome",
        lambda study: (
            f"One dot for each trial; diamond: mean with its 95 % t interval. {count_note(study)}"
            f"{of_picture(' The numbers at the right say how many trials are in a row.')}"
            f"{facet_note(study, len(_variants(final_metrics(study))))}"
        ),
        partial(_final, outcome=outcome),
        View("dots", across=outcome.metric),
        terms=("stuck", "diverged", "interval"),
    )


DOTS: tuple[FigureSpec, ...] = (
    _final_spec("final_accuracy", ACCURACY),
    _final_spec("final_loss", LOSS),
)

RELATIONS: tuple[FigureSpec, ...] = (
    FigureSpec(
        "off_and_accuracy",
        "Silent units and accuracy",
        "outcome",
        lambda study: (
            "One dot for each trial: units with no pre-activation above 0 at the end, and test accuracy. A relation "
            "over trials is no cause, and no verdict rests on it: the intervention init.dead decides. "
            f"{count_note(study, False)}{facet_note(study)}"
        ),
        _relation,
        View("dots", across="off_fraction", up="test_accuracy"),
        terms=("off",),
    ),
    FigureSpec(
        "starved_and_dead",
        "Starved against dead",
        "life",
        lambda study: (
            "One dot for each trial and hidden site, at the last epoch; where several coincide it is larger. "
            "Starved: the gradient of the unit's bias was exactly 0 at every step of the epoch, as trained. On the "
            "dotted line both agree; above it units got no gradient without being dead on the probe. "
            f"{count_note(study, False)}{facet_note(study)}"
        ),
        _starved,
        terms=("starved", "dead"),
    ),
)
