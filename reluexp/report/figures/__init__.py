"""The figures of a report: what each shows, its caption, and how it is drawn."""

from __future__ import annotations

from reluexp.report.figures.across import ACROSS
from reluexp.report.figures.birth import BIRTHS
from reluexp.report.figures.choices import CHOICES
from reluexp.report.figures.costs import COSTS
from reluexp.report.figures.curves import CURVES
from reluexp.report.figures.depth import DEPTHS
from reluexp.report.figures.dots import DOTS, RELATIONS
from reluexp.report.figures.lives import LIVES
from reluexp.report.figures.maps import MAPS
from reluexp.report.figures.spec import GROUPS, FigureSpec, draw_figure
from reluexp.report.figures.tuned import TUNED

__all__ = ["FIGURES", "GROUPS", "FigureSpec", "draw_figure"]

_EVERY = (*DOTS, *ACROSS, *BIRTHS, *TUNED, *CHOICES, *CURVES, *LIVES, *MAPS, *DEPTHS, *RELATIONS, *COSTS)

FIGURES: tuple[FigureSpec, ...] = tuple(sorted(_EVERY, key=lambda spec: list(GROUPS).index(spec.group)))
"""every figure, in the order of the page"""
