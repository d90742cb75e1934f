"""Jobs as plain data: what a worker is told to prepare or to train."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reluexp.config import identity
from reluexp.engine import Job
from reluexp.planning.code import known_code, own_code
from reluexp.planning.plan import NUMERICS, Stack

__all__ = ["about_of", "comparison", "preparation", "preparation_key", "stack_of", "training"]


def training(
    stack: Stack,
    root: Path,
    study: str,
    prepared: Mapping[str, Any],
    code: Mapping[str, str],
    batched: bool,
    share: float = 1.0,
) -> Job:
    """The job to train a stack.

    `prepared` is the event of its preparation, `code` the fingerprints of the study's own code, `batched` what its
    comparison gave, `share` what part of a GPU's memory it may count on.
    """
    return {
        **{"kind": "train", **stack.to_json(), "root": str(root.absolute()), "study": study, "cwd": str(Path.cwd())},
        **{key: prepared[key] for key in ("device", "fingerprint", "shelf", "cache")},
        **{"batched": batched, "share": share, "own": own_code(stack.settings)},
        "code": known_code(stack.settings, code),
    }


def preparation(stack: Stack, cache: Path, device: str) -> Job:
    """The job to read a stack's data set and to import the user's own code."""
    return {
        **{"kind": "prepare", **Stack(stack.id, stack.trials[:1]).to_json(), "cache": str(cache.absolute())},
        **{"device": device, "own": own_code(stack.settings), "cwd": str(Path.cwd())},
    }


def comparison(stack: Stack, prepared: Mapping[str, Any]) -> Job:
    """The job to find out whether the user's own code gives in a stack what it gives alone."""
    return {
        **{"kind": "compare", **Stack(stack.id, stack.trials[:1]).to_json(), "cwd": str(Path.cwd())},
        **{"own": own_code([stack.setting]), **{key: prepared[key] for key in ("device", "shape", "outputs")}},
    }


def preparation_key(stack: Stack) -> str:
    """The same for stacks that one preparation is enough for."""
    return json.dumps([identity(stack.setting.dataset), own_code(stack.settings)])


def stack_of(job: Job) -> Stack:
    """The stack that a job is about."""
    return Stack.from_json(job)


def about_of(job: Job) -> dict[str, Any]:
    """What results and checkpoints of a training job say about themselves, and what must be the same to go on."""
    trials = [trial.id for trial in stack_of(job).trials]
    return {"trials": trials, "data": job["fingerprint"], "code": job["code"], "numerics": NUMERICS}
