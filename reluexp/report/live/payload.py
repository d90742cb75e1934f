"""The data of the page's figures that can be explored, as one compact JSON text."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from reluexp.catalogue.metrics import METRICS, Metric
from reluexp.report.frames.across import profiles
from reluexp.report.frames.choices import (
    dormant_shares,
    firing_rates,
    numeric_axis,
    over_axis,
    probe_shares,
    saturated_shares,
)
from reluexp.report.frames.lives import lasting_deaths, survival_curves
from reluexp.report.lines import Facet, Lines, facets_of, faint_limit, joined, lines_of, own_setting
from reluexp.report.live.curves import Curve, Source, curve_rows, curves_of
from reluexp.stats import Results, aggregate, axis_names, dying, final_metrics, other_axes, outcomes_told

__all__ = ["Live", "live_data", "packed"]

_EPOCHS = ("test_accuracy", "train_accuracy", "test_loss", "train_loss", "grad_norm")
_LAYERS = (
    *("dead_fraction", "off_fraction", "starved_fraction", "dormant_fraction", "zero_fraction", "hoyer_sparsity"),
    *("mean_shift", "effective_rank", "pre_std", "backprop_norm", "update_ratio", "learned_slope_mean"),
)
_FINALS = (
    *("test_accuracy", "test_loss", "train_accuracy", "dead_fraction", "born_dead_fraction", "off_fraction"),
    *("zero_fraction", "grad_norm"),
)
_FACETS = 12  # settings to choose from in a chart
_DOTS = 3000  # trials in a figure of dots; more would not be told apart
_MANY = 200  # trials from which single ones are shown over all sites only


@dataclass
class Live:
    """What the page explores: the JSON of it, and the same numbers as a tidy frame."""

    content: dict[str, Any]
    frames: list[pd.DataFrame] = field(default_factory=list)

    @property
    def frame(self) -> pd.DataFrame:
        """Every mean and band in the page, one row each."""
        kept = [frame for frame in self.frames if len(frame)]
        return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame()


def live_data(study: Results) -> Live:
    """Everything that the page's figures can show, with at most 12 facets and 30 single trials of each line."""
    lines = lines_of(study)
    facets, _ = facets_of(study, _FACETS)
    content: dict[str, Any] = {
        "lines": [
            {
                "label": label,
                "colour": colour,
                "dash": _dash(dashes),
                "dies": lines.by != "activation" or value in dying(study),
            }
            for value, (label, colour, dashes) in lines.looks.items()
        ],
        "facets": [_literal(facet.title) or "all" for facet in facets],
        "start": next((i for i, facet in enumerate(facets) if facet.where == own_setting(study, facet.where)), 0),
        "sites": _sites(study.layers),
        "sets": {},
        "finals": {},
    }
    live = Live(content)
    if study.trials.empty or not facets:
        return live
    _add_epochs(live, study, lines, facets)
    _add_layers(live, study, lines, facets)
    _add_survival(live, study, lines, facets)
    _add_choices(live, study, lines, facets)
    _add_profiles(live, study, lines)
    content["finals"] = _finals(study, lines, facets)
    return live


