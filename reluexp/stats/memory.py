"""Remembering what was worked out of a study, since several tables and figures ask for the same."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import pandas as pd

from reluexp.stats.results import Results

__all__ = ["remembered"]

Found = TypeVar("Found")


def remembered(function: Callable[[Results], Found]) -> Callable[[Results], Found]:
    """The function, working its answer out once for the study that was asked about last; callers get copies of frames.

    A study's tables do not change while it lives, so that the same object means the same numbers.
    """
    last: list[tuple[weakref.ref[Results], Found]] = []

    @wraps(function)
    def known(study: Results) -> Found:
        if not last or last[0][0]() is not study:
            last[:] = [(weakref.ref(study), function(study))]
        found = last[0][1]
        return found.copy() if isinstance(found, pd.DataFrame) else found

    return known
