"""Text to plain data: YAML read safely, with the line of everything in it, and `--set` on top."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from reluexp.errors import ConfigError

__all__ = ["Document", "Path_", "dotted", "read_document"]

Path_ = tuple[str | int, ...]
"""keys and indices that lead to a value"""

_MOST_BYTES, _MOST_NODES, _MOST_DEPTH = 250_000, 50_000, 40
_TOO_DEEP = f"nested too deep; a config is at most {_MOST_DEPTH} levels deep"
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "Null": None, "~": None, "": None}
_INTEGER = re.compile(r"[-+]?[0-9]{1,4000}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_TEXT = "tag:yaml.org,2002:str"


# libyaml's parser, where PyYAML was built with it: twenty times faster, and it bounds the nesting by itself.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes only; what a scalar means is decided here, by YAML 1.2's rules."""


_Loader.yaml_implicit_resolvers = {}


@dataclass
class Document:
    """Plain data and where each part of it was written: `file:line`, or the `--set` that gave it."""

    data: dict[str, Any]
    source: str
    text: str = ""
    places: dict[Path_, str] = field(default_factory=dict)
    problems: list[tuple[Path_, str]] = field(default_factory=list)

    def place(self, path: Path_) -> str:
        """Where a value, or the nearest thing around it, was written."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.source


def dotted(path: Sequence[str | int]) -> str:
    """A path as the user writes it.

    >>> dotted(("grid", "activation", 2, "alpha"))
    'grid.activation[2].alpha'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def read_document(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Document:
    """The data of a YAML file or of a mapping, changed by overrides such as `train.lr=0.1`.

    The study.yaml of results stands for the config as it was resolved. Raises ConfigError when there is no such file,
    or it is not the YAML of one mapping.
    """
    if isinstance(source, Mapping):
        document = Document(_plain(source, 0), "config")
    else:
        document = _resolved(_parse(_read(Path(source)), str(source)))
    _move_rate(document)
    for override in overrides:
        _override(document, override)
        _move_rate(document)
    return document


def _resolved(document: Document) -> Document:
    """The config in a study.yaml of results; any other document as it is."""
    given, config = document.data.get("given"), document.data.get("config")
    if not isinstance(given, str) or not isinstance(config, dict):
        return document
    places = {path[1:]: place for path, place in document.places.items() if path[:1] == ("config",)}
    return Document(config, document.source, given, places)


def _plain(value: Any, depth: int) -> Any:
    """A copy of nested mappings and lists as dicts and lists; what Python has for numbers and names, too, as these."""
    if depth > _MOST_DEPTH:
        raise ConfigError(f"config: nested more than {_MOST_DEPTH} deep")
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(item, depth + 1) for item in value]
    if hasattr(value, "tolist"):  # arrays and numbers of NumPy, torch and pandas
        return value.tolist()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: this is a folder; a config is a YAML file")
        with path.open("rb") as file:  # which may have no end
            found = file.read(_MOST_BYTES + 1)
        if len(found) > _MOST_BYTES:
            raise ConfigError(f"{path}: a config has at most {_MOST_BYTES:,} bytes")
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(path)!r}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _parse(text: str, source: str) -> Document:
    document = Document({}, source, text)
    try:
        node = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        if "nesting depth" in str(error.problem):
            raise ConfigError(f"{source}{line}: {_TOO_DEEP}") from error
        tabbed = mark is not None and "\t" in "".join(text.splitlines()[mark.line : mark.line + 1])
        hint = "; indent with spaces, not tabs" if tabbed else ""
        raise ConfigError(f"{source}{line}: not YAML: {error.problem or error.context}{hint}") from error
    except yaml.YAMLError as error:  # characters that YAML forbids
        raise ConfigError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: {_TOO_DEEP}") from error
    if node is None or node.value == []:
        raise ConfigError(f"{source}: the file is empty; it needs at least one key, such as `activation: relu`")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{source}:{node.start_mark.line + 1}: a config is a mapping of keys to values")
    document.data = _Builder(document).build(node, ())
    return document


class _Builder:
    """Turns composed nodes into data and writes down their lines; aliases count as often as they are used."""

    def __init__(self, document: Document) -> None:
        self.document, self.nodes = document, 0

    def build(self, node: yaml.Node, path: Path_) -> Any:
        line = f"{self.document.source}:{node.start_mark.line + 1}"
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise ConfigError(f"{line}: more than {_MOST_NODES:,} values once aliases are written out")
        if len(path) > _MOST_DEPTH:
            raise ConfigError(f"{line}: nested more than {_MOST_DEPTH} deep")
        self.document.places.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key: Hashable = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            own = (*path, str(key))
            if key in found:
                self.document.places[own] = f"{self.document.source}:{key_node.start_mark.line + 1}"
                self.document.problems.append((own, "given twice; once is allowed"))
            self.document.places.setdefault(own, f"{self.document.source}:{key_node.start_mark.line + 1}")
            found[str(key)] = self.build(value_node, own)
        return found

    def _scalar(self, node: yaml.ScalarNode, path: Path_) -> Any:
        value: str = node.value
        if node.style in ("'", '"', "|", ">") or node.tag not in (_TEXT, "tag:yaml.org,2002:null"):
            if node.tag != _TEXT:
                self.document.problems.append((path, f"tag {node.tag!r}; tags are not allowed"))
            return value
        return scalar(value)


