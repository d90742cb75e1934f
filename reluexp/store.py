"""The results of a study on disk: the only place that knows file names.

Everything is written under a temporary name, flushed, then renamed; a stack's files appear together.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reluexp.errors import ResultsError, StudyBusyError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

__all__ = ["TABLES", "Store", "find_studies"]

TABLES = ("trials", "epochs", "layers", "units", "timing")


class Store:
    """The folder of one study.

    Raises ResultsError where it cannot be read or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def study_file(self) -> Path:
        """Config and provenance."""
        return self.root / "study.yaml"

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.root / "report"

    def stack(self, name: str) -> Path:
        """The folder of a stack that has ended."""
        return self.root / "stacks" / name

    def checkpoint(self, name: str) -> Path:
        """The checkpoint of a stack that was begun."""
        return self.root / "begun" / f"{name}.pt"

    def ended(self) -> dict[str, dict[str, Any]]:
        """What each ended stack holds, by its name: `trials`, `outcomes`, `shape`, `classes`."""
        found = {}
        for path in sorted((self.root / "stacks").glob("*/stack.json")):
            try:
                found[path.parent.name] = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise ResultsError(f"{path}: cannot be read: {error}; move that folder away and run again") from error
        return found

    def outcomes(self) -> dict[str, tuple[str, str]]:
        """Outcome and stack of every trial that has ended; one that failed gives way to a later success."""
        found: dict[str, tuple[str, str]] = {}
        for stack, about in self.ended().items():
            for trial, outcome in zip(about["trials"], about["outcomes"], strict=True):
                if found.get(trial, ("failed", ""))[0] == "failed":
                    found[trial] = (outcome, stack)
        return found

    def begun(self) -> list[tuple[str, ...]]:
        """The trials of each stack that has a checkpoint."""
        notes = sorted((self.root / "begun").glob("*.json"))
        return [tuple(json.loads(note.read_text("utf-8"))) for note in notes if self.checkpoint(note.stem).is_file()]

    def write_study(self, content: Mapping[str, Any]) -> None:
        """Writes study.yaml."""
        text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)
        with self._guard(self.study_file):
            self.root.mkdir(parents=True, exist_ok=True)
            _write(self.study_file, text.encode())

    def read_study(self) -> dict[str, Any]:
        """What study.yaml says."""
        try:
            content = yaml.safe_load(self.study_file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ResultsError(f"{self.study_file}: cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict) or "config" not in content:
            raise ResultsError(f"{self.study_file}: this is not a study of reluexp")
        return content

    def write_stack(
        self,
        name: str,
        about: Mapping[str, Any],
        tables: Mapping[str, pd.DataFrame],
        weights: Mapping[str, Mapping[str, Tensor]],
    ) -> None:
        """Writes a stack's files to a new folder, which then takes its name; removes its checkpoint."""
        whole = self.stack(name)
        fresh = whole.with_name(f".{name}.{os.getpid()}.tmp")
        with self._guard(whole):
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            for table, frame in tables.items():
                frame.to_parquet(fresh / f"{table}.parquet", index=False)
            if weights:
                from safetensors.torch import save_file

                flat = {f"{trial}/{key}": value for trial, own in weights.items() for key, value in own.items()}
                save_file(flat, fresh / "weights.safetensors")
            (fresh / "stack.json").write_text(json.dumps(dict(about)), "utf-8")
            for path in fresh.iterdir():
                _flush(path)
            if whole.exists():
                shutil.rmtree(whole)
            fresh.rename(whole)
            _flush(whole.parent)
        self.forget(name)

    def save_checkpoint(self, name: str, trials: list[str], state: Mapping[str, Any]) -> None:
        """Writes the checkpoint of a stack, and whose it is."""
        import torch

        path = self.checkpoint(name)
        with self._guard(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            torch.save(dict(state), temporary)
            _flush(temporary)
            temporary.replace(path)
            _write(path.with_suffix(".json"), json.dumps(trials).encode())

    def load_checkpoint(self, name: str, device: str) -> dict[str, Any] | None:
        """The checkpoint of a stack, if there is one."""
        import torch

        path = self.checkpoint(name)
        if not path.is_file():
            return None
        found: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        return found

    def forget(self, name: str) -> None:
        """Removes a checkpoint."""
        for path in (self.checkpoint(name).with_suffix(".json"), self.checkpoint(name)):
            path.unlink(missing_ok=True)

    def read_table(self, table: str, trials: Mapping[str, str]) -> pd.DataFrame:
        """The rows of those trials (their stacks by their names); of `timing`, all rows of the stacks."""
        import pandas as pd

        parts: list[pd.DataFrame] = []
        for stack in dict.fromkeys(trials.values()):
            path = self.stack(stack) / f"{table}.parquet"
            if not path.is_file():
                continue
            try:
                frame = pd.read_parquet(path)
            except (OSError, ValueError) as error:
                raise ResultsError(f"{path}: cannot be read: {error}") from error
            if table == "timing":
                frame.insert(0, "stack", stack)
            else:
                frame = frame[frame["trial"].map(trials.get) == stack]
            parts.append(frame.dropna(axis=1, how="all") if len(parts) else frame)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"trial": []})

    def read_weights(self, stack: str, trial: str) -> dict[str, Tensor]:
        """The final weights of a trial as a state dict."""
        from safetensors import safe_open

        path = self.stack(stack) / "weights.safetensors"
        if not path.is_file():
            raise ResultsError(f"{path}: there are no weights; train with train.save_weights: true")
        with safe_open(path, "pt") as file:
            keys = [key for key in file.keys() if key.startswith(f"{trial}/")]  # noqa: SIM118 not a dict
            return {key.partition("/")[2]: file.get_tensor(key) for key in keys}

    def write_extra(self, name: str, frame: pd.DataFrame) -> None:
        """Keeps a table that belongs to the study as a whole."""
        path = self.root / f"{name}.parquet"
        with self._guard(path):
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            frame.to_parquet(temporary, index=False)
            _flush(temporary)
            temporary.replace(path)

    def read_extra(self, name: str) -> pd.DataFrame:
        """A table of `write_extra`; empty if there is none."""
        import pandas as pd

        path = self.root / f"{name}.parquet"
        try:
            return pd.read_parquet(path) if path.is_file() else pd.DataFrame()
        except (OSError, ValueError) as error:
            raise ResultsError(f"{path}: cannot be read: {error}; move it away and run again") from error

    def clear(self) -> None:
        """Removes all results, for a fresh start."""
        with self._guard(self.root):
            for name in ("stacks", "begun", "report"):
                if (self.root / name).exists():
                    shutil.rmtree(self.root / name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a study runs. Raises StudyBusyError when another process holds it."""
        from filelock import FileLock, Timeout

        with self._guard(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".lock", timeout=0)
            owner = self.root / ".owner"
            try:
                lock.acquire()
            except Timeout:
                who = owner.read_text("utf-8") if owner.is_file() else "another process"
                raise StudyBusyError(f"{self.root}: in use by {who}; wait for it, or stop it") from None
        try:
            owner.write_text(f"process {os.getpid()} on {os.uname().nodename} since {time.strftime('%F %T')}", "utf-8")
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()
            if [path.name for path in self.root.iterdir()] == [".lock"]:  # nothing came of it: leave no trace
                shutil.rmtree(self.root)

    @contextmanager
    def _guard(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ResultsError(f"cannot write the results: {path}: {error.strerror or error}") from error


def find_studies(results: Path) -> list[Path]:
    """The folders of studies below a results folder, the latest changed last."""
    found = [path.parent for path in Path(results).glob("*/study.yaml")]
    return sorted(found, key=lambda path: (path / "study.yaml").stat().st_mtime)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    _flush(temporary)
    temporary.replace(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
