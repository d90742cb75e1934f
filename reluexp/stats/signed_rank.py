"""The exact signed-rank test of paired differences, ties and zeros included, and what a number of pairs can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "SignedRank",
    "holm",
    "pairs_for",
    "pairs_to_resolve",
    "pairs_to_see",
    "rounded",
    "signed_rank",
    "smallest_p",
    "tidy_differences",
]

_LARGEST = 1000


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


def tidy_differences(level: Any, baseline: Any) -> np.ndarray:
    """level − baseline without the rounding of floating point, so that ties are ties; both infinite and equal gives 0.

    >>> tidy_differences([0.9, 0.8, np.inf], [0.8, 0.7, np.inf]).tolist()
    [0.1, 0.1, 0.0]
    """
    left, right = np.asarray(level, float), np.asarray(baseline, float)
    with np.errstate(invalid="ignore"):
        found = np.where(left == right, 0.0, left - right)
    return rounded(found, _scale(left, right))


def rounded(values: np.ndarray, scale: float) -> np.ndarray:
    """The values to twelve digits after that of `scale`."""
    digits = 12 - math.floor(math.log10(scale)) if scale > 0 else 12
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.round(values, min(digits, 300))
    return np.where(np.isfinite(found), found, values)


def _scale(*parts: np.ndarray) -> float:
    finite = np.abs(np.concatenate([part[np.isfinite(part)] for part in parts]))
    return float(finite.max()) if finite.size else 0.0


def smallest_p(pairs: int, comparisons: int) -> float:
    """The smallest corrected p that a family of `comparisons` with that many pairs can reach, m·2/2ⁿ, at most 1.

    >>> smallest_p(8, 6)
    0.046875
    """
    return min(1.0, comparisons * 2.0 ** (1 - pairs))


def pairs_for(comparisons: int, alpha: float = 0.05, tails: int = 2) -> int:
    """The fewest pairs with which a family of that many comparisons can reach alpha.

    >>> [pairs_for(m) for m in (1, 6, 12)]
    [6, 8, 9]
    """
    return math.ceil(math.log2(comparisons * tails / alpha) - 1e-9)


def pairs_to_resolve(
    spread: float, margin: float, comparisons: int = 1, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The pairs that would show, with that power, that a true difference of 0 lies within ±margin; NaN if unknown.

    Each of the two one-sided tests needs power 1 − (1 − power)/2; see `pairs_to_see`.
    """
    return pairs_to_see(spread, margin, comparisons, alpha, (1 + power) / 2)


def pairs_to_see(spread: float, gap: float, comparisons: int = 1, alpha: float = 0.05, power: float = 0.8) -> float:
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
