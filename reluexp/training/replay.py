"""Steps of a stack, recorded once and then replayed: the same operations in the same order, for the same bits.

For small networks a processor takes longer to find out what to compute (modules, autograd, the reading of operations
for a whole stack) than to compute it, and much longer than a GPU takes. On a GPU a recording is a CUDA graph, on a CPU
the list of operations below autograd as a function of Python.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

__all__ = ["Graphs", "Replay", "Tapes", "replay_of"]

_BEFORE = {"cuda": 3, "cpu": 32}
"""how many steps of a kind are taken as they are written: the first make what later ones change in place"""
_DECIDING = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
"""operations by which a program learns what is in a tensor"""

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
        with _Tape() as tape:
            outputs = body(*inputs)
        function, constants = tape.function(inputs, outputs)
        first = [outputs]

        @torch.no_grad()
        def replay(*inputs: Tensor) -> Outputs:
            return first.pop() if first else tuple(function(*inputs, *constants))

        return replay


class _Tape(TorchDispatchMode):
    """The operations of a run, with the very tensors that they were applied to and gave."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep the compiler out torch would have to import it, which takes a second."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DECIDING:
            raise RuntimeError(f"a step that is recorded asks for numbers, by {func}")
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out

    def function(self, inputs: Outputs, outputs: Outputs) -> tuple[Callable[..., Outputs], list[Tensor]]:
        """The operations as a function of the inputs and of constants, and these constants.

        Constant is what was there before and is changed in place, and every view of it.
        """
        made = self._made(inputs)
        used = _tensors([*((args, kwargs) for _, args, kwargs, _ in self.operations), outputs])
        constants = list({id(value): value for value in used if id(value) not in made}.values())
        graph = fx.Graph()
        given = [*inputs, *constants]
        nodes = {id(value): graph.placeholder(f"given{place}") for place, value in enumerate(given)}
        self._write(graph, nodes, made)
        graph.output(tuple(nodes[id(value)] for value in outputs))
        self.operations = []  # and what they kept alive
        return fx.GraphModule(torch.nn.Module(), graph).forward, constants

    def _made(self, inputs: Outputs) -> set[int]:
        """The ids of the tensors that are other ones at each run: the inputs, and what is made of anything anew."""
        made = set(map(id, inputs))
        for func, args, kwargs, out in self.operations:
            given = {id(value) for value in _tensors((args, kwargs))}
            if not func.is_view or given & made:
                made |= {id(value) for value in _tensors(out)} - given
        return made

    def _write(self, graph: fx.Graph, nodes: dict[int, fx.Node], made: set[int]) -> None:
        """The operations as calls; `nodes` have what is given, and get what is made."""

        def node(value: Any) -> Any:
            return nodes[id(value)] if isinstance(value, Tensor) else value

        views: dict[str, list[fx.Node]] = {}
        for func, args, kwargs, out in self.operations:
            if not func._schema.is_mutable and not any(id(value) in made for value in _tensors(out)):
                continue  # a view of a constant
            arguments = tree_map(node, tuple(args)), tree_map(node, kwargs)
            view = f"{func}{arguments}"
            if func is torch.ops.aten.detach.default:
                nodes[id(out)] = node(args[0])
            elif view in views:  # autograd takes the same views once more on its way back
                nodes |= {id(value): known for value, known in zip(_tensors(out), views[view], strict=True)}
            else:
                call = graph.call_function(func, *arguments)
                for place, value in enumerate([out] if isinstance(out, Tensor) else out or ()):
                    if isinstance(value, Tensor) and id(value) not in nodes:  # gradients that nobody wants are None
                        part = call if value is out else graph.call_function(operator.getitem, (call, place))
                        nodes[id(value)] = part
                if func.is_view:
                    views[view] = [nodes[id(value)] for value in _tensors(out)]


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for own in value:
            yield from _tensors(own)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
