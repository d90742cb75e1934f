"""How frames become panels: axes in a grid, curves with bands over seeds, ticks, one legend.

Functions that draw take an `ax` and data and return the `ax`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from reluexp.report.lines import Lines, faint_limit
from reluexp.report.style import Style
from reluexp.stats import column_intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "TIMES",
    "Panel",
    "by_factors",
    "draw_curves",
    "grid_of",
    "legend",
    "log_range",
    "log_ticks",
    "percent",
    "place_legend",
    "power_ticks",
    "room",
]

_LETTERS, _LEAST = 10, 24  # of a title in an inch, and at least in axes of one's own, where height is short
_BELOW = 20  # points between axes and a legend below them, besides two lines of text
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Panel:
    """One set of axes: its title, its rows of data and the name of the metric drawn."""

    title: str
    rows: pd.DataFrame
    metric: str


def grid_of(
    panels: Sequence[Panel], style: Style, columns: int, share: str = "", height: float = 1.0
) -> tuple[Figure, list[Axes]]:
    """A figure with one set of axes for each panel, titled; what is left of the last row stays empty.

    `share` holds x, y or both; tick labels of a shared axis stand at the outermost panels alone. With axes in the style
    a single panel is drawn into them, and several into a figure in their place.
    """
    columns = max(1, min(columns, len(panels)))
    rows = math.ceil(len(panels) / columns)
    if style.ax is not None and len(panels) == 1:
        style.ax.set_title(panels[0].title, loc="left")
        return cast("Figure", style.ax.get_figure()), [style.ax]
    letters = int(_LETTERS * _width(style) / columns * 10 / style.title_size)
    letters = letters if style.ax is None else max(letters, _LEAST)
    titles = ["\n".join(part for line in own.title.split("\n") for part in wrap(line, letters)) for own in panels]
    more = max(title.count("\n") for title in titles) * 1.3 * style.title_size / 72  # of which a panel had no room
    size = style.row_height * height * (1.25 if rows == 1 else 1.0) + more
    figure = _new_figure(style, 0.5 + rows * size) if style.ax is None else _place_of(style.ax)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex="x" in share, sharey="y" in share).ravel())
    for i, ax in enumerate(axes[: len(panels)]):
        ax.tick_params(labelbottom="x" not in share or i + columns >= len(panels))
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title, loc="left")
    return figure, axes[: len(panels)]


def _width(style: Style) -> float:
    """Inches that there are for panels side by side."""
    if style.ax is None:
        return style.width
    return float(style.ax.bbox.width / cast("Figure", style.ax.get_figure()).dpi)


def _new_figure(style: Style, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(style.width, height), dpi=style.dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.07, h_pad=0.07)  # type: ignore[union-attr, call-arg]
    return figure


def _place_of(ax: Axes) -> Figure:
    """A figure in the place of axes, which are hidden: of their grid's cell, or of the whole where they have none."""
    from matplotlib.gridspec import GridSpec

    whole = cast("Figure", ax.get_figure())
    ax.set_axis_off()
    found = whole.add_subfigure(ax.get_subplotspec() or GridSpec(1, 1, figure=whole)[0])
    if whole.get_layout_engine() is None:
        found.subplots_adjust(left=0.12, right=0.96, bottom=0.2, top=0.9, wspace=0.3, hspace=0.5)
    return cast("Figure", found)


def place_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], style: Style, columns: int) -> None:
    """A legend below all panels: of the figure, or of the axes that were given where the one panel is drawn there."""
    if style.ax is None or figure is not style.ax.get_figure():
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        if style.ax is not None and cast("Figure", style.ax.get_figure()).get_layout_engine() is None:
            rows, height = math.ceil(len(labels) / columns), 72 * figure.bbox.height / figure.dpi
            figure.subplots_adjust(bottom=min(0.6, (16 * rows + _BELOW + 20) / height))
        return
    from matplotlib.transforms import ScaledTranslation

    sizes: list[Any] = [
        style.ax.xaxis.label.get_fontsize(),
        *(tick.label1.get_fontsize() for tick in style.ax.xaxis.get_major_ticks()[:1]),
    ]
    below = ScaledTranslation(0, -(sum(sizes) + _BELOW) / 72, figure.dpi_scale_trans)  # ticks and label of the axis
    place = {"bbox_to_anchor": (0.5, 0.0), "bbox_transform": style.ax.transAxes + below}
    style.ax.legend(handles, labels, loc="upper center", ncols=columns, borderaxespad=0, **place)


