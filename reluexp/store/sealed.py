"""Folders of files with a record of their checksums: written whole, and compared with what the record says."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from reluexp.errors import DamagedError
from reluexp.store.files import (
    digest,
    digest_file,
    flush_folder,
    guarded,
    new_folder,
    refused,
    seal,
    unseal,
    write_file,
)

__all__ = ["RECORD", "WEIGHTS", "Depth", "Record", "compare", "examine", "write_sealed"]

RECORD, WEIGHTS = "stack.json", "weights.safetensors"

Depth = Literal["records", "tables", "all"]
"""what of a stack is compared with its checksums: its record and the files' sizes, the tables too, the weights too"""
Record = dict[str, Any]

_FORMAT = 1
_ATTEMPTS = 5


def write_sealed(whole: Path, record: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Puts a folder of files and the record of their checksums in its place, whole. Raises ResultsError."""
    sums = {file: {"bytes": len(data), "sha256": digest(data)} for file, data in files.items()}
    with guarded(whole), new_folder(whole.parent, whole.name) as fresh:
        for file, data in files.items():
            write_file(fresh / file, data)
        write_file(fresh / RECORD, seal({"format": _FORMAT, **record, "files": sums}))
        flush_folder(fresh)
        _replace(fresh, whole)
        flush_folder(whole.parent)


def _replace(fresh: Path, whole: Path) -> None:
    """Gives the new folder its name; an older one, such as that of a failure, makes room first."""
    for attempt in range(_ATTEMPTS):
        try:
            os.replace(fresh, whole)
            return
        except OSError as error:  # there is one; a worker that outlived its run may even make it meanwhile
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == _ATTEMPTS - 1:
                raise
        old = whole.with_name(f".{whole.name}.{os.getpid()}.{attempt}.tmp")
        with suppress(FileNotFoundError):
            os.replace(whole, old)
        shutil.rmtree(old, ignore_errors=True)


def examine(folder: Path, depth: Depth) -> Record:
    """The record of a folder whose files are as it says. Raises DamagedError, and ResultsError as `refused` has it."""
    path = folder / RECORD
    try:
        if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
            raise DamagedError("it is no file")
        record = unseal(path.read_bytes())
        present = {found.name for found in folder.iterdir() if not found.name.startswith(".")} - {RECORD}
    except OSError as error:
        raise refused(path, error) from error
    except DamagedError as error:
        raise DamagedError(f"{RECORD}: {error}") from error
    if record.get("format") != _FORMAT:
        raise DamagedError(f"{RECORD}: format {record.get('format')!r}; this version reads {_FORMAT}")
    if not _is_whole(record):
        raise DamagedError(f"{RECORD}: it lacks trials, outcomes or files")
    if foreign := sorted(present - set(record["files"])):
        raise DamagedError(f"{foreign[0]}: it does not belong there")
    for name, told in record["files"].items():
        wanted = depth == "all" or (depth == "tables" and name != WEIGHTS)
        compare(folder / name, told, wanted)
    return record


def _is_whole(record: Record) -> bool:
    trials, outcomes, files = record.get("trials"), record.get("outcomes"), record.get("files")
    if not (isinstance(trials, list) and isinstance(outcomes, list) and isinstance(files, dict)):
        return False
    return len(trials) == len(outcomes) and all(Path(name).name == name for name in files)


def compare(path: Path, told: Mapping[str, Any], content: bool = True) -> None:
    """Raises DamagedError unless the file has the size, and the content, that its record tells, else as `refused`."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise DamagedError(f"{path.name}: it is no file")
        if size != told["bytes"]:
            raise DamagedError(f"{path.name}: {size:,} bytes, not {told['bytes']:,}; truncated or overwritten")
        if content and digest_file(path) != told["sha256"]:
            raise DamagedError(f"{path.name}: its checksum is wrong; it was altered")
    except FileNotFoundError:
        raise DamagedError(f"{path.name} is missing") from None
    except OSError as error:
        raise refused(path, error) from error
