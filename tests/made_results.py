"""Results in memory in which the truth is known: what the statistics read, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from bare import Bare

Place = tuple[str, int]


@dataclass(frozen=True)
class Made(Bare):
    """A study in memory."""

    trials: pd.DataFrame
    epochs: pd.DataFrame
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    units: pd.DataFrame = field(default_factory=pd.DataFrame)
    timing: pd.DataFrame = field(default_factory=pd.DataFrame)
    name: str = "made"
    path: Path = Path("made")
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    axes: list[str] = field(default_factory=lambda: ["activation"])
    baseline: str | None = "relu"
    targets: dict[str, list[float]] | None = None
    margins: dict[str, float] | None = None
    config_text: str = ""


def rows_of(values: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """A frame as `readings` gives it: the values of each activation by seed, all finished."""
    rows = [
        {"activation": label, "seed": seed, "value": float(value), "outcome": "finished", "stuck": False}
        for label, own in values.items()
        for seed, value in enumerate(own)
    ]
    return pd.DataFrame(rows)


def made(
    finals: Mapping[str, Sequence[float]],
    paths: Mapping[Place, Mapping[str, Sequence[float]]] | None = None,
    outcomes: Mapping[Place, str] | None = None,
    extra: Mapping[Place, Mapping[str, Any]] | None = None,
    **changes: Any,
) -> Made:
    """A study with the final test and probe accuracies of each activation by seed, or with whole paths of columns."""
    trials, epochs = [], []
    for label, own in finals.items():
        for seed, value in enumerate(own):
            place, trial = (label, seed), f"{label}-{seed}"
            about = {"trial": trial, "activation": label, "seed": seed, "stuck": False, "classes": 10}
            outcome = (outcomes or {}).get(place, "finished")
            trials.append({**about, "outcome": outcome, "dead_fraction": 0.0, **(extra or {}).get(place, {})})
            path = (paths or {}).get(place, {"test_accuracy": [0.1, value], "probe_accuracy": [0.1, value]})
            for epoch, row in enumerate(zip(*path.values(), strict=True)):
                epochs.append({"trial": trial, "epoch": epoch, "step": 10 * epoch, **dict(zip(path, row, strict=True))})
    return Made(pd.DataFrame(trials), pd.DataFrame(epochs), **changes)
