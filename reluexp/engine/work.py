"""What a worker does with a job: reads a data set, trains a stack; the same whatever engine brings the job."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reluexp.catalogue.registry import import_attribute, message_of, told_with_place
from reluexp.config import label_of
from reluexp.engine import Event, Job
from reluexp.engine.jobs import about_of, stack_of
from reluexp.engine.shelf import Shelf
from reluexp.environment import now, version_of
from reluexp.errors import ConfigError, DeviceError, ReluexpError
from reluexp.planning.code import fingerprints
from reluexp.planning.earlier import describe
from reluexp.store import Store

if TYPE_CHECKING:
    from reluexp.catalogue.loading import Dataset
    from reluexp.training.loop import Training

__all__ = ["Work", "settle_torch"]

_SHARE = 0.02
_TELL_SECONDS = 0.5
_AT_EPOCH_END, _WITHIN_EPOCH = 5.0, 120.0
_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate", "cannot allocate memory")


def settle_torch() -> None:
    """What holds for every process that trains, whatever the user's code has set that one of its jobs imported.

    One thread, so that numbers do not depend on the machine's cores.
    """
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # gradients that are almost 0 make products twenty times slower
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    # On a GPU single precision is single precision, and the same trial gives the same bits when it is run again.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


class Work:
    """Does one job after the other and keeps the data sets between them.

    `tell` receives the events, `alive` is called at every sign of life, `should_stop` asks whether to save and end.
    """

    def __init__(
        self, tell: Callable[[Event], None], should_stop: Callable[[], bool], alive: Callable[[], None]
    ) -> None:
        self.tell, self.should_stop, self.alive = tell, should_stop, alive
        self._data: dict[str, Dataset] = {}
        self._code: dict[str, str | None] = {}

    def do(self, job: Job) -> None:
        """Whatever the user's code or a device raises is an event, and not fatal."""
        try:
            self._import_own(job)
            settle_torch()
            event = {"prepare": self._prepare, "compare": self._compare, "train": self._train}[job["kind"]](job)
        except (Exception, SystemExit) as error:
            trace = traceback.format_exc()
            event = {"event": "failed", "kind": _kind(error), "text": _text(error), "trace": trace}
        self.tell({"stack": job["stack"], **event})

    def _import_own(self, job: Job) -> None:
        """Imports the user's code that a job needs, and refuses to train with another than the study's.

        A process keeps what it has imported, whatever becomes of the files.
        """
        if not job["own"]:
            return
        model, code = stack_of(job).setting.architecture.name, fingerprints(job["own"])
        for name in job["own"]:
            import_attribute(name, " that makes a torch.nn.Module" if name == model else "")
            self._code.setdefault(name, code.get(name))
        if not Path(job["cwd"]).samefile(Path.cwd()):  # a machine without the folder has the code in another place
            return
        wanted = job.get("code", {})
        if other := [name for name in wanted if self._code.get(name, wanted[name]) != wanted[name]]:
            raise ConfigError(f"the code of {' and '.join(other)} changed while the study ran; run it again")

    def _prepare(self, job: Job) -> Event:
        device = _device(job["device"])
        from reluexp.catalogue.loading import load_dataset

        cache, options = Path(job["cache"]), stack_of(job).setting.dataset

        told = time.monotonic()

        def read(done: int, total: int) -> None:
            nonlocal told
            self.alive()
            if done == total or time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                self.tell({"event": "reading", "stack": job["stack"], "done": done, "total": total})

        data, place = Shelf(cache).obtain(options, lambda: load_dataset(options, cache, read))
        self._data = {data.fingerprint: data}
        return {
            **{"event": "prepared", "device": device, "shape": list(data.input_shape), "classes": data.classes},
            **{
                "outputs": data.outputs,
                "train": len(data.train_x),
                "fingerprint": data.fingerprint,
                "cache": job["cache"],
            },
            "shelf": str(place) if place else None,
        }

    def _compare(self, job: Job) -> Event:
        from reluexp.networks.batching import reads_batched
        from reluexp.networks.network import ignores_activation

        setting, shape, outputs = stack_of(job).setting, tuple(job["shape"]), job["outputs"]
        batched = reads_batched(setting, shape, outputs, job["device"])
        return {"event": "compared", "batched": batched, "ignores": ignores_activation(setting, shape, outputs)}

    def _dataset(self, job: Job) -> Dataset:
        """The data set of a training job: from memory, from the shelf, or read again."""
        from reluexp.catalogue.loading import load_dataset
        from reluexp.errors import DataError

        if job["fingerprint"] not in self._data:
            if job["shelf"] and Path(job["shelf"]).is_dir():
                data = Shelf.take(Path(job["shelf"]))
            else:
                options, cache = stack_of(job).setting.dataset, Path(job["cache"])
                data, _ = Shelf(cache).obtain(options, lambda: load_dataset(options, cache))
            if data.fingerprint != job["fingerprint"]:
                raise DataError(f"{data.name}: the data changed while the study ran; run it again")
            self._data = {data.fingerprint: data}  # one at a time: a study's data sets may not fit in memory together
        return self._data[job["fingerprint"]]

    def _train(self, job: Job) -> Event:
        import torch

        from reluexp.networks.compiled import refusal
        from reluexp.training.loop import Training

        store, about, start = Store(Path(job["root"])), about_of(job), time.time()
        stack, data = stack_of(job), self._dataset(job).to(job["device"])
        if job["device"] == "cuda":
            torch.use_deterministic_algorithms(stack.setting.train.deterministic, warn_only=True)
        training = Training(stack, data, job["study"], job["device"], job["batched"], job["share"])
        labels = [label_of(setting.activation) for setting in stack.settings]
        saved = store.checkpoints.load(job["stack"], about)
        if saved:
            training.restore(saved)

        def save() -> None:
            store.save_checkpoint(job["stack"], about, training.checkpoint())

        pause = _Pause(training, save)

        def between_steps() -> None:
            self.alive()
            pause()

        def progress(epoch: int, reached: Any, dead: Any) -> None:
            self.alive()
            self.tell({"event": "progress", "stack": job["stack"], "epoch": epoch, "epochs": stack.setting.train.epochs,
                       "regression": data.classes is None, "latest": _latest(labels, reached, dead)})  # fmt: skip

        if not training.run(self.should_stop, progress, between_steps):
            save()
            return {"event": "stopped"}
        result = training.result()
        outcomes = result.tables["trials"]["outcome"].tolist()
        record = {**about, "outcomes": outcomes, "shape": list(data.input_shape), "outputs": data.outputs}
        record |= {**describe(stack), **_made(job, start)}
        store.write_stack(job["stack"], record, result.tables, result.weights)
        return {"event": "done", "outcomes": outcomes, "note": refusal()}


