"""What a figure's lines and facets are, and the rows that belong to each.

A *line* is one activation (or one value of the first axis, where the activation does not vary); a *facet* is one
combination of the axes that are left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reluexp.catalogue.activations import SPARE, style_of
from reluexp.config import value_at
from reluexp.stats import Results, axis_names, dying, groups, in_order, other_axes, setting_name, settings

__all__ = [
    "LABEL",
    "Facet",
    "Lines",
    "facet_at",
    "facets_of",
    "faint_limit",
    "joined",
    "lines_of",
    "mark_undying",
    "own_setting",
    "plain",
    "short",
]

_LIGHTER, _DARKER = 0.45, 0.41
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))

LABEL = 34
"""characters of an activation's label: `Leaky ReLU (negative_slope=0.05)` has 32"""


@dataclass(frozen=True)
class Lines:
    """The column whose values are lines, those values in order, and label, colour and dashes of each."""

    by: str
    looks: dict[Any, tuple[str, str, Any]]


@dataclass(frozen=True)
class Facet:
    """One combination of the remaining axes: a title, empty for the only one, and the columns' values."""

    title: str
    where: dict[str, Any]

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of this facet."""
        for column, value in self.where.items():
            frame = frame[frame[column] == value]
        return frame


def lines_of(study: Results) -> Lines:
    """Activations as lines, drawn as the catalogue says; options of one activation differ in shade and dashes."""
    frame, others = settings(study), other_axes(study)
    if frame["activation"].nunique() == 1 and others:
        return _value_lines(frame, others[0])
    return Lines("activation", activation_looks(frame["activation"]))


def activation_looks(labels: Iterable[Any]) -> dict[Any, tuple[str, str, Any]]:
    """Name, colour and dashes of each activation, no two drawn alike."""
    looks: dict[Any, tuple[str, str, Any]] = {}
    alike: dict[str, list[Any]] = {}
    for label in in_order(labels, "activation"):
        name, colour, dashes = style_of(label)
        if colour in SPARE and colour in alike:  # of another of the user's own
            colour = next((free for free in SPARE if free not in alike), colour)
        taken = alike.setdefault(colour, [])
        if dashes in taken:
            dashes = next((free for free in _DASHES if free not in taken), dashes)
        looks[label] = (plain(short(name, LABEL)), _shade(colour, len(taken)), dashes)
        taken.append(dashes)
    return looks


def _shade(colour: str, place: int) -> str:
    """The colour of the first of several alike; lighter for the second, darker for the third, and so on.

    >>> _shade("#0072B2", 0), _shade("#0072B2", 1), _shade("#0072B2", 2)
    ('#0072B2', '#73b1d5', '#004369')
    """
    if not place:
        return colour
    from matplotlib.colors import to_hex, to_rgb

    share = 1 - (1 - (_LIGHTER if place % 2 else _DARKER)) ** ((place + 1) // 2)
    towards = 1.0 if place % 2 else 0.0
    red, green, blue = ((1 - share) * part + share * towards for part in to_rgb(colour))
    return str(to_hex((red, green, blue)))


def _value_lines(frame: pd.DataFrame, axis: str) -> Lines:
    """Values of an axis as lines, dark to light."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    values, name = in_order(frame[axis], axis), axis_names([axis])[axis]
    shades = colormaps["viridis"](np.linspace(0, 0.85, len(values)))
    return Lines(
        axis,
        {
            value: (plain(short(f"{name} = {value}")), to_hex(shade), _DASHES[i % 4])
            for i, (value, shade) in enumerate(zip(values, shades, strict=True))
        },
    )


def facets_of(study: Results, limit: int) -> tuple[list[Facet], int]:
    """At most `limit` facets in the order of `settings`, and how many there are besides.

    Where there are more, they are evenly spaced from the first to the last, so that the ends of an axis are seen, and
    the config's own setting is among them, in the place of the nearest.
    """
    axes = [axis for axis in other_axes(study) if axis != lines_of(study).by]
    wheres = [where for where, _ in groups(settings(study), axes)]
    if len(wheres) > limit:
        places = np.linspace(0, len(wheres) - 1, limit).round().astype(int)
        own = own_setting(study, axes)
        if own in wheres and (place := wheres.index(own)) not in places:
            inner = places[1:-1] if limit > 2 else places
            inner[np.abs(inner - place).argmin()] = place
            places.sort()
        return [facet_at(study, wheres[place]) for place in places], len(wheres) - limit
    return [facet_at(study, where) for where in wheres], 0


def own_setting(study: Results, axes: Iterable[str]) -> dict[str, Any] | None:
    """The values of axes that the config has outside its grid; None where it is not known."""
    return {axis: value_at(study.base, axis) for axis in axes} if study.base else None


def facet_at(study: Results, where: dict[str, Any]) -> Facet:
    """The facet of these values of axes, titled by the setting's name."""
    return Facet(plain(short(setting_name(study, where), 90)), where)


def mark_undying(study: Results, lines: Lines) -> Lines:
    """The lines with a dagger at activations whose units cannot be exactly dead."""
    if lines.by != "activation":
        return lines
    looks = {
        value: (label if value in dying(study) else f"{label} †", colour, dashes)
        for value, (label, colour, dashes) in lines.looks.items()
    }
    return Lines(lines.by, looks)


def joined(study: Results, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of a measurement with their trial's setting, seed and outcome; trials that failed are left out."""
    trials = settings(study)
    columns = list(dict.fromkeys(["trial", "activation", *other_axes(study), "seed", "outcome"]))
    rows = frame.drop(columns=[c for c in columns[1:] if c in frame], errors="ignore")
    return rows.merge(trials.loc[trials["outcome"] != "failed", columns], on="trial", how="inner")


def faint_limit(curves: int, most: int = 30, whole: int = 400) -> int:
    """How many single trials stand faint behind each of so many curves: `whole` in all, but at least 3 of each."""
    return min(most, max(3, whole // max(curves, 1)))


def plain(text: Any) -> str:
    """Text that matplotlib takes literally: no mathematics between dollar signs, one line."""
    return " ".join(str(text).split()).replace("$", r"\$")


def short(text: Any, length: int = 30) -> str:
    """Text cut to a length with an ellipsis in its middle, for labels.

    >>> short("package.module:attribute", 12)
    'packag…ibute'
    """
    text = " ".join(str(text).split())
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"
