"""Who may write to a study: one run, or one run for each of its shards; readers never ask."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from reluexp.environment import now
from reluexp.errors import ConfigError, Interrupted, StudyBusyError
from reluexp.hold import HELD, LOCKED, has_locks, lock_file
from reluexp.store.files import guarded, write_whole

__all__ = ["Shard", "StudyLock"]

_WHOLE = "run"
_GATE_SECONDS = 30.0
_GONE_SECONDS = 5.0  # in which the system gives back the lock of a process that was killed
_BEAT_SECONDS = 5.0  # between two signs of life of an owner
_SILENT_SECONDS = 40.0  # without one, after which an owner on another machine is gone; more than such a sign takes to
# be seen there (sshfs keeps what it knows of a file for 20 s)


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

    They are the operating system's, which end with the process that holds them, also over NFS; where a file system has
    none, files take their place that hold by being there. Some file systems lock for one machine alone (sshfs, Lustre
    with `localflock`, NFS with `local_lock`): so an owner also gives signs of life, and whoever gets the lock although
    an owner on another machine is noted looks for them first.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / ".locks"

    @contextmanager
    def held(self, shard: Shard | None = None, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Held while a study, or that part of it, runs. Raises StudyBusyError when somebody else holds it.

        `stop` is asked while another machine's signs of life are waited for; Interrupted if it says so.
        """
        name = f"shard-{shard.number}-of-{shard.count}" if shard else _WHOLE
        with guarded(self.root):
            with self.gate():
                self._refuse_if_held(name)
                lock = lock_file(self.folder / name, timeout=0)
                lock.acquire()
                noted = self._noted_elsewhere(name)
                if not noted:
                    self._note_owner(name)
            if noted:
                try:
                    self._refuse_if_alive(noted, stop)
                    self._note_owner(name)
                except BaseException:
                    lock.release()
                    raise
        try:
            with _giving_signs(self._owner(name)):
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
        self.folder.mkdir(parents=True, exist_ok=True)
        gate = lock_file(self.folder / "gate", timeout=_GATE_SECONDS)
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
        paths = [path for path in sorted(self.folder.iterdir()) if path.suffix in (LOCKED, HELD)]
        for path in paths:
            name = path.stem
            if name == "gate" or not _excludes(mine, name) or (path.suffix == LOCKED and not has_locks(self.folder)):
                continue
            seconds = _GONE_SECONDS if _is_gone(self._owner(name)) else 0.0
            probe: BaseFileLock = (FileLock if path.suffix == LOCKED else SoftFileLock)(path, timeout=seconds)
            try:
                probe.acquire()
            except Timeout:
                raise StudyBusyError(self._busy(name, path)) from None
            probe.release()

    def _note_owner(self, name: str) -> None:
        write_whole(self._owner(name), json.dumps(_me()).encode())

    def _noted_elsewhere(self, mine: str) -> dict[Path, int]:
        """The notes of owners on other machines, which the file system did not lock out, with their last signs."""
        paths = [path for path in self.folder.glob("*.owner") if _excludes(mine, path.stem) and _is_elsewhere(path)]
        return {path: sign for path in paths if (sign := _sign(path)) is not None}

    def _refuse_if_alive(self, noted: dict[Path, int], stop: Callable[[], bool]) -> None:
        """Waits for a sign of life of those owners."""
        until = time.monotonic() + _SILENT_SECONDS
        while noted and time.monotonic() < until:
            if stop():
                raise Interrupted(
                    f"{self.root}: stopped while waiting to see whether {_in_words(next(iter(noted)))} is alive"
                )
            for path, sign in noted.items():
                now = _sign(path)
                if now and now != sign:
                    raise StudyBusyError(self._busy(path.stem, path))
            noted = {path: sign for path, sign in noted.items() if path.exists()}
            time.sleep(0.2)

    def _busy(self, name: str, path: Path) -> str:
        return (
            f"{self.root}: in use by {_in_words(self._owner(name))}; wait for it or stop it. "
            f"If that process is gone (a machine that vanished), delete {path} and run again"
        )

    def _owner(self, name: str) -> Path:
        return self.folder / f"{name}.owner"


def _excludes(mine: str, other: str) -> bool:
    """A whole run excludes every other; a shard excludes whole runs, itself, and other ways to divide."""
    return _WHOLE in (mine, other) or mine == other or mine.rpartition("-")[2] != other.rpartition("-")[2]


@contextmanager
def _giving_signs(owner: Path) -> Iterator[None]:
    """Touches the owner's file every few seconds within the block."""
    ended = threading.Event()

    def give() -> None:
        while not ended.wait(_BEAT_SECONDS):
            with suppress(OSError):  # a disk that is full or gone is told elsewhere
                os.utime(owner)

    thread = threading.Thread(target=give, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sign(owner: Path) -> int | None:
    """When the owner last gave a sign; the file is opened, since NFS asks its server only then."""
    try:
        with owner.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None


def _me() -> dict[str, object]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = str(os.getuid())
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"pid": os.getpid(), "host": socket.gethostname(), "user": user, "command": command[:500],
            "since": now()}  # fmt: skip


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


def _is_elsewhere(owner: Path) -> bool:
    """Whether the owner is a process of another machine."""
    try:
        return bool(json.loads(owner.read_text("utf-8"))["host"] != socket.gethostname())
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
