"""What a stack's training comes to: its tables, a row of `trials` for each network, and the final weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reluexp.catalogue.columns import EPOCH_COLUMNS, LAYER_COLUMNS
from reluexp.config import LABELLED, Setting, label_of, once_each
from reluexp.measuring.records import Lives
from reluexp.networks.gains import can_be_dead
from reluexp.networks.network import Network

if TYPE_CHECKING:
    from reluexp.training.loop import Training

__all__ = ["StackResult", "result_of"]

_COLLAPSED = 1e-3


@dataclass(frozen=True)
class StackResult:
    """The tables of a stack by name, and each trial's final weights."""

    tables: dict[str, pd.DataFrame]
    weights: dict[str, dict[str, Tensor]]


def result_of(training: Training) -> StackResult:
    """The tables and weights of a stack that has come to its end."""
    names = [trial.id for trial in training.trials]
    timing = training.records.frame("timing", ["stack"], ("epoch", "phase", "replicas", "seconds"))
    tables = {
        "epochs": training.records.frame("epochs", names, EPOCH_COLUMNS),
        "layers": training.records.frame("layers", names, LAYER_COLUMNS),
        "units": (Lives() if training.setting.probe.metrics == "network" else training.lives).frame(names),
        "timing": timing.drop(columns="trial"),
    }
    tables["trials"] = _trials(training, tables["epochs"])
    keep = training.setting.train.save_weights
    return StackResult(tables, {n: training.weights(i) for i, n in enumerate(names)} if keep else {})


def _trials(training: Training, epochs: pd.DataFrame) -> pd.DataFrame:
    """The table `trials`, column by column, since a stack may hold thousands."""
    settings = [trial.point.setting for trial in training.trials]
    first = epochs.drop_duplicates("trial").reset_index(drop=True)
    last = epochs.drop_duplicates("trial", keep="last").reset_index(drop=True)
    diverged = training.diverged_at.cpu().numpy()
    columns = {
        "trial": [trial.id for trial in training.trials],
        "study": training.study,
        "seed": training.seeds,
        **{part: _labels(settings, part) for part in LABELLED},
        "gain": training.network.gains,
        "normalization": getattr(training.setting.architecture, "normalization", None),
        "optimizer": training.setting.train.optimizer.name,
        "lr": [setting.train.optimizer.lr for setting in settings],
        "batch_size": training.setting.train.batch_size,
        "parameters": [training.network.size(replica) for replica in range(len(settings))],
        "classes": float(training.data.classes or math.nan),
        "outcome": np.where(diverged < 0, "finished", "diverged"),
        "diverged_at_step": np.where(diverged < 0, np.nan, diverged),
        "stuck": _stuck(training, last["train_accuracy"].to_numpy(float), diverged),
        "born_collapsed": pd.array(first["output_range"].to_numpy(float) < _COLLAPSED, "boolean"),
        "collapsed_at_end": pd.array(last["output_range"].to_numpy(float) < _COLLAPSED, "boolean"),
        **_dead(training),
        "can_die": _can_die(training.network, settings),
        **{a: [trial.point.axes[a] for trial in training.trials] for a in training.trials[0].point.further_axes},
    }
    return pd.DataFrame(columns)


def _can_die(network: Network, settings: list[Setting]) -> list[bool]:
    """Whether units can be dead exactly: by the activation, or by another of the model's."""
    given = (setting.activation for setting in settings)
    return once_each(given, lambda own: network.has_other_deaths or can_be_dead(own))


def _stuck(training: Training, accuracy: np.ndarray, diverged: np.ndarray) -> Any:
    """Whether the final training accuracy is not above the largest class share + 3 standard errors, if it could be."""
    if not training.epoch or training.data.classes is None:
        return pd.array([None] * len(training.trials), "boolean")
    shares = torch.bincount(training.data.train_y.cpu()).double() / len(training.data.train_y)
    largest = float(shares.max())
    bound = largest + 3 * math.sqrt(largest * (1 - largest) / len(training.data.train_y))
    if bound >= 1:  # too few samples to tell learning from chance
        return pd.array([None] * len(training.trials), "boolean")
    return pd.array((accuracy <= bound) & (diverged < 0), "boolean")


def _dead(training: Training) -> dict[str, Any]:
    """Shares of dead units over all sites at the end, and how many layers are dead whole."""
    if not training.lives.sites:
        nothing = np.full(len(training.trials), np.nan)
        return dict.fromkeys(("dead_layers_at_end", "dead_fraction", "confirmed_dead_fraction"), nothing)
    dead = [site["dead"] for site in training.lives.sites]
    confirmed = torch.cat([site["seen"] < 0 for site in training.lives.sites], 1)
    return {
        "dead_layers_at_end": torch.stack([own.all(1) for own in dead], 1).sum(1).numpy(),
        "dead_fraction": torch.cat(dead, 1).double().mean(1).numpy(),
        "confirmed_dead_fraction": confirmed.double().mean(1).numpy(),
    }


def _labels(settings: list[Setting], part: str) -> list[str]:
    """The label of a part of each setting, made once for parts that settings share."""
    return once_each((getattr(setting, part) for setting in settings), label_of)