def room(figure: Figure, style: Style) -> float:
    """How many inches a legend has: those of the axes that it stands below where these were given, else the style's.

    Of several panels in the place of axes it would take more rows than there is height for.
    """
    return _width(style) if style.ax is not None and figure is style.ax.get_figure() else style.width


def legend(figure: Figure, lines: Lines, style: Style, extra: Sequence[tuple[Any, str]] = ()) -> None:
    """One legend below all panels with as many columns as fit; `extra` are handles with labels besides the lines."""
    from matplotlib.lines import Line2D

    if not (lines.looks or extra):
        return
    handles: list[Any] = [Line2D([], [], color=colour, ls=dashes) for _, colour, dashes in lines.looks.values()]
    labels = [label for label, _, _ in lines.looks.values()]
    handles += [handle for handle, _ in extra]
    labels += [label for _, label in extra]
    columns = max(1, min(len(labels), int(room(figure, style) * 12.5 / (max(map(len, labels)) + 8))))
    columns = math.ceil(len(labels) / math.ceil(len(labels) / columns))
    place_legend(figure, handles, labels, style, columns)


def percent(axis: Axis) -> None:
    """Ticks of shares in percent, with as many decimals as they need."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g} %"))


def by_factors(values: Sequence[float] | np.ndarray) -> bool:
    """Whether values of an axis are set apart by factors rather than by steps, or span so many that a log axis is due.

    >>> by_factors([0.05, 0.2, 0.8]), by_factors([2, 4, 6, 8]), by_factors([2, 4, 8, 16]), by_factors([1, 2])
    (True, False, True, False)
    """
    found = np.unique(np.asarray(values, float))
    if found[0] <= 0:
        return False
    steps, factors = np.diff(found), np.diff(np.log(found))
    even = len(found) > 2 and np.std(factors) / np.mean(factors) < np.std(steps) / np.mean(steps)
    return bool(found[-1] / found[0] > (4 if even else 20))


def log_ticks(axis: Axis) -> None:
    """At least three ticks on a log axis: powers of ten, else plain numbers at 1, 2 and 5 or 1 and 3 of each decade.

    Where the range has fewer of those they are evenly spaced.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = sorted(axis.get_view_interval())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def ticks(*parts: float) -> int:
        return sum(low <= part * 10.0**decade <= high for decade in decades for part in parts)

    if ticks(1) > 2:
        power_ticks(axis)
        return
    some = next((parts for parts in ((1, 2, 5), (1, 3)) if 2 < ticks(*parts) < 8), None)
    axis.set_major_locator(LogLocator(subs=some) if some else MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def power_ticks(axis: Axis) -> None:
    """Ticks of a log axis at whole powers of ten, as plain text: matplotlib's own would be parsed as mathematics."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    def power(value: float, _: float) -> str:
        exponent = round(math.log10(value)) if value > 0 else 0
        return f"10{str(exponent).translate(_RAISED)}"

    axis.set_major_formatter(FuncFormatter(power))
    axis.set_minor_locator(NullLocator())


def log_range(values: pd.Series, least: float = 20) -> bool:
    """Whether positive values span so large a range that a linear axis would hide most of it."""
    positive = values[np.isfinite(values) & (values > 0)]
    return len(positive) > 1 and positive.max() / positive.min() > least


TIMES = ("epoch", "step")
"""along which a trial goes on; at another x it may be in one place alone"""


def draw_curves(
    ax: Axes,
    panel: Panel,
    lines: Lines,
    style: Style,
    x: str = "epoch",
    log: bool = False,
    share: bool = False,
    crosses: bool = True,
) -> Axes:
    """For each line the mean over trials with its pointwise 95 % t band, some seeds faint behind, × where one diverged.

    On a log axis the mean is geometric, the band that of the logs, and zeros are left out. A `share` lies in [0, 1]:
    its bands are cut there, and over epochs diverged trials stay in the mean with their last finite value; other curves
    end.
    """
    table = _by_trial(panel, lines.by, list(lines.looks), x, log)
    outcome = panel.rows.drop_duplicates("trial").set_index("trial")["outcome"]
    lost = outcome.reindex(table.index.get_level_values("trial")).eq("diverged").to_numpy()
    looks = list(lines.looks.values())
    _draw_seeds(ax, table, lost, looks, style, log, crosses)
    measured = table.notna().groupby(level="line").transform("any")
    carried = share and x in TIMES
    kept = table.mask(np.broadcast_to(lost[:, None], table.shape), table.ffill(axis=1)) if carried else table
    _draw_means(ax, kept.where(measured), looks, log, share)
    if log:
        ax.set_yscale("log")
        power_ticks(ax.yaxis)
    return ax


def _by_trial(panel: Panel, by: str, order: list[Any], x: str, log: bool) -> pd.DataFrame:
    """A metric as [line, seed, trial; x], in logs for a log axis; what cannot be drawn is NaN."""
    values = pd.to_numeric(panel.rows[panel.metric], errors="coerce").astype(float)
    values = values.where(np.isfinite(values) & ((values > 0) if log else True))
    place = {value: i for i, value in enumerate(order)}
    rows = panel.rows[["seed", "trial", x]].assign(
        line=panel.rows[by].map(place), value=np.log10(values.to_numpy()) if log else values
    )
    return rows.pivot_table(index=["line", "seed", "trial"], columns=x, values="value")


def _draw_seeds(
    ax: Axes, table: pd.DataFrame, lost: np.ndarray, looks: list[Any], style: Style, log: bool, crosses: bool
) -> None:
    """At most `style.seeds` trials of each line as one faint collection, the diverged ones first among them."""
    from matplotlib.collections import LineCollection

    x, values = table.columns.to_numpy(float), (10**table if log else table).to_numpy(float)
    place = table.index.get_level_values("line").to_numpy(int)
    segments, colours, ends = [], [], []
    limit = faint_limit(len(ax.figure.axes) * len(looks), style.seeds)
    for line, (_, colour, _) in enumerate(looks):
        own = np.flatnonzero(place == line)
        for row in own[np.argsort(~lost[own], kind="stable")][:limit]:
            finite = np.isfinite(values[row])
            segments.append(np.column_stack([x, values[row]])[finite])
            colours.append(colour)
            if lost[row] and crosses and finite.any():
                ends.append((*segments[-1][-1], colour))
    faint = LineCollection(segments, colors=colours, linewidths=0.6, alpha=0.28, zorder=1.5)
    ax.add_collection(faint, autolim=False)
    if ends:
        across, up, hues = zip(*ends, strict=True)
        ax.scatter(across, up, marker="x", s=34, linewidths=1.6, color=hues, zorder=4)


def _draw_means(ax: Axes, table: pd.DataFrame, looks: list[Any], log: bool, share: bool) -> None:
    from matplotlib.collections import PolyCollection

    x, values = table.columns.to_numpy(float), table.to_numpy(float)
    place = table.index.get_level_values("line").to_numpy(int)
    bands, hues = [], []
    for line, (_, colour, dashes) in enumerate(looks):
        band = column_intervals(values[place == line])
        kept = band[3] > 0
        mean, low, high = ((10**part if log else part)[kept] for part in band[:3])
        if share:
            low, high = low.clip(0, 1), high.clip(0, 1)
        if len(x) == 1:
            aside = x[kept] + 0.5 * ((line + 0.5) / len(looks) - 0.5)
            ax.errorbar(aside, mean, [mean - low, high - mean], color=colour, marker="o", ms=5, capsize=3)
            continue
        ax.plot(x[kept], mean, color=colour, ls=dashes, zorder=3)
        for part in _spans(np.isfinite(low)):
            across = x[kept][part]
            edge = np.concatenate([np.column_stack([across, low[part]]), np.column_stack([across, high[part]])[::-1]])
            bands.append(edge)
            hues.append(colour)
    if len(x) == 1:
        ax.set_xlim(float(x[0]) - 0.5, float(x[0]) + 0.5)
        return
    ax.margins(x=0.02)
    ax.add_collection(PolyCollection(bands, facecolors=hues, alpha=0.18, lw=0, zorder=2), autolim=False)


def _spans(flags: np.ndarray) -> list[np.ndarray]:
    """The places of each unbroken run of true flags.

    >>> [span.tolist() for span in _spans(np.array([True, True, False, True]))]
    [[0, 1], [3]]
    """
    places = np.flatnonzero(flags)
    return [part for part in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(part)]
