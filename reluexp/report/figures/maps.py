"""Heat maps of a site metric, layer by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reluexp.report.figures.axes import KINDS, flat_values, kinds_of, largest_values, shown_rows, whole_ticks
from reluexp.report.figures.captions import count_note, dagger_note, kept_note, of_picture
from reluexp.report.figures.spec import FigureSpec, View
from reluexp.report.lines import Lines, facets_of, lines_of, mark_undying, plain, short
from reluexp.report.panels import Panel, grid_of, log_ticks
from reluexp.report.style import NARROW, Style
from reluexp.stats import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

__all__ = ["MAPS"]

_LONG, _WIDE = 17, 34  # characters over one of four panels beside each other, and of two
_NAMED = 0.19  # inches of a map for the name of a site, evenly spaced
_ROW = 0.62  # of the height of other panels
_MAPS = 16  # panels of one heat map figure; more would be too small to read


@dataclass(frozen=True)
class _Look:
    """How a metric is coloured: its label, colour map, and ticks of a share, or None for powers of ten."""

    metric: str
    label: str
    colours: str
    ticks: tuple[float, ...] | None


_DEAD = _Look("dead_fraction", "dead units (%)", "magma_r", (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1))
_GRADIENT = _Look("backprop_norm", "backprop norm", "viridis", None)


def _map_figure(study: Results, style: Style, look: _Look) -> Figure | None:
    """Heat maps [site, epoch] of the mean over trials: a column for each line, a row for each facet and kind."""
    lines = mark_undying(study, lines_of(study)) if look is _DEAD else lines_of(study)
    columns = _columns(study, lines, style)
    panels, _ = _map_panels(study, study.layers, lines, style, columns, look.metric)
    if not panels:
        return None
    columns = min(columns, len(panels))
    figure, axes = grid_of(panels, style, columns, height=_ROW)
    names = max(2, min(8, int(style.row_height * _ROW * 0.7 / _NAMED)))  # a title and ticks take the rest
    norm = _norm(look, panels)
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        same = i % columns and _site_names(panel).equals(_site_names(panels[i - 1]))
        mesh = _draw_map(ax, panel, look, norm, 0 if same else names)
        if i + columns >= len(axes):
            ax.set_xlabel("epoch")
    height = figure.bbox.height / figure.dpi
    bar = figure.colorbar(mesh, ax=axes, shrink=min(1.0, 2.4 / height + 0.35), pad=0.02, aspect=28)
    bar.set_label(look.label)
    if not look.ticks:
        log_ticks(bar.ax.yaxis)
    else:
        bar.set_ticks(list(look.ticks), labels=[f"{100 * tick:g}" for tick in look.ticks])
    return figure


def _columns(study: Results, lines: Lines, style: Style) -> int:
    """Two beside each other where the settings' names need the room, else up to four."""
    facets, _ = facets_of(study, style.facets)
    most = 2 if style.width < NARROW or any(len(facet.title) > _LONG for facet in facets) else 4
    return min(most, len(lines.looks))


def _norm(look: _Look, panels: Sequence[Panel]) -> Normalize:
    """Shares grow with the square root, so that a few dead units are seen at all; norms are in logs.

    Their range is that of the trials that finished: what a diverging one reaches would hide the others.
    """
    from matplotlib.colors import LogNorm, PowerNorm

    if look.ticks:
        return PowerNorm(0.5, 0, 1)
    rows = pd.concat([panel.rows[["outcome", look.metric]] for panel in panels])
    ended = rows["outcome"] == "finished"
    values = (rows[ended] if ended.any() else rows)[look.metric]
    values = values[np.isfinite(values) & (values > 0)]
    return LogNorm(float(values.min()), max(float(values.max()), float(values.min()) * 1.01))


def _map_panels(
    study: Results, layers: pd.DataFrame, lines: Lines, style: Style, columns: int, metric: str
) -> tuple[list[Panel], list[Any]]:
    """The panels that are drawn, and the lines left out since the metric is 0 in all of theirs."""
    if layers.empty or metric not in layers:
        return [], []
    known = layers["site"].notna() & np.isfinite(pd.to_numeric(layers[metric], errors="coerce").astype(float))
    known = known & (layers[metric] > 0) if metric == "backprop_norm" else known
    facets, _ = facets_of(study, style.facets)
    words = {name: layers[name].astype("category")[known] for name in ("site_name", "kind")}  # few, and many rows
    rows = shown_rows(study, layers.loc[known, ["trial", "epoch", "site", metric]].assign(**words), facets)
    kinds = kinds_of(layers)
    flat = flat_values([Panel("", rows, metric)], lines)
    several = len(facets) > 1 or len(kinds) > 1
    between, length = ("\n", 17) if columns > 3 or several else (" · ", 24)
    panels = []
    for facet in facets:
        for kind in kinds:
            for value in [value for value in lines.looks if value not in flat]:
                own = facet.of(rows[(rows["kind"] == kind) & (rows[lines.by] == value)])
                if len(own):
                    own = own if metric == "backprop_norm" else _carried(own, metric, facet.of(rows)["epoch"].unique())
                    where = filter(None, [fill(facet.title, _WIDE), KINDS.get(kind, kind) if len(kinds) > 1 else ""])
                    panels.append(Panel(between.join([short(lines.looks[value][0], length), *where]), own, metric))
    return panels[:_MAPS], flat


