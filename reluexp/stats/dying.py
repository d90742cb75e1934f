"""Which activations' networks have units that can be dead exactly."""

from __future__ import annotations

from reluexp.catalogue.activations import ACTIVATIONS, dies
from reluexp.stats.memory import remembered
from reluexp.stats.results import Results

__all__ = ["dying"]


@remembered
def dying(study: Results) -> frozenset[str]:
    """The labels of activations that are 0 on a half-line, or whose networks have another function that is.

    Of activations whose every trial failed only the name is known.
    """
    trials = study.trials
    if "activation" not in trials:
        return frozenset()
    known = trials[trials["can_die"].notna()] if "can_die" in trials else trials.iloc[:0]
    tried = set(map(str, known["activation"]))
    named = {label for label in map(str, trials["activation"].unique()) if label not in tried and _by_name(label)}
    return frozenset(named | set(map(str, known.loc[known["can_die"].eq(True), "activation"])) if len(known) else named)


def _by_name(label: str) -> bool:
    name = label.partition("(")[0]
    return name not in ACTIVATIONS or dies(ACTIVATIONS.models[name]())
