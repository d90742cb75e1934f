"""The examples run as they stand, and say what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import reluexp

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> reluexp.Study:
    overrides = ["grid={activation: [tanh, relu]}", "seeds=2", "train.epochs=4", "init.bias=-0.3"]
    return reluexp.run("quickstart", tmp_path_factory.mktemp("results"), overrides=overrides)


def test_dead_units_recomputed_with_torch_alone_are_the_tables(study: reluexp.Study) -> None:
    found = run("recompute_dead.py", study.path)
    assert found.returncode == 0, found.stderr
    trial = study.trials.query("activation == 'relu'")["trial"].iloc[0]
    dead = study.units[study.units["trial"] == trial].groupby("site")["dead_at_end"].sum()
    assert dead.sum() > 0
    assert found.stdout.splitlines() == [
        f"layer {site + 1}: {count} of 64 units are dead, as the table says" for site, count in dead.items()
    ]


def test_the_watched_loop_shows_deaths_their_causes_and_a_warning() -> None:
    found = run("watch_loop.py")
    assert found.returncode == 0, found.stderr
    assert "site_name" in found.stdout
    assert "cause" in found.stdout
    assert "are dead at step 100" in found.stdout


def test_the_documented_example_runs() -> None:
    text = (EXAMPLES.parent / "docs" / "measurements.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found = subprocess.run([sys.executable, "-W", "error", "-c", block], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert re.search(r"\b0 +1 +1(\.0)? +bias\b", found.stdout)


def test_the_modules_that_users_call_are_there_after_import_reluexp() -> None:
    code = (
        "import reluexp; assert reluexp.report.write_report and reluexp.layers.activate and reluexp.stats.compare; "
        "assert issubclass(reluexp.errors.ConfigError, reluexp.errors.ReluexpError)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