def _latest(labels: list[str], reached: Any, dead: Any) -> dict[str, list[float]]:
    """What was reached, dead fraction and number of networks by activation, for the progress."""
    import torch

    found = {}
    for label in dict.fromkeys(labels):
        own = torch.tensor([other == label for other in labels])
        found[label] = [float(reached[own].nanmean()), float(dead[own].nanmean()), int(own.sum())]
    return found


class _Pause:
    """Saves checkpoints between steps: at ends of epochs and every few minutes, for at most 2 % of the time."""

    def __init__(self, training: Training, save: Callable[[], None]) -> None:
        self.training, self.save = training, save
        self.epoch, self.last, self.cost = training.epoch, time.monotonic(), 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        ended = self.training.epoch > self.epoch
        if now - self.last < max(self.cost / _SHARE, _AT_EPOCH_END if ended else _WITHIN_EPOCH):
            return
        self.epoch = self.training.epoch
        self.save()
        self.last = time.monotonic()
        self.cost = self.last - now
        seconds = self.training.seconds
        seconds["checkpoint"] = seconds.get("checkpoint", 0.0) + self.cost


def _made(job: Job, start: float) -> dict[str, Any]:
    """Where and by what a stack was made."""
    return {
        **{"host": socket.gethostname(), "device": job["device"], "torch": version_of("torch")},
        **{"started": now(start), "ended": now(), "pid": os.getpid()},
    }


def _device(wanted: str) -> str:
    import torch

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return "cuda" if found["cuda"] else "cpu"
    if wanted == "mps" and found["mps"]:
        raise DeviceError("mps has no double precision, which the definitions need; use --device cpu")
    if not found[wanted]:
        raise DeviceError(f"no {wanted} device here; available: {', '.join(n for n, is_ in found.items() if is_)}")
    return wanted


def _kind(error: BaseException) -> str | None:
    """The name of our own error, `memory` when there was not enough of it, else None."""
    if isinstance(error, ReluexpError):
        return type(error).__name__
    short = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    short = short or (isinstance(error, RuntimeError) and any(words in message_of(error).lower() for words in _MEMORY))
    return "memory" if short else None


def _text(error: BaseException) -> str:
    return str(error) if isinstance(error, ReluexpError) else told_with_place(error)
