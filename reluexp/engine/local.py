"""The local engine: single-threaded worker processes, fed with one stack after the other."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["LocalEngine"]

_ATTEMPTS = 3
# Products must not depend on the alignment of a stack's slices; glibc must keep its pages: both are read at start-up.
_ENVIRONMENT = {
    "MKL_CBWR": "AUTO,STRICT",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
Job = dict[str, Any]
Event = dict[str, Any]


class _Process:
    """One worker, its job, and the thread that reads its events."""

    def __init__(self, number: int, events: queue.Queue[tuple[int, Event]]) -> None:
        self.number, self.events = number, events
        self.job: Job | None = None
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 closed in `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "reluexp.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, **_ENVIRONMENT},
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.events.put((self.number, json.loads(line)))
        self.events.put((self.number, {"event": "gone"}))

    def give(self, job: Job) -> None:
        self.job = job
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):  # its end is an event of its own
                self.process.stdin.write(json.dumps(job) + "\n")
                self.process.stdin.flush()

    def last_words(self) -> str:
        self.log.seek(0)
        return self.log.read()[-2000:].strip()

    def close(self) -> None:
        if self.process.stdin and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self.process.stdin.close()

    def end(self) -> None:
        self.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()


class LocalEngine:
    """Worker processes of this machine; `open` starts them, `run` gives them jobs and yields their events."""

    def __init__(self, workers: int) -> None:
        self.events: queue.Queue[tuple[int, Event]] = queue.Queue()
        self.processes = [_Process(number, self.events) for number in range(workers)]
        self.stopping = False

    @classmethod
    @contextmanager
    def open(cls, workers: int) -> Iterator[LocalEngine]:
        """An engine whose processes end with the block."""
        engine = cls(workers)
        try:
            yield engine
        finally:
            for process in engine.processes:
                process.close()
            for process in engine.processes:
                process.end()

    def stop(self) -> None:
        """Asks every worker to save its stack at the next safe point and to end."""
        self.stopping = True
        for process in self.processes:
            process.close()

    def run(self, jobs: list[Job], stop: Callable[[], bool]) -> Iterator[Event]:
        """Does the jobs and yields events; a job whose worker dies is given to a fresh one, twice at most."""
        left, tries = list(reversed(jobs)), Counter[str]()
        for process in self.processes:
            if left:
                process.give(left.pop())
        while any(process.job for process in self.processes):
            if stop() and not self.stopping:
                left.clear()
                self.stop()
            try:
                number, event = self.events.get(timeout=0.1)
            except queue.Empty:
                continue
            process = self.processes[number]
            job = process.job
            if event["event"] == "progress":
                yield event
                continue
            process.job = None
            if event["event"] == "gone":
                if job is None or self.stopping:
                    continue
                tries[job["stack"]] += 1
                words = process.last_words()
                self.processes[number] = process = _Process(number, self.events)
                if tries[job["stack"]] < _ATTEMPTS:
                    left.append(job)
                else:
                    text = "the worker process died three times"
                    yield {"event": "error", "stack": job["stack"], "kind": None, "text": text, "trace": words}
            else:
                yield event
            if left and not self.stopping:
                process.give(left.pop())
