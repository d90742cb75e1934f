"""Fingerprints of the user's own code, by which results of an earlier version of it are known; nothing is imported."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from reluexp.catalogue.registry import is_own
from reluexp.config import Setting

__all__ = ["code_of", "fingerprints", "known_code", "own_code"]


def own_code(settings: Iterable[Setting]) -> list[str]:
    """The dotted paths of the user's own models and activations."""
    parts = (part for setting in settings for part in (setting.architecture, setting.activation))
    return sorted({part.name for part in parts if is_own(part)})


def code_of(settings: Iterable[Setting]) -> dict[str, str]:
    """The fingerprints of the user's own models and activations; data sets are told apart by what they give."""
    return fingerprints(own_code(settings))


def known_code(settings: Iterable[Setting], code: Mapping[str, str]) -> dict[str, str]:
    """Of fingerprints that were taken before, those of the user's own models and activations in some settings."""
    return {name: code[name] for name in own_code(settings) if name in code}


def fingerprints(names: Iterable[str]) -> dict[str, str]:
    """A fingerprint of the code behind each `package.module:attribute`, by that name.

    That is the module and what it imports, directly or not, by import statements, as far as it is no installed package.
    Comments and the layout of the text do not count. A module whose source is not found has none: it may be compiled,
    or on another machine.
    """
    found = {name: _fingerprint(name.partition(":")[0]) for name in names}
    return {name: digest for name, digest in found.items() if digest}


def _fingerprint(module: str) -> str | None:
    known: dict[str, str] = {}
    left = [module]
    while left:
        name = left.pop()
        path = None if name in known else _path(name)
        if path is None or (known and _installed(name, path)):
            continue
        try:
            stat = path.stat()
            known[name], imported = _read(name, path, stat.st_mtime_ns, stat.st_size)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # whoever imports it will say so
            continue
        left.extend([] if _installed(name, path) else imported)
    if module not in known:
        return None
    return hashlib.sha256("\n".join(f"{name} {known[name]}" for name in sorted(known)).encode()).hexdigest()[:16]


@lru_cache(4096)
def _read(module: str, path: Path, changed: int, size: int) -> tuple[str, tuple[str, ...]]:
    """A fingerprint of one file and the modules that it names; `changed` and `size` tell versions of it apart."""
    tree = ast.parse(path.read_bytes())
    parents = (module if path.name == "__init__.py" else module.rpartition(".")[0]).split(".")
    return hashlib.sha256(_written(tree).encode()).hexdigest(), tuple(dict.fromkeys(_imported(tree, parents)))


def _written(node: Any) -> str:
    """A syntax tree without what is empty, which other versions of Python do not have or do not tell."""
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
        return f"{type(node).__name__}({' '.join(f'{name}={_written(value)}' for name, value in fields)})"
    return f"[{' '.join(map(_written, node))}]" if isinstance(node, list) else repr(node)


def _imported(tree: ast.AST, parents: list[str]) -> Iterator[str]:
    """The modules that import statements name, and their parents; what is imported from one may be a module, too."""
    for node in ast.walk(tree):
        wanted: list[str] = []
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = parents[: len(parents) - node.level + 1] if node.level else []
            whole = ".".join([*above, *([node.module] if node.module else [])])
            wanted = [whole, *(f"{whole}.{alias.name}" for alias in node.names)]
        for name in wanted:
            parts = name.split(".")
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _installed(module: str, path: Path) -> bool:
    """Whether a module belongs to an installed package, to Python or to reluexp, whose versions are known otherwise."""
    known = sysconfig.get_paths()
    places = {Path(known[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own = module.partition(".")[0] == "reluexp"
    return own or not places.isdisjoint(path.parents) or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def _path(module: str) -> Path | None:
    """The source of a module, if there is one."""
    spec = _spec(module)
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _spec(module: str) -> ModuleSpec | None:
    """Where the import of a dotted module would find it, the working folder first, without importing its parents."""
    places: list[str] | None = [str(Path.cwd()), *sys.path]
    spec = None
    for end in (i for i, letter in enumerate(f"{module}.") if letter == "."):
        spec = PathFinder.find_spec(module[:end], places)
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or [])
    return spec
