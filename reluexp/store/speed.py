"""How fast this machine was: what earlier runs took against their estimate, beside the results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from reluexp.errors import DamagedError
from reluexp.store.files import seal, unseal, write_whole

__all__ = ["recall_speed", "remember_speed"]


def recall_speed(results: Path) -> dict[str, float]:
    """For each kind of network seconds against the estimate; empty where nothing is known."""
    try:
        found = unseal(_path(results).read_bytes())
    except (OSError, DamagedError):
        return {}
    return {kind: float(value) for kind, value in found.items() if isinstance(value, (int, float)) and value > 0}


def remember_speed(results: Path, seen: Mapping[str, float]) -> None:
    """Takes up what a run took against its estimate: half-way, on a log scale, from what was known.

    It serves estimates alone, so that a disk that refuses it is no error.
    """
    known = recall_speed(results)
    now = {kind: math.sqrt(known.get(kind, value) * value) for kind, value in seen.items() if value > 0}
    with suppress(OSError):
        write_whole(_path(results), seal({**known, **now}))


def _path(results: Path) -> Path:
    return Path(results) / ".cache" / "speed.json"
