"""Drawn figures as files: the same bytes for the same figure, whichever process draws it."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import BrokenExecutor
from multiprocessing import current_process
from pickle import PicklingError
from typing import TYPE_CHECKING, Any, NamedTuple

from loky import cpu_count, get_reusable_executor

from reluexp.report.style import Style

if TYPE_CHECKING:
    from concurrent.futures import Future

    from matplotlib.figure import Figure

__all__ = ["Drawing", "Renderer", "for_page", "render"]

_NO_DATES: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_LARGE = 400_000  # bytes of an SVG from which the page carries a PNG instead, so that it stays quick to open
_MOST = 8  # processes


class Drawing(NamedTuple):
    """A figure, the formats that are wanted of it, and its style."""

    figure: Figure
    forms: Sequence[str]
    style: Style


class Renderer:
    """Renders drawings in other processes, if there are cores for them, while whoever gave them does other work.

    Closed as a context manager: what has not begun then is dropped.
    """

    def __init__(self) -> None:
        self._keys: list[Any] = []
        self._drawings: list[Drawing] = []
        self._begun: list[Future[dict[str, bytes]]] = []
        alone = current_process().daemon  # such a process may not start others
        self._processes = 0 if alone else min(_MOST, cpu_count() - 1)
        self._submit(_import_backends)

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._begun:
            future.cancel()

    def add(self, key: Hashable, drawing: Drawing) -> None:
        """Takes a drawing, which must not be changed any more; several may have one key, in different formats."""
        self._keys.append(key)
        self._drawings.append(drawing)
        self._begun += self._submit(_render_forms, *drawing)

    def _submit(self, work: Callable[..., Any], *given: Any) -> list[Future[Any]]:
        """The work under way in another process; nothing where there is none for it."""
        try:
            return [get_reusable_executor(self._processes).submit(work, *given)] if self._processes else []
        except (OSError, BrokenExecutor):  # no process can be started, or the last one died
            self._processes = 0
            return []

    def results(self) -> dict[Any, dict[str, bytes]]:
        """The files by key and format, in the order of the keys; what no other process has done is done here.

        A large SVG brings a PNG along, for the page. The drawings are forgotten.
        """
        made: dict[int, dict[str, bytes]] = {}
        for i in reversed(range(len(self._drawings))):  # the others begin at the front
            if i >= len(self._begun) or self._begun[i].cancel():
                made[i] = _render_forms(*self._drawings[i])
        for i, future in enumerate(self._begun):
            if i not in made:
                try:
                    made[i] = future.result()
                except (BrokenExecutor, PicklingError):  # the process was killed, or the figure cannot be sent
                    made[i] = _render_forms(*self._drawings[i])
        found: dict[Any, dict[str, bytes]] = {}
        for i, key in enumerate(self._keys):
            found.setdefault(key, {}).update(made[i])
        self._keys, self._drawings, self._begun = [], [], []
        return found


def _import_backends() -> None:
    """What takes most of a second, done while the first figure is being drawn."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg  # noqa: F401

    gc.freeze()  # nothing of that is ever garbage


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
    with mpl.rc_context():  # of the defaults, as they are in every process, whatever the caller has set in this one
        mpl.rcdefaults()
        mpl.rcParams.update(style.rc)  # type: ignore[arg-type]
        figure.set_dpi(style.dpi)
        _lay_out(figure)
        if form == "svg":
            FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_DATES[form])
        elif form == "pdf":
            FigureCanvasPdf(figure).print_pdf(buffer, metadata=_NO_DATES[form])
        else:
            FigureCanvasAgg(figure).print_png(buffer, metadata=_NO_DATES[form], pil_kwargs={"compress_level": 1})
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