def scalar(text: str) -> Any:
    """What an unquoted word means: YAML 1.2's core schema, decimal numbers only.

    >>> [scalar(word) for word in ("1e-3", "3", "true", "no", "~")]
    [0.001, 3, True, 'no', None]
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    special = _SPECIAL.fullmatch(text)
    return float(special[1] + special[2]) if special else text


def levels_of(texts: Sequence[str]) -> dict[str, list[Any]]:
    """The axes and values of `AXIS=VALUE,VALUE`, as the command line has them; what stands in brackets is one value.

    >>> levels_of(["activation=relu,leaky_relu(negative_slope=0.1)", "lr=0.1"])
    {'activation': ['relu', 'leaky_relu(negative_slope=0.1)'], 'lr': [0.1]}
    >>> levels_of(["architecture.width=[4, 3],8"])
    {'architecture.width': ['[4, 3]', 8]}
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        axis, equals, values = text.partition("=")
        if not equals or not axis.strip() or not values:
            raise ConfigError(f"--only {text}: write it as axis=value, such as --only activation=relu,elu")
        found.setdefault(axis.strip(), []).extend(scalar(own.strip()) for own in _SEPARATE.split(values))
    return found


_SEPARATE = re.compile(r",(?![^(]*\)|[^\[]*\]|[^{]*\})")


def _move_rate(document: Document) -> None:
    """`train.lr` is short for `train.optimizer.lr`, in the base and as an axis."""
    train = document.data.get("train")
    if isinstance(train, dict) and "lr" in train:
        optimizer = train.get("optimizer", "sgd")
        optimizer = {"name": optimizer} if isinstance(optimizer, str) else optimizer
        if isinstance(optimizer, dict):
            if "lr" in optimizer:
                document.problems.append((("train", "lr"), "given twice; train.optimizer.lr says it too"))
            train["optimizer"] = {**optimizer, "lr": train.pop("lr")}
            document.places[("train", "optimizer", "lr")] = document.place(("train", "lr"))
    grids = document.data.get("grid")
    for index, grid in enumerate(grids if isinstance(grids, list) else [grids]):
        if isinstance(grid, dict) and "train.lr" in grid:
            before: Path_ = ("grid", index) if isinstance(grids, list) else ("grid",)
            if "train.optimizer.lr" in grid:
                document.problems.append(((*before, "train.lr"), "given twice; train.optimizer.lr says it too"))
            document.places[(*before, "train.optimizer.lr")] = document.place((*before, "train.lr"))
            renamed = {("train.optimizer.lr" if axis == "train.lr" else axis): grid[axis] for axis in grid}
            grid.clear()
            grid.update(renamed)


def _override(document: Document, override: str) -> None:
    """Applies `key=value`; it takes the place of a grid axis of that name."""
    key, equals, text = override.partition("=")
    key = key.strip()
    key = {"train.lr": "train.optimizer.lr", "grid.train.lr": "grid.train.optimizer.lr"}.get(key, key)
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {override}: write it as key=value, such as --set train.lr=0.1")
    value = _parse_value(text, override)
    head, _, rest = key.partition(".")
    path: Path_ = ("grid", rest) if head == "grid" and rest else tuple(key.split("."))
    if path[0] == "grid" and rest and isinstance(document.data.get("grid"), list):
        raise ConfigError(f"--set {override}: the grid is a list of grids; set the whole of it")
    _drop_axis(document, key, override)
    put(document.data, path, value)
    document.places = {p: w for p, w in document.places.items() if p[: len(path)] != path}
    document.places[path] = f"--set {key}"


def _parse_value(text: str, override: str) -> Any:
    try:
        node = yaml.compose(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error
    return None if node is None else _Builder(Document({}, f"--set {override}")).build(node, ())


def _drop_axis(document: Document, key: str, override: str) -> None:
    """Takes a key's axis out of the grids; an error where every grid sets what the key lies in as a whole."""
    given = document.data.get("grid")
    grids = [grid for grid in (given if isinstance(given, list) else [given]) if isinstance(grid, dict)]
    above = [[axis for axis in grid if key.startswith(f"{axis}.")] for grid in grids]
    if grids and all(above):
        axis = above[0][0]
        raise ConfigError(f"--set {override}: the grid sets {axis} as a whole; --set grid.{axis}=[…] instead")
    for grid in grids:
        grid.pop(key, None)


def put(data: dict[str, Any], path: Sequence[str | int], value: Any) -> None:
    """Sets a nested value in place; a name alone on the way, such as `relu`, becomes {name: relu}."""
    for part in path[:-1]:
        inner = data.get(str(part))
        if not isinstance(inner, dict):
            inner = {"name": inner} if isinstance(inner, str) else {}
            data[str(part)] = inner
        data = inner
    data[str(path[-1])] = value
