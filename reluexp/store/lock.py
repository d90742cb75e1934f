"""Who may write to a study: one run, or one run for each of its shards; readers never ask."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from reluexp.errors import ConfigError, StudyBusyError
from reluexp.store.files import guarded, write_whole

__all__ = ["Shard", "StudyLock"]

_WHOLE = "run"
_GATE_SECONDS = 30.0
_GONE_SECONDS = 5.0  # in which the system gives back the lock of a process that was killed


@dataclass(frozen=True)
class Shard:
    """The `number`-th of `count` parts of a study, from 1 on."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/8` as a shard. Raises ConfigError for anything else.

        >>> Shard.parse("3/8")
        Shard(number=3, count=8)
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"--shard {text}: write it as I/N with 1 ≤ I ≤ N, such as --shard 3/8")
        return cls(int(found[1]), int(found[2]))


class StudyLock:
    """The locks of a study's folder.

    They are the operating system's, which ends with the process that holds them, also over NFS; where a file system
    has none, a file that names its owner takes their place (filelock's soft lock).
    """

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / ".locks"

    @contextmanager
    def held(self, shard: Shard | None = None) -> Iterator[None]:
        """Held while a study, or that part of it, runs. Raises StudyBusyError when somebody else holds it."""
        name = f"shard-{shard.number}-of-{shard.count}" if shard else _WHOLE
        with guarded(self.root):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.gate():
                self._refuse_if_held(name)
                lock = self._lock(name)
                lock.acquire()
                write_whole(self._owner(name), json.dumps(_me()).encode())
        try:
            yield
        finally:
            with suppress(OSError):  # a folder that has gone needs no lock any more
                self._owner(name).unlink(missing_ok=True)
            lock.release()
            self._leave_no_trace()

    def _leave_no_trace(self) -> None:
        """Removes the folder again if nothing came of it and nobody else is about to write to it."""
        with suppress(OSError, StudyBusyError), self.gate():
            if not list(self.folder.glob("*.owner")) and [path.name for path in self.root.iterdir()] == [".locks"]:
                shutil.rmtree(self.root)

    @contextmanager
    def gate(self) -> Iterator[None]:
        """Held for a moment, around what shards must not do at the same time."""
        gate = FileLock(self.folder / "gate.lock", timeout=_GATE_SECONDS)
        try:
            gate.acquire()
        except Timeout:
            kept = f"another process has kept {gate.lock_file} for {_GATE_SECONDS:g} s"
            raise StudyBusyError(f"{self.root}: {kept}; if none runs, delete it") from None
        try:
            yield
        finally:
            gate.release()

    def owners(self) -> list[str]:
        """Who says to be running the study, in words; nothing is locked to find out."""
        return [_in_words(path) for path in sorted(self.folder.glob("*.owner"))]

    def _refuse_if_held(self, mine: str) -> None:
        """A whole run excludes every other; a shard excludes whole runs, itself, and other ways to divide."""
        count = mine.rpartition("-")[2]
        for path in sorted(self.folder.glob("*.lock")):
            name = path.stem
            beside = mine != _WHOLE and name != mine and name != _WHOLE and name.rpartition("-")[2] == count
            if name == "gate" or beside:
                continue
            probe = self._lock(name)
            try:
                probe.acquire(timeout=_GONE_SECONDS if _is_gone(self._owner(name)) else 0)
            except Timeout:
                raise StudyBusyError(self._busy(name)) from None
            probe.release()

    def _busy(self, name: str) -> str:
        who, lock = _in_words(self._owner(name)), self.folder / f"{name}.lock"
        return (
            f"{self.root}: in use by {who}; wait for it or stop it. "
            f"If that process is gone (a machine that vanished), delete {lock} and run again"
        )

    def _lock(self, name: str) -> BaseFileLock:
        return FileLock(self.folder / f"{name}.lock", timeout=0)

    def _owner(self, name: str) -> Path:
        return self.folder / f"{name}.owner"


def _me() -> dict[str, object]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = str(os.getuid())
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"pid": os.getpid(), "host": socket.gethostname(), "user": user, "command": command[:500],
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}  # fmt: skip


def _in_words(owner: Path) -> str:
    try:
        who = json.loads(owner.read_text("utf-8"))
        text = f"process {int(who['pid'])} on {who['host']} ({who['user']}) since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    return text + (", which is gone" if _is_gone(owner) else "")


def _is_gone(owner: Path) -> bool:
    """Whether the owner was a process of this machine that has ended."""
    try:
        who = json.loads(owner.read_text("utf-8"))
        return bool(who["host"] == socket.gethostname() and not _alive(int(who["pid"])))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
