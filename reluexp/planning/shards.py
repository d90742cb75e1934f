"""A part of a study that is the same whoever works it out: for job arrays, without any server."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reluexp.errors import ConfigError
from reluexp.planning.estimate import stack_seconds
from reluexp.planning.plan import Stack, Trial, make_plan
from reluexp.store import Shard

__all__ = ["part_of", "refuse_fresh_part"]


def refuse_fresh_part(fresh: bool, shard: Shard | None) -> None:
    """Raises ConfigError for a part that would begin by removing everything."""
    if fresh and shard:
        raise ConfigError("--fresh with --shard would remove what other shards did; use another --results folder")


def part_of(trials: Sequence[Trial], shard: Shard) -> list[Trial]:
    """The trials of a shard: whole stacks, as if none were done, each given to the part that has the least work so far.

    Depends on the config alone: not on what is done, on the machine, or on the number of workers.
    """
    stacks = make_plan(list(trials), workers=shard.count).stacks
    told = [stack_seconds(stack) for stack in stacks]
    known = all(own is not None for own in told)
    work = {
        stack.id: sum(own.values()) if known and own else _work(stack) for stack, own in zip(stacks, told, strict=True)
    }
    loads = [0.0] * shard.count
    mine: set[str] = set()
    for stack in sorted(stacks, key=lambda stack: work[stack.id], reverse=True):
        least = loads.index(min(loads))
        loads[least] += work[stack.id]
        if least == shard.number - 1:
            mine |= {trial.id for trial in stack.trials}
    return [trial for trial in trials if trial.id in mine]


def _work(stack: Stack) -> float:
    """Epochs of networks, the larger ones counted by their depth and width: for models that no estimate is made of."""
    setting = stack.setting
    width = getattr(setting.architecture, "width", 1)
    widths = width if isinstance(width, list) else [width] * int(getattr(setting.architecture, "depth", 1) or 1)
    size = sum(math.sqrt(float(number)) for number in widths if isinstance(number, (int, float)))
    return len(stack.trials) * (1 + setting.train.epochs) * (1 + size)
