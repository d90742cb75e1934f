"""Verdicts on the claims: one row each, and one for each of their parts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from reluexp.claims.catalogue import CLAIMS
from reluexp.claims.claim import Claim, Evidence, Part
from reluexp.claims.field import Field, SettledResults
from reluexp.plain import counted
from reluexp.stats import ALPHA, Decision, page, was_trained
from reluexp.stats.contrasts import MANY_SEEDS, seeds_for
from reluexp.stats.intervals import median_with

__all__ = ["claim_parts", "claim_table", "evidence_of", "told_parts"]


def evidence_of(study: SettledResults) -> dict[str, Evidence]:
    """What the study has to say about every claim, by the claim's name."""
    field = Field(study)
    trained = was_trained(study)
    at_birth = Evidence(missing=["networks that are trained (train.epochs)"])
    return {claim.name: claim.decide(field) if trained or claim.at_birth else at_birth for claim in CLAIMS.entries}


def claim_table(evidence: dict[str, Evidence]) -> pd.DataFrame:
    """One row per claim: claim, statement, source, verdict, p_for, p_against, numbers, decides, needs, figure.

    p is Holm-corrected over the claims that the study tests; that of a claim is the largest of the contrasts it needs.
    `numbers` says what was seen, `decides` what would decide an undecided claim or what is missing for one that is not
    tested here.
    """
    found = page([own.p for own in evidence.values()])
    tested = sum(not math.isnan(own.p[0]) for own in evidence.values())
    rows = []
    for (name, own), (verdict, p_for, p_against) in zip(evidence.items(), found, strict=True):
        claim = CLAIMS[name]
        rows.append(
            {
                **{"claim": name, "statement": claim.statement, "source": claim.reference, "verdict": verdict},
                **{"p_for": p_for, "p_against": p_against, "numbers": _together(own)},
                **{"decides": _decides(claim, own, verdict, tested), "needs": claim.needs, "figure": claim.figure},
            }
        )
    return pd.DataFrame(rows)


def claim_parts(evidence: dict[str, Evidence]) -> pd.DataFrame:
    """One row per contrast of every part: claim, part, contrast, verdict of the part, n, mean, low, high, direction,
    threshold, unit, scale, p_for, p_against (corrected over the parts of the claim), seeds.

    Ratios are natural logarithms. A part's verdict stands for itself and supports no more than itself.
    """
    rows = []
    for name, own in evidence.items():
        verdicts = page([part.p for part in own.parts])
        for part, (verdict, p_for, p_against) in zip(own.parts, verdicts, strict=True):
            rows += [
                {
                    **{"claim": name, "part": part.label, "contrast": d.contrast.label, "verdict": verdict, "n": d.n},
                    **{"mean": d.mean, "low": d.low, "high": d.high, "direction": d.contrast.direction},
                    **{"threshold": d.contrast.threshold, "unit": part.unit, "scale": part.scale},
                    **{"p_for": p_for, "p_against": p_against, "seeds": d.seeds},
                }
                for d in part.decisions(len(own.parts))
            ]
    columns = ["claim", "part", "contrast", "verdict", "n", "mean", "low", "high", "direction", "threshold", "unit"]
    return pd.DataFrame(rows, columns=[*columns, "scale", "p_for", "p_against", "seeds"])


def _together(own: Evidence) -> str:
    return "; ".join(f"{text}: {verdict}" if verdict else text for text, verdict in told_parts(own))


def told_parts(own: Evidence) -> list[tuple[str, str]]:
    """What was seen in sentences, each with its verdict, which is empty for notes."""
    verdicts = [verdict for verdict, *_ in page([part.p for part in own.parts])]
    return [
        *((_sentence(part), verdict) for part, verdict in zip(own.parts, verdicts, strict=True)),
        *((note, "") for note in own.notes),
    ]


def _sentence(part: Part) -> str:
    """`relu − identity (…): +5.1 points [4.8, 5.4] against > 1, n = 10`."""
    shown = ", ".join(_shown(part, decision) for decision in part.decisions())
    return f"{part.label}: {shown}" + (f" ({part.numbers})" if part.numbers else "")


def _shown(part: Part, decision: Decision) -> str:
    if decision.n == 0:
        return "no values"
    ratio = part.unit == "ratio"

    def number(value: float) -> str:
        if math.isinf(value) and ratio:
            return "∞" if value > 0 else "0"
        if math.isnan(value):
            return "–"
        return (f"{math.exp(min(value, 700)):.3g}" if ratio else f"{part.scale * value:.3g}").replace("-", "−")

    sign = {"greater": ">", "less": "<", "equal": "within ±"}[decision.contrast.direction]
    unit = "×" if ratio else f" {part.unit}" if part.unit else ""
    middle = decision.mean
    if math.isnan(middle):  # some never arrived: the median can say so
        values = np.asarray(decision.contrast.values, float)
        middle = median_with(values[~np.isnan(values)], decision.contrast.unknown)
        if part.unit == "points":
            known = values[np.isfinite(values)]
            told = (
                f"{number(known.mean())}{unit} where a net learned" if len(known) else "no pair in which a net learned"
            )
        elif math.isfinite(middle) or not (ratio or math.isnan(middle)):
            told = f"median {number(middle)}{unit}"
        else:
            first = "the first" if middle > 0 else "the second"
            told = f"in the median pair {'neither' if math.isnan(middle) else f'{first} never'} arrived"
        return f"{told} against {sign} {number(decision.contrast.threshold)}, n = {decision.n}"
    bounds = f" [{number(decision.low)}, {number(decision.high)}]" if not math.isnan(decision.low) else ""
    return f"{number(middle)}{unit}{bounds} against {sign} {number(decision.contrast.threshold)}, n = {decision.n}"


def _decides(claim: Claim, own: Evidence, verdict: str, tested: int) -> str:
    if verdict == "not tested here":
        return f"needs {claim.needs}"
    if verdict != "undecided":
        return ""
    if own.lacks:
        return f"needs {'; '.join(own.lacks)}"
    share = max(tested, 1)
    found = [(part, d) for part in own.parts for d in part.decisions(share) if max(d.p_for, 0) > ALPHA / share]
    open_ = [d for _, d in found]
    if idle := sum(d.contrast.unknown for part, d in found if part.unit == "points"):
        return f"nets that learn: in {counted(idle, 'pair')} neither did"
    if waiting := sum(d.contrast.unknown for d in open_):
        return f"longer training or a wider range: what was tried tells nothing of {counted(waiting, 'pair')}"
    seeds = _seeds(open_)
    if math.isnan(seeds):
        return "more seeds; how many cannot be told from values some of which are infinite"
    if math.isinf(seeds):
        return "lies on its threshold: no number of seeds would decide it"
    if seeds > MANY_SEEDS:
        return f"more than {MANY_SEEDS:,} seeds: what was seen lies near a threshold"
    return f"about {seeds:,.0f} seeds, if what was seen is the truth"


def _seeds(undecided: Sequence[Decision]) -> float:
    """Seeds that would do: for a claim that all undecided contrasts speak for, as many as these need together; else as
    many as the first of those needs that speak against it, since one is enough; inf and NaN as `seeds_for`.
    """
    against = [d for d in undecided if d.p_against < d.p_for and math.isfinite(d.seeds)]
    return min(map(seeds_for, ([d] for d in against)), default=math.nan) if against else seeds_for(undecided)
