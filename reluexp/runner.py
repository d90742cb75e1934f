"""From a config to results: plan, engine, store. Imports no torch; that is the workers' business."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reluexp import errors
from reluexp.catalogue.datasets import Hints, hints_of
from reluexp.catalogue.registry import told_with_place
from reluexp.config import LoadedConfig, identity, label_of, load_config, misfits
from reluexp.config.answers import accuracies_of_none
from reluexp.config.problems import Problem, problems_of
from reluexp.config.source import dotted
from reluexp.engine import ENGINES, Engine, Event, Resources, memory_of_place, places, sharing
from reluexp.engine.jobs import comparison, preparation, preparation_key, training
from reluexp.engine.shelf import Shelf
from reluexp.environment import now
from reluexp.errors import ConfigError, DataError, DeviceError, Interrupted, ReluexpError
from reluexp.failures import record_failure
from reluexp.plain import counted
from reluexp.planning.code import code_of
from reluexp.planning.estimate import kind_of, stack_seconds
from reluexp.planning.limits import of_other_precision, refuse_oversized, refuse_too_few, too_few
from reluexp.planning.plan import NUMERICS, Plan, Stack, Trial, make_plan, make_trials, own_key
from reluexp.planning.shards import part_of, refuse_fresh_part
from reluexp.planning.tuning import for_choosing
from reluexp.provenance import provenance
from reluexp.registration import register
from reluexp.standing import Standing, take_stock
from reluexp.stopping import stop_signals
from reluexp.store import Damage, Shard, Store, remember_speed
from reluexp.study import Study

__all__ = ["Listener", "resources_of", "run", "run_loaded"]

Listener = Callable[[dict[str, Any]], None]

_LONG_ENOUGH = 2.0  # seconds of work from which on a run says how fast a machine is


def run(
    config: str | Path | Mapping[str, Any],
    results: str | Path = "results",
    *,
    overrides: str | Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    stack: int | None = None,
    fresh: bool = False,
    listener: Listener | None = None,
    shard: str | None = None,
    **resources: Any,
) -> Study:
    """Train everything that a config asks for and is not done yet, and return the study.

    `config` is a YAML file, the name of a shipped config, or a mapping; `overrides` change it, as `["train.lr=0.1"]`.
    `results` is the folder of all studies. `device` is auto, cpu or cuda, `workers` the number of processes (one per
    core), `stack` the largest number of trials in a stack; `fresh` removes earlier results of the study; `shard`
    (`"3/8"`) does one of so many parts. `listener` is called with each event, a mapping whose `event` is plan, reading,
    progress, done, failed, split or note. Other keywords are those of `reluexp.engine.Resources`: engine, address,
    per_gpu, patience. No report is written: `reluexp.report.write_report(study)` does that.

    Errors are in `reluexp.errors`: ConfigError, DataError, DeviceError or ResultsError before anything is trained, and
    Interrupted when stopped by a signal; the next run then goes on.
    """
    loaded = load_config(config, overrides)
    means = resources_of({"device": device, "workers": workers, "stack": stack, **resources})
    part = None if shard is None else Shard.parse(shard)
    return run_loaded(loaded, Path(results).absolute(), means, fresh, part, listener or (lambda event: None))


def run_loaded(
    loaded: LoadedConfig,
    results: Path,
    resources: Resources | None = None,
    fresh: bool = False,
    shard: Shard | None = None,
    listener: Listener = lambda event: None,
) -> Study:
    """The same for a config that is loaded already."""
    refuse_fresh_part(fresh, shard)
    resources = resources or Resources.model_validate({})
    if loaded.config.tune and loaded.phase == "whole":
        first = run_loaded(for_choosing(loaded), results, resources, fresh, shard, listener)
        if shard and not first.has_chosen:
            text = "other shards have not chosen yet; run this shard again when they have, to compare what was chosen"
            listener({"event": "note", "text": text})
            return first
        return run_loaded(first.comparing(loaded), results, resources, False, shard, listener)
    for note in loaded.notes if loaded.phase != "comparing" else ():
        listener({"event": "note", "text": note})
    open_engine = ENGINES[resources.engine].open
    if ENGINES[resources.engine].here:
        refuse_oversized(loaded)
    refuse_too_few(loaded)
    store = Store(results / loaded.config.study)
    with stop_signals() as stop, store.lock(shard, stop):
        session = _Session(loaded, store, resources, fresh, shard, listener, stop)
        plan = session.plan()
        if plan.stacks or session.unknown():
            with open_engine(resources, len(plan.stacks)) as engine:
                session.prepare(engine, plan)
                plan = session.plan()  # what was read may have changed since it was last trained on
                session.prepare(engine, plan)
                session.compare(engine, plan)
                session.train(engine, session.plan() if session.batched else plan)
        elif fresh:
            store.clear()
        session.end()
        study = Study(store)
        learned = study.trials["outcome"].ne("failed").any() if len(study.trials) else False
        if loaded.config.cost and loaded.phase != "choosing" and not shard and study.cost.empty and learned:
            _time_activations(study, stop, listener)
    _remember_speed(study, session.trained, session.device, results)
    return study


def _time_activations(study: Study, stop: Callable[[], bool], listener: Listener) -> None:
    """What the timing of activations comes to grief on costs their times alone, whatever a user's code raises."""
    try:
        study.measure_cost(stop)
    except ReluexpError:
        raise
    except Exception as error:
        told = told_with_place(error)
        listener({"event": "note", "text": f"the activations could not be timed, which `cost: true` asks for: {told}"})


