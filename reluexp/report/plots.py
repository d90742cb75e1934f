"""Figures of a study by name, for notebooks: `study.plot.dead_fraction()`, or into axes of one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reluexp.catalogue.registry import nearest
from reluexp.errors import ConfigError, ResultsError
from reluexp.stats import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from reluexp.report.figures import FigureSpec

__all__ = ["Plots"]


class Plots:
    """Every figure of the report as a method: without `ax` it returns a Figure, with `ax` it draws there.

    A figure of one panel is drawn into `ax` itself; one of several panels into a subfigure in its place, and `ax` is
    hidden. Fonts and colours are those of the figure that `ax` is in; `layout="constrained"` leaves room for labels.
    Raises AttributeError for an unknown name, ConfigError for an unknown option, ResultsError where the
    study has no data for the figure.
    """

    def __init__(self, study: Results) -> None:
        self._study = study

    def __dir__(self) -> list[str]:
        from reluexp.report.figures import FIGURES

        return [spec.name for spec in FIGURES]

    def __getattr__(self, name: str) -> Callable[..., Figure | Axes]:
        from reluexp.report.figures import FIGURES

        found = {spec.name: spec for spec in FIGURES}
        if name not in found:
            raise AttributeError(f"no figure {name!r}; there are {', '.join(found)}{nearest(name, list(found))}")

        def draw(ax: Axes | None = None, **style: Any) -> Figure | Axes:
            """The figure; `style` sets fields of `reluexp.report.style.Style`, such as width in inches."""
            return _draw(found[name], self._study, ax, style)

        draw.__name__, draw.__doc__ = name, found[name].title
        return draw


def _draw(spec: FigureSpec, study: Results, ax: Axes | None, fields: dict[str, Any]) -> Figure | Axes:
    from reluexp.report.figures import draw_figure
    from reluexp.report.style import Style

    known = [own.name for own in dataclasses.fields(Style) if own.name != "ax"]
    if unknown := [name for name in fields if name not in known]:
        raise ConfigError(f"{unknown[0]!r}: a figure takes ax, {', '.join(known)}{nearest(unknown[0], known)}")
    figure = draw_figure(spec, study, Style(**fields, ax=ax))
    if figure is None:
        raise ResultsError(f"{study.name}: there is nothing to draw in {spec.name!r}: {spec.title}")
    return figure if ax is None else ax
