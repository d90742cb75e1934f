"""A disk that is full, read-only, or refuses to flush or rename: nothing finished is lost, and one message says so."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
import torch
from harness import Study

from reluexp.errors import ResultsError
from reluexp.store import Store

RECORD = {"trials": ["a"], "outcomes": ["finished"], "data": "d", "numerics": 0}
FRAME = pd.DataFrame({"trial": ["a"], "value": [1.0]})


class _Full:
    """A file on a disk that is full after so many bytes."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


@contextmanager
def failing(operation: str, at: int) -> Iterator[list[int]]:
    """The `at`-th call of an operation fails; yields how often it was called."""
    calls = [0]
    codes = {"fsync": errno.EIO, "replace": errno.EROFS, "mkdir": errno.ENOSPC, "open": errno.ENOSPC}
    real: Callable[..., Any] = {"fsync": os.fsync, "replace": os.replace, "mkdir": os.mkdir, "open": Path.open}[
        operation
    ]

    def call(*words: Any, **options: Any) -> Any:
        writing = operation != "open" or "w" in str(words[1:])
        calls[0] += writing
        if calls[0] != at or not writing:
            return real(*words, **options)
        if operation == "open":
            return _Full(real(*words, **options))
        raise OSError(codes[operation], os.strerror(codes[operation]))

    target = {"fsync": "os.fsync", "replace": "os.replace", "mkdir": "os.mkdir", "open": "pathlib.Path.open"}[operation]
    # A method must be replaced by a function, not by a mock, to receive its object.
    with mock.patch(target, call):
        yield calls


def write_all(store: Store) -> None:
    store.write_study(lambda before: {"study": "s", "config": {"round": len(str(before))}})
    store.save_checkpoint("two", RECORD, {"flat": torch.ones(4)})
    store.save_checkpoint("two", RECORD, {"flat": torch.zeros(4)})
    store.write_stack(
        "two", {**RECORD, "trials": ["b"]}, {"trials": FRAME, "epochs": FRAME}, {"a": {"w": torch.ones(2)}}
    )


@pytest.mark.parametrize("operation", ["fsync", "replace", "mkdir", "open"])
def test_nothing_finished_is_lost_whichever_write_fails(
    operation: str, figure: Callable[[str], None], tmp_path: Path
) -> None:
    at = 0
    told: list[str] = []
    while True:
        at += 1
        store = Store(tmp_path / str(at))
        with store.lock():
            store.write_study(lambda before: {"study": "s", "config": {}})
        store.write_stack("one", RECORD, {"trials": FRAME}, {})
        store.save_checkpoint("two", RECORD, {"flat": torch.zeros(4)})
        with failing(operation, at) as calls:
            try:
                write_all(store)
            except ResultsError as error:
                told.append(str(error).replace(str(store.root), "ROOT"))
        if calls[0] < at:
            break
        found, damaged = store.ended("all")
        assert "one" in found
        assert damaged == []
        assert store.damaged_checkpoints() == []
        assert "two" in found or store.checkpoints.load("two", {"data": "d"}) is not None
        assert store.read_study()["study"] == "s"
        write_all(store)  # the disk has room again
        assert set(store.ended("all")[0]) == {"one", "two"}
    assert all("ROOT" in text and "run again" in text for text in told)
    assert len(told) >= (1 if operation == "mkdir" else at - 2)  # a folder that is there already needs no making
    figure(f"{operation} failing at each of {at - 1} calls while a stack, checkpoints and study.yaml are written: "
           "nothing finished lost, nothing half-written seen, one message")  # fmt: skip


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    (tmp_path / "s.yaml").write_text("seeds: 1\ntrain: {epochs: 1}\n")
    found = subprocess.run(
        [sys.executable, "-c", "from reluexp.cli import main; main()", "run", "s.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 2
    assert len(found.stderr.strip().splitlines()) == 1
    assert "cannot write the results" in found.stderr


@pytest.mark.full_form
def test_a_run_that_meets_a_full_disk_says_so_once_and_goes_on_later(whole: Study) -> None:
    """No file may grow beyond a limit, as on a disk without room: the kernel refuses the write, in workers too."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {resource.RLIM_INFINITY}))\n"
        "sys.argv = ['reluexp', 'run', 's.yaml', '--quiet', '--results', 'full', '--stack', '2']\n"
        "from reluexp.cli import main; main()"
    )
    process = whole.start("full", code=code)
    assert process.wait(120) == 2
    said = (whole.folder / "full.log").read_text("utf-8")
    assert said.count("cannot write the results") == 1
    assert "File too large" in said
    assert "Traceback" not in said
    whole.run("full")
    whole.assert_same("whole", "full")


LIMIT = 20_000
"""bytes: study.yaml and small tables fit, checkpoints and `units` do not"""
