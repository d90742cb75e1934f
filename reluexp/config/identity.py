"""What of a config's options decides numbers, as text to be compared and hashed."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from reluexp.catalogue.registry import Options

__all__ = ["identity"]


def identity(options: Options, without: Collection[str] = ()) -> str:
    """Canonical JSON of everything in the options that decides numbers, without some dotted keys.

    >>> from reluexp.config import Train
    >>> identity(Train(epochs=3)) == identity(Train(epochs=3, save_weights=False))
    True
    >>> identity(Train(epochs=3), ["epochs"]) == identity(Train(epochs=4), ["epochs"])
    True
    """
    return json.dumps(_decisive(options, "", frozenset(without)), sort_keys=True, separators=(",", ":"))


def _decisive(value: Any, path: str, without: frozenset[str]) -> Any:
    if not isinstance(value, Options):
        return [_decisive(item, path, without) for item in value] if isinstance(value, (list, tuple)) else value
    defaults = {key: type(value).model_fields[key].default for key in value.newer}
    return {
        key: _decisive(item, f"{path}{key}.", without)
        for key, item in value
        if key not in value.outside_identity
        and f"{path}{key}" not in without
        and (key not in defaults or item != defaults[key])
    }