def resources_of(given: dict[str, Any]) -> Resources:
    """Keywords as resources; raises ConfigError with all that is wrong with them, as a config does."""
    try:
        return Resources.model_validate(given)
    except ValidationError as error:
        lines = [f"{dotted(path)}: {text}" for path, text in problems_of(error, Resources, given)]
        raise ConfigError("\n".join(lines)) from None


class _Session:
    """One run of a study, from what was there before to the end."""

    def __init__(
        self,
        loaded: LoadedConfig,
        store: Store,
        resources: Resources,
        fresh: bool,
        shard: Shard | None,
        listener: Listener,
        stop: Callable[[], bool],
    ) -> None:
        self.loaded, self.store, self.resources, self.fresh = loaded, store, resources, fresh
        self.listener, self.stop, self.shard = listener, stop, shard
        self.cache = store.cache
        self.asked = make_trials(loaded)
        self.trials = part_of(self.asked, shard) if shard else self.asked
        self.options = {identity(trial.point.setting.dataset): trial.point.setting.dataset for trial in self.trials}
        self.data = {name: found for name, own in self.options.items() if (found := Shelf(self.cache).recall(own))}
        self.code = code_of(trial.point.setting for trial in self.trials)
        self.prepared: dict[str, Event] = {}
        self.read: set[str] = set()
        self.batched: set[str] = set()
        self.alone: set[str] = set()
        self.shares: dict[str, float] = {}
        self.trained: dict[str, Stack] = {}
        self.noted: set[str] = set()
        self.device = "cpu" if resources.device == "auto" else resources.device
        self.about = provenance()
        if not fresh:
            self._set_aside_damage()

    def unknown(self) -> list[Trial]:
        """A trial of each data set that must be read to know whether the results are still its."""
        firsts = {identity(trial.point.setting.dataset): trial for trial in reversed(self.trials)}
        return [trial for name, trial in firsts.items() if name not in self.data]

    def plan(self) -> Plan:
        """The stacks of what is not done yet, as far as is known."""
        done = [] if self.fresh else self._standing().done
        begun = [] if self.fresh else self.store.begun(NUMERICS)
        workers, memory = places(self.resources, self.device == "cuda"), memory_of_place(self.resources)
        return make_plan(self.trials, done, begun, workers, self.device, self.resources.stack, self.batched, memory)

    def prepare(self, engine: Engine, plan: Plan) -> None:
        """Reads every data set once, in a worker, before anything is written; checks what needed that."""
        stacks = [*plan.stacks, *make_plan(self.unknown(), device=self.device).stacks]
        firsts = {key: stack for stack in reversed(stacks) if (key := preparation_key(stack)) not in self.prepared}
        by_id = {stack.id: (key, stack) for key, stack in firsts.items()}
        engine.submit([preparation(stack, self.cache, self.resources.device) for stack in firsts.values()])
        for event in engine.events(self.stop):
            if event["event"] == "failed":
                kind = getattr(errors, event["kind"] or "", None)
                if event["kind"] == "memory":
                    raise DataError(f"the data set does not fit into memory: {event['text']}")
                raise (kind or RuntimeError)(event["text"] if kind else event["trace"])
            if event["event"] == "reading":
                self.listener(event)
            if event["event"] == "prepared":
                key, stack = by_id[event["stack"]]
                self.prepared[key] = event
                self.data[identity(stack.setting.dataset)] = event["fingerprint"]
                self.read.add(identity(stack.setting.dataset))
                self.device = event["device"]
                _check_fit(stack, event)
        if not firsts.keys() <= self.prepared.keys():
            raise Interrupted("stopped before anything was trained")
        if self.read >= self.options.keys():  # else another may have classes
            _refuse(accuracies_of_none(self.loaded.config, list(map(_hints, self.prepared.values()))))
        if told := of_other_precision(self.loaded, self.device):
            raise DeviceError(told)

    def compare(self, engine: Engine, plan: Plan) -> None:
        """Finds out which of the user's networks may share a stack; one that fails here fails in its trials, too."""
        own = {(own_key(stack.setting), preparation_key(stack)): stack for stack in reversed(plan.stacks)}
        stacks = {stack.id: key for (key, _), stack in own.items() if key}
        engine.submit([comparison(stack, self.prepared[preparation_key(stack)])
                       for stack in own.values() if stack.id in stacks])  # fmt: skip
        events = list(engine.events(self.stop))
        ignorant = {event["stack"] for event in events if event.get("ignores")}
        self._refuse_ignorant({stack.setting.architecture.name for stack in own.values() if stack.id in ignorant})
        agree = {event["stack"] for event in events if event.get("batched")}
        self.batched = {key for key in stacks.values() if all(n in agree for n, own in stacks.items() if own == key)}

    def _refuse_ignorant(self, models: Collection[str]) -> None:
        """Models that never ask for their activation make a comparison of activations one of names."""
        for name in sorted(models):
            settings = [trial.point.setting for trial in self.trials]
            labels = sorted({label_of(own.activation) for own in settings if own.architecture.name == name})
            if len(labels) > 1:
                raise ConfigError(
                    f"architecture: {name!r} does not use the `activation` that its factory is given, so that "
                    f"{', '.join(labels)} would be the same networks; use it, or leave one of them"
                )
            self._note(f"{name} does not use the `activation` that its factory is given; results call it {labels[0]}")

    def train(self, engine: Engine, plan: Plan) -> None:
        """Trains the stacks, those that did not fit into memory in halves; failures become outcomes."""
        if self.fresh:
            self.store.clear()
        self.trained = {stack.id: stack for stack in plan.stacks}
        self._set_aside_outdated()
        if not self.shard:  # another shard may be writing just now
            self.store.sweep()
        self.write_study({"device": self.device})
        total = len(self.trials)
        self.listener({"event": "plan", "trials": total, "to_do": plan.to_do, "stacks": plan.stacks})
        stacks = {stack.id: stack for stack in plan.stacks}
        engine.submit([self._job(stack) for stack in plan.stacks])
        for event in engine.events(self.stop):
            if event["event"] == "failed":
                halves = self._halves(stacks[event["stack"]], event)
                if halves:
                    stacks |= {half.id: half for half in halves}
                    self.store.forget(event["stack"])
                    engine.submit([self._job(half) for half in halves])
                    short = "not enough memory, halved a stack" if event["kind"] == "memory" else (
                        "a stack failed, its trials go on one by one")  # fmt: skip
                    text = f"{short}: {event['text']}"
                    event = {"event": "split", "stack": event["stack"], "stacks": halves, "text": text}
                else:
                    failed = stacks[event["stack"]]
                    data = self.data[identity(failed.setting.dataset)]
                    file = record_failure(self.store, failed, self.loaded.config.study, data, self.code, event)
                    event |= {} if event["kind"] else {"traceback": str(file)}
            self.listener(event)
            if event.get("note"):
                self._note(event["note"])
        if self.stop():
            raise Interrupted(f"{self.loaded.config.study}: stopped; run it again to go on where it was")

    def end(self) -> None:
        """Notes when the run ended, and removes checkpoints of what is done."""
        done = set(self._standing().done)
        for name in self.store.checkpoints.names():
            heads, _ = self.store.checkpoints.heads(name)
            if heads and done.issuperset(heads[0].trials):
                self.store.forget(name)
        self.write_study({"ended": now()})

    def write_study(self, about: Mapping[str, Any]) -> None:
        """Writes study.yaml: the config as given and as resolved, this run's provenance, earlier runs in short."""
        self.about = {**self.about, **about}
        self.store.write_study(self._content)

    def _content(self, before: Mapping[str, Any]) -> dict[str, Any]:
        config = self.loaded.config.model_dump(mode="json")
        if "baseline" not in self.loaded.config.model_fields_set:
            del config["baseline"]  # a default need not be in the study
        earlier = dict(before.get("provenance") or {})
        runs = list(earlier.get("runs") or [])
        short = {key: self.about.get(key) for key in ("started", "ended", "host", "command", "device")}
        short["command"] = list(self.about["command"])  # the same list twice would be an anchor in the YAML
        same = ("started", "host", "command")
        runs = [run for run in runs if any(run.get(key) != short[key] for key in same)]
        sources = {part: {**(earlier.get(part) or {}), **own} for part, own in self._sources.items()}
        trained = self.about.get("device") or not earlier  # a run that found nothing to do made nothing
        about = {**self.about, **sources, "runs": [*runs, short]} if trained else {**earlier, **sources}
        return {
            "study": self.loaded.config.study,
            "given": self.loaded.text,
            "overrides": list(self.loaded.overrides),
            "config": config,
            "hypotheses": register(self.loaded.config, before.get("hypotheses"), self._count_ended()),
            "provenance": about,
        }

    def _count_ended(self) -> int:
        """Trials that have results, whether asked for or not."""
        records, _ = self.store.ended()
        return len({name for record in records.values() for name in record["trials"]})

    @property
    def _sources(self) -> dict[str, dict[str, str]]:
        return {"data": self.data, "code": self.code}

    def _standing(self) -> Standing:
        return take_stock(self.store, self.trials, self._sources)

    def _note(self, text: str) -> None:
        """Says it once, whichever stacks and workers it is true of."""
        if text not in self.noted:
            self.noted.add(text)
            self.listener({"event": "note", "text": text})

    def _set_aside_damage(self) -> None:
        """What is not as it was written makes room for doing it again."""
        _, damaged = self.store.ended("all")
        for damage in [*damaged, *self.store.damaged_checkpoints(), *self.store.damaged_extras()]:
            place = self.store.set_aside(damage)
            self._note(f"damaged: {damage}; moved to {place}, its trials run again")
        standing = take_stock(self.store, self.asked, self._sources)
        if standing.not_asked and not self.loaded.config.tune and self.store.study_file.is_file():
            kept = f"{standing.not_asked} of earlier configs kept but not asked for"
            self._note(f"the config has changed: {counted(standing.to_do, 'trial')} to do, {kept}")
        if standing.other_numerics:
            count = sum(len(standing.records[name]["trials"]) for name in standing.other_numerics)
            self._note(f"{counted(count, 'trial')} by a version of reluexp that computes other numbers: left out")

    def _set_aside_outdated(self) -> None:
        for name, source in self._standing().outdated.items():
            damage = Damage(self.store.stack(name), f"made from {source} changed since")
            self._note(f"{damage}; moved to {self.store.set_aside(damage)}, its trials run again")

    def _job(self, stack: Stack) -> dict[str, Any]:
        prepared, batched = self.prepared[preparation_key(stack)], own_key(stack.setting) in self.batched
        batched = batched and stack.id not in self.alone
        study, share = self.loaded.config.study, self._share(stack)
        return training(stack, self.store.root, study, prepared, self.code, batched, share)

    def _share(self, stack: Stack) -> float:
        """Of a GPU's memory, what a stack may count on: halves of one that did not fit, half of that."""
        return self.shares.get(stack.id, 1 / sharing(self.resources))

    def _halves(self, stack: Stack, event: Event) -> list[Stack]:
        """Two stacks of a stack that did not fit into memory; of one that the user's code failed, each trial alone."""
        if len(stack.trials) == 1 or not (event["kind"] == "memory" or own_key(stack.setting)):
            return []
        if event["kind"] != "memory":
            singles = make_plan(list(stack.trials), device=self.device).stacks
            self.alone |= {single.id for single in singles}
            return singles
        middle = (len(stack.trials) + 1) // 2
        parts = (stack.trials[:middle], stack.trials[middle:])
        halves = [make_plan(list(own), device=self.device, largest=middle, batched=self.batched) for own in parts]
        found = [half for plan in halves for half in plan.stacks]
        self.shares |= dict.fromkeys([half.id for half in found], self._share(stack) / 2)
        return found


