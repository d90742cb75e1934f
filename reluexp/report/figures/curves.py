"""Figures of curves over epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from reluexp.catalogue.metrics import METRICS
from reluexp.report.figures.axes import (
    KINDS,
    Variant,
    comparable,
    cross_of,
    drawn,
    dress,
    flat_values,
    hold,
    kinds_of,
    largest_values,
    panels_of,
)
from reluexp.report.figures.captions import band_note, ended_note, kept_note, of_picture
from reluexp.report.figures.spec import FigureSpec, View
from reluexp.report.lines import Lines, facets_of, lines_of, mark_undying, plain, short
from reluexp.report.panels import Panel, draw_curves, grid_of, legend, log_range
from reluexp.report.style import NARROW, Style
from reluexp.stats import Results, outcome_of, over_sites

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CURVES", "curve_figure", "none_note", "site_curves", "site_variants"]


def curve_figure(
    study: Results,
    style: Style,
    variants: Sequence[Variant],
    label: str,
    log: bool | None = False,
    share: str = "",
) -> Figure | None:
    """Curves over epochs for each facet and variant (title, frame, metric); `log=None` decides by the range.

    `share` says that values lie in [0, 1], and of what; shares of `dead` units mark activations that cannot die, and
    lines that are 0 throughout are left out, as the caption says.
    """
    facets, _ = facets_of(study, style.facets if len(variants) == 1 else style.facets // 2)
    panels = panels_of(study, facets, variants)
    if not any(panel.rows["epoch"].nunique() > 1 for panel in panels):
        return None  # networks at birth, or diverged before anything else was measured: the tables say as much
    finished = pd.concat([p.rows.loc[p.rows["outcome"] == "finished", p.metric].astype(float) for p in panels])
    log = log_range(finished) if log is None else log
    lines = _lines(study, panels, share)
    wide = 3 if style.width >= NARROW else 2
    columns = len(variants) if len(variants) > 1 else 2 if len(panels) in (2, 4) else wide
    figure, axes = grid_of(panels, style, columns, "xy" if comparable(facets) else "")
    for ax, panel in zip(axes, panels, strict=True):
        draw_curves(ax, panel, lines, style, log=log, share=bool(share))
    hold(axes, panels, log, from_zero=share in ("dead", "zero"))
    dress(axes, min(columns, len(panels)), label, bool(share))
    legend(figure, lines, style, cross_of(study))
    return figure


def _lines(study: Results, panels: Sequence[Panel], share: str) -> Lines:
    lines = mark_undying(study, lines_of(study)) if share == "dead" else lines_of(study)
    return drawn(panels, lines, flat_values(panels, lines) if share in ("dead", "zero") else ())


def _loss(study: Results, style: Style) -> Figure | None:
    variants = [("training loss", study.epochs, "train_loss"), ("test loss", study.epochs, "test_loss")]
    label = "cross-entropy (nats)" if outcome_of(study).share else "mean squared error"
    return curve_figure(study, style, variants, label, log=None)


def _accuracy(study: Results, style: Style) -> Figure | None:
    variants = [("", study.epochs, "test_accuracy")]
    return curve_figure(study, style, variants, METRICS["test_accuracy"].label, share="correct")


def _grad_norm(study: Results, style: Style) -> Figure | None:
    return curve_figure(study, style, [("", study.epochs, "grad_norm")], METRICS["grad_norm"].label, log=True)


def site_variants(study: Results, metric: str) -> list[Variant]:
    """A metric over all sites of each kind by their widths: dense and convolutional sites apart."""
    layers = study.layers
    if metric not in layers:
        return []
    kinds, columns = kinds_of(layers), ["trial", "epoch", "step", "site", "width", metric]
    return [
        (KINDS.get(kind, f"{kind} sites") if len(kinds) > 1 else "", over_sites(part, metric), metric)
        for kind in kinds
        for part in [layers.loc[layers["kind"] == kind, columns]]
    ]


def site_curves(name: str, share: str = "") -> Callable[[Results, Style], Figure | None]:
    """The drawing of a site metric over epochs."""

    def draw(study: Results, style: Style) -> Figure | None:
        metric, variants = METRICS[name], site_variants(study, name)
        return curve_figure(study, style, variants, metric.label, metric.log, share) if variants else None

    return draw


def _slopes(study: Results, style: Style) -> Figure | None:
    """The learned slope of each site over epochs, a panel for each site that has one."""
    layers = study.layers
    if layers.empty or "learned_slope_mean" not in layers:
        return None
    columns = ["trial", "epoch", "step", "site", "site_name", "learned_slope_mean"]
    rows = layers.loc[layers["learned_slope_mean"].notna(), columns]
    names = rows.drop_duplicates("site").set_index("site")["site_name"].sort_index()
    variants = [(plain(short(name)), rows[rows["site"] == site], "learned_slope_mean") for site, name in names.items()]
    return curve_figure(study, style, variants[:6], "learned slope, mean of the site") if variants else None


def none_note(study: Results, metric: str) -> str:
    """Which lines are left out since they are 0 throughout."""
    facets, _ = facets_of(study, Style().facets)
    lines = lines_of(study)
    flat = flat_values(panels_of(study, facets, [("", largest_values(study.layers, metric), metric)]), lines)
    told = f" 0 throughout, hence not drawn: {', '.join(lines.looks[value][0] for value in flat)}."
    return of_picture(told if flat else "")


CURVES: tuple[FigureSpec, ...] = (
    FigureSpec(
        "loss",
        "Loss",
        "outcome",
        lambda study: (
            "Training loss: mean over the epoch's steps, as trained; test loss: after the epoch. "
            f"On a log axis means are geometric. {band_note(study, 2)}{ended_note(study)}"
        ),
        _loss,
        View("curves", "epochs", "test_loss"),
        terms=("interval",),
    ),
    FigureSpec(
        "test_accuracy",
        "Test accuracy over training",
        "outcome",
        lambda study: f"Epoch 0 is before training. {band_note(study)}{kept_note(study)}",
        _accuracy,
        View("curves", "epochs", "test_accuracy"),
        terms=("interval", "diverged"),
    ),
    FigureSpec(
        "zero_fraction",
        "Sparsity over training",
        "signal",
        lambda study: (
            f"Share of hidden activations that are exactly 0. {band_note(study)}"
            f"{none_note(study, 'zero_fraction')}{kept_note(study)}"
        ),
        site_curves("zero_fraction", "zero"),
        View("curves", "layers", "zero_fraction"),
        terms=("zero fraction",),
    ),
    FigureSpec(
        "grad_norm",
        "Gradient norm over training",
        "signal",
        lambda study: (
            "L2 norm of the whole gradient before clipping, mean over the epoch's steps; means over seeds are "
            f"geometric and leave out exact zeros. {band_note(study)}{ended_note(study)}"
        ),
        _grad_norm,
        View("curves", "epochs", "grad_norm"),
    ),
    FigureSpec(
        "effective_rank",
        "Effective rank over training",
        "signal",
        lambda study: (
            "Exponential of the entropy of the normalised singular values of the centred activations (Roy & Vetterli "
            f"2007, there uncentred), mean over sites by their widths. {band_note(study)}{ended_note(study)}"
        ),
        site_curves("effective_rank"),
        View("curves", "layers", "effective_rank"),
        terms=("effective rank",),
    ),
    FigureSpec(
        "update_ratio",
        "Size of updates over training",
        "signal",
        lambda study: (
            "Root mean square over the last steps of ‖ΔW‖/‖W‖ of the layer that feeds a site, mean over sites by their "
            f"widths; means over seeds are geometric. {band_note(study)}{ended_note(study)}"
        ),
        site_curves("update_ratio"),
        View("curves", "layers", "update_ratio"),
        terms=("feeding layer",),
    ),
    FigureSpec(
        "learned_slopes",
        "Learned slopes",
        "signal",
        lambda study: (
            "Mean of the slopes below 0 that a site learned, for activations that learn one, by site. "
            f"{band_note(study)}{ended_note(study)}"
        ),
        _slopes,
        View("curves", "layers", "learned_slope_mean"),
    ),
)
