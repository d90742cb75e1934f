"""Sentences that captions share: how many trials, what bands are, what happened to those that diverged."""

from __future__ import annotations

import re

from reluexp.plain import counted
from reluexp.report.findings import undying_told
from reluexp.report.lines import facets_of, faint_limit, lines_of
from reluexp.report.style import Style
from reluexp.stats import Results, dying, groups, settings

__all__ = [
    "OF_PICTURE",
    "band_note",
    "count_note",
    "dagger_note",
    "ended_note",
    "facet_note",
    "kept_note",
    "of_picture",
]

OF_PICTURE = re.compile("\x02([^\x02\x03]*)\x03")
"""what `of_picture` marked"""


def of_picture(text: str) -> str:
    """Words of a caption that hold of the still picture alone, marked so that the page hides them beside a chart."""
    return f"\x02{text}\x03" if text else ""


def count_note(study: Results, crosses: bool = True) -> str:
    """Seeds, what happened to trials, and which settings are not shown."""
    frame = settings(study)
    seeds = frame["seed"].nunique()
    parts = [f"{len(frame)} trials, {counted(seeds, 'seed')}."]
    for outcome in ("diverged", "failed"):
        count = int(frame["outcome"].eq(outcome).sum())
        if count:
            where = {"diverged": " (marked × at the last finite value)" if crosses else ""}.get(outcome, " (not shown)")
            parts.append(f"{count} of {len(frame)} {outcome}{where}.")
    return " ".join(parts)


def facet_note(study: Results, panels: int = 1) -> str:
    """How many settings are not shown, where each takes so many panels."""
    _, left_out = facets_of(study, Style().facets // panels)
    told = f" {left_out} more {'setting is' if left_out == 1 else 'settings are'} in the tables."
    return of_picture(told if left_out else "")


def band_note(study: Results, panels: int = 1, crosses: bool = True) -> str:
    """What lines and bands are, and of how many trials, where each setting takes so many panels."""
    style = Style()
    most = max((len(part) for _, part in groups(settings(study), _panel_columns(study))), default=0)
    if most < 2:
        return f"One trial for each line, hence no band. {count_note(study, crosses)}{facet_note(study, panels)}"
    curves = len(facets_of(study, style.facets // panels)[0]) * len(lines_of(study).looks)
    faint = (
        "some of the trials faint behind" if most > faint_limit(2 * curves, style.seeds) else "the trials faint behind"
    )
    band = f"Line: mean over seeds; band: pointwise 95 % t interval{of_picture(f'; {faint}')}."
    return f"{band} {count_note(study, crosses)}{facet_note(study, panels)}"


def _panel_columns(study: Results) -> list[str]:
    facets, _ = facets_of(study, 1)
    return [lines_of(study).by, *facets[0].where] if facets else [lines_of(study).by]


def dagger_note(study: Results) -> str:
    """What the dagger at an activation means."""
    if dying(study).issuperset(settings(study)["activation"]) or lines_of(study).by != "activation":
        return ""
    return f" † {undying_told(study)}."


def kept_note(study: Results) -> str:
    """That diverged trials stay in the mean."""
    diverged = settings(study)["outcome"].eq("diverged").any()
    return " A diverged trial stays in the mean with its last finite value." if diverged else ""


def ended_note(study: Results) -> str:
    """That curves of diverged trials end."""
    diverged = settings(study)["outcome"].eq("diverged").any()
    return " A diverged trial's curve ends, and the mean goes on over the others." if diverged else ""
