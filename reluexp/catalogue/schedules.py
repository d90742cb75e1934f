"""The learning-rate schedules: a factor of the base rate for each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from reluexp.catalogue.registry import Options, Registry

__all__ = ["SCHEDULES", "Schedule", "factor"]


class ScheduleOptions(Options):
    """What every schedule has."""

    warmup: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="epochs of linear warm-up from 0, a factor of the schedule, which begins with the first step",
    )


class Cosine(ScheduleOptions):
    """Half a cosine from the base rate down to a share of it."""

    final: float = Field(0.0, ge=0, le=1, description="share of the base rate at the end")


class Step(ScheduleOptions):
    """A constant factor every so many epochs."""

    every: int = Field(10, ge=1, description="epochs between drops")
    gamma: float = Field(0.1, gt=0, le=1, description="factor of each drop")


@dataclass(frozen=True)
class Schedule:
    """One schedule; `shape(options, epoch, epochs)` is the factor at a fractional epoch, warm-up left aside."""

    name: str
    label: str
    summary: str
    reference: str
    options: type[Options]
    shape: Callable[[Any, float, int], float]


SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    [
        Schedule("constant", "Constant", "the base rate throughout", "—", ScheduleOptions, lambda o, e, n: 1.0),
        Schedule(
            "cosine",
            "Cosine",
            "half a cosine down to `final`",
            "Loshchilov & Hutter 2017, arXiv 1608.03983",
            Cosine,
            lambda o, e, n: o.final + (1 - o.final) * (1 + math.cos(math.pi * min(e / max(n, 1), 1))) / 2,
        ),
        Schedule(
            "step", "Step", "times gamma every so many epochs", "—", Step, lambda o, e, n: o.gamma ** (e // o.every)
        ),
    ],
)


def factor(options: Any, step: int, steps_per_epoch: int, epochs: int) -> float:
    """The factor of the learning rate for the update number `step` (from 0).

    Warm-up is a factor of its own: the schedule beneath it begins with the first step, not after it.
    """
    epoch = step / steps_per_epoch
    warm = min(1.0, (epoch + 1 / steps_per_epoch) / options.warmup) if options.warmup else 1.0
    return warm * SCHEDULES[options.name].shape(options, epoch, epochs)
