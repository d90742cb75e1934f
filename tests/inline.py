"""An engine without processes: jobs are done by whoever reads the events, where neither crashes nor memory matter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

from reluexp.engine import Event, Job
from reluexp.engine.local import LocalEngine
from reluexp.engine.work import Work

__all__ = ["inline"]


class Inline:
    """See `reluexp.engine.Engine`; a job that is under way when `stop()` holds is saved as a worker saves it."""

    def __init__(self) -> None:
        self._left: deque[Job] = deque()

    def submit(self, jobs: Sequence[Job]) -> None:
        self._left.extend(jobs)

    def events(self, stop: Callable[[], bool]) -> Iterator[Event]:
        said: deque[Event] = deque()
        work = Work(said.append, stop, lambda: None)
        while self._left and not stop():
            work.do(self._left.popleft())
            while said:
                yield said.popleft()


@contextmanager
def inline() -> Iterator[None]:
    """Has `reluexp.run` train in this process, which has imported torch already and set it as tests need it."""
    opened = patch.object(LocalEngine, "open", lambda resources, count: nullcontext(Inline()))
    with opened, patch("reluexp.engine.work.settle_torch"):
        yield
