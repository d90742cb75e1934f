"""Where a study stands: which outcomes count for its config, what is damaged, and what stands apart and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reluexp.config import identity, once_each
from reluexp.plain import counted
from reluexp.planning.code import code_of
from reluexp.planning.plan import NUMERICS, Trial
from reluexp.store import Damage, Depth, Store

__all__ = ["Standing", "data_of", "stock_for_run", "take_stock"]


@dataclass(frozen=True)
class Standing:
    """What of the trials asked for has ended and counts, and what of the results does not count."""

    trials: Sequence[Trial]
    records: dict[str, dict[str, Any]]
    """of every stack that is not damaged, by its name"""
    outcomes: dict[str, tuple[str, str]]
    """outcome and stack of each trial asked for that has ended"""
    damaged: list[Damage] = field(default_factory=list)
    outdated: dict[str, str] = field(default_factory=dict)
    """of stacks of trials asked for, by name: what they were made from, where that is not what it was"""
    other_numerics: list[str] = field(default_factory=list)
    """stacks of versions of reluexp that compute other numbers"""
    not_asked: int = 0
    """trials that ended and that the config does not ask for any more"""

    @property
    def done(self) -> list[str]:
        """The trials that need no more work; a failed one is tried again."""
        return [name for name, (outcome, _) in self.outcomes.items() if outcome != "failed"]

    @property
    def to_do(self) -> int:
        """How many trials the next run trains: those that are not done, failed and begun ones among them."""
        return len(self.trials) - len(self.done)

    def told(self, begun: Iterable[Sequence[str]]) -> str:
        """`4 trials: 1 finished, 0 diverged, 3 to do (1 failed, 2 begun)`, with the trials that have a checkpoint."""
        count = Counter(outcome for outcome, _ in self.outcomes.values())
        asked = {trial.id for trial in self.trials}
        under_way = {name for names in begun for name in names} & asked - set(self.outcomes)
        parts = {"failed": count["failed"], "begun": len(under_way)}
        some = ", ".join(f"{number} {kind}" for kind, number in parts.items() if number)
        ended = f"{count['finished']} finished, {count['diverged']} diverged"
        return f"{counted(len(self.trials), 'trial')}: {ended}, {self.to_do} to do{f' ({some})' * bool(some)}"

    def notes(self, earlier: bool = False) -> Iterator[str]:
        """What a reader of the results should know, in sentences.

        `earlier`: trials of earlier configs are asked for, so that those left are the ones nothing is known of.
        """
        for damage in self.damaged:
            yield f"damaged, left out: {damage}; the next run sets it aside and does its trials again"
        for name, source in self.outdated.items():
            text = f"made from {source} changed since, left out; the next run sets it aside and does them again"
            yield f"stack {name}: {counted(len(self.records[name]['trials']), 'trial')} {text}"
        if self.other_numerics:
            count = sum(len(self.records[name]["trials"]) for name in self.other_numerics)
            yield f"{counted(count, 'trial')} by a version of reluexp that computes other numbers: left out"
        if self.not_asked:
            why = (
                "their stacks do not say how they were made (by an earlier version of reluexp, or for its later one)"
                if earlier
                else "kept, but not asked for and left out; `reluexp report --earlier` shows them, too"
            )
            yield f"{counted(self.not_asked, 'trial')} of earlier configs: {why}{', left out' if earlier else ''}"
        versions = sorted({str(self.records[stack].get("torch")) for _, stack in self.outcomes.values()})
        if len(versions) > 1:
            yield f"trials come from torch {' and '.join(versions)}: their last digits may differ"


def data_of(trials: Sequence[Trial]) -> dict[str, str]:
    """The identity of each trial's data set, by the trial's name."""
    names = once_each((trial.point.setting.dataset for trial in trials), identity)
    return {trial.id: name for trial, name in zip(trials, names, strict=True)}


def take_stock(
    store: Store,
    trials: Sequence[Trial],
    sources: Mapping[str, Any] | None = None,
    depth: Depth = "records",
) -> Standing:
    """Compares the results with the trials asked for.

    In `sources`, as in a study's provenance, are fingerprints as far as they are known: `data` of data sets by
    identity, `code` of the user's own code by its dotted path. Where a trial is in several stacks, a success counts
    before a failure.
    """
    records, damaged = store.ended(depth)
    asked, (data, code) = data_of(trials), ((sources or {}).get(part) or {} for part in ("data", "code"))
    standing = Standing(trials, records, {}, damaged)
    elsewhere: set[str] = set()
    for stack, record in records.items():
        if record.get("numerics") != NUMERICS:
            standing.other_numerics.append(stack)
            continue
        wanted = [name for name in record["trials"] if name in asked]
        elsewhere |= set(record["trials"]) - set(wanted)
        if any(data.get(asked[name], record.get("data")) != record.get("data") for name in wanted):
            standing.outdated[stack] = "data that have"
            continue
        other = [name for name, was in (record.get("code") or {}).items() if code.get(name, was) != was]
        if wanted and other:
            standing.outdated[stack] = f"code of {' and '.join(other)} that has"
            continue
        for name, outcome in zip(record["trials"], record["outcomes"], strict=True):
            if name in asked and standing.outcomes.get(name, ("failed", ""))[0] == "failed":
                standing.outcomes[name] = (outcome, stack)
    return Standing(**{**vars(standing), "not_asked": len(elsewhere)})


def stock_for_run(
    store: Store, trials: Sequence[Trial], provenance: Mapping[str, Any], depth: Depth = "records"
) -> Standing:
    """What `take_stock` finds, as the next run would have it: with the user's code as it is now. Imports none of it."""
    code = {**(provenance.get("code") or {}), **code_of(trial.point.setting for trial in trials)}
    return take_stock(store, trials, {**provenance, "code": code}, depth)
