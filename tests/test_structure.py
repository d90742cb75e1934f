"""The house: which package may import which, as CONTRIBUTING.md draws it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import reluexp

ROOT = Path(reluexp.__file__).parent
LINE = next(line for line in (ROOT.parent / "CONTRIBUTING.md").read_text("utf-8").splitlines() if line.count("→") > 5)
ORDER = re.findall(r"\w+", LINE)


def imports(path: Path) -> Iterator[str]:
    """The packages and modules of reluexp that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "reluexp":
            names += [f"reluexp.{name.name}" for name in node.names]
        yield from (parts[1] for name in names if (parts := name.split("."))[0] == "reluexp" and len(parts) > 1)


def test_every_package_has_its_place_in_the_order() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(ORDER)


def test_a_package_imports_only_those_before_it() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if own in ORDER:
            later = set(ORDER[ORDER.index(own) + 1 :])
            wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in imports(path) if name in later]
    assert wrong == []
