"""The report of a study: tables, figures and one page, written to a folder."""

from __future__ import annotations

import ctypes
import gc
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reluexp.catalogue.registry import nearest
from reluexp.errors import ConfigError, ResultsError
from reluexp.store import Store
from reluexp.store.files import digest, write_whole

if TYPE_CHECKING:
    import pandas as pd

    from reluexp.report.figures import FigureSpec
    from reluexp.report.rendering import Renderer
    from reluexp.report.style import Style
    from reluexp.report.tables import Table
    from reluexp.stats import Results

    Rendered = dict[FigureSpec, dict[str, bytes]]

__all__ = ["FORMATS", "UNREAD", "write_report", "write_together"]

FORMATS = ("html", "csv", "md", "tex", "png", "svg", "pdf")
"""everything that can be asked for"""

_OBJECTS = 100_000  # new ones before those that nobody needs are looked for; Python's own is 700
_LEFT_SECONDS = 3600.0  # from which on a temporary file is nobody's
UNREAD = {
    "units": (
        *("unit", "revived", "off_at_end", "starved_at_end", "sample_rate"),
        *("cause_bias", "cause_weights", "cause_input"),
    ),
    "layers": (
        *("always_on_fraction", "saturated_fraction", "rare_fraction", "pre_mean", "post_absmax", "slope_mean"),
        *("weight_norm", "weight_grad_norm", "learned_slope_min", "learned_slope_max"),
    ),
}
"""columns that no report needs, for `reluexp.load`: a third of what a large study takes in memory"""


def write_report(
    study: Results,
    out: str | Path | None = None,
    formats: str | Sequence[str] = ("html", "csv", "md", "tex", "png", "svg"),
    style: Style | str | Path | Mapping[str, Any] | None = None,
) -> Path:
    """Write what `formats` names below `out` (default: `report` in the study's folder; with earlier configs' trials,
    `report-earlier`, so that neither takes the other's place; a part of a study, `Study.only`, has no default).

    Returns the path of index.html, or the folder when `html` is not asked for. Every file appears whole or not at all.
    `style` sets sizes and rcParams of the figures: a `reluexp.report.style.Style`, a matplotlib style file, or rcParams
    as a mapping; without it, PDFs are made for a paper (5.5 inches wide, a Times-like face), the others for the page.
    Raises ConfigError for an unknown format or rcParam and where a part is not told where to go, ResultsError when the
    folder cannot be written.
    """
    formats, style = _asked(formats, study), _styled(style)
    if out is None and study.selection:
        raise ConfigError("out: a part of a study needs a folder for its report; the study's own is of the whole")
    folder = Path(out) if out else Store(study.path).report(study.shows_earlier)
    _sweep(folder)
    _forget_another(folder, study)
    with _seldom_collected(), _renderer(formats) as renderer:
        if renderer:
            _draw_figures(study, formats, style, renderer)
        frames, tables = _write_tables(study, folder, formats)
        explored = _write_curves(study, folder, formats)
        made = _write_figures(folder, formats, renderer) if renderer else {}
    _give_back()
    if "html" not in formats:
        return folder
    from reluexp.report.page import Picture, render_page
    from reluexp.report.rendering import for_page

    pictures = [Picture.of(spec, study, for_page(files)) for spec, files in made.items()]
    return _write(folder / "index.html", render_page(study, frames, tables, pictures, explored).encode())


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """While open, garbage is seldom looked for: among a million living objects that is a tenth of a report's time."""
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _give_back() -> None:
    """Returns freed memory to the system where the C library can (glibc): it keeps a tenth of what a report takes."""
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def write_together(
    studies: Sequence[Results],
    out: str | Path | None = None,
    formats: str | Sequence[str] = ("html", "csv"),
    style: Style | str | Path | Mapping[str, Any] | None = None,
) -> Path:
    """Write one page with the studies side by side, their summaries as one table, and figures, as `formats` asks.

    `out` is a folder beside the first study's, named by all of them, unless given. Returns the path of index.html, or
    the folder when `html` is not asked for. Raises as `write_report`.
    """
    from reluexp.report.tables import to_csv, to_latex, to_markdown
    from reluexp.report.together import COLUMN, draw_together, render_together, together_frame, together_table

    formats, style = _asked(formats, *studies), _styled(style)
    folder = Path(out) if out else studies[0].path.parent / "+".join(study.name for study in studies)
    if "csv" in formats:
        _write(folder / "summary.csv", to_csv(together_frame(studies)).encode())
    for form, text in (("md", to_markdown), ("tex", to_latex)):
        if form in formats:
            _write(folder / f"summary.{form}", text(together_table(studies)).encode())
    drawn = [form for form in ("svg", "png", "pdf") if form in formats or (form == "svg" and "html" in formats)]
    made = draw_together(studies, drawn, style or COLUMN) if drawn else {}
    for (figure, name), files in made.items():
        for form in set(files) & set(formats):
            _write(folder / "figures" / f"{figure}-{name}.{form}", files[form])
    return _write(folder / "index.html", render_together(studies, made).encode()) if "html" in formats else folder


