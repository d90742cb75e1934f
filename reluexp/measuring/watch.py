"""Measuring any module in anybody's own training loop, with the definitions and columns of a study."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from types import TracebackType
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from reluexp.catalogue.columns import LAYER_COLUMNS
from reluexp.errors import WatchError
from reluexp.measuring.causes import explain
from reluexp.measuring.modules import Moment, Watched, device_of, first_tensor, unseen, unwrapped
from reluexp.measuring.probe import Measurement, Probe, settle
from reluexp.measuring.records import Lives, Records
from reluexp.measuring.suspicions import suspicions
from reluexp.networks.mode import measuring_mode, unstepped_norms
from reluexp.networks.sites import Trace, trace

__all__ = ["Watch", "watch"]

Samples = Tensor | tuple[Tensor, Tensor] | list[Tensor]
_ONE = torch.ones(1, dtype=torch.bool)


def watch(
    model: nn.Module,
    probe: Samples,
    loss: Callable[..., Tensor] | None = None,
    *,
    causes: bool = True,
    spectra: bool = True,
    chunk: int | None = None,
) -> Watch:
    """Watches a module's activations on fixed samples; nothing is attached to it between measurements.

    `probe` holds the samples [sample, …], or is a pair (samples, targets). `loss(output, targets)`, or `loss(output)`
    where there are no targets, gives the mean over the samples or one value for each; without it the gradient columns
    are null. `causes` keeps a copy of the parameters from one measurement to the next, to say why units died;
    `spectra` measures effective ranks, for which a site of n units needs an n × n matrix and its eigenvalues. `chunk`
    is the largest number of samples computed at a time (128 where sites have positions, else 512; on a GPU as many as
    fit into a fortieth of its memory, up to 4,096: give less where your training needs the rest).

    Raises WatchError for a compiled or scripted model, or an unfit probe.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> with torch.no_grad():
    ...     _ = model[0].bias.copy_(torch.tensor([-9.0, 0.0, 9.0]))
    >>> with watch(model, probe=torch.eye(2)) as watched:
    ...     watched.measure()["site_name"].tolist()
    ['1', 'output']
    >>> watched.units()["dead_at_end"].tolist()[::2]
    [True, False]
    """
    return Watch(model, probe, loss, causes=causes, spectra=spectra, chunk=chunk)


_TRANSFORMED = ("vmap:", "functorch", "saved tensor hooks", "inside of a function being vmapped")


def _traced(module: nn.Module, x: Tensor) -> Trace:
    try:
        return trace(module, x.to(device_of(module), copy=True))
    except Exception as error:  # whatever the model raises
        if not any(words in str(error) for words in _TRANSFORMED):
            text = "a model of several inputs is watched as a module of one that takes them apart"
            told = f"the model fails on the probe: {type(error).__name__}: {error}"
            several = isinstance(error, TypeError) and "positional argument" in str(error)
            raise WatchError(f"{told}; {text}" if several else told) from error
        text = "an activation of the model is inside a transform of torch.func, where values cannot be looked at"
        raise WatchError(f"{text}; write the model for a batch of samples to watch it") from error


class Watch:
    """A model under watch; use it as it is or in a `with` block, after which it holds neither model nor probe."""

    def __init__(
        self,
        model: nn.Module,
        probe: Samples,
        loss: Callable[..., Tensor] | None = None,
        *,
        causes: bool = True,
        spectra: bool = True,
        chunk: int | None = None,
    ) -> None:
        module = unwrapped(model)
        x, y = _pair(probe)
        if chunk is not None and (not isinstance(chunk, Integral) or chunk < 1):
            raise WatchError(f"chunk: got {chunk!r}; allowed: a whole number of samples, at least 1")
        if loss is not None and (isinstance(loss, type) or not callable(loss)):
            raise WatchError(f"loss: got {loss!r}; give a function of output and targets, such as torch.nn.MSELoss()")
        if loss is not None and y is None and _wants_targets(loss):
            raise WatchError(f"loss: {loss!r} takes targets, too: give probe=(samples, targets)")
        self._loss, self._causes, self._spectra, self._targets = loss, causes, spectra, y is not None
        self._unseen = unseen(module)
        found = _traced(module, x[: chunk or 2])  # a model may be written for batches of one size
        self._watched: Watched | None = Watched(module, found, chunk)
        self._probe: Probe | None = self._probing(x, y)
        self._records, self._lives = Records(), Lives()
        self._before: Moment | None = None
        self._sites = found.sites
        self._steps: list[int] = []

    def measure(
        self, batch: Samples | None = None, *, step: int | None = None, epoch: float | None = None
    ) -> pd.DataFrame:
        """The rows of a study's table `layers`, without `trial`, for the model as it is now.

        On the probe, they enter `frame()` and the lives of units; on another `batch` they are a snapshot and enter
        neither. `step` and `epoch` are what the rows say; steps count the measurements where they are not given, and
        may not fall: lives are told by them.
        """
        watched, probe = self._open()
        step = self._step(step, batch is None)
        if not isinstance(epoch, Real | None):
            raise WatchError(f"epoch: got {epoch!r}; allowed: a number, which may be a fraction")
        used = probe if batch is None else self._probing(*_pair(batch))
        with _measuring(watched, probe):
            found = used.measure(True, self._spectra, gradients=self._loss is not None)
            if batch is None:
                self._follow(step, found)
        records = Records()
        for _, columns in found.rows(watched):
            for kept in (records, self._records) if batch is None else (records,):
                kept.add("layers", _ONE, {"step": step, "epoch": epoch, **columns})
        if batch is None:
            self._steps.append(step)
        return records.frame("layers", [""], LAYER_COLUMNS).drop(columns="trial")

    def units(self) -> pd.DataFrame:
        """The life of every unit so far: a study's table `units`, without `trial`."""
        return self._lives.frame([""]).drop(columns="trial")

    def frame(self) -> pd.DataFrame:
        """All rows that `measure()` has given on the probe."""
        return self._records.frame("layers", [""], LAYER_COLUMNS).drop(columns="trial")

    @property
    def sites(self) -> pd.DataFrame:
        """What was found: one row per site with its name, function, kind, width, positions and feeding layer."""
        columns = ("name", "function", "kind", "width", "positions", "layer")
        rows = [[number, *(getattr(site, column) for column in columns)] for number, site in enumerate(self._sites)]
        return pd.DataFrame(rows, columns=["site", "site_name", *columns[1:]])

    def warnings(self) -> list[str]:
        """Sentences on what is suspicious in the last measurement, the worst first; none where all is well."""
        return suspicions(self.frame(), self._sites) + self._unseen

    def confirm(self, x: Samples) -> pd.DataFrame:
        """Checks each unit on a whole training set [sample, …], or its pair with targets.

        Fills `confirmed_dead` of `units()`, which it returns. The pass ends as soon as every unit has responded to some
        sample.
        """
        watched, probe = self._open()
        x, _ = _pair(x, "the training set")
        if not self._lives.sites:
            raise WatchError("nothing was measured yet; call measure() before confirm()")
        with _measuring(watched, probe):
            for site, seen in enumerate(probe.confirm(x, torch.arange(len(x)))):
                self._lives.confirm(site, seen)
        return self.units()

    def close(self) -> None:
        """Lets go of model and probe; what was measured stays."""
        self._watched, self._probe, self._before = None, None, None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        units = sum(site.width for site in self._sites)
        return f"<reluexp.Watch: {len(self._sites)} sites, {units} units, {len(self._steps)} measurements>"

    def _open(self) -> tuple[Watched, Probe]:
        if self._watched is None or self._probe is None:
            raise WatchError("this watch has ended; begin another with reluexp.watch(model, probe)")
        return self._watched, self._probe

    def _step(self, given: int | None, followed: bool) -> int:
        last = self._steps[-1] if self._steps else -1
        if given is None:
            return last + 1
        if not isinstance(given, Integral):
            raise WatchError(f"step: got {given!r}; allowed: a whole number")
        if followed and given < last:
            raise WatchError(f"step: got {given}, but the last measurement was at step {last}; steps may not fall")
        return int(given)

    def _probing(self, x: Tensor, y: Tensor | None) -> Probe:
        watched = self._watched
        assert watched is not None, "only an open watch measures"
        if self._loss is not None and (y is not None) != self._targets:
            raise WatchError("the probe and the batch must both have targets, or neither")
        return _WatchProbe(watched, x, torch.zeros(len(x)) if y is None else y, self._losses)

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample [1, sample], by which a mean over all of them counts for each."""
        samples = outputs.shape[1]
        if self._loss is None or self._watched is None:
            return outputs.new_zeros(1, samples)
        output = self._watched.output
        value = self._loss(output, targets[0]) if self._targets else self._loss(output)
        if not isinstance(value, Tensor) or (value.dim() and len(value) != samples):
            raise WatchError("loss must return a tensor: the mean over the samples, or one value for each of them")
        if outputs.requires_grad and not value.requires_grad:
            raise WatchError(
                "loss must be computed from the model's output, not from a detached copy: it has no gradient"
            )
        if value.dim() == 0 and samples > 1 and not self._steps:
            self._refuse_sum(output, targets[0], value.detach())
        return value.expand(1, samples) if value.dim() == 0 else value.reshape(1, samples, -1).mean(2)

    def _refuse_sum(self, output: Any, targets: Tensor, value: Tensor) -> None:
        """Each sample twice: a mean stays what it is, a sum doubles, and gradients of samples would be too large."""
        if self._loss is None or not 0 < abs(float(value)) < float("inf"):
            return
        count = first_tensor(output).shape[0]
        with torch.no_grad():
            both = (_twice(own, count) for own in ((output, targets) if self._targets else (output,)))
            ratio = float(self._loss(*both) / value)
        if abs(ratio - 2) < 1e-3:
            raise WatchError(
                "loss gives a sum over the samples: give their mean, or one value for each (reduction='none')"
            )

    def _follow(self, step: int, found: Measurement) -> None:
        """Adds a measurement to the lives of the units; explains what died since the last."""
        watched, probe = self._open()
        causes: dict[int, dict[str, Tensor]] = {}
        if self._causes:
            before, self._before = self._before, watched.moment()
            died = self._lives.newly_dead(found.units, _ONE)
            if before is not None:
                silent = [own & units["off"].cpu() if site.half_line else torch.zeros_like(own)
                          for own, units, site in zip(died, found.units, self._sites, strict=True)]  # fmt: skip
                causes = explain(watched, before, self._before, probe.x, silent, [u["dead"] for u in found.units])
        self._lives.update(step, found.units, _ONE, causes)


class _WatchProbe(Probe):
    """A probe of a module whose output has a shape of its own."""

    def _outgoing(self, logits: Tensor) -> Tensor:
        assert isinstance(self.network, Watched), "a watch measures nothing else"
        return first_tensor(self.network.output)


@contextmanager
def _measuring(watched: Watched, probe: Probe) -> Iterator[None]:
    """Measuring mode; batch norms that were never stepped have the statistics of the probe."""
    with measuring_mode(watched.module):
        settle(watched, unstepped_norms(watched.module), probe.x, probe.y)
        try:
            yield
        finally:
            watched.output = None


def _twice(values: Any, count: int) -> Any:
    """Outputs of a model with each sample once more; what has no such number of rows as it is."""
    if isinstance(values, Tensor):
        return torch.cat([values, values]) if values.dim() and len(values) == count else values
    if isinstance(values, Mapping):
        found: Any = copy.copy(values)
        for key, own in values.items():
            found[key] = _twice(own, count)
        return found
    if isinstance(values, tuple) and hasattr(values, "_fields"):
        return type(values)(*(_twice(own, count) for own in values))
    return type(values)(_twice(own, count) for own in values) if isinstance(values, (tuple, list)) else values


def _wants_targets(loss: Callable[..., Tensor]) -> bool:
    """Whether a loss cannot be called with an output alone; a function that does not say so is not known to."""
    try:
        inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).bind(None)
    except TypeError:
        return True
    except ValueError:
        return False
    return False


def _pair(samples: Samples, what: str = "the probe") -> tuple[Tensor, Tensor | None]:
    x, y = (samples, None) if isinstance(samples, Tensor) else _two(samples, what)
    if not isinstance(x, Tensor) or x.dim() == 0 or len(x) == 0:
        raise WatchError(f"{what} must be a tensor [sample, …] with at least one sample, or a pair (samples, targets)")
    if y is not None and (not isinstance(y, Tensor) or y.dim() == 0 or len(y) != len(x)):
        raise WatchError(f"the targets must be a tensor with one entry for each of the {len(x)} samples")
    return x, y


def _two(samples: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(samples, (tuple, list)) or len(samples) != 2:
        batches = "; a loader's batches can be put together with torch.cat" * hasattr(samples, "__iter__")
        got = f"not {type(samples).__name__}{batches}"
        raise WatchError(f"{what} must be a tensor [sample, …] or a pair (samples, targets), {got}")
    return samples[0], samples[1]
