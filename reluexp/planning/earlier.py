"""Trials that earlier configs of a study asked for: what their stacks say of them, and the axes that tell all apart."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from reluexp.catalogue.registry import Options
from reluexp.config import PARTS, Point, Setting, identity, label_of, value_at
from reluexp.config.inference import TUNING_OFFSET
from reluexp.planning.plan import NUMERICS, Stack, Trial, name_of

__all__ = ["axes_of", "describe", "earlier_trials", "shown_at"]

_NO_GRID = (-1,)
"""the place of a point that no grid of the current config asks for"""


def describe(stack: Stack) -> dict[str, Any]:
    """What a stack's record says of its trials, so that another config under the same name need not know them."""
    numbers: dict[int, int] = {}
    places = [numbers.setdefault(id(trial.point), len(numbers)) for trial in stack.trials]
    settings = {id(trial.point): trial.point.setting.model_dump(mode="json") for trial in stack.trials}
    return {"settings": list(settings.values()), "setting_of": places, "seeds": [trial.seed for trial in stack.trials]}


def earlier_trials(records: Iterable[Mapping[str, Any]], known: Container[str]) -> list[Trial]:
    """The trials of the records whose names are not known; without those that do not say how they were made.

    A trial counts only if its name is the hash of what its record says of it.
    """
    found: dict[str, Trial] = {}
    points: dict[str, Point] = {}
    for record in records:
        if record.get("numerics") != NUMERICS or all(name in known for name in record["trials"]):
            continue
        own = {}
        for name, seed, number in _told(record):
            if name in known or name in found or seed >= TUNING_OFFSET:  # what a choice was made by compares nothing
                continue
            if number not in own:
                setting = _setting(record["settings"], number)
                own[number] = setting and points.setdefault(identity(setting), Point(setting, {}, _NO_GRID))
            point = own[number]
            if point and name_of(point.setting, seed) == name:
                found[name] = Trial(name, seed, point)
    return list(found.values())


def _told(record: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    seeds, places, settings = (record.get(key) for key in ("seeds", "setting_of", "settings"))
    if not all(isinstance(part, list) for part in (seeds, places, settings)):
        return
    for name, seed, number in zip(record["trials"], seeds or (), places or (), strict=False):
        if isinstance(name, str) and isinstance(seed, int) and isinstance(number, int):
            yield name, seed, number


def _setting(settings: Sequence[Any], number: int) -> Setting | None:
    """None for what this version of reluexp does not know."""
    try:
        return Setting.model_validate(settings[number]) if number >= 0 else None
    except (IndexError, ValidationError):
        return None


def axes_of(settings: Sequence[Setting], given: Sequence[str]) -> list[str]:
    """The given axes, and every other dotted key in which the settings differ."""
    found = list(given)
    for part in PARTS:
        values = {id(value): value for value in (getattr(setting, part) for setting in settings)}
        for key in _differing(list(values.values()), part):
            if not any(f"{key}.".startswith(f"{axis}.") for axis in given):
                found.append(key)
    return found


def _differing(values: Sequence[Any], key: str) -> Iterator[str]:
    """The key itself where the choices are of different names (or are activations), else the keys below it."""
    kinds = {identity(value) if isinstance(value, Options) else repr(value): value for value in values}
    if len(kinds) < 2:
        return
    names = {getattr(value, "name", "") if isinstance(value, Options) else None for value in kinds.values()}
    if len(names) > 1 or None in names or key == "activation":
        yield key
        return
    below = {own: None for value in kinds.values() for own, _ in value if own not in value.outside_identity}
    for own in below:
        yield from _differing([getattr(value, own, None) for value in kinds.values()], f"{key}.{own}")


def shown_at(setting: Setting, axes: Sequence[str], given: Sequence[str]) -> dict[str, Any]:
    """The value of every axis. A choice that is an axis besides the given ones is shown without what these say."""
    return {axis: value_at(setting, axis) if axis in given else _without(setting, axis, given) for axis in axes}


def _without(setting: Setting, axis: str, given: Sequence[str]) -> Any:
    value: Any = setting
    for part in axis.split("."):
        value = getattr(value, part, None)
    if not isinstance(value, Options) or not hasattr(value, "name"):
        return value_at(setting, axis)
    fields = type(value).model_fields
    told = {key for key in fields if f"{axis}.{key}" in given}
    usual = {key: fields[key].get_default(call_default_factory=True, validated_data={}) for key in told}
    return label_of(value.model_copy(update=usual))
