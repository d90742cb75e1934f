"""Bytes to disk and back: a temporary name, flushed, renamed, the folder flushed; records that carry their checksum."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reluexp.errors import DamagedError, ResultsError

__all__ = [
    "digest",
    "digest_file",
    "flush_folder",
    "guarded",
    "new_folder",
    "refused",
    "seal",
    "unseal",
    "write_file",
    "write_whole",
]

_CHUNK = 1 << 20
_SOMETHING_ELSE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


def digest(data: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError when it cannot be read."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def seal(record: Mapping[str, Any], one_line: bool = False) -> bytes:
    """A record as JSON that says its own checksum.

    >>> unseal(seal({"trials": ["a"]}))
    {'trials': ['a']}
    """
    body = {**record, "seal": digest(_canonical(record))}
    return (json.dumps(body, indent=None if one_line else 1) + "\n").encode()


def unseal(data: bytes) -> dict[str, Any]:
    """The record in such bytes. Raises DamagedError when they are not what `seal` gave."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError("not JSON; truncated or overwritten") from error
    if not isinstance(found, dict) or not isinstance(found.get("seal"), str):
        raise DamagedError("no checksum in it; of an older format, or not reluexp's")
    told = found.pop("seal")
    if digest(_canonical(found)) != told:
        raise DamagedError("its checksum is wrong; it was altered")
    if data not in (seal(found), seal(found, one_line=True)):  # spaces and ends of lines say nothing, yet were changed
        raise DamagedError("it says what it said, but was altered")
    return found


def _canonical(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def write_file(path: Path, data: bytes) -> None:
    """Writes a file and flushes it to the disk. Raises OSError, and leaves no half file behind."""
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):  # what could not be written may not be removable either
            path.unlink()
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Puts a file in its place whole: whoever reads sees the old one or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    write_file(temporary, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    flush_folder(path.parent)


@contextmanager
def new_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder under a temporary name to be filled and renamed within the block; removed if it is not renamed."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.{os.getpid()}.", suffix=".tmp", dir=parent))
    folder.chmod(0o777 & ~_umask())
    try:
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def flush_folder(folder: Path) -> None:
    """Makes the names in a folder as lasting as the files' content."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_above(path: Path) -> Path | None:
    """A file that stands where a folder of the path should."""
    return next((place for place in (path, *path.parents) if os.path.isfile(place)), None)


def refused(path: Path, error: OSError) -> ResultsError:
    """What to raise for a file that cannot be read: DamagedError where nothing is there, or something that is no file.

    Anything else is no reason to do without its content, which may be whole: permissions, a disk or a server that does
    not answer, too many open files.
    """
    reason = f"cannot be read: {error.strerror or error}"
    if error.errno in _SOMETHING_ELSE:
        return DamagedError(f"{path.name} {reason}")
    return ResultsError(f"{path} {reason}; mend that (permissions, the disk), or move it away and run again")


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turns a refusal of the file system into a ResultsError that names the place and says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        named = str(error.filename or "")
        place = named if named and not named.endswith(".tmp") else path
        if error.errno in (errno.ENOTDIR, errno.EEXIST) and (file := file_above(Path(place))):
            raise ResultsError(f"cannot write the results: {file} is a file, where a folder is needed") from error
        raise ResultsError(
            f"cannot write the results: {place}: {reason}; what is finished is kept: "
            "mend that (free space, permissions) and run again to go on"
        ) from error
