"""The figures of a report: what each shows, its caption, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reluexp.report.panels import (
    Facet,
    Lines,
    Panel,
    Style,
    draw_curves,
    facets_of,
    grid_of,
    joined,
    legend,
    lines_of,
    log_range,
    mark_undying,
    plain,
    short,
)
from reluexp.stats import (
    Interval,
    Results,
    can_die,
    final_metrics,
    groups,
    mean_interval,
    over_sites,
    settings,
    sound,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "FigureSpec", "draw_figure"]

_KINDS = {"conv": "convolutional sites", "dense": "dense sites", "token": "token sites"}
_FATES = {"finished": ("o", 13, "one trial"), "stuck": ("v", 26, "stuck"), "diverged": ("x", 34, "diverged")}
"""marker, size in points², and the word for each way in which a trial can end"""
_MAPS = 24  # panels of one heat map figure; more would be too small to read


@dataclass(frozen=True)
class FigureSpec:
    """One figure: file name, title, caption made for a study, and the drawing, None where there is no such data."""

    name: str
    title: str
    caption: Callable[[Results], str]
    draw: Callable[[Results, Style], Figure | None]


def draw_figure(spec: FigureSpec, study: Results, style: Style | None = None) -> Figure | None:
    """The figure under the style's rcParams, or None when the study has nothing to show in it."""
    import matplotlib as mpl

    style = style or Style()
    with mpl.rc_context(style.rc):  # type: ignore[arg-type]
        return spec.draw(study, style)


def _comparable(facets: list[Facet]) -> bool:
    """Whether panels may share an axis: not across data sets or architectures, whose scales mean different things."""
    apart = {"dataset", "dataset.name", "architecture", "architecture.name"}
    return not any(column in apart for facet in facets for column in facet.where)


def _curve_figure(
    study: Results,
    style: Style,
    variants: list[tuple[str, pd.DataFrame, str]],
    label: str,
    log: bool | None = False,
    share: str = "",
) -> Figure | None:
    """Curves over epochs for each facet and variant (title, frame, metric); `log=None` decides by the range.

    `share` says that values lie in [0, 1], and of what; shares of `dead` units mark activations that cannot die.
    """
    facets, _ = facets_of(study, style.facets if len(variants) == 1 else style.facets // 2)
    panels = _panels(study, facets, variants)
    if not panels:
        return None
    finished = pd.concat([p.rows.loc[p.rows["outcome"] == "finished", p.metric].astype(float) for p in panels])
    log = log_range(finished) if log is None else log
    lines = mark_undying(lines_of(study)) if share == "dead" else lines_of(study)
    columns = len(variants) if len(variants) > 1 else 2 if len(panels) in (2, 4) else 3
    figure, axes = grid_of(panels, style, columns, "xy" if _comparable(facets) else "")
    for ax, panel in zip(axes, panels, strict=True):
        draw_curves(ax, panel, lines, style, log=log, share=bool(share))
    _hold(axes, panels, log, from_zero=share in ("dead", "zero"))
    _dress(axes, min(columns, len(panels)), label, bool(share))
    legend(figure, lines, style, _cross(study))
    return figure


def _panels(study: Results, facets: list[Facet], variants: list[tuple[str, pd.DataFrame, str]]) -> list[Panel]:
    """A panel for each facet and variant that has a finite value."""
    frames = [(title, joined(study, frame), metric) for title, frame, metric in variants if metric in frame]
    panels = []
    for facet in facets:
        for title, frame, metric in frames:
            rows = facet.of(frame)
            if np.isfinite(pd.to_numeric(rows[metric], errors="coerce").astype(float)).any():
                panels.append(Panel(" · ".join(filter(None, [facet.title, title])), rows, metric))
    return panels


def _dress(axes: list[Axes], columns: int, label: str, share: bool) -> None:
    """Axis labels where a reader looks for them, whole epochs, and percent for shares."""
    from matplotlib.ticker import PercentFormatter

    for i, ax in enumerate(axes):
        _whole_ticks(ax, 8)
        if i + columns >= len(axes):
            ax.set_xlabel("epoch")
        if i % columns == 0:
            ax.set_ylabel(label)
        if share:
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))


def _whole_ticks(ax: Axes, most: int) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator

    low, high = ax.get_xlim()
    single = [round((low + high) / 2)] if high - low <= 1 else None
    ax.xaxis.set_major_locator(
        FixedLocator(single) if single else MaxNLocator(integer=True, nbins=most, steps=[1, 2, 5, 10])
    )