def _remember_speed(study: Study, stacks: Mapping[str, Stack], device: str, results: Path) -> None:
    """What this run's stacks took against their estimate, where that was long enough to mean something."""
    took: dict[str, float] = {}
    told: dict[str, float] = {}
    seconds = study.timing.groupby("stack")["seconds"].sum() if stacks and len(study.timing) else {}
    for name, stack in stacks.items():
        expected = stack_seconds(stack, device)
        if expected and name in seconds:
            kind = kind_of(stack.setting, device)
            took[kind] = took.get(kind, 0.0) + float(seconds[name])
            told[kind] = told.get(kind, 0.0) + sum(expected.values())
    remember_speed(results, {kind: took[kind] / told[kind] for kind in took if took[kind] > _LONG_ENOUGH})


def _check_fit(stack: Stack, event: Event) -> None:
    """What could not be checked before the data set was read."""
    if hints_of(stack.setting.dataset).train is not None:  # checked with the config
        return
    hints = _hints(event)
    _refuse(misfits(stack.setting, hints), too_few(stack.setting.dataset, hints))


def _hints(event: Event) -> Hints:
    """What is known of a data set that has been read."""
    return Hints(tuple(event["shape"]), event["classes"], event["train"], None, event["outputs"])


def _refuse(problems: Iterable[Problem], more: str = "") -> None:
    """Raises ConfigError where something is wrong."""
    wrong = [f"{'.'.join(map(str, path))}: {text}" for path, text in problems]
    if told := "; ".join(filter(None, [*wrong, more])):
        raise ConfigError(told)
