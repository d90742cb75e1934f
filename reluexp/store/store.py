"""The folder of one study: the only place that knows its file names."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reluexp.catalogue.registry import nearest
from reluexp.environment import now
from reluexp.errors import DamagedError, ResultsError
from reluexp.store.about import misshapen, read_yaml
from reluexp.store.checkpoints import Checkpoints
from reluexp.store.files import file_above, guarded, refused, write_whole
from reluexp.store.lock import Shard, StudyLock
from reluexp.store.sealed import RECORD, WEIGHTS, Depth, Record, compare, examine, write_sealed
from reluexp.store.tables import read_rows, to_parquet

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

__all__ = ["Damage", "Store", "find_studies", "find_study"]

_OURS = ("stacks", "begun", "extra", "report", "report-earlier")


@dataclass(frozen=True)
class Damage:
    """Something in the results that is not what was written: what to set aside, and a sentence why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Store:
    """The folder of one study. Raises ResultsError where it cannot be read or written."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.checkpoints = Checkpoints(self.root / "begun")
        self._lock = StudyLock(self.root)

    @property
    def study_file(self) -> Path:
        """Config and provenance."""
        return self.root / "study.yaml"

    @property
    def stacks(self) -> Path:
        """The folder of all stacks that have ended."""
        return self.root / "stacks"

    @property
    def aside(self) -> Path:
        """Where damaged files go."""
        return self.root / "aside"

    @property
    def cache(self) -> Path:
        """What all studies of the results folder share."""
        return self.root.parent / ".cache"

    @property
    def token(self) -> Path:
        """A file by whose content another machine sees whether it has the same folder."""
        return self.root / ".locks" / "shared"

    def report(self, earlier: bool = False) -> Path:
        """Where the report goes; the one with earlier configs' trials takes no other's place."""
        return self.root / ("report-earlier" if earlier else "report")

    def stack(self, name: str) -> Path:
        """The folder of a stack that has ended."""
        return self.stacks / name

    def record(self, name: str) -> Path:
        """The file that says how a stack was made, or why it failed."""
        return self.stack(name) / RECORD

    def ended(self, depth: Depth = "records") -> tuple[dict[str, Record], list[Damage]]:
        """The record of each ended stack by its name (`trials`, `outcomes`, `shape`, `outputs`, …), and the damaged."""
        found, damaged = {}, []
        for folder in self._stack_folders():
            try:
                found[folder.name] = examine(folder, depth)
            except DamagedError as error:
                damaged.append(Damage(folder, str(error)))
        return found, damaged

    def _stack_folders(self) -> list[Path]:
        try:
            return sorted(path for path in self.stacks.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            file = file_above(self.stacks)
            reason = f"{file} is a file, where a folder is needed" if file else error.strerror or error
            raise ResultsError(f"{self.stacks}: cannot be read: {reason}") from error

    def begun(self, numerics: int) -> list[tuple[str, ...]]:
        """The trials of each stack that has a checkpoint of that version of the numerics."""
        heads = (self.checkpoints.heads(name)[0] for name in self.checkpoints.names())
        fitting = ((head.trials for head in own if head.about.get("numerics") == numerics) for own in heads)
        return [trials for own in fitting for trials in itertools.islice(own, 1)]

    def damaged_checkpoints(self) -> list[Damage]:
        """Every checkpoint that is not what was written."""
        return [Damage(path, f"{path.name}: {reason}") for path, reason in self.checkpoints.damaged()]

    def leftovers(self) -> list[Path]:
        """Temporary files of processes that were killed."""
        places = (self.root, *(self.root / name for name in ("stacks", "begun", "extra")))
        return [path for place in places for path in sorted(place.glob(".*.tmp"))]

    def sweep(self) -> None:
        """Removes what killed processes left under temporary names; only while the study is locked."""
        with guarded(self.root):
            for path in self.leftovers():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def set_aside(self, damage: Damage) -> Path:
        """Moves a damaged file or folder to `aside`, with a note; returns where it is now."""
        with guarded(damage.path):
            target = _unused(self.aside / damage.path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.replace(damage.path, target)
            except FileNotFoundError:  # another shard has moved it
                return target
            note = f"{now()}\n{damage}\n"
            write_whole(target.with_name(f"{target.name}.why.txt"), note.encode())
        return target

    def write_study(self, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        """Writes study.yaml: what `change` makes of what it said before (nothing, if it cannot be read)."""
        with guarded(self.study_file), self._lock.gate():
            try:
                before = self.read_study() if os.path.lexists(self.study_file) else {}
            except DamagedError as error:
                self.set_aside(Damage(self.study_file, str(error)))
                before = {}
            text = yaml.safe_dump(dict(change(before)), sort_keys=False, allow_unicode=True, width=100)
            write_whole(self.study_file, text.encode())

    def read_study(self) -> dict[str, Any]:
        """What study.yaml says. Raises DamagedError, and ResultsError, which names the studies nearby, for none."""
        if not self.study_file.exists() and not self.stacks.exists():
            raise ResultsError(f"{self.root}: there is no study{_nearby(self.root)}")
        try:
            content = read_yaml(self.study_file)
        except OSError as error:
            raise refused(self.study_file, error) from error
        except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise DamagedError(f"{self.study_file}: cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
            raise DamagedError(f"{self.study_file}: this is not a study of reluexp")
        if wrong := misshapen(content):
            raise DamagedError(f"{self.study_file}: {wrong}")
        return content

    def write_stack(
        self,
        name: str,
        record: Mapping[str, Any],
        tables: Mapping[str, pd.DataFrame],
        weights: Mapping[str, Mapping[str, Tensor]],
    ) -> None:
        """Writes a stack's files to a new folder, which then takes its name; removes its checkpoints."""
        files = {f"{table}.parquet": to_parquet(frame) for table, frame in tables.items()}
        if weights:
            from safetensors.torch import save

            flat = {f"{trial}/{key}": value for trial, own in weights.items() for key, value in own.items()}
            files[WEIGHTS] = save(flat)
        self.write_files(name, record, files)

    def write_files(self, name: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """The same from the files' bytes."""
        write_sealed(self.stack(name), record, files)
        with guarded(self.root):
            self.checkpoints.forget(name)

    def read_files(self, name: str) -> tuple[Record, dict[str, bytes]]:
        """A stack's record and its files' bytes, as `write_files` takes them."""
        folder = self.stack(name)
        record = examine(folder, "all")
        files = {file: (folder / file).read_bytes() for file in record.pop("files")}
        return record, files

    def save_checkpoint(self, name: str, about: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Writes the checkpoint of a stack; `about` says whose it is (`trials`, `data`, `numerics`)."""
        with guarded(self.checkpoints.paths(name)[0]):
            self.checkpoints.save(name, about, state)

    def forget(self, name: str) -> None:
        """Removes a stack's checkpoints."""
        with guarded(self.root):
            self.checkpoints.forget(name)

    def read_table(self, table: str, trials: Mapping[str, str], without: Collection[str] = ()) -> pd.DataFrame:
        """The rows of those trials (their stacks by their names); of `timing`, all rows of the stacks, with its name.

        `without` names columns that are not read.
        """
        wanted: dict[Path, list[str]] = {}
        for trial, stack in trials.items():
            wanted.setdefault(self.stack(stack) / f"{table}.parquet", []).append(trial)
        there = {path: None if table == "timing" else own for path, own in wanted.items() if path.is_file()}
        return read_rows(there, without)

    def read_weights(self, stack: str, trial: str) -> dict[str, Tensor]:
        """The final weights of a trial as a state dict. Raises DamagedError when they are not those written."""
        from safetensors import safe_open

        path = self.stack(stack) / WEIGHTS
        if not path.is_file():
            raise ResultsError(f"{path}: there are no weights; train with train.save_weights: true, and --fresh")
        compare(path, examine(path.parent, "records")["files"][WEIGHTS])
        with safe_open(path, "pt") as file:
            keys = [key for key in file.keys() if key.startswith(f"{trial}/")]  # noqa: SIM118 not a dict
            return {key.partition("/")[2]: file.get_tensor(key) for key in keys}

    def write_extra(self, name: str, frame: pd.DataFrame) -> None:
        """Keeps a table that belongs to the study as a whole."""
        files = {f"{name}.parquet": to_parquet(frame)}
        write_sealed(self.root / "extra" / name, {"trials": [], "outcomes": []}, files)

    def read_extra(self, name: str) -> pd.DataFrame:
        """A table of `write_extra`; empty if there is none, or none that is whole."""
        import pandas as pd

        folder = self.root / "extra" / name
        try:
            examine(folder, "tables")
            return pd.read_parquet(folder / f"{name}.parquet")
        except DamagedError:
            return pd.DataFrame()
        except (OSError, ValueError) as error:
            raise ResultsError(f"{folder}: cannot be read: {error}; move it away and run again") from error

    def damaged_extras(self) -> list[Damage]:
        """Every table of `write_extra` that is not as it was written."""
        found = []
        for folder in sorted((self.root / "extra").glob("[!.]*")):
            try:
                examine(folder, "tables")
            except DamagedError as error:
                found.append(Damage(folder, str(error)))
        return found

    def clear(self) -> None:
        """Removes all results, for a fresh start."""
        with guarded(self.root):
            for name in _OURS:
                if (self.root / name).exists():
                    shutil.rmtree(self.root / name)

    @contextmanager
    def lock(self, shard: Shard | None = None, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Held while a study, or a shard of it, runs. Raises StudyBusyError when another process holds it.

        Raises Interrupted if `stop` says so before it is held.
        """
        with self._lock.held(shard, stop):
            yield

    def owners(self) -> list[str]:
        """Who says to be running the study."""
        return self._lock.owners()


def find_studies(results: Path) -> list[Path]:
    """The folders of studies below a results folder, the latest changed last."""
    changed: dict[Path, float] = {}
    with suppress(OSError):  # a folder that cannot be read has none
        for path in Path(results).glob("*/study.yaml"):
            with suppress(OSError):  # one that is being removed just now
                if path.is_file():
                    changed[path.parent] = path.stat().st_mtime
    return sorted(changed, key=lambda folder: changed[folder])


def find_study(name: str, results: Path, readable: bool = True) -> Path:
    """The folder of a study: the latest for no name, a name below the results, or a folder.

    Unless it must be `readable`, stacks without a study.yaml make one, too. Raises ResultsError where there is none.
    """
    found = find_studies(results)
    if not found and (file := file_above(Path(results))):
        raise ResultsError(f"no results in {str(results)!r}: {file} is a file, where a folder is needed")
    if not name:
        if not found:
            raise ResultsError(f"no studies in {str(results)!r}; run one first: reluexp run quickstart")
        return found[-1]
    for store in (Store(Path(results) / name), Store(Path(name))):
        with suppress(OSError, ValueError):  # names that no file system can hold are simply not there
            if store.study_file.is_file() or (not readable and store.stacks.is_dir()):
                return store.root
    names = [path.name for path in found]
    raise ResultsError(
        f"no study {name!r} in {str(results)!r}; there: {', '.join(names) or 'none'}{nearest(name, names)}"
    )


def _nearby(folder: Path) -> str:
    """The studies below a folder that is none, else those beside it or in `results`, for a message."""
    for where, place in (("below it", folder), ("beside it", folder.parent), ("in results/", Path("results"))):
        if names := [study.name for study in find_studies(place)]:
            return f"; {where}: {', '.join(names)}{nearest(folder.name, names)}"
    return ""


def _unused(path: Path) -> Path:
    names = (path.with_name(f"{path.name}-{number}") for number in range(2, 1_000_000))
    return path if not path.exists() else next(name for name in names if not name.exists())
