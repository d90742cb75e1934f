"""How long a report of many trials takes, and in how much memory: copies of trained trials with noise, as one study.

python benchmarks/report.py 143        # 7 activations × 143 seeds in one setting
python benchmarks/report.py 12 12      # × 12 learning rates
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import reluexp
from reluexp.config import load_config
from reluexp.planning.plan import make_trials
from reluexp.store import Store
from reluexp.study import Study

STACK = 112
LARGE = ("epochs", "layers", "units")


def made_config(source: Study, seeds: int, rates: int) -> dict[str, Any]:
    """The quickstart's config with so many seeds and learning rates."""
    grid: dict[str, Any] = {"activation": sorted(source.trials["activation"].unique())}
    if rates > 1:
        grid["train.optimizer.lr"] = [round(0.01 * 1.5**place, 5) for place in range(rates)]
    return {**source.config, "study": f"made{seeds}x{rates}", "seeds": seeds, "grid": grid}


def copy_trials(source: Study, store: Store, config: dict[str, Any]) -> int:
    """Writes every trial that the config asks for: a trained one of its activation, its measurements times noise."""
    record = next(iter(source.standing.records.values()))
    about = {key: record[key] for key in ("shape", "outputs", "classes", "numerics", "data", "torch") if key in record}
    known = source.trials.groupby("activation")["trial"].agg(list)
    parts = {table: dict(tuple(getattr(source, table).groupby("trial"))) for table in ("trials", *LARGE)}
    trials, noise = make_trials(load_config(config)), np.random.default_rng(0)
    for start in range(0, len(trials), STACK):
        own = trials[start : start + STACK]
        models = [known[trial.point.setting.activation.name] for trial in own]
        names = [model[trial.seed % len(model)] for trial, model in zip(own, models, strict=True)]
        frames = {}
        for table, by_trial in parts.items():
            copies = [by_trial[name].assign(trial=t.id) for name, t in zip(names, own, strict=True)]
            frame = pd.concat(copies, ignore_index=True)
            if table in ("epochs", "layers"):
                frame = noisy(frame, noise)
            frames[table] = frame
        frames["trials"]["seed"] = [trial.seed for trial in own]
        record = {**about, "trials": [trial.id for trial in own], "outcomes": ["finished"] * len(own)}
        store.write_stack(f"made{start:06d}", record, frames, {})
    return len(trials)


def noisy(frame: pd.DataFrame, noise: np.random.Generator) -> pd.DataFrame:
    """Measurements times 1 ± 3 %; shares stay in [0, 1]."""
    factor = noise.normal(1, 0.03, len(frame))
    for column in frame.columns.difference(["epoch", "step", "site", "width"]):
        if frame[column].dtype == float:
            values = frame[column] * factor
            frame[column] = values.clip(0, 1) if column.endswith(("fraction", "accuracy")) else values
    return frame


def main(seeds: int, rates: int = 1) -> None:
    """Trains the quickstart, makes the study, and reports it by the real command."""
    folder = Path(tempfile.mkdtemp())
    source = reluexp.run("quickstart", folder)
    config = made_config(source, seeds, rates)
    store = Store(folder / config["study"])
    store.write_study(lambda _: {**source._store.read_study(), "config": config})
    count = copy_trials(source, store, config)
    began = time.perf_counter()
    command = [Path(sys.executable).with_name("reluexp"), "report", store.root]
    _, status, used = os.wait4(subprocess.Popen(command, stdout=subprocess.DEVNULL).pid, 0)
    wall = time.perf_counter() - began
    if status:
        raise SystemExit("the report failed")
    page = (store.root / "report" / "index.html").stat().st_size / 1e6
    print(
        f"{count} trials in {rates} settings: {wall:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of one core), ",
        end="",
    )
    print(f"at most {used.ru_maxrss / 2**20:.2f} GiB; the page has {page:.1f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
