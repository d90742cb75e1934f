"""Several studies on one page, side by side: what they were, their comparison tables, figure beside figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import yaml

from reluexp.report.answer import answer
from reluexp.report.figures import FIGURES, FigureSpec, draw_figure
from reluexp.report.page import Picture, asset, environment, remarks_of
from reluexp.report.rendering import Drawing, Renderer, for_page
from reluexp.report.style import Style
from reluexp.report.tables import Table
from reluexp.report.tables.cells import Cell
from reluexp.report.tables.summary import caption_parts, summary_table
from reluexp.stats import Results, summary

__all__ = ["COLUMN", "draw_together", "render_together", "together_frame", "together_table"]


def together_frame(studies: Sequence[Results]) -> pd.DataFrame:
    """The summaries of the studies under one another, the study's name first."""
    parts = [summary(study).assign(study=name) for name, study in zip(_names(studies), studies, strict=True)]
    whole = pd.concat(parts, ignore_index=True)
    return whole[["study", *whole.columns.drop("study")]]


_GRID = "see grid"
Made = dict[tuple[str, str], dict[str, bytes]]
"""files by format, of each figure and study's name"""


COLUMN = Style(width=6.0, row_height=2.4)
"""columns are narrow, and letters stay legible"""


def draw_together(studies: Sequence[Results], formats: Sequence[str], style: Style = COLUMN) -> Made:
    """Every figure that a study has."""
    with Renderer() as renderer:
        for spec in FIGURES:
            for name, study in zip(_names(studies), studies, strict=True):
                if (figure := draw_figure(spec, study, style)) is not None:
                    renderer.add((spec.name, name), Drawing(figure, formats, style))
        return renderer.results()


def render_together(studies: Sequence[Results], made: Made) -> str:
    """One page with a column for each study. Figures that only some of the studies have stand alone in their column."""
    names, rows = _names(studies), []
    for spec in FIGURES:
        own = [_picture(spec, study, i, made.get((spec.name, names[i]))) for i, study in enumerate(studies)]
        if any(own):
            rows.append({"title": spec.title, "name": spec.name, "pictures": list(zip(names, own, strict=True))})
    return (
        environment()
        .get_template("together.html.j2")
        .render(
            css=asset("page.css"),
            script=asset("tables.js"),
            names=names,
            answers=[(name, answer(study), remarks_of(study)) for name, study in zip(names, studies, strict=True)],
            summary=together_table(studies),
            differing=_differing(studies),
            rows=rows,
        )
    )


def _names(studies: Sequence[Results]) -> list[str]:
    """The studies' names; numbered where two are called the same."""
    names = [study.name for study in studies]
    return [name if names.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(names)]


def _picture(spec: FigureSpec, study: Results, place: int, files: dict[str, bytes] | None) -> Picture | None:
    """The picture in a study's column, if the study has it: named and titled apart from the others."""
    if files is None:
        return None
    return replace(
        Picture.of(spec, study, for_page(files)), name=f"{spec.name}-{place}", title=f"{spec.title}, {study.name}"
    )


def together_table(studies: Sequence[Results]) -> Table:
    """The summaries as one table: a column that a study lacks is a dash there."""
    tables = [summary_table(study, summary(study)) for study in studies]
    headers = _merged([table.headers for table in tables])
    words = {h for table in tables for h, cell in zip(table.headers, table.rows[0], strict=True) if not cell.number}
    rows: list[list[Cell]] = []
    rules: set[int] = set()
    for name, table in zip(_names(studies), tables, strict=True):
        rules |= {len(rows)} if rows else set()
        for row in table.rows:
            cells = dict(zip(table.headers, row, strict=True))
            rows.append([Cell(name, number=False), *(cells.get(h, Cell("–", number=h not in words)) for h in headers)])
    plain = [[Cell(c.text, c.best, c.number, c.sort, None, c.mark, c.star) for c in row] for row in rows]
    return Table(["study", *headers], plain, _caption(studies), frozenset(rules))


def _merged(lists: Sequence[Sequence[str]]) -> list[str]:
    """Headers in one order: those that the first table lacks stand after the one that they follow in theirs.

    >>> _merged([["activation", "depth", "dead %"], ["activation", "init", "dead %", "failed"]])
    ['activation', 'init', 'depth', 'dead %', 'failed']
    """
    found: list[str] = []
    for own in lists:
        place = 0
        for header in own:
            if header not in found:
                found.insert(place, header)
            place = found.index(header) + 1
    return found


def _caption(studies: Sequence[Results]) -> str:
    """The captions' sentences; those that do not stand under every study's table say whose they are."""
    whose: dict[str, list[str]] = {}
    for name, study in zip(_names(studies), studies, strict=True):
        for sentence in caption_parts(study, summary(study)):
            whose.setdefault(sentence, []).append(name)
    return " ".join(
        sentence if len(names) == len(studies) else f"{sentence[:-1]} ({', '.join(names)})."
        for sentence, names in whose.items()
    )


def _differing(studies: Sequence[Results]) -> list[tuple[str, list[str]]]:
    """The keys of the configs that are not the same in all studies, with their values; no base value that none has."""
    flat, axes = [_flat(study.config) for study in studies], [_axes(study.config) for study in studies]
    rows = []
    for key in dict.fromkeys(key for own in flat for key in own):
        replaced = [any(f"{key}.".startswith(f"{axis}.") for axis in own) for own in axes]
        values = [_GRID if gone else own.get(key, "–") for own, gone in zip(flat, replaced, strict=True)]
        known = set(values) - {_GRID}
        head = key.endswith(".name") or any(key in own for own in axes)
        if len(known) > 1 or (known and any(replaced) and head):
            rows.append((key, values))
    return rows


def _axes(config: dict[str, Any]) -> set[str]:
    """The keys that every part of the grid has: no trial has their base values."""
    parts = config.get("grid") or []
    parts = [parts] if isinstance(parts, dict) else parts
    return set.intersection(*(set(part) for part in parts)) if parts else set()


def _flat(config: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(config, dict) and config:
        return {name: text for key, value in config.items() for name, text in _flat(value, f"{prefix}{key}.").items()}
    return {prefix[:-1]: yaml.safe_dump(config, default_flow_style=True, width=1000).split("\n")[0]}
