"""A worker process: jobs as JSON lines on stdin, events as JSON lines on stdout, until stdin ends."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from reluexp.catalogue.registry import import_attribute
from reluexp.config import Setting, label_of
from reluexp.plan import Stack

__all__ = ["main"]

_CHECKPOINT_SECONDS = 60.0


class _Worker:
    def __init__(self, events: Any) -> None:
        self.events, self.stop = events, threading.Event()
        self.jobs: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.data: dict[str, Any] = {}

    def tell(self, **event: Any) -> None:
        self.events.write(json.dumps(event) + "\n")
        self.events.flush()

    def listen(self) -> None:
        """Runs in a thread: the end of stdin is the request to stop at the next safe point."""
        for line in sys.stdin:
            self.jobs.put(json.loads(line))
        self.stop.set()
        self.jobs.put(None)

    def end(self, number: int, frame: Any) -> None:
        """On SIGTERM: stop at the next safe point, then end."""
        self.stop.set()
        self.jobs.put(None)

    def work(self) -> None:
        while job := self.jobs.get():
            try:
                self.prepare(job) if job["kind"] == "prepare" else self.train(job)
            except Exception as error:  # whatever the user's code or a device raises is reported, not fatal
                expected = type(error).__name__ if type(error).__module__ == "reluexp.errors" else None
                self.tell(event="error", stack=job.get("stack"), kind=expected, text=str(error),
                          trace=traceback.format_exc())  # fmt: skip

    def prepare(self, job: dict[str, Any]) -> None:
        device = self.device(job["device"])
        setting = Stack.from_json(job).setting
        for part in (setting.architecture, setting.activation):
            if ":" in part.name:
                import_attribute(part.name)
        data = self.dataset(setting, job["cache"])
        self.tell(event="prepared", device=device, shape=list(data.input_shape), classes=data.classes,
                  outputs=data.outputs, train=len(data.train_x), fingerprint=data.fingerprint)  # fmt: skip

    def device(self, wanted: str) -> str:
        import torch

        from reluexp.errors import DeviceError

        found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if wanted == "auto":
            return "cuda" if found["cuda"] else "cpu"
        if not found[wanted]:
            raise DeviceError(f"no {wanted} device here; available: {', '.join(n for n, is_ in found.items() if is_)}")
        return wanted

    def dataset(self, setting: Setting, cache: str) -> Any:
        from reluexp.catalogue.datasets import load_dataset

        key = setting.dataset.model_dump_json()
        if key not in self.data:
            self.data[key] = load_dataset(setting.dataset, Path(cache))
        return self.data[key]

    def train(self, job: dict[str, Any]) -> None:
        import torch

        from reluexp.store import Store
        from reluexp.train import Training

        stack, store = Stack.from_json(job), Store(Path(job["root"]))
        names, setting = [trial.id for trial in stack.trials], stack.setting
        data = self.dataset(setting, job["cache"]).to(job["device"])
        training = Training(stack, data, job["study"], job["device"])
        labels = [label_of(own.activation) for own in stack.settings]
        saved = store.load_checkpoint(job["stack"], job["device"])
        if saved:
            training.restore(saved)
        last = time.monotonic()

        def pause() -> None:
            nonlocal last
            if time.monotonic() - last > _CHECKPOINT_SECONDS:
                store.save_checkpoint(job["stack"], names, training.checkpoint())
                last = time.monotonic()

        def progress(epoch: int, accuracy: Any, dead: Any) -> None:
            latest = {}
            for label in dict.fromkeys(labels):
                own = torch.tensor([other == label for other in labels])
                latest[label] = [float(accuracy[own].nanmean()), float(dead[own].nanmean()), int(own.sum())]
            self.tell(event="progress", stack=job["stack"], epoch=epoch, epochs=setting.train.epochs, latest=latest)

        if not training.run(self.stop.is_set, progress, pause):
            store.save_checkpoint(job["stack"], names, training.checkpoint())
            self.tell(event="stopped", stack=job["stack"])
            return
        result = training.result()
        about = {"trials": names, "outcomes": result.tables["trials"]["outcome"].tolist(),
                 "shape": list(data.input_shape), "outputs": data.outputs}  # fmt: skip
        store.write_stack(job["stack"], about, result.tables, result.weights)
        self.tell(event="done", stack=job["stack"], outcomes=about["outcomes"])


def main() -> None:
    """Serves one driver until it closes the pipe."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = _Worker(events)
    signal.signal(signal.SIGTERM, worker.end)
    threading.Thread(target=worker.listen, daemon=True).start()
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # gradients that are almost 0 make products twenty times slower
    with contextlib.suppress(BrokenPipeError):
        worker.work()


if __name__ == "__main__":
    main()
