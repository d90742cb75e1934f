"""What figures of curves share: panels from frames, limits, ticks, labels, and which lines are worth drawing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reluexp.report.lines import Facet, Lines, joined
from reluexp.report.panels import Panel, log_ticks, percent
from reluexp.stats import Results, settings
from reluexp.stats.intervals import finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "KINDS",
    "Variant",
    "comparable",
    "cross_of",
    "drawn",
    "dress",
    "flat_values",
    "hold",
    "kinds_of",
    "largest_values",
    "panels_of",
    "shown_rows",
    "whole_ticks",
]

KINDS = {"conv": "convolutional sites", "dense": "dense sites", "token": "token sites"}
"""kinds of site in words, in the order of figures"""

Variant = tuple[str, pd.DataFrame, str]
"""a title, a frame and the metric of it that is drawn"""


def comparable(facets: list[Facet]) -> bool:
    """Whether panels may share an axis: not across data sets or architectures, whose scales mean different things."""
    apart = {"dataset", "dataset.name", "architecture", "architecture.name"}
    return not any(column in apart for facet in facets for column in facet.where)


def panels_of(study: Results, facets: list[Facet], variants: Sequence[Variant]) -> list[Panel]:
    """A panel for each facet and variant that has a finite value."""
    frames = [(title, shown_rows(study, frame, facets), metric) for title, frame, metric in variants if metric in frame]
    panels = []
    for facet in facets:
        for title, frame, metric in frames:
            rows = facet.of(frame)
            if np.isfinite(pd.to_numeric(rows[metric], errors="coerce").astype(float)).any():
                panels.append(Panel(" · ".join(filter(None, [facet.title, title])), rows, metric))
    return panels


def shown_rows(study: Results, frame: pd.DataFrame, facets: Sequence[Facet]) -> pd.DataFrame:
    """The rows of the trials in these facets, with their settings, seeds and outcomes."""
    trials = settings(study)
    shown = {trial for facet in facets for trial in facet.of(trials)["trial"]}
    return joined(study, frame if len(shown) == len(trials) else frame[frame["trial"].isin(shown)])


def largest_values(layers: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The largest size of a site metric in each trial and kind of site: all that a caption needs of a large table.

    A row each, with the columns of `layers` that panels are made of; epoch, site and its name say nothing. Empty where
    the metric is not measured.
    """
    if metric not in layers:
        return layers.iloc[:0]
    value = finite(layers[metric]).abs().where(layers["site"].notna())
    found = value.groupby([layers["trial"], layers["kind"]], sort=False).max().dropna().rename(metric).reset_index()
    return found.assign(epoch=0, site=0, site_name="")


def flat_values(panels: Sequence[Panel], lines: Lines) -> list[Any]:
    """The lines whose metric is exactly 0 in every panel, of which nothing is to be seen; none if all are so."""
    if not panels:
        return []
    rows = pd.concat([panel.rows[[lines.by]].assign(value=panel.rows[panel.metric]) for panel in panels])
    largest = rows.assign(value=rows["value"].abs()).groupby(lines.by)["value"].max()
    flat = [value for value in lines.looks if largest.get(value) == 0]
    return flat if len(flat) < len(largest.dropna()) else []


def drawn(panels: Sequence[Panel], lines: Lines, without: Collection[Any] = (), positive: bool = False) -> Lines:
    """The lines of which some panel has a finite value, or a positive one: no other belongs in a legend.

    Those `without` are left out, too.
    """
    found: set[Any] = set()
    for panel in panels:
        value = finite(panel.rows[panel.metric])
        found.update(panel.rows.loc[(value > 0) if positive else value.notna(), lines.by].unique())
    kept = found.difference(without)
    return Lines(lines.by, {value: look for value, look in lines.looks.items() if value in kept})


def dress(axes: list[Axes], columns: int, label: str, share: bool) -> None:
    """Axis labels where a reader looks for them, whole epochs, and percent for shares."""
    for i, ax in enumerate(axes):
        whole_ticks(ax, 8)
        if i + columns >= len(axes):
            ax.set_xlabel("epoch")
        if i % columns == 0:
            ax.set_ylabel(label)
        if share:
            percent(ax.yaxis)


def whole_ticks(ax: Axes, most: int) -> None:
    """Ticks at whole numbers, `most` at most."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    low, high = ax.get_xlim()
    single = [round((low + high) / 2)] if high - low <= 1 else None
    ax.xaxis.set_major_locator(
        FixedLocator(single) if single else MaxNLocator(integer=True, nbins=most, steps=[1, 2, 5, 10])
    )


def hold(axes: Sequence[Axes], panels: Sequence[Panel], log: bool, from_zero: bool = False) -> None:
    """Limits by the trials that finished: a diverging curve may leave the axes, but not squeeze the others."""
    sharing = axes[0].get_shared_y_axes()
    first_of: dict[int, list[int]] = {}
    for i, ax in enumerate(axes):
        first = next(k for k, other in enumerate(axes) if other is ax or sharing.joined(other, ax))
        first_of.setdefault(first, []).append(i)
    for first, same in first_of.items():
        values = _finished([panels[i] for i in same])
        values = values[np.isfinite(values) & ((values > 0) if log else True)]
        if len(values):
            axes[first].set_ylim(*_limits(float(values.min()), float(values.max()), log, from_zero))
            if log:
                for i in same:
                    log_ticks(axes[i].yaxis)


def _finished(panels: Sequence[Panel]) -> pd.Series:
    """The values of trials that finished; of all where none did."""
    rows = pd.concat([panel.rows[["outcome"]].assign(value=panel.rows[panel.metric].astype(float)) for panel in panels])
    ended = rows["outcome"] == "finished"
    return (rows[ended] if ended.any() else rows)["value"]


def _limits(low: float, high: float, log: bool, from_zero: bool) -> tuple[float, float]:
    """Bounds of an axis with some air around the values."""
    if log:
        return low / 1.3, high * 1.3
    if from_zero:
        top = max(high * 1.06, 0.01)
        return -0.015 * top, top
    air = 0.04 * (high - low) or max(abs(high) * 0.05, 0.01)
    return low - air, high + air


def cross_of(study: Results) -> list[tuple[Any, str]]:
    """The legend's entry for diverged trials, where there are any."""
    from matplotlib.lines import Line2D

    if not settings(study)["outcome"].eq("diverged").any():
        return []
    return [(Line2D([], [], color="#555555", marker="x", ls="", mew=1.6), "diverged")]


def kinds_of(layers: pd.DataFrame) -> list[str]:
    """The kinds of hidden sites in a study, in the order of figures."""
    kinds = set(layers.loc[layers["site"].notna(), "kind"].dropna().unique()) if len(layers) else set()
    return sorted(kinds, key=lambda kind: (list(KINDS).index(kind) if kind in KINDS else 99, kind))
