"""Where a claim is decided: a study's trials by their settings, put into groups that differ in the activation alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from reluexp.config import Setting, identity, label_of, value_at
from reluexp.errors import ConfigError
from reluexp.stats import Results, readings, steps_to_level

__all__ = ["Field", "Group", "Placed", "SettledResults"]

Test = Any | Callable[[Any], bool]


class Placed(NamedTuple):
    """A trial with its setting, and whether that was chosen by tuning."""

    trial: str
    seed: int
    setting: Setting
    tuned: bool


class SettledResults(Results, Protocol):
    """Results whose trials' settings are known."""

    @property
    def placed(self) -> list[Placed]: ...
    @property
    def base(self) -> Setting: ...
    @property
    def cost(self) -> pd.DataFrame: ...


@dataclass(frozen=True)
class Group:
    """Trials equal in everything but the activation (and, if tuned, the tuned axes), by activation label and seed."""

    setting: Setting
    tuned: bool
    trials: dict[str, dict[int, str]] = field(default_factory=dict)

    def has(self, *labels: str) -> bool:
        """Whether all of these activations are in it."""
        return all(label in self.trials for label in labels)

    @property
    def about(self) -> str:
        """The group in a few words."""
        parts = [label_of(self.setting.dataset), label_of(self.setting.architecture)]
        init = label_of(self.setting.init)
        parts += [f"init {init}"] if init != Setting.model_fields["init"].default else []
        rate = "tuned" if self.tuned else f"{self.setting.train.optimizer.lr:g}"
        return ", ".join([*parts, f"{self.setting.train.optimizer.name} lr {rate}"])


class Field:
    """A study as claims see it; numbers are read once and looked up by trial."""

    def __init__(self, study: SettledResults) -> None:
        self.study = study
        ended = set(study.trials.loc[study.trials["outcome"] != "failed", "trial"]) if len(study.trials) else set()
        self.groups = _grouped([own for own in study.placed if own.trial in ended], study.tuned_axes)
        self._values: dict[tuple[Any, ...], Mapping[str, float]] = {}

    def where(self, *labels: str, tuned: bool | None = None, **conditions: Test) -> list[Group]:
        """The groups that have these activations and whose settings meet the conditions.

        A condition is a dotted key (`architecture__depth=16`), with a value or a test of the value.
        """
        return [
            group
            for group in self.groups
            if group.has(*labels) and tuned in (None, group.tuned) and _meets(group.setting, conditions)
        ]

    def home(self, *labels: str) -> Group | None:
        """The group of the config's base setting, tuned if there is one; None where it lacks one of the activations."""
        base, over = self.study.base, self.study.tuned_axes
        tuned = [group for group in self.groups if group.tuned and _same(group.setting, base, over)]
        fixed = [group for group in self.groups if not group.tuned and _same(group.setting, base, [])]
        return next((group for group in [*tuned, *fixed] if group.has(*labels)), None)

    def alike(self, group: Group, key: str, *labels: str, tuned: bool | None = False) -> dict[Any, Group]:
        """The groups that differ from this one in one dotted key alone, by its value."""
        found = [own for own in self.groups if own.has(*labels) and tuned in (None, own.tuned)]
        return {value_at(own.setting, key): own for own in found if _same(own.setting, group.setting, [key])}

    def around(self, key: str, *labels: str) -> dict[Any, Group]:
        """The groups that are not tuned and differ from the config's base setting in one dotted key, by its value."""
        return self.alike(Group(self.study.base, False), key, *labels)

    def metric(self, name: str, at: str = "last") -> Mapping[str, float]:
        """A metric of `readings` by trial; NaN where the study did not measure it."""
        if (name, at) not in self._values:
            try:
                found = readings(self.study, name, at)
            except ConfigError:
                found = self.study.trials[["trial"]].assign(value=math.nan)
            self._values[name, at] = dict(zip(found["trial"], found["value"], strict=True))
        return self._values[name, at]

    def steps(self, metric: str, level: float) -> Mapping[str, float]:
        """Steps at which each trial came to stay at a level of a metric; inf for never, none where it has no values."""
        key = ("steps", metric, str(level))
        if key not in self._values:
            epochs = self.study.epochs
            measured = metric in epochs and pd.to_numeric(epochs[metric], errors="coerce").notna().any()
            self._values[key] = steps_to_level(self.study, metric, level) if measured else {}
        return self._values[key]

    def sites(self, column: str, reduce: Callable[[pd.DataFrame], float], at: str) -> Mapping[str, float]:
        """One number per trial from its hidden sites' rows at birth, at an epoch (`epoch 1`) or at the end.

        `reduce` gets the rows, in order of the sites, in which the column is finite.
        """
        key = ("sites", column, reduce, at)
        if key not in self._values:
            self._values[key] = _over_sites(self.study.layers, column, reduce, at)
        return self._values[key]

    def paired(self, group: Group, level: str, base: str, values: Mapping[str, float]) -> np.ndarray:
        """level − base of a metric by trial, one number per seed that both have."""
        return np.array([left - right for left, right in _both(group, level, base, values)])

    def idle(self, group: Group, level: str, base: str) -> np.ndarray:
        """Whether both nets of each pair of `paired` are stuck, so that their accuracies are both chance."""
        return np.array([left == right == 1 for left, right in _both(group, level, base, self.metric("stuck"))], bool)

    def neither(self, group: Group, level: str, base: str, values: Mapping[str, float]) -> int:
        """The seeds at which a metric is infinite for both, so that `paired` has no difference."""
        return sum(left == right and math.isinf(left) for left, right in _both(group, level, base, values))

    def single(self, group: Group, label: str, values: Mapping[str, float]) -> np.ndarray:
        """A metric of one activation, one number per seed."""
        return np.array([values.get(trial, math.nan) for trial in group.trials[label].values()])


