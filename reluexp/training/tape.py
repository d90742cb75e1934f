"""The operations of a run of Python code on tensors, heard below autograd, as a function that calls them again."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

__all__ = ["Tape"]

_DECIDING = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
"""operations by which a program learns what is in a tensor"""

_NAMED: dict[str, Any] = {}
"""what is known of kinds of calls, see `_named`"""

Outputs = tuple[Tensor, ...]


class _Listening(TorchDispatchMode):
    """Hears operations."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep the compiler out torch would have to import it, which takes a second."""
        return False


class Tape(_Listening):
    """The operations of a run, with the very tensors that they were applied to and gave."""

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
                call = _call(graph, _named(func, args, kwargs), *arguments)
                for place, value in enumerate([out] if isinstance(out, Tensor) else out or ()):
                    if isinstance(value, Tensor) and id(value) not in nodes:  # gradients that nobody wants are None
                        part = call if value is out else graph.call_function(operator.getitem, (call, place))
                        nodes[id(value)] = part
                if func.is_view:
                    views[view] = [nodes[id(value)] for value in _tensors(out)]


class _Heard(Exception):
    """An operation was asked for, and need not be done."""


class _Asking(_Listening):
    """Hears which operation is wanted."""

    wanted: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.wanted = _written(func, args, kwargs or {})
        raise _Heard


def _named(func: Any, args: Any, kwargs: Any) -> Any:
    """A function of torch's, or the name of a method, that does this very operation; else the operation itself.

    By these a small operation is called in half the time. It is found out once for each kind of call.
    """
    kind = _written(func, args, kwargs, lambda tensor: (Tensor, tensor.dtype))
    if kind not in _NAMED:
        _NAMED[kind] = _find(func, args, kwargs)
    return _NAMED[kind]


def _find(func: Any, args: Any, kwargs: Any) -> Any:
    name = func._schema.name.partition("::")[2]
    for named, known in ((getattr(torch, name, None),) * 2, (name, getattr(Tensor, name, None))):
        asking = _Asking()
        try:
            with torch.no_grad(), asking:
                if known is not None:
                    known(*args, **kwargs)
        except (TypeError, _Heard):  # it takes other arguments, or has said what it would do
            pass
        if asking.wanted == _written(func, args, kwargs):
            return named
    return func


def _call(graph: fx.Graph, named: Any, args: Any, kwargs: Any) -> fx.Node:
    made = graph.call_method if isinstance(named, str) else graph.call_function
    return made(named, args, kwargs)


def _written(func: Any, args: Any, kwargs: Any, word: Callable[[Tensor], Any] = id) -> str:
    """An operation and what it was applied to, with a word for each tensor."""
    return f"{func}{tree_map(lambda value: word(value) if isinstance(value, Tensor) else value, (tuple(args), kwargs))}"


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for own in value:
            yield from _tensors(own)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
