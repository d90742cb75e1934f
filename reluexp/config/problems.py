"""Validation errors as sentences: where, which key, what was given, what is allowed, the nearest name."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from reluexp.catalogue.activations import OTHERS
from reluexp.catalogue.registry import nearest
from reluexp.config.models import CHOICE_OF, CHOICES
from reluexp.config.source import Path_
from reluexp.plain import plain

__all__ = ["Problem", "meant", "places_in", "problems_of", "render", "shown"]

Problem = tuple[Path_, str]
"""a path in the data, and the sentence about it"""

_MOST = 30
_OTHER_NAMES = {
    "activation": OTHERS,
    "init": {
        **{f"kaiming_{how}": f"he_{how}" for how in ("normal", "uniform")},
        **{f"glorot_{how}": f"xavier_{how}" for how in ("normal", "uniform")},
    },
}
"""what other programs call the entries of the catalogue"""

_OTHER_KEYS = {
    **dict.fromkeys(("learning_rate", "learningrate", "step_size"), "train.lr"),
    **dict.fromkeys(("batch_norm", "batchnorm", "bn", "layer_norm", "layernorm", "norm"), "architecture.normalization"),
    **dict.fromkeys(("bs", "batchsize", "minibatch_size"), "train.batch_size"),
    **dict.fromkeys(("wd", "l2", "decay"), "train.optimizer.weight_decay"),
    **dict.fromkeys(("n_epochs", "num_epochs", "max_epochs"), "train.epochs"),
    **dict.fromkeys(("n_seeds", "num_seeds", "repeats", "replicates"), "seeds"),
    **dict.fromkeys(("exclude", "include", "skip"), "a list of grids, each the product of its own axes"),
}
"""what other programs call keys of a config, and where they are here"""

_NEAR = 0.8  # below it a key elsewhere is none that was meant

_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
    "finite_number": "a finite number",
    "greater_than": "greater than {gt:,}",
    "greater_than_equal": "at least {ge:,}",
    "less_than": "less than {lt:,}",
    "less_than_equal": "at most {le:,}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} value",
    "too_long": "at most {max_length:,} values",
    "string_too_short": "at least {min_length} character",
    "string_too_long": "at most {max_length} characters",
    "value_error": "{error}",
}


def problems_of(error: ValidationError, model: type[BaseModel], data: Any) -> list[Problem]:
    """One problem for each place in the data, in the order of the model; alternatives of a union are put together.

    Of alternatives that hold others, those are told that the data come nearer to.
    """
    found: dict[Path_, list[str]] = {}
    values: dict[Path_, Any] = {}
    for number, entry in enumerate(error.errors(include_url=False)):
        path, value = _follow(data, entry["loc"], entry["type"] == "missing")
        if entry["type"].startswith("union_tag") and isinstance(value, Mapping) and "name" in value:
            path, value = (*path, "name"), value["name"]
        text = _sentence(dict(entry), model, number < _MOST)
        if text not in found.setdefault(path, []):
            found[path].append(text)
        values[path] = value
    inner = {path[:end] for path in found for end in range(len(path))}
    told = {path: texts for path, texts in found.items() if path not in inner or any(t[:1] != "=" for t in texts)}
    return [(path, _joined(values[path], texts)) for path, texts in told.items()]


def render(lines: Sequence[str]) -> str:
    """All problems as one message, which a terminal can show as it is."""
    if len(lines) == 1:
        return plain(lines[0])
    more = [f"  … and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return "\n".join([f"{len(lines)} problems in the config:", *(f"  {plain(line)}" for line in lines[:_MOST]), *more])


def shown(value: Any, length: int = 60) -> str:
    """A value as YAML would have it, cut to a length, without control characters."""
    words = {True: "true", False: "false", None: "null"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _joined(value: Any, texts: list[str]) -> str:
    whole = [text for text in texts if not text.startswith("=")]
    if whole:
        return whole[0]
    return f"got {shown(value)}; allowed: {' or '.join(text[1:] for text in texts)}"


def _follow(data: Any, loc: tuple[int | str, ...], missing: bool) -> tuple[Path_, Any]:
    """The part of an error's location that is really in the data: pydantic adds tags and types of unions."""
    path: list[int | str] = []
    for index, part in enumerate(loc):
        inside = isinstance(data, Mapping) and part in data
        inside = inside or (isinstance(data, list) and isinstance(part, int) and part < len(data))
        if inside:
            path.append(part)
            data = data[part]
        elif missing and index == len(loc) - 1:
            path.append(part)
    return tuple(path), data