def packed(content: Any) -> str:
    """JSON, gzipped, in base64: a page's script takes it apart again. The same bytes for the same content."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def _add_epochs(live: Live, study: Results, lines: Lines, facets: Sequence[Facet]) -> None:
    epochs = study.epochs
    if epochs.empty:
        return
    source = Source(study, epochs, "epoch", lines, facets)
    _add(live, "epochs", source, _of(_EPOCHS), lines, facets, "epoch", "epoch")


def _add_layers(live: Live, study: Results, lines: Lines, facets: Sequence[Facet]) -> None:
    layers = study.layers
    if layers.empty or "site" not in layers or not layers["site"].notna().any():
        return
    source = Source(study, layers, "epoch", lines, facets, by_site=True)
    _add(live, "layers", source, _of(_LAYERS), lines, facets, "epoch", "epoch")
    lasting = lasting_deaths(study)
    if len(lasting):
        places = pd.factorize(lasting["kind"])[0]
        source = Source(study, lasting.assign(site=places, width=1), "epoch", lines, facets, by_site=True)
        metric = Metric("share", "units dead for good", share=True)
        _add(live, "lasting", source, (metric,), lines, facets, "epoch", "epoch", whole=True)


def _add_survival(live: Live, study: Results, lines: Lines, facets: Sequence[Facet]) -> None:
    """The share of units that has not died, as stairs."""
    frame = survival_curves(study)
    trials = joined(study, study.trials[["trial"]])
    curves = []
    for place, facet in enumerate(facets):
        rows = facet.of(frame) if len(frame) else frame
        for line, value in enumerate(lines.looks):
            own = rows[rows[lines.by] == value] if len(rows) else rows
            if own.empty:
                continue
            names = ("step", "kept", "kept_low", "kept_high")
            step, mean, low, high = (own[name].to_numpy(float) for name in names)
            count = int(facet.of(trials)[lines.by].eq(value).sum())
            curves.append(Curve(place, line, "", step, mean, low, high, np.full(len(own), count)))
    if curves:
        shown = {"label": "units not yet dead for good", "log": False, "share": True, "curves": _packed(curves)}
        live.content["sets"]["survival"] = {"x": "training step", "stairs": True, "metrics": {"survival": shown}}


def _add_choices(live: Live, study: Results, lines: Lines, facets: Sequence[Facet]) -> None:
    share = (Metric("share", "share of units", share=True),)
    makers: dict[str, tuple[Callable[[Results], pd.DataFrame], str, str]] = {
        "saturated": (saturated_shares, "threshold", "threshold"),
        "dormant": (dormant_shares, "threshold", "threshold"),
        "probe": (probe_shares, "samples", "samples in the probe"),
        "firing": (firing_rates, "rate", "firing rate at most"),
    }
    for name, (make, x, label) in makers.items():
        if len(frame := make(study)):
            kinds = frame["kind"]
            source = Source(study, frame.assign(site=pd.factorize(kinds)[0], width=1), x, lines, facets, by_site=True)
            _add(live, name, source, share, lines, facets, x, label, seeds=0, whole=True)
    sets = live.content["sets"]
    for name in ("dormant", "saturated"):  # to choose from in one chart
        if own := sets.pop(name, None):
            shown = sets.setdefault("thresholds", {**own, "metrics": {}})["metrics"]
            shown[name] = {**own["metrics"]["share"], "label": f"{name} units"}
    axis = numeric_axis(study)
    if axis is not None and lines.by == "activation":
        _add_axis(live, study, axis, lines)


def _add_profiles(live: Live, study: Results, lines: Lines) -> None:
    """Performance profiles, where there is one picture of them."""
    frame = profiles(study)
    if frame.empty or frame.columns[0] != "activation":
        return
    rows = frame[frame["metric"] == "test_accuracy"]
    runs = final_metrics(study).groupby("activation")["test_accuracy"].count()
    curves = []
    for line, value in enumerate(lines.looks):
        own = rows[rows["activation"] == value]
        score, share, low, high = (own[name].to_numpy(float) for name in ("score", "share", "low", "high"))
        if len(own):
            curves.append(Curve(0, line, "", score, share, low, high, np.full(len(own), runs[value])))
    shown = {"label": "runs above it", "log": False, "share": True, "curves": _packed(curves)}
    live.content["sets"]["profiles"] = {"x": "test accuracy", "xshare": True, "metrics": {"share": shown}}


def _add_axis(live: Live, study: Results, axis: str, lines: Lines) -> None:
    """Final metrics against an axis, where it is the only one besides the activation: nothing is averaged over."""
    if other_axes(study) != [axis]:
        return
    final = over_axis(study, axis).drop(columns=["outcome", "seed", "activation"])
    rows = final.rename(columns={axis: "_x"})
    metrics = [replace(METRICS[name], label=_at_end(name), log=False) for name in _FINALS]
    source = Source(study, rows, "_x", lines, [Facet("", {})])
    _add(live, "axis", source, metrics, lines, [Facet("", {})], axis, axis_names([axis])[axis], seeds=30)


def _add(
    live: Live,
    name: str,
    source: Source,
    metrics: Iterable[Metric],
    lines: Lines,
    facets: Sequence[Facet],
    x: str,
    label: str,
    seeds: int = 30,
    whole: bool = False,
) -> None:
    """One set of curves: its metrics, each with the curves of every line, facet and site."""
    made = {}
    many = source.index["trial"].nunique() > _MANY
    seeds = min(seeds, faint_limit(len(facets) * len(lines.looks), whole=900))
    for metric in metrics:
        curves = [curve for curve in curves_of(source, metric, seeds) if not whole or curve.site.startswith("all ")]
        if not curves:
            continue
        log = bool(metric.log)
        made[metric.name] = {
            "label": metric.label,
            "log": log,
            "share": metric.share,
            "curves": _packed(curves, lambda curve: not many or not curve.site.isdigit()),
        }
        live.frames.append(curve_rows(metric, curves, lines, facets, "x").assign(figure=name, x_is=x))
    if made:
        live.content["sets"][name] = {"x": label, "metrics": made}


def _packed(curves: Sequence[Curve], single: Callable[[Curve], bool] = lambda _: False) -> list[dict[str, Any]]:
    """Curves as the page's script takes them, with their single trials where `single` says so."""
    trials = [curve.seeds if single(curve) else [] for curve in curves]
    parts = [
        part
        for curve, own in zip(curves, trials, strict=True)
        for part in (curve.x, curve.mean, curve.low, curve.high, *(values for _, _, values in own))
    ]
    numbers = iter(_columns(parts))
    return [
        {
            **{"f": curve.facet, "l": curve.line, "s": curve.site},
            **{name: next(numbers) for name in ("x", "y", "lo", "hi")},
            "n": [int(count) for count in curve.n] if len(set(curve.n)) > 1 else int(curve.n[0]),
            "t": [[seed, int(lost), next(numbers)] for seed, lost, _ in own],
        }
        for curve, own in zip(curves, trials, strict=True)
    ]


