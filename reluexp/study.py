"""A study's results as frames and models."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reluexp.config import PARTS, LoadedConfig, Setting, label_of, load_config
from reluexp.errors import ConfigError, ResultsError
from reluexp.plain import counted
from reluexp.planning.code import code_of
from reluexp.planning.earlier import axes_of, earlier_trials, shown_at
from reluexp.planning.plan import Trial, make_trials
from reluexp.planning.tuning import TUNED, for_choosing, for_comparing, is_fixed, shown_axes
from reluexp.registration import digest
from reluexp.standing import Standing, take_stock
from reluexp.store import Store

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pandas as pd
    from torch import Tensor, nn

    from reluexp.claims import Evidence, Placed
    from reluexp.config.inference import Hypothesis
    from reluexp.report.plots import Plots
    from reluexp.stats import Across, Survival

__all__ = ["Study", "load"]

_TWICE = f".{TUNED}"
"""ends the second name of a trial that counts under a grid's value and as the one that tuning chose"""


class Study:
    """What a study found so far: the trials that its config asks for and that have ended.

    With `earlier`, also those that only earlier configs of the study asked for. `without` leaves columns of tables
    unread, except what the config's hypotheses are about.
    """

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
        """The label of the activation that the statistics compare against, if it is in the study."""
        label = label_of(self._loaded.config.baseline.activation)
        there = any(label_of(trial.point.setting.activation) == label for trial in self._earlier)
        return label if there else self._loaded.baseline

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
        if not self.shows_earlier:
            return told
        count = sum(trial.id in self._stacks for trial in self._earlier)
        if not count:
            return ["no trials of earlier configs are here; this is all that the config asks for", *told]
        text = "were asked for by earlier configs of this study alone; they are in every number, so that none is "
        return [f"{count} of {len(self._stacks)} trials {text}confirmatory", *told]

    @cached_property
    def tuning(self) -> Study | None:
        """The trials that each activation's own setting was chosen by, as a study; None where nothing is tuned."""
        return Study(self._store, True, self._without) if self._loaded.config.tune and not self._choosing else None

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
        from reluexp.stats import scores

        tune = self._loaded.config.tune
        return scores(self.tuning, tune.metric) if tune and self.tuning else {}

    @property
    def has_chosen(self) -> bool:
        """Whether every trial of the first phase has ended, so that its choice is final."""
        first = self.tuning or self
        return set(first._wanted) <= set(first.standing.outcomes)

    def comparing(self, loaded: LoadedConfig) -> LoadedConfig:
        """The second phase of a config with `tune`, by what its first has found so far."""
        return for_comparing(loaded, self._scores)

    @property
    def _fixed(self) -> bool:
        """Whether some points are not chosen by tuning, so that the tuned axes still tell settings apart."""
        return bool(self._earlier) or any(is_fixed(self._loaded, point) for point in self._phase.points)

    @cached_property
    def _wanted(self) -> dict[str, Trial]:
        return {trial.id: trial for trial in [*make_trials(self._phase), *self._earlier]}

    @cached_property
    def standing(self) -> Standing:
        """Which results count, and which are damaged or stand apart; every table is compared with its checksum."""
        return take_stock(self._store, self.asked, self.provenance, "tables")

    @cached_property
    def _stacks(self) -> dict[str, str]:
        ended = self.standing.outcomes
        return {name: ended[name][1] for name in self._wanted if name in ended}

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial that has ended; with earlier configs' trials, `asked` says which the config asks for."""
        found = self._read("trials")
        shown: dict[tuple[int, bool], dict[str, Any]] = {}
        own = []
        for name in found["trial"]:
            key = id(self._wanted[_once(name)].point), name in self._wanted
            if key not in shown:
                shown[key] = self._shown(name)
            own.append(shown[key])
        if self.shows_earlier:
            earlier = {trial.id for trial in self._earlier}
            found = found.assign(asked=[name not in earlier for name in found["trial"]])
        return found.assign(**{axis: [axes[axis] for axes in own] for axis in self._all_axes})

    def _shown(self, trial: str) -> dict[str, Any]:
        """The axes of a trial's point, with a word in the place of those that tuning chose."""
        point = self._wanted[_once(trial)].point
        if self._earlier:
            point = replace(point, axes=shown_at(point.setting, self._all_axes, self._loaded.config.axes))
        plain = self._choosing or (is_fixed(self._loaded, point) and trial in self._wanted)
        return point.axes if plain else shown_axes(point, self.tuned_axes)

    def _read(self, table: str) -> pd.DataFrame:
        """A table; a trial that tuning chose and a grid asks for besides stands in it twice, under a name for each."""
        import pandas as pd

        needed = {hypothesis.metric for hypothesis in self.stated}
        found = self._store.read_table(table, self._stacks, set(self._without.get(table, ())) - needed)
        chosen = {id(point) for point in self._phase.chosen}
        both = {t.id for t in self._wanted.values() if id(t.point) in chosen and is_fixed(self._loaded, t.point)}
        again = found[found["trial"].isin(both)]
        if again.empty:
            return found
        return pd.concat([found, again.assign(trial=again["trial"] + _TWICE)], ignore_index=True)

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

    def compare(
        self, metric: str, by: str = "activation", baseline: Any = None, at: str = "last", over: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Each level of `by` against the baseline over paired seeds; see `reluexp.stats.compare_pairs` for the columns.

        `at`: `last`, `best` (chosen on the validation split) or `auc`; `over`: axes averaged within a seed first. The
        baseline is the study's unless given. Axes go by their dotted names, or the last part where that is unique.
        Raises ConfigError for what the study does not have.
        """
        from reluexp.stats import axis_of, compare_study, marked

        by = axis_of(self, by)
        over = [axis_of(self, axis) for axis in ([over] if isinstance(over, str) else over)]
        found = compare_study(self, metric, by, baseline, at, over, self.margins)
        return marked(found, by, [self.stated[place] for place in sorted(self._confirmatory)], self.baseline)

    @property
    def stated(self) -> list[Hypothesis]:
        """The hypotheses of the config."""
        return self._loaded.config.hypotheses or []

    @property
    def _confirmatory(self) -> set[int]:
        """The places of those that were put down before any trial had ended; none beside earlier configs' trials."""
        if self._earlier:
            return set()
        known = {name for name, entry in self._register.items() if not entry["trials_ended"]}
        return {place for place, own in enumerate(self.stated) if digest(own, self._loaded.config.margins) in known}

    def hypotheses(self) -> pd.DataFrame:
        """What the config expected, tested: one row each, with a verdict and whether it is confirmatory."""
        from reluexp.stats import hypothesis_table

        return hypothesis_table(self, self.stated, self.margins, self._confirmatory)

    def survival(self, by: str = "activation", baseline: Any = None) -> Survival:
        """The lives of units: curves of lasting death, one number per trial, and their comparison over paired seeds.

        Raises ConfigError for an axis that the study does not have, or without a table of units.
        """
        from reluexp.stats import axis_of, survival_of

        return survival_of(self, axis_of(self, by), baseline, self.margins)

    def across(self, metric: str, by: str = "activation", baseline: Any = None, at: str = "last") -> Across | None:
        """The same over all data sets and architectures together; None where the study has one of each.

        Raises ConfigError for what the study does not have.
        """
        from reluexp.stats import across_tasks, axis_of

        return across_tasks(self, metric, axis_of(self, by), baseline, at)

    def times(self, by: str = "activation", baseline: Any = None) -> pd.DataFrame:
        """Times to every target against the baseline over paired seeds; a trial that never arrived ranks last."""
        from reluexp.stats import axis_of, compare_times

        return compare_times(self, axis_of(self, by), baseline, self.margins)

    def relation(self, x: str = "dead_fraction", y: str = "test_accuracy") -> pd.DataFrame:
        """Rank correlations of two metrics within settings of 20 seeds or more; no verdict rests on them."""
        from reluexp.stats import relation

        return relation(self, x, y)

    def sensitivity(self) -> pd.DataFrame:
        """What tuning saw: the score of every candidate; see `reluexp.stats.sensitivity`."""
        from reluexp.stats import sensitivity

        return sensitivity(self._loaded, self.tuning or self)

    def choice(self) -> pd.DataFrame:
        """What tuning chose for each activation, and a warning where that lies at the grid's edge."""
        from reluexp.stats import chosen

        return chosen(self.sensitivity(), self._loaded.config.tune.over if self._loaded.config.tune else [])

    @property
    def base(self) -> Setting:
        """The config's setting without its grid."""
        return Setting.model_construct(**{part: getattr(self._loaded.config, part) for part in PARTS})

    @property
    def tuned_axes(self) -> list[str]:
        """The axes that activations were tuned over."""
        return self._loaded.config.tune.over if self._loaded.config.tune else []

    @cached_property
    def placed(self) -> list[Placed]:
        """Every trial of the comparison with its setting; one that tuning chose and a grid asks for stands twice."""
        from reluexp.claims import Placed

        chosen = {id(point) for point in self._phase.chosen}
        roles = [(t, tuned) for t in self._wanted.values() for tuned in (False, True)]
        return [
            Placed(t.id, t.seed, t.point.setting, tuned)
            for t, tuned in roles
            if (id(t.point) in chosen if tuned else is_fixed(self._loaded, t.point))
        ]

    @cached_property
    def cost(self) -> pd.DataFrame:
        """Times of the activations, if the config asked for them: kind, activation, elements, block, seconds."""
        return self._store.read_extra("cost")

    def measure_cost(self) -> pd.DataFrame:
        """Times the activations of the study's base setting, about a minute, and keeps what was found."""
        from reluexp.cost import measure_cost

        about = next(record for record in self.standing.records.values() if record["shape"])
        labels = {label_of(own.setting.activation): own.setting.activation for own in self.placed}
        settings = [self.base.model_copy(update={"activation": activation}) for activation in labels.values()]
        self._store.write_extra("cost", measure_cost(settings, about["shape"], about["outputs"]))
        self.__dict__.pop("cost", None)
        return self.cost

    @cached_property
    def evidence(self) -> dict[str, Evidence]:
        """What the study has to say about each claim, part by part."""
        from reluexp.claims import evidence_of

        return evidence_of(self)

    def claims(self) -> pd.DataFrame:
        """Verdicts on what the textbooks say of ReLU: claim, statement, source, verdict, numbers, what would decide."""
        from reluexp.claims import claim_table

        return claim_table(self.evidence)

    def claim_parts(self) -> pd.DataFrame:
        """The same, one row per contrast, with n, mean, interval, threshold and p."""
        from reluexp.claims import claim_parts

        return claim_parts(self.evidence)

    @property
    def plot(self) -> Plots:
        """Any figure of the report: `study.plot.dead_fraction()`, or into axes of one's own with `ax=`."""
        from reluexp.report.plots import Plots

        return Plots(self)

    def __repr__(self) -> str:
        """Which study, how many trials have ended and how many of them failed, what varies."""
        failed = sum(outcome == "failed" for outcome, _ in self.standing.outcomes.values())
        trials = counted(len(self._stacks), "trial") + f" ({failed} failed)" * bool(failed)
        return f"<Study {str(self.path)!r}: {trials}, axes: {', '.join(self.axes)}>"

    def _repr_html_(self) -> str:
        from reluexp.report.summary import notebook_summary

        return notebook_summary(self)

    def model(self, trial: str) -> nn.Module:
        """The network of a trial with its final weights, in evaluation mode; what `init.dead` disabled stays so.

        Raises ResultsError when there is no such trial, its weights were not kept, or its code has changed.
        """
        from reluexp.networks.trained import network_of

        trial = _once(trial)
        if trial not in self._stacks:
            raise ResultsError(f"{self.name}: no trial {trial!r} has ended")
        stack, own = self._stacks[trial], self._wanted[trial]
        if self.standing.outcomes[trial][0] == "failed":
            raise ResultsError(f"{self.name}: trial {trial!r} failed and has no weights; `trials.failure` says why")
        about = self.standing.records[stack]
        code, was = code_of([own.point.setting]), about.get("code") or {}
        if other := [name for name in code if was.get(name, code[name]) != code[name]]:
            text = "has changed since it was trained; put the old code back, or read its weights with safetensors"
            raise ResultsError(f"{self.name}: trial {trial!r}: the code of {' and '.join(other)} {text}")
        weights = self._store.read_weights(stack, trial)
        return network_of(own.point.setting, own.seed, about["shape"], about["outputs"], weights)

    def probe(self, trial: str) -> tuple[Tensor, Tensor]:
        """The probe set of a trial: samples [sample, …], normalised as it saw them, and labels or targets [sample, …].

        Raises ResultsError when there is no such trial, DataError when its data set is not there any more or another.
        """
        from reluexp.networks.trained import probe_of

        trial = _once(trial)
        if trial not in self._wanted:
            raise ResultsError(f"{self.name}: there is no trial {trial!r}")
        stack = self._stacks.get(trial)
        return probe_of(self._wanted[trial].point.setting, self.standing.records[stack]["data"] if stack else None)


def _once(trial: str) -> str:
    """The name under which a trial was trained."""
    return str(trial).removesuffix(_TWICE)


def load(path: str | Path, without: Mapping[str, Collection[str]] | None = None, *, earlier: bool = False) -> Study:
    """The study in a results folder such as `results/quickstart`. Raises ResultsError when there is none.

    `without={"units": ("unit", "revived")}` leaves columns of the largest table unread: studies of 10,000 trials have
    millions of rows there. With `earlier`, trials that only earlier configs of the study asked for are among its trials
    (`asked` is False there), and every dotted key in which the configs differ is an axis, so that pairs are still equal
    in all but one.
    """
    return Study(Store(Path(path)), without=without, earlier=earlier)
