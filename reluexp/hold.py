"""One lock file: the operating system's lock where the file system has locks, else one that holds by being there."""

from __future__ import annotations

import errno
import tempfile
from functools import lru_cache
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock

__all__ = ["HELD", "LOCKED", "has_locks", "lock_file"]

LOCKED, HELD = ".lock", ".held"
"""endings of a file that the system locks, and of one whose being there is the lock"""

_NONE_HERE = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


def lock_file(path: Path, timeout: float = -1) -> BaseFileLock:
    """A lock by that name (without ending), to be waited for so many seconds; −1: until it is free.

    Raises OSError when its folder is not there or cannot be written.
    """
    if has_locks(path.parent):
        return FileLock(path.with_name(path.name + LOCKED), timeout=timeout)
    return SoftFileLock(path.with_name(path.name + HELD), timeout=timeout)


@lru_cache(maxsize=64)
def has_locks(folder: Path) -> bool:
    """Whether the file system of a folder can lock files: NFS without its lock service and some others cannot."""
    try:
        import fcntl
    except ImportError:  # not on Windows, whose own locks work on every share
        return True
    with tempfile.TemporaryFile(dir=folder, suffix=".tmp") as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NONE_HERE:
                return False
            raise
    return True
