"""The lives of units, summarised by trial: fates, deaths for good over time, causes of deaths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reluexp.plain import counted
from reluexp.report.lines import joined
from reluexp.stats import Results, dying, other_axes, setting_name, survival_of
from reluexp.stats.memory import remembered

__all__ = [
    "CAUSES",
    "FATES",
    "cause_sentences",
    "causes",
    "deaths",
    "fates",
    "followed",
    "lasting_deaths",
    "shares_below",
    "starved_and_dead",
    "survival_curves",
]

_MOST = 2000

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


def followed(study: Results) -> bool:
    """Whether units were followed: not so with `probe.metrics: network`, and before any trial has ended."""
    return len(study.units) > 0 and "born_dead" in study.units and len(study.layers) > 0


@remembered
def sites_of(study: Results) -> pd.DataFrame:
    """The hidden sites of every trial: trial, site, site_name, kind."""
    layers = study.layers
    first = layers["site"].notna() & ~layers.duplicated(["trial", "site"])
    rows = layers.loc[first, ["trial", "site", "site_name", "kind"]]
    return rows.astype({"site": int}).reset_index(drop=True)


@remembered
def unit_keys(study: Results) -> pd.DataFrame:
    """For each row of `units` the trial as a category, and the kind of its site as one: small, whatever the study."""
    units, sites = study.units, sites_of(study)
    trials = pd.Index(sites["trial"].unique())
    places, names = pd.factorize(units["trial"])
    rows = trials.get_indexer(names)[places]
    kinds = pd.Categorical(sites["kind"])
    table = np.full((len(trials) + 1, int(sites["site"].max()) + 1), -1, dtype=np.int8)
    table[trials.get_indexer(sites["trial"]), sites["site"]] = kinds.codes
    codes = table[rows, units["site"].to_numpy(int)]
    return pd.DataFrame(
        {
            "trial": pd.Categorical.from_codes(rows, categories=trials),
            "kind": pd.Categorical.from_codes(codes, categories=kinds.categories),
        }
    )


@remembered
def fates(study: Results) -> pd.DataFrame:
    """Share of a trial's units with each fate: setting, seed, trial, kind, units, and a column for each of FATES."""
    if not followed(study):
        return pd.DataFrame({"trial": []})
    units = study.units
    born, dead = units["born_dead"].to_numpy(bool), units["dead_at_end"].to_numpy(bool)
    died = units["died_at_step"].notna().to_numpy()
    fate = np.where(born, np.int8(3) + dead, (np.int8(1) + dead) * died)  # their places in FATES
    about, counts = _counted(unit_keys(study), fate, len(FATES))
    shares = pd.DataFrame(counts / counts.sum(1, keepdims=True), columns=list(FATES))
    return joined(study, pd.concat([about.assign(units=counts.sum(1)), shares], axis=1))


def _places(values: np.ndarray, grid: np.ndarray, inclusive: bool) -> np.ndarray:
    """The first point of the grid that each value is below; the grid's length where there is none, and for NaN."""
    place = np.searchsorted(grid, values, side="left" if inclusive else "right").astype(np.int32)
    place[np.isnan(values)] = len(grid)
    return place