def _hold(axes: list[Axes], panels: list[Panel], log: bool, from_zero: bool = False) -> None:
    """Limits by the trials that finished: a diverging curve may leave the axes, but not squeeze the others."""
    sharing = axes[0].get_shared_y_axes()
    first_of: dict[int, list[int]] = {}
    for i, ax in enumerate(axes):
        first = next(k for k, other in enumerate(axes) if other is ax or sharing.joined(other, ax))
        first_of.setdefault(first, []).append(i)
    for first, same in first_of.items():
        values = pd.concat([_finished(panels[i]) for i in same])
        values = values[np.isfinite(values) & ((values > 0) if log else True)]
        if len(values):
            axes[first].set_ylim(*_limits(float(values.min()), float(values.max()), log, from_zero))


def _finished(panel: Panel) -> pd.Series:
    ended = panel.rows["outcome"] == "finished"
    return (panel.rows[ended] if ended.any() else panel.rows)[panel.metric].astype(float)


def _limits(low: float, high: float, log: bool, from_zero: bool) -> tuple[float, float]:
    """Bounds of an axis with some air around the values."""
    if log:
        return low / 1.3, high * 1.3
    if from_zero:
        top = max(high * 1.06, 0.05)
        return -0.015 * top, top
    air = 0.04 * (high - low) or max(abs(high) * 0.05, 0.01)
    return low - air, high + air


def _cross(study: Results) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    if not settings(study)["outcome"].eq("diverged").any():
        return []
    return [(Line2D([], [], color="#555555", marker="x", ls="", mew=1.6), "diverged")]


def _loss(study: Results, style: Style) -> Figure | None:
    variants = [("training loss", study.epochs, "train_loss"), ("test loss", study.epochs, "test_loss")]
    return _curve_figure(study, style, variants, "cross-entropy (nats)", log=None)


def _accuracy(study: Results, style: Style) -> Figure | None:
    epochs = (
        study.epochs.assign(test_accuracy=sound(study.epochs, "test_accuracy")) if len(study.epochs) else study.epochs
    )
    return _curve_figure(study, style, [("", epochs, "test_accuracy")], "test accuracy", share="correct")


def _grad_norm(study: Results, style: Style) -> Figure | None:
    return _curve_figure(study, style, [("", study.epochs, "grad_norm")], "L2 norm of the gradient", log=True)


def _kinds(layers: pd.DataFrame) -> list[str]:
    kinds: set[str] = set(layers.loc[layers["site"].notna(), "kind"].dropna()) if len(layers) else set()
    return sorted(kinds, key=lambda kind: (list(_KINDS).index(kind) if kind in _KINDS else 99, kind))


def _site_shares(study: Results, style: Style, metric: str, label: str, share: str) -> Figure | None:
    """A share of units over epochs, dense and convolutional sites apart."""
    layers = study.layers
    kinds = _kinds(layers)
    variants = [
        (_KINDS.get(kind, f"{kind} sites") if len(kinds) > 1 else "", over_sites(part, metric), metric)
        for kind in kinds
        for part in [layers[layers["kind"] == kind]]
    ]
    return _curve_figure(study, style, variants, label, share=share) if variants else None


def _dead(study: Results, style: Style) -> Figure | None:
    return _site_shares(study, style, "dead_fraction", "dead units", "dead")


def _zero(study: Results, style: Style) -> Figure | None:
    return _site_shares(study, style, "zero_fraction", "activations that are 0", "zero")


def _dead_map(study: Results, style: Style) -> Figure | None:
    """Heat maps [site, epoch] of the mean dead fraction: a column for each line, a row for each facet and kind."""
    lines = mark_undying(lines_of(study))
    columns = min(4, len(lines.looks))
    panels = _map_panels(study, lines, style, columns)
    if not panels:
        return None
    figure, axes = grid_of(panels, style, columns, height=0.62)
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        same = i % columns and _site_names(panel).equals(_site_names(panels[i - 1]))
        mesh = _draw_map(ax, panel, labelled=not same)
        if i + columns >= len(axes):
            ax.set_xlabel("epoch")
    bar = figure.colorbar(mesh, ax=axes, shrink=min(1.0, 2.4 / figure.get_figheight() + 0.35), pad=0.02, aspect=28)
    bar.set_label("dead units (%)")
    bar.set_ticks([0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1], labels=["0", "1", "5", "10", "25", "50", "75", "100"])
    return figure


