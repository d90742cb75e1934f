"""A part of a study that is the same whoever works it out: for job arrays, without any server."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reluexp.plan import Stack, Trial, make_plan
from reluexp.store import Shard

__all__ = ["part_of"]


def part_of(trials: Sequence[Trial], shard: Shard) -> list[Trial]:
    """The trials of a shard: whole stacks, as if none were done, each given to the part that has the least work so far.

    Depends on the config alone: not on what is done, on the machine, or on the number of workers.
    """
    stacks = make_plan(list(trials), workers=shard.count).stacks
    loads = [0.0] * shard.count
    mine: set[str] = set()
    for stack in sorted(stacks, key=_work, reverse=True):
        least = loads.index(min(loads))
        loads[least] += _work(stack)
        if least == shard.number - 1:
            mine |= {trial.id for trial in stack.trials}
    return [trial for trial in trials if trial.id in mine]


def _work(stack: Stack) -> float:
    """Epochs of networks, the larger ones counted by their depth and width as far as they say."""
    setting = stack.setting
    width = getattr(setting.architecture, "width", 1)
    widths = width if isinstance(width, list) else [width] * int(getattr(setting.architecture, "depth", 1) or 1)
    size = sum(math.sqrt(float(number)) for number in widths if isinstance(number, (int, float)))
    return len(stack.trials) * (1 + setting.train.epochs) * (1 + size)
