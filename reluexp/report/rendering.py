"""Drawn figures as files: the same bytes for the same figure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from reluexp.report.style import Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["render"]

_NO_DATES: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


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