def _carried(rows: pd.DataFrame, metric: str, epochs: np.ndarray) -> pd.DataFrame:
    """The rows, those of diverged trials with their last value at all later epochs: as if they had left, a net would
    seem to have recovered.
    """
    ended = rows["outcome"].eq("diverged")
    if not ended.any():
        return rows
    last = rows[ended].sort_values("epoch").drop_duplicates(["trial", "site"], keep="last")
    later = last.drop(columns="epoch").merge(pd.DataFrame({"epoch": epochs}), how="cross")
    ends = later.merge(last[["trial", "site", "epoch"]], on=["trial", "site"], suffixes=("", "_end"))
    return pd.concat([rows, ends.loc[ends["epoch"] > ends["epoch_end"], rows.columns]], ignore_index=True)


def _site_names(panel: Panel) -> pd.Series:
    """The names of a panel's sites in the order of the forward pass."""
    return panel.rows.drop_duplicates("site").set_index("site")["site_name"].sort_index()


def _draw_map(ax: Axes, panel: Panel, look: _Look, norm: Normalize, most: int) -> QuadMesh:
    """One heat map with so many names of sites at most; norms are averaged in logs."""
    values = panel.rows[panel.metric].astype(float)
    rows = panel.rows.assign(_value=values if look.ticks else np.log10(values))
    table = rows.pivot_table(index="site", columns="epoch", values="_value", aggfunc="mean")
    names = _site_names(panel).reindex(table.index)
    mesh = ax.pcolormesh(
        _edges(table.columns.to_numpy(float)),
        np.arange(len(table) + 1) - 0.5,
        table.to_numpy(float) if look.ticks else 10 ** table.to_numpy(float),
        norm=norm,
        cmap=look.colours,
        rasterized=True,
    )
    ticks = np.arange(0, len(table), -(-len(table) // (most or 8)))
    ax.set_yticks(ticks, [plain(short(names.iloc[i], 12)) for i in ticks] if most else [""] * len(ticks))
    ax.invert_yaxis()
    ax.grid(False)
    ax.tick_params(labelsize=8)
    whole_ticks(ax, 5)
    return mesh


def _edges(centres: np.ndarray) -> np.ndarray:
    """Borders half-way between measurements, and half an epoch beyond the first and the last.

    >>> _edges(np.array([0.0, 1.0, 3.0])).tolist()
    [-0.5, 0.5, 2.0, 3.5]
    """
    return np.concatenate([[centres[0] - 0.5], (centres[1:] + centres[:-1]) / 2, [centres[-1] + 0.5]])


def _map_note(study: Results, metric: str) -> str:
    facets, _ = facets_of(study, 10_000)
    lines, layers = lines_of(study), study.layers
    shown, flat = _map_panels(study, largest_values(layers, metric), lines, Style(), 1, metric)
    panels = len(facets) * (len(lines.looks) - len(flat)) * max(1, len(kinds_of(layers)))
    none = f" 0 throughout, hence no map: {', '.join(lines.looks[value][0] for value in flat)}." if flat else ""
    left = panels - len(shown)
    return of_picture(f"{none} {left} of {panels} maps have no place or no data here." if shown and left else none)


MAPS: tuple[FigureSpec, ...] = (
    FigureSpec(
        "dead_by_layer",
        "Dead units by layer and epoch",
        "life",
        lambda study: (
            "Mean share of dead units over trials; the first hidden site is at the top. One colour scale, "
            f"growing with the square root. {count_note(study, False)}{dagger_note(study)}"
            f"{_map_note(study, 'dead_fraction')}{kept_note(study)}"
        ),
        lambda study, style: _map_figure(study, style, _DEAD),
        View("map", "layers", "dead_fraction"),
        terms=("dead", "site"),
    ),
    FigureSpec(
        "gradient_by_layer",
        "Gradient by layer and epoch",
        "signal",
        lambda study: (
            "Root mean square of the derivative of a sample's loss by the pre-activations, geometric mean over trials "
            "without exact zeros, at the full measurements; the first hidden site is at the top. "
            f"{count_note(study, False)}{_map_note(study, 'backprop_norm')}"
        ),
        lambda study, style: _map_figure(study, style, _GRADIENT),
        View("map", "layers", "backprop_norm"),
        terms=("backprop norm",),
    ),
)
