"""The report as it is read in a terminal: the comparison, the answer and the claims, coloured; and as plain data."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from reluexp.catalogue.activations import display_name
from reluexp.plain import plain
from reluexp.report.answer import answer
from reluexp.report.findings import findings
from reluexp.report.lines import LABEL, short
from reluexp.report.tables.summary import gains_told, summary_table
from reluexp.report.tables.verdicts import choice, claims, hypotheses
from reluexp.stats import (
    Results,
    axis_names,
    common_setting,
    differences,
    has_many_axes,
    other_axes,
    setting_name,
    summary,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console, RenderableType
    from rich.table import Table as Grid

    from reluexp.report.tables.cells import Cell, Table

__all__ = ["as_data", "shown"]

_COLOURS = {
    **dict.fromkeys(("better", "supported"), "green"),
    **dict.fromkeys(("worse", "contradicted"), "red"),
    "equal": "cyan",
    "undecided": "yellow",
}
_MOST_COLUMNS, _MOST_ROWS = 14, 60
_DISPENSABLE = ("trials", "zero %", "off %", "… of those that learned", "failed", "diverged", "stuck", "collapsed")
"""columns that a narrow terminal goes without, the first first"""
_LEAST = 12  # characters that are left of an activation's label
_NOTE = (
    "mean ± half of the 95 % t interval over seeds; steps: median; * significant (Holm); † by underflow, not compared"
)
_SHORT = {
    "test accuracy %": "acc. %",
    "confirmed dead %": "confirmed",
    "diverged": "div.",
    "… of those that learned": "if learned %",
}


def as_data(study: Results, path: Path | None) -> dict[str, Any]:
    """What the report says, for programs: name, answer, summary, differences, claims, hypotheses, the page's path (None
    where none was written), the summary's `table` as it is shown, and the sentences of what was found.
    """
    table = summary_table(study, summary(study))
    return {
        "study": study.name,
        "answer": answer(study),
        "summary": _records(summary(study)),
        "differences": _records(differences(study)),
        "claims": _records(claims(study)),
        "hypotheses": _records(hypotheses(study)),
        "report": None if path is None else str(path),
        "table": [dict(zip(table.headers, (cell.whole for cell in row), strict=True)) for row in table.rows],
        "findings": findings(study),
    }


def _records(frame: Any) -> list[dict[str, Any]]:
    """Rows as JSON knows them: null for what is not a number, `never` for infinite steps."""
    import json

    rows: list[dict[str, Any]] = json.loads(frame.replace([float("inf")], "never").to_json(orient="records"))
    return rows


def shown(study: Results, console: Console) -> list[RenderableType]:
    """What a terminal prints, in order: the answer, the comparison, the claims that the study tests, what was expected.

    Where the comparison is wider than the console, it lacks some columns, never those that tell settings apart.
    """
    from rich.text import Text

    parts: list[RenderableType] = [Text(plain(sentence), style="bold") for sentence in answer(study)]
    table = summary_table(study, summary(study))
    if len(table.headers) > _MOST_COLUMNS or len(table.rows) > _MOST_ROWS:
        parts.append(Text(f"\n{len(table.rows)} settings, too many for a terminal: tables/summary.md, or the page\n"))
    else:
        parts.append(_comparison(table, console))
    if has_many_axes(study):
        parts.append(Text(f"the common setting: {plain(common_setting(study))}"))
    if told := gains_told(study):
        parts.append(Text(f"gains of the initial weights: {plain(told)}"))
    if told := _chosen(study):
        parts.append(Text(f"chosen by tuning: {plain(told)}"))
    tested = claims(study)
    if len(tested):
        tested = tested[tested["verdict"] != "not tested here"]
    if len(tested):
        seen = tested["decides"].where(tested["decides"].ne(""), tested["numbers"])
        parts.append(_verdicts(tested["verdict"], "claim", tested["statement"], "what was seen, or would decide", seen))
    stated = hypotheses(study)
    if len(stated):
        parts.append(_verdicts(stated["verdict"], "what was expected", stated["statement"], "", stated["kind"]))
    return parts


def _chosen(study: Results) -> str:
    """`ReLU: lr 0.05; Tanh: lr 0.01 (at the grid's edge)`; nothing where nothing was tuned."""
    frame = choice(study)
    axes = [axis for axis in study.tuned_axes if axis in frame]
    names = axis_names(axes)
    others = [axis for axis in other_axes(study) if axis in frame and axis not in axes and frame[axis].nunique() > 1]
    told = []
    for row in frame.to_dict("records"):
        where = f" at {setting_name(study, {axis: row[axis] for axis in others})}" if others else ""
        values = ", ".join(f"{names[axis]} {row[axis]}" for axis in axes)
        edge = " (at the grid's edge)" if row["at_edge"] else ""
        told.append(f"{display_name(row['activation'])}{where}: {values}{edge}")
    return "; ".join(told)


def _comparison(table: Table, console: Console) -> RenderableType:
    if _width(_grid(table, table.headers), console) > console.width:
        table = _shortened(table, LABEL)
    kept, left = list(table.headers), []
    dispensable = [header for header in _DISPENSABLE if header in kept]
    while dispensable and _width(_grid(table, kept), console) > console.width:
        left.append(dispensable.pop(0))
        kept.remove(left[-1])
    if (over := _width(_grid(table, kept), console) - console.width) > 0:
        table = _shortened(table, max(_LEAST, max(len(row[0].text) for row in table.rows) - over))
    made = _grid(table, kept)
    told = [_NOTE, *([f"for want of width without {', '.join(left)}"] if left else [])]
    made.caption, made.caption_justify = "; ".join(told), "left"
    return made


def _shortened(table: Table, length: int) -> Table:
    """Activations of so many characters, with an ellipsis in the middle; of more, where two would read the same."""
    labels = {row[0].text for row in table.rows}
    longest = max(map(len, labels), default=0)
    whole = next((n for n in range(length, longest) if len({short(own, n) for own in labels}) == len(labels)), longest)
    return replace(table, rows=[[replace(row[0], text=short(row[0].text, whole)), *row[1:]] for row in table.rows])


def _width(grid: Grid, console: Console) -> int:
    """The characters that a table takes where nothing is wrapped."""
    return console.measure(grid, options=console.options.update(max_width=10_000)).maximum


def _grid(table: Table, kept: Collection[str]) -> Grid:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    made = Grid(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    places = [index for index, header in enumerate(table.headers) if header in kept]
    for index in places:
        number, header = all(row[index].number for row in table.rows), table.headers[index]
        head, side = Text(plain(_SHORT.get(header, header))), "right" if number else "left"
        made.add_column(head, justify=side, no_wrap=number, min_width=None if number else 10)  # type: ignore[arg-type]
    for row in table.rows:
        made.add_row(*(_cell(row[index]) for index in places))
    return made


def _cell(cell: Cell) -> RenderableType:
    from rich.text import Text

    text = plain(cell.whole).replace(" ± ", "±").replace(" †", "†").replace(" *", "*")
    return Text(text, style=f"{'bold ' if cell.best else ''}{_COLOURS.get(cell.mark, '')}".strip(), overflow="fold")


def _verdicts(
    verdicts: Iterable[str], what: str, statements: Iterable[str], more: str, told: Iterable[str]
) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table("verdict", what, more, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for verdict, statement, text in zip(verdicts, statements, told, strict=True):
        made.add_row(Text(verdict, style=_COLOURS.get(verdict, "")), Text(plain(statement)), Text(plain(text)))
    return made
