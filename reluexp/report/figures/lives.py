"""Figures of the life of units: what became of them, when they died for good, and of what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.plain import counted
from reluexp.report.figures.axes import KINDS, comparable, kinds_of
from reluexp.report.figures.captions import band_note, count_note, dagger_note, facet_note, kept_note, of_picture
from reluexp.report.figures.curves import curve_figure, none_note, site_curves
from reluexp.report.figures.spec import FigureSpec, View
from reluexp.report.frames.lives import (
    CAUSES,
    FATES,
    cause_sentences,
    causes,
    deaths,
    fates,
    followed,
    lasting_deaths,
    survival_curves,
)
from reluexp.report.lines import Lines, facets_of, joined, lines_of, mark_undying, plain, short
from reluexp.report.panels import Panel, grid_of, legend, percent, place_legend, room
from reluexp.report.style import Style
from reluexp.stats import Results, dying, settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LIVES"]

_CAUSE_PANELS = 12

# Colours: Okabe & Ito 2008; hatches repeat the distinction.
_FATE_LOOKS = {
    "never": ("#D9D9D9", ""),
    "revived": ("#56B4E9", ".."),
    "died": ("#D55E00", ""),
    "born_revived": ("#009E73", "//"),
    "born_dead": ("#000000", ""),
}
_CAUSE_LOOKS = {
    "bias": ("#0072B2", ""),
    "weights": ("#E69F00", "//"),
    "input": ("#009E73", ".."),
    "mixed": ("#CC79A7", "xx"),
    "below": ("#000000", ""),
    "unexplained": ("#BFBFBF", ""),
}


def _stacked(ax: Axes, shares: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> Axes:
    """Horizontal stacked bars: a row of `shares` [bar, part] each, the first at the top."""
    left = np.zeros(len(shares))
    for part, (colour, hatch) in looks.items():
        if part not in shares:
            continue
        widths = shares[part].fillna(0).to_numpy(float)
        ax.barh(
            range(len(shares)), widths, left=left, color=colour, hatch=hatch, edgecolor="white", lw=0.4, height=0.72
        )
        left = left + widths
    ax.set_ylim(len(shares) - 0.5, -0.5)
    ax.set_xlim(0, max(float(left.max(initial=0)), 1e-9))
    ax.grid(axis="y", visible=False)
    return ax


def _key(figure: Figure, looks: dict[str, tuple[str, str]], words: dict[str, str], style: Style) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, hatch=hatch, edgecolor="white") for colour, hatch in looks.values()]
    columns = max(1, min(len(looks), int(room(figure, style) * 12.5 / (max(len(words[part]) for part in looks) + 8))))
    columns = math.ceil(len(looks) / math.ceil(len(looks) / columns))
    place_legend(figure, handles, [words[part] for part in looks], style, columns)


def _fates(study: Results, style: Style) -> Figure | None:
    """For each line the mean shares of units by fate; the axis ends where nothing but `never dead` follows."""
    frame = fates(study)
    if frame.empty:
        return None
    lines = _mortal(frame, mark_undying(study, lines_of(study)))
    kinds = kinds_of(study.layers)
    facets, _ = facets_of(study, style.facets // _panels_each(study))
    panels = [
        Panel(" · ".join(filter(None, [facet.title, KINDS.get(kind, kind) if len(kinds) > 1 else ""])), rows, kind)
        for facet in facets
        for kind in kinds
        if len(rows := facet.of(frame[frame["kind"] == kind]))
    ]
    columns = min(2, len(panels))
    figure, axes = grid_of(panels, style, columns, height=max(0.45, (0.4 + 0.3 * len(lines.looks)) / style.row_height))
    looks = {fate: look for fate, look in _FATE_LOOKS.items() if fate != "never" and frame[fate].gt(0).any()}
    longest = 0.0
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        means = panel.rows.groupby(lines.by, sort=False)[list(FATES)].mean().reindex(list(lines.looks))
        _stacked(ax, means, looks)
        for place in np.flatnonzero(means.isna().all(axis=1)):  # no bar at all would read as no unit that died
            ax.annotate(
                "not run", (0, place), (4, 0), textcoords="offset points", va="center", color="#767676", size="small"
            )
        longest = max(longest, ax.get_xlim()[1])
        labels = [look[0] for look in lines.looks.values()] if i % columns == 0 else [""] * len(lines.looks)
        ax.set_yticks(range(len(lines.looks)), labels)
    for i, ax in enumerate(axes):
        ax.set_xlim(0, longest)
        _percent_axis(ax, "share of units", i + columns >= len(axes))
    if looks:
        _key(figure, looks, FATES, style)
    return figure


def _panels_each(study: Results) -> int:
    """Panels that a setting takes: one for each kind of site, for two kinds at most."""
    return max(1, min(2, len(kinds_of(study.layers))))


def _mortal(frame: pd.DataFrame, lines: Lines) -> Lines:
    """The lines of which a unit was ever dead; all where none was."""
    ever = frame[frame["never"] < 1][lines.by].unique()
    return Lines(lines.by, {value: look for value, look in lines.looks.items() if value in ever} or lines.looks)


def _never_note(study: Results) -> str:
    frame = fates(study)
    if frame.empty:
        return ""
    lines = lines_of(study)
    left = [look[0] for value, look in lines.looks.items() if value not in _mortal(frame, lines).looks]
    return f" No unit was ever dead with {', '.join(left)}." if left else ""


def _percent_axis(ax: Axes, label: str, last: bool) -> None:
    percent(ax.xaxis)
    ax.locator_params(axis="x", nbins=5)
    if ax.get_xlim()[1] < 1e-6:
        ax.set_xlim(0, 0.05)
        ax.text(0.5, 0.5, "no unit was ever dead", transform=ax.transAxes, ha="center", va="center", size=8.5)
    if last:
        ax.set_xlabel(label)


def _causes(study: Results, style: Style) -> Figure | None:
    """A bar of deaths by cause for each site that had any, a panel for each line and facet."""
    frame, lines = causes(study), lines_of(study)
    if frame.empty:
        return None
    panels = _of_causes(study, frame, lines)[:_CAUSE_PANELS]
    if not panels:
        return None
    columns = min(2, len(panels))
    tallest = max(panel.rows["site"].nunique() for panel in panels)
    title = 0.18 * max(panel.title.count("\n") for panel in panels)
    height = max(0.5, (0.7 + title + 0.26 * min(tallest, 14)) / style.row_height)
    figure, axes = grid_of(panels, style, columns, height=height)
    looks = {cause: look for cause, look in _CAUSE_LOOKS.items() if cause in set(frame["cause"])}
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw_causes(ax, panel, looks)
        if i + columns >= len(axes):
            ax.set_xlabel("deaths of units")
    _key(figure, looks, CAUSES, style)
    return figure


def _of_causes(study: Results, frame: pd.DataFrame, lines: Lines) -> list[Panel]:
    """A panel for each line and facet in which units died."""
    facets, _ = facets_of(study, len(settings(study)))
    return [
        Panel("\n".join(filter(None, [short(label, 30), facet.title])), rows, "deaths")
        for facet in facets
        for value, (label, _, _) in lines.looks.items()
        if len(rows := facet.of(frame[frame[lines.by] == value]))
    ]


def _causes_note(study: Results) -> str:
    """How many combinations with deaths are not drawn."""
    frame = causes(study)
    left = len(_of_causes(study, frame, lines_of(study))) - _CAUSE_PANELS if len(frame) else 0
    return of_picture(f" {counted(left, 'more panel')} would show the rest." if left > 0 else "")


def _draw_causes(ax: Axes, panel: Panel, looks: dict[str, tuple[str, str]]) -> Axes:
    from matplotlib.ticker import MaxNLocator

    counts = panel.rows.pivot_table(index="site", columns="cause", values="deaths", aggfunc="sum")
    names = panel.rows.drop_duplicates("site").set_index("site")["site_name"].reindex(counts.index)
    _stacked(ax, counts, looks)
    shown = np.arange(0, len(names), -(-len(names) // 14))
    ax.set_yticks(shown, [plain(short(names.iloc[i], 16)) for i in shown])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return ax


def _lasting(study: Results, style: Style) -> Figure | None:
    frame = lasting_deaths(study)
    if frame.empty:
        return None
    kinds = kinds_of(study.layers)
    variants = [
        (KINDS.get(kind, kind) if len(kinds) > 1 else "", frame[frame["kind"] == kind], "share") for kind in kinds
    ]
    return curve_figure(study, style, variants, "units dead for good", share="dead")


def _survival(study: Results, style: Style) -> Figure | None:
    """The share that has not died, as stairs with their bands; lines that no unit left are not drawn."""
    frame = survival_curves(study)
    if frame.empty or not (frame["step"] > 0).any():
        return None
    lines = _falling(frame, mark_undying(study, lines_of(study)))
    facets, _ = facets_of(study, style.facets)
    panels = [Panel(facet.title, rows, "survival") for facet in facets if len(rows := facet.of(frame))]
    columns = min(2, len(panels))
    figure, axes = grid_of(panels, style, columns, "x" if comparable(facets) else "")
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        for value, (_, colour, dashes) in lines.looks.items():
            own = panel.rows[panel.rows[lines.by] == value]
            ax.step(own["step"], own["kept"], where="post", color=colour, ls=dashes, zorder=3)
            bounds = own["kept_low"], own["kept_high"]
            ax.fill_between(own["step"], *bounds, step="post", color=colour, alpha=0.18, lw=0)
        percent(ax.yaxis)
        ax.set_ylim(top=min(ax.get_ylim()[1], 1.005))
        ax.locator_params(axis="x", nbins=6)
        if i + columns >= len(axes):
            ax.set_xlabel("training step")
        if i % columns == 0:
            ax.set_ylabel("units not yet dead for good")
    legend(figure, lines, style)
    return figure


def _falling(frame: pd.DataFrame, lines: Lines) -> Lines:
    """The lines of which a unit died for good; all where none did."""
    fell = frame.loc[frame["kept"] < 1, lines.by].unique()
    return Lines(lines.by, {value: look for value, look in lines.looks.items() if value in fell} or lines.looks)


def _survival_note(study: Results) -> str:
    frame, lines = survival_curves(study), lines_of(study)
    kept = _falling(frame, lines).looks if len(frame) else lines.looks
    left = [look[0] for value, look in lines.looks.items() if value not in kept]
    dagger = dagger_note(study) if not dying(study).issuperset(kept) else ""
    return dagger + of_picture(f" At 100 % throughout, hence not drawn: {', '.join(left)}." if left else "")


def _estimate(study: Results) -> str:
    """Where trials diverged, their units can't die any more, which is no reason to take them for censored."""
    if study.trials["outcome"].eq("diverged").any():
        return "cumulative incidence, with divergence as a competing event"
    return "Kaplan and Meier's estimate"


