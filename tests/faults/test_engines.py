"""Workers that hang, crash, or run out of memory; several runs at once; parts of a study on several machines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from harness import TEXT, Study, kill_all

import reluexp
from reluexp.config import load_config
from reluexp.engine.jobs import stack_of
from reluexp.engine.work import Work
from reluexp.errors import StudyBusyError
from reluexp.planning.plan import make_trials
from reluexp.planning.shards import part_of
from reluexp.store import Shard, Store

MINE = """
import os, signal, time
from pathlib import Path

def hangs(z):
    if not Path("hung").exists():
        Path("hung").touch()
        time.sleep(600)
    return z.relu()

def crashes(z):
    os.kill(os.getpid(), signal.SIGSEGV)
    return z.relu()

def raises(z):
    raise ValueError("planted")
"""
SMALL = (
    "study: s\ndataset: {name: digits, train_size: 200, test_size: 60}\narchitecture: {width: [8]}\n"
    "train: {epochs: 2}\nprobe: {size: 64}\ninit: {gain: 1.0}\n"
)


@pytest.mark.slow
def test_hangs_and_crashes_are_noticed_retried_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    grid = "seeds: 1\ngrid: {activation: [relu, 'mine:hangs', 'mine:crashes', 'mine:raises']}\n"
    study = Study(tmp_path, SMALL + grid)
    code = "import sys, reluexp; reluexp.run(sys.argv[1], sys.argv[2], workers=2, patience=3)"
    assert study.start("r", code=code).wait(200) == 0, (tmp_path / "r.log").read_text()
    found = reluexp.load(study.results("r"))
    trials = found.trials.set_index("activation")
    assert trials["outcome"].to_dict() == {
        "relu": "finished",
        "mine:hangs": "finished",
        "mine:crashes": "failed",
        "mine:raises": "failed",
    }
    assert (tmp_path / "hung").exists()
    assert "lost 3 times, the last time: killed by signal 11" in trials["failure"]["mine:crashes"]
    assert "planted" in trials["failure"]["mine:raises"]
    stack = found.standing.outcomes[trials["trial"]["mine:crashes"]][1]
    assert "in crashes" in found.standing.records[stack]["trace"]  # where in the user's code it was


def test_processes_that_the_users_code_leaves_behind_end_with_their_worker(tmp_path: Path) -> None:
    """They hold the pipe open on which the worker told what happened, so that its end would never be heard."""
    forking = (
        "import os, time\nfrom pathlib import Path\n\ndef forks(z):\n    if not Path('child').exists():\n"
        "        child = os.fork()\n        if child == 0:\n            time.sleep(600)\n            os._exit(0)\n"
        "        Path('child').write_text(str(child))\n    return z.relu()\n"
    )
    (tmp_path / "mine.py").write_text(forking)
    study = Study(
        tmp_path, SMALL + "seeds: 1\ngrid: {activation: ['mine:forks']}\nbaseline: {activation: 'mine:forks'}\n"
    )
    code = "import sys, reluexp; reluexp.run(sys.argv[1], sys.argv[2], workers=1)"
    assert study.start("r", code=code).wait(100) == 0, (tmp_path / "r.log").read_text()
    assert reluexp.load(study.results("r")).trials["outcome"].tolist() == ["finished"]
    words = ["ps", "-o", "stat=", "-p", (tmp_path / "child").read_text()]
    state = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    assert state.strip()[:1] in ("", "Z")  # gone, or waiting for its new parent to be told so


def test_data_may_be_read_by_processes_and_programs_of_their_own(tmp_path: Path) -> None:
    """A forked process would wait for the thread that reads jobs, and a program would read them itself."""
    (tmp_path / "mine.py").write_text(
        "import subprocess, torch\nfrom torch.utils.data import DataLoader, TensorDataset\n\ndef read():\n"
        "    subprocess.run(['cat'], check=True)\n"
        "    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))\n    y = (x[:, 0] > 0).long()\n"
        "    list(DataLoader(TensorDataset(x, y), batch_size=50, num_workers=2))\n"
        "    return x[:200], y[:200], x[200:], y[200:]\n"
    )
    config = "study: s\ndataset: 'mine:read'\narchitecture: {width: [8]}\ntrain: {epochs: 1}\nseeds: 1\n"
    study = Study(tmp_path, config)
    code = "import sys, reluexp; reluexp.run(sys.argv[1], sys.argv[2], workers=1)"
    assert study.start("r", code=code).wait(100) == 0, (tmp_path / "r.log").read_text()
    assert reluexp.load(study.results("r")).trials["outcome"].tolist() == ["finished"]


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[tuple[int, float]]:
    """Memory for so many trials of a stack; what is returned fills with the size and share of each that is tried."""
    train, tried = Work._train, []

    def trained(self: Work, job: Any) -> Any:
        tried.append((len(stack_of(job).trials), job["share"]))
        if tried[-1][0] > most:
            raise MemoryError("planted")
        return train(self, job)

    monkeypatch.setattr(Work, "_train", trained)
    return tried


@pytest.mark.usefixtures("inline")
def test_a_stack_that_does_not_fit_is_halved_until_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, events = Study(tmp_path, SMALL + "seeds: 7\n"), list[Any]()
    reluexp.run(study.config, tmp_path / "alone", stack=1)
    tried = limited(monkeypatch, 2)
    reluexp.run(study.config, tmp_path / "r", stack=7, workers=1, listener=events.append)
    assert sum("not enough memory, halved a stack" in event.get("text", "") for event in events) == 3
    records = reluexp.load(study.results("r")).standing.records
    assert sorted(len(record["trials"]) for record in records.values()) == [1, 2, 2, 2]
    assert set(tried) == {(7, 1.0), (4, 0.5), (3, 0.5), (2, 0.25), (1, 0.25)}  # of a GPU's memory
    study.assert_same("alone", "r")


@pytest.mark.usefixtures("inline")
def test_a_network_that_does_not_fit_alone_is_a_clear_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 0)
    (failure,) = reluexp.run(Study(tmp_path, SMALL + "seeds: 1\n").config, tmp_path / "r").trials["failure"]
    assert failure.startswith("one network alone does not fit into memory: MemoryError: planted")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.full_form)])
def test_of_runs_at_once_one_works_and_the_others_explain(
    count: int, whole: Study, figure: Callable[[str], None]
) -> None:
    name = f"at-once-{count}"
    running = [whole.start(name, workers=1) for _ in range(count)]
    codes = sorted(process.wait(300) for process in running)
    assert codes == [0] + [1] * (count - 1), (whole.folder / f"{name}.log").read_text()
    said = (whole.folder / f"{name}.log").read_text()
    assert said.count("StudyBusyError: ") == count - 1
    assert "in use by process" in said
    assert "since 20" in said
    assert "delete" in said
    whole.assert_same("whole", name)
    figure(f"{count} runs of one study at once: one worked, {count - 1} said who holds it; tables equal")


def test_a_lock_says_who_and_what_to_do_and_readers_do_not_wait(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    with store.lock(), pytest.raises(StudyBusyError) as caught, Store(tmp_path / "s").lock():
        pass
    assert f"process {os.getpid()} on" in str(caught.value)
    assert "run.lock and run again" in str(caught.value)
    with store.lock():
        store.write_study(lambda before: {"study": "s", "config": {"study": "s", "seeds": 1}})
        assert len(store.owners()) == 1
        start = time.monotonic()
        code = "from reluexp.cli import main; main()"
        words = [sys.executable, "-c", code, "status", "s", "--results", str(tmp_path)]
        found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        assert "running: process" in found.stdout
        assert time.monotonic() - start < 20
    assert store.owners() == []


def test_shards_exclude_only_what_they_must(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    with store.lock(Shard(1, 3)):
        with store.lock(Shard(2, 3)):
            pass
        for other in (Shard(1, 3), Shard(1, 2), None):
            with pytest.raises(StudyBusyError), Store(tmp_path / "s").lock(other):
                pass
    with store.lock(), pytest.raises(StudyBusyError), Store(tmp_path / "s").lock(Shard(1, 3)):
        pass


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition_that_depends_on_the_config_alone(count: int) -> None:
    grid = {"activation": ["relu", "elu"], "architecture.width": [8, 64], "train.lr": [0.1, 0.2]}
    trials = make_trials(load_config({"study": "s", "seeds": 3, "grid": grid}))
    parts = [part_of(trials, Shard(number + 1, count)) for number in range(count)]
    names = [trial.id for part in parts for trial in part]
    assert sorted(names) == sorted(trial.id for trial in trials)
    assert parts == [part_of(trials, Shard(number + 1, count)) for number in range(count)]
    assert max(map(len, parts)) <= 2 * len(trials) / count + 1


@pytest.mark.slow
def test_shards_at_once_give_one_study(whole: Study) -> None:
    code = "import sys, reluexp; reluexp.run(sys.argv[1], sys.argv[2], workers=1, shard='{}/2')"
    running = [whole.start("shards", code=code.format(number)) for number in (1, 2)]
    assert [process.wait(300) for process in running] == [0, 0], (whole.folder / "shards.log").read_text()
    whole.assert_same("whole", "shards")


def test_a_killed_run_leaves_no_lock(whole: Study) -> None:
    process = whole.start("unlocked")
    until = time.monotonic() + 60
    while not (whole.results("unlocked") / ".locks" / "run.owner").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    kill_all(process)
    assert ", which is gone" in Store(whole.results("unlocked")).owners()[0]
    with Store(whole.results("unlocked")).lock():
        pass


@pytest.mark.usefixtures("inline")
def test_data_that_changed_under_the_same_config_are_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drawn.py").write_text(
        "import numpy as np\nfrom pathlib import Path\n\ndef data():\n"
        "    random = np.random.default_rng(int(Path('seed').read_text()))\n"
        "    x = random.normal(size=(90, 3))\n    y = np.arange(90) % 3\n    return x[:60], y[:60], x[60:], y[60:]\n"
        "def bent(z):\n    return z.relu() + z / 9\n"
    )
    monkeypatch.chdir(tmp_path)
    text = SMALL.replace("{name: digits, train_size: 200, test_size: 60}", "'drawn:data'").replace(
        "size: 64", "size: 50"
    )
    study = Study(tmp_path, text + "seeds: 2\ngrid: {activation: [relu, 'drawn:bent']}\n")

    def epochs(seed: int) -> pd.DataFrame:
        Path("seed").write_text(str(seed))
        reluexp.run(study.config, tmp_path / "r", workers=1)
        return study.tables("r")["epochs"]

    first = epochs(1)
    epochs(1)
    assert not (study.results("r") / "aside").exists()
    second = epochs(2)
    assert len(list((study.results("r") / "aside").glob("*.why.txt"))) == 2
    assert not first["test_loss"].equals(second["test_loss"])
    pd.testing.assert_frame_equal(epochs(1), first)


@pytest.mark.usefixtures("inline")
def test_a_changed_config_adds_trials_and_says_so(whole: Study, tmp_path: Path) -> None:
    shutil.copytree(whole.results("whole"), tmp_path / "s")
    assert len(reluexp.load(tmp_path / "s").trials) == 8
    (tmp_path / "changed.yaml").write_text(TEXT.replace("seeds: 2", "seeds: 3").replace(", prelu]", "]"))
    events: list[Any] = []
    study = reluexp.run(tmp_path / "changed.yaml", tmp_path, stack=2, listener=events.append)
    said = [event["text"] for event in events if event["event"] == "note"]
    assert any("3 trials to do, 2 of earlier configs kept" in text for text in said), said
    assert len(study.trials) == 9
    assert set(study.trials["activation"]) == {"relu", "elu", "tanh"}


def test_provenance_is_whole(whole: Study) -> None:
    found = reluexp.load(whole.results("whole")).provenance
    for key in ("versions", "numerics", "machine", "cores", "threads", "host", "command", "started", "ended", "device"):
        assert found[key], key
    assert {"python", "torch", "numpy", "reluexp"} <= set(found["versions"])
    record = next(iter(reluexp.load(whole.results("whole")).standing.records.values()))
    assert {"host", "device", "torch", "started", "ended", "pid", "data", "numerics"} <= set(record)
    text = (whole.results("whole") / "study.yaml").read_text()
    assert TEXT.splitlines()[1] in text.replace("\\\n", "") or json.dumps(TEXT)[1:40] in text


def test_patience_counts_the_time_alone_in_which_the_run_itself_listened(monkeypatch: pytest.MonkeyPatch) -> None:
    from reluexp.engine import local

    times = iter([100.0, 100.2, 100.3, 5000.0, 5000.1])
    monkeypatch.setattr(local.time, "monotonic", lambda: next(times))
    clock = local._Clock()
    found = []
    for _ in range(4):
        clock.tick()
        found.append(round(clock.seconds, 6))
    assert found == [0.2, 0.3, 1.3, 1.4]  # an hour in which it was stopped is a second
