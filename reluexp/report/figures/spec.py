"""What a figure of a report is: a name, a place in the page, a caption made for a study, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from reluexp.report.style import Style
from reluexp.stats import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GROUPS", "FigureSpec", "View", "draw_figure"]


class Group(NamedTuple):
    """A part of the page in which figures stand: its title, and its name in the navigation."""

    title: str
    short: str


GROUPS = {
    "outcome": Group("Does it learn?", "outcome"),
    "across": Group("All data sets and architectures together", "together"),
    "life": Group("The life of units", "life of units"),
    "signal": Group("Signals and gradients", "signals"),
    "sensitivity": Group("How much the answer depends on choices", "sensitivity"),
    "cost": Group("What measuring cost", "cost"),
}
"""the parts of the page, in order"""


@dataclass(frozen=True)
class View:
    """How the page explores a figure: the kind of chart, the set of its data, and what it shows at first.

    kind: `curves`, `depth`, `map` (a metric of a set), or `dots` (`across` against `up`, metrics of trials at the end).
    """

    kind: str
    set: str = ""
    metric: str = ""
    across: str = ""
    up: str = "line"


@dataclass(frozen=True)
class FigureSpec:
    """One figure: file name, title, part of the page, caption made for a study, and the drawing.

    The drawing is None where a study has no such data. `view` is how the page explores it, if it does; `terms` are the
    words that the page explains beside it.
    """

    name: str
    title: str
    group: str
    caption: Callable[[Results], str]
    draw: Callable[[Results, Style], Figure | None]
    view: View | None = None
    terms: tuple[str, ...] = ()


def draw_figure(spec: FigureSpec, study: Results, style: Style | None = None) -> Figure | None:
    """The figure under the style's rcParams, or None when the study has nothing to show in it.

    With axes in the style it is drawn there, and what is returned is the figure that they are in.
    """
    import matplotlib as mpl

    style = style or Style()
    with mpl.rc_context({} if style.ax else style.rc):  # type: ignore[arg-type]
        return spec.draw(study, style)
