"""The largest value of an axis up to which something held, by seed, and what is known of the ratio of two of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from reluexp.stats import Contrast

__all__ = ["median_of", "ratio_contrast", "smaller_than"]


def smaller_than(tried: Iterable[float]) -> float:
    """What stands for a seed at which nothing held, whatever was tried: half the smallest value."""
    return min(tried) / 2


def ratio_contrast(
    label: str,
    own: Mapping[int, float],
    other: Mapping[int, float],
    tried: Iterable[float],
    threshold: float,
    last: float = math.inf,
) -> Contrast:
    """log₂ of own over other, one number per seed that both have, above a threshold.

    A seed's ratio is unknown where nothing held for either, and where `own` held to the largest value tried, so that
    the ratio may be more than was seen, and what was seen does not lie above the threshold. `last` is the value beyond
    which the claim asks nothing: who held up to it held.
    """
    values, unknown, nothing, top = [], 0, smaller_than(tried), max(tried)
    for seed in own.keys() & other.keys():
        seen = math.log2(own[seed] / other[seed])
        may_be_more = own[seed] == top < last and seen <= threshold
        if may_be_more or own[seed] == other[seed] == nothing:
            unknown += 1
        else:
            values.append(seen)
    return Contrast(label, np.array(values), "greater", threshold, unknown)


def median_of(found: Mapping[int, float], tried: Iterable[float]) -> str:
    """The median over seeds in words: `none` where nothing held for half of them."""
    middle = float(np.median([*found.values()])) if found else math.nan
    return "none" if not middle >= min(tried) else f"{middle:g}"
