"""The tables of a stack as Parquet files, and those of many stacks as one frame."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reluexp.errors import ResultsError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

__all__ = ["TABLES", "read_rows", "to_parquet"]

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


def read_rows(parts: Mapping[Path, Collection[str] | None], without: Collection[str] = ()) -> pd.DataFrame:
    """The rows of several files of one table, of each those of the trials given; some columns may be left out.

    With None for the trials all rows of a file, and a first column `stack` with the name of its folder. Column by
    column, so that hardly more memory is needed than the frame takes in the end. Raises ResultsError for a file that
    is no table of reluexp's.
    """
    import pandas as pd

    files = {path: _open(path, without) for path in parts}
    names = dict.fromkeys(name for file in files.values() for name in file.schema_arrow.names if name not in without)
    kept = [None if trials is None else _kept(path, files[path], trials) for path, trials in parts.items()]
    found = {name: _column(name, files, kept) for name in names}
    if None in parts.values():
        sizes = [file.metadata.num_rows for file in files.values()]
        found = {"stack": pd.Series(np.repeat([path.parent.name for path in files], sizes)), **found}
    return pd.DataFrame(found, copy=False) if found else pd.DataFrame({"trial": []})


def _open(path: Path, without: Collection[str]) -> ParquetFile:
    """A file of a table, read whole into memory, where it is compressed."""
    from pyarrow import BufferReader
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(BufferReader(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from error
    if lacking := sorted(_NEEDED[path.stem] - set(file.schema_arrow.names) - set(without)):
        raise ResultsError(f"{path}: no table of reluexp: it has no column {lacking[0]!r}; move {path.parent} away")
    return file


def _kept(path: Path, file: ParquetFile, trials: Collection[str]) -> pa.Array | None:
    """Which rows are of those trials; None for all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = _read(path, file, "trial", None)["trial"].cast(pa.string())  # of an empty table they have no type
    found = pc.is_in(names, pa.array(list(trials), pa.string()))
    return None if pc.all(found).as_py() else found


def _column(name: str, files: Mapping[Path, ParquetFile], kept: Sequence[pa.Array | None]) -> pd.Series:
    """One column of all files: null where a file lacks it, of both where some hold texts and others numbers."""
    import pandas as pd
    import pyarrow as pa

    parts = [_read(path, file, name, rows) for (path, file), rows in zip(files.items(), kept, strict=True)]
    telling = [part for part in parts if part.schema.types[0] != pa.null()] or parts[:1]
    try:
        whole = pa.concat_tables(parts, promote_options="permissive")
        return whole.replace_schema_metadata(telling[0].schema.metadata).to_pandas(use_threads=False)[name]
    except pa.ArrowTypeError:
        return pd.concat([part.to_pandas(use_threads=False)[name].astype(object) for part in parts], ignore_index=True)


def _read(path: Path, file: ParquetFile, name: str, rows: pa.Array | None) -> pa.Table:
    import pyarrow as pa

    known = name in file.schema_arrow.names
    try:
        part = file.read([name], use_threads=False) if known else pa.table({name: pa.nulls(file.metadata.num_rows)})
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: cannot be read: {error}") from error
    return part if rows is None else part.filter(rows)
