"""A study as a notebook shows it: name, answer, the comparison table."""

from __future__ import annotations

from reluexp.report.answer import answer
from reluexp.report.page import environment
from reluexp.report.tables.summary import summary_table
from reluexp.stats import Results, summary

__all__ = ["notebook_summary"]


def notebook_summary(study: Results) -> str:
    """HTML for a cell's output; everything that comes from the study is escaped."""
    empty = study.trials.empty
    return (
        environment()
        .get_template("notebook.html.j2")
        .render(
            study=study,
            trials=len(study.trials),
            answer=answer(study),
            table=None if empty else summary_table(study, summary(study)),
        )
    )
