"""A worker process: jobs as JSON lines on stdin, events as JSON lines on stdout, until stdin ends."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
from typing import Any

from reluexp.engine import Event, Job
from reluexp.engine.work import Work, settle_torch

__all__ = ["main"]

_BEAT_SECONDS = 1.0
_LAST_SECONDS = 60.0


class _Worker:
    def __init__(self, told: Any, events: Any) -> None:
        self.told, self.out, self.stop = told, events, threading.Event()
        # A signal handler may put while the main thread gets: that is safe with a SimpleQueue alone.
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.last_beat = 0.0
        self.work = Work(self.tell, self.stop.is_set, self.alive)

    def tell(self, event: Event) -> None:
        self.out.write(json.dumps(event) + "\n")
        self.out.flush()

    def alive(self) -> None:
        """Called between steps: the driver kills a worker that it has not heard from for too long."""
        now = time.monotonic()
        if now - self.last_beat > _BEAT_SECONDS:
            self.last_beat = now
            self.tell({"event": "alive"})

    def listen(self) -> None:
        """Runs in a thread: the end of what is told is the request to save at the next safe point and to end.

        A worker whose driver has gone and that does not come to such a point must not stay for ever.
        """
        for line in self.told:
            self.jobs.put(json.loads(line))
        self.end()
        time.sleep(_LAST_SECONDS)
        faulthandler.dump_traceback()
        os._exit(1)

    def end(self, *signalled: Any) -> None:
        """Also on a signal: a batch system sends it to every process of a job that it takes off the machine."""
        self.stop.set()
        self.jobs.put(None)

    def serve(self) -> None:
        while job := self.jobs.get():
            self.work.do(job)


def main() -> None:
    """Serves one driver until it closes the pipe."""
    faulthandler.enable()
    # What the user's code forks or starts must neither wait for the thread that reads jobs nor read them itself.
    told, events = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = _Worker(told, events)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, worker.end)
    threading.Thread(target=worker.listen, daemon=True).start()
    settle_torch()
    worker.alive()
    import reluexp.training.loop  # noqa: F401 while another worker reads the data

    with contextlib.suppress(BrokenPipeError):
        worker.serve()
    atexit._run_exitfuncs()  # of code of the user's, too
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # taking torch down would take a second


if __name__ == "__main__":
    main()
