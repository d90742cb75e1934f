"""The exact signed-rank test of paired differences, ties and zeros included, and what a number of pairs can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "ALPHA",
    "SignedRank",
    "beyond",
    "holm",
    "pairs_for",
    "pairs_to_resolve",
    "pairs_to_see",
    "rounded",
    "signed_rank",
    "smallest_p",
    "tidy_differences",
]

ALPHA = 0.05
"""the level of every test, corrected for the number of its family"""

_LARGEST = 1000
_TIED = 1e-12  # of their scale: differences closer than that are equal but for rounding


class SignedRank(NamedTuple):
    """One-sided p-values of "the differences lie above 0" and "below 0", the two-sided one, and the effect."""

    greater: float
    less: float
    both: float
    effect: float


def signed_rank(differences: Any) -> SignedRank:
    """Wilcoxon's (1945) test that symmetric differences are centred at 0, exact given their ranks.

    Zeros are left out, ties share the mean of their ranks, and the null distribution is that of all 2ⁿ signs of those
    ranks, found by one convolution per rank (scipy's exact distribution knows no ties); above 1,000 pairs the normal
    approximation. ±inf have the largest ranks. The effect is the matched-pairs rank-biserial correlation
    (T⁺ − T⁻)/(T⁺ + T⁻) (Kerby 2014), 0 where all differences are 0. NaN is not allowed.

    >>> signed_rank([1.0, 2.0, 3.0, 4.0, 5.0]).both
    0.0625
    """
    values = np.asarray(differences, float)
    values = values[values != 0]
    if values.size == 0:
        return SignedRank(1.0, 1.0, 1.0, 0.0)
    doubled = np.rint(2 * stats.rankdata(np.abs(values))).astype(int)
    above, total = int(doubled[values > 0].sum()), int(doubled.sum())
    effect = (2 * above - total) / total
    if values.size > _LARGEST:
        ranks = np.sign(values) * doubled
        found = [stats.wilcoxon(ranks, alternative=side).pvalue for side in ("greater", "less")]
        greater, less = map(float, found)
    else:
        chances = _null(doubled, total)
        greater, less = float(chances[above:].sum()), float(chances[: above + 1].sum())
    return SignedRank(min(greater, 1.0), min(less, 1.0), min(1.0, 2 * min(greater, less)), effect)


def _null(doubled: np.ndarray, total: int) -> np.ndarray:
    """The chance of each sum of ranks (doubled, so that ties are whole) under random signs."""
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for rank in doubled:
        moved = np.zeros_like(chances)
        moved[rank:] = chances[: total + 1 - rank]
        chances = (chances + moved) / 2
    return chances


def beyond(differences: Any, threshold: float, unknown: int = 0) -> tuple[float, float]:
    """One-sided p-values of "the differences lie above the threshold" and "below it".

    Of `unknown` further pairs nothing is known but that they are there: they speak against both.
    """
    known = tidy_differences(differences, threshold)
    low, high = (signed_rank(np.append(known, np.full(unknown, worst))) for worst in (-np.inf, np.inf))
    return low.greater, high.less


def tidy_differences(level: Any, baseline: Any) -> np.ndarray:
    """level − baseline without the rounding of floating point, so that ties are ties; both infinite and equal gives 0.

    >>> tidy_differences([0.9, 0.8, np.inf], [0.8, 0.7, np.inf]).tolist()
    [0.1, 0.1, 0.0]
    """
    left, right = np.broadcast_arrays(np.asarray(level, float), np.asarray(baseline, float))
    with np.errstate(invalid="ignore"):
        found = np.where(left == right, 0.0, left - right)
    return rounded(found, np.maximum(np.abs(left), np.abs(right)))


def rounded(values: Any, scales: Any) -> np.ndarray:
    """Values to twelve digits after the first of their own scales; those whose sizes differ by less are made equal.

    What is not finite stays as it is. Each value has a scale of its own, so that one that ran away blurs no other.

    >>> rounded([0.1 + 0.2, -0.3, 1e-20, 1e20], [0.3, 0.3, 0.3, 1e20]).tolist()
    [0.3, -0.3, 0.0, 1e+20]
    """
    values, scales = np.array(values, float), np.asarray(scales, float)
    known = np.flatnonzero(np.isfinite(values))
    size, near = np.abs(values[known]), _TIED * scales[known]
    order = np.argsort(size, kind="stable")
    size, near = np.where(size <= near, 0.0, size)[order], near[order]
    apart = np.diff(size) > np.minimum(near[1:], near[:-1])
    first = np.flatnonzero(np.append(True, apart)[: size.size])
    run = np.append(0, np.cumsum(apart))[: size.size]
    tidy = [_to_digits(value, scale) for value, scale in zip(size[first], near[first], strict=True)]
    values[known[order]] = np.copysign(np.array(tidy)[run], values[known[order]]) + 0.0
    return values


def _to_digits(value: float, unit: float) -> float:
    """The value rounded to the decimal place of a unit."""
    return round(value, -math.floor(math.log10(unit))) if value and unit else value


def smallest_p(pairs: int, comparisons: int) -> float:
    """The smallest corrected p that a family of `comparisons` with that many pairs can reach, m·2/2ⁿ, at most 1.

    >>> smallest_p(8, 6)
    0.046875
    """
    return min(1.0, comparisons * 2.0 ** (1 - pairs))


def pairs_for(comparisons: int, alpha: float = ALPHA, tails: int = 2) -> int:
    """The fewest pairs with which a family of that many comparisons can reach alpha.

    >>> [pairs_for(m) for m in (1, 6, 12)]
    [6, 8, 9]
    """
    return math.ceil(math.log2(comparisons * tails / alpha) - 1e-9)


def pairs_to_resolve(
    spread: float, margin: float, comparisons: int = 1, alpha: float = ALPHA, power: float = 0.8
) -> float:
    """The pairs that would show, with that power, that a true difference of 0 lies within ±margin; NaN if unknown.

    Each of the two one-sided tests needs power 1 − (1 − power)/2; see `pairs_to_see`.
    """
    return pairs_to_see(spread, margin, comparisons, alpha, (1 + power) / 2)


def pairs_to_see(spread: float, gap: float, comparisons: int = 1, alpha: float = ALPHA, power: float = 0.8) -> float:
    """The pairs with which the one-sided test sees, with that power, a true mean that lies `gap` beyond its threshold.

    The t test's number (z₁₋ₐ + z)²·(spread/gap)² + z₁₋ₐ²/2 (Guenther 1981), with alpha divided by the comparisons,
    over the signed-rank test's efficiency 3/π (Pitman; Lehmann 1975), and at least what its exact distribution needs to
    reach alpha. `spread` is the standard deviation of the paired differences; NaN where it is unknown or the gap 0.
    """
    if not (math.isfinite(spread) and gap > 0):
        return math.nan
    tail = float(stats.norm.isf(alpha / comparisons))
    reach = tail + float(stats.norm.ppf(power))
    needed = ((reach * spread / gap) ** 2 + tail**2 / 2) * math.pi / 3 if spread > 0 else 0.0
    return float(max(math.ceil(needed), pairs_for(comparisons, alpha, 1)))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down correction; NaN stays NaN and does not count.

    >>> holm([0.01, 0.04, float("nan"), 0.03]).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    values = np.asarray(p_values, float)  # statsmodels has this too, but collects garbage at every call: 0.1 s each
    order = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]
    found = np.full(values.shape, math.nan)
    found[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1.0)
    return found
