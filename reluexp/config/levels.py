"""The values of an axis as tables show them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from reluexp.config.grid import value_at
from reluexp.config.inference import Level
from reluexp.config.models import Setting

__all__ = ["bare", "level_label", "level_shown"]


def level_label(by: str, level: Level) -> Any:
    """A level by its label: a mapping, as the grid has it, in one line; anything else as it is.

    Raises ValueError for a mapping that is none of the axis's values.

    >>> level_label("activation", {"name": "leaky_relu", "negative_slope": 0.3})
    'leaky_relu(negative_slope=0.3)'
    >>> level_label("train.optimizer", {"name": "adam", "lr": 0.01})
    'adam(lr=0.01)'
    """
    if not isinstance(level, dict):
        return level
    whole: Any = level
    for part in reversed(by.split(".")):
        whole = {part: whole}
    return value_at(Setting.model_validate(whole), by)


def level_shown(by: str, level: Level, axes: Iterable[str]) -> Any:
    """A level as tables show it beside the other axes, as the grid has it or as they do.

    >>> level_shown("train.optimizer", {"name": "adam", "lr": 0.01}, ["train.optimizer.lr"])
    'adam'
    """
    return bare(by, level_label(by, level), axes)


def bare(axis: str, label: Any, axes: Iterable[str]) -> Any:
    """A label without options that other axes tell.

    >>> bare("o", "sgd(lr=0.1, momentum=0.9)", ["o.lr"]), bare("o", "sgd(lr=0.1)", ["o.lr"])
    ('sgd(momentum=0.9)', 'sgd')
    >>> bare("a", "cnn(channels=[16, 32])", ["a.x"])
    'cnn(channels=[16, 32])'
    """
    parts = _parts(axis, axes)
    head, found, rest = str(label).partition("(")
    if not parts or not found:
        return label
    options = [own for own in re.split(r", (?=\w+=)", rest.removesuffix(")")) if own.partition("=")[0] not in parts]
    options = [own for own in options if own != "tuned"]
    return f"{head}({', '.join(options)})" if options else head


def _parts(axis: str, axes: Iterable[str]) -> Collection[str]:
    """What the axes below an axis are called in its label."""
    return {other.removeprefix(f"{axis}.") for other in axes if other.startswith(f"{axis}.")}
