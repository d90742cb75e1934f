"""Curves over trials as a page shows them: means with bands for each line, facet and site, and some single trials.

The same means and bands as in the figures: a pointwise t interval, in logs for metrics on a log axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reluexp.catalogue.metrics import Metric
from reluexp.report.lines import Facet, Lines
from reluexp.report.panels import TIMES
from reluexp.stats import Results, column_intervals, settings

__all__ = ["Curve", "Source", "curve_rows", "curves_of"]


@dataclass(frozen=True)
class Curve:
    """One line of one facet at one site: x, mean, low, high and n, and single trials as (seed, diverged, values)."""

    facet: int
    line: int
    site: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    seeds: list[tuple[int, bool, np.ndarray]] = field(default_factory=list)


class Block(NamedTuple):
    """The trials of one line, facet and site: seeds, which of them diverged, and their values [trial, x]."""

    facet: int
    line: int
    site: str
    seeds: np.ndarray
    lost: np.ndarray
    values: np.ndarray


class Source:
    """The rows of one table as a grid [trial and site, x], sorted by facet, line, site, so that metrics are slices.

    Rows carry trial, x, and, if `by_site`, site, kind and width: then there is a row for all sites of a kind too,
    averaged by their widths. Trials that failed are left out, and rows without a site.
    """

    def __init__(
        self, study: Results, frame: pd.DataFrame, x: str, lines: Lines, facets: Sequence[Facet], by_site: bool = False
    ) -> None:
        trials = _placed(settings(study), lines, facets)
        rows, names = pd.factorize(frame["trial"])
        code = pd.Index(trials["trial"]).get_indexer(names)[rows]
        self.kept, self.frame, self.by_site = code >= 0, frame, by_site
        self.over_time = x in TIMES
        if by_site:
            self.kept &= frame["site"].notna().to_numpy()
        code = code[self.kept]
        places = frame[x].to_numpy(float)[self.kept]
        site = frame["site"].to_numpy(float)[self.kept].astype(int) if by_site else np.zeros(len(code), int)
        self.x, self.column = np.unique(places, return_inverse=True)
        ids, first, self.place = np.unique(
            code * (int(site.max(initial=0)) + 1) + site, return_index=True, return_inverse=True
        )
        index = trials.iloc[code[first]].reset_index(drop=True).assign(site=site[first], kind=0, width=1.0)
        self.kinds = np.array([""])
        if by_site:
            own = frame.loc[self.kept, ["kind", "width"]].iloc[first]
            self.kinds, index["kind"] = np.unique(own["kind"].to_numpy(str), return_inverse=True)
            index["width"] = own["width"].to_numpy(float)
        order = index.sort_values(["facet", "line", "site", "seed", "trial"], kind="stable").index
        self.index = index.loc[order].reset_index(drop=True)
        back = np.empty(len(ids), int)
        back[order] = np.arange(len(ids))
        self.place = back[self.place]

    def matrix(self, metric: Metric) -> np.ndarray:
        """Values [trial and site, x]; in logs for a log axis; NaN where there is none that can be drawn."""
        column = pd.to_numeric(self.frame[metric.name], errors="coerce")
        values = column.to_numpy(float, na_value=np.nan)[self.kept]
        drawn = np.isfinite(values) & ((values > 0) if metric.log else True)
        found = np.full((len(self.index), len(self.x)), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            found[self.place[drawn], self.column[drawn]] = (np.log10(values) if metric.log else values)[drawn]
        return found

    def blocks(self, values: np.ndarray) -> Iterator[Block]:
        """Curves to be: over all sites of a kind first, then site by site."""
        if self.by_site:
            yield from self._whole(values)
        yield from _slices(self.index, "site", values, str if self.by_site else lambda _: "")

    def _whole(self, values: np.ndarray) -> Iterator[Block]:
        order = self.index.sort_values(["facet", "line", "kind", "seed", "trial"], kind="stable")
        keys = order[["facet", "line", "kind", "trial"]]
        starts = np.flatnonzero((keys != keys.shift()).any(axis=1).to_numpy())
        own, weight = values[order.index], order["width"].to_numpy(float)[:, None]
        known = np.isfinite(own)
        with np.errstate(invalid="ignore"):
            means = np.add.reduceat(np.where(known, own * weight, 0.0), starts)
            means = means / np.add.reduceat(known * weight, starts)
        trials = order.iloc[starts].reset_index(drop=True)
        yield from _slices(trials, "kind", means, lambda kind: f"all {self.kinds[kind]}")


def _slices(index: pd.DataFrame, inner: str, values: np.ndarray, name: Callable[[int], str]) -> Iterator[Block]:
    """A block for each run of rows that are equal in facet, line and `inner`."""
    if index.empty:
        return
    keys = index[["facet", "line", inner]].to_numpy(int)
    seeds, lost = index["seed"].to_numpy(), index["lost"].to_numpy(bool)
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)])
    for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
        facet, line, place = keys[start].tolist()
        yield Block(facet, line, name(place), seeds[start:end], lost[start:end], values[start:end])


def _placed(trials: pd.DataFrame, lines: Lines, facets: Sequence[Facet]) -> pd.DataFrame:
    """trial, seed, lost, line and facet of every trial that did not fail and lies in one of the facets."""
    trials = trials[trials["outcome"] != "failed"]
    parts = [facet.of(trials).assign(facet=i) for i, facet in enumerate(facets)]
    kept = pd.concat(parts, ignore_index=True) if parts else trials.iloc[:0].assign(facet=0)
    return pd.DataFrame(
        {
            "trial": kept["trial"],
            "seed": kept["seed"],
            "lost": kept["outcome"].eq("diverged"),
            "line": kept[lines.by].map({value: i for i, value in enumerate(lines.looks)}).astype(int),
            "facet": kept["facet"],
        }
    )


def curves_of(source: Source, metric: Metric, seeds: int = 30) -> Iterator[Curve]:
    """The curves of a metric that have a finite value; at most `seeds` single trials of each, diverged ones first.

    Over epochs a share's diverged trials stay in the mean with their last finite value; other curves end (as in the
    figures).
    """
    if metric.name not in source.frame:
        return
    for facet, line, site, names, lost, values in source.blocks(source.matrix(metric)):
        measured = np.isfinite(values).any(0)
        if not measured.any():
            continue
        kept = values
        if metric.share and source.over_time and lost.any():
            filled = pd.DataFrame(values).ffill(axis=1).to_numpy()
            kept = np.where(lost[:, None], filled, values)
        band = list(column_intervals(kept[:, measured])[:3])
        n = np.isfinite(kept[:, measured]).sum(0)
        if metric.log:
            band = [10**part for part in band]
        elif metric.share:
            band = [band[0], band[1].clip(0, 1), band[2].clip(0, 1)]
        chosen = np.argsort(~lost, kind="stable")[:seeds]
        shown = 10 ** values[:, measured] if metric.log else values[:, measured]
        single = [(int(names[i]), bool(lost[i]), shown[i]) for i in sorted(chosen)]
        yield Curve(facet, line, site, source.x[measured], band[0], band[1], band[2], n, single)


def curve_rows(metric: Metric, curves: Sequence[Curve], lines: Lines, facets: Sequence[Facet], x: str) -> pd.DataFrame:
    """Curves as tidy rows: the line, the facet's axes, site, metric, x, mean, low, high, n."""
    if not curves:
        return pd.DataFrame()
    values, sizes = list(lines.looks), [len(curve.x) for curve in curves]

    def repeated(found: Sequence[Any]) -> np.ndarray:
        return np.repeat(np.array([*found, None], dtype=object)[:-1], sizes)

    axes = list(dict.fromkeys(axis for facet in facets for axis in facet.where))
    about = {
        lines.by: repeated([values[curve.line] for curve in curves]),
        **{axis: repeated([facets[curve.facet].where.get(axis) for curve in curves]) for axis in axes},
        "site": repeated([curve.site for curve in curves]),
        "metric": metric.name,
    }
    numbers = {
        name: np.concatenate([getattr(curve, "x" if name == x else name) for curve in curves])
        for name in (x, "mean", "low", "high", "n")
    }
    return pd.DataFrame({**about, **numbers})
