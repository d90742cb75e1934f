"""The Ray engine: the same jobs as tasks of a cluster, with results on a shared folder or returned to the driver."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
import traceback
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reluexp.engine import END_SECONDS, ENVIRONMENT, Event, Job, Resources, attempts_of, lost
from reluexp.errors import ConfigError
from reluexp.store import Store

__all__ = ["RayEngine"]

_POLL_SECONDS = 0.5


class RayEngine:
    """Tasks of a Ray cluster, each with one CPU and, where there are GPUs, a share of one."""

    def __init__(self, resources: Resources) -> None:
        import ray
        import ray.util.scheduling_strategies

        self._patience = resources.patience
        self._most = resources.workers or 1_000_000
        gpus = ray.cluster_resources().get("GPU", 0) if resources.device in ("auto", "cuda") else 0
        share = {"num_gpus": 1 / resources.per_gpu} if gpus else {}
        # On the driver's own machine: a board that is lost with another would take the whole run with it.
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node_id=ray.get_runtime_context().get_node_id(), soft=False
        )
        self._board = ray.remote(num_cpus=0, scheduling_strategy=here)(_Board).remote()
        environment = {"env_vars": ENVIRONMENT}
        # Ray's own retries would hide what is lost from the count of attempts.
        self._task = ray.remote(num_cpus=1, max_retries=0, max_calls=0, runtime_env=environment, **share)(_do)
        self._left: deque[Job] = deque()
        self._running: dict[Any, Job] = {}
        self._heard: dict[str, float] = {}
        self._tries: Counter[str] = Counter()
        self._stopping = False

    @classmethod
    @contextmanager
    def open(cls, resources: Resources, count: int) -> Iterator[RayEngine]:
        """Connects to the cluster at `resources.address`, or starts one on this machine for the time of the block.

        Raises ConfigError when Ray is not installed or the cluster cannot be reached.
        """
        # Without this Ray hides the GPUs from tasks that ask for none, in another way from version to version.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        try:
            import ray
        except ImportError as error:
            raise ConfigError("--engine ray needs Ray: pip install ray (the extra `ray` of reluexp)") from error
        ours = not ray.is_initialized()
        try:
            if ours:
                alone = {} if resources.address else {"num_cpus": resources.workers, "include_dashboard": False}
                ray.init(address=resources.address or "local", log_to_driver=False, logging_level="ERROR", **alone)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ConfigError(f"--ray-address {resources.address}: no cluster can be reached: {error}") from error
        try:
            yield cls(resources)
        finally:
            if ours:
                ray.shutdown()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Takes jobs on; see `Engine`."""
        self._left.extend(jobs)
        for job in jobs:
            self._tries[job["stack"]] = 0

    def events(self, stop: Callable[[], bool]) -> Iterator[Event]:
        """What happens, until every job has ended; see `Engine`."""
        import ray

        while self._feed(stop()):
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=_POLL_SECONDS)
            yield from self._board_events()
            for reference in ready:
                job = self._running.pop(reference)
                try:
                    yield from self._ended(job, ray.get(reference))
                except ray.exceptions.RayError as error:
                    yield from self._lost(job, f"{type(error).__name__}: {error}")
            self._cancel_hung()

    def _feed(self, stop: bool) -> bool:
        """Starts tasks; says whether any is under way. Ray itself waits for free places."""
        if stop:
            self._left.clear()
        if stop and not self._stopping:
            self._stopping = True
            self._board.stop.remote()
            self._heard = dict.fromkeys(self._heard, time.monotonic())
        while self._left and len(self._running) < self._most:
            job = self._left.popleft()
            token = self._token(job)
            self._running[self._task.remote(job, token, self._board)] = job
        return bool(self._running)

    def _token(self, job: Job) -> str:
        """The path of a file by which a task sees whether it shares the results folder with the driver."""
        if job["kind"] != "train":
            return ""
        path = Store(Path(job["root"])).token
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(uuid.uuid4().hex, "utf-8")
        return path.read_text("utf-8")

    def _board_events(self) -> Iterator[Event]:
        import ray

        for event in ray.get(self._board.take.remote()):
            self._heard[event["stack"]] = time.monotonic()
            if event["event"] != "alive":
                yield event

    def _ended(self, job: Job, found: tuple[Event, Any]) -> Iterator[Event]:
        """A task came to its end; what it could not write itself is written here."""
        event, returned = found
        self._heard.pop(job["stack"], None)
        if returned:
            Store(Path(job["root"])).write_files(job["stack"], *returned)
        yield event

    def _lost(self, job: Job, reason: str) -> Iterator[Event]:
        self._heard.pop(job["stack"], None)
        if self._stopping:
            return
        self._tries[job["stack"]] += 1
        if self._tries[job["stack"]] < attempts_of(job):
            self._left.append(job)
            return
        yield lost(job, "the task", reason, "OutOfMemory" in reason)

    def _cancel_hung(self) -> None:
        import ray

        limit = END_SECONDS if self._stopping else self._patience
        for reference, job in self._running.items():
            last = self._heard.get(job["stack"])
            reading = job["kind"] == "prepare" and not self._stopping  # data may take their time
            if last is not None and not reading and time.monotonic() - last > limit:
                ray.cancel(reference, force=True)
                self._heard.pop(job["stack"])
        if self._stopping:  # tasks that wait for a place would wait for the whole study
            for reference, job in self._running.items():
                if job["stack"] not in self._heard:
                    ray.cancel(reference, force=True)


