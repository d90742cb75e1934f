"""Contrasts: one number per seed against a threshold, the least that a claim or a hypothesis is decided by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from reluexp.stats.intervals import mean_interval
from reluexp.stats.signed_rank import ALPHA, beyond, holm, pairs_for, pairs_to_see

__all__ = [
    "MANY_SEEDS",
    "Contrast",
    "Decision",
    "Direction",
    "Verdict",
    "decide",
    "page",
    "seeds_for",
    "seeds_told",
    "simes",
    "together",
]

Direction = Literal["greater", "less", "equal"]
Verdict = Literal["supported", "contradicted", "undecided", "not tested here"]


MANY_SEEDS = 1000
"""more than these are told as more than these: what was seen lies near a threshold"""


def seeds_told(seeds: float) -> str:
    """`8`, or `more than 1,000`."""
    return f"more than {MANY_SEEDS:,}" if seeds > MANY_SEEDS else f"{seeds:.0f}"


@dataclass(frozen=True)
class Contrast:
    """A statement about the centre of one number per seed: above a threshold, below it, or within ±threshold of 0.

    Of `unknown` further seeds the number cannot be known, as where neither of a pair arrived; they speak for no side.
    """

    label: str
    values: Any
    direction: Direction = "greater"
    threshold: float = 0.0
    unknown: int = 0


@dataclass(frozen=True)
class Decision:
    """A contrast's numbers: p that it holds by chance alone, p that it fails so, mean with its 95 % t interval, n, and
    the seeds that would decide it if the mean were the one seen (inf where no number would, since the mean lies on the
    threshold or some values cannot be known; NaN where some are infinite, so that there is no mean).
    """

    contrast: Contrast
    p_for: float
    p_against: float
    mean: float
    low: float
    high: float
    n: int
    seeds: float


def decide(contrast: Contrast, comparisons: int = 1) -> Decision:
    """Exact signed-rank tests of the values against the threshold; two one-sided ones for `equal` (TOST).

    Values that are NaN are left out; `comparisons` is how many tests are corrected together.
    """
    values = np.asarray(contrast.values, float)
    values = values[~np.isnan(values)]
    n = values.size + contrast.unknown
    if n == 0:
        return Decision(contrast, math.nan, math.nan, math.nan, math.nan, math.nan, 0, math.nan)
    p_for, p_against = _tests(values, contrast)
    measured = bool(np.isfinite(values).all()) and not contrast.unknown
    interval = mean_interval(values if measured else [])
    spread = float(np.std(values, ddof=1)) if n > 1 and measured else math.nan
    gap = (
        abs(interval.mean) - contrast.threshold if contrast.direction == "equal" else interval.mean - contrast.threshold
    )
    seeds = math.inf if contrast.unknown or not gap else pairs_to_see(spread, abs(gap), comparisons)
    if math.isnan(seeds) and measured:  # one seed has no spread
        seeds = float(pairs_for(comparisons, tails=1))
    return Decision(contrast, p_for, p_against, interval.mean, interval.low, interval.high, n, seeds)


def _tests(values: np.ndarray, contrast: Contrast) -> tuple[float, float]:
    above, below = beyond(values, contrast.threshold, contrast.unknown)
    if contrast.direction == "greater":
        return above, below
    if contrast.direction == "less":
        return below, above
    not_below, far_below = beyond(values, -contrast.threshold, contrast.unknown)
    return max(below, not_below), min(1.0, 2 * min(above, far_below))


def seeds_for(decisions: Sequence[Decision]) -> float:
    """The seeds that would decide contrasts that are undecided: more than there were; NaN where it cannot be told."""
    found = [np.maximum(decision.seeds, decision.n + 1) for decision in decisions]  # which keeps NaN
    return float(np.max(found)) if found else math.nan


def together(decisions: Sequence[Decision]) -> tuple[float, float]:
    """p that a statement of several contrasts holds by chance (the largest: it needs them all), and that it fails so
    (Simes: one that fails is enough); NaN where one has no values.
    """
    if not decisions or any(decision.n == 0 for decision in decisions):
        return math.nan, math.nan
    return max(decision.p_for for decision in decisions), simes([decision.p_against for decision in decisions])


def simes(p_values: Sequence[float]) -> float:
    """p that all of several statements are true, min over i of m·p₍ᵢ₎/i (Simes 1986; for positively dependent tests,
    such as those of the same seeds, Sarkar 1998).

    >>> simes([0.01, 0.02, 0.9])
    0.03
    """
    ordered = np.sort(np.asarray(p_values, float))
    return float(min(1.0, (ordered * len(ordered) / np.arange(1, len(ordered) + 1)).min()))


def page(p_values: Sequence[tuple[float, float]], alpha: float = ALPHA) -> list[tuple[Verdict, float, float]]:
    """The verdicts of statements that stand on one page: p for and against, each corrected by Holm over the page.

    >>> [verdict for verdict, *_ in page([(0.001, 1.0), (1.0, 0.001), (0.04, 0.9), (math.nan, math.nan)])]
    ['supported', 'contradicted', 'undecided', 'not tested here']
    """
    holds, fails = (holm([pair[side] for pair in p_values]) for side in (0, 1))
    found: list[tuple[Verdict, float, float]] = []
    for for_, against in zip(holds, fails, strict=True):
        if math.isnan(for_):
            verdict: Verdict = "not tested here"
        else:
            verdict = "supported" if for_ <= alpha else "contradicted" if against <= alpha else "undecided"
        found.append((verdict, float(for_), float(against)))
    return found