def _map_panels(study: Results, lines: Lines, style: Style, columns: int) -> list[Panel]:
    layers = study.layers
    if layers.empty or "dead_fraction" not in layers:
        return []
    rows = joined(study, layers[layers["site"].notna() & layers["dead_fraction"].notna()])
    facets, _ = facets_of(study, style.facets)
    kinds = _kinds(layers)
    between, length = ("\n", 17) if columns > 3 else (" · ", 24)
    panels = []
    for facet in facets:
        for kind in kinds:
            for value, (label, _, _) in lines.looks.items():
                own = facet.of(rows[(rows["kind"] == kind) & (rows[lines.by] == value)])
                if len(own):
                    where = filter(None, [facet.title, _KINDS.get(kind, kind) if len(kinds) > 1 else ""])
                    panels.append(Panel(between.join([short(label, length), *where]), own, "dead_fraction"))
    return panels[:_MAPS]


def _site_names(panel: Panel) -> pd.Series:
    """The names of a panel's sites in the order of the forward pass."""
    return panel.rows.drop_duplicates("site").set_index("site")["site_name"].sort_index()


def _draw_map(ax: Axes, panel: Panel, labelled: bool) -> QuadMesh:
    """One heat map; colours grow with the square root, so that a few dead units are seen at all."""
    from matplotlib.colors import PowerNorm

    table = panel.rows.pivot_table(index="site", columns="epoch", values=panel.metric, aggfunc="mean")
    names = _site_names(panel).reindex(table.index)
    mesh = ax.pcolormesh(
        _edges(table.columns.to_numpy(float)),
        np.arange(len(table) + 1) - 0.5,
        table.to_numpy(float),
        norm=PowerNorm(0.5, 0, 1),
        cmap="magma_r",
        rasterized=True,
    )
    ticks = np.unique(np.linspace(0, len(table) - 1, min(len(table), 8)).round().astype(int))
    ax.set_yticks(ticks, [plain(short(names.iloc[i], 12)) for i in ticks] if labelled else [""] * len(ticks))
    ax.invert_yaxis()
    ax.grid(False)
    ax.tick_params(labelsize=8)
    _whole_ticks(ax, 5)
    return mesh


