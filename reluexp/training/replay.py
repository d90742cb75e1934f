"""Steps of a stack on a GPU, recorded once as a CUDA graph and played again from then on.

To launch the operations of small networks one by one takes a processor many times as long as a GPU needs to compute
them; a graph launches all of them at once, with the same kernels and hence the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Replay"]

_BEFORE = 3  # a way's first steps are launched one by one: they make what later ones change in place
Body = Callable[..., Tensor]


@dataclass
class _Way:
    """One form of a step, such as that with a short last batch: its inputs, and how often it was run."""

    inputs: list[Tensor]
    runs: int = 0
    recorded: tuple[Any, Tensor] | None = None

    @classmethod
    def like(cls, inputs: tuple[Tensor | float, ...]) -> _Way:
        number = next(value for value in inputs if isinstance(value, Tensor)).new_empty((), dtype=torch.float64)
        return cls([torch.empty_like(value if isinstance(value, Tensor) else number) for value in inputs])

    def take(self, inputs: tuple[Tensor | float, ...]) -> None:
        for own, value in zip(self.inputs, inputs, strict=True):
            if isinstance(value, Tensor):
                own.copy_(value)
            else:
                own.fill_(value)


class Replay:
    """Runs a body on inputs, tensors or numbers: the first few times as it stands, later as it was recorded.

    A body may use nothing that changes from one step to the next but its inputs, where numbers come as tensors, and
    what is changed in place; it must never wait for the device. What it gives lies where it will lie next time, too.
    All calls belong into a block of `here`.
    """

    def __init__(self) -> None:
        self._ways: dict[Hashable, _Way] = {}
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def here(self) -> Iterator[None]:
        """Whatever is done meanwhile, is done on the stream that steps are recorded on.

        Autograd ties a parameter to the stream where it was first used, and a recording may have to do with no other.
        """
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def __call__(self, key: Hashable, body: Body, *inputs: Tensor | float) -> Tensor:
        """The body's result; equal keys promise equal bodies and inputs of equal shapes."""
        way = self._ways.get(key) or self._ways.setdefault(key, _Way.like(inputs))
        way.take(inputs)
        way.runs += 1
        if way.runs <= _BEFORE:
            return body(*way.inputs)
        if way.recorded is None:
            way.recorded = self._recorded(body, way)
        graph, output = way.recorded
        graph.replay()
        return output

    def _recorded(self, body: Body, way: _Way) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """The graph of one run, which has not taken place yet, and where its result will lie."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            output = body(*way.inputs)
        return graph, output
