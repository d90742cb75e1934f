"""A results folder verified whole: what is in it, what is damaged, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reluexp.errors import ResultsError
from reluexp.plain import counted
from reluexp.planning.plan import NUMERICS
from reluexp.standing import Standing, stock_for_run
from reluexp.store import Store
from reluexp.study import Study

__all__ = ["Finding", "check_study"]


@dataclass(frozen=True)
class Finding:
    """What was found, in sentences, and whether all of it is as it was written."""

    sound: bool
    sentences: list[str]


def check_study(root: Path) -> Finding:
    """Compares every file of a study with its checksum. Reads only, imports none of the user's code, needs no lock."""
    store = Store(root)
    try:
        study = Study(store)
        asked = study.asked
    except ResultsError as error:
        return _without_study(store, str(error))
    standing = stock_for_run(store, asked, study.provenance, "all")
    damaged = (*standing.damaged, *store.damaged_checkpoints(), *store.damaged_extras())
    wrong = [f"damaged: {damage}" for damage in damaged]
    wrong += [f"outdated: stack {name}: made from {source} changed since" for name, source in standing.outdated.items()]
    sentences = [*_counts(store, standing), *wrong, *_apart(standing)]
    sentences += [f"left by a process that was killed: {path}; the next run removes it" for path in store.leftovers()]
    return Finding(not wrong, [*sentences, _advice(store, standing, bool(wrong))])


def _counts(store: Store, standing: Standing) -> Iterator[str]:
    yield f"{store.root}: {standing.told(store.begun(NUMERICS))}"
    files = sum(len(record["files"]) + 1 for record in standing.records.values())
    size = sum(told["bytes"] for record in standing.records.values() for told in record["files"].values())
    yield f"{counted(len(standing.records), 'stack')}, {files} files, {size:,} bytes: as they were written"
    for owner in store.owners():
        yield f"running: {owner}"


def _apart(standing: Standing) -> Iterator[str]:
    yield from (note for note in standing.notes() if not note.startswith(("damaged", "stack ")))


def _advice(store: Store, standing: Standing, wrong: bool) -> str:
    again = "`reluexp run` with the study's config"
    if wrong:
        return f"what to do: {again} moves what is damaged or outdated to {store.aside} and does its trials again"
    if standing.to_do:
        failed = standing.to_do > len(standing.trials) - len(standing.outcomes)
        return f"what to do: {again} goes on with what is to do{', and tries failed trials again' * failed}"
    return "all is well"


def _without_study(store: Store, error: str) -> Finding:
    """study.yaml cannot be used: the stacks can be verified all the same."""
    records, damaged = store.ended("all")
    sentences = [f"damaged: {error}", *(f"damaged: {damage}" for damage in damaged)]
    sentences.append(f"{counted(len(records), 'stack')} as written")
    return Finding(False, [*sentences, "what to do: `reluexp run` with the study's config writes study.yaml anew "
                           "and keeps the finished trials"])  # fmt: skip
