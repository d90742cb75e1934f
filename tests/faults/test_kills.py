"""Processes that are killed at random moments: the next run ends with the same bits."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TEXT, Study, family, kill_all


@pytest.mark.slow
def test_the_whole_run_killed_at_random_moments(whole: Study, full: bool, figure: Callable[[str], None]) -> None:
    moments = random.Random(0)
    kills = checkpoints = stacks = 0
    while kills < (50 if full else 1):
        name = "killed"
        shutil.rmtree(whole.folder / name, ignore_errors=True)
        process = whole.start(name)
        time.sleep(moments.uniform(0.2, 1.0 if full else 0.7) * whole.seconds)
        if process.poll() is not None:  # it had come to its end: that was no kill
            continue
        kill_all(process)
        kills += 1
        checkpoints += bool(list(whole.results(name).glob("begun/*.ckpt")))
        stacks += bool(list(whole.results(name).glob("stacks/*/stack.json")))
        whole.run(name)
        whole.assert_same("whole", name)
    figure(
        f"SIGKILL of the run and its workers: {kills} random moments, {checkpoints} with checkpoints of stacks under "
        f"way, {stacks} with stacks that had ended; continued once each: all tables equal bit for bit"
    )


@pytest.mark.slow
def test_killed_again_and_again_it_still_comes_to_an_end(
    whole: Study, full: bool, figure: Callable[[str], None]
) -> None:
    moments = random.Random(1)
    kills, rounds = 0, 10 if full else 2
    for _ in range(rounds):
        process = whole.start("again")
        if whole.wait_for_progress("again", process):
            time.sleep(moments.uniform(0.0, 0.3))
        if process.poll() is None:
            kills += 1
            kill_all(process)
    assert kills >= 2
    whole.run("again")
    whole.assert_same("whole", "again")
    figure(f"one study killed {kills} times in a row, then continued: all tables equal bit for bit")


@pytest.mark.slow
def test_single_workers_killed(whole: Study, full: bool, figure: Callable[[str], None]) -> None:
    moments = random.Random(2)
    kills, rounds = 0, 0
    while kills < (20 if full else 1):
        rounds += 1
        name = "worker"
        shutil.rmtree(whole.folder / name, ignore_errors=True)
        process = whole.start(name)
        while process.poll() is None:
            whole.wait_for_progress(name, process)
            time.sleep(moments.uniform(0.0, 1.0))
            workers = family(process.pid)
            if workers and process.poll() is None:
                os.kill(moments.choice(workers), signal.SIGKILL)
                kills += 1
                break
        assert process.wait(300) == 0, (whole.folder / f"{name}.log").read_text()[-2000:]
        whole.assert_same("whole", name)
    figure(f"SIGKILL of single workers: {kills} in {rounds} runs; each run ended by itself, all tables equal")


_STOPPING = [pytest.param(n, marks=[pytest.mark.full_form]) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, *_STOPPING], ids=lambda number: signal.Signals(number).name)
def test_a_signal_to_stop_saves_and_exits_130_within_seconds(
    whole: Study, number: int, figure: Callable[[str], None]
) -> None:
    name = f"signal{int(number)}"
    words = ["reluexp", "run", "s.yaml", "--stack", "2", "--no-report", "--results", name]
    code = f"import sys; from reluexp.cli import main; sys.argv = {words}; main()"
    process = whole.start(name, code=code)
    until = time.monotonic() + 60
    while not list(whole.results(name).glob("begun/*.ckpt")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    start = time.monotonic()
    os.kill(process.pid, number)
    assert process.wait(60) == 130
    seconds = time.monotonic() - start
    assert seconds < 15
    figure(f"{signal.Signals(number).name}: a checkpoint and exit code 130 within {seconds:.1f} s")
    whole.run(name)
    whole.assert_same("whole", name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: signal.Signals(number).name)
def test_a_signal_while_the_data_are_read_ends_it_at_once(
    number: int, tmp_path: Path, full: bool, figure: Callable[[str], None]
) -> None:
    study = Study(tmp_path, TEXT)
    words = ["reluexp", "run", "s.yaml", "--no-report", "--results", "r"]
    code = f"import sys; from reluexp.cli import main; sys.argv = {words}; main()"
    slowest = 0.0
    for seconds in (0.0, 0.5, 1.0, 2.0, 3.0) if full else (0.5,):
        process = study.start("r", code=code)
        until = time.monotonic() + 60
        while not study.results("r").is_dir():  # its lock is the first thing that a run makes
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(seconds)
        start = time.monotonic()
        os.kill(process.pid, number)
        assert process.wait(60) == 130, (tmp_path / "r.log").read_text()
        slowest = max(slowest, time.monotonic() - start)
        shutil.rmtree(study.results("r"), ignore_errors=True)
    said = (tmp_path / "r.log").read_text()
    assert "Traceback" not in said
    assert slowest < 15
    figure(f"{signal.Signals(number).name} while a run starts and reads its data: exit code 130 within {slowest:.1f} s")


@pytest.mark.parametrize("times", [1, 2], ids=["once, for long", "twice, at once"])
def test_a_worker_that_comes_to_no_safe_point_does_not_keep_the_run_waiting(times: int, tmp_path: Path) -> None:
    """A pass over the network that takes a minute, and a run that is told to stop within it."""
    (tmp_path / "mine.py").write_text(
        "import time, torch\nfrom pathlib import Path\n\nclass Slow(torch.nn.Module):\n"
        "    def forward(self, z):\n        if z.shape[-2] == 32:  # a batch of training\n"
        "            Path('begun').touch()\n            time.sleep(60)\n        return z.relu()\n"
    )
    study = Study(
        tmp_path, TEXT.replace("relu, elu, tanh, prelu", "'mine:Slow'") + "baseline: {activation: 'mine:Slow'}\n"
    )
    words = ["reluexp", "run", "s.yaml", "--no-report", "--results", "r"]
    code = (
        f"import sys, reluexp.engine.local as local; local.END_SECONDS = {2.0 if times == 1 else 60.0}\n"
        f"from reluexp.cli import main; sys.argv = {words}; main()"
    )
    process = study.start("r", code=code)
    until = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < until
        assert process.poll() is None, (tmp_path / "r.log").read_text()
        time.sleep(0.05)
    start = time.monotonic()
    workers = family(process.pid)
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.5)
    assert process.wait(60) == 130
    assert time.monotonic() - start < 20
    assert "Traceback" not in (tmp_path / "r.log").read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


@pytest.mark.full_form
def test_a_run_that_was_stopped_and_goes_on_takes_no_worker_for_hung(tmp_path: Path) -> None:
    """Ctrl-Z and fg: its workers go on meanwhile, and it has heard nothing of them."""
    text = TEXT.replace("relu, elu, tanh, prelu", "relu").replace("epochs: 12", "epochs: 3000")
    study = Study(tmp_path, text)
    code = "import sys, reluexp; reluexp.run(sys.argv[1], sys.argv[2], workers=2, patience=3)"
    process = study.start("r", code=code)
    assert study.wait_for_progress("r", process)
    workers = family(process.pid)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(process.pid, signal.SIGCONT)
    time.sleep(3)
    assert process.poll() is None
    assert family(process.pid) == workers
    kill_all(process)
