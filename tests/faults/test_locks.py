"""Locks where the file system has none, and where those it has are for one machine alone."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import Timeout

from reluexp.errors import Interrupted, StudyBusyError
from reluexp.hold import has_locks, lock_file
from reluexp.store import Shard, Store, lock

NONE = (
    "import errno, fcntl, os\ndef none(*words):\n    raise OSError(errno.{0}, os.strerror(errno.{0}))\n"
    "fcntl.flock = none\n"
)
HOLD = (
    "import sys, time\nfrom reluexp.store import Store\nfrom pathlib import Path\n"
    "with Store(Path(sys.argv[1])).lock():\n    print('held', flush=True)\n    time.sleep(120)\n"
)


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system that cannot lock, in this process."""

    def none(*words: object) -> None:
        raise OSError(getattr(errno, request.param), os.strerror(getattr(errno, request.param)))

    monkeypatch.setattr(fcntl, "flock", none)
    return NONE.format(request.param)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    has_locks.cache_clear()
    yield
    has_locks.cache_clear()


def holder(root: Path, before: str = "") -> subprocess.Popen[str]:
    """Another process that holds the study."""
    process = subprocess.Popen([sys.executable, "-c", before + HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def test_without_locks_a_file_takes_their_place(tmp_path: Path, no_locks: str) -> None:
    root = tmp_path / "s"
    process = holder(root, no_locks)
    assert [path.name for path in (root / ".locks").glob("run.*")].count("run.held") == 1
    with pytest.raises(StudyBusyError, match=rf"in use by process {process.pid} on .*delete .*run\.held and run again"):
        Store(root).lock().__enter__()
    end(process)  # as by kill -9: the file stays
    assert (root / ".locks" / "run.held").exists()
    with Store(root).lock(), pytest.raises(StudyBusyError), Store(root).lock():
        pass
    with Store(root).lock(Shard(1, 2)), Store(root).lock(Shard(2, 2)):
        pass


def test_a_machine_with_locks_heeds_one_without(tmp_path: Path) -> None:
    process = holder(tmp_path / "s", NONE.format("ENOLCK"))
    with pytest.raises(StudyBusyError, match=r"run\.held"), Store(tmp_path / "s").lock():
        pass
    end(process)


def test_waiting_for_a_lock_ends(tmp_path: Path, no_locks: str) -> None:
    with lock_file(tmp_path / "a"), pytest.raises(Timeout), lock_file(tmp_path / "a", timeout=0.1):
        pass


def elsewhere(root: Path) -> Path:
    """The note of an owner on another machine, whose lock is not seen here."""
    owner = root / ".locks" / "run.owner"
    owner.parent.mkdir(parents=True)
    told = {"pid": 1, "host": f"not-{socket.gethostname()}", "user": "ada", "since": "2026-01-01 00:00:00 +0000"}
    owner.write_text(json.dumps(told))
    return owner


def test_an_owner_elsewhere_that_gives_signs_of_life_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on sshfs, or Lustre with localflock: the lock is free here although another machine holds it."""
    owner, ended = elsewhere(tmp_path / "s"), threading.Event()
    monkeypatch.setattr(lock, "_SILENT_SECONDS", 20.0)

    def live() -> None:
        while not ended.wait(0.3):
            os.utime(owner)

    thread = threading.Thread(target=live)
    thread.start()
    for mine in (None, Shard(1, 2)):
        with pytest.raises(StudyBusyError, match=r"process 1 on not-.* \(ada\) since 2026"):
            Store(tmp_path / "s").lock(mine).__enter__()
    ended.set()
    thread.join()


def test_an_owner_elsewhere_that_is_silent_is_taken_to_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_SILENT_SECONDS", 1.0)
    elsewhere(tmp_path / "s")
    start = time.monotonic()
    with Store(tmp_path / "s").lock():
        assert time.monotonic() - start >= 1
        assert socket.gethostname() in Store(tmp_path / "s").owners()[0]


def test_the_wait_for_signs_ends_when_asked(tmp_path: Path) -> None:
    owner = elsewhere(tmp_path / "s")
    with pytest.raises(Interrupted, match="process 1 on not-"):
        Store(tmp_path / "s").lock(stop=lambda: True).__enter__()
    owner.unlink()
    with Store(tmp_path / "s").lock():  # and nothing is locked
        pass


def test_a_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.05)
    owner = tmp_path / "s" / ".locks" / "run.owner"
    with Store(tmp_path / "s").lock():
        first, until = owner.stat().st_mtime_ns, time.monotonic() + 20
        while owner.stat().st_mtime_ns == first:
            assert time.monotonic() < until
            time.sleep(0.02)
    assert not owner.exists()


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[list[Path]]:
    """One folder as two machines see it over sshfs, which locks for each alone."""
    server, programs = (
        Path("/usr/lib/openssh/sftp-server"),
        [shutil.which(n) for n in ("sshfs", "socat", "fusermount3")],
    )
    if not (server.exists() and all(programs) and os.access("/dev/fuse", os.W_OK)):
        pytest.skip("needs sshfs, socat, sftp-server and /dev/fuse")
    (tmp_path / "export").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = ["socat", f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr", f"EXEC:{server}"]
    with subprocess.Popen(serve) as served:
        time.sleep(0.5)
        found = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            words = ["sshfs", "-o", f"directport={port}", f"127.0.0.1:{tmp_path / 'export'}", str(tmp_path / name)]
            if subprocess.run(words, capture_output=True, timeout=30).returncode == 0:
                found.append(tmp_path / name)
        if len(found) == 2:
            yield found
        for path in found:
            subprocess.run(["fusermount3", "-u", "-z", str(path)], check=True)
        served.terminate()
    if len(found) < 2:
        pytest.skip("nothing may be mounted here")


@pytest.mark.full_form
def test_two_machines_on_sshfs(mounts: list[Path], figure: Callable[[str], None]) -> None:
    other = "import socket\nsocket.gethostname = lambda: 'elsewhere'\n"
    process = holder(mounts[0] / "s", other)
    with (
        pytest.raises(StudyBusyError, match=f"in use by process {process.pid} on elsewhere"),
        Store(mounts[1] / "s").lock(),
    ):
        pass
    end(process)
    start = time.monotonic()
    with Store(mounts[1] / "s").lock():
        seconds = time.monotonic() - start
    figure(f"one folder mounted twice by sshfs: the second machine was told who holds it; {seconds:.0f} s after that "
           "process was killed it had the lock")  # fmt: skip
