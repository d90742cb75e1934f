"""A stack that failed, as results: its trials have a row, and the traceback lies beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reluexp import errors
from reluexp.engine import Event
from reluexp.environment import now, version_of
from reluexp.errors import ResultsError
from reluexp.planning.code import known_code
from reluexp.planning.earlier import describe
from reluexp.planning.plan import NUMERICS, Stack, Trial
from reluexp.store import Store

__all__ = ["record_failure"]


def record_failure(store: Store, stack: Stack, study: str, data: str, code: Mapping[str, str], event: Event) -> Path:
    """Writes the outcome of a stack that an event says has failed, and returns the file with its traceback.

    `data` is the fingerprint of the stack's data set, `code` those of the study's own code.

    Raises ResultsError where it was the results that could not be written.
    """
    import pandas as pd

    if isinstance(kind := getattr(errors, event["kind"] or "", None), type) and issubclass(kind, ResultsError):
        raise kind(event["text"])
    text = event["text"]
    if event["kind"] == "memory":
        text = f"one network alone does not fit into memory: {text}"
    rows = [_row(trial, study, text) for trial in stack.trials]
    record = {
        **{"trials": [trial.id for trial in stack.trials], "outcomes": ["failed"] * len(rows), "shape": []},
        **{
            "outputs": 0,
            "data": data,
            "code": known_code(stack.settings, code),
            "numerics": NUMERICS,
            **describe(stack),
        },
        **{"trace": event["trace"], "ended": now(), "torch": version_of("torch")},
    }
    store.write_stack(stack.id, record, {"trials": pd.DataFrame(rows)}, {})
    return store.record(stack.id)


def _row(trial: Trial, study: str, text: str) -> dict[str, Any]:
    return {
        **{"trial": trial.id, "study": study, "seed": trial.seed, **trial.point.labels},
        **{"outcome": "failed", "failure": text, "classes": math.nan, "dead_fraction": math.nan},
        **{"stuck": None, **trial.point.further_axes},
    }
