"""docs/report.md names everything that the registries of the report hold, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from reluexp.report import FORMATS
from reluexp.report.figures import FIGURES, GROUPS
from reluexp.report.tables import TABLES

TEXT = (Path(__file__).parents[1] / "docs" / "report.md").read_text("utf-8")
PARTS, _, REST = TEXT.partition("## Figures")
ROWS = [line for line in REST.partition("## In a paper")[0].splitlines() if line.startswith("| `")]


def test_every_figure_has_a_row_and_every_row_a_figure() -> None:
    named = [name for row in ROWS for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(spec.name for spec in FIGURES)


def test_every_part_of_the_page_is_described_and_every_table_belongs_to_one() -> None:
    rows = [line.split("|") for line in PARTS.splitlines() if line.startswith("| ")][2:]
    titles = [group.title for group in GROUPS.values()]
    assert [row[1].strip() for row in rows if row[1].strip() in titles] == titles
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[-2])}
    assert named == {spec.name for spec in TABLES} | {"curves"}


def test_the_formats_that_it_names_exist() -> None:
    named = {form for found in re.findall(r"--format ([a-z,]+)", TEXT) for form in found.split(",")}
    assert named <= set(FORMATS)
