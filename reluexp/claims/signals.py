"""What is claimed of signals: sparsity, gradients through depth, bounded and self-normalising outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from reluexp.catalogue.inits import INITS
from reluexp.catalogue.registry import is_own
from reluexp.claims.claim import Evidence, Part
from reluexp.claims.field import Field, Group
from reluexp.claims.largest import median_of, ratio_contrast, smaller_than
from reluexp.stats import Contrast, mean_interval, over_sites

__all__ = ["gradient", "selu", "sparsity", "unbounded"]

_AUTO, _SMALL, _LONG = "auto", 1000, 100


def sparsity(field: Field) -> Evidence:
    """Zeros of units that are not dead above 0.30 at the end, and more than at birth."""
    home = field.home("relu")
    if home is None:
        return Evidence(missing=["relu in the base setting"])
    live = field.study.layers
    rows = over_sites(live, "zero_fraction_live") if "zero_fraction_live" in live else pd.DataFrame()
    if rows.empty:
        return Evidence(missing=["measurements of zero_fraction_live (probe.metrics full or basic)"])
    ordered = rows.sort_values("step").groupby("trial")["zero_fraction_live"]
    end = {str(k): float(v) for k, v in ordered.last().items()}
    change = {str(k): float(v) for k, v in (ordered.last() - ordered.first()).items()}
    known = not is_own(home.setting.architecture)  # elsewhere it is not known what stands between sites
    skip = mean_interval(100 * field.single(home, "relu", _skippable(live))).mean if known else math.nan
    note = f"{skip:.0f} % of the multiply-adds of the layers after the first have a zero factor"
    return Evidence(
        [
            Part(f"zeros of live units at the end ({home.about})",
                 [Contrast("zeros", field.single(home, "relu", end), "greater", 0.30)], "%", 100),
            Part(f"their change since birth ({home.about})",
                 [Contrast("change", field.single(home, "relu", change), "greater", 0.0)], "points", 100),
        ],
        notes=[] if math.isnan(skip) else [note],
    )  # fmt: skip


def _skippable(layers: pd.DataFrame) -> dict[str, float]:
    """Share of the multiply-adds that hidden activations enter whose factor is 0: widths of both ends as weights.

    Of trials with dense layers alone; elsewhere widths do not tell how often a value is used.
    """
    rows = layers[layers["step"] == layers.groupby("trial")["step"].transform("max")]
    rows = rows.sort_values(["trial", "site"])  # the output comes last
    after = rows.groupby("trial")["width"].shift(-1)
    rows = rows.assign(weight=rows["width"].astype(float) * after.astype(float))[rows["site"].notna()]
    dense = rows["kind"].eq("dense").groupby(rows["trial"]).transform("all")
    sums = rows.assign(total=rows["zero_fraction"] * rows["weight"])[dense].groupby("trial")[["total", "weight"]].sum()
    return {str(k): float(v) for k, v in (sums["total"] / sums["weight"]).items()}


def lost_per_layer(rows: pd.DataFrame) -> float:
    """Decades of backprop norm lost per layer on the way back: the least-squares slope over the sites.

    inf where the gradient vanished altogether, with a norm of 0 at some site.
    """
    norm = rows["backprop_norm"].to_numpy(float)
    if len(norm) < 2:
        return math.nan
    if (norm <= 0).any():
        return math.inf
    return float(np.polyfit(np.arange(len(norm)), np.log10(norm), 1)[0])


def gradient(field: Field) -> Evidence:
    """Sigmoid and tanh lose 0.05 decades per layer more than relu: at birth and after an epoch, under both gains."""
    parts, missing = [], []
    for gain, meets in (("auto gain", lambda v: v == _AUTO), ("a common gain", lambda v: v != _AUTO)):
        for rival in ("sigmoid", "tanh"):
            found = field.where("relu", rival, architecture__depth=16, init__gain=meets)
            found = [group for group in found if INITS[group.setting.init.name].uses_gain]
            if not found:
                missing.append(f"relu and {rival} at depth 16 with {gain}")
            for when, at in (("at birth", "birth"), ("after an epoch", "epoch 1")):
                for group in found[:1]:
                    parts.append(_loss(field, group, rival, at, f"{rival} − relu {when}, {gain}"))
    return Evidence(parts, missing)


def _loss(field: Field, group: Group, rival: str, at: str, label: str) -> Part:
    lost = field.sites("backprop_norm", lost_per_layer, at)
    values, both = field.paired(group, rival, "relu", lost), field.neither(group, rival, "relu", lost)
    own = {name: field.single(group, name, lost) for name in (rival, "relu")}
    wholly = [f"{name} {np.isinf(found).sum()} of {len(found)}" for name, found in own.items()]
    some = any(np.isinf(found).any() for found in own.values())
    numbers = f"vanished altogether: {', '.join(wholly)}" if some else ""
    return Part(label, [Contrast(rival, values, "greater", 0.05, both)], "decades per layer", numbers=numbers)


def worst_spread(rows: pd.DataFrame) -> float:
    """The site farthest from standard deviation 1, in doublings."""
    with np.errstate(divide="ignore"):
        return float(np.abs(np.log2(rows["post_std"].to_numpy(float))).max())


def worst_mean(rows: pd.DataFrame) -> float:
    """The site farthest from mean 0."""
    return float(np.abs(rows["post_mean"].to_numpy(float)).max())


def selu(field: Field) -> Evidence:
    """With lecun_normal at depth 16: every site's deviation within 0.29 doublings of 1 and mean within 0.1 of 0."""
    found = field.where("selu", architecture__depth=16, init__name="lecun_normal")
    if not found:
        return Evidence(missing=["selu with lecun_normal at depth 16"])
    group, parts = found[0], []
    for when, at in (("at birth", "birth"), ("at the end", "end")):
        for label, column, reduce, limit in (
            ("farthest deviation", "post_std", worst_spread, 0.29),
            ("farthest mean", "post_mean", worst_mean, 0.1),
        ):
            values = field.single(group, "selu", field.sites(column, reduce, at))
            unit = "doublings" if column == "post_std" else ""
            parts.append(Part(f"{label} {when} ({group.about})", [Contrast(label, values, "less", limit)], unit))
    return Evidence(parts)


