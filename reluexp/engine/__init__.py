"""Who runs stacks: one interface, and the engines behind it.

A job is plain data (see `jobs`), an event too: `progress`, `prepared`, `done`, `stopped`, or `failed` with `kind` (the
name of our own error, `memory`, or None), `text` and `trace`; each says its `stack`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field, ValidationInfo, field_validator

from reluexp.catalogue.registry import Options, Registry
from reluexp.engine.gpus import visible_gpus

__all__ = [
    *("ATTEMPTS", "END_SECONDS", "ENGINES", "ENVIRONMENT", "Engine", "EngineEntry", "Event", "Job", "Resources"),
    *("attempts_of", "lost", "memory_of_place", "places", "planned_device", "sharing"),
]

Job = dict[str, Any]
Event = dict[str, Any]

ATTEMPTS = 3
"""how often a job is begun whose process or machine is lost"""

END_SECONDS = 20.0
"""to come to a safe point and save, once a run is told to stop: batch systems kill after 30"""

ENVIRONMENT = {
    # Products must not depend on the alignment of a stack's slices; one thread gives the same bits everywhere.
    "MKL_CBWR": "AUTO,STRICT",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Without it cuBLAS may take another way each time; see train.deterministic.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # glibc must keep its pages: giving them back after every step costs a third of a convolution's time.
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
"""what must be set before a process imports torch"""


class Resources(Options):
    """What a run may use."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where networks are trained")
    workers: int | None = Field(None, ge=1, le=10_000, description="processes; one per core, or per_gpu on each GPU")
    per_gpu: int = Field(1, ge=1, le=64, description="processes that share one GPU")
    stack: int | None = Field(None, ge=1, description="largest number of trials in a stack")
    engine: str = Field("local", description="who runs the stacks")
    address: str | None = Field(None, description="of a Ray cluster; one is started here if not given")
    patience: float = Field(900.0, gt=0, description="seconds without a sign of life until a worker counts as hung")

    @field_validator("address")
    @classmethod
    def an_address_is_of_a_cluster(cls, value: str | None, info: ValidationInfo) -> str | None:
        """What would be heeded by nothing is a slip."""
        if value is not None and info.data.get("engine", "local") == "local":
            raise ValueError("nothing without --engine ray")
        return value


def places(resources: Resources, on_gpus: bool) -> int:
    """How many jobs this machine does at a time: one on each core, or `per_gpu` on each GPU."""
    from loky import cpu_count

    shared = resources.per_gpu * len(visible_gpus()) if on_gpus else 0
    return resources.workers or shared or cpu_count()


def planned_device(resources: Resources) -> str:
    """Where trials will probably train: torch has the last word, and is not asked."""
    wanted = resources.device
    return ("cuda" if visible_gpus() else "cpu") if wanted == "auto" else wanted


def memory_of_place(resources: Resources) -> int | None:
    """Bytes of a GPU's memory for each job that runs there, of the smallest GPU; None where that is not known."""
    known = [gpu.memory for gpu in visible_gpus() if gpu.memory]
    return min(known) // sharing(resources) if known else None


def sharing(resources: Resources) -> int:
    """How many processes have one GPU between them."""
    count = len(visible_gpus())
    asked = (resources.workers or 0) if ENGINES[resources.engine].here else 0
    return max(resources.per_gpu, -(-asked // count) if count else 0)


def attempts_of(job: Job) -> int:
    """How often a job is begun; one that tries the user's code just to know whether it may, once."""
    return 1 if job["kind"] == "compare" else ATTEMPTS


def lost(job: Job, what: str, words: str, short: bool) -> Event:
    """The failure of a job whose process or machine went too often, for want of memory where it was `short` of it."""
    tries = attempts_of(job)
    times = f" {tries} times, the last time" if tries > 1 else ""
    text = f"{what} was lost{times}: {words.splitlines()[0]}"
    kind = "memory" if short else None
    return {"event": "failed", "stack": job["stack"], "kind": kind, "text": text, "trace": words}


class Engine(Protocol):
    """Runs jobs somewhere; jobs may be added while events are read."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Takes jobs on; returns at once."""

    def events(self, stop: Callable[[], bool]) -> Iterator[Event]:
        """What happens, until every job has ended.

        Once `stop()` holds, jobs under way are saved at the next safe point and the others are dropped. A job whose
        process or machine is lost is begun again from its checkpoint, `ATTEMPTS` times in all.
        """


@dataclass(frozen=True)
class EngineEntry:
    """One engine; `open(resources, count)` starts it for about so many jobs and ends it with the block.

    `here` says that its jobs are done on this machine.
    """

    name: str
    summary: str
    reference: str
    open: Callable[[Resources, int], AbstractContextManager[Engine]]
    here: bool
    options: type[Options] = Options


def _local(resources: Resources, count: int) -> AbstractContextManager[Engine]:
    from reluexp.engine.local import LocalEngine

    return LocalEngine.open(resources, count)


def _ray(resources: Resources, count: int) -> AbstractContextManager[Engine]:
    from reluexp.engine.ray import RayEngine

    return RayEngine.open(resources, count)


ENGINES: Registry[EngineEntry] = Registry(
    "engine",
    [
        EngineEntry("local", "worker processes of this machine, one thread each", "—", _local, True),
        EngineEntry(
            "ray", "tasks of a Ray cluster; needs reluexp[ray]", "Moritz et al. 2018, arXiv 1712.05889", _ray, False
        ),
    ],
)