def _counted(keys: pd.DataFrame, place: np.ndarray, width: int) -> tuple[pd.DataFrame, np.ndarray]:
    """How many units of each trial and kind of site are at each of so many places: trial and kind, counts [row, place].

    `keys` is `unit_keys`; trials and kinds without units have no row.
    """
    trials, kinds = keys["trial"].cat, keys["kind"].cat
    rows = trials.codes.to_numpy(np.int32) * np.int32(
        len(kinds.categories)
    )  # half of int64: there are millions of units
    rows = (rows + kinds.codes.to_numpy()) * np.int32(width)
    rows += place.astype(np.int32, copy=False)
    size = len(trials.categories) * len(kinds.categories)
    counts = np.bincount(rows, minlength=size * width).reshape(size, width)
    kept = np.flatnonzero(counts.sum(1))
    about = {
        "trial": trials.categories.to_numpy(object)[kept // len(kinds.categories)],
        "kind": kinds.categories.to_numpy(object)[kept % len(kinds.categories)],
    }
    return pd.DataFrame(about), counts[kept]


@remembered
def survival_curves(study: Results) -> pd.DataFrame:
    """Curves of lasting death, as `Study.survival` gives them, and kept, kept_low, kept_high: the share that is left.

    That is Kaplan and Meier's estimate where no trial diverged, else what the cumulative incidence of death leaves.
    Empty where units were not followed, and for more trials than 2,000: resampling them takes longer than the report.
    """
    if len(study.trials) > _MOST or not followed(study) or "dead_since_step" not in study.units or study.epochs.empty:
        return pd.DataFrame()
    found = survival_of(study).curves
    return found.assign(kept=1 - found["died"], kept_low=1 - found["died_high"], kept_high=1 - found["died_low"])


def lasting_deaths(study: Results) -> pd.DataFrame:
    """Share of a trial's units in their final dead spell at each measurement: trial, kind, epoch, step, share.

    Born-dead units that never came to life are in it from step 0; dead spells that ended are not.
    """
    if not followed(study):
        return pd.DataFrame({"trial": []})
    layers = study.layers
    first = layers["site"].eq(layers["site"].groupby([layers["trial"], layers["kind"]]).transform("min"))
    times = layers.loc[first, ["trial", "kind", "epoch", "step"]]
    grid = np.sort(times["step"].unique())
    table = shares_below(study, "dead_since_step", grid, "step", inclusive=True)
    return times.merge(table, on=["trial", "kind", "step"])


def shares_below(study: Results, column: str, grid: np.ndarray, x: str, inclusive: bool = False) -> pd.DataFrame:
    """For each trial and kind of site the share of units below each point of a sorted grid: trial, kind, x, share.

    A value that is null is above everything; `inclusive` counts values at the point too.
    """
    place = _places(study.units[column].to_numpy(float, na_value=np.nan), grid, inclusive)
    about, counts = _counted(unit_keys(study), place, len(grid) + 1)
    shares = counts[:, :-1].cumsum(1) / counts.sum(1, keepdims=True)
    found = about.loc[about.index.repeat(len(grid))].reset_index(drop=True)
    return found.assign(**{x: np.tile(grid, len(about)), "share": shares.ravel()})


def deaths(study: Results, column: str) -> pd.DataFrame:
    """The units that died in training, of activations that can: setting, trial, site and a column of `units`."""
    units = joined(study, study.units.loc[study.units["died_at_step"].notna(), ["trial", "site", column]])
    return units[units["activation"].isin(dying(study))]


@remembered
def causes(study: Results) -> pd.DataFrame:
    """Deaths counted by setting, site and cause: deaths, trials, and the share of the site's deaths.

    A unit counts once, with the cause of its last death; born-dead units have none, and activations whose derivative
    is never exactly 0 do not die. `trials` are those in which a unit of the site died.
    """
    columns = ["activation", *other_axes(study), "site", "site_name", "kind", "cause", "deaths", "trials", "share"]
    if not followed(study):
        return pd.DataFrame({column: [] for column in columns})
    dead = deaths(study, "cause").merge(sites_of(study), on=["trial", "site"])
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
        top, *equal = part[part["deaths"] == part["deaths"].max()].to_dict("records")
        told = ", as many: ".join(CAUSES.get(own["cause"], own["cause"]) for own in [top, *equal])
        where = f", {setting_name(study, top)}" if other_axes(study) else ""
        total, nets = int(part["deaths"].sum()), int(top["trials"])
        text = (
            f"{100 * top['share']:.0f} % of deaths in {top['site_name']} ({name(top['activation'])}{where}): "
            f"{told} (n = {counted(total, 'unit')} in {counted(nets, 'net')})."
        )
        sentences.append((total, text))
    return [text for _, text in sorted(sentences, key=lambda pair: -pair[0])]


def starved_and_dead(study: Results, metrics: Sequence[str] = ("starved_fraction", "dead_fraction")) -> pd.DataFrame:
    """For each trial and hidden site the last measurement that has all of the metrics."""
    layers = study.layers
    if layers.empty or not set(metrics) <= set(layers):
        return pd.DataFrame({"trial": []})
    known = layers["site"].notna() & layers[list(metrics)].notna().all(axis=1)
    step = layers["step"].where(known)
    last = known & (step == step.groupby([layers["trial"], layers["site"]]).transform("max"))
    return joined(study, layers.loc[last, ["trial", "epoch", "step", "site", "site_name", "kind", *metrics]])
