"""What was learned, as one number of each trial: test accuracy, or the test loss where there are no classes."""

from __future__ import annotations

import math
from typing import NamedTuple

from reluexp.catalogue.metrics import METRICS
from reluexp.plain import known_to
from reluexp.stats.memory import remembered
from reluexp.stats.results import Results

__all__ = ["ACCURACY", "LOSS", "Outcome", "outcome_of", "tuned_by", "was_trained"]


class Outcome(NamedTuple):
    """A metric of what was learned, and how its values and their differences are told."""

    metric: str

    @property
    def name(self) -> str:
        """`test accuracy`."""
        return METRICS[self.metric].label

    @property
    def share(self) -> bool:
        """Whether it lies in [0, 1]: an accuracy, or a loss."""
        return METRICS[self.metric].share

    @property
    def sign(self) -> int:
        """1 where more is better, −1 where less is."""
        return METRICS[self.metric].better

    def value(self, value: float) -> str:
        """`93.1 %`, or `0.102`; a dash for a number that there is not."""
        return "–" if not math.isfinite(value) else f"{100 * value:.1f} %" if self.share else f"{value:.3g}"

    def difference(self, value: float, digits: int = 1, half: float = math.nan) -> str:
        """`+1.2` in points, or `−0.0435`, as far as half of its interval says that it is known."""
        if not math.isfinite(value):
            return "–"
        return (f"{100 * value:+.{digits}f}" if self.share else known_to(value, half, "+")).replace("-", "−")

    def least(self, margin: float) -> str:
        """The smallest difference that matters: `0.5 points`, or `0.05`."""
        size = 100 * margin
        return f"{size:g} {'point' if size == 1 else 'points'}" if self.share else f"{margin:g}"

    def apart(self, mean: float, low: float, high: float, digits: int = 1) -> str:
        """A difference with its interval, if it has one: `+1.2 points [0.8, 1.6]`."""
        unit = " points" if self.share else ""
        half = (high - low) / 2
        bounds = f" [{self.difference(low, digits, half)}, {self.difference(high, digits, half)}]"
        return f"{self.difference(mean, digits, half)}{unit}{bounds if math.isfinite(low) else ''}"


ACCURACY = Outcome("test_accuracy")
LOSS = Outcome("test_loss")


def was_trained(study: Results) -> bool:
    """Whether any network made a step; else all are networks at birth."""
    return "step" in study.epochs and bool((study.epochs["step"] > 0).any())


@remembered
def outcome_of(study: Results) -> Outcome:
    """The loss for a regression, whose trials have no accuracy at any epoch."""
    epochs = study.epochs
    counts = [int(epochs[own.metric].notna().sum()) if own.metric in epochs else 0 for own in (ACCURACY, LOSS)]
    return LOSS if counts[1] and not counts[0] else ACCURACY


def tuned_by(study: Results) -> Outcome:
    """What tuning chose by: the validation accuracy, or the validation loss."""
    return Outcome((study.config.get("tune") or {}).get("metric", "validation_accuracy"))
