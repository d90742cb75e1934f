"""From YAML to validated settings. Nothing here imports torch or pandas."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from reluexp.config.answers import answers_that_cannot_be, levels_that_cannot_be
from reluexp.config.grid import (
    LABELLED,
    MOST_TRIALS,
    Point,
    count_trials,
    expand,
    label_of,
    misfits,
    never_warm,
    once_each,
    said_twice,
    unheard,
    value_at,
    without_baseline,
)
from reluexp.config.identity import identity
from reluexp.config.models import PARTS, Config, Probe, Setting, Train
from reluexp.config.problems import Problem, problems_of, render
from reluexp.config.shipped import find_config, question_of, shipped_configs
from reluexp.config.source import Document, dotted, read_document
from reluexp.errors import ConfigError

__all__ = [
    "LABELLED",
    "PARTS",
    "Config",
    "LoadedConfig",
    "Point",
    "Probe",
    "Setting",
    "Train",
    "find_config",
    "identity",
    "json_schema",
    "label_of",
    "load_config",
    "misfits",
    "once_each",
    "question_of",
    "shipped_configs",
    "value_at",
]


@dataclass(frozen=True)
class LoadedConfig:
    """A config, the points of its grid, and the text and overrides that it was read from.

    With `tune` in the config, `reluexp.planning.tuning` makes its two phases of it: other points, and for choosing
    other seeds; `chosen` are then the points that tuning found. `notes` tell what is allowed, but hardly meant.
    """

    config: Config
    points: list[Point]
    text: str = ""
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    phase: Literal["whole", "choosing", "comparing"] = "whole"
    chosen: tuple[Point, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def seed_list(self) -> list[int]:
        """The seeds of every point: the config's, unless a phase of tuning has its own."""
        return self.config.seed_list if self.seeds is None else list(self.seeds)

    @property
    def baseline(self) -> str | None:
        """The label of the activation that the statistics compare against, if it is in the study."""
        label = label_of(self.config.baseline.activation)
        return label if any(label_of(point.setting.activation) == label for point in self.points) else None


def load_config(source: str | Path | Mapping[str, Any], overrides: str | Sequence[str] = ()) -> LoadedConfig:
    """A config from a YAML file, the name of a shipped one, or a mapping; overrides are `key=value`.

    Raises ConfigError with everything that is wrong, each with its file, line and dotted key.
    """
    if not isinstance(source, (str, Path, Mapping)):
        got = type(source).__name__  # a caller's slip: its value may be pages long
        raise ConfigError(f"a config is a YAML file, the name of a shipped one, or a mapping; got: {got}")
    overrides = [overrides] if isinstance(overrides, str) else overrides
    if isinstance(overrides, Mapping) or not all(isinstance(own, str) for own in overrides):
        raise ConfigError(f"overrides: texts such as ['train.lr=0.1'] are meant; got: {overrides!r}")
    if not isinstance(source, Mapping):
        source = find_config(source)
    document = read_document(source, overrides)
    if not isinstance(source, Mapping) and "study" not in document.data:
        document.data["study"] = source.stem
        document.places[("study",)] = f"{source} (the file's name, as it gives no study)"
    config, found = _validated(document)
    found = [*document.problems, *found]
    count = count_trials(config)
    if count > MOST_TRIALS:
        text = f"{count:,} trials; at most {MOST_TRIALS:,} are allowed in one study"
        raise _refusal(document, [*found, (("grid",), text)])
    points, wrong = expand(config, document.data)
    found += [*wrong, *levels_that_cannot_be(config)]
    if not wrong and "baseline" in document.data:
        found += _absent_baseline(config, points)
    found += [] if wrong else answers_that_cannot_be(config, points)
    if found:
        raise _refusal(document, found)
    notes = (*unheard(config, document.data), *said_twice(config, points), *never_warm(points))
    notes += tuple(without_baseline(config, points))
    return LoadedConfig(config, points, document.text, tuple(overrides), notes=notes)


_APART = set(Config.model_fields) - set(PARTS) - {"grid"}
"""keys that no setting depends on"""


def _validated(document: Document) -> tuple[Config, list[Problem]]:
    """The config and what is wrong with it: then it is that of the keys which are right, so that more can be found.

    Raises ConfigError where a key is wrong that the settings depend on.
    """
    try:
        return Config.model_validate(document.data), []
    except ValidationError as error:
        found = problems_of(error, Config, document.data)
        wrong = {entry["loc"][0] if entry["loc"] else "" for entry in error.errors()}
    if not wrong <= _APART:
        raise _refusal(document, [*document.problems, *found])
    document.data = {"study": "any"} | {key: value for key, value in document.data.items() if key not in wrong}
    return Config.model_validate(document.data), found


def _absent_baseline(config: Config, points: list[Point]) -> list[tuple[tuple[str | int, ...], str]]:
    label = label_of(config.baseline.activation)
    labels = list(dict.fromkeys(label_of(point.setting.activation) for point in points))
    if label in labels:
        return []
    return [(("baseline", "activation"), f"got {label!r}; allowed: an activation of the study: {', '.join(labels)}")]


def _refusal(document: Document, problems: Sequence[tuple[tuple[str | int, ...], str]]) -> ConfigError:
    named = [(document.place(path), dotted(path) or "config", text) for path, text in problems]
    lines = [f"{place}: {f'{key}: ' * (place != f'--set {key}')}{text}" for place, key, text in named]
    return ConfigError(render(list(dict.fromkeys(lines))))


def json_schema() -> str:
    """The JSON Schema of configs, for editors."""
    schema = Config.model_json_schema()
    schema["title"] = "reluexp config"
    schema["required"] = [key for key in schema.get("required", []) if key != "study"]
    train = schema["$defs"]["Train"]["properties"]
    train["lr"] = {"type": "number", "exclusiveMinimum": 0, "description": "short for optimizer.lr"}
    grid = schema["properties"]["grid"]
    axes = grid.pop("items")
    grid.pop("type")
    grid["anyOf"] = [axes, {"type": "array", "items": axes}]
    return json.dumps(schema, indent=2, ensure_ascii=False)
