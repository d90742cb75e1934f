"""Tables of many stacks read as one frame: what pandas gives that reads and joins whole files, but in less memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import reluexp
from reluexp.catalogue.columns import TABLES, described
from reluexp.errors import ResultsError
from reluexp.store import Store
from reluexp.store.tables import read_rows, to_parquet


def written(folder: Path, frame: pd.DataFrame, table: str = "layers") -> Path:
    folder.mkdir()
    path = folder / f"{table}.parquet"
    path.write_bytes(to_parquet(frame))
    return path


def part(names: str, **columns: object) -> pd.DataFrame:
    rows = [name for name in names for _ in range(2)]
    frame = pd.DataFrame({"trial": rows, "step": range(len(rows)), "site": 0})
    return frame.assign(**columns)


def test_files_of_different_columns_and_kinds_stand_under_one_another(tmp_path: Path) -> None:
    flags = pd.array([True, None, False, True], "boolean")
    parts = [
        part("ab", share=[0.5, np.nan, 1.0, 0.0], known=flags, word=None, number=[1, 2, 3, 4]),
        part("c", share=None, known=pd.array([None, None], "boolean"), word="text", number=[0.5, np.nan]),
        part("d", word=None, own=7),
        part("").astype({"trial": object}),
    ]
    paths = [written(tmp_path / str(i), frame) for i, frame in enumerate(parts)]
    found = read_rows(dict.fromkeys(paths, "abcd"))
    whole = pd.concat([pd.read_parquet(path) for path in paths[:3]], ignore_index=True)
    assert found.columns.tolist() == whole.columns.tolist()
    for name in whole:
        same = found[name].astype(object).where(found[name].notna(), None)
        assert same.tolist() == whole[name].astype(object).where(whole[name].notna(), None).tolist(), name
    assert found["known"].dtype == "boolean"
    assert found["share"].dtype == found["number"].dtype == float


def test_texts_and_numbers_of_one_column_keep_what_they_are(tmp_path: Path) -> None:
    paths = [written(tmp_path / "x", part("a", gain="auto")), written(tmp_path / "y", part("b", gain=1.5))]
    assert read_rows(dict.fromkeys(paths, "ab"))["gain"].tolist() == ["auto", "auto", 1.5, 1.5]


def test_rows_of_trials_that_are_not_wanted_and_columns_left_out_are_not_there(tmp_path: Path) -> None:
    paths = [written(tmp_path / "x", part("abc")), written(tmp_path / "y", part("ad"))]
    found = read_rows({paths[0]: ["a", "c"], paths[1]: ["d"]}, without=("site",))
    assert found["trial"].tolist() == ["a", "a", "c", "c", "d", "d"]
    assert found["step"].tolist() == [0, 1, 4, 5, 2, 3]
    assert "site" not in found
    assert read_rows({}).columns.tolist() == ["trial"]


def test_times_say_whose_they_are(tmp_path: Path) -> None:
    frame = pd.DataFrame({"epoch": [0, 1], "phase": "train", "seconds": [0.5, 0.25]})
    paths = [written(tmp_path / name, frame.head(rows), "timing") for name, rows in (("one", 2), ("two", 1))]
    found = read_rows(dict.fromkeys(paths))
    assert found.columns.tolist() == ["stack", "epoch", "phase", "seconds"]
    assert found["stack"].tolist() == ["one", "one", "two"]


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"layers.parquet: no table of reluexp: it has no column 'site'"):
        read_rows({written(tmp_path / "x", part("a").drop(columns="site")): ["a"]})
    broken = tmp_path / "x" / "epochs.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(ResultsError, match=r"epochs.parquet: cannot be read"):
        read_rows({broken: ["a"]})


def test_a_table_of_the_whole_study_is_read_as_it_was_written_and_not_when_it_was_altered(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.read_extra("cost").empty
    frame = pd.DataFrame({"activation": ["relu", "tanh"], "seconds": [1e-6, 2.5e-6]})
    store.write_extra("cost", frame)
    pd.testing.assert_frame_equal(store.read_extra("cost"), frame)
    path = tmp_path / "extra" / "cost" / "cost.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert store.read_extra("cost").empty
    assert [damage.path for damage in store.damaged_extras()] == [path.parent]


@pytest.mark.usefixtures("inline")
def test_every_column_that_a_study_has_is_described_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"study": "s", "dataset": {"name": "digits", "train_size": 60, "test_size": 30}, "train": {"epochs": 1},
              "grid": {"activation": ["relu", "prelu"], "train.batch_size": [20, 30]}}  # fmt: skip
    study = reluexp.run(config, tmp_path)
    assert study.cost.empty
    for table, columns in [(table, columns) for table, columns in TABLES.items() if table != "cost"]:
        written = getattr(study, table).columns.drop(["train.batch_size"], errors="ignore").tolist()
        assert written == [name for name in columns if name != "failure"], table
    text = (Path(__file__).parent.parent / "docs" / "tables.md").read_text("utf-8")
    assert text.strip() == described().strip()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def broken():\n    raise ValueError('planted')\n")
    failing = {"study": "f", "activation": "mine:broken"}
    failed = reluexp.run({**failing, "dataset": config["dataset"]}, tmp_path).trials
    assert set(failed["outcome"]) == {"failed"}
    assert set(failed) <= set(TABLES["trials"])
