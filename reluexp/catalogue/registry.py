"""One mapping from name to record per kind of thing, with lookups that know the nearest name."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict, create_model

from reluexp.errors import ConfigError

__all__ = ["Options", "Record", "Registry", "import_attribute", "is_own", "message_of", "nearest", "told_with_place"]

_NOT_THE_USERS = tuple(
    f"{folder}{os.sep}"
    for folder in {
        str(Path(__file__).parents[1]),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
)


class Options(BaseModel):
    """What a config may say about one catalogue entry; each entry has a subclass with its own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    outside_identity: ClassVar[frozenset[str]] = frozenset()
    """fields that say where or how, but never decide a number: a trial's name does not depend on them"""

    newer: ClassVar[frozenset[str]] = frozenset()
    """fields that earlier versions did not have: at their defaults they leave a trial's name as it was"""


def is_own(options: Any) -> bool:
    """Whether a choice is the user's own, named `package.module:attribute`."""
    return ":" in options.name


class Record(Protocol):
    """What every catalogue entry carries at least."""

    @property
    def name(self) -> str:
        """The name used in configs."""

    @property
    def options(self) -> type[Options]:
        """The model of the entry's options."""

    @property
    def summary(self) -> str:
        """One line for `reluexp list`."""


R = TypeVar("R", bound=Record)


class Registry(Generic[R]):
    """Entries of one kind, in the order in which lists and figures show them.

    Raises ValueError when two entries share a name.
    """

    def __init__(self, kind: str, entries: list[R]) -> None:
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}
        if len(self._entries) < len(entries):
            names = [entry.name for entry in entries]
            raise ValueError(f"duplicate {kind}: {sorted({n for n in names if names.count(n) > 1})}")
        self.models: dict[str, type[Options]] = {
            entry.name: create_model(
                entry.options.__name__,
                __base__=entry.options,
                __doc__=entry.summary,
                name=cast(Any, (Literal[entry.name], entry.name)),
            )
            for entry in entries
        }

    def __getitem__(self, name: str) -> R:
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {name!r}; known: {', '.join(self)}{nearest(name, self.names)}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    @property
    def names(self) -> list[str]:
        """Every name, in order."""
        return list(self._entries)

    @property
    def entries(self) -> list[R]:
        """Every entry, in order."""
        return list(self._entries.values())


def nearest(name: object, names: Iterable[object]) -> str:
    """A question for error messages, or nothing; capitals do not matter, and a beginning is near, too.

    Names may be anything that has a text.

    >>> nearest("ReLU", ["relu", "elu"]), nearest("he", ["torch", "he_normal"]), nearest("cnn", ["mlp"])
    ("; did you mean 'relu'?", "; did you mean 'he_normal'?", '')
    """
    known = {own.casefold(): own for own in reversed(list(map(str, names)))}
    given = str(name).casefold()
    found = difflib.get_close_matches(given, known, n=1)
    if not found and len(given) > 1:
        found = [folded for folded in known if folded.startswith(given)][-1:]
    return f"; did you mean {known[found[0]]!r}?" if found else ""


def message_of(error: BaseException) -> str:
    """An error's words, as far as they can be had and written down: those of the user's own may be anything."""
    try:
        return str(error).encode("utf-8", "replace").decode()
    except Exception:
        return "its message cannot be told"


def told_with_place(error: BaseException) -> str:
    """An error's type and words, its first line with the last place in the user's own code that it came through."""
    first, *rest = f"{type(error).__name__}: {message_of(error)}".split("\n")
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(Path(file), line) for file, line in frames if not file.startswith(("<", *_NOT_THE_USERS))]
    own = [(path, line) for path, line in own if not {"site-packages", "dist-packages"} & set(path.parts)]
    if own and not isinstance(error, SyntaxError):  # which says its place itself
        first += f" ({own[-1][0].name}, line {own[-1][1]})"
    return "\n".join([first, *rest])


def import_attribute(path: str, makes: str = "") -> Any:
    """The class or function that `package.module:attribute` names, looked up in the working folder first.

    Raises ConfigError when the module cannot be imported or lacks the attribute, or it is no class or function; `makes`
    then says more of what it must be.
    """
    module, _, attribute = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path!r} cannot be imported: {told_with_place(error).partition(': ')[2]}") from error
    except (Exception, SystemExit) as error:  # the user's module may raise anything
        raise ConfigError(f"{path!r} cannot be imported: {told_with_place(error)}") from error
    if not callable(found):
        kind = type(found).__name__
        article = "an" if kind[0] in "aeiou" else "a"
        raise ConfigError(f"{path!r} is {article} {kind}; it must be a class or function{makes}")
    return found
