"""One mapping from name to record per kind of thing, with lookups that know the nearest name."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, cast

from pydantic import BaseModel, ConfigDict, create_model

from reluexp.errors import ConfigError

__all__ = ["Options", "Record", "Registry", "import_attribute", "nearest"]


class Options(BaseModel):
    """What a config may say about one catalogue entry; each entry has a subclass with its own fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    outside_identity: ClassVar[frozenset[str]] = frozenset()
    """fields that say where or how, but never decide a number: a trial's name does not depend on them"""

    newer: ClassVar[frozenset[str]] = frozenset()
    """fields that earlier versions did not have: at their defaults they leave a trial's name as it was"""


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


def nearest(name: str, names: list[str]) -> str:
    """A question for error messages, or nothing; capitals do not matter, and a beginning is near, too.

    >>> nearest("ReLU", ["relu", "elu"]), nearest("he", ["torch", "he_normal"]), nearest("cnn", ["mlp"])
    ("; did you mean 'relu'?", "; did you mean 'he_normal'?", '')
    """
    known = {own.casefold(): own for own in reversed(names)}
    given = name.casefold()
    found = difflib.get_close_matches(given, known, n=1)
    if not found and len(given) > 1:
        found = [folded for folded in known if folded.startswith(given)][-1:]
    return f"; did you mean {known[found[0]]!r}?" if found else ""


def import_attribute(path: str) -> Any:
    """The object that `package.module:attribute` names, looked up in the working folder first.

    Raises ConfigError when the module cannot be imported or lacks the attribute.
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
        raise ConfigError(f"{path!r} cannot be imported: {error}") from error
    return found
