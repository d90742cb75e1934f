"""What a run would do and about what it would cost, in sentences. Nothing here imports torch."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from reluexp.catalogue.datasets import DATASETS
from reluexp.catalogue.registry import is_own
from reluexp.config import LoadedConfig, Point, once_each
from reluexp.engine import ENGINES, Resources, memory_of_place, places, planned_device
from reluexp.errors import ResultsError
from reluexp.plain import counted
from reluexp.planning.estimate import estimate, kind_of
from reluexp.planning.limits import of_other_precision, refuse_oversized, refuse_too_few
from reluexp.planning.plan import NUMERICS, Plan, make_plan, make_trials
from reluexp.planning.shards import part_of, refuse_fresh_part
from reluexp.planning.tuning import for_choosing, settled
from reluexp.standing import stock_for_run
from reluexp.store import Shard, Store, recall_speed

__all__ = ["foretold"]


def foretold(
    loaded: LoadedConfig, results: Path, resources: Resources, fresh: bool = False, shard: Shard | None = None
) -> Iterator[str]:
    """The trials, how they stack, and an estimate of seconds, memory and disk.

    `fresh` and `shard` as a run has them: everything anew, and one part of so many.

    Raises ConfigError for what this machine cannot hold.
    """
    refuse_fresh_part(fresh, shard)
    if ENGINES[resources.engine].here:
        refuse_oversized(loaded)
    refuse_too_few(loaded)
    tuned = loaded.config.tune
    first = for_choosing(loaded) if tuned else loaded
    device = planned_device(resources)
    plan = _planned(first, results, resources, device, fresh, shard)
    plans = [plan]
    trials, at = counted(len(plan.trials), "trial"), counted(len(first.points), "setting")
    yield f"{first.config.study}: {trials} at {at}, {plan.to_do} to do"
    if tuned:
        plans.append(_planned(_compared(loaded, results, plan), results, resources, device, fresh, shard))
        then = f"{counted(len(plans[1].trials), 'trial')} compare what was chosen, {plans[1].to_do} to do"
        yield f"these choose {', '.join(tuned.over)}; then {then}"
    sizes = [len(stack.trials) for own in plans for stack in own.stacks]
    least = f"{min(sizes)} to " if len(set(sizes)) > 1 else ""
    yield f"stacks: {len(sizes)}" + (f", of {least}{counted(max(sizes), 'trial')}" if sizes else "")
    notes = (*loaded.notes, of_other_precision(loaded, device), *_not_there(first.points))
    yield from (f"note: {note}" for note in notes if note)
    yield from _costs(plans, recall_speed(results), places(resources, device == "cuda"), device)


def _compared(loaded: LoadedConfig, results: Path, choosing: Plan) -> LoadedConfig:
    """The second phase: with what was chosen, or with any candidate while that is open, which costs the same."""
    if choosing.to_do:
        return replace(loaded, points=[candidates[0] for candidates in settled(loaded)], phase="comparing")
    from reluexp.study import Study

    return Study(Store(results / loaded.config.study)).comparing(loaded)


def _not_there(points: Iterable[Point]) -> Iterator[str]:
    """What is to be said of data whose files are not there."""
    sets = (point.setting.dataset for point in points if not is_own(point.setting.dataset))
    yield from dict.fromkeys(filter(None, once_each(sets, lambda own: DATASETS[own.name].missing(own))))


def _time(seconds: float) -> str:
    """Seconds, minutes or hours, whichever are read at a glance.

    >>> [_time(s) for s in (12.4, 400, 26455)]
    ['12 s', '7 min', '7.3 h']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _planned(
    loaded: LoadedConfig, results: Path, resources: Resources, device: str, fresh: bool, shard: Shard | None
) -> Plan:
    """The plan of what is not done yet, as `run` would make it."""
    store, asked = Store(results / loaded.config.study), make_trials(loaded)
    trials = part_of(asked, shard) if shard else asked
    about: dict[str, Any] = {}
    with suppress(ResultsError):  # no study yet, or one that the run will write anew
        about = store.read_study().get("provenance") or {}
    done = [] if fresh else stock_for_run(store, trials, about).done
    begun = [] if fresh else store.begun(NUMERICS)
    workers, memory = places(resources, device == "cuda"), memory_of_place(resources)
    return make_plan(trials, done, begun, workers, device, resources.stack, memory=memory)


def _costs(plans: Sequence[Plan], speed: Mapping[str, float], workers: int, device: str) -> Iterator[str]:
    costs = [estimate(plan, speed, device) for plan in plans]
    known = [cost for cost in costs if cost is not None]
    cost = functools.reduce(operator.add, known) if len(known) == len(costs) else None
    stacks = [stack for plan in plans for stack in plan.stacks]
    if cost is None:
        yield "estimate: unknown before the data set or the model of your own is loaded"
    elif stacks:
        basis = "no run here yet to go by: within a factor of 2 or 3"
        if any(kind_of(stack.setting, device) in speed for stack in stacks):
            basis = "as fast as earlier runs here"
        elif device != "cpu":
            basis = "no run here yet to go by: what an NVIDIA H200 takes"
        shown = f"{counted(workers, 'worker')}{' on a GPU' if device == 'cuda' else ''}"
        yield f"estimate: {_time(cost.wall(workers))} with {shown} ({basis})"
        if cost.phases["train"]:
            yield f"measuring: about {100 * cost.measuring:.0f} % of the time of training"
        yield f"{cost.memory / 1e9:.1f} GB of memory per worker, {cost.disk / 1e6:,.0f} MB on disk"