def _sentence(entry: dict[str, Any], model: type[BaseModel], hint: bool) -> str:
    """What is allowed, with a leading `=`, or a whole sentence; the nearest key only for what will be shown."""
    kind, loc, context = entry["type"], entry["loc"], entry.get("ctx", {})
    if kind == "extra_forbidden":
        allowed, key = _keys_at(model, loc[:-1]), str(loc[-1])[:100]
        known = f"; allowed: {', '.join(allowed)}" if allowed else ""
        if others := _others_with(key, loc):
            return f"{loc[-2]} has no {key}; {_and(others)} {'has' if len(others) == 1 else 'have'}{known}"
        return f"unknown key{known}{meant(key, allowed, model) if hint else ''}"
    if kind == "missing":
        return "missing; it must be given"
    if kind == "union_tag_invalid":
        return _unknown_name(str(context.get("tag")), str(loc[-1]))
    if kind == "union_tag_not_found":
        return "=a name, or a mapping with `name` in it"
    if kind in _TYPES:
        return "=" + _TYPES[kind].format(**context)
    return "=" + str(entry["msg"])


def _unknown_name(name: str, field: str) -> str:
    names = CHOICES[field].names if field in CHOICES else []
    own = ", or package.module:attribute" if field in CHOICE_OF and CHOICE_OF[field].own else ""
    text = f"unknown {CHOICES[field].kind if field in CHOICES else 'name'} {shown(name)}; "
    here = _OTHER_NAMES.get(field, {}).get(name)
    meant = f"; it is {here!r} here" if here else nearest(name, names)
    return f"{text}allowed: {', '.join(names)}{own}{meant}"


def _others_with(key: str, loc: tuple[int | str, ...]) -> list[str]:
    """The entries that have a key which another entry of their kind was given."""
    registry = CHOICES.get(str(loc[-3])) if len(loc) > 2 else None
    if registry is None or loc[-2] not in registry:
        return []
    return [entry.name for entry in registry.entries if key in entry.options.model_fields]


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def meant(key: str, allowed: list[str], model: type[BaseModel]) -> str:
    """The same key elsewhere in the config, else the nearest that is allowed here, else the nearest elsewhere."""
    if here := _OTHER_KEYS.get(key.rpartition(".")[2].casefold()):
        return f"; it is {here if ' ' in here else repr(here)} here"
    places = {place.rpartition(".")[2]: place for place in reversed(list(places_in(model)))}
    if key not in places and (hint := nearest(key, allowed)):
        return hint
    near = get_close_matches(key, places, 1, _NEAR)
    return f"; did you mean {places[near[0]]!r}?" if near else ""


def places_in(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """The dotted name of every key below a model, of each entry of the catalogue, too."""
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        parts = CHOICES[name].models.values() if name in CHOICES else [inner] if inner else []
        for part in parts:
            yield from places_in(part, f"{above}{name}.")
        if name != "name":
            yield f"{above}{name}"


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at a location of pydantic's, which names tags and union members on its way."""
    registry = None
    for part in loc:
        if registry and part in registry:
            model, registry = registry.models[str(part)], None
        elif part in CHOICES:
            registry = CHOICES[str(part)]
        elif part in model.model_fields:
            inner = _model_in(model.model_fields[str(part)].annotation)
            model = inner or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, types.UnionType) or get_origin(annotation) in (list, Annotated):
        return next((found for found in map(_model_in, get_args(annotation)) if found), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
