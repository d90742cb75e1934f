"""The tables of a report: raw numbers as CSV; for reading as Markdown, LaTeX, and rows for a terminal or a page."""

from __future__ import annotations

from reluexp.report.frames.across import across_summary, nemenyi, profiles, ranks
from reluexp.report.frames.choices import candidates
from reluexp.report.frames.costs import phase_seconds
from reluexp.report.frames.lives import causes, starved_and_dead, survival_curves
from reluexp.report.tables.across import across_table, ranks_table
from reluexp.report.tables.along import along_table
from reluexp.report.tables.cells import Cell, Table, TableSpec
from reluexp.report.tables.differences import differences_table
from reluexp.report.tables.formats import to_csv, to_latex, to_markdown
from reluexp.report.tables.numbers import fate_means
from reluexp.report.tables.summary import summary_table
from reluexp.report.tables.trials import by_outcome, trials_table
from reluexp.report.tables.verdicts import (
    choice,
    choice_table,
    claim_parts,
    claims,
    hypotheses,
    hypotheses_table,
)
from reluexp.stats import along_axes, differences, summary

__all__ = ["TABLES", "Cell", "Table", "TableSpec", "to_csv", "to_latex", "to_markdown"]

TABLES: tuple[TableSpec, ...] = (
    TableSpec("summary", "Summary", summary, summary_table),
    TableSpec("differences", "Differences to the baseline", differences, differences_table),
    TableSpec("along_axes", "Along the other axes", along_axes, along_table),
    TableSpec("trials", "Every trial", by_outcome, trials_table),
    TableSpec("hypotheses", "What was expected", hypotheses, hypotheses_table),
    TableSpec("choice", "What tuning chose", choice, choice_table),
    TableSpec("candidates", "What tuning saw", candidates),
    TableSpec("claims", "Verdicts on claims", claims),
    TableSpec("claim_parts", "The contrasts behind them", claim_parts),
    TableSpec("across", "Data sets and architectures together", across_summary, across_table),
    TableSpec("profiles", "How often each accuracy is reached", profiles),
    TableSpec("ranks", "Average ranks over data sets", ranks, ranks_table),
    TableSpec("nemenyi", "Which average ranks differ", nemenyi),
    TableSpec("causes", "Causes of death", causes),
    TableSpec("fates", "What became of the units", fate_means),
    TableSpec("survival", "Survival of units", survival_curves),
    TableSpec("starved_and_dead", "Starved against dead", starved_and_dead),
    TableSpec("seconds", "Seconds by phase", phase_seconds),
)
"""every table but `curves`, which is what the page's figures are made of"""
