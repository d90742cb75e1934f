"""Measuring mode for a module of anybody's: while it lasts nothing random, and afterwards nothing changed."""

from __future__ import annotations

import copy
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from reluexp.seeds import kept_globals

__all__ = ["measuring_mode", "own_random_state", "throwaway_buffers", "unstepped_norms"]


_FILLED = (list, dict, set, deque, OrderedDict, defaultdict, Counter)


@contextmanager
def measuring_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode on throw-away buffers and aliases of the parameters, with a random generator of its own.

    Afterwards every submodule has the mode, the very buffers, parameters and other attributes that it had, and the
    global random states, the caches of weights of autocast and of parametrizations are as they were. The aliases share
    the parameters' memory and all need gradients: hooks on parameters are not called, and frozen layers have a
    gradient, too.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(own_random_state(module))
        stack.enter_context(_uncached_autocast(module))
        stack.enter_context(_uncached_parametrizations())
        stack.enter_context(_nothing_compiled())
        stack.enter_context(_evaluation(module))
        stack.enter_context(_same_attributes(module))
        stack.enter_context(_disabled_by_the_watch(module))
        stack.enter_context(throwaway_buffers(module))
        stack.enter_context(_aliases(module))
        yield


def throwaway_buffers(module: nn.Module) -> AbstractContextManager[None]:
    """While open, all buffers are copies; afterwards they are the tensors they were, untouched."""
    return _replaced([own._buffers for own in module.modules()], torch.clone)


@contextmanager
def _replaced(places: Sequence[dict[str, Any]], stand_in: Callable[[Any], Tensor]) -> Iterator[None]:
    """While open, each tensor of some dictionaries has a stand-in, one wherever it is; afterwards all is as it was."""
    kept = [(place, dict(place)) for place in places]
    tensors = {id(tensor): tensor for place in places for tensor in place.values() if tensor is not None}
    others = {key: stand_in(tensor) for key, tensor in tensors.items()}
    try:
        for place, before in kept:
            place.update({name: others[id(tensor)] for name, tensor in before.items() if tensor is not None})
        yield
    finally:
        for place, before in kept:
            place.clear()
            place.update(before)


def unstepped_norms(module: nn.Module) -> list[_BatchNorm]:
    """The batch norms whose running statistics no training step has touched: none was counted, and they are (0, 1).

    Weights of old versions of torch come without a count, which is 0 then.
    """
    norms = [own for own in module.modules() if isinstance(own, _BatchNorm) and own.track_running_stats]
    return [own for own in norms if not _is_stepped(own)]


def _is_stepped(norm: _BatchNorm) -> bool:
    count, mean, var = norm.num_batches_tracked, norm.running_mean, norm.running_var
    if count is None or mean is None or var is None:
        return True
    return bool(count.any()) or bool(mean.any()) or bool(var.ne(1).any())


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    """Sets and restores the flag of every submodule itself: some have one of their own, some do more in `train()`."""
    modes = {own: own.training for own in module.modules()}
    try:
        for own in modes:
            own.training = False
        yield
    finally:
        for own, training in modes.items():
            own.training = training


@contextmanager
def _same_attributes(module: nn.Module) -> Iterator[None]:
    """Puts plain attributes back, which a forward pass may set together with buffers, count in, or fill."""
    others = set(vars(nn.Module()))  # which are torch's own
    kept = {own: {name: value for name, value in vars(own).items() if name not in others} for own in module.modules()}
    values = (value for before in kept.values() for value in before.values())
    filled = [(value, copy.copy(value)) for value in values if type(value) in _FILLED]
    try:
        yield
    finally:
        for own, before in kept.items():
            for name in set(vars(own)) - others - set(before):
                del vars(own)[name]
            vars(own).update(before)
        for value, content in filled:
            value.clear()
            (value.extend if isinstance(value, (list, deque)) else value.update)(content)


@contextmanager
def _disabled_by_the_watch(module: nn.Module) -> Iterator[None]:
    """Units that `init.dead` disabled are left to whoever measures."""
    disabling: Any = getattr(module, "reluexp_disabling", None)
    if disabling is None:
        yield
        return
    disabling.off = True
    try:
        yield
    finally:
        disabling.off = False


def _aliases(module: nn.Module) -> AbstractContextManager[None]:
    """While open, all parameters are others that share their numbers, and whose gradients are nobody's."""
    places = [own._parameters for own in module.modules()]
    return _replaced(places, lambda tensor: nn.Parameter(tensor.detach(), tensor.is_floating_point()))


@contextmanager
def own_random_state(module: nn.Module | None = None) -> Iterator[None]:
    """What is drawn meanwhile is the same each time, and costs nobody a number; so are the module's own generators."""
    parts = list(module.modules()) if module else []
    devices = {tensor.device for tensor in (*module.parameters(), *module.buffers())} if module else set()
    forked = sorted({device.index or 0 for device in devices if device.type == "cuda"})
    owned = [value for own in parts for value in vars(own).values() if isinstance(value, torch.Generator)]
    states = [own.get_state() for own in owned]
    with torch.random.fork_rng(devices=forked), kept_globals():
        for own in (torch.default_generator, *owned):
            own.manual_seed(0)
        for index in forked:
            torch.cuda.default_generators[index].manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        try:
            yield
        finally:
            for own, state in zip(owned, states, strict=True):
                own.set_state(state)


@contextmanager
def _uncached_parametrizations() -> Iterator[None]:
    """Within `torch.nn.utils.parametrize.cached()`, weights that were computed from aliases must not stay."""
    before, parametrize._cache = parametrize._cache, {}
    try:
        yield
    finally:
        parametrize._cache = before


def _nothing_compiled() -> AbstractContextManager[Any]:
    """Functions that torch.compile made run as they were written, or it would compile what looks at them, too."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def _uncached_autocast(module: nn.Module) -> Iterator[None]:
    """Autocast as it is outside, but without its cache: a cached weight without a graph would spoil the next step."""
    kinds = {"cpu", *(parameter.device.type for parameter in module.parameters())}
    with ExitStack() as stack:
        for kind in kinds:
            if torch.is_autocast_enabled(kind):
                dtype = torch.get_autocast_dtype(kind)
                stack.enter_context(torch.autocast(kind, dtype=dtype, cache_enabled=False))
        yield
