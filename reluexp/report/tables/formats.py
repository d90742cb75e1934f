"""Tables as text: CSV, Markdown, LaTeX for booktabs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reluexp.report.tables.cells import Table

__all__ = ["to_csv", "to_latex", "to_markdown"]

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "−": "$-$",
        "†": r"$\dagger$",
        "–": "--",
        "…": r"\ldots{}",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "\n": " ",
        "\r": " ",
    }
)
_MARKDOWN = str.maketrans(
    {**{sign: f"\\{sign}" for sign in "\\`*_{}[]#|~"}, "&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "}
)


def to_csv(frame: pd.DataFrame) -> str:
    """Raw numbers as CSV; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    guarded = frame.rename(columns=_guard)
    for column in guarded.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in guarded.dtypes]]:
        guarded[column] = _guarded(guarded[column])
    return str(guarded.to_csv(index=False, lineterminator="\n"))


def to_markdown(table: Table) -> str:
    """A Markdown table with its caption below; the best values are bold."""
    cells = [[f"**{_markdown(c.whole)}**" if c.best else _markdown(c.whole) for c in row] for row in table.rows]
    first = table.rows[0] if table.rows else []
    marks = ["---:" if cell.number else ":---" for cell in first] or ["---"] * len(table.headers)
    lines = [[_markdown(header) for header in table.headers], marks, *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{_markdown(table.caption)}\n"


def to_latex(table: Table) -> str:
    """A tabular for the booktabs package, to be placed in a table environment; the best values are bold."""
    first = table.rows[0] if table.rows else []
    align = "".join("r" if cell.number else "l" for cell in first) or "l" * len(table.headers)
    lines = [
        f"% {' '.join(table.caption.split())}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        _row([_latex(header) for header in table.headers]),
        r"\midrule",
    ]
    for i, row in enumerate(table.rows):
        lines += [r"\addlinespace"] if i in table.rules else []
        lines.append(_row([rf"\textbf{{{_latex(c.whole)}}}" if c.best else _latex(c.whole) for c in row]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def _markdown(text: str) -> str:
    return text.translate(_MARKDOWN)


def _guarded(values: pd.Series) -> Any:
    """Each value guarded; a long column of a few texts is done text by text."""
    if pd.api.types.infer_dtype(values, skipna=True) != "string":
        return values.map(_guard)
    codes, texts = pd.factorize(values)
    return np.array([*map(_guard, texts), None], dtype=object)[codes]  # the code of what is missing, −1, takes the last


def _guard(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = " ".join(value.splitlines())
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@") else text
