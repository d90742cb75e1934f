"""The configs that come with reluexp, found by name."""

from __future__ import annotations

import contextlib
from pathlib import Path

from reluexp.catalogue.registry import nearest
from reluexp.errors import ConfigError

__all__ = ["find_config", "question_of", "shipped_configs"]

_PACKAGE = Path(__file__).parents[1]


def shipped_configs() -> dict[str, Path]:
    """Every shipped config by name: beside the package in a source tree, inside it when installed."""
    for folder in (_PACKAGE.parent / "configs", _PACKAGE / "shipped"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}


def question_of(path: Path) -> str:
    """What a shipped config asks: its first comment that speaks to people."""
    lines = (line.removeprefix("# ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    return next(line for line in lines if not line.startswith("yaml-language-server"))


def find_config(name: str | Path) -> Path:
    """The file that is meant: a path, or the name of a shipped config.

    Raises ConfigError when there is neither.
    """
    text = str(name)
    known = shipped_configs()
    if text in known and not Path(text).is_file():
        return known[text]
    with contextlib.suppress(OSError, ValueError):  # names that no file system can hold are simply not there
        if Path(text).exists():
            return Path(text)
    hint = nearest(Path(text).stem, list(known))
    raise ConfigError(f"no such config: {text!r}; give a YAML file, or a shipped one: {', '.join(known)}{hint}")
