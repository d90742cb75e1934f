"""What a machine cannot hold, and data without some of their classes, are refused before anything is trained."""

from __future__ import annotations

import math
import os
from typing import Any

from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.datasets import Blobs, Hints, Spirals, hints_of
from reluexp.config import LoadedConfig, Setting, label_of
from reluexp.errors import ConfigError

__all__ = ["of_other_precision", "refuse_oversized", "refuse_too_few", "too_few"]

_COPIES = 5
"""of a network's parameters while it trains: weights, gradient, optimizer state, the step, a snapshot"""
_PER_NUMBER = 16
"""bytes for each number of a data set while it is made and normalised: float64, float32 and what passes between"""


def refuse_oversized(loaded: LoadedConfig, memory: int | None = None) -> None:
    """Raises ConfigError when one network alone, or a data set, needs more bytes than this machine has in all."""
    limit = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    problems: list[str] = []
    seen: set[tuple[int, int]] = set()
    for point in loaded.points:
        key = id(point.setting.dataset), id(point.setting.architecture)
        if key not in seen:
            seen.add(key)
            problems += [text for text in _problems(point.setting, limit) if text not in problems]
    if problems:
        more = f"\n  … and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ConfigError("\n  ".join(problems[:10]) + more)


def refuse_too_few(loaded: LoadedConfig) -> None:
    """Raises ConfigError for data sets with fewer samples than classes; results that have such stay readable."""
    options = {id(point.setting.dataset): point.setting.dataset for point in loaded.points}
    if told := "; ".join(dict.fromkeys(filter(None, (too_few(own, hints_of(own)) for own in options.values())))):
        raise ConfigError(told)


def too_few(options: Any, hints: Hints) -> str:
    """What is to be said of a data set that would lack some of its classes, if it would."""
    classes = hints.classes or 0
    if options.train_size is not None and options.train_size < classes:
        return (
            f"dataset.train_size: got {options.train_size}; {options.name} has {classes} classes, each needs a sample"
        )
    if isinstance(options, (Blobs, Spirals)) and options.samples < 2 * classes:
        return f"dataset.samples: got {options.samples}; {classes} classes need two each, for training and test"
    return ""


def of_other_precision(loaded: LoadedConfig, device: str) -> str:
    """What is to be said of a precision that a device is not for, if one is asked for.

    In bfloat16 a CPU's products depend on what else is in a stack, and it knows no TF32.
    """
    asked = sorted({point.setting.train.precision for point in loaded.points} - {"float32"})
    if device != "cpu" or not asked:
        return ""
    return f"train.precision: {', '.join(asked)} is for GPUs, and this is a {device}"


def _problems(setting: Setting, limit: int) -> list[str]:
    hints = hints_of(setting.dataset)
    found: list[str] = []
    if hints.shape is None:
        return found
    numbers = math.prod(hints.shape) * ((hints.train or 0) + (hints.test or 0))
    if numbers * _PER_NUMBER > limit:
        found.append(
            _sentence("dataset", label_of(setting.dataset), f"{numbers:,} numbers", numbers * _PER_NUMBER, limit)
        )
    entry = setting.architecture.name
    if hints.width is not None and entry in ARCHITECTURES:
        parameters = ARCHITECTURES[entry].parameters(setting.architecture, hints.shape, hints.width)
        need = 4 * _COPIES * parameters
        if need > limit:
            label = label_of(setting.architecture)
            found.append(_sentence("architecture", label, f"{parameters:,} parameters", need, limit))
    return found


def _sentence(key: str, label: str, what: str, need: int, limit: int) -> str:
    shown = label if len(label) <= 60 else f"{label[:59]}…"
    return f"{key}: {shown} has {what}, which need about {_bytes(need)} of memory; this machine has {_bytes(limit)}"


def _bytes(count: float) -> str:
    """A number of bytes in the unit that suits it.

    >>> _bytes(2.5e13)
    '25 TB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.0f} EB"
