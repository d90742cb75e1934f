"""The tables of a stack as Parquet files, and those of many stacks as one frame."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from reluexp.errors import ResultsError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLES", "read_part", "to_parquet", "under_one_another"]

_NEEDED = {
    "trials": {"trial", "seed", "activation", "outcome"},
    "epochs": {"trial", "epoch", "step"},
    "layers": {"trial", "step", "site"},
    "units": {"trial", "site", "unit"},
    "timing": {"epoch", "phase", "seconds"},
}
"""columns without which a table is not one of reluexp"""

TABLES = tuple(_NEEDED)


def to_parquet(frame: pd.DataFrame) -> bytes:
    """A table as bytes; a column of texts and numbers (an axis of `auto` and 1.0) becomes one of texts."""
    mixed = [name for name, kind in frame.dtypes.items() if kind.kind == "O" and frame[name].map(type).eq(str).any()]
    frame = frame.assign(**{name: [None if _is_null(v) else str(v) for v in frame[name]] for name in mixed})
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _is_null(value: object) -> bool:
    return value is None or value != value  # NaN


def read_part(path: Path, without: Collection[str] = ()) -> pd.DataFrame:
    """One stack's table, without the columns named. Raises ResultsError where it is none of reluexp's."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path, columns=_columns_but(path, without))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from error
    if lacking := sorted(_NEEDED[path.stem] - set(frame.columns) - set(without)):
        raise ResultsError(f"{path}: no table of reluexp: it has no column {lacking[0]!r}; move {path.parent} away")
    return frame


def _columns_but(path: Path, without: Collection[str]) -> list[str] | None:
    """The columns of a table but for some; None for all."""
    if not without:
        return None
    from pyarrow.parquet import read_schema

    return [name for name in read_schema(path).names if name not in without]


def under_one_another(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all parts; a column that is null throughout a part says nothing of what the column holds."""
    import pandas as pd

    found = [part.dropna(axis=1, how="all") if number else part for number, part in enumerate(parts)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame({"trial": []})
