"""The local engine: single-threaded worker processes, started once and fed with one job after the other."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reluexp.engine import END_SECONDS, ENVIRONMENT, Event, Job, Resources, attempts_of, lost, places
from reluexp.engine.gpus import visible_gpus

__all__ = ["LocalEngine"]

_LAST_WORDS = 16_000
_START_SECONDS = 300.0
_LONGEST_PASS = 1.0

# Files of the working folder must not take the place of modules (-P), yet a source tree that is not installed works.
_COMMAND = ("-P", "-c", "import sys; sys.path.append(sys.argv[1]); from reluexp.engine.worker import main; main()")
_HOME = str(Path(__file__).parents[2])

Heard = queue.SimpleQueue[tuple["_Process", Event]]


class _Clock:
    """Seconds in which this process listened: one that was stopped itself (Ctrl-Z) has heard of nobody meanwhile."""

    def __init__(self) -> None:
        self.seconds, self._last = 0.0, time.monotonic()

    def tick(self) -> None:
        """Called at every pass of the loop that listens."""
        now = time.monotonic()
        self.seconds += min(now - self._last, _LONGEST_PASS)
        self._last = now


class _Process:
    """One worker, its job, and the thread that reads its events."""

    def __init__(self, number: int, gpu: str | None, heard: Heard, clock: _Clock) -> None:
        self.number, self.last, self.why = number, clock.seconds, ""
        self.job: Job | None = None
        self.ready, self.spent = False, False
        self._heard, self._clock = heard, clock
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115 closed in `end`
        environment = {**os.environ, **ENVIRONMENT, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})}
        self._process = subprocess.Popen(
            [sys.executable, *_COMMAND, _HOME],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with contextlib.suppress(ValueError):  # half a line, of a process that was killed
                self._heard.put((self, json.loads(line)))
        self._heard.put((self, {"event": "gone"}))

    def give(self, job: Job) -> None:
        self.job, self.last = job, self._clock.seconds
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # its end is an event of its own
                self._process.stdin.write(json.dumps(job) + "\n")
                self._process.stdin.flush()

    def is_hung(self, patience: float) -> bool:
        """Whether a worker has given no sign of life for so long, unless it reads data, which may take its time."""
        limit = patience if self.ready else max(patience, _START_SECONDS)
        return self.job is not None and self.job["kind"] != "prepare" and self._clock.seconds - self.last > limit

    def kill(self, why: str) -> None:
        """Ends a worker at once; the first signal makes it write down where it was."""
        self.why = why
        self._process.send_signal(signal.SIGABRT)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def abandon(self) -> None:
        """Ends a worker whose job leaves nothing to be saved."""
        self.job = None
        self._process.kill()

    def last_words(self) -> str:
        """How the process ended, and the end of what it wrote to stderr."""
        code = self._process.wait()
        ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LAST_WORDS))
        return "\n".join([self.why or ended, self._log.read().decode("utf-8", "replace").strip()]).strip()

    def close(self) -> None:
        """Asks the worker to save at the next safe point and to end."""
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self._process.stdin.close()

    def sweep(self) -> None:
        """Ends processes that the user's code began and that outlive their worker: they hold its events open."""
        if self._process.poll() is not None and self._reader.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        self.close()
        if not self.ready:  # it still imports torch, and has nothing to save
            self._process.kill()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.sweep()
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()


class LocalEngine:
    """Worker processes of this machine; as many as there is work for, at most `resources.workers`."""

    def __init__(self, resources: Resources) -> None:
        self._gpus = visible_gpus() if resources.device in ("auto", "cuda") else []
        self._most, self._patience = places(resources, bool(self._gpus)), resources.patience
        self._heard: Heard = queue.SimpleQueue()
        self._clock = _Clock()
        self._processes: list[_Process] = []
        self._left: deque[Job] = deque()
        self._tries: Counter[str] = Counter()
        self._stopping, self._asked = False, 0.0

    @classmethod
    @contextmanager
    def open(cls, resources: Resources, count: int) -> Iterator[LocalEngine]:
        """An engine whose processes end with the block; they start to import torch at once."""
        engine = cls(resources)
        try:
            engine._start(count)
            yield engine
        except KeyboardInterrupt:  # a second one: at once
            for process in engine._processes:
                process.abandon()
            raise
        finally:
            for process in engine._processes:
                process.close()
            for process in engine._processes:
                process.end()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Takes jobs on; see `Engine`."""
        self._left.extend(jobs)
        for job in jobs:
            self._tries[job["stack"]] = 0
        self._start(len(self._left))

    def events(self, stop: Callable[[], bool]) -> Iterator[Event]:
        """What happens, until every job has ended; see `Engine`."""
        while self._feed(stop()):
            self._clock.tick()
            self._kill_hung()
            try:
                process, event = self._heard.get(timeout=0.1)
            except queue.Empty:
                for process in self._processes:
                    process.sweep()
                continue
            if self._processes[process.number] is not process:  # the last words of one that was replaced
                continue
            process.last, process.ready = self._clock.seconds, True
            if event["event"] == "gone":
                yield from self._take_leave(process)
            elif event["event"] != "alive":
                yield from self._pass_on(process, event)

    def _start(self, count: int) -> None:
        while len(self._processes) < min(self._most, count):
            self._processes.append(self._new(len(self._processes)))

    def _new(self, number: int) -> _Process:
        gpu = self._gpus[number % len(self._gpus)].name if self._gpus else None
        return _Process(number, gpu, self._heard, self._clock)

    def _replace(self, process: _Process) -> _Process:
        process.end()
        self._processes[process.number] = self._new(process.number)
        return self._processes[process.number]

    def _feed(self, stop: bool) -> bool:
        """Gives work to those without; says whether any is under way."""
        if stop:
            self._left.clear()
        if stop and not self._stopping:
            self._stopping, self._asked = True, self._clock.seconds
            for process in self._processes:
                process.close()
                if process.job and process.job["kind"] != "train":
                    process.abandon()
        for process in list(self._processes):
            if self._left and not process.job:
                able = self._replace(process) if process.spent else process
                able.give(self._left.popleft())
        return any(process.job for process in self._processes)

    def _pass_on(self, process: _Process, event: Event) -> Iterator[Event]:
        job = process.job
        if event["event"] not in ("progress", "reading"):
            process.job = None
            process.spent = event.get("kind") == "memory"  # what it has lost, it would lack for others' jobs, too
        if event["event"] == "stopped" and job and not self._stopping:
            self._left.append(job)  # somebody else asked the worker to end: its job goes on in its successor
        else:
            yield event

    def _take_leave(self, process: _Process) -> Iterator[Event]:
        """A worker has gone: another takes its place, and its job if that has tries left."""
        job, process.job = process.job, None
        if self._stopping:
            return
        words = process.last_words()
        self._replace(process)
        if not job:
            return
        self._tries[job["stack"]] += 1
        if self._tries[job["stack"]] < attempts_of(job):
            self._left.append(job)
            return
        killed = "signal 9" in words.splitlines()[0]  # as the kernel does when memory runs out
        yield lost(job, "the worker process", words, killed)

    def _kill_hung(self) -> None:
        late = self._stopping and self._clock.seconds - self._asked > END_SECONDS
        for process in self._processes:
            if late and process.job:
                process.abandon()
            if process.is_hung(self._patience):
                process.kill(f"no sign of life for {self._patience:g} s (--patience)")
                process.last = self._clock.seconds
