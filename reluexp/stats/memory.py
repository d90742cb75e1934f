"""Remembering what was worked out of a study, since several tables and figures ask for the same."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps

import pandas as pd

from reluexp.stats.results import Results

__all__ = ["remembered"]


def remembered(function: Callable[[Results], pd.DataFrame]) -> Callable[[Results], pd.DataFrame]:
    """The function, working a frame out once for the study that was asked about last; callers get copies.

    A study's tables do not change while it lives, so that the same object means the same numbers.
    """
    last: list[tuple[weakref.ref[Results], pd.DataFrame]] = []

    @wraps(function)
    def known(study: Results) -> pd.DataFrame:
        if not last or last[0][0]() is not study:
            last[:] = [(weakref.ref(study), function(study))]
        return last[0][1].copy()

    return known
