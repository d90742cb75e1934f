"""Fingerprints of the user's own code, by which results of an earlier version of it are known; nothing is imported."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from reluexp.config import Setting

__all__ = ["code_of"]


def code_of(settings: Iterable[Setting]) -> dict[str, str]:
    """A fingerprint of the module behind each `package.module:attribute` of models and activations, by that name.

    Comments and the layout of the text do not count, nor does what the module itself imports. A module whose source is
    not found has none: it may be compiled, or on another machine. Data sets are told apart by what they give.
    """
    names = {part.name for setting in settings for part in (setting.architecture, setting.activation)}
    found = {name: _fingerprint(name.partition(":")[0]) for name in sorted(names) if ":" in name}
    return {name: digest for name, digest in found.items() if digest}


def _fingerprint(module: str) -> str | None:
    spec = _spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError):  # whoever imports it will say what is wrong
        return None
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


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
