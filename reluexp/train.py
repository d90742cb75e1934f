"""The training loop: one stack of replicas, from birth or from a checkpoint to its tables.

Shapes: losses, norms and accuracies are [replica]; parameters and gradients [replica, number].
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reluexp.catalogue import schedules
from reluexp.catalogue.activations import dies
from reluexp.catalogue.augment import augment_batch
from reluexp.catalogue.loading import Dataset
from reluexp.catalogue.optimizers import OPTIMIZERS
from reluexp.causes import explain
from reluexp.config import Setting, label_of
from reluexp.metrics import LAYER_COLUMNS
from reluexp.network import Network, Snapshot
from reluexp.plan import Stack, probe_size
from reluexp.probe import Measurement, Probe, accuracy, evaluate, loss_per_sample, settled_norms
from reluexp.records import Lives, Records
from reluexp.schedule import early_steps, full_epochs
from reluexp.seeds import derive, generator
from reluexp.steps import UPDATES, Steps

__all__ = ["EPOCH_COLUMNS", "StackResult", "Training"]

EPOCH_COLUMNS = (
    *("epoch", "step", "train_loss", "train_accuracy", "probe_loss", "probe_accuracy", "validation_loss"),
    *("validation_accuracy", "test_loss", "test_accuracy", "grad_norm", "grad_norm_max", "output_range", "lr"),
)
_DIVERGED = 1e3
_COLLAPSED = 1e-3
_KEPT = 1 << 24
"""how many numbers of inputs a replica may keep between two measurements to explain deaths"""
Progress = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True)
class StackResult:
    """The tables of a stack by name, and each trial's final weights."""

    tables: dict[str, pd.DataFrame]
    weights: dict[str, dict[str, Tensor]]