def largest_output(rows: pd.DataFrame) -> float:
    """The largest 99.9 % quantile of a site's outputs."""
    return float(rows["post_q999"].max())


def unbounded(field: Field) -> Evidence:
    """Against relu6: outputs grow twice as much, divergence at half the rate, a gap of losses wider by 0.05 nats."""
    parts, missing = [], []
    home = field.home("relu", "relu6")
    if home:
        birth, end = (field.sites("post_q999", largest_output, at) for at in ("birth", "end"))
        growth = {k: math.log(end[k] / birth[k]) for k in end if birth.get(k, 0) > 0 and end[k] > 0}
        values = field.paired(home, "relu", "relu6", growth)
        contrast = Contrast("growth", values, "greater", math.log(2))
        parts.append(Part(f"growth of outputs relu / relu6 ({home.about})", [contrast], "ratio"))
    else:
        missing.append("relu and relu6 in the base setting")
    return _instability(field, parts, missing)


def _instability(field: Field, parts: list[Part], missing: list[str]) -> Evidence:
    rates = [
        field.alike(group, "train.optimizer.lr", "relu", "relu6") for group in field.where("relu", "relu6", tuned=False)
    ]
    series = max(rates, key=len, default={})
    if len(series) >= 4:
        outcomes = dict(zip(field.study.trials["trial"], field.study.trials["outcome"], strict=True))
        own, other = (_largest_rate(series, label, outcomes) for label in ("relu", "relu6"))
        numbers = f"median: relu {median_of(own, series)}, relu6 {median_of(other, series)}"
        label = f"largest stable rate, log₂ relu6 / relu, of {min(series):g} to {max(series):g}"
        contrast = ratio_contrast("rate", other, own, series, 0.5)
        parts.append(Part(label, [contrast], "doublings", numbers=numbers))
    else:
        missing.append("relu and relu6 at four learning rates or more, all else equal")
    small = field.where("relu", "relu6", dataset__train_size=_SMALL, train__epochs=_LONG)
    if small:
        test, probe = field.metric("test_loss"), field.metric("probe_loss")
        gap = {k: test[k] - probe[k] for k in test}
        values = field.paired(small[0], "relu", "relu6", gap)
        parts.append(
            Part(f"gap of losses relu − relu6 ({small[0].about})", [Contrast("gap", values, "greater", 0.05)], "nats")
        )
    else:
        missing.append(f"relu and relu6 with dataset.train_size {_SMALL} and {_LONG} epochs")
    return Evidence(parts, missing)


def _largest_rate(series: dict[Any, Group], label: str, outcomes: dict[str, str]) -> dict[int, float]:
    """The rate up to which no net of a seed diverged; half the smallest for none."""
    found = {}
    for seed in set.intersection(*(set(group.trials[label]) for group in series.values())):
        stable = smaller_than(series)
        for rate in sorted(series):
            if outcomes[series[rate].trials[label][seed]] == "diverged":
                break
            stable = rate
        found[seed] = stable
    return found