def _both(group: Group, level: str, base: str, values: Mapping[str, float]) -> list[tuple[float, float]]:
    """A metric of two activations at each seed that both have; NaN where a trial has none."""
    own, other = group.trials[level], group.trials[base]
    return [(values.get(own[s], math.nan), values.get(other[s], math.nan)) for s in own if s in other]


def _grouped(placed: Iterable[Placed], over: Sequence[str]) -> list[Group]:
    found: dict[tuple[bool, str], Group] = {}
    for own in placed:
        key = (own.tuned, identity(own.setting, ["activation", *(over if own.tuned else [])]))
        group = found.setdefault(key, Group(own.setting, own.tuned))
        group.trials.setdefault(label_of(own.setting.activation), {})[own.seed] = own.trial
    return list(found.values())


def _same(setting: Setting, base: Setting, over: Sequence[str]) -> bool:
    return identity(setting, ["activation", *over]) == identity(base, ["activation", *over])


def _meets(setting: Setting, conditions: Mapping[str, Test]) -> bool:
    for key, test in conditions.items():
        value = value_at(setting, key.replace("__", "."))
        if not (test(value) if callable(test) else value == test):
            return False
    return True


def _over_sites(
    layers: pd.DataFrame, column: str, reduce: Callable[[pd.DataFrame], float], at: str
) -> dict[str, float]:
    if layers.empty or column not in layers:
        return {}
    rows = layers[layers["site"].notna()].assign(**{column: pd.to_numeric(layers[column], errors="coerce")})
    rows = rows[np.isfinite(rows[column])]
    if at.startswith("epoch"):
        rows = rows[rows["epoch"] == float(at.split()[1])]
    else:
        step = rows.groupby("trial")["step"].transform("min" if at == "birth" else "max")
        rows = rows[rows["step"] == step]
    return {str(trial): reduce(part) for trial, part in rows.sort_values("site").groupby("trial")}
