"""A claim: a statement of the textbooks with its source, what it needs of a study, and the function that decides it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reluexp.catalogue.registry import Options
from reluexp.claims.field import Field
from reluexp.stats import Contrast, Decision, decide, simes, together

__all__ = ["Claim", "Evidence", "Part"]


@dataclass(frozen=True)
class Part:
    """One part of a claim that is decided for itself; `numbers` says more than its contrasts do.

    `p_for` and `p_against`, where given, stand in for those of the contrasts.
    """

    label: str
    contrasts: Sequence[Contrast]
    unit: str = ""
    scale: float = 1.0
    numbers: str = ""
    p_values: tuple[float, float] | None = None

    def decisions(self, comparisons: int = 1) -> list[Decision]:
        """The contrasts' tests."""
        return [decide(contrast, comparisons) for contrast in self.contrasts]

    @property
    def p(self) -> tuple[float, float]:
        """p for and against: of all contrasts together unless given."""
        return self.p_values or together(self.decisions())


@dataclass(frozen=True)
class Evidence:
    """What a study has to say about a claim: its parts, what is missing, and notes that decide nothing."""

    parts: Sequence[Part] = ()
    missing: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=list)

    @property
    def lacks(self) -> list[str]:
        """What is missing, parts without a value included."""
        return [*self.missing, *(f"values of {part.label}" for part in self.parts if math.isnan(part.p[0]))]

    @property
    def p(self) -> tuple[float, float]:
        """p that the whole claim holds by chance (the largest of its parts'), and that it fails so.

        1 for the first where something is missing: what is not tested cannot be supported, but one part that fails is
        enough against it. NaN where no part was tested.
        """
        both = [pair for part in self.parts if not math.isnan((pair := part.p)[0])]
        if not both:
            return math.nan, math.nan
        return (1.0 if self.lacks else max(p for p, _ in both)), simes([p for _, p in both])


@dataclass(frozen=True)
class Claim:
    """One entry of the catalogue.

    `figure` names the figure of the report that shows it, if one does; `at_birth` says that networks that were never
    trained have something to say about it.
    """

    name: str
    statement: str
    reference: str
    needs: str
    figure: str | None
    decide: Callable[[Field], Evidence]
    at_birth: bool = False
    options: type[Options] = Options

    @property
    def summary(self) -> str:
        """One line for `reluexp list`."""
        return self.statement
