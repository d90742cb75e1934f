"""Many trials in one run: outcomes of every kind come out right, memory and open files stay flat."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Study, family

import reluexp

MINE = """
import torch

class Sometimes(torch.nn.Module):
    '''ReLU that raises, or that blows up, or neither, as its option says.'''

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, z):
        if self.kind == 0:
            raise RuntimeError('planted in the user\\'s code')
        return z * float('nan' if self.kind == 2 else 'inf') if self.kind in (1, 2, 3) else z.relu()
"""
TEXT = (
    "study: s\ndataset: {{name: blobs, samples: 60}}\narchitecture: {{width: [4]}}\n"
    "train: {{epochs: 1, batch_size: 48}}\nprobe: {{size: 48, metrics: network}}\ninit: {{gain: 1.0}}\nseeds: {seeds}\n"
    "grid: {{activation: [{kinds}]}}\nbaseline: {{activation: {{name: 'mine:Sometimes', kind: 4}}}}\n"
)


@pytest.mark.slow
def test_every_outcome_is_right_where_a_third_diverges_and_a_tenth_raises(
    tmp_path: Path, full: bool, figure: Callable[[str], None]
) -> None:
    seeds = 100 if full else 1
    (tmp_path / "mine.py").write_text(MINE)
    kinds = ", ".join(f"{{name: 'mine:Sometimes', kind: {kind}}}" for kind in range(10))
    study = Study(tmp_path, TEXT.format(seeds=seeds, kinds=kinds))
    code = "import sys; sys.argv = ['reluexp', 'run', 's.yaml', '--quiet']; from reluexp.cli import main; main()"
    assert study.start("log", code=code).wait(900) == 1, (tmp_path / "log.log").read_text()[-3000:]
    found = reluexp.load(study.results("results")).trials
    counts = found.groupby("activation")["outcome"].agg(lambda own: sorted(set(own)))
    assert len(found) == 10 * seeds
    for label, outcomes in counts.items():
        kind = int(str(label).rpartition("=")[2].rstrip(")"))
        assert outcomes == (["failed"] if kind == 0 else ["diverged"] if kind < 4 else ["finished"]), (label, outcomes)
    text = (tmp_path / "results" / "s" / "report" / "index.html").read_text("utf-8")
    assert "nan ±" not in text
    whole = found["outcome"].value_counts().to_dict()
    assert f">{whole['diverged']}<" in text
    figure(f"{len(found)} trials, {whole['diverged']} diverge and {whole['failed']} raise in the user's code: every "
           "outcome right, exit code 1, the report written")  # fmt: skip


def usage(pid: int) -> tuple[int, int]:
    """Resident kilobytes and open files of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return resident, len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.full_form
def test_memory_and_file_handles_stay_flat(tmp_path: Path, figure: Callable[[str], None]) -> None:
    count = 2000
    text = TEXT.format(seeds=count, kinds="relu").replace("{name: 'mine:Sometimes', kind: 4}", "relu")
    study = Study(tmp_path, text)
    code = "import sys, reluexp; reluexp.run(sys.argv[1], sys.argv[2], workers=1, stack=1)"
    process = study.start("r", code=code)
    seen: list[tuple[int, dict[int, tuple[int, int]]]] = []
    while process.poll() is None:
        done = len(list(study.results("r").glob("stacks/*/stack.json")))
        members = [process.pid, *family(process.pid)]
        with contextlib.suppress(OSError, StopIteration):  # one of them may just have ended
            seen.append((done, {pid: usage(pid) for pid in members}))
        time.sleep(1)
    assert process.returncode == 0, (tmp_path / "r.log").read_text()[-3000:]
    worked = [entry for entry in seen if entry[0] > 0.4 * count and len(entry[1]) == 2]
    first, last = worked[0], worked[-1]
    for pid, (memory, files) in first[1].items():
        later, more = last[1][pid]
        assert more <= files + 3
        assert later < 1.05 * memory + 20_000
    told = ", ".join(f"{first[1][pid][0] / 1000:.0f} → {last[1][pid][0] / 1000:.0f} MB and {first[1][pid][1]} → "
                     f"{last[1][pid][1]} files" for pid in first[1])  # fmt: skip
    figure(f"{count} small trials one by one: driver and worker, from trial {first[0]} to {last[0]}: {told}")


def test_checkpoints_cost_at_most_two_percent_by_rule() -> None:
    """The rule itself, on a clock of its own: a save that takes a second is made at most every fifty."""
    code = (
        "import types, reluexp.engine.work as work\n"
        "now = [0.0]; saves = []\n"
        "work.time = types.SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0])\n"
        "training = types.SimpleNamespace(epoch=0, seconds={})\n"
        "def save():\n    saves.append(now[0]); now[0] += 1.0\n"
        "pause = work._Pause(training, save)\n"
        "while now[0] < 3000:\n    now[0] += 0.1; training.epoch = int(now[0] / 10); pause()\n"
        "assert training.seconds['checkpoint'] <= 0.021 * now[0], training.seconds\n"
        "assert 40 < len(saves) < 62, len(saves)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
