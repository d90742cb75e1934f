"""A study's results as frames and models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reluexp.config import LoadedConfig, load_config
from reluexp.errors import ConfigError, ResultsError
from reluexp.plan import Trial, make_trials
from reluexp.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from torch import nn

    from reluexp.stats import Across, Survival

__all__ = ["Study", "load"]


class Study:
    """What a study found so far: the trials that its config asks for and that have ended."""

    def __init__(self, store: Store) -> None:
        self._store = store
        about = store.read_study()
        try:
            self._loaded: LoadedConfig = load_config(about["config"])
        except ConfigError as error:
            raise ResultsError(f"{store.study_file}: {error}") from error
        self.name: str = self._loaded.config.study
        self.path: Path = store.root
        self.config: dict[str, Any] = about["config"]
        self.config_text: str = about.get("given") or ""
        self.provenance: dict[str, Any] = about.get("provenance", {})
        self.axes: list[str] = self._loaded.config.axes
        self.baseline: str | None = self._loaded.baseline
        self.margins: dict[str, float] = self._loaded.config.margins or {}
        self.targets: dict[str, list[float]] | None = self._loaded.config.targets  # type: ignore[assignment]

    @cached_property
    def _wanted(self) -> dict[str, Trial]:
        return {trial.id: trial for trial in make_trials(self._loaded)}

    @cached_property
    def _stacks(self) -> dict[str, str]:
        ended = self._store.outcomes()
        return {name: ended[name][1] for name in self._wanted if name in ended}

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial that has ended."""
        return self._store.read_table("trials", self._stacks)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row per trial and epoch; row 0 is before training."""
        return self._store.read_table("epochs", self._stacks)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row per trial, measurement and site, and one for the output."""
        return self._store.read_table("layers", self._stacks)

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row per trial, site and unit."""
        return self._store.read_table("units", self._stacks)

    @cached_property
    def timing(self) -> pd.DataFrame:
        """Seconds by stack, epoch and phase."""
        return self._store.read_table("timing", self._stacks)

    def compare(
        self, metric: str, by: str = "activation", baseline: Any = None, at: str = "last", over: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Each level of `by` against the baseline over paired seeds; see `reluexp.stats.compare_pairs` for the columns.

        `at`: `last`, `best` (chosen on the validation split) or `auc`; `over`: axes averaged within a seed first. The
        baseline is the study's unless given. Raises ConfigError for what the study does not have.
        """
        from reluexp.stats import compare_study

        return compare_study(self, metric, by, baseline, at, over, self.margins)

    def survival(self, by: str = "activation", baseline: Any = None) -> Survival:
        """The lives of units: curves of lasting death, one number per trial, and their comparison over paired seeds.

        Raises ConfigError for an axis that the study does not have, or without a table of units.
        """
        from reluexp.stats import survival_of

        return survival_of(self, by, baseline, self.margins)

    def across(self, metric: str, by: str = "activation", baseline: Any = None, at: str = "last") -> Across | None:
        """The same over all data sets and architectures together; None where the study has one of each.

        Raises ConfigError for what the study does not have.
        """
        from reluexp.stats import across_tasks

        return across_tasks(self, metric, by, baseline, at)

    def times(self, by: str = "activation", baseline: Any = None) -> pd.DataFrame:
        """Times to every target against the baseline over paired seeds; a trial that never arrived ranks last."""
        from reluexp.stats import compare_times

        return compare_times(self, by, baseline, self.margins)

    def relation(self, x: str = "dead_fraction", y: str = "test_accuracy") -> pd.DataFrame:
        """Rank correlations of two metrics within settings of 20 seeds or more; no verdict rests on them."""
        from reluexp.stats import relation

        return relation(self, x, y)

    def model(self, trial: str) -> nn.Module:
        """The network of a trial with its final weights, in evaluation mode.

        Raises ResultsError when there is no such trial or its weights were not kept.
        """
        from reluexp.network import build_module

        if trial not in self._stacks:
            raise ResultsError(f"{self.name}: no trial {trial!r} has ended")
        stack = self._stacks[trial]
        about = self._store.ended()[stack]
        module = build_module(self._wanted[trial].point.setting, tuple(about["shape"]), about["outputs"])
        module.load_state_dict(self._store.read_weights(stack, trial))
        return module.eval()


def load(path: str | Path) -> Study:
    """The study in a results folder such as `results/quickstart`. Raises ResultsError when there is none."""
    return Study(Store(Path(path)))