def _write_tables(
    study: Results, folder: Path, formats: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, Table]]:
    """Work each table out once, write it in the formats asked for, and keep it for the page."""
    from reluexp.report.tables import TABLES, to_csv, to_latex, to_markdown

    frames, tables = {}, {}
    for spec in TABLES:
        if spec.shown is None and not {"csv", "html"} & set(formats):
            continue
        frames[spec.name] = frame = spec.frame(study)
        if "csv" in formats and len(frame.columns):
            _write(folder / "tables" / f"{spec.name}.csv", to_csv(frame).encode())
        if spec.shown is None:
            continue
        tables[spec.name] = table = spec.shown(study, frame)
        for form, text in (("md", to_markdown), ("tex", to_latex)):
            if form in formats and table.rows:
                _write(folder / "tables" / f"{spec.name}.{form}", text(table).encode())
        _give_back()
    return frames, tables


def _write_curves(study: Results, folder: Path, formats: Sequence[str]) -> str:
    """What the page explores, packed, for it; the same numbers as CSV."""
    if not {"html", "csv"} & set(formats):
        return ""
    from reluexp.report.live.payload import live_data, packed
    from reluexp.report.tables import to_csv

    live = live_data(study)
    if "csv" in formats:
        _write(folder / "tables" / "curves.csv", to_csv(live.frame).encode())
    return packed(live.content) if "html" in formats else ""


def _renderer(formats: Sequence[str]) -> AbstractContextManager[Renderer | None]:
    """What renders figures where any are asked for; its processes start while the statistics are imported here."""
    if not {"html", "svg", "png", "pdf"} & set(formats):
        return nullcontext()
    from reluexp.report.rendering import Renderer

    return Renderer()


def _draw_figures(study: Results, formats: Sequence[str], style: Style | None, renderer: Renderer) -> None:
    """Draw each figure, for the page and for a paper, and have it rendered in the formats asked for."""
    from reluexp.report.figures import FIGURES, draw_figure
    from reluexp.report.rendering import Drawing
    from reluexp.report.style import Style, paper_style

    shown = [form for form in ("svg", "png") if form in formats or (form == "svg" and "html" in formats)]
    looks = ((shown, style or Style()), (["pdf"] if "pdf" in formats else [], style or paper_style()))
    for spec in FIGURES:
        for forms, look in looks:
            if forms and (figure := draw_figure(spec, study, look)) is not None:
                renderer.add(spec, Drawing(figure, forms, look))
        _give_back()


def _write_figures(folder: Path, formats: Sequence[str], renderer: Renderer) -> Rendered:
    """Write what was rendered in the formats asked for; returns all that was, by figure and format."""
    made: Rendered = renderer.results()
    for spec, files in made.items():
        for form in set(files) & set(formats):
            _write(folder / "figures" / f"{spec.name}.{form}", files[form])
    return made


def _asked(formats: str | Sequence[str], *studies: Any) -> list[str]:
    """The formats, `"html,csv"` among the ways to give them; refuses unknown ones, and what is no study."""
    for study in studies:
        if not hasattr(study, "trials"):
            raise ConfigError(f"study: a study, as reluexp.load gives it; got: {type(study).__name__}")
    found = formats.replace(" ", "").split(",") if isinstance(formats, str) else list(formats)
    for form in found:
        if form not in FORMATS:
            hint = nearest(form, list(FORMATS))
            raise ConfigError(f"unknown report format {form!r}; known: {', '.join(FORMATS)}{hint}")
    return found


def _styled(style: Style | str | Path | Mapping[str, Any] | None) -> Style | None:
    from reluexp.report.style import Style, styled

    return style if style is None or isinstance(style, Style) else styled(Style(), style)


def _forget_another(folder: Path, study: Results) -> None:
    """Removes what was made of other trials than the study has now, so that no files of two states lie side by side."""
    about = [study.config, *(study.trials[name].tolist() for name in ("trial", "outcome") if name in study.trials)]
    state, noted = digest(json.dumps(about, sort_keys=True, default=str).encode()).encode(), folder / ".made-of"
    before = state
    with suppress(OSError):  # what lies in a folder that is not ours stays
        before = noted.read_bytes()
    if before != state:
        from reluexp.report.figures import FIGURES  # not before they are needed: a renderer has yet to start
        from reluexp.report.tables import TABLES

        names = [f"figures/{spec.name}.{form}" for spec in FIGURES for form in ("svg", "png", "pdf")]
        names += [f"tables/{name}.{f}" for name in ("curves", *(t.name for t in TABLES)) for f in ("csv", "md", "tex")]
        with suppress(OSError):  # what cannot be removed cannot be written either, which is told then
            for name in (*names, "index.html"):
                (folder / name).unlink(missing_ok=True)
    _write(noted, state)


def _sweep(folder: Path) -> None:
    """Removes what a report that was killed left under temporary names; another may be at work just now."""
    with suppress(OSError):
        for path in (*folder.glob(".*.tmp"), *folder.glob("tables/.*.tmp"), *folder.glob("figures/.*.tmp")):
            if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                path.unlink()


def _write(path: Path, data: bytes) -> Path:
    try:
        write_whole(path, data)
    except OSError as error:
        raise ResultsError(f"cannot write the report: {path}: {error.strerror or error}") from error
    return path
