"""Every byte range of a file flipped or cut off is found; what is damaged is set aside and done again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from harness import Study

import reluexp
from reluexp.checking import check_study
from reluexp.errors import DamagedError, ResultsError
from reluexp.store import Store
from reluexp.store.checkpoints import Checkpoint
from reluexp.store.files import seal, unseal

RECORD = {"trials": ["a", "b"], "outcomes": ["finished", "diverged"], "data": "d", "numerics": 0}
STATE = {"flat": torch.arange(300.0), "epoch": 3, "tables": {"x": [{"y": torch.ones(3, dtype=torch.bool)}]}}


def made(root: Path) -> Store:
    store = Store(root)
    frame = pd.DataFrame({"trial": ["a", "b"], "value": [1.0, float("nan")]})
    weights = {"a": {"w": torch.arange(6.0)}, "b": {"w": torch.zeros(6)}}
    store.write_stack("one", RECORD, {"trials": frame, "epochs": frame}, weights)
    store.save_checkpoint("two", RECORD, STATE)
    return store


def spoilt(data: bytes, step: int) -> Iterator[tuple[str, bytes]]:
    """The bytes with each range of that length flipped, cut off, cut out, or overwritten with zeros."""
    for start in range(0, len(data), step):
        end = min(start + step, len(data))
        part = data[start:end]
        yield f"flipped {start}–{end}", data[:start] + bytes(byte ^ 0x40 for byte in part) + data[end:]
        yield f"cut off at {start}", data[:start]
        yield f"cut out {start}–{end}", data[:start] + data[end:]
        if part.strip(b"\0"):
            yield f"zeros {start}–{end}", data[:start] + bytes(len(part)) + data[end:]
    yield "something appended", data + b"\0"


@pytest.mark.parametrize("file", ["stack.json", "trials.parquet", "epochs.parquet", "weights.safetensors"])
def test_any_change_of_a_stacks_file_is_found(
    file: str, full: bool, figure: Callable[[str], None], tmp_path: Path
) -> None:
    path = made(tmp_path).stack("one") / file
    data, store, count = path.read_bytes(), Store(tmp_path), 0
    for how, changed in spoilt(data, 1 if full else 97):
        path.write_bytes(changed)
        found, damaged = store.ended("all")
        assert not found, how
        assert [item.path for item in damaged] == [path.parent], how
        assert file in str(damaged[0]), how
        count += 1
    path.write_bytes(data)
    assert list(store.ended("all")[0]) == ["one"]
    figure(
        f"{file} of {len(data):,} bytes: {count:,} changes (every range flipped, cut off, cut out, zeroed): all found"
    )


def test_any_change_of_a_checkpoint_is_found(full: bool, figure: Callable[[str], None], tmp_path: Path) -> None:
    store = made(tmp_path)
    (path,) = (tmp_path / "begun").glob("*.ckpt")
    data, count = path.read_bytes(), 0
    for how, changed in spoilt(data, 1 if full else 53):
        path.write_bytes(changed)
        assert [item.path for item in store.damaged_checkpoints()] == [path], how
        assert store.checkpoints.load("two", {}) is None, how
        count += 1
    path.write_bytes(data)
    assert store.damaged_checkpoints() == []
    figure(f"a checkpoint of {len(data):,} bytes: {count:,} changes: all found, none loaded")


def test_the_last_good_checkpoint_is_kept_until_the_next_is_proven(tmp_path: Path) -> None:
    store = made(tmp_path)
    for epoch in (4, 5, 6):
        store.save_checkpoint("two", RECORD, {**STATE, "epoch": epoch})
    heads, _ = store.checkpoints.heads("two")
    assert [head.turn for head in heads] == [3, 2]
    data = heads[0].path.read_bytes()
    heads[0].path.write_bytes(data[:-1])
    found = store.checkpoints.load("two", {"data": "d"})
    assert found is not None
    assert found["epoch"] == 5
    assert store.checkpoints.load("two", {"data": "other"}) is None


@pytest.mark.parametrize("happens", ["written anew", "forgotten", "cut off"])
def test_a_checkpoint_that_its_owner_touches_meanwhile_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    store = made(tmp_path / "s")
    verify = store.checkpoints.verify

    def late(head: Checkpoint) -> bytes:
        monkeypatch.setattr(store.checkpoints, "verify", verify)
        if happens == "forgotten":
            store.forget("two")
        elif happens == "cut off":
            head.path.write_bytes(head.path.read_bytes()[:-9])
        else:
            for epoch in (4, 5):  # the second takes the place of the file that is being looked at
                store.save_checkpoint("two", RECORD, {**STATE, "epoch": epoch})
        return verify(head)

    monkeypatch.setattr(store.checkpoints, "verify", late)
    assert [damage.path.parent.name for damage in store.damaged_checkpoints()] == ["begun"] * (happens == "cut off")


def test_a_foreign_or_missing_file_is_named(tmp_path: Path) -> None:
    folder = made(tmp_path).stack("one")
    (folder / "notes.txt").write_text("mine")
    assert "notes.txt" in str(Store(tmp_path).ended()[1][0])
    (folder / "notes.txt").unlink()
    (folder / "epochs.parquet").unlink()
    assert "epochs.parquet is missing" in str(Store(tmp_path).ended()[1][0])
    (tmp_path / "stacks" / "loose").write_text("a file")
    assert {item.path.name for item in Store(tmp_path).ended()[1]} == {"one", "loose"}


def test_what_file_systems_leave_is_not_foreign(tmp_path: Path) -> None:
    folder = made(tmp_path).stack("one")
    for name in (".DS_Store", ".nfs0000001", "._epochs.parquet"):
        (folder / name).write_text("")
    assert Store(tmp_path).ended()[1] == []


def test_an_older_format_is_named(tmp_path: Path) -> None:
    record = made(tmp_path).stack("one") / "stack.json"
    record.write_text('{"trials": ["a"], "outcomes": ["finished"]}')
    assert "older format" in str(Store(tmp_path).ended()[1][0])


def test_weights_are_compared_before_they_are_used(tmp_path: Path) -> None:
    store = made(tmp_path)
    assert torch.equal(store.read_weights("one", "a")["w"], torch.arange(6.0))
    path = store.stack("one") / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(DamagedError, match="weights"):
        store.read_weights("one", "a")


def test_what_is_damaged_is_left_out_set_aside_and_done_again(whole: Study) -> None:
    shutil.copytree(whole.folder / "whole", whole.folder / "hurt")
    root = whole.results("hurt")
    stacks = sorted((root / "stacks").iterdir())
    table = stacks[0] / "layers.parquet"
    table.write_bytes(table.read_bytes()[:-20])
    (stacks[1] / "stack.json").write_bytes(b"\0" * 100)
    lost = 2 * len(reluexp.load(whole.results("whole")).trials) // len(stacks)

    study = reluexp.load(root)
    assert len(study.trials) == len(reluexp.load(whole.results("whole")).trials) - lost
    assert len(list(study.standing.notes())) == 2
    finding = check_study(root)
    assert not finding.sound
    assert any("layers.parquet" in sentence for sentence in finding.sentences)
    assert any("reluexp run" in sentence for sentence in finding.sentences)
    assert sorted((root / "stacks").iterdir()) == stacks  # readers move nothing

    whole.run("hurt")
    whole.assert_same("whole", "hurt")
    assert {path.name for path in (root / "aside").iterdir() if path.is_dir()} == {path.name for path in stacks[:2]}
    assert len(list((root / "aside").glob("*.why.txt"))) == 2


def test_a_study_file_that_cannot_be_read_is_written_anew(whole: Study) -> None:
    shutil.copytree(whole.folder / "whole", whole.folder / "headless")
    root = whole.results("headless")
    (root / "study.yaml").write_bytes(b"study: \xff\xfe: [")
    finding = check_study(root)
    assert not finding.sound
    assert "study.yaml" in finding.sentences[0]
    whole.run("headless")
    whole.assert_same("whole", "headless")
    assert list((root / "aside").glob("study.yaml*"))


BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
ABOUT = {
    "aliases of aliases": BOMB + "study: s\nconfig: {study: s, grid: {activation: *i}}\n",
    "an alias to itself": "config: &a {study: s, x: *a}\n",
    "a tag": "config: {study: s}\nx: !!python/object/apply:os.system ['touch harmed']\n",
    "12 MB": "config: {study: s}\nx: [" + "1, " * 4_000_000 + "1]\n",
    "deep": "config: " + "[" * 100_000,
    "data": "config: {study: s}\nprovenance: {data: [1]}\n",
    "runs": "config: {study: s}\nprovenance: {runs: [1, null]}\n",
    "provenance": "config: {study: s}\nprovenance: text\n",
    "hypotheses": "config: {study: s}\nhypotheses: {a: 1}\n",
    "given": "config: {study: s}\ngiven: [1]\n",
    "no mapping": "- 1\n",
}


@pytest.mark.parametrize("name", ABOUT)
def test_a_study_file_that_nobody_wrote_so_is_refused_at_once(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    store.root.mkdir()
    store.study_file.write_text(ABOUT[name], "utf-8")
    start = time.process_time()
    with pytest.raises(ResultsError, match=r"study\.yaml: "):
        reluexp.load(store.root)
    assert time.process_time() - start < 2
    assert not (tmp_path / "harmed").exists()
    store.write_study(lambda before: {"study": "s", "config": {"study": "s"}, "before": before})
    assert store.read_study()["before"] == {}
    assert list((store.root / "aside").iterdir())


@pytest.mark.parametrize("place", ["stack.json", "trials.parquet"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_named_and_not_waited_for(place: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    store = made(tmp_path)
    path = store.stack("one") / place
    path.unlink()
    make(path)
    found, damaged = store.ended("all")
    assert not found
    assert place in str(damaged[0])
    store.set_aside(damaged[0])
    assert store.ended("all") == ({}, [])


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_checkpoint_that_is_no_file_is_named(make: Callable[[Path], None], tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "begun").mkdir()
    make(tmp_path / "begun" / "two.0.ckpt")
    (damage,) = store.damaged_checkpoints()
    assert "two.0.ckpt" in str(damage)
    store.set_aside(damage)
    store.save_checkpoint("two", RECORD, {"flat": torch.zeros(1)})
    assert store.begun(0) == [("a", "b")]


def test_a_table_without_its_columns_is_named_although_its_checksum_is_right(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_stack("one", RECORD, {"trials": pd.DataFrame({"x": [1]})}, {})
    assert store.ended("all")[1] == []
    with pytest.raises(ResultsError, match=r"trials\.parquet: no table of reluexp: it has no column 'activation'"):
        store.read_table("trials", {"a": "one"})


@pytest.mark.parametrize("file", ["stacks/one/stack.json", "stacks/one/trials.parquet", "begun/two.0.ckpt"])
def test_what_cannot_be_read_just_now_is_not_set_aside(file: str, tmp_path: Path) -> None:
    """The memory of a process is a file whose reading fails as that of a bad disk does."""
    store, path = made(tmp_path), tmp_path / file
    path.unlink()
    path.symlink_to("/proc/self/mem")
    if file.endswith("parquet"):
        record = unseal(store.record("one").read_bytes())
        record["files"]["trials.parquet"]["bytes"] = path.stat().st_size
        store.record("one").write_bytes(seal(record))
    for read in (lambda: store.ended("all"), store.damaged_checkpoints):
        if (read == store.damaged_checkpoints) == file.endswith("ckpt"):
            with pytest.raises(ResultsError, match=f"{path} cannot be read: Input/output error; mend that") as told:
                read()
            assert not isinstance(told.value, DamagedError)


@pytest.mark.usefixtures("inline")
def test_a_study_file_that_cannot_be_read_just_now_stays(tmp_path: Path) -> None:
    """What was put down beforehand is in it."""
    config = {"study": "s", "dataset": {"name": "digits", "train_size": 100}, "train": {"epochs": 0}, "seeds": 1}
    reluexp.run(config, tmp_path)
    file = tmp_path / "s" / "study.yaml"
    file.unlink()
    file.symlink_to("/proc/self/mem")
    with pytest.raises(ResultsError, match=f"{file} cannot be read: Input/output error; mend that"):
        reluexp.run(config, tmp_path)
    assert file.is_symlink()
    assert not (tmp_path / "s" / "aside").exists()
