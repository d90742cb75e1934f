"""Where and how results were made: versions, commit, machine, command line, times."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from reluexp.environment import now, version_of
from reluexp.planning.plan import NUMERICS

__all__ = ["provenance"]

_PACKAGES = ("reluexp", "torch", "torchvision", "numpy", "pandas", "pyarrow", "scikit-learn", "pillow", "ray")


def provenance() -> dict[str, Any]:
    """What is known before anything is trained."""
    from loky import cpu_count

    return {
        "versions": _versions(),
        "numerics": NUMERICS,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": cpu_count(),
        "threads": 1,
        "host": socket.gethostname(),
        "command": [_writable(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:])],
        "folder": _writable(str(Path.cwd())),
        **_commit("commit", Path(__file__).parent),
        **_commit("working_commit", Path.cwd()),
        "started": now(),
        "ended": None,
    }


def _writable(name: str) -> str:
    """A name of a file as UTF-8, which Unix does not ask of it."""
    return os.fsencode(name).decode("utf-8", "replace")


def _versions() -> dict[str, str]:
    found = {package: version_of(package) for package in _PACKAGES}
    found["reluexp"] = found["reluexp"] or "source tree"
    return {"python": platform.python_version(), **{package: version for package, version in found.items() if version}}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit(name: str, folder: Path) -> dict[str, Any]:
    """The commit of the repository around a folder and whether its files differ from it; nothing without one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {name: commit, f"{name}_dirty": None if changes is None else bool(changes)}


def _git(folder: Path, *words: str) -> str | None:
    """What git says; no program that the repository's own settings name is started."""
    quiet = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    try:
        found = subprocess.run(["git", *quiet, *words], cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
