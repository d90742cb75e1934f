"""When a training is measured: the epochs of full measurements, the early steps of light ones. No torch."""

from __future__ import annotations

import math

__all__ = ["early_steps", "full_epochs"]


def full_epochs(rule: str, epochs: int) -> set[int]:
    """The epochs whose measurement has gradients: 0, 1, 4, 16, … and the last, the last alone, or every one."""
    if rule == "every":
        return set(range(epochs + 1))
    return {epochs} | ({0} | {4**k for k in range(15) if 4**k <= epochs} if rule == "log" else set())


def early_steps(count: int, steps: int) -> set[int]:
    """`count` log-spaced steps within the first epoch, fewer where they coincide."""
    if not count or steps < 2:
        return set()
    return {round(math.exp(math.log(steps) * k / count)) for k in range(count)}