def _edges(centres: np.ndarray) -> np.ndarray:
    """Borders half-way between measurements.

    >>> _edges(np.array([0.0, 1.0, 3.0])).tolist()
    [-0.5, 0.5, 2.0, 4.0]
    """
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _backprop(study: Results, style: Style) -> Figure | None:
    """Backprop norm by depth, at the first and at the last full measurement."""
    full = _full_rows(study)
    if full.empty or full["depth"].max() < 2:
        return None
    step = full.groupby("trial")["step"]
    first, last = full[full["step"] == step.transform("min")], full[full["step"] == step.transform("max")]
    variants = [("at birth", first, "backprop_norm")]
    if full["step"].max() > full["step"].min():
        variants.append(("at the end", last[last["step"] > 0], "backprop_norm"))
    facets, _ = facets_of(study, style.facets // 2)
    panels, lines = _panels(study, facets, variants), lines_of(study)
    if not panels:
        return None
    figure, axes = grid_of(panels, style, len(variants), "y" if _comparable(facets) else "")
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw_depth(ax, panel, lines, style)
        if i + len(variants) >= len(axes):
            ax.set_xlabel("hidden site, input → output")
        if i % len(variants) == 0:
            ax.set_ylabel("backprop norm")
    _hold(axes, panels, log=True)
    legend(figure, lines, style)
    return figure


def _full_rows(study: Results) -> pd.DataFrame:
    layers = study.layers
    if layers.empty or "backprop_norm" not in layers:
        return layers.iloc[:0]
    norm = pd.to_numeric(layers["backprop_norm"], errors="coerce").astype(float)
    rows = layers.assign(backprop_norm=norm)[layers["site"].notna() & norm.notna()]
    return rows.assign(depth=rows["site"].astype(int) - int(rows["site"].min()) + 1) if len(rows) else rows


def _draw_depth(ax: Axes, panel: Panel, lines: Lines, style: Style) -> Axes:
    """Lines over depth that break between convolutional and dense sites, whose units are seen at unlike many places."""
    kinds = panel.rows.groupby("kind", sort=False)["depth"].agg(["min", "max"]).sort_values("min")
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
    _whole_ticks(ax, 10)
    return ax


def _final(study: Results, style: Style) -> Figure | None:
    """Every trial's final test accuracy as a dot; beside it without diverged and stuck trials, where there are any."""
    final, lines = final_metrics(study), lines_of(study)
    if final["test_accuracy"].notna().sum() == 0:
        return None
    learned = final["outcome"].eq("finished") & ~final["stuck"]
    lost = ~learned & final["outcome"].ne("failed")
    variants = [("", final)]
    if lost.any() and learned.any():
        variants = [("all trials", final), ("without diverged and stuck", final[learned])]
    facets, _ = facets_of(study, style.facets // len(variants))
    panels = [
        Panel("\n".join(filter(None, [facet.title, title])), facet.of(rows), "test_accuracy")
        for facet in facets
        for title, rows in variants
    ]
    columns = 2 if len(panels) > 1 else 1
    height = max(0.55, (0.5 + 0.3 * len(lines.looks)) / style.row_height)
    figure, axes = grid_of(panels, style, columns, height=height)
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw_dots(ax, panel, lines)
        if i + columns >= len(axes):
            ax.set_xlabel("final test accuracy")
    legend(figure, Lines("", {}), style, _dot_key(final))
    return figure


def _draw_dots(ax: Axes, panel: Panel, lines: Lines) -> Axes:
    """A row for each line: dots, ×, triangles, the mean with its interval, and how many of the trials are shown."""
    from matplotlib.ticker import PercentFormatter

    for row, (value, (_, colour, _)) in enumerate(lines.looks.items()):
        own = panel.rows[panel.rows[lines.by] == value].sort_values("seed")
        _dots_of(ax, row, own, colour)
        shown = int(own["test_accuracy"].notna().sum())
        ax.annotate(f"{shown} of {len(own)}", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    ax.set_yticks(range(len(lines.looks)), [label for label, _, _ in lines.looks.values()])
    ax.set_ylim(len(lines.looks) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    ax.locator_params(axis="x", nbins=5)
    return ax


def _dots_of(ax: Axes, row: int, own: pd.DataFrame, colour: str) -> None:
    own = own[own["test_accuracy"].notna()]
    heights = row + (np.linspace(-0.22, 0.22, len(own)) if len(own) > 1 else np.zeros(len(own)))
    for fate, (marker, size, _) in _FATES.items():
        flag = (_fate(own) == fate).to_numpy()
        if flag.any():
            dots = ax.scatter(own["test_accuracy"][flag], heights[flag], s=size, marker=marker, color=colour)
            dots.set(rasterized=len(own) > 100, alpha=0.5 if fate == "finished" else 0.9, linewidths=1.5)
    found: Interval = mean_interval(own["test_accuracy"])
    if found.n > 1:
        ends = [[found.mean - max(found.low, 0)], [min(found.high, 1) - found.mean]]
        ax.errorbar(found.mean, row, xerr=ends, color="black", lw=1.6, capsize=4, zorder=5)
    if found.n:
        ax.plot([found.mean], [row], marker="D", ms=4.5, color="white", mec="black", mew=1.2, zorder=6)


def _fate(frame: pd.DataFrame) -> pd.Series:
    return frame["outcome"].where(~(frame["stuck"] & frame["outcome"].eq("finished")), "stuck")


def _dot_key(final: pd.DataFrame) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    def dot(marker: str, colour: str = "#555555", edge: str | None = None) -> Line2D:
        return Line2D([], [], marker=marker, ls="", color=colour, mec=edge or colour, mew=1.4, ms=5.5)

    seen = set(_fate(final))
    found = [(dot(marker), text) for fate, (marker, _, text) in _FATES.items() if fate in seen]
    return [*found, (dot("D", "white", "black"), "mean with 95 % interval")]


def _count(study: Results, crosses: bool = True) -> str:
    """Seeds, what happened to trials, and which settings are not shown."""
    frame = settings(study)
    seeds = frame["seed"].nunique()
    parts = [f"{len(frame)} trials, {seeds} {'seed' if seeds == 1 else 'seeds'}."]
    for outcome in ("diverged", "failed"):
        count = int(frame["outcome"].eq(outcome).sum())
        if count:
            where = {"diverged": " (marked × at the last finite value)" if crosses else ""}.get(outcome, " (not shown)")
            parts.append(f"{count} of {len(frame)} {outcome}{where}.")
    return " ".join(parts)


def _facet_note(study: Results, limit: int) -> str:
    _, left_out = facets_of(study, limit)
    return f" {left_out} more settings are in the tables only." if left_out else ""


def _band_note(study: Results, limit: int = 12, crosses: bool = True) -> str:
    style = Style()
    most = max((len(part) for _, part in groups(settings(study), _panel_columns(study))), default=0)
    if most < 2:
        return f"One trial for each line, hence no band. {_count(study, crosses)}{_facet_note(study, limit)}"
    faint = f"at most {style.seeds} of them faint behind" if most > style.seeds else "the trials faint behind"
    band = f"Line: mean over seeds; band: pointwise 95 % t interval; {faint}."
    return f"{band} {_count(study, crosses)}{_facet_note(study, limit)}"


def _panel_columns(study: Results) -> list[str]:
    facets, _ = facets_of(study, 1)
    return [lines_of(study).by, *facets[0].where] if facets else [lines_of(study).by]


def _dagger(study: Results) -> str:
    marked = [label for label in settings(study)["activation"].unique() if not can_die(label)]
    if not marked or lines_of(study).by != "activation":
        return ""
    return " † The derivative is never exactly 0 in real arithmetic: what is counted as dead is underflow, not death."


def _last_kept(study: Results) -> str:
    diverged = settings(study)["outcome"].eq("diverged").any()
    return " A diverged trial stays in the mean with its last finite value." if diverged else ""


def _curves_end(study: Results) -> str:
    diverged = settings(study)["outcome"].eq("diverged").any()
    return " A diverged trial's curve ends, and the mean goes on over the others." if diverged else ""


FIGURES: tuple[FigureSpec, ...] = (
    FigureSpec(
        "final_accuracy",
        "Final test accuracy",
        lambda study: (
            f"One dot for each trial; diamond: mean with its 95 % t interval. {_count(study)} The numbers at "
            f"the right say how many trials are in a row.{_facet_note(study, 6)}"
        ),
        _final,
    ),
    FigureSpec(
        "dead_fraction",
        "Dead units over training",
        lambda study: (
            "Share of hidden units whose derivative is 0 at every probe sample, all sites by their widths. "
            f"{_band_note(study)}{_dagger(study)}{_last_kept(study)}"
        ),
        _dead,
    ),
    FigureSpec(
        "dead_by_layer",
        "Dead units by layer and epoch",
        lambda study: (
            "Mean share of dead units over trials; the first hidden site is at the top. One colour scale, "
            f"growing with the square root. {_count(study, False)}{_dagger(study)}{_map_note(study)}"
        ),
        _dead_map,
    ),
    FigureSpec(
        "loss",
        "Loss",
        lambda study: (
            "Training loss: mean over the epoch's steps, as trained; test loss: after the epoch. "
            f"On a log axis means are geometric. {_band_note(study, 6)}{_curves_end(study)}"
        ),
        _loss,
    ),
    FigureSpec(
        "test_accuracy",
        "Test accuracy over training",
        lambda study: f"Epoch 0 is before training. {_band_note(study)}{_last_kept(study)}",
        _accuracy,
    ),
    FigureSpec(
        "zero_fraction",
        "Sparsity over training",
        lambda study: f"Share of hidden activations that are exactly 0. {_band_note(study)}{_last_kept(study)}",
        _zero,
    ),
    FigureSpec(
        "grad_norm",
        "Gradient norm over training",
        lambda study: (
            "L2 norm of the whole gradient before clipping, mean over the epoch's steps; means over seeds are "
            f"geometric and leave out exact zeros. {_band_note(study)}{_curves_end(study)}"
        ),
        _grad_norm,
    ),
    FigureSpec(
        "backprop_by_depth",
        "Gradient by depth",
        lambda study: (
            "Root mean square of the derivative of a sample's loss by the pre-activations of each hidden "
            "site, before training and at the last full measurement. Means are geometric and leave out exact zeros. "
            f"{_band_note(study, 6, False)}"
        ),
        _backprop,
    ),
)


def _map_note(study: Results) -> str:
    facets, _ = facets_of(study, 10_000)
    panels = len(facets) * len(lines_of(study).looks) * max(1, len(_kinds(study.layers)))
    shown = len(_map_panels(study, lines_of(study), Style(), 1))
    return f" {panels - shown} of {panels} maps have no place or no data here." if panels > shown else ""
