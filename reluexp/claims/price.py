"""What is claimed of cost: that ReLU is cheaper to compute, and whether that matters in a training step."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from reluexp.claims.claim import Evidence, Part
from reluexp.claims.field import Field
from reluexp.stats import Contrast, decide, mean_interval

__all__ = ["cost", "partial_conjunction"]

_CHEAPER, _SIZES, _MATTERS = math.log(1.10), 3, 5.0


def cost(field: Field) -> Evidence:
    """Forward + backward of sigmoid and of tanh above 1.1 times relu's at three of four sizes, over taking turns."""
    table = field.study.cost
    if table.empty:
        return Evidence(missing=["`cost: true` in the config, which times the activations after training"])
    alone = table[table["kind"] == "alone"]
    wide = alone.pivot(index=["elements", "block"], columns="activation", values="seconds")
    parts, missing = [], []
    for rival in ("sigmoid", "tanh"):
        if "relu" in wide and rival in wide and wide.index.get_level_values("elements").nunique() > _SIZES:
            parts.append(_dearer(np.log(wide[rival] / wide["relu"]), rival))
        else:
            missing.append(f"timings of relu and {rival} at four sizes")
    return Evidence(parts, missing, _shares(table))


def _dearer(ratios: pd.Series, rival: str) -> Part:
    contrasts = [
        Contrast(f"{elements:,} numbers", own.to_numpy(float), "greater", _CHEAPER)
        for elements, own in ratios.groupby("elements")
    ]
    decisions = [decide(contrast) for contrast in contrasts]
    against = len(contrasts) - _SIZES + 1
    pair = (
        partial_conjunction([d.p_for for d in decisions], _SIZES),
        partial_conjunction([d.p_against for d in decisions], against),
    )
    return Part(f"time {rival} / relu", contrasts, "ratio", numbers=f"at {_SIZES} sizes or more", p_values=pair)


def partial_conjunction(p_values: list[float], least: int) -> float:
    """p that at least so many of several statements hold (Benjamini & Heller 2008, after Bonferroni).

    >>> partial_conjunction([0.001, 0.002, 0.003, 0.9], 3)
    0.006
    """
    return min(1.0, (len(p_values) - least + 1) * sorted(p_values)[least - 1])


def _shares(table: pd.DataFrame) -> list[str]:
    """What part of a training step each activation takes, and whether that is worth a thought."""
    both = table[table["kind"].isin(["step", "inside"])]
    wide = both.pivot(index=["activation", "block"], columns="kind", values="seconds")
    if wide.empty:
        return []
    notes = []
    for label, share in (wide["inside"] / wide["step"]).groupby("activation", sort=False):
        if label in ("relu", "sigmoid", "tanh"):
            own = mean_interval(share)
            low, high = 100 * own.low, 100 * own.high
            matters = "it matters" if low >= _MATTERS else "it hardly matters" if high < _MATTERS else "near 5 %"
            notes.append(f"{label}: {100 * own.mean:.1f} % of a training step [{low:.1f}, {high:.1f}] ({matters})")
    return notes
