"""Drawn figures as files: the same bytes for the same figure, whichever process draws it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from reluexp.report.style import Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawing", "for_page", "render", "render_all"]

_NO_DATES: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_LARGE = 400_000  # bytes of an SVG from which the page carries a PNG instead, so that it stays quick to open
_ALONE = 80  # panels that are drawn in less time than another process takes to start and to import matplotlib
_MOST = 8  # processes


class Drawing(NamedTuple):
    """A figure, the formats that are wanted of it, and its style."""

    figure: Figure
    forms: Sequence[str]
    style: Style


def render_all(drawings: Sequence[Drawing]) -> list[dict[str, bytes]]:
    """The files of each drawing by format; several processes share the work where there are many panels.

    A large SVG brings a PNG along, for the page.
    """
    from joblib import Parallel, cpu_count, delayed

    panels = sum(len(figure.axes) * len(forms) for figure, forms, _ in drawings)
    processes = min(_MOST, cpu_count()) if panels > _ALONE else 1
    found: list[dict[str, bytes]] = Parallel(processes)(delayed(_render_forms)(*own) for own in drawings)
    return found


def _render_forms(figure: Figure, forms: Sequence[str], style: Style) -> dict[str, bytes]:
    made = {form: render(figure, form, style) for form in forms}
    if len(made.get("svg", b"")) > _LARGE and "png" not in made:
        made["png"] = render(figure, "png", style)
    return made


def for_page(made: dict[str, bytes]) -> dict[str, bytes]:
    """What a page carries of a figure that was rendered as SVG, by format: that, or a PNG where it is large."""
    form = "png" if len(made["svg"]) > _LARGE else "svg"
    return {form: made[form]}


def render(figure: Figure, form: str, style: Style) -> bytes:
    """The figure as `svg`, `png` or `pdf`: the same bytes for the same figure, without dates.

    It is laid out once; `savefig` would do it again for each format, and draw it all to do so.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    with mpl.rc_context(style.rc):  # type: ignore[arg-type]
        figure.set_dpi(style.dpi)
        _lay_out(figure)
        if form == "svg":
            FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_DATES[form])
        elif form == "pdf":
            FigureCanvasPdf(figure).print_pdf(buffer, metadata=_NO_DATES[form])
        else:
            FigureCanvasAgg(figure).print_png(buffer, metadata=_NO_DATES[form], pil_kwargs={"compress_level": 4})
    return buffer.getvalue()


def _lay_out(figure: Figure) -> None:
    """Run the constrained layout once; an empty axis label is pinned, since placing it costs as much as a full one."""
    engine = figure.get_layout_engine()
    if engine is None:
        return
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if not axis.label.get_text():
                axis.set_label_coords(0, 0)
    engine.execute(figure)
    figure.set_layout_engine("none")
