"""Figures over the depth of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd

from reluexp.catalogue.metrics import METRICS
from reluexp.report.figures.axes import Variant, comparable, drawn, hold, panels_of, whole_ticks
from reluexp.report.figures.captions import band_note
from reluexp.report.figures.spec import FigureSpec, View
from reluexp.report.lines import Lines, facets_of, lines_of
from reluexp.report.panels import Panel, draw_curves, grid_of, legend
from reluexp.report.style import Style
from reluexp.stats import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DEPTHS"]


def _over_depth(metric: str) -> Callable[[Results, Style], Figure | None]:
    """The drawing of a positive site metric by depth, at the first and at the last measurement that has it."""

    def draw(study: Results, style: Style) -> Figure | None:
        rows = _measured(study, metric)
        if rows.empty or rows["depth"].max() < 2:
            return None
        step = rows.groupby("trial")["step"]
        first, last = rows[rows["step"] == step.transform("min")], rows[rows["step"] == step.transform("max")]
        variants = [("at birth", first, metric)]
        if rows["step"].max() > rows["step"].min():
            variants.append(("at the end", last[last["step"] > 0], metric))
        return _depth_figure(study, style, variants, METRICS[metric].label)

    return draw


def _depth_figure(study: Results, style: Style, variants: list[Variant], label: str) -> Figure | None:
    facets, _ = facets_of(study, style.facets // 2)
    panels = panels_of(study, facets, variants)
    if not panels:
        return None
    lines = drawn(panels, lines_of(study), positive=True)
    figure, axes = grid_of(panels, style, len(variants), "y" if comparable(facets) else "")
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw_depth(ax, panel, lines, style)
        if i + len(variants) >= len(axes):
            ax.set_xlabel("hidden site, input → output")
        if i % len(variants) == 0:
            ax.set_ylabel(label)
    hold(axes, panels, log=True)
    legend(figure, lines, style)
    return figure


def _measured(study: Results, metric: str) -> pd.DataFrame:
    """The rows of hidden sites that have the metric, with their place in the network from 1 on."""
    layers = study.layers
    if layers.empty or metric not in layers:
        return layers.iloc[:0]
    value = pd.to_numeric(layers[metric], errors="coerce").astype(float)
    about = layers[["trial", "epoch", "step", "site", "kind"]].assign(**{metric: value})
    rows = about[layers["site"].notna() & value.notna()]
    return rows.assign(depth=rows["site"].astype(int) - int(rows["site"].min()) + 1) if len(rows) else rows


def _draw_depth(ax: Axes, panel: Panel, lines: Lines, style: Style) -> Axes:
    """Lines over depth that break between convolutional and dense sites, whose units are seen at unlike many places.

    Kinds that alternate, as sums of branches do with what feeds them, are one line.
    """
    kinds = panel.rows.groupby("kind", sort=False)["depth"].agg(["min", "max"]).sort_values("min")
    if (kinds["max"].to_numpy()[:-1] > kinds["min"].to_numpy()[1:]).any():
        panel = Panel(panel.title, panel.rows.assign(kind=""), panel.metric)
        kinds = panel.rows.groupby("kind")["depth"].agg(["min", "max"])
    for kind, _ in kinds.iterrows():
        rows = panel.rows[panel.rows["kind"] == kind]
        draw_curves(ax, Panel(panel.title, rows, panel.metric), lines, style, x="depth", log=True, crosses=False)
    for kind, extent in kinds.iterrows():
        if len(kinds) > 1:
            centre = (extent["min"] + extent["max"]) / 2
            ax.annotate(str(kind), (centre, 0.98), xycoords=("data", "axes fraction"), ha="center", va="top", size=8)
    for end in kinds["max"].iloc[:-1]:
        ax.axvline(end + 0.5, color="#999999", lw=0.8)
    ax.set_xlim(kinds["min"].min() - 0.3, kinds["max"].max() + 0.3)
    whole_ticks(ax, 10)
    return ax


DEPTHS: tuple[FigureSpec, ...] = (
    FigureSpec(
        "backprop_by_depth",
        "Gradient by depth",
        "signal",
        lambda study: (
            "Root mean square of the derivative of a sample's loss by the pre-activations of each hidden "
            "site, before training and at the last full measurement. Means are geometric and leave out exact zeros. "
            f"{band_note(study, 2, False)}"
        ),
        _over_depth("backprop_norm"),
        View("depth", "layers", "backprop_norm"),
        terms=("backprop norm",),
    ),
    FigureSpec(
        "spread_by_depth",
        "Spread of pre-activations by depth",
        "signal",
        lambda study: (
            "Standard deviation of the pre-activations of each hidden site over samples, positions and units, before "
            f"training and at the end. Means are geometric. {band_note(study, 2, False)}"
        ),
        _over_depth("pre_std"),
        View("depth", "layers", "pre_std"),
    ),
)
