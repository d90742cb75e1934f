"""Studies in memory with numbers like real ones, for the tests of the report and of the page."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bare import Bare

from reluexp.planning.schedule import full_epochs

SEVEN = ("relu", "leaky_relu", "prelu", "elu", "selu", "sigmoid", "tanh")
STEPS = 22  # per epoch
SHAPES = {  # final accuracy, epochs to learn, dead at birth and end, zero fraction, gradient factor per layer backwards
    "relu": (0.962, 2.0, 0.003, 0.12, 0.55, 0.95),
    "leaky_relu": (0.972, 1.8, 0.0, 0.0, 0.0, 0.97),
    "prelu": (0.971, 1.9, 0.0, 0.0, 0.0, 0.97),
    "elu": (0.969, 1.5, 0.0, 0.0, 0.0, 1.0),
    "selu": (0.966, 1.4, 0.0, 0.0, 0.0, 1.02),
    "sigmoid": (0.94, 7.0, 0.0, 0.01, 0.0, 0.2),
    "tanh": (0.968, 1.3, 0.0, 0.0, 0.0, 0.9),
}


@dataclass(frozen=True)
class Made(Bare):
    """A study in memory, as the statistics and the report read one."""

    name: str = "made"
    path: Path = Path("results/made")
    config: dict[str, Any] = field(default_factory=lambda: {"study": "made", "seeds": 10})
    provenance: dict[str, Any] = field(default_factory=lambda: {"versions": {"python": "3.11"}, "device": "cpu"})
    axes: list[str] = field(default_factory=lambda: ["activation"])
    baseline: str | None = "relu"
    targets: dict[str, list[float]] | None = None
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)
    epochs: pd.DataFrame = field(default_factory=pd.DataFrame)
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    units: pd.DataFrame = field(default_factory=pd.DataFrame)
    timing: pd.DataFrame = field(default_factory=pd.DataFrame)
    margins: dict[str, float] | None = None
    config_text: str = "# Which activations lose units,\n# and does it matter?\n\nstudy: made\n"


def made_study(
    activations: tuple[str, ...] = SEVEN,
    seeds: int = 10,
    epochs: int = 20,
    kinds: tuple[str, ...] = ("dense",) * 4,
    axis: str | None = None,
    values: tuple[Any, ...] = (None,),
    accidents: bool = True,
    **changes: Any,
) -> Made:
    """A study with numbers like real ones; with accidents the last ReLU nets get stuck, diverge."""
    tables: dict[str, list[dict[str, Any]]] = {"trials": [], "epochs": [], "layers": [], "units": [], "timing": []}
    for place, value in enumerate(values):
        for label in activations:
            for seed in range(seeds):
                fate = {seeds - 1: "diverged", seeds - 2: "stuck"}.get(seed, "") if label == "relu" else ""
                trial = f"{label}-{place}-{seed}"
                extra = {axis: value} if axis else {}
                _add_trial(tables, trial, label, seed, place, epochs, kinds, fate if accidents else "", extra)
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    axes = ["activation", axis] if axis else ["activation"]
    return replace(Made(axes=axes), **{**frames, **changes})


def _add_trial(
    tables: dict[str, list[dict[str, Any]]],
    trial: str,
    label: str,
    seed: int,
    place: int,
    epochs: int,
    kinds: tuple[str, ...],
    fate: str,
    extra: dict[str, Any],
) -> None:
    best, pace, born, dead, zero, factor = SHAPES.get(label.partition("(")[0], SHAPES["leaky_relu"])
    rng = np.random.default_rng([seed, place, sum(map(ord, label))])
    best += rng.normal(0, 0.006) + np.random.default_rng(seed).normal(0, 0.004)
    dead *= (1 + 0.8 * place) * rng.uniform(0.7, 1.3)
    last = min(epochs, 6) if fate == "diverged" else epochs
    for epoch in range(last + 1):
        learned = 0.0 if fate == "stuck" else 1 - np.exp(-epoch / pace)
        accuracy = 0.1 + (best - 0.1) * learned + rng.normal(0, 0.004)
        loss = 2.3 * (1 - learned) + 0.12 + abs(rng.normal(0, 0.01))
        broken = fate == "diverged" and epoch == last and epoch > 0
        tables["epochs"].append(
            {
                "trial": trial,
                "epoch": epoch,
                "step": epoch * STEPS,
                "train_loss": np.nan if epoch == 0 else np.inf if broken else loss * 0.8,
                "train_accuracy": np.nan if epoch == 0 else accuracy + 0.01,
                "probe_loss": np.nan if broken else loss * 0.8,
                "probe_accuracy": min(accuracy + 0.01, 1.0),
                "test_loss": np.nan if broken else loss,
                "test_accuracy": accuracy,
                "grad_norm": np.nan if epoch == 0 else 3.0 * np.exp(-epoch / 9) * rng.uniform(0.7, 1.4),
            }
        )
        full = epoch in full_epochs("log", epochs)
        for site, kind in enumerate(kinds):
            share = born + (dead - born) * (1 - np.exp(-epoch / 5)) * (0.4 + 0.4 * site)
            share = 1.0 if fate == "stuck" and site == 2 else min(share, 1.0)
            width = 16 if kind == "conv" else 64
            norm = 0.02 * factor ** (len(kinds) - 1 - site) * np.exp(-epoch / 12) * rng.uniform(0.8, 1.25)
            tables["layers"].append(
                {
                    "trial": trial,
                    "epoch": float(epoch),
                    "step": epoch * STEPS,
                    "site": float(site),
                    "site_name": f"{3 * site + 1}.{kind}",
                    "kind": kind,
                    "width": width,
                    "dead_fraction": round(share * width) / width,
                    "off_fraction": round(share * width) / width,
                    "starved_fraction": round(share * width) / width if epoch else np.nan,
                    "zero_fraction": zero,
                    "pre_std": 1.0 + 0.1 * site,
                    "effective_rank": 20.0 - site - 5 * share + rng.normal(0, 0.3) if full else np.nan,
                    "update_ratio": 0.01 * np.exp(-epoch / 8) * rng.uniform(0.8, 1.25) if full and epoch else np.nan,
                    "learned_slope_mean": 0.25 + 0.01 * epoch * rng.normal(1, 0.2) if label == "prelu" else np.nan,
                    "backprop_norm": norm
                    if full and not (fate == "stuck" and site < 2 and epoch)
                    else 0.0
                    if full
                    else np.nan,
                }
            )
        tables["layers"].append(
            {"trial": trial, "epoch": float(epoch), "step": epoch * STEPS, "site": np.nan, "site_name": "output"}
        )
    _add_units(tables, trial, kinds, last, rng)
    for epoch in range(last + 1):
        for phase, seconds in (("train", 0.2 * (epoch > 0)), ("measure", 0.03), ("evaluate", 0.01)):
            tables["timing"].append({"stack": "s", "epoch": epoch, "phase": phase, "replicas": 1, "seconds": seconds})
    final = tables["layers"][-len(kinds) - 1 : -1]  # the output's row stands last
    tables["trials"].append(
        {
            "trial": trial,
            "study": "made",
            "seed": seed,
            "dataset": "digits",
            "architecture": "mlp",
            "activation": label,
            "outcome": "diverged" if fate == "diverged" else "finished",
            "diverged_at_step": last * STEPS if fate == "diverged" else np.nan,
            "stuck": fate == "stuck",
            "dead_fraction": np.average([r["dead_fraction"] for r in final], weights=[r["width"] for r in final]),
            "confirmed_dead_fraction": np.nan,
            "classes": 10,
            **extra,
        }
    )


def failed_study() -> Made:
    """One trial failed without a measurement, beside three that finished."""
    study = made_study(("relu", "tanh"), seeds=2, epochs=3, accidents=False)
    trials = study.trials.copy()
    trials.loc[0, ["outcome", "dead_fraction"]] = ["failed", np.nan]
    gone = trials.loc[0, "trial"]
    rest = {name: getattr(study, name)[getattr(study, name)["trial"] != gone] for name in ("epochs", "layers", "units")}
    return replace(study, trials=trials, **rest)


def all_failed() -> Made:
    """Nothing but failed trials."""
    study = made_study(("relu",), seeds=2, epochs=1, accidents=False)
    empty = {name: getattr(study, name).iloc[:0] for name in ("epochs", "layers", "units", "timing")}
    return replace(study, trials=study.trials.assign(outcome="failed", dead_fraction=np.nan), **empty)


def all_diverged() -> Made:
    """Every trial diverged in its first epoch, with nothing finite after birth."""
    study = made_study(("relu", "tanh"), seeds=3, epochs=1, accidents=False)
    epochs = study.epochs.copy()
    numbers = epochs.columns.difference(["trial", "epoch", "step"])
    epochs.loc[epochs["epoch"] > 0, numbers] = np.inf
    return replace(study, trials=study.trials.assign(outcome="diverged"), epochs=epochs)


def hostile_study() -> Made:
    """Names that HTML, LaTeX, Markdown, matplotlib and spreadsheets would each like to run."""
    names = ("=cmd|'/c calc'!A1:x", "<script>alert(1)</script>:y", r"$\undefined_{x}$ & 50% #~^:z", "relu")
    study = made_study(names, seeds=2, epochs=2, accidents=False)
    return replace(
        study,
        name="<b>study</b>",
        config={"study": "</pre><script>alert(2)</script>"},
        provenance={"host": "<img src=http://example.org/x>"},
        config_text="# <i>why</i>?\nstudy: x",
    )


STUDIES = {
    "ordinary": made_study,
    "facets": lambda: made_study(("relu", "sigmoid", "tanh"), 4, 6, ("dense",) * 3, "architecture.depth", (2, 4, 8)),
    "data_sets": lambda: made_study(
        ("relu", "elu", "tanh"),
        3,
        3,
        ("dense",) * 2,
        "dataset",
        ("digits", "mnist", "kmnist", "svhn", "cifar10", "usps"),
    ),
    "convolutional": lambda: made_study(("relu", "elu"), 4, 5, ("conv", "conv", "dense")),
    "one_seed": lambda: made_study(seeds=1, epochs=3, accidents=False),
    "one_activation": lambda: made_study(("relu",), 4, 3),
    "one_activation_facets": lambda: made_study(
        ("relu",), 4, 4, ("dense",) * 4, "train.optimizer.lr", (0.01, 0.1, 1.0)
    ),
    "no_baseline": lambda: made_study(("elu", "tanh"), 3, 3, baseline=None),
    "untrained": lambda: made_study(epochs=0, accidents=False),
    "network_metrics": lambda: made_study(seeds=3, epochs=3, layers=pd.DataFrame(), units=pd.DataFrame()),
    "failed": failed_study,
    "all_failed": all_failed,
    "all_diverged": all_diverged,
    "hostile": hostile_study,
    "mixed_axis": lambda: made_study(("relu", "tanh"), 3, 3, ("dense",) * 2, "init.gain", ("auto", 1.0, np.nan)),
    "many_facets": lambda: made_study(
        ("relu", "tanh"), 2, 2, ("dense",), "train.lr", tuple(i / 10 for i in range(1, 16))
    ),
}


CAUSES = ("bias", "weights", "input", "mixed", None)


def _add_units(
    tables: dict[str, list[dict[str, Any]]], trial: str, kinds: tuple[str, ...], last: int, rng: np.random.Generator
) -> None:
    """Units whose dead ones at the end are as many as the last row of `layers` says; a few more that came back."""
    rows = tables["layers"][-len(kinds) - 1 : -1]  # the output's row stands last
    for site, row in enumerate(rows):
        dead = round(row["dead_fraction"] * row["width"])
        for unit in range(row["width"]):
            is_dead, came_back = unit < dead, unit == dead and dead > 0 and last > 1
            silent = is_dead and unit % 3 == 0
            born = is_dead and unit % 4 == 0
            died = STEPS * (1 + unit % max(last, 1)) if (is_dead and not born and last) or came_back else np.nan
            tables["units"].append(
                {
                    "trial": trial,
                    "site": site,
                    "unit": unit,
                    "born_dead": born or (is_dead and not last),
                    "died_at_step": died,
                    "revived": int(came_back),
                    "dead_since_step": (0.0 if born or not last else died) if is_dead else np.nan,
                    "dead_at_end": is_dead,
                    "confirmed_dead": silent,
                    "firing_rate": 0.0 if is_dead else rng.uniform(0.05, 0.95),
                    "cause": CAUSES[unit % 5] if died == died else None,
                    "spike": bool(unit % 7 == 0) if died == died else None,
                    "slope_ratio": 0.0 if is_dead else rng.uniform(0.9, 1.0),
                    "activity": 0.0 if is_dead else rng.exponential(),
                    "responds_after": np.nan
                    if is_dead and unit % 3 == 0
                    else float(rng.geometric(0.02 if is_dead else 0.5)),
                }
            )
