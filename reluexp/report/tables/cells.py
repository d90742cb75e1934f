"""What tables are made of, and cells for numbers of the kinds that tables show."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reluexp.catalogue.activations import display_name
from reluexp.catalogue.metrics import target_of
from reluexp.plain import known_to
from reluexp.stats import Results, axis_names, has_many_axes, other_axes, setting_name

__all__ = [
    "Cell",
    "Table",
    "TableSpec",
    "axis_cells",
    "loss_cells",
    "number",
    "rules_of",
    "setting_cells",
    "share_cells",
    "signed",
    "step",
    "target_name",
    "whole_cells",
]


@dataclass(frozen=True, slots=True)
class Cell:
    """What a table shows in one place: `best` is set in bold, `sort` orders rows where the text does not.

    `span` is (low, mean, high) for a small bar, each as a share of the column's range; `mark` a verdict, `star` whether
    it is significant.
    """

    text: str
    best: bool = False
    number: bool = True
    sort: float | None = None
    span: tuple[float, float, float] | None = None
    mark: str = ""
    star: bool = False

    @property
    def whole(self) -> str:
        """The text with its star, for tables without colours."""
        return f"{self.text} *" if self.star else self.text


@dataclass(frozen=True)
class Table:
    """A table to be read: headers, rows of cells, a caption, and the rows before which a rule separates groups."""

    headers: list[str]
    rows: list[list[Cell]]
    caption: str
    rules: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TableSpec:
    """One table: file name, title, the frame of raw numbers, and how that is shown; None for numbers behind figures."""

    name: str
    title: str
    frame: Callable[[Results], pd.DataFrame]
    shown: Callable[[Results, pd.DataFrame], Table] | None = None


def setting_cells(study: Results, frame: pd.DataFrame) -> dict[str, list[Cell]]:
    """The columns that tell settings apart: the activation, then the other axes."""
    cells = {"activation": [Cell(display_name(label), number=False) for label in frame["activation"]]}
    return {**cells, **axis_cells(study, frame, other_axes(study))}


def axis_cells(study: Results, frame: pd.DataFrame, axes: Sequence[str]) -> dict[str, list[Cell]]:
    """A column for each of these axes; one for all of them where the study has many."""
    if has_many_axes(study):
        rows = frame[list(axes)].to_dict("records")
        return {"setting": [Cell(setting_name(study, row), number=False) for row in rows]}
    names = axis_names(axes).items()
    return {name: [Cell(str(value), number=False) for value in frame[axis]] for axis, name in names}


def rules_of(frame: pd.DataFrame, others: list[str]) -> frozenset[int]:
    """The rows before which a rule separates groups."""
    if not others or frame.empty:
        return frozenset()
    changed = (frame[others] != frame[others].shift()).any(axis=1).to_numpy()
    return frozenset(int(i) for i in np.flatnonzero(changed) if i)


def share_cells(
    frame: pd.DataFrame,
    metric: str,
    best: dict[str, pd.Series],
    undying: Collection[str] = (),
    verdicts: Sequence[tuple[str, bool]] = (),
) -> list[Cell]:
    """Percent, with as many decimals in the whole column as its typical interval deserves, and a small bar.

    Activations that are `undying` get a dagger.
    """
    mean, low, high = (100 * frame[f"{metric}_{part}"].to_numpy(float) for part in ("mean", "low", "high"))
    half = (high - low) / 2
    digits = 2 if np.nanmedian(np.append(half[half > 0], np.nan if (half > 0).any() else 1.0)) < 0.1 else 1
    bold = best.get(f"{metric}_mean", pd.Series(False, index=frame.index)).to_numpy(bool)
    spans = _spans(mean, low, high)
    cells = []
    for i, label in enumerate(frame["activation"]):
        text = number(mean[i], digits) + (f" ± {half[i]:.{digits}f}" if math.isfinite(half[i]) else "")
        dagger = " †" if math.isfinite(mean[i]) and label in undying else ""
        verdict, star = verdicts[i] if verdicts else ("", False)
        cells.append(Cell(text + dagger, bool(bold[i]), sort=mean[i], span=spans[i], mark=verdict, star=star))
    return cells


def _spans(mean: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[tuple[float, float, float] | None]:
    """Each row's interval as shares of the column's whole range, cut to [0, 100 %]; None where nothing varies."""
    low, high = np.where(np.isfinite(low), low, mean).clip(0, 100), np.where(np.isfinite(high), high, mean).clip(0, 100)
    known = np.isfinite(mean)
    if known.sum() < 2 or high[known].max() <= low[known].min():
        return [None] * len(mean)
    bottom, size = low[known].min(), high[known].max() - low[known].min()
    parts = [
        tuple(round(float((value - bottom) / size), 4) for value in row) for row in zip(low, mean, high, strict=True)
    ]
    return [part if ok else None for part, ok in zip(parts, known, strict=True)]  # type: ignore[misc]


def loss_cells(
    frame: pd.DataFrame, metric: str, best: dict[str, pd.Series], verdicts: Sequence[tuple[str, bool]] = ()
) -> list[Cell]:
    """A loss, with half of its interval."""
    mean, low, high = (frame[f"{metric}_{part}"].to_numpy(float) for part in ("mean", "low", "high"))
    bold = best.get(f"{metric}_mean", pd.Series(False, index=frame.index)).to_numpy(bool)
    halves = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
    half = [f" ± {known_to(own, own)}" if math.isfinite(own) else "" for own in halves]
    shown = [known_to(value, own) if math.isfinite(value) else "–" for value, own in zip(mean, halves, strict=True)]
    marks = verdicts or [("", False)] * len(mean)
    return [
        Cell(text + more, bool(bold[i]), sort=mean[i], mark=verdict, star=star)
        for i, (text, more, (verdict, star)) in enumerate(zip(shown, half, marks, strict=True))
    ]


def whole_cells(values: pd.Series) -> list[Cell]:
    """Whole numbers."""
    return [Cell(str(int(value)), sort=float(value)) for value in values]


def number(value: float, digits: int) -> str:
    """A number with that many decimals, or a dash."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, or a dash."""
    return f"{value:+.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def step(value: float) -> str:
    """A number of steps, `never`, or a dash."""
    return "never" if math.isinf(value) else "–" if math.isnan(value) else f"{value:.0f}"


def target_name(column: str) -> str:
    """The name of a target in words."""
    return target_of(column).replace("_", " ").replace("%", " %")
