"""The price of an activation: time of a forward and a backward pass at several sizes, and its share in a training step.

`torch.utils.benchmark` does the timing, on one thread; activations take turns within a block, so that whatever else the
machine does falls on all of them alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from reluexp.catalogue.activations import ACTIVATIONS, build_activation
from reluexp.catalogue.columns import TABLES
from reluexp.config import Setting, label_of
from reluexp.errors import Interrupted
from reluexp.planning.plan import workload

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

Run = Callable[[], object]

__all__ = ["BLOCKS", "SIZES", "measure_cost"]

SIZES = (2**12, 2**16, 2**20, 2**24)
"""numbers in the tensor that an activation is applied to"""

BLOCKS = 10

_SECONDS = 2e-3  # least time that one timing should take: below, the clock and the call are what is measured


def measure_cost(
    settings: Sequence[Setting],
    shape: Sequence[int],
    classes: int,
    sizes: Sequence[int] = SIZES,
    blocks: int = BLOCKS,
    stop: Callable[[], bool] = lambda: False,
    regression: bool = False,
) -> pd.DataFrame:
    """Seconds of each activation: kind, activation, elements, block, seconds.

    kind `alone`: forward and backward of the activation on that many numbers; `step`: one whole training step (forward,
    backward, plain SGD) of that setting's network on one of its batches of random inputs of `shape`; `inside`: what the
    activations of that step take, timed alone at the sizes that they have there. Its loss is cross-entropy over that
    many classes, of a `regression` the squared error of as many outputs. Torch's own functions are timed, the
    user's where torch has none. Raises Interrupted if `stop` says so between two timings.
    """
    import pandas as pd
    import torch

    rows: list[dict[str, Any]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        own = {label_of(setting.activation): setting for setting in settings}
        given = {size: _numbers((size,)) for size in sizes}
        runs: dict[tuple[str, str, int], Run] = {}
        for label, setting in own.items():
            runs |= {("alone", label, size): _pass(_module(setting, 1), *given[size]) for size in sizes}
            step, inside, elements = _step(setting, shape, classes, regression)
            runs |= {("step", label, elements): step, ("inside", label, elements): inside}
        counts = {key: max(1, round(_SECONDS / _time(run, 1))) for key, run in runs.items()}
        for block in range(blocks):
            for (kind, label, elements), run in runs.items():
                if stop():
                    raise Interrupted("stopped while activations were timed; run it again to do that")
                about = {"kind": kind, "activation": label, "elements": elements, "block": block}
                rows.append({**about, "seconds": _time(run, counts[kind, label, elements])})
    finally:
        torch.set_num_threads(threads)
    return pd.DataFrame(rows, columns=list(TABLES["cost"]))


def _module(setting: Setting, width: int) -> nn.Module:
    """Torch's own module of an activation at a site of so many channels, else ours or the user's."""
    options = setting.activation
    torchs = ACTIVATIONS[options.name].torchs if options.name in ACTIVATIONS else None
    return torchs(options, width) if torchs else build_activation(options, width)


def _numbers(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Random inputs, and what comes back to their outputs."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).requires_grad_(), torch.randn(shape, generator=generator)


def _pass(module: nn.Module, x: Tensor, up: Tensor) -> Run:
    """Forward and backward of a module, its parameters included."""
    import torch

    inputs = [x, *module.parameters()]
    return lambda: torch.autograd.grad(module(x), inputs, up)


def _step(setting: Setting, shape: Sequence[int], classes: int, regression: bool) -> tuple[Run, Run, int]:
    """One training step of the setting's network, its activations alone, and how many numbers these are applied to."""
    import torch
    from torch.nn import functional as F

    from reluexp.catalogue.architectures import build_model

    made: list[nn.Module] = []

    def activate(width: int) -> nn.Module:
        made.append(_module(setting, width))
        return made[-1]

    module = build_model(setting.architecture, tuple(shape), classes, activate).train()
    work, generator = workload(setting), torch.Generator().manual_seed(0)
    batch = work.batch(setting) if work else setting.train.batch_size
    if any(isinstance(own, torch.nn.modules.batchnorm._BatchNorm) for own in module.modules()):
        batch = max(2, batch)  # the spread of one sample is none
    x = torch.randn((batch, *shape), generator=generator)
    kinds, numbers = torch.randint(classes, (batch,), generator=generator), torch.zeros(batch, classes)
    parameters = list(module.parameters())

    def step() -> None:
        out = module(x)
        loss = F.mse_loss(out, numbers) if regression else F.cross_entropy(out, kinds)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.sub_(gradient, alpha=1e-4)

    met: list[tuple[nn.Module, tuple[int, ...]]] = []
    hooks = [own.register_forward_hook(lambda m, inputs, _: met.append((m, tuple(inputs[0].shape)))) for own in made]
    with torch.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    passes = [_pass(own, *_numbers(size)) for own, size in met]
    return step, lambda: [run() for run in passes], sum(math.prod(size) for _, size in met)


def _time(run: Run, number: int) -> float:
    """Mean seconds of a call, over so many."""
    from torch.utils.benchmark import Timer

    return float(Timer("run()", globals={"run": run}, num_threads=1).timeit(number).mean)
