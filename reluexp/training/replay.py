"""Steps of a stack, recorded once and then replayed: the same operations in the same order, for the same bits.

For small networks a processor takes longer to find out what to compute (modules, autograd, the reading of operations
for a whole stack) than to compute it, and much longer than a GPU takes. On a GPU a recording is a CUDA graph, on a CPU
the list of operations below autograd as a function of Python.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from reluexp.training.tape import Tape

__all__ = ["Graphs", "Replay", "Tapes", "replay_of"]

_BEFORE = {"cuda": 3, "cpu": 32}
"""how many steps of a kind are taken as they are written: the first make what later ones change in place"""

Outputs = tuple[Tensor, ...]
Body = Callable[..., Outputs]


def replay_of(device: str) -> Replay | None:
    """How steps are recorded there, None where they are not."""
    return Graphs() if device == "cuda" else Tapes() if device == "cpu" else None


class Replay(ABC):
    """Runs a body on tensors: the first few times as it stands, later as it was recorded.

    A body may use nothing that changes from one step to the next but its inputs and what is changed in place, and must
    not decide anything by the numbers in a tensor. What it gives is good until the next step.
    """

    def __init__(self, before: int) -> None:
        self._before = before
        self._runs: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Callable[..., Outputs]] = {}

    def __call__(self, key: Hashable, body: Body, *inputs: Tensor) -> Outputs:
        """The body's results; equal keys promise equal bodies and inputs of equal shapes. To be called `here`."""
        if key not in self._recorded:
            self._runs[key] += 1
            if self._runs[key] <= self._before:
                return body(*inputs)
            self._recorded[key] = self.record(body, inputs)
        return self._recorded[key](*inputs)

    @abstractmethod
    def record(self, body: Body, inputs: Outputs) -> Callable[..., Outputs]:
        """What does the same to other inputs; it does not take the step itself."""

    @abstractmethod
    def number(self, value: float) -> Tensor:
        """A number as an input, in float64."""

    @contextmanager
    def here(self) -> Iterator[None]:
        """Where everything is done that has to do with the network."""
        yield


class Graphs(Replay):
    """Recordings as CUDA graphs."""

    def __init__(self) -> None:
        super().__init__(_BEFORE["cuda"])
        self._stream = _stream()
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def here(self) -> Iterator[None]:
        """On the stream that steps are recorded on.

        Autograd ties a parameter to the stream where it was first used, and a recording may have to do with no other.
        """
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def number(self, value: float) -> Tensor:
        """Written by the device: a copy from main memory would be waited for."""
        return torch.full((), value, dtype=torch.float64, device="cuda")

    def record(self, body: Body, inputs: Outputs) -> Callable[..., Outputs]:
        """Inputs are copied to where the graph reads them; its results lie where they will lie next time, too."""
        places = [torch.empty_like(value) for value in inputs]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            outputs = body(*places)

        def replay(*inputs: Tensor) -> Outputs:
            for place, value in zip(places, inputs, strict=True):
                place.copy_(value)
            graph.replay()
            return outputs

        return replay


@cache
def _stream() -> torch.cuda.Stream:
    """One for all stacks of a process: memory is kept by stream, and another could not have what was given back."""
    return torch.cuda.Stream()


class Tapes(Replay):
    """Recordings as functions that call the operations one after the other."""

    def __init__(self) -> None:
        super().__init__(_BEFORE["cpu"])

    def number(self, value: float) -> Tensor:
        """In main memory."""
        return torch.tensor(value, dtype=torch.float64)

    def record(self, body: Body, inputs: Outputs) -> Callable[..., Outputs]:
        """Records a run, which takes a step after all, and gives its results at the first call."""
        with Tape() as tape:
            outputs = body(*inputs)
        function, constants = tape.function(inputs, outputs)
        first = [outputs]

        @torch.no_grad()
        def replay(*inputs: Tensor) -> Outputs:
            return first.pop() if first else tuple(function(*inputs, *constants))

        return replay
