"""Experiment runner for dying-ReLU and convergence studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reluexp.measuring.watch import Watch, watch
    from reluexp.runner import run
    from reluexp.study import Study, load

__all__ = ["Study", "Watch", "load", "run", "watch"]

_MODULES = ("errors", "layers", "report", "stats")
"""modules that users call, too"""


def __getattr__(name: str) -> Any:
    """Loads the public names and modules when they are first used, so that the command line starts at once."""
    import importlib

    places = {"run": "reluexp.runner", "Study": "reluexp.study", "load": "reluexp.study"}
    places |= dict.fromkeys(("Watch", "watch"), "reluexp.measuring.watch")
    if name in _MODULES:
        return importlib.import_module(f"reluexp.{name}")
    if name not in places:
        raise AttributeError(f"module 'reluexp' has no attribute {name!r}")
    if name in ("Watch", "watch"):
        import torch

        # constants made now are used later, and elsewhere
        with torch.inference_mode(False), torch.device("cpu"):
            return getattr(importlib.import_module(places[name]), name)
    return getattr(importlib.import_module(places[name]), name)


def __dir__() -> list[str]:
    """The public names, loaded or not, for completion."""
    return sorted([*(name for name in globals() if name.startswith("__")), *__all__])
