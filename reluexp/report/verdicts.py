"""Verdicts as cards: on claims, and on each activation against the baseline."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.claims import Evidence, Group, told_parts
from reluexp.plain import counted, p_told
from reluexp.report.findings import at_setting
from reluexp.report.tables.differences import seeds_to_tell
from reluexp.stats import Results, outcome_of, unlearned
from reluexp.stats.contrasts import MANY_SEEDS

__all__ = ["base_of", "cards_of", "claims_of"]

_MOST = 24  # cards; more settings than that are read from the table


def claims_of(
    frame: pd.DataFrame, evidence: Mapping[str, Evidence], pictures: Collection[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The claims that were tested, as cards, and those that were not, with what they need.

    `frame` is `Study.claims()` and `evidence` what it was made from, by the claim; a card names its figure where
    that is among the `pictures` of the page.
    """
    cards: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for row in frame.to_dict("records"):
        shown = {
            **{name: str(row[name]) for name in ("statement", "source", "verdict", "needs")},
            "parts": told_parts(evidence[row["claim"]]),
            "more": str(row["decides"]),
            "figure": row["figure"] if row["figure"] in pictures else "",
        }
        (rest if row["verdict"] == "not tested here" else cards).append(shown)
    order = ("supported", "contradicted", "undecided")
    return sorted(cards, key=lambda card: order.index(card["verdict"])), rest


def base_of(study: Results) -> str:
    """The setting that claims call the base one, in a few words; nothing for results that do not know theirs."""
    return Group(study.base, bool(study.tuned_axes)).about if study.base else ""


def cards_of(study: Results, compared: pd.DataFrame) -> list[dict[str, str]]:
    """One card for each comparison in what was learned, in the order of the table; none where there are too many."""
    rows = compared[compared["metric"] == outcome_of(study).metric] if len(compared) else compared
    told = zip(rows.to_dict("records"), unlearned(study, rows), strict=True)
    return [_card(study, row, idle) for row, idle in told] if len(rows) <= _MOST else []


def _card(study: Results, row: dict[Any, Any], idle: str) -> dict[str, str]:
    title = display_name(row["activation"]) + at_setting(study, row)
    size = f"{outcome_of(study).apart(row['mean'], row['low'], row['high'], 2)}, {counted(int(row['n']), 'pair')}"
    numbers = size if math.isfinite(row["mean"]) else "no pairs"
    more = f"{idle[:1].upper()}{idle[1:]}." if idle else _more(row)
    return {"verdict": str(row["verdict"]), "title": title, "numbers": numbers, "more": more}


def _more(row: dict[Any, Any]) -> str:
    if math.isfinite(seeds := seeds_to_tell(row)):
        if seeds > MANY_SEEDS:
            return f"What was seen lies near the margin: more than {MANY_SEEDS:,} seeds would be needed to tell."
        if abs(row["mean"]) > row["margin"]:
            return f"About {seeds:.0f} seeds would show a difference as large as the one seen."
        return f"About {seeds:.0f} seeds would show that there is none beyond the margin, if there is none."
    deciding = {"better": "p_beyond", "worse": "p_beyond", "equal": "p_equal"}.get(str(row["verdict"]), "p_holm")
    if math.isfinite(row[deciding]):
        of = {"p_beyond": ", of a difference beyond the margin", "p_equal": ", of one within it"}.get(deciding, "")
        return f"{p_told(row[deciding])} (Holm{of})"
    return ""
