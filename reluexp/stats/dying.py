"""Which activations' networks have units that can be dead exactly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reluexp.catalogue.activations import ACTIVATIONS, dies
from reluexp.stats.memory import remembered
from reluexp.stats.results import Results

__all__ = ["disabled", "dying"]

_DISABLED = re.compile(r"\bdead=([0-9.e-]+)")


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


def disabled(study: Results, where: Mapping[Any, Any]) -> float:
    """The share of units that `init.dead` switched off in a setting: by an axis, by the axis `init`, or by the config.

    >>> disabled(None, {"init": "he_normal(dead=0.5)"}), disabled(None, {"init": "he_normal"})
    (0.5, 0.0)
    """
    share = where.get("init.dead")
    if isinstance(share, (int, float)):
        return float(share)
    if "init" in where:
        found = _DISABLED.search(str(where["init"]))
        return float(found[1]) if found else 0.0
    return float((study.config.get("init") or {}).get("dead") or 0.0)


def _by_name(label: str) -> bool:
    name = label.partition("(")[0]
    return name not in ACTIVATIONS or dies(ACTIVATIONS.models[name]())
