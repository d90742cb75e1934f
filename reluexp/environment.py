"""What is around a process: versions of packages, and the time."""

from __future__ import annotations

import time

__all__ = ["now", "version_of"]


def now(seconds: float | None = None) -> str:
    """The time with its zone; that of so many seconds since the epoch, if they are given."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def version_of(package: str) -> str:
    """The version of an installed package, nothing where there is none."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