class _Board:
    """An actor: tasks post their events here and learn whether to stop; the driver takes the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stopping = False

    def post(self, events: list[Event]) -> bool:
        self.events += events
        return self.stopping

    def take(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def stop(self) -> None:
        self.stopping = True


class _Post:
    """In a task: gathers events, and a thread exchanges them with the board twice a second."""

    def __init__(self, stack: str, board: Any) -> None:
        self.stack, self.board = stack, board
        self.events: deque[Event] = deque()
        self.stop, self.ended = threading.Event(), threading.Event()
        self.seen_alive = True
        threading.Thread(target=self._exchange, daemon=True).start()

    def alive(self) -> None:
        self.seen_alive = True

    def _exchange(self) -> None:
        import ray

        while not self.ended.is_set():
            batch = [self.events.popleft() for _ in range(len(self.events))]
            if self.seen_alive:
                batch.append({"event": "alive", "stack": self.stack})
            self.seen_alive = False
            try:
                if ray.get(self.board.post.remote(batch)):
                    self.stop.set()
            except ray.exceptions.RayError:  # the driver has gone, and nobody waits for the result
                self.stop.set()
            self.ended.wait(_POLL_SECONDS)


_WORK: list[Any] = []
"""what this process keeps between tasks: the data sets"""


def _do(job: Job, token: str, board: Any) -> tuple[Event, Any]:
    """The task: does a job and returns its last event, and the files where the driver's folder is not here."""
    from reluexp.engine.work import Work, settle_torch

    with contextlib.suppress(OSError):  # a machine without the folder has the user's code installed
        os.chdir(job["cwd"])
    settle_torch()
    post = _Post(job["stack"], board)
    last: list[Event] = []

    def tell(event: Event) -> None:
        (post.events if event["event"] in ("progress", "reading") else last).append(event)

    if not _WORK:
        _WORK.append(Work(tell, post.stop.is_set, post.alive))
    work = _WORK[0]
    work.tell, work.should_stop, work.alive = tell, post.stop.is_set, post.alive
    try:
        if job["kind"] != "train" or _shared(job, token):
            work.do(job)
            return last[0], None
        return _apart(work, job, last)
    except Exception as error:
        trace = traceback.format_exc()
        return {"event": "failed", "stack": job["stack"], "kind": None, "text": str(error), "trace": trace}, None
    finally:
        post.ended.set()


def _shared(job: Job, token: str) -> bool:
    try:
        return Store(Path(job["root"])).token.read_text("utf-8") == token
    except OSError:
        return False


def _apart(work: Any, job: Job, last: list[Event]) -> tuple[Event, Any]:
    """Trains in a folder of this machine's own and returns the stack's record and files."""
    with tempfile.TemporaryDirectory(prefix="reluexp-") as folder:
        root = Path(folder) / "study"
        work.do({**job, "root": str(root), "cache": str(_own_cache(Path(folder))), "shelf": None})
        done = last[0]["event"] == "done"
        return last[0], Store(root).read_files(job["stack"]) if done else None


def _own_cache(otherwise: Path) -> Path:
    """A folder that stays on this machine from task to task; another where somebody else has made it."""
    cache = Path(tempfile.gettempdir()) / f"reluexp-cache-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    return cache if cache.stat().st_uid == os.getuid() and not cache.is_symlink() else otherwise / "cache"
