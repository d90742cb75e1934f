"""Which way a metric is better, on what scale its differences are taken, and the smallest difference that matters."""

from __future__ import annotations

import math
from collections.abc import Mapping

from reluexp.catalogue.metrics import MARGINS

__all__ = ["MARGINS", "better_sign", "is_time", "margin_of"]

_LESS_IS_BETTER = ("loss", "dead_fraction", "off_fraction", "starved_fraction", "stuck", "diverged")


def is_time(metric: str) -> bool:
    """Whether a metric is a time to a target: compared by the logarithm of a ratio, never ranked last."""
    return metric.startswith("steps_to_")


def better_sign(metric: str) -> int:
    """1 where more is better, −1 where less is, 0 where neither is.

    >>> [better_sign(metric) for metric in ("test_accuracy", "test_loss", "steps_to_95%", "zero_fraction")]
    [1, -1, -1, 0]
    """
    if metric.endswith(("accuracy", "restricted_life")):
        return 1
    return -1 if is_time(metric) or metric.endswith(_LESS_IS_BETTER) else 0


def margin_of(metric: str, given: Mapping[str, float] | None = None) -> float:
    """The margin of a metric: as given for it or its kind, else the default of its kind; NaN if it has none.

    >>> [margin_of("test_accuracy"), margin_of("test_accuracy", {"accuracy": 0.01}), margin_of("gain")]
    [0.005, 0.01, nan]
    """
    own = given or {}
    if metric in own:
        return float(own[metric])
    kinds = ["steps"] if is_time(metric) else [kind for kind in MARGINS if metric.endswith(kind)]
    return float(next((source[kind] for source in (own, MARGINS) for kind in kinds if kind in source), math.nan))
