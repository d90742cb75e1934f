"""Checkpoints: two places for each stack, written in turn, so that the last good one stays until the next is proven."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reluexp.errors import DamagedError
from reluexp.store.files import digest, refused, seal, unseal, write_whole

__all__ = ["Checkpoint", "Checkpoints"]

_PLACES = 2
# What torch raises for anything but plain data: such a file is passed over, as one that is damaged.
_UNFIT = (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError)
_LONGEST_HEAD = 1 << 24


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says about itself: its file, the stack, and `about` (trials, data, numerics)."""

    path: Path
    stack: str
    turn: int
    about: dict[str, Any]
    digest: str

    @property
    def trials(self) -> tuple[str, ...]:
        """The names of the stack's trials."""
        return tuple(self.about["trials"])


class Checkpoints:
    """The checkpoints of a study. A file is one line that says what it is, sealed, and the state behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """Every stack that has a checkpoint."""
        return sorted({path.name.split(".")[0] for path in self.folder.glob("*.ckpt")})

    def paths(self, stack: str) -> list[Path]:
        """The two files that a stack's checkpoints may lie in."""
        return [self.folder / f"{stack}.{place}.ckpt" for place in range(_PLACES)]

    def heads(self, stack: str) -> tuple[list[Checkpoint], dict[Path, str]]:
        """The checkpoints of a stack by what they say, the latest first; and the files that say nothing readable.

        Raises ResultsError as `refused` has it.
        """
        found, damaged = [], {}
        for path in self.paths(stack):
            try:
                found.append(_head(path))
            except FileNotFoundError:
                continue
            except DamagedError as error:
                damaged[path] = str(error)
        return sorted(found, key=lambda head: -head.turn), damaged

    def save(self, stack: str, about: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Writes a checkpoint into the place of the older one and proves it by reading it back. Raises OSError."""
        import torch

        heads, _ = self.heads(stack)
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        body = buffer.getvalue()
        turn = heads[0].turn + 1 if heads else 0
        head = {**about, "stack": stack, "turn": turn, "bytes": len(body), "sha256": digest(body)}
        free = [path for path in self.paths(stack) if not heads or path != heads[0].path]
        write_whole(free[0], _line(head) + body)
        self.verify(_head(free[0]))

    def verify(self, head: Checkpoint) -> bytes:
        """The state's bytes. Raises DamagedError when they are not those that were written, else as `refused`."""
        try:
            with head.path.open("rb") as file:
                file.readline(_LONGEST_HEAD)
                body = file.read()
        except OSError as error:
            raise refused(head.path, error) from error
        if digest(body) != head.digest:
            raise DamagedError("its checksum is wrong; it was truncated or altered")
        return body

    def load(self, stack: str, about: Mapping[str, Any]) -> dict[str, Any] | None:
        """The state, in main memory, of the latest checkpoint that is whole and says the same as `about`, or None."""
        import torch

        for head in self.heads(stack)[0]:
            if any(head.about.get(key) != value for key, value in about.items()):
                continue
            try:
                body = io.BytesIO(self.verify(head))
                found: dict[str, Any] = torch.load(body, map_location="cpu", weights_only=True)
            except (DamagedError, *_UNFIT):
                continue
            return found
        return None

    def forget(self, stack: str) -> None:
        """Removes a stack's checkpoints."""
        for path in self.paths(stack):
            path.unlink(missing_ok=True)

    def damaged(self) -> Iterator[tuple[Path, str]]:
        """Every file that is not what was written, and why."""
        for stack in self.names():
            heads, damaged = self.heads(stack)
            yield from damaged.items()
            for head in heads:
                try:
                    self.verify(head)
                except DamagedError as error:
                    if _is_still(head):  # and was not written anew or forgotten by its owner in the meantime
                        yield head.path, str(error)


def _is_still(head: Checkpoint) -> bool:
    try:
        return _head(head.path).digest == head.digest
    except FileNotFoundError:
        return False
    except DamagedError:
        return True


def _line(head: Mapping[str, Any]) -> bytes:
    return seal(head, one_line=True)


def _head(path: Path) -> Checkpoint:
    """Raises FileNotFoundError, DamagedError when the file is too short or says nothing readable, else as `refused`."""
    if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
        raise DamagedError("it is no file")
    try:
        with path.open("rb") as file:
            line = file.readline(_LONGEST_HEAD)
            told = unseal(line)
            size = os.fstat(file.fileno()).st_size - len(line)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refused(path, error) from error
    try:
        stack, turn, count, checksum = str(told["stack"]), int(told["turn"]), int(told["bytes"]), str(told["sha256"])
        trials = told["trials"]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError("it does not say what it holds; of an older format, or not reluexp's") from error
    if size != count or not isinstance(trials, list):
        raise DamagedError(f"{size:,} bytes, not {count:,}; truncated")
    if stack != path.name.split(".")[0]:
        raise DamagedError(f"it is of the stack {stack}; it was renamed")
    return Checkpoint(path, stack, turn, told, checksum)
