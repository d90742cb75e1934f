"""A study: its tables, the statistics on them, and models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reluexp.config import PARTS, Setting, identity, label_of
from reluexp.errors import ConfigError, ResultsError
from reluexp.frames import Frames, trained_as
from reluexp.plain import counted
from reluexp.planning.code import code_of
from reluexp.planning.tuning import is_fixed
from reluexp.registration import digest
from reluexp.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import pandas as pd
    from torch import Tensor, nn

    from reluexp.claims import Evidence, Placed
    from reluexp.report.plots import Plots
    from reluexp.stats import Across, Survival

__all__ = ["Study", "load"]


class Study(Frames):
    """What a study found so far: tables, statistics on them, and models."""

    def compare(
        self, metric: str, by: str = "activation", baseline: Any = None, at: str = "last", over: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Each level of `by` against the baseline over paired seeds; see `reluexp.stats.compare_pairs` for the columns.

        `at`: `last`, `best` (chosen on the validation split) or `auc`; `over`: axes averaged within a seed first. The
        baseline is the study's unless given. Axes go by their dotted names, or the last part where that is unique.
        Raises ConfigError for what the study does not have.
        """
        from reluexp.stats import axis_of, compare_study, marked, none_at_all

        by = axis_of(self, by)
        over = [axis_of(self, axis) for axis in ([over] if isinstance(over, str) else over)]
        found = compare_study(self, metric, by, baseline, at, over, self.margins)
        if found["n"].eq(0).all() and (why := none_at_all(self, metric, at)):
            raise ConfigError(why)
        return marked(found, by, [self.stated[place] for place in sorted(self._confirmatory)], self.baseline)

    @property
    def _confirmatory(self) -> set[int]:
        """The places of those that were put down before any trial had ended; none beside other trials, or of a part."""
        if self._earlier or self._kept is not None:
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
        """Each level of `by` against the baseline over all data sets and architectures together (Agarwal et al. 2021).

        None where there are fewer than two of them to take together, `by` being none of those. Raises ConfigError for
        what the study does not have.
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
            and (self._kept is None or self._name(t.id, tuned) in self._kept)
        ]

    @cached_property
    def cost(self) -> pd.DataFrame:
        """Times of the activations, if the config asked for them: kind, activation, elements, block, seconds."""
        return self._store.read_extra("cost")

    def measure_cost(self, stop: Callable[[], bool] = lambda: False) -> pd.DataFrame:
        """Times the activations of the study's base setting, about a minute, and keeps what was found.

        Raises Interrupted if `stop` says so meanwhile.
        """
        from reluexp.cost import measure_cost
        from reluexp.stats import outcome_of

        ended = [(self._wanted[trial].point.setting, stack) for trial, stack in self._stacks.items()]
        trained = [(own, self.standing.records[stack]) for own, stack in ended if self.standing.records[stack]["shape"]]
        known = identity(self.base.dataset)
        alike = ((self.base, record) for own, record in trained if identity(own.dataset) == known)
        base, about = next(alike, trained[0])
        labels = {label_of(own.setting.activation): own.setting.activation for own in self.placed}
        settings = [base.model_copy(update={"activation": activation}) for activation in labels.values()]
        given, regression = (settings, about["shape"], about["outputs"]), not outcome_of(self).share
        self._store.write_extra("cost", measure_cost(*given, stop=stop, regression=regression))
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
        trials += f", {self.missing} missing" * bool(self.missing)
        trials += f", only {self.selection}" * bool(self.selection)
        return f"<Study {str(self.path)!r}: {trials}, axes: {', '.join(self.axes)}>"

    def _repr_html_(self) -> str:
        from reluexp.report.summary import notebook_summary

        return notebook_summary(self)

    def model(self, trial: str) -> nn.Module:
        """The network of a trial with its final weights, in evaluation mode; what `init.dead` disabled stays so.

        Raises ResultsError when there is no such trial, its weights were not kept, or its code has changed.
        """
        from reluexp.networks.trained import network_of

        trial = trained_as(trial)
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

        trial = trained_as(trial)
        if trial not in self._wanted:
            raise ResultsError(f"{self.name}: there is no trial {trial!r}")
        stack = self._stacks.get(trial)
        return probe_of(self._wanted[trial].point.setting, self.standing.records[stack]["data"] if stack else None)


def load(path: str | Path, without: Mapping[str, Collection[str]] | None = None, *, earlier: bool = False) -> Study:
    """The study in a results folder such as `results/quickstart`. Raises ResultsError when there is none.

    `without={"units": ("unit", "revived")}` leaves columns of the largest table unread: studies of 10,000 trials have
    millions of rows there. With `earlier`, trials that only earlier configs of the study asked for are among its trials
    (`asked` is False there), and every dotted key in which the configs differ is an axis, so that pairs are still equal
    in all but one.
    """
    if not isinstance(path, (str, Path)):
        raise ResultsError(f"a study is a folder such as results/quickstart; got: {type(path).__name__}")
    # absolute, since what is not read yet is read where the caller may have changed the working folder
    return Study(Store(Path(path).absolute()), without=without, earlier=earlier)
