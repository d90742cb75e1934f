"""Every key of a config in words, made from the models that check it: for `reluexp list` and docs/config.md."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from reluexp.catalogue.registry import Options
from reluexp.config.inference import Hypothesis, Tune
from reluexp.config.models import CHOICES, Config, Probe, Train

__all__ = ["EXAMPLE", "Key", "keys_of", "reference"]

EXAMPLE = """\
study: mine                                       # the folder in results/
dataset: {name: digits, validation: 0.1}          # an entry of `reluexp list datasets`: its name, or a mapping
architecture: {name: mlp, depth: 4, width: 64}
activation: relu                                  # what the grid does not vary
init: {name: he_normal, bias: {normal: 0.01}}
train:
  epochs: 20
  batch_size: 64
                                                  # optimizer: see grid; train.lr is short for train.optimizer.lr
  schedule: {name: cosine, warmup: 1}
probe: {every: 1, full: log, early: 8}
seeds: 10                                         # 0 … 9, or a list
grid:                                             # every combination; a list of such mappings is a union
  activation: [relu, {name: leaky_relu, negative_slope: 0.1}, elu]
  train.optimizer: [{name: sgd, lr: 0.05, momentum: 0.9}, {name: adam, lr: 0.001}]
baseline: {activation: relu}
targets: {test_accuracy: [0.9, 0.95]}
margins: {test_accuracy: 0.01}
hypotheses:
  - {metric: test_accuracy, activation: elu, direction: greater}
  - metric: dead_fraction                         # relu against itself, by another axis
    by: train.optimizer
    level: {name: adam, lr: 0.001}
    against: {name: sgd, lr: 0.05, momentum: 0.9}
    where: {activation: relu}
    direction: less
    margin: 0.02
"""
_INTRO = """\
# The config

Made from the models that check a config, by `reluexp schema --markdown`; `reluexp schema` prints the same as a JSON
Schema for editors, which the shipped configs name in their first line.

```yaml
{example}```

A value in the grid takes the whole place of the base's: `train.optimizer: [sgd, adam]` trains with the *defaults* of
both, whatever `train.optimizer` says above. Write the mappings out, or vary `train.optimizer.name`, which keeps the
other keys (all of the values must have them). `plan` and `run` say so where the base has options that no trial uses.
`--set KEY=VALUE` changes a key from the command line; one that the grid varies is then fixed, and no axis any more; of
one below an axis give `grid.AXIS=[…]`. Further keys are below. What is unknown, misspelt or out of range is refused
with the line, the key and what is allowed.
"""
_FROM_THE_FILE = {"study": "the file's name"}
_NO_BOUND = 1e12  # what no config comes near
_PARTS: tuple[tuple[str, type[Options]], ...] = (
    ("The study", Config),
    ("`train`", Train),
    ("`probe`", Probe),
    ("Each of hypotheses", Hypothesis),
    ("`tune`", Tune),
)


class Key(NamedTuple):
    """One key: its name, what it may be, its default (`needed` where there is none) and what it means."""

    name: str
    allowed: str
    default: str
    meaning: str


def keys_of(model: type[Options]) -> list[Key]:
    """The keys of a model's fields; parts of a config are said to be mappings."""
    schema = model.model_json_schema()
    needed = schema.get("required", [])
    found = []
    for name, own in schema.get("properties", {}).items():
        default = (
            _FROM_THE_FILE.get(name, "needed") if name in needed else _value(own["default"]) if "default" in own else ""
        )
        chosen = name in CHOICES and model in (Config, Train, Hypothesis)
        allowed = f"one of {name}s" if chosen else _allowed(own)
        found.append(Key(name, allowed, default, own.get("description", "")))
    return found


def _value(default: Any) -> str:
    if isinstance(default, Mapping):
        return str(default["name"]) if len(default) == 1 and "name" in default else ""
    known = {None: "not given", True: "true", False: "false"}
    if default is None or isinstance(default, bool):
        return known[default]
    return f"{default:.3g}" if isinstance(default, float) else str(default)


def _allowed(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        return "a mapping"
    if "anyOf" in schema:
        parts = [_allowed(part) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(parts))
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    kind = schema.get("type")
    if kind == "array":
        return f"a list, each {_allowed(schema['items'])}" if schema.get("items") else "a list"
    words = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "string": "text",
        "null": "null",
    }
    return words.get(str(kind), "a mapping") + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    told = [f"{sign} {schema[key]:,.10g}" for key, sign in signs.items() if abs(schema.get(key, math.inf)) < _NO_BOUND]
    return f" {' and '.join(told)}".replace("-", "−") if told else ""


def reference() -> str:
    """The whole of it as Markdown."""
    parts = [_INTRO.format(example=EXAMPLE)]
    for title, model in _PARTS:
        parts.append(f"## {title}\n\n{_table(keys_of(model))}")
    for kind, registry in CHOICES.items():
        parts.append(f"## {kind.capitalize()}\n\n" + "\n".join(_entries(registry.entries)))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _entries(entries: Iterable[Any]) -> Iterator[str]:
    """Each entry with the keys of its own; those that all of them have first, once."""
    entries = list(entries)
    options = [keys_of(entry.options) for entry in entries]
    common = [key for key in options[0] if all(key in own for own in options)]
    if common:
        yield f"All of them:\n\n{_table(common)}"
    yield "| name | what it is | keys of its own |\n| --- | --- | --- |"
    for entry, keys in zip(entries, options, strict=True):
        own = "; ".join(_told(key) for key in keys if key not in common)
        yield f"| `{entry.name}` | {_cell(entry.summary)} ({entry.reference}) | {_cell(own)} |"


def _told(key: Key) -> str:
    """`negative_slope: a number ≥ 0 < 1 (0.01), slope for z < 0`."""
    default = f" ({key.default})" if key.default else ""
    return f"`{key.name}`: {key.allowed}{default}" + (f", {key.meaning}" if key.meaning else "")


def _table(keys: Iterable[Key]) -> str:
    rows = [f"| `{key.name}` | {_cell(key.allowed)} | {_cell(key.default)} | {_cell(key.meaning)} |" for key in keys]
    return "\n".join(["| key | allowed | default | meaning |", "| --- | --- | --- | --- |", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
