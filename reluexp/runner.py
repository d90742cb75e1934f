"""From a config to results: plan, engine, store. Imports no torch; that is the workers' business."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reluexp import errors
from reluexp.catalogue.datasets import Hints
from reluexp.config import LoadedConfig, load_config, misfits
from reluexp.engine.local import LocalEngine
from reluexp.errors import ConfigError, Interrupted, ResultsError
from reluexp.plan import Plan, Stack, identity, make_plan, make_trials
from reluexp.registration import register
from reluexp.store import Store
from reluexp.study import Study
from reluexp.tuning import for_choosing

__all__ = ["Listener", "run", "run_loaded"]

Listener = Callable[[dict[str, Any]], None]


def run(
    config: str | Path | Mapping[str, Any],
    results: str | Path = "results",
    *,
    overrides: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    stack: int | None = None,
    fresh: bool = False,
    listener: Listener | None = None,
) -> Study:
    """Train everything that a config asks for and is not done yet, and return the study.

    `config` is a YAML file, the name of a shipped config, or a mapping. Raises ConfigError, DataError, DeviceError or
    ResultsError before anything is trained, and Interrupted when stopped by Ctrl-C; the next run then goes on.
    """
    loaded = load_config(config, overrides)
    return run_loaded(loaded, Path(results), device, workers, stack, fresh, listener or (lambda event: None))


def run_loaded(
    loaded: LoadedConfig,
    results: Path,
    device: str = "auto",
    workers: int | None = None,
    stack: int | None = None,
    fresh: bool = False,
    listener: Listener = lambda event: None,
) -> Study:
    """The same for a config that is loaded already."""
    if loaded.config.tune and loaded.phase == "whole":
        first = run_loaded(for_choosing(loaded), results, device, workers, stack, fresh, listener)
        second = first.comparing(loaded)
        return run_loaded(second, results, device, workers, stack, False, listener)
    store = Store(results / loaded.config.study)
    trials = make_trials(loaded)
    count = workers or len(os.sched_getaffinity(0))
    with _ctrl_c() as stop, store.lock():
        finished = {} if fresh else store.outcomes()
        done = [name for name, (outcome, _) in finished.items() if outcome != "failed"]
        plan = make_plan(
            trials, done, [] if fresh else store.begun(), count, "cpu" if device == "auto" else device, stack
        )
        if not plan.stacks:
            _write_study(store, loaded, {})
            return Study(store)
        with LocalEngine.open(min(count, len(plan.stacks))) as engine:
            about = _prepare(engine, plan, results, device, stop)
            if fresh:
                store.clear()
            _write_study(store, loaded, about)
            listener({"event": "plan", "trials": len(trials), "to_do": plan.to_do, "stacks": plan.stacks})
            jobs = [_job(item, store, results, loaded, about["device"]) for item in plan.stacks]
            by_name = {item.id: item for item in plan.stacks}
            for event in engine.run(jobs, stop):
                if event["event"] == "error":
                    if event["kind"] == "ResultsError":
                        raise ResultsError(event["text"])
                    _record_failure(store, loaded, by_name[event["stack"]], event)
                listener(event)
        if stop():
            raise Interrupted(f"{loaded.config.study}: stopped; run it again to go on where it was")
    study = Study(store)
    if loaded.config.cost and loaded.phase != "choosing" and study.cost.empty:
        study.measure_cost()
    return study


def _job(stack: Stack, store: Store, results: Path, loaded: LoadedConfig, device: str) -> dict[str, Any]:
    return {
        **{"kind": "train", **stack.to_json(), "root": str(store.root), "cache": str(results / ".cache")},
        **{"study": loaded.config.study, "device": device},
    }


def _prepare(engine: LocalEngine, plan: Plan, results: Path, device: str, stop: Callable[[], bool]) -> dict[str, Any]:
    """Reads every data set once, in a worker, before anything is written; checks what could not be checked before."""
    known: dict[str, dict[str, Any]] = {}
    chosen = device
    for stack in plan.stacks:
        own = [part.name for part in (stack.setting.architecture, stack.setting.activation) if ":" in part.name]
        key = " ".join([identity(stack.setting.dataset), *own])
        if key not in known:
            alone = Stack(stack.id, stack.trials[:1])
            job = {"kind": "prepare", **alone.to_json(), "cache": str(results / ".cache"), "device": device}
            for event in engine.run([job], stop):
                if event["event"] == "error":
                    kind = getattr(errors, event["kind"] or "", None)
                    raise (kind or RuntimeError)(event["text"] if kind else event["trace"])
                known[key], chosen = event, event["device"]
            if key not in known:
                raise Interrupted("stopped before anything was trained")
        found, dataset = known[key], stack.setting.dataset.name
        hints = Hints(tuple(found["shape"]), found["classes"], found["train"], None, found["outputs"])
        wrong = misfits(stack.setting, hints) if ":" in dataset or dataset == "imagefolder" else []
        if wrong:
            raise ConfigError("; ".join(f"{'.'.join(map(str, path))}: {text}" for path, text in wrong))
    return {"device": chosen, "data": {found["fingerprint"]: key for key, found in known.items()}}


def _record_failure(store: Store, loaded: LoadedConfig, stack: Stack, event: dict[str, Any]) -> None:
    """A failed stack is an outcome too: its trials have a row, and the traceback lies beside it."""
    import pandas as pd

    from reluexp.config import label_of

    rows = [
        {"trial": trial.id, "study": loaded.config.study, "seed": trial.seed,
         **{part: label_of(getattr(trial.point.setting, part))
            for part in ("dataset", "architecture", "activation", "init")},
         "outcome": "failed", "failure": event["text"], "classes": float("nan"), "dead_fraction": float("nan"),
         "stuck": None, **{k: v for k, v in trial.point.axes.items() if "." in k}}
        for trial in stack.trials
    ]  # fmt: skip
    about = {
        **{"trials": [trial.id for trial in stack.trials], "outcomes": ["failed"] * len(rows)},
        **{"shape": [], "outputs": 0, "trace": event["trace"]},
    }
    store.write_stack(stack.id, about, {"trials": pd.DataFrame(rows)}, {})


def _write_study(store: Store, loaded: LoadedConfig, about: dict[str, Any]) -> None:
    before = store.read_study() if store.study_file.is_file() else {}
    provenance = {**before.get("provenance", {}), **_provenance(), **about}
    config = loaded.config.model_dump(mode="json")
    if "baseline" not in loaded.config.model_fields_set:
        del config["baseline"]  # a default need not be in the study
    store.write_study(
        {
            "study": loaded.config.study,
            "given": loaded.text,
            "overrides": list(loaded.overrides),
            "config": config,
            "hypotheses": register(loaded.config, before.get("hypotheses"), len(store.outcomes())),
            "provenance": provenance,
        }
    )


def _provenance() -> dict[str, Any]:
    packages = ("reluexp", "torch", "torchvision", "numpy", "pandas")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "source tree"
    machine = f"{platform.system()} {platform.machine()}"
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {"versions": versions, "machine": machine, "command": command, "started": time.strftime("%Y-%m-%d %H:%M:%S")}


@contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """While open, the first Ctrl-C or SIGTERM asks to stop, the second stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