class Training:
    """The state of one stack's training; `run` goes on from wherever it is."""

    def __init__(self, stack: Stack, data: Dataset, study: str, device: str = "cpu") -> None:
        self.setting, self.trials, self.data, self.study, self.device = stack.setting, stack.trials, data, study, device
        self.seeds = [trial.seed for trial in stack.trials]
        self.network = Network(stack.settings, self.seeds, data.input_shape, data.outputs, device)
        setting, trials = stack.setting, stack.trials
        self.lr = self._rates(stack.settings, "lr")
        decay = self._rates(stack.settings, "weight_decay")
        self.decay = decay.float() * self.network.decayed if bool(decay.any()) else None
        self.dying = torch.tensor([dies(own.activation.name) for own in stack.settings])
        chosen = data.probe_order[: probe_size(setting.probe.size, len(data.train_x))]
        self.probe = Probe(self.network, data.train_x[chosen], data.train_y[chosen])
        self.optimizer = OPTIMIZERS[setting.train.optimizer.name]
        self.steps_per_epoch = math.ceil(len(data.train_x) / setting.train.batch_size)
        self.epoch, self.step = 0, 0
        self.state: dict[str, Tensor] = {}
        self.alive = torch.ones(len(trials), dtype=torch.bool, device=device)
        self.diverged_at = torch.full((len(trials),), -1, device=device)
        self.steps, self.records, self.lives = Steps(self.network), Records(), Lives()
        self.before: Snapshot | None = None
        explains = setting.probe.metrics == "full" and bool(self.dying.any())
        self._hear = sorted({site.layer or "" for site in self.network.sites if site.affine}) if explains else []
        self._full = full_epochs(setting.probe.full, setting.train.epochs)
        self.seconds: dict[str, float] = {}

    def run(
        self, should_stop: Callable[[], bool], progress: Progress, pause: Callable[[], None] = lambda: None
    ) -> bool:
        """Trains to the end, or until asked to stop between two steps; says whether it came to the end.

        `pause` is called between steps and may save a checkpoint.
        """
        epochs, every = self.setting.train.epochs, self.setting.probe.every
        full = self._full
        early = early_steps(self.setting.probe.early, self.steps_per_epoch)
        if not self.records.tables:
            self._measure(0.0, 0 in full, torch.ones_like(self.alive), progress)

        while self.epoch < epochs and bool(self.alive.any()):
            if not self.steps.begun:
                self.steps.begin(self.alive)
            order = self._order()
            first = self.step - self.epoch * self.steps_per_epoch
            for batch in range(first, self.steps_per_epoch):
                if should_stop():
                    return False
                with self._timed("train"):
                    self._step(order, batch)
                if self.epoch == 0 and batch + 1 in early and batch + 1 < self.steps_per_epoch:
                    self._light(self.step / self.steps_per_epoch)
                pause()

            self.epoch += 1
            active = self.steps.active
            self._end_epoch()
            last = self.epoch == epochs or not bool(self.alive.any())
            measured = last or self.epoch % every == 0
            self._measure(float(self.epoch), measured and (last or self.epoch in full), active, progress, measured)
            self.steps.end()
        self._confirm()
        return True

    def _rates(self, settings: list[Setting], name: str) -> Tensor:
        """A field of each replica's optimizer [replica, 1], in float64."""
        values = [[getattr(setting.train.optimizer, name)] for setting in settings]
        return torch.tensor(values, dtype=torch.float32 if self.device == "mps" else torch.float64).to(self.device)

    def _order(self) -> Tensor:
        """The samples of this epoch [replica, sample], each replica's by its own seed."""
        self.network.module.train()
        orders = [
            torch.randperm(len(self.data.train_x), generator=generator(s, "order", self.epoch)) for s in self.seeds
        ]
        return torch.stack(orders).to(self.device)

    def _batch(self, order: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        size = self.setting.train.batch_size
        index = order[:, batch * size : (batch + 1) * size]
        x, y = self.data.train_x[index], self.data.train_y[index]
        kind: Any = getattr(self.setting.dataset, "augment", "none")
        if kind != "none":
            moment = (self.epoch, batch)
            x = torch.stack(
                [
                    augment_batch(part, kind, generator(s, "augment", *moment))
                    for part, s in zip(x, self.seeds, strict=True)
                ]
            )
        return x, y

    def _step(self, order: Tensor, batch: int) -> None:
        network, train = self.network, self.setting.train
        if not network.stacked:
            torch.manual_seed(derive(self.seeds[0], "user", self.step))
        x, y = self._batch(order, batch)
        logits = network.forward(x, moment=(self.epoch, batch))
        loss = loss_per_sample(logits, y).mean(1)
        gradient = network.flatten(torch.autograd.grad(loss.sum(), network.leaves, allow_unused=True))

        with torch.no_grad():
            norm = network.norm(gradient)
            right = accuracy(logits, y)
            self.steps.add(self.alive, loss, right, norm, gradient)
            if train.clip_norm is not None:
                gradient = gradient * (train.clip_norm / norm.clamp(min=train.clip_norm))[:, None]
            lr = (self.lr * self._factor(self.step)).float()
            self.step += 1
            args = (self.state, self.step, lr, self.decay, train.optimizer)
            amount = self.optimizer.update(network.flat, gradient, *args)
            ok = torch.isfinite(loss) & torch.isfinite(norm)
            self.diverged_at = torch.where(self.alive & ~ok, self.step, self.diverged_at)
            self.alive = self.alive & ok
            if self.device != "cpu" or not bool(self.alive.all()):
                amount = torch.where(self.alive[:, None], amount, 0.0)
            if self.steps_per_epoch - batch <= UPDATES and self.epoch + 1 in self._full:
                self.steps.update(amount)
            network.flat.sub_(amount)

    def _factor(self, step: int) -> float:
        train = self.setting.train
        return schedules.factor(train.schedule, step, self.steps_per_epoch, train.epochs)

    def _end_epoch(self) -> None:
        """Replicas whose mean loss ran away have diverged, too."""
        limit = _DIVERGED * self.first_loss.clamp(min=1e-3)
        away = self.alive & (self.steps.mean_loss() > limit)
        self.diverged_at = torch.where(away, self.step, self.diverged_at)
        self.alive = self.alive & ~away

    @property
    def first_loss(self) -> Tensor:
        """The probe loss before training."""
        first: Tensor = self.records.tables["epochs"][0]["probe_loss"]
        return first.to(self.device)

    def _measure(self, epoch: float, full: bool, active: Tensor, progress: Progress, measured: bool = True) -> None:
        """One row of `epochs`, and the rows of a measurement."""
        row: dict[str, Any] = {"epoch": int(epoch), "step": self.step, "lr": self._rate()}
        if self.steps.begun:
            row |= self.steps.row()
        self.network.module.eval()
        found = None
        with self._settled():
            with self._timed("evaluate"):
                row["test_loss"], row["test_accuracy"] = evaluate(self.network, self.data.test_x, self.data.test_y)
                if self.data.validation_x is not None and self.data.validation_y is not None:
                    split = self.data.validation_x, self.data.validation_y
                    row["validation_loss"], row["validation_accuracy"] = evaluate(self.network, *split)
            if measured:
                with self._timed("measure"):
                    found = self.probe.measure(full, self.setting.probe.metrics == "full", hear=self._hear)
                    self._write(found, epoch, active, full)
                    self.steps.measured()
        if found:
            row |= {"probe_loss": found.loss, "probe_accuracy": found.accuracy, "output_range": found.output_range}
        self.records.add("epochs", active, row)
        dead = found.dead_fraction if found else torch.full_like(row["test_loss"], math.nan)
        self._note_seconds(int(epoch))
        progress(int(epoch), row["test_accuracy"].cpu(), dead.cpu())

    def _note_seconds(self, epoch: int) -> None:
        for phase, seconds in self.seconds.items():
            self.records.add("timing", torch.ones(1, dtype=torch.bool), {"epoch": epoch, "phase": phase,
                             "replicas": len(self.seeds), "seconds": seconds})  # fmt: skip
        self.seconds = {}

    def _light(self, epoch: float) -> None:
        self.network.module.eval()
        with self._timed("measure"):
            self._write(self.probe.measure(full=False, hear=self._hear), epoch, self.alive, full=False)
            self.steps.measured()
        self.network.module.train()

    @contextmanager
    def _settled(self) -> Iterator[None]:
        if self.step:
            yield
            return
        with settled_norms(self.network, self.probe.x, self.probe.y):
            yield

    def _rate(self) -> Tensor:
        return self.lr[:, 0] * self._factor(max(self.step - 1, 0))

    def _write(self, found: Measurement, epoch: float, active: Tensor, full: bool) -> None:
        if self.setting.probe.metrics == "network":
            self.lives.update(self.step, found.units, active)
            return
        ended = self.steps.begun and epoch == self.epoch
        when = {"epoch": epoch, "step": self.step}
        for number, (site, metrics) in enumerate(zip(self.network.sites, found.layers, strict=True)):
            about = {"site": number, "site_name": site.name, "kind": site.kind, "width": site.width}
            starved = self.steps.starved(number) if ended else None
            if starved is not None:
                metrics["starved_fraction"] = starved.double().mean(1)
                found.units[number]["starved"] = starved
            ratio = self.steps.update_ratio(site.layer) if ended and full else None
            self.records.add("layers", active, {**when, **about, **metrics, "update_ratio": ratio})
        about = {"site": None, "site_name": "output", "kind": "dense", "width": self.data.outputs}
        ratio = self.steps.update_ratio(self.network.output_layer) if ended and full else None
        self.records.add("layers", active, {**when, **about, **found.output, "update_ratio": ratio})
        died = self.lives.newly_dead(found.units, active)
        spiked = self.steps.spiked() if any(bool(own.any()) for own in died) else None
        self.lives.update(self.step, found.units, active, self._causes(found, died), spiked)

    def _causes(self, found: Measurement, died: list[Tensor]) -> dict[int, dict[str, Tensor]]:
        """Why units died since the last measurement, where their activation is 0 on a half-line."""
        if not self._hear:
            return {}
        size = sum(value.numel() for chunk in found.inputs for value in chunk.values()) / len(self.seeds)
        kept = found.inputs if size <= _KEPT else []
        before, self.before = self.before, replace(self.network.snapshot(), inputs=kept)
        if before is None:
            return {}
        died = [own & units["off"].cpu() & self.dying[:, None] for own, units in zip(died, found.units, strict=True)]
        return explain(self.network, before, self.before, self.probe.x, died, [units["dead"] for units in found.units])

    def _confirm(self) -> None:
        """At most one pass over the whole training set: which units are dead on all of it?"""
        if not self.lives.sites:
            return
        self.network.module.eval()
        with self._settled(), self._timed("measure"):
            for site, seen in enumerate(self.probe.confirm(self.data.train_x, self.data.probe_order)):
                self.lives.confirm(site, seen)
        self._note_seconds(self.epoch)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start

    def checkpoint(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and plain values."""
        return {
            **{"epoch": self.epoch, "step": self.step, "flat": self.network.flat, "state": self.state},
            **{"buffers": self.network.buffers(), "alive": self.alive, "diverged_at": self.diverged_at},
            **{"steps": self.steps.state(), "records": self.records.tables, "lives": self.lives.sites},
            **{"seconds": self.seconds, "before": self._before()},
        }

    def _before(self) -> dict[str, Any] | None:
        """The last measurement's parameters and buffers; inputs are computed again where they are needed."""
        return {"flat": self.before.flat, "buffers": self.before.buffers} if self.before else None

    def restore(self, saved: dict[str, Any]) -> None:
        """Takes up a checkpoint of a stack of the same trials."""
        self.epoch, self.step, self.state = saved["epoch"], saved["step"], saved["state"]
        self.alive, self.diverged_at = saved["alive"], saved["diverged_at"]
        self.steps.restore(saved["steps"])
        self.before = Snapshot(**saved["before"]) if saved["before"] else None
        self.records, self.lives, self.seconds = Records(saved["records"]), Lives(saved["lives"]), saved["seconds"]
        with torch.no_grad():
            self.network.flat.copy_(saved["flat"])
            for name, buffer in self.network.buffers().items():
                buffer.copy_(saved["buffers"][name])

    def result(self) -> StackResult:
        """The tables and weights at the end."""
        names = [trial.id for trial in self.trials]
        timing = self.records.frame("timing", ["stack"], ("epoch", "phase", "replicas", "seconds"))
        tables = {
            "epochs": self.records.frame("epochs", names, EPOCH_COLUMNS),
            "layers": self.records.frame("layers", names, LAYER_COLUMNS),
            "units": (Lives() if self.setting.probe.metrics == "network" else self.lives).frame(names),
            "timing": timing.drop(columns="trial"),
        }
        tables["trials"] = self._trials(tables["epochs"])
        keep = self.setting.train.save_weights
        return StackResult(tables, {n: self.network.state(i) for i, n in enumerate(names)} if keep else {})

    def _trials(self, epochs: pd.DataFrame) -> pd.DataFrame:
        """The table `trials`, column by column, since a stack may hold thousands."""
        settings = [trial.point.setting for trial in self.trials]
        first = epochs.drop_duplicates("trial").reset_index(drop=True)
        last = epochs.drop_duplicates("trial", keep="last").reset_index(drop=True)
        diverged = self.diverged_at.cpu().numpy()
        axes = [a for a in self.trials[0].point.axes if a not in ("dataset", "architecture", "activation", "init")]
        columns = {
            "trial": [trial.id for trial in self.trials],
            "study": self.study,
            "seed": self.seeds,
            **{part: _labels(settings, part) for part in ("dataset", "architecture", "activation", "init")},
            "gain": self.network.gains,
            "normalization": getattr(self.setting.architecture, "normalization", None),
            "optimizer": self.setting.train.optimizer.name,
            "lr": [setting.train.optimizer.lr for setting in settings],
            "batch_size": self.setting.train.batch_size,
            "parameters": [self.network.size(replica) for replica in range(len(settings))],
            "classes": float(self.data.classes or math.nan),
            "outcome": np.where(diverged < 0, "finished", "diverged"),
            "diverged_at_step": np.where(diverged < 0, np.nan, diverged),
            "stuck": self._stuck(last["train_accuracy"].to_numpy(float), diverged),
            "born_collapsed": pd.array(first["output_range"].to_numpy(float) < _COLLAPSED, "boolean"),
            "collapsed_at_end": pd.array(last["output_range"].to_numpy(float) < _COLLAPSED, "boolean"),
            **self._dead(),
            **{axis: [trial.point.axes[axis] for trial in self.trials] for axis in axes},
        }
        return pd.DataFrame(columns)

    def _stuck(self, accuracy: np.ndarray, diverged: np.ndarray) -> Any:
        """Whether the final training accuracy is not above the largest class share + 3 standard errors."""
        if not self.epoch or self.data.classes is None:
            return pd.array([None] * len(self.trials), "boolean")
        shares = torch.bincount(self.data.train_y.cpu()).double() / len(self.data.train_y)
        largest = float(shares.max())
        bound = largest + 3 * math.sqrt(largest * (1 - largest) / len(self.data.train_y))
        return pd.array((accuracy <= bound) & (diverged < 0), "boolean")

    def _dead(self) -> dict[str, Any]:
        """Shares of dead units over all sites at the end, and how many layers are dead whole."""
        if not self.lives.sites:
            nothing = np.full(len(self.trials), np.nan)
            return dict.fromkeys(("dead_layers_at_end", "dead_fraction", "confirmed_dead_fraction"), nothing)
        dead = [site["dead"] for site in self.lives.sites]
        confirmed = torch.cat([site["seen"] < 0 for site in self.lives.sites], 1)
        return {
            "dead_layers_at_end": torch.stack([own.all(1) for own in dead], 1).sum(1).numpy(),
            "dead_fraction": torch.cat(dead, 1).double().mean(1).numpy(),
            "confirmed_dead_fraction": confirmed.double().mean(1).numpy(),
        }


def _labels(settings: list[Setting], part: str) -> list[str]:
    """The label of a part of each setting, made once for parts that settings share."""
    parts = [getattr(setting, part) for setting in settings]
    known = {id(own): own for own in parts}
    labels = {key: label_of(own) for key, own in known.items()}
    return [labels[id(own)] for own in parts]
