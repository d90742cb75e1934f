"""Where and how results were made: versions, commit, machine, command line, times."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from reluexp.planning.plan import NUMERICS

__all__ = ["now", "provenance"]

_PACKAGES = ("reluexp", "torch", "torchvision", "numpy", "pandas", "pyarrow", "scikit-learn", "pillow", "ray")


def now() -> str:
    """The time with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z")


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
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "folder": str(Path.cwd()),
        **_commit("commit", Path(__file__).parent),
        **_commit("working_commit", Path.cwd()),
        "started": now(),
        "ended": None,
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            if package == "reluexp":
                versions[package] = "source tree"
    return versions


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
