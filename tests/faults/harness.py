"""Small studies run by real processes, and how to kill these."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

import reluexp

__all__ = ["TEXT", "Study", "family", "kill_all"]

RUN = "import sys, reluexp; reluexp.run(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]), stack=2)"
_OFTEN = (
    "import reluexp.engine.work as work\n"
    "work._AT_EPOCH_END = work._WITHIN_EPOCH = 0.05  # seconds between checkpoints\n"
    "work._SHARE = 1.0\n"
)


class Study:
    """A small study in a folder of its own, run by real processes with a checkpoint at nearly every step."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder, self.config, self.seconds = folder, folder / "s.yaml", 0.0
        self.config.write_text(text, "utf-8")
        often = folder / "often"
        often.mkdir(exist_ok=True)
        (often / "sitecustomize.py").write_text(_OFTEN)
        path = os.pathsep.join([str(often), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.environment = {**os.environ, "PYTHONPATH": path}

    def results(self, name: str) -> Path:
        """The study's folder in the results of that name."""
        return self.folder / name / "s"

    def start(self, name: str, workers: int = 2, code: str = RUN) -> subprocess.Popen[bytes]:
        """A run that goes on in the background."""
        words = [sys.executable, "-c", code, str(self.config), str(self.folder / name), str(workers)]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                words, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait_for_progress(self, name: str, process: subprocess.Popen[bytes]) -> bool:
        """Waits until a checkpoint or a stack has been written since now; False if the run ends before."""
        before = self._written(name)
        while self._written(name) == before:
            if process.poll() is not None:
                return False
            time.sleep(0.01)
        return True

    def _written(self, name: str) -> dict[str, int]:
        found = {}
        for path in (*self.results(name).glob("begun/*.ckpt"), *self.results(name).glob("stacks/*/stack.json")):
            with contextlib.suppress(OSError):  # it has made room for the next just now
                found[str(path)] = path.stat().st_mtime_ns
        return found

    def run(self, name: str, workers: int = 2) -> None:
        """A run to the end."""
        process = self.start(name, workers)
        code = process.wait(300)
        assert code == 0, (self.folder / f"{name}.log").read_text("utf-8", "replace")[-3000:]

    def tables(self, name: str) -> dict[str, pd.DataFrame]:
        """Every table whose numbers must not depend on what happened."""
        study = reluexp.load(self.results(name))
        frames = {table: getattr(study, table) for table in ("trials", "epochs", "layers", "units")}
        order = {n: f.sort_values("trial", kind="stable").reset_index(drop=True) for n, f in frames.items()}
        return {n: f[sorted(f.columns)] for n, f in order.items()}

    def assert_same(self, left: str, right: str) -> None:
        """The same bits, and nothing damaged or left over."""
        from reluexp.checking import check_study

        first, second = self.tables(left), self.tables(right)
        for table in first:
            pd.testing.assert_frame_equal(first[table], second[table], check_exact=True)
        found = check_study(self.results(right))
        assert found.sentences[-1] == "all is well", found.sentences


def family(pid: int) -> list[int]:
    """The processes that descend from one, the nearest first."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(0), [])
        found += children
        left += children
    return found


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a run and all of its workers, before any of them can notice the others' end."""
    members = [process.pid, *family(process.pid)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in members:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
    process.wait()


TEXT = (
    "study: s\ndataset: {name: digits, train_size: 300, test_size: 60}\n"
    "architecture: {width: [12, 12], normalization: batch, dropout: 0.1}\nseeds: 2\n"
    "train: {epochs: 12, optimizer: adam, batch_size: 32}\nprobe: {size: 64, early: 2}\n"
    "grid: {activation: [relu, elu, tanh, prelu]}\n"
)
