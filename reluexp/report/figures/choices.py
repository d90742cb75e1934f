"""Figures of how much the answer depends on choices: thresholds, the probe's size, the value of an axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reluexp.catalogue.metrics import METRICS
from reluexp.report.figures.axes import KINDS, comparable, drawn, flat_values, hold, kinds_of, panels_of
from reluexp.report.figures.captions import count_note, facet_note, of_picture
from reluexp.report.figures.spec import FigureSpec, View
from reluexp.report.frames.choices import (
    along,
    dormant_shares,
    firing_rates,
    numeric_axis,
    over_axis,
    probe_shares,
    saturated_shares,
)
from reluexp.report.lines import Facet, Lines, activation_looks, facet_at, facets_of, lines_of, plain
from reluexp.report.panels import Panel, by_factors, draw_curves, grid_of, legend, percent, power_ticks
from reluexp.report.style import Style
from reluexp.stats import Results, axis_names, has_many_axes, other_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CHOICES"]

_MARKS = {"saturated": ((0.001, "10⁻³"),), "dormant": ((0.025, "0.025"), (0.1, "0.1"))}
"""thresholds that the tables use, or other papers do"""
_WORDS = {"lr": "learning rate"}


def _share_figure(
    study: Results,
    style: Style,
    variants: list[tuple[str, pd.DataFrame, str]],
    x: str,
    labels: dict[str, str],
    log: bool,
    finish: Callable[[Axes, Panel], None] = lambda ax, panel: None,
) -> Figure | None:
    """Shares of units over x for each facet and variant, without the single trials.

    `labels` name the x axes by the rows' `shares`; `finish` is what is left to do with each.
    """
    facets, _ = facets_of(study, style.facets // 4)
    panels = panels_of(study, facets, variants)
    if not panels:
        return None
    columns = min(2, len(panels))
    figure, axes = grid_of(panels, style, columns, "")
    lines = lines_of(study)
    lines = drawn(panels, lines, flat_values(panels, lines))
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        draw_curves(ax, panel, lines, replace(style, seeds=0), x=x, share=True)
        _share_axes(ax, log, i % columns == 0)
        if i + columns >= len(axes):
            ax.set_xlabel(labels[panel.rows["shares"].iloc[0]])
        finish(ax, panel)
    legend(figure, lines, style)
    return figure


def _share_axes(ax: Axes, log: bool, first: bool) -> None:
    if log:
        ax.set_xscale("log")
        power_ticks(ax.xaxis)
    bands = [np.asarray(path.vertices)[:, 1].max() for band in ax.collections for path in band.get_paths()]
    top = max([ax.get_ylim()[1], *(min(1.02, 1.05 * high) for high in bands)])
    ax.set_ylim(-0.015 * top, top)
    percent(ax.yaxis)
    if first:
        ax.set_ylabel("share of units")


def _titled(study: Results, frames: dict[str, pd.DataFrame], metric: str) -> list[tuple[str, pd.DataFrame, str]]:
    """A variant for each frame and kind of site."""
    kinds = kinds_of(study.layers)
    return [
        (
            " · ".join(filter(None, [name, KINDS.get(kind, kind) if len(kinds) > 1 else ""])),
            rows.assign(shares=name),
            metric,
        )
        for kind in kinds
        for name, frame in frames.items()
        if "kind" in frame and len(rows := frame[frame["kind"] == kind])
    ]


def _thresholds(study: Results, style: Style) -> Figure | None:
    frames = {"saturated": saturated_shares(study), "dormant": dormant_shares(study)}
    variants = _titled(study, frames, "share")
    if not variants:
        return None
    labels = {"saturated": "max |f′(z)| / s_f below", "dormant": "mean |h| / layer's mean at most"}
    return _share_figure(study, style, variants, "threshold", labels, log=True, finish=_mark_thresholds)


def _mark_thresholds(ax: Axes, panel: Panel) -> None:
    for place, text in _MARKS[panel.rows["shares"].iloc[0]]:
        ax.axvline(place, color="#777777", lw=0.9, ls=":")
        ax.annotate(f" {text}", (place, 0.99), xycoords=("data", "axes fraction"), size=7.5, ha="left", va="top")


def _probe(study: Results, style: Style) -> Figure | None:
    frame = probe_shares(study)
    variants = _titled(study, {"": frame}, "share")
    if not variants:
        return None
    return _share_figure(
        study, style, variants, "samples", {"": "samples in the probe"}, log=True, finish=_small_shares
    )


def _small_shares(ax: Axes, panel: Panel) -> None:
    """A y axis that is linear below 1 %, so that 0 and small shares are seen."""
    ax.set_yscale("symlog", linthresh=0.01, linscale=0.6)
    ax.set_ylim(0, 1)
    ax.set_yticks([0, 0.005, 0.01, 0.1, 1], ["0", "0.5 %", "1 %", "10 %", "100 %"])
    ax.yaxis.minorticks_off()


def _firing(study: Results, style: Style) -> Figure | None:
    variants = _titled(study, {"": firing_rates(study)}, "share")
    return _share_figure(study, style, variants, "rate", {"": "firing rate at most"}, log=False) if variants else None


def _axis(study: Results, style: Style) -> Figure | None:
    """Final accuracy, and dead units, against the values of a numeric axis; a line for each activation."""
    axis = numeric_axis(study)
    if axis is None:
        return None
    final = over_axis(study, axis)
    facets = _facets_along(study, axis)[: style.facets // 2]
    variants = [(METRICS[name].label, final, name) for name in ("test_accuracy", "dead_fraction")]
    panels = [
        Panel(" · ".join(filter(None, [facet.title, title])), rows, metric)
        for facet in facets
        for title, frame, metric in variants
        if (rows := facet.of(frame))[metric].notna().any()
    ]
    if not panels:
        return None
    lines = drawn(panels, _activation_lines({label for panel in panels for label in panel.rows["activation"]}))
    columns, alike = min(2, len(panels)), comparable(facets) and not has_many_axes(study)
    figure, axes = grid_of(panels, style, columns, "x" if alike else "")
    name = axis_names(other_axes(study))[axis]
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        draw_curves(ax, panel, lines, replace(style, seeds=0), x=axis, share=True)
        _axis_dress(ax, (final if alike else panel.rows)[axis], _WORDS.get(name, name), i + columns >= len(axes))
    hold(axes, panels, log=False, from_zero=True)
    legend(figure, lines, style)
    return figure


def _axis_dress(ax: Axes, values: pd.Series, name: str, last: bool) -> None:
    from matplotlib.ticker import NullFormatter

    found = np.sort(values.unique())
    if by_factors(found):
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
    if len(found) <= 8:
        ax.set_xticks(found, [f"{value:g}" for value in found])
    percent(ax.yaxis)
    if last:
        ax.set_xlabel(plain(name))


def _activation_lines(labels: Iterable[str]) -> Lines:
    """Activations as lines even where there is one."""
    return Lines("activation", activation_looks(labels))


def _facets_along(study: Results, axis: str) -> list[Facet]:
    """The settings in which an axis has several values, those with the most first."""
    return [facet_at(study, where) for where, values in along(study, axis) if len(values) > 1]


def _bands(study: Results) -> str:
    return f"Line: mean over trials; band: pointwise 95 % t interval. {count_note(study, False)}"


CHOICES: tuple[FigureSpec, ...] = (
    FigureSpec(
        "axis_sensitivity",
        "Sensitivity to the setting",
        "outcome",
        lambda study: (
            "At the end of training, against the values of the axis; a diverged trial stays in with its last finite "
            f"value, else chance. {_bands(study)}"
        ),
        _axis,
        View("curves", "axis", "test_accuracy"),
        terms=("diverged",),
    ),
    FigureSpec(
        "threshold_sensitivity",
        "Shares against the threshold",
        "sensitivity",
        lambda study: (
            "Every paper chooses another threshold. Saturated: the largest |f′(z)| over the probe, relative to the "
            "activation's own reference slope, is below it (at its left end only exactly dead units are left). "
            "Dormant: mean |h| is at most that share of the layer's mean (Sokar et al. 2023). "
            f"{of_picture('Dotted: the thresholds in the tables. ')}Measured at the end. {_bands(study)}"
            f"{facet_note(study, 4)}"
        ),
        _thresholds,
        View("curves", "thresholds", "dormant"),
        terms=("saturated", "dormant"),
    ),
    FigureSpec(
        "probe_sensitivity",
        "Dead units against the size of the probe",
        "sensitivity",
        lambda study: (
            "Share of hidden units that would be called dead on a probe of the first n training samples, at the end of "
            "training, up to where the last unit responded on the whole training set."
            f"{of_picture(' Below 1 % the axis is linear. What is 0 throughout is not drawn.')} "
            f"{_bands(study)}{facet_note(study, 4)}"
        ),
        _probe,
        View("curves", "probe", "share"),
        terms=("confirmed dead", "probe set"),
    ),
    FigureSpec(
        "firing_rates",
        "Distribution of firing rates",
        "signal",
        lambda study: (
            "Share of hidden units that respond (|f′(z)| ≥ 10⁻³ of the reference slope) at no more than this share of "
            f"samples and positions, at the end. {_bands(study)}{facet_note(study, 4)}"
        ),
        _firing,
        View("curves", "firing", "share"),
        terms=("firing rate",),
    ),
)
