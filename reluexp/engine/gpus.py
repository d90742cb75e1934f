"""The GPUs of this machine, found without importing torch."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import cache

from reluexp.environment import version_of

__all__ = ["Gpu", "visible_gpus"]

_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One GPU as CUDA_VISIBLE_DEVICES names it, and its memory in bytes, if that is known."""

    name: str
    memory: int | None = None


def visible_gpus() -> list[Gpu]:
    """The GPUs that may be used: none by a torch that is built for CPUs alone."""
    if version_of("torch").endswith("+cpu"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [Gpu(uuid, memory) for _, uuid, memory in _installed()]
    known = {name: memory for index, uuid, memory in _installed() for name in (index, uuid)}
    found = []
    for name in (part.strip() for part in visible.split(",") if part.strip()):
        there = not known or name.startswith("MIG") or any(own.startswith(name) for own in known)
        if name.startswith("-") or not there:  # CUDA sees what stands before the first that is none
            break
        found.append(Gpu(name, known.get(name)))
    return found


@cache
def _installed() -> tuple[tuple[str, str, int | None], ...]:
    """Number, name and memory of each GPU that the driver tells of."""
    words = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[part.strip() for part in line.split(",")] for line in found.stdout.splitlines()]
    told = [row for row in rows if len(row) == len(("index", "uuid", "memory"))]  # and not a sentence
    return tuple((index, uuid, int(size) * _MEGABYTE if size.isdigit() else None) for index, uuid, size in told)
