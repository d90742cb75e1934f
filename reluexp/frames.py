"""Which trials of a study count, and its tables as frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from reluexp.catalogue.registry import nearest
from reluexp.config import LoadedConfig, label_of, load_config, once_each
from reluexp.errors import ConfigError, ResultsError
from reluexp.planning.earlier import axes_of, earlier_trials, shown_at
from reluexp.planning.plan import Trial, make_trials
from reluexp.planning.tuning import TUNED, for_choosing, for_comparing, is_fixed, shown_axes
from reluexp.standing import Standing, take_stock
from reluexp.store import Store

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd

    from reluexp.config.inference import Hypothesis

__all__ = ["Frames", "trained_as"]

_TWICE = f".{TUNED}"
"""ends the second name of a trial that counts under a grid's value and as the one that tuning chose"""


class Frames:
    """What a study found so far: the trials that its config asks for and that have ended.

    With `earlier`, also those that only earlier configs of the study asked for. `without` leaves columns of tables
    unread, except what the config's hypotheses are about. See `only` for a part of them.
    """

    selection: str = ""
    """what the study is confined to, in words"""
    _kept: frozenset[str] | None = None
    """the names of the trials that it is confined to"""

    def __init__(
        self,
        store: Store,
        choosing: bool = False,
        without: Mapping[str, Collection[str]] | None = None,
        earlier: bool = False,
    ) -> None:
        self._store, self._choosing, self._without = store, choosing, without or {}
        self.shows_earlier = earlier
        about = store.read_study()
        try:
            self._loaded: LoadedConfig = load_config(about["config"])
        except ConfigError as error:
            raise ResultsError(f"{store.study_file}: {error}") from error
        self.name: str = self._loaded.config.study
        self.path: Path = store.root
        self.config: dict[str, Any] = about["config"]
        self.config_text: str = about.get("given") or ""
        self._register: dict[str, Any] = about.get("hypotheses") or {}
        self.provenance: dict[str, Any] = about.get("provenance", {})
        self.margins: dict[str, float] = self._loaded.config.margins or {}
        self.targets: dict[str, list[float]] | None = self._loaded.config.targets  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        """Studies are read again where they are unpickled, as by processes of joblib."""
        given = self._store.root, self._choosing, dict(self._without), self.shows_earlier
        return _read_again, (type(self), given, self._kept, self.selection)

    @property
    def axes(self) -> list[str]:
        """The dotted names of the grid's axes, without those that everything was tuned over.

        With earlier configs' trials, also those in which these differ.
        """
        tune = self._loaded.config.tune
        hidden = tune.over if tune and not self._choosing and not self._fixed else []
        return [axis for axis in self._all_axes if axis not in hidden]

    @cached_property
    def _all_axes(self) -> list[str]:
        own = self._loaded.config.axes
        return axes_of([t.point.setting for t in self._wanted.values()], own) if self._earlier else own

    @cached_property
    def baseline(self) -> str | None:
        """The label of the activation that the statistics compare against, if a trial with it has ended."""
        label = label_of(self._loaded.config.baseline.activation)
        ended = (self._wanted[trial].point.setting.activation for trial in self._stacks)
        return label if label in once_each(ended, label_of) else None

    @property
    def missing(self) -> int:
        """How many of the trials asked for have not ended."""
        asked = [trial.id for trial in self.standing.trials if self._keeps(trial.id)]
        return sum(name not in self.standing.outcomes for name in asked)

    def only(self, levels: Mapping[str, Any] | None = None, **more: Any) -> Self:
        """The study as far as its axes have these values: `study.only(activation=["relu", "elu"], lr=0.1)`.

        Axes go by their dotted names, or the last part where that is unique, and `seed` is one; values are as tables
        show them or as the grid has them, one or several of them. Everything that is asked of a study can be asked of
        this one; what was put down beforehand about the whole is exploratory in a part. Raises ConfigError for what the
        study does not have.
        """
        from reluexp.config.levels import bare, level_shown
        from reluexp.stats import axis_names

        if not isinstance(levels or {}, Mapping):
            raise ConfigError(f"only: give axes and their values, as only(activation='relu'); got: {levels!r}")
        kept, told = self._names(), [self.selection] if self.selection else []
        axes = list(dict.fromkeys(["activation", *self._all_axes, "seed"]))
        short = {part: axis for axis, part in axis_names(axes).items()} | {"train.lr": "train.optimizer.lr"}
        for key, given in {**(levels or {}), **more}.items():
            axis = key if key in axes else short.get(key, key)
            if axis not in axes:
                raise ConfigError(f"only: got {key!r}; allowed: {', '.join(axes)}{nearest(key, axes)}")
            values = {name: bare(axis, self._level(name, axis), axes) for name in kept}
            known = list(dict.fromkeys(values.values()))
            as_text = {str(value): value for value in known}
            asked = [level_shown(axis, own, axes) for own in _several(given)]
            asked = [as_text.get(own, own) if isinstance(own, str) else own for own in asked]
            if not asked:
                raise ConfigError(f"only: {key}: got no value; allowed: {', '.join(map(str, known))}")
            if unknown := [own for own in asked if own not in known]:
                allowed, near = ", ".join(map(str, known)), nearest(unknown[0], known)
                raise ConfigError(f"only: {key}: got {unknown[0]!r}; allowed: {allowed}{near}")
            kept = [name for name in kept if values[name] in asked]
            told.append(f"{key} {' or '.join(map(str, asked))}")
        found = type(self)(self._store, self._choosing, self._without, self.shows_earlier)
        found._kept, found.selection = frozenset(kept), ", ".join(told)
        return found

    def _names(self) -> list[str]:
        """The names of all trials, those that stand twice under both."""
        names = [*self._wanted, *(name + _TWICE for name in self._both)]
        return [name for name in names if self._kept is None or name in self._kept]

    def _level(self, name: str, axis: str) -> Any:
        """The value of an axis of a trial, as tables show it."""
        trial = self._wanted[trained_as(name)]
        if axis == "seed":
            return trial.seed
        own = trial.point
        return self._shown(name).get(axis, label_of(own.setting.activation) if axis == "activation" else None)

    def _keeps(self, trained: str) -> bool:
        return self._kept is None or not self._kept.isdisjoint((trained, trained + _TWICE))

    def _name(self, trained: str, tuned: bool) -> str:
        """The name under which a trial counts in one of its two roles."""
        return trained + _TWICE if tuned and trained in self._both else trained

    @cached_property
    def _earlier(self) -> list[Trial]:
        """The trials that only earlier configs asked for, as far as their stacks say how they were made."""
        if not self.shows_earlier:
            return []
        known = {trial.id for trial in [*(self.tuning.asked if self.tuning else []), *make_trials(self._phase)]}
        return earlier_trials(self._store.ended()[0].values(), known)

    def notes(self) -> list[str]:
        """What a reader should know: earlier configs' trials, damaged files, results that stand apart and why."""
        told = list(self.standing.notes(self.shows_earlier))
        if self.selection:
            told.insert(0, f"a part of the study: {self.selection}")
        if not self.shows_earlier:
            return told
        count = sum(trial.id in self._stacks for trial in self._earlier)
        if not count:
            return ["no trials of earlier configs are here; this is all that the config asks for", *told]
        text = "were asked for by earlier configs of this study alone; they are in every number, so that none is "
        return [f"{count} of {len(self._stacks)} trials {text}confirmatory", *told]

    @cached_property
    def tuning(self) -> Self | None:
        """The trials that each activation's own setting was chosen by, as a study; None where nothing is tuned."""
        return type(self)(self._store, True, self._without) if self._loaded.config.tune and not self._choosing else None

    @property
    def asked(self) -> list[Trial]:
        """Every trial that the config asks for, as far as is known: those that choose, then those that are compared."""
        first = self.tuning.asked if self.tuning else []
        known = {trial.id for trial in first}
        return [*first, *(trial for name, trial in self._wanted.items() if name not in known)]

    @cached_property
    def _phase(self) -> LoadedConfig:
        """What the study is about: with `tune`, the points that were chosen and those that are not tuned."""
        if self._choosing:
            return for_choosing(self._loaded)
        return for_comparing(self._loaded, self._scores) if self._loaded.config.tune else self._loaded

    @cached_property
    def _scores(self) -> dict[str, float]:
        from reluexp.stats import Results, scores

        tune = self._loaded.config.tune
        return scores(cast("Results", self.tuning), tune.metric) if tune and self.tuning else {}

    @property
    def has_chosen(self) -> bool:
        """Whether every trial of the first phase has ended, so that its choice is final."""
        first = self.tuning or self
        return set(first._wanted) <= set(first.standing.outcomes)

    def comparing(self, loaded: LoadedConfig) -> LoadedConfig:
        """The second phase of a config with `tune`, by what its first has found so far."""
        return for_comparing(loaded, self._scores)

    @property
    def tuned_axes(self) -> list[str]:
        """The axes that activations were tuned over."""
        return self._loaded.config.tune.over if self._loaded.config.tune else []

    @property
    def _fixed(self) -> bool:
        """Whether some points are not chosen by tuning, so that the tuned axes still tell settings apart."""
        return bool(self._earlier) or any(is_fixed(self._loaded, point) for point in self._phase.points)

    @cached_property
    def _wanted(self) -> dict[str, Trial]:
        return {trial.id: trial for trial in [*make_trials(self._phase), *self._earlier]}

    @cached_property
    def _both(self) -> list[str]:
        """The trials that a grid asks for and tuning chose, too."""
        chosen = {id(point) for point in self._phase.chosen}
        return [t.id for t in self._wanted.values() if id(t.point) in chosen and is_fixed(self._loaded, t.point)]

    @cached_property
    def standing(self) -> Standing:
        """Which results count, and which are damaged or stand apart; every table is compared with its checksum."""
        return take_stock(self._store, self.asked, self.provenance, "tables")

    @cached_property
    def _stacks(self) -> dict[str, str]:
        ended = self.standing.outcomes
        return {name: ended[name][1] for name in self._wanted if name in ended and self._keeps(name)}

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial that has ended; with earlier configs' trials, `asked` says which the config asks for."""
        found = self._read("trials")
        shown: dict[tuple[int, bool], dict[str, Any]] = {}
        own = []
        for name in found["trial"]:
            key = id(self._wanted[trained_as(name)].point), name in self._wanted
            if key not in shown:
                shown[key] = self._shown(name)
            own.append(shown[key])
        if self.shows_earlier:
            earlier = {trial.id for trial in self._earlier}
            found = found.assign(asked=[name not in earlier for name in found["trial"]])
        return found.assign(**{axis: [axes[axis] for axes in own] for axis in self._all_axes})

    def _shown(self, trial: str) -> dict[str, Any]:
        """The axes of a trial's point, with a word in the place of those that tuning chose."""
        point = self._wanted[trained_as(trial)].point
        if self._earlier:
            point = replace(point, axes=shown_at(point.setting, self._all_axes, self._loaded.config.axes))
        plain = self._choosing or (is_fixed(self._loaded, point) and trial in self._wanted)
        return point.axes if plain else shown_axes(point, self.tuned_axes)

    def _read(self, table: str) -> pd.DataFrame:
        """A table; a trial that tuning chose and a grid asks for besides stands in it twice, under a name for each."""
        import pandas as pd

        needed = {hypothesis.metric for hypothesis in self.stated}
        found = self._store.read_table(table, self._stacks, set(self._without.get(table, ())) - needed)
        again = found[found["trial"].isin(self._both)]
        if len(again):
            found = pd.concat([found, again.assign(trial=again["trial"] + _TWICE)], ignore_index=True)
        return found if self._kept is None else found[found["trial"].isin(self._kept)].reset_index(drop=True)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row per trial and epoch; row 0 is before training."""
        return self._read("epochs")

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row per trial, measurement and site, and one for the output."""
        return self._read("layers")

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row per trial, site and unit."""
        return self._read("units")

    @cached_property
    def timing(self) -> pd.DataFrame:
        """Seconds by stack, epoch and phase."""
        return self._store.read_table("timing", self._stacks)

    @property
    def stated(self) -> list[Hypothesis]:
        """The hypotheses of the config."""
        return self._loaded.config.hypotheses or []


def _read_again(kind: type[Frames], given: tuple[Any, ...], kept: frozenset[str] | None, selection: str) -> Frames:
    root, *others = given
    found = kind(Store(root), *others)
    found._kept, found.selection = kept, selection
    return found


def _several(given: Any) -> list[Any]:
    """One value, or those of a list, an array, a range, a set."""
    if hasattr(given, "tolist"):  # NumPy's and pandas' values are plain ones then
        given = given.tolist()
    return list(given) if isinstance(given, (list, tuple, range, set, frozenset)) else [given]


def trained_as(trial: str) -> str:
    """The name under which a trial was trained."""
    return str(trial).removesuffix(_TWICE)
