"""Sentences on what looks wrong in a measurement."""

from __future__ import annotations

import math

import pandas as pd

from reluexp.networks.sites import Site

__all__ = ["suspicions"]

_VANISHED = 1e-3


def suspicions(layers: pd.DataFrame, sites: list[Site]) -> list[str]:
    """What is suspicious in the last measurement of a table `layers`, the worst first.

    Dead layers, layers more than half dead, saturated ones, numbers that are not finite, and a gradient that has shrunk
    by more than 10³ between two sites with live units, or to nothing.
    """
    if not sites:
        return [
            "no activation was seen: a function written out by hand counts if it is marked by reluexp.layers.activate"
        ]
    if layers.empty:
        return []
    last = layers[layers["step"] == layers["step"].iloc[-1]].tail(len(sites) + 1).iloc[: len(sites)]
    weighed = [site.weighed for site in sites]
    last = last[weighed] if any(weighed) else last  # and not masks of the inputs
    step = int(last["step"].iloc[0])
    found = [*_unsound(last, step), *_dead(last, step), *_blocked(last, step), *_vanishing(last, step)]
    return [sentence for _, sentence in sorted(found, key=lambda pair: pair[0])]


def _unsound(last: pd.DataFrame, step: int) -> list[tuple[int, str]]:
    empty = last["dead_fraction"].isna()
    unsound = last[~last["pre_mean"].map(math.isfinite) & ~empty]
    found = [(1, f"{name}: no sample came here at step {step}") for name in last.loc[empty, "site_name"]]
    if unsound.empty:
        return found
    return [(0, f"{unsound['site_name'].iloc[0]}: pre-activations are not finite at step {step}"), *found]


def _dead(last: pd.DataFrame, step: int) -> list[tuple[int, str]]:
    found = []
    for _, row in last.iterrows():
        width, share = int(row["width"]), float(row["dead_fraction"])
        if share == 1:
            found.append((1, f"{row['site_name']}: all {width} units are dead at step {step}; no gradient passes here"))
        elif share > 0.5:
            dead = round(share * width)
            found.append((2, f"{row['site_name']}: {dead} of {width} units ({share:.0%}) are dead at step {step}"))
        if row["saturated_fraction"] == 1 and share < 1:
            found.append((2, f"{row['site_name']}: all {width} units are saturated at step {step}"))
    return found


def _blocked(last: pd.DataFrame, step: int) -> list[tuple[int, str]]:
    """Sites that no gradient reaches, other than through a dead layer, of which is told already."""
    dead = last.loc[last["dead_fraction"] == 1, "site"]
    none = last[(last["backprop_norm"] == 0) & (last["site"] > (dead.max() if len(dead) else -1))]
    if none.empty:
        return []
    final = none.iloc[-1]
    before = last[last["site"] < final["site"]]
    more = " or what comes before it" if len(before) and before["backprop_norm"].eq(0).all() else ""
    return [(1, f"no gradient reaches {final['site_name']}{more} at step {step}")]


def _vanishing(last: pd.DataFrame, step: int) -> list[tuple[int, str]]:
    alive = last[(last["dead_fraction"] < 1) & (last["backprop_norm"] > 0)]
    if len(alive) < 2:
        return []
    first, final = alive.iloc[0], alive.loc[alive["backprop_norm"].idxmax()]
    ratio = float(first["backprop_norm"] / final["backprop_norm"])
    if ratio >= _VANISHED or first["site"] >= final["site"]:
        return []
    names = f"from {final['site_name']} back to {first['site_name']}"
    return [(3, f"the gradient vanishes: it shrinks by 10^{math.log10(ratio):.1f} {names} at step {step}")]