def _sentences(study: Results, most: int = 3) -> str:
    found = cause_sentences(study, causes(study), lambda label: display_name(label))
    return " ".join(found[:most]) or "No unit died after birth."


def _spike_note(study: Results) -> str:
    if not followed(study):
        return ""
    spiked = deaths(study, "spike")["spike"].dropna().astype(bool)
    return f" A gradient spike came before {int(spiked.sum())} of {len(spiked)} deaths." if len(spiked) else ""


def _undying_note(study: Results) -> str:
    frame = joined(study, study.trials[["trial"]])
    return "" if dying(study).issuperset(frame["activation"]) else dagger_note(study)


LIVES: tuple[FigureSpec, ...] = (
    FigureSpec(
        "dead_fraction",
        "Dead units over training",
        "life",
        lambda study: (
            "Share of hidden units whose derivative is 0 at every probe sample, all sites by their widths. "
            f"{band_note(study)}{none_note(study, 'dead_fraction')}{dagger_note(study)}{kept_note(study)}"
        ),
        site_curves("dead_fraction", "dead"),
        View("curves", "layers", "dead_fraction"),
        terms=("dead", "probe set", "unit"),
    ),
    FigureSpec(
        "survival",
        "Survival of units",
        "life",
        lambda study: (
            "Of the units that were alive before training, the share that has not died for good (dead from then to the "
            f"last measurement), by {_estimate(study)}. Bands: pointwise 95 %, over resampled "
            "trials (percentiles of Hesterberg 2015), since units of one network are not independent; no test is made "
            "of units. "
            f"{count_note(study, False)}{_survival_note(study)}{facet_note(study)}"
        ),
        _survival,
        View("curves", "survival", "survival"),
        terms=("survival", "born dead"),
    ),
    FigureSpec(
        "deaths_for_good",
        "Units dead for good",
        "life",
        lambda study: (
            "Share of hidden units that were dead from this epoch to the end, born-dead ones that never came to life "
            f"included; a unit that revived is not in it. {band_note(study)}{_undying_note(study)}"
        ),
        _lasting,
        View("curves", "lasting", "share"),
        terms=("born dead", "survival"),
    ),
    FigureSpec(
        "off_fraction",
        "Units that are off over training",
        "life",
        lambda study: (
            "Share of hidden units with no pre-activation above 0 on the probe set: the same question for every "
            f"activation. {band_note(study)}{none_note(study, 'off_fraction')}{kept_note(study)}"
        ),
        site_curves("off_fraction", "zero"),
        View("curves", "layers", "off_fraction"),
        terms=("off",),
    ),
    FigureSpec(
        "unit_fates",
        "What became of the units",
        "life",
        lambda study: (
            "Share of hidden units, mean over trials; what is missing to 100 % was alive at every measurement. "
            f"{count_note(study, False)}{_undying_note(study)}{_never_note(study)}"
            f"{facet_note(study, _panels_each(study))}"
        ),
        _fates,
        terms=("born dead", "revived"),
    ),
    FigureSpec(
        "causes_of_death",
        "Causes of death by layer",
        "life",
        lambda study: (
            f"{_sentences(study)} Each unit that died after birth counts once, with the cause of its last death, "
            "pooled over trials: what at least half of the fall of its largest pre-activation came from (Shapley "
            f"values over bias, incoming weights and input), else several together.{_spike_note(study)} "
            f"{count_note(study, False)}{_causes_note(study)}"
        ),
        _causes,
        terms=("cause of a death",),
    ),
)
