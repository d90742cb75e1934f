"""What is known of ReLU networks at birth: the probability of being born dead (Lu, Shin, Su, Karniadakis 2019).

Weights are symmetric about 0 and biases are 0 (arXiv 1903.06733). A network is born dead if it is constant: every path
is shut, whatever the input.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["dead_for_one_input", "least_born_dead"]


def dead_for_one_input(widths: Iterable[int]) -> float:
    """The probability that one fixed non-zero input dies in hidden layers of these widths: 1 − ∏(1 − 2^(−N)).

    Exact; over all inputs an upper bound of the probability to be born dead.

    >>> dead_for_one_input([1, 1])
    0.75
    """
    return 1 - math.prod(1 - 0.5**width for width in widths)


def least_born_dead(width: int, depth: int) -> float:
    """A lower bound of the probability to be born dead for one-dimensional input and `depth` hidden layers of a width.

    With L = depth + 1, a₁ = 1 − 2^(−N) and a₂ = 1 − 2^(1−N) − (N − 1)·2^(−2N) it is
    1 − a₁^(L−2) + (1 − 2^(1−N))(1 − 2^(−N))/(1 + (N − 1)2^(−N)) · (a₂^(L−2) − a₁^(L−2)), and exact for depth 2.

    >>> least_born_dead(3, 1)
    0.0
    """
    part, more = 0.5**width, depth - 1
    one = (1 - part) ** more
    two = (1 - 2 * part - (width - 1) * part**2) ** more
    return 1 - one + (1 - 2 * part) * (1 - part) / (1 + (width - 1) * part) * (two - one)
