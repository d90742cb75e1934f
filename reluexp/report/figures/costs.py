"""Figures of what the time went into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reluexp.report.figures.axes import whole_ticks
from reluexp.report.figures.spec import FigureSpec
from reluexp.report.frames.costs import measuring_share, phase_seconds
from reluexp.report.panels import Panel, grid_of, place_legend
from reluexp.report.style import Style
from reluexp.stats import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COSTS"]

_LOOKS = {
    "train": ("#BFBFBF", ""),
    "measure": ("#D55E00", "//"),
    "evaluate": ("#56B4E9", ".."),
    "checkpoint": ("#009E73", "xx"),
}
_OTHER = ("#000000", "")  # of a phase that later versions may have


def _phases(study: Results, style: Style) -> Figure | None:
    """Stacked bars of seconds by phase for each epoch."""
    frame = phase_seconds(study)
    if frame.empty:
        return None
    table = frame.pivot_table(index="epoch", columns="phase", values="seconds", aggfunc="sum").fillna(0.0)
    figure, (ax,) = grid_of([Panel("", frame, "seconds")], style, 1, height=0.8)
    bottom = table.iloc[:, 0] * 0.0
    for phase in sorted(table, key=lambda name: list(_LOOKS).index(name) if name in _LOOKS else 99):
        colour, hatch = _LOOKS.get(phase, _OTHER)
        ax.bar(
            table.index, table[phase], bottom=bottom, color=colour, hatch=hatch, edgecolor="white", lw=0.4, label=phase
        )
        bottom = bottom + table[phase]
    whole_ticks(ax, 10)
    ax.set_xlabel("epoch")
    ax.set_ylabel("seconds, all workers")
    ax.grid(axis="x", visible=False)
    place_legend(figure, *ax.get_legend_handles_labels(), style, 4)
    return figure


def _caption(study: Results) -> str:
    share, frame = measuring_share(study), phase_seconds(study)
    told = f"Measuring took {100 * share:.0f} % of the time of training. " if share is not None else ""
    total = frame["seconds"].sum() if len(frame) else 0.0
    return (
        f"{told}Seconds of all workers together by epoch, {total:,.1f} in all; epoch 0 is the measurement before "
        "training. Activations share stacks: this tells nothing of the cost of one."
    )


COSTS: tuple[FigureSpec, ...] = (FigureSpec("time_by_phase", "Where the time went", "cost", _caption, _phases),)