def _finals(study: Results, lines: Lines, facets: Sequence[Facet]) -> dict[str, Any]:
    """One number per trial and metric, in columns."""
    final = final_metrics(study)
    final = final[final["outcome"] != "failed"]
    parts = [facet.of(final).assign(_facet=i) for i, facet in enumerate(facets)]
    rows = pd.concat(parts, ignore_index=True).head(_DOTS)
    places = {value: i for i, value in enumerate(lines.looks)}
    whole = pd.concat(parts, ignore_index=True).assign(_line=lambda frame: frame[lines.by].map(places))
    return {
        "facet": rows["_facet"].tolist(),
        "line": rows[lines.by].map(places).tolist(),
        "seed": rows["seed"].tolist(),
        "trial": rows["trial"].tolist(),
        "fate": outcomes_told(rows).tolist(),
        "metrics": {
            name: {
                "label": _at_end(name),
                "share": METRICS[name].share,
                "values": _numbers(rows[name]),
                "means": _means(whole, name),
            }
            for name in _FINALS
            if name in rows and rows[name].notna().any()
        },
    }


def _of(names: Sequence[str]) -> list[Metric]:
    return [METRICS[name] for name in names]


def _at_end(name: str) -> str:
    """The label of a metric's last value."""
    return METRICS[name].label + " at the end" * (not name.startswith("born"))


def _means(rows: pd.DataFrame, metric: str) -> list[list[float | int | None]]:
    """[facet, line, mean, low, high, n] of every setting."""
    found = aggregate(rows, ["_facet", "_line"], metric)
    found = found[found["n"] > 0]
    bounds = found[["low", "high"]].clip(0, 1) if METRICS[metric].share else found[["low", "high"]]
    columns = (_numbers(found["mean"]), _numbers(bounds["low"]), _numbers(bounds["high"]))
    keys = zip(found["_facet"].tolist(), found["_line"].tolist(), strict=True)
    return [[*key, *numbers, int(n)] for key, *numbers, n in zip(keys, *columns, found["n"], strict=True)]


def _sites(layers: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Names and kinds of hidden sites by their number; where settings differ, of the last setting."""
    if layers.empty or "site" not in layers:
        return {}
    rows = layers.loc[layers["site"].notna(), ["site", "site_name", "kind"]]
    rows = rows.drop_duplicates("site", keep="last").sort_values("site")
    return {
        str(int(row["site"])): {"name": str(row["site_name"]), "kind": str(row["kind"])}
        for row in rows.to_dict("records")
    }


def _dash(dashes: Any) -> str:
    known = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
    return known.get(dashes, "longdash") if isinstance(dashes, str) else "longdash"


def _numbers(values: Any) -> list[float | int | None]:
    """Four significant digits, so that a page stays small; null for what is not a number."""
    return _columns([np.asarray(values, float)])[0]


def _columns(parts: Sequence[np.ndarray]) -> list[list[float | int | None]]:
    """`_numbers` of each part, all worked out at once: there are tens of thousands of short ones.

    >>> _columns([np.array([0.123456, 12.0, np.nan]), np.array([-98765.4])])
    [[0.1235, 12, None], [-98770]]
    """
    values = np.concatenate([np.empty(0), *parts])
    finite = np.isfinite(values)
    known = np.where(finite, values, 0.0)
    with np.errstate(divide="ignore"):
        places = 3 - np.floor(np.log10(np.abs(known)))
    places = np.where(np.isfinite(places), places, 0).clip(-300, 300)
    up, down = 10.0 ** places.clip(min=0), 10.0 ** (-places).clip(min=0)
    short = np.round(known * up / down) * down / up
    found = np.empty(len(values), object)
    found[:] = short
    whole = (short == np.floor(short)) & (np.abs(short) < 1e15)
    found[whole] = short[whole].astype(np.int64)
    found[~finite] = None
    ends = np.cumsum([len(part) for part in parts]).tolist()
    flat = found.tolist()
    return [flat[end - len(part) : end] for part, end in zip(parts, ends, strict=True)]


def _literal(text: str) -> str:
    """A label as it is read: without the escapes that matplotlib needs."""
    return text.replace(r"\$", "$")
