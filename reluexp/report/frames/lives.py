"""The lives of units, summarised by trial: fates, deaths for good over time, causes of deaths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reluexp.report.panels import joined
from reluexp.stats import Results, can_die, other_axes
from reluexp.stats.memory import remembered

__all__ = ["CAUSES", "FATES", "cause_sentences", "causes", "fates", "lasting_deaths", "starved_and_dead", "with_sites"]

FATES = {
    "never": "never dead",
    "revived": "died, alive at the end",
    "died": "died, dead at the end",
    "born_revived": "born dead, alive at the end",
    "born_dead": "born dead, dead at the end",
}
"""what can become of a unit; the five exclude each other"""

CAUSES = {
    "bias": "bias drift",
    "weights": "change of incoming weights",
    "input": "change of the input",
    "mixed": "several together",
    "below": "whole site below dead",
    "unexplained": "not explained",
}
"""causes of a death in words (DESIGN §8)"""


@remembered
def with_sites(study: Results) -> pd.DataFrame:
    """The units of trials that did not fail, with setting, seed, and the name and kind of their site.

    Empty where units were not followed, as with `probe.metrics: network`.
    """
    units, layers = study.units, study.layers
    if units.empty or "born_dead" not in units or layers.empty:
        return pd.DataFrame({"trial": []})
    keys = ["trial", "site"]
    sites = layers.loc[layers["site"].notna(), [*keys, "site_name", "kind"]].drop_duplicates(keys)
    return joined(study, units).merge(sites, on=keys, how="left")


@remembered
def fates(study: Results) -> pd.DataFrame:
    """Share of a trial's units with each fate: setting, seed, trial, kind, units, and a column for each of FATES."""
    units = with_sites(study)
    if units.empty:
        return units
    born, dead = units["born_dead"].astype(bool), units["dead_at_end"].astype(bool)
    died = units["died_at_step"].notna()
    flags = {
        "never": ~born & ~died,
        "revived": ~born & died & ~dead,
        "died": ~born & died & dead,
        "born_revived": born & ~dead,
        "born_dead": born & dead,
    }
    keys = ["activation", *other_axes(study), "seed", "trial", "outcome", "kind"]
    grouped = units[keys].assign(units=1.0, **{name: flag.astype(float) for name, flag in flags.items()})
    found = grouped.groupby(keys, sort=False, dropna=False).sum().reset_index()
    found[list(FATES)] = found[list(FATES)].div(found["units"], axis=0)
    return found.assign(units=found["units"].astype(int))


def lasting_deaths(study: Results) -> pd.DataFrame:
    """Share of a trial's units in their final dead spell at each measurement: trial, kind, epoch, step, share.

    Born-dead units that never came to life are in it from step 0; dead spells that ended are not.
    """
    units = with_sites(study)
    if units.empty:
        return pd.DataFrame({"trial": []})
    found = []
    for kind, part in units.groupby("kind", sort=False):
        times = study.layers.loc[study.layers["kind"] == kind, ["trial", "epoch", "step"]].drop_duplicates()
        grid = np.sort(times["step"].unique())
        table = shares_below(part, "dead_since_step", grid, "step", inclusive=True)
        found.append(times.merge(table, on=["trial", "step"]).assign(kind=kind))
    return pd.concat(found, ignore_index=True)


def shares_below(
    units: pd.DataFrame, column: str, grid: np.ndarray, x: str, inclusive: bool = False, by: str = "trial"
) -> pd.DataFrame:
    """For each trial the share of units whose value lies below each point of a sorted grid: trial, x, share, units.

    A value that is null is above everything; `inclusive` counts values at the point too.
    """
    names, codes = np.unique(units[by].to_numpy(str), return_inverse=True)
    values = units[column].to_numpy(float)
    place = np.searchsorted(grid, values, side="left" if inclusive else "right")
    place[np.isnan(values)] = len(grid)
    counts = np.zeros((len(names), len(grid) + 1))
    np.add.at(counts, (codes, place), 1)
    total = counts.sum(1)
    shares = counts[:, :-1].cumsum(1) / total[:, None]
    return pd.DataFrame(
        {
            by: np.repeat(names, len(grid)),
            x: np.tile(grid, len(names)),
            "share": shares.ravel(),
            "units": np.repeat(total.astype(int), len(grid)),
        }
    )


@remembered
def causes(study: Results) -> pd.DataFrame:
    """Deaths counted by setting, site and cause: deaths, trials, and the share of the site's deaths.

    A unit counts once, with the cause of its last death; born-dead units have none, and activations whose derivative
    is never exactly 0 do not die. `trials` are those in which a unit of the site died.
    """
    units = with_sites(study)
    columns = ["activation", *other_axes(study), "site", "site_name", "kind", "cause", "deaths", "trials", "share"]
    if units.empty:
        return pd.DataFrame({column: [] for column in columns})
    dead = units[units["died_at_step"].notna() & units["activation"].map(can_die)]
    keys = columns[: columns.index("cause")]
    rows = dead.assign(cause=dead["cause"].astype(object).where(dead["cause"].notna(), "unexplained"))
    found = rows.groupby([*keys, "cause"], sort=False, dropna=False).size().rename("deaths").reset_index()
    whole = rows.groupby(keys, sort=False, dropna=False)["trial"].agg(["size", "nunique"]).reset_index()
    found = found.merge(whole, on=keys)
    found["trials"], found["share"] = found["nunique"], found["deaths"] / found["size"]
    order = {cause: i for i, cause in enumerate(CAUSES)}
    places = found[["site"]].assign(cause=found["cause"].map(order))
    places.insert(0, "setting", found.groupby(keys[:-3], sort=False, dropna=False).ngroup())
    return found.loc[places.sort_values(["setting", "site", "cause"]).index, columns].reset_index(drop=True)


def cause_sentences(study: Results, frame: pd.DataFrame, name: Any = str) -> list[str]:
    """The commonest cause at each site with deaths, most deaths first: `81 % of deaths in …: bias drift (n = 43 …).`"""
    keys = [*frame.columns[: frame.columns.get_loc("site")], "site"]
    sentences = []
    for _, part in frame.groupby(keys, sort=False, dropna=False):
        top = part.loc[part["deaths"].idxmax()]
        where = "".join(f", {axis.rpartition('.')[2]} = {top[axis]}" for axis in other_axes(study))
        total, nets = int(part["deaths"].sum()), int(top["trials"])
        text = (
            f"{100 * top['share']:.0f} % of deaths in {top['site_name']} ({name(top['activation'])}{where}): "
            f"{CAUSES.get(top['cause'], top['cause'])} (n = {total} {'unit' if total == 1 else 'units'} in {nets} "
            f"{'net' if nets == 1 else 'nets'})."
        )
        sentences.append((total, text))
    return [text for _, text in sorted(sentences, key=lambda pair: -pair[0])]


def starved_and_dead(study: Results, metrics: Sequence[str] = ("starved_fraction", "dead_fraction")) -> pd.DataFrame:
    """For each trial and hidden site the last measurement that has all of the metrics."""
    layers = study.layers
    if layers.empty or not set(metrics) <= set(layers):
        return pd.DataFrame({"trial": []})
    rows = layers[layers["site"].notna() & layers[list(metrics)].notna().all(axis=1)]
    last = rows.sort_values("step", kind="stable").drop_duplicates(["trial", "site"], keep="last")
    return joined(study, last[["trial", "epoch", "step", "site", "site_name", "kind", *metrics]])
