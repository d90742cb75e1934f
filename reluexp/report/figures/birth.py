"""The figure of networks at birth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reluexp.report.figures.spec import FigureSpec
from reluexp.report.frames.birth import born_dead
from reluexp.report.panels import Panel, grid_of, percent, place_legend
from reluexp.report.style import Style
from reluexp.stats import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BIRTHS"]

_RELU = "#D55E00"


def _born_dead(study: Results, style: Style) -> Figure | None:
    """A panel for each width: measured shares with their intervals over depth, between the bounds of theory."""
    frame = born_dead(study)
    if frame.empty:
        return None
    panels = [Panel(f"width {width}", own.sort_values("depth"), "share") for width, own in frame.groupby("width")]
    columns = min(3, len(panels))
    figure, axes = grid_of(panels, style, columns, "xy")
    for number, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        rows = panel.rows
        ax.fill_between(rows["depth"], rows["least"], rows["most"], color="#BFBFBF", alpha=0.45, lw=0, label="bounds")
        ax.plot(rows["depth"], rows["most"], color="#555555", ls="--", lw=1.2, label="one input, exact")
        spread = [(rows["share"] - rows["low"]).clip(lower=0), (rows["high"] - rows["share"]).clip(lower=0)]
        ax.errorbar(rows["depth"], rows["share"], spread, color=_RELU, marker="o", ms=4, lw=1.4, capsize=2.5,
                    label="measured")  # fmt: skip
        percent(ax.yaxis)
        if number + columns >= len(panels):
            ax.set_xlabel("hidden layers")
        if number % columns == 0:
            ax.set_ylabel("born dead")
    handles, labels = axes[0].get_legend_handles_labels()
    place_legend(figure, handles, labels, style, 3)
    return figure


def _caption(study: Results) -> str:
    frame = born_dead(study)
    inside = ((frame["high"] >= frame["least"]) & (frame["low"] <= frame["most"])).sum()
    return (
        f"Share of ReLU networks with a hidden layer that is dead whole before training, {frame['networks'].sum():,} "
        f"networks; intervals of 99.9 % for all points together. Grey: the bounds of Lu et al. 2019 (arXiv 1903.06733) "
        f"for inputs of one dimension; dashed: the exact value for a single input, which is the upper bound. "
        f"{inside} of {len(frame)} points agree with the bounds."
    )


BIRTHS: tuple[FigureSpec, ...] = (
    FigureSpec("born_dead", "Networks born dead", "outcome", _caption, _born_dead, terms=("born dead",)),
)
