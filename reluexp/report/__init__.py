"""The report of a study: tables, figures and one page, written to a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from reluexp.catalogue.registry import nearest
from reluexp.errors import ConfigError, ResultsError

if TYPE_CHECKING:
    import pandas as pd

    from reluexp.report.page import Picture
    from reluexp.report.style import Style
    from reluexp.report.tables import Table
    from reluexp.stats import Results

__all__ = ["FORMATS", "UNREAD", "write_report", "write_tables", "write_together"]

FORMATS = ("html", "csv", "md", "tex", "png", "svg", "pdf")
"""everything that can be asked for"""

_LEFT_SECONDS = 3600.0  # from which on a temporary file is nobody's
UNREAD = {
    "units": (
        *("unit", "revived", "off_at_end", "starved_at_end", "sample_rate"),
        *("cause_bias", "cause_weights", "cause_input"),
    )
}
"""columns that no report needs, for `reluexp.load`: a third of what a large study takes in memory"""


def write_report(
    study: Results,
    out: Path | None = None,
    formats: Sequence[str] = ("html", "csv", "md", "tex", "png", "svg"),
    style: Style | None = None,
) -> Path:
    """Write what `formats` names below `out` (default: `report` in the study's folder; with earlier configs' trials,
    `report-earlier`, so that neither takes the other's place).

    Returns the path of index.html, or the folder when `html` is not asked for. Every file appears whole or not at all.
    `style` sets sizes and rcParams of the figures; without it, PDFs are made for a paper (5.5 inches wide, a Times-like
    face), the others for the page. Raises ConfigError for an unknown format, ResultsError when the
    folder cannot be written.
    """
    _check(formats)
    name = "report-earlier" if getattr(study, "shows_earlier", False) else "report"
    folder = study.path / name if out is None else Path(out)
    _sweep(folder)
    frames, tables = _write_tables(study, folder, formats)
    explored = _write_curves(study, folder, formats)
    pictures = _write_figures(study, folder, formats, style)
    if "html" not in formats:
        return folder
    from reluexp.report.page import render_page

    return _write(folder / "index.html", render_page(study, frames, tables, pictures, explored).encode())


def write_together(studies: Sequence[Results], out: Path | None = None) -> Path:
    """Write one page with the studies side by side, and their summaries as CSV; returns its path.

    `out` is a folder beside the first study's, named by all of them, unless given.
    """
    from reluexp.report.tables import to_csv
    from reluexp.report.together import render_together, together_frame

    folder = Path(out) if out else studies[0].path.parent / "+".join(study.name for study in studies)
    _write(folder / "summary.csv", to_csv(together_frame(studies)).encode())
    return _write(folder / "index.html", render_together(studies).encode())


def write_tables(study: Results, out: Path, formats: Sequence[str] = ("csv", "md", "tex")) -> Path:
    """Write every table below `out`/tables and return that folder. Raises as `write_report`."""
    _check(formats)
    _write_tables(study, Path(out), formats)
    _write_curves(study, Path(out), formats)
    return Path(out) / "tables"


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


def _write_figures(study: Results, folder: Path, formats: Sequence[str], style: Style | None) -> list[Picture]:
    """Draw each figure once for all of its formats, write it, and keep what the page needs."""
    wanted = [form for form in ("svg", "png", "pdf") if form in formats]
    shown = [form for form in ("svg", "png") if form in wanted or (form == "svg" and "html" in formats)]
    if not wanted and not shown:
        return []
    from reluexp.report.figures import FIGURES, draw_figure
    from reluexp.report.page import Picture
    from reluexp.report.rendering import Drawing, for_page, render_all
    from reluexp.report.style import Style, paper_style

    looks = ((shown, style or Style()), (["pdf"] if "pdf" in wanted else [], style or paper_style()))
    drawn = [
        (spec, Drawing(figure, forms, look))
        for spec in FIGURES
        for forms, look in looks
        if forms and (figure := draw_figure(spec, study, look)) is not None
    ]
    made: dict[str, dict[str, bytes]] = {}
    for (spec, _), files in zip(drawn, render_all([drawing for _, drawing in drawn]), strict=True):
        made.setdefault(spec.name, {}).update(files)
    for name, files in made.items():
        for form in set(wanted) & set(files):
            _write(folder / "figures" / f"{name}.{form}", files[form])
    if "html" not in formats:
        return []
    specs = [spec for spec in FIGURES if spec.name in made]
    return [Picture.of(spec, study, for_page(made[spec.name])) for spec in specs]


def _check(formats: Sequence[str]) -> None:
    for form in formats:
        if form not in FORMATS:
            hint = nearest(form, list(FORMATS))
            raise ConfigError(f"unknown report format {form!r}; known: {', '.join(FORMATS)}{hint}")


def _sweep(folder: Path) -> None:
    """Removes what a report that was killed left under temporary names; another may be at work just now."""
    with suppress(OSError):
        for path in (*folder.glob(".*.tmp"), *folder.glob("tables/.*.tmp"), *folder.glob("figures/.*.tmp")):
            if time.time() - path.stat().st_mtime > _LEFT_SECONDS:
                path.unlink()


def _write(path: Path, data: bytes) -> Path:
    """Write to a temporary name beside it, flush, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # what could not be written may not be removable either
            temporary.unlink()
        raise ResultsError(f"cannot write the report: {path}: {error.strerror or error}") from error
    return path
