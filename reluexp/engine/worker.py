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
        for part in ("architecture", "activation"):
            if ":" in job["setting"][part]["name"]:
                import_attribute(job["setting"][part]["name"])
        data = self.dataset(job)
        self.tell(event="prepared", device=device, shape=list(data.input_shape), classes=data.classes,
                  train=len(data.train_x), fingerprint=data.fingerprint)  # fmt: skip

    def device(self, wanted: str) -> str:
        import torch

        from reluexp.errors import DeviceError

        found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if wanted == "auto":
            return "cuda" if found["cuda"] else "cpu"
        if not found[wanted]:
            raise DeviceError(f"no {wanted} device here; available: {', '.join(n for n, is_ in found.items() if is_)}")
        return wanted

    def dataset(self, job: dict[str, Any]) -> Any:
        from reluexp.catalogue.datasets import load_dataset
        from reluexp.config import Setting

        key = json.dumps(job["setting"]["dataset"], sort_keys=True)
        if key not in self.data:
            options = Setting.model_validate({"dataset": job["setting"]["dataset"]}).dataset
            self.data[key] = load_dataset(options, Path(job["cache"]))
        return self.data[key]

    def train(self, job: dict[str, Any]) -> None:
        from reluexp.config import Setting
        from reluexp.store import Store
        from reluexp.train import Training

        store, names = Store(Path(job["root"])), [trial["id"] for trial in job["trials"]]
        setting, data = Setting.model_validate(job["setting"]), self.dataset(job).to(job["device"])
        training = Training(setting, job["trials"], data, job["study"], job["device"])
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
            self.tell(event="progress", stack=job["stack"], epoch=epoch, epochs=setting.train.epochs,
                      accuracy=float(accuracy.nanmean()), dead=float(dead.nanmean()))  # fmt: skip

        if not training.run(self.stop.is_set, progress, pause):
            store.save_checkpoint(job["stack"], names, training.checkpoint())
            self.tell(event="stopped", stack=job["stack"])
            return
        result = training.result()
        about = {"trials": names, "outcomes": result.tables["trials"]["outcome"].tolist(),
                 "shape": list(data.input_shape), "classes": data.classes}  # fmt: skip
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
    with contextlib.suppress(BrokenPipeError):
        worker.work()


if __name__ == "__main__":
    main()
