"""What code of the user's own may do in a worker, and what it must not do to others' numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import Study

import reluexp
from reluexp.errors import ConfigError

SMALL = (
    "study: s\ndataset: {name: digits, train_size: 200, test_size: 60}\narchitecture: {width: [8]}\n"
    "train: {epochs: 1}\nprobe: {size: 64}\ninit: {gain: 1.0}\nseeds: 1\n"
)
ONE_WORKER = "import sys, reluexp; reluexp.run(sys.argv[1], sys.argv[2], workers=1, stack=1)"


def ran(folder: Path, code: str, activations: str, name: str = "r", expected: int = 0) -> pd.DataFrame:
    """What became of the trials of a study whose activations are in such a module, by activation."""
    if not (folder / "mine.py").exists():
        (folder / "mine.py").write_text(code)
    study = Study(folder, f"{SMALL}grid: {{activation: [{activations}]}}\n")
    assert study.start(name, code=ONE_WORKER).wait(100) == expected, (folder / f"{name}.log").read_text()
    found = reluexp.load(study.results(name))
    last = found.epochs.groupby("trial")[["train_loss", "probe_loss", "grad_norm", "test_accuracy"]].last()
    return found.trials.join(last, on="trial").set_index("activation")


@pytest.mark.slow
def test_code_that_changes_while_a_study_runs_is_not_taken_for_what_it_was(tmp_path: Path) -> None:
    """The module is another one as soon as it has been imported, and the worker that knows the old one is lost."""
    code = (
        "import os\nfrom pathlib import Path\n\ndef g(z):\n    return z.relu()\n\ndef f(z):\n"
        "    if not Path('lost').exists():\n        Path('lost').touch()\n        os.kill(os.getpid(), 9)\n"
        "    return z.relu()\n\nif not Path('done').exists():\n"
        "    Path('done').touch()\n    Path(__file__).write_text(Path(__file__).read_text() + 'x = 1\\n')\n"
    )
    first = ran(tmp_path, code, "'mine:f', relu")
    assert first["outcome"].to_dict() == {"relu": "finished", "mine:f": "failed"}
    assert "the code of mine:f changed while the study ran; run it again" in first["failure"]["mine:f"]
    again = ran(tmp_path, code, "'mine:f', relu")
    assert again["outcome"].eq("finished").all()


@pytest.mark.slow
def test_what_a_module_sets_for_the_whole_process_changes_no_other_trial(tmp_path: Path) -> None:
    code = (
        "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.set_num_threads(2)\n"
        "torch.set_grad_enabled(False)\ntorch.set_flush_denormal(False)\n\ndef f(z):\n    return z.relu()\n"
    )
    beside = ran(tmp_path, code, "'mine:f', relu, tanh", "beside")
    (tmp_path / "apart").mkdir()
    apart = ran(tmp_path / "apart", code, "relu, tanh")
    assert beside["outcome"].eq("finished").all()
    pd.testing.assert_frame_equal(beside.loc[["relu", "tanh"]], apart.loc[["relu", "tanh"]], check_exact=True)
    same = ["train_loss", "probe_loss", "grad_norm", "test_accuracy"]
    np.testing.assert_allclose(beside.loc["mine:f", same].tolist(), beside.loc["relu", same].tolist(), rtol=1e-4)
    assert beside.loc["relu", same].notna().all()


def test_code_that_ends_its_process_is_a_failure_with_its_words(tmp_path: Path) -> None:
    code = "import sys\n\ndef f(z):\n    sys.exit('no more of this')\n"
    trials = ran(tmp_path, code, "'mine:f', relu")
    assert trials["outcome"].to_dict() == {"relu": "finished", "mine:f": "failed"}
    assert "SystemExit: no more of this (mine.py, line 4)" in trials["failure"]["mine:f"]


@pytest.mark.usefixtures("inline")
def test_a_module_that_ends_its_process_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"'leaves:f' cannot be imported: SystemExit: 3 \(leaves.py, line 2\)"):
        reluexp.run({"study": "s", "activation": "leaves:f", "seeds": 1}, tmp_path / "r")


@pytest.mark.slow
def test_what_has_lost_memory_does_no_other_trial(tmp_path: Path) -> None:
    code = (
        "import os\nfrom pathlib import Path\n\ndef note(name):\n    with Path('pids').open('a') as file:\n"
        "        file.write(f'{name} {os.getpid()}\\n')\n\ndef short(z):\n    note('short')\n"
        "    raise MemoryError('planted')\n\ndef a(z):\n    note('a')\n    return z.relu()\n\n"
        "def b(z):\n    note('b')\n    return z.relu()\n"
    )
    trials = ran(tmp_path, code, "'mine:a', 'mine:short', 'mine:b', relu")
    assert trials["outcome"].eq("failed").sum() == 1
    assert "does not fit into memory" in trials["failure"]["mine:short"]
    pids = [line.split() for line in (tmp_path / "pids").read_text().splitlines()]
    short = [place for place, (name, _) in enumerate(pids) if name == "short"]
    assert len({pid for _, pid in pids}) == 2
    assert all(pid != pids[short[-1]][1] for _, pid in pids[short[-1] + 1 :])


@pytest.mark.slow
def test_files_of_the_working_folder_take_no_modules_place(tmp_path: Path) -> None:
    for name in ("random", "queue", "logging", "json", "statistics", "torch", "numpy", "token"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')\n")
    (tmp_path / "s.yaml").write_text(SMALL)
    home = str(Path(reluexp.__file__).parents[1])
    main = "import sys; sys.path.append(sys.argv.pop(1)); from reluexp.cli import main; main()"
    words = [sys.executable, "-P", "-c", main, home, "run", "s.yaml", "--no-report", "--quiet"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
