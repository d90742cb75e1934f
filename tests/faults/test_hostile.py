"""A study made to harm whoever looks at it: nothing is executed, nothing is injected."""

from __future__ import annotations

import csv
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from reluexp.config import load_config
from reluexp.plain import plain
from reluexp.planning.plan import NUMERICS, make_trials
from reluexp.store import Store

MARK = "from pathlib import Path\nPath('harmed').touch()\n"
EVIL = "<img src=x onerror=alert(1)>\x1b[2J\x1b]0;title\x07=HYPERLINK(1)</script><script>alert(2)</script>"
CONFIG: dict[str, Any] = {
    "study": "evil",
    "dataset": {"name": "harm:data", "note": EVIL},
    "architecture": {"name": "harm:model"},
    "activation": "harm:activation",
    "seeds": 3,
    "train": {"epochs": 1},
    "grid": {"activation": ["relu", {"name": "harm:activation", "=cmd|' /C calc'!A1": EVIL}]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a harmful module and the results of a study that names it."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "harm.py").write_text(MARK)
    (folder / "sitecustomize_.py").write_text(MARK)
    text = "# What is <script>alert(0)</script>\x7f worth?\n" + yaml.safe_dump(CONFIG)
    (folder / "evil.yaml").write_text(text.replace("\x7f", ""), "utf-8")
    store = Store(folder / "results" / "evil")
    trials = make_trials(load_config(CONFIG))
    store.write_study(
        lambda before: {
            "study": "evil",
            "given": text,
            "config": CONFIG,
            "provenance": {"host": EVIL, "command": [EVIL], "device": "=1+1"},
        }
    )
    rows: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    for number, trial in enumerate(trials):
        label = str(trial.point.axes["activation"])
        rows.append(
            {"trial": trial.id, "study": "evil", "seed": trial.seed, "dataset": EVIL, "architecture": "@SUM(A1)"}
        )
        rows[-1] |= {"activation": label, "init": "-2+3", "outcome": "finished", "stuck": False, "classes": 3}
        rows[-1] |= {"dead_fraction": 0.1 * (number % 3), "failure": EVIL}
        epochs += [{"trial": trial.id, "epoch": epoch, "step": epoch, "train_loss": 1.0 / (1 + epoch), "lr": 0.1,
                    "test_loss": 1.0, "test_accuracy": 0.3 + 0.1 * epoch + 0.01 * number, "probe_loss": 1.0,
                    "probe_accuracy": 0.5, "train_accuracy": 0.4, "grad_norm": 1.0, "output_range": 1.0}
                   for epoch in range(2)]  # fmt: skip
    record = {"trials": [trial.id for trial in trials], "outcomes": ["finished"] * len(trials), "shape": [3],
              "outputs": 3, "data": "d", "numerics": NUMERICS, "torch": EVIL}  # fmt: skip
    tables = {"trials": pd.DataFrame(rows), "epochs": pd.DataFrame(epochs)}
    store.write_stack("one", record, tables, {trials[0].id: {"w": torch.zeros(2)}})
    return folder


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    code = "from reluexp.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, timeout=120, env=environment
    )


_READING = [["status", "evil"], ["check", "evil"], ["plan", "evil.yaml"], ["report", "evil"]]


@pytest.mark.slow
@pytest.mark.parametrize("words", [*_READING, ["report", "evil", "--earlier"]])
def test_reading_commands_import_none_of_the_users_code_and_print_nothing_that_acts(
    folder: Path, words: list[str]
) -> None:
    found = command(folder, *words)
    assert found.returncode == 0, found.stderr
    assert not (folder / "harmed").exists()
    assert "\x1b" not in found.stdout + found.stderr
    assert "\x07" not in found.stdout + found.stderr


class _Page(HTMLParser):
    """What of a page could act or load."""

    def __init__(self) -> None:
        super().__init__()
        self.acting: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name.startswith("on") or (
                name in ("src", "href", "action") and not str(value).startswith(("#", "data:"))
            ):
                self.acting.append(f"<{tag} {name}={value}>")


@pytest.mark.slow
def test_the_page_and_the_tables_are_escaped(folder: Path) -> None:
    assert command(folder, "report", "evil", "--format", "html,csv,md,tex,svg").returncode == 0
    report = folder / "results" / "evil" / "report"
    text = (report / "index.html").read_text("utf-8")
    page = _Page()
    page.feed(text)
    assert page.acting == []
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    for path in (report / "figures").glob("*.svg"):
        assert "<script" not in path.read_text("utf-8")
        assert "<img" not in path.read_text("utf-8")
    texts = [path.read_text("utf-8") for path in (report / "tables").glob("*.csv")]
    cells = [cell for text in texts for row in csv.reader(io.StringIO(text)) for cell in row]
    assert cells
    risky = [cell for cell in cells if cell[:1] in "=+-@\t\r" and cell and not _is_number(cell)]
    assert risky == []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_a_pickle_in_the_place_of_weights_or_a_checkpoint_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return (os.mkdir, (str(tmp_path / "harmed"),))

    store = Store(tmp_path / "s")
    record = {"trials": ["a"], "outcomes": ["finished"], "data": "d", "numerics": 0}
    store.save_checkpoint("x", record, {"a": torch.ones(1)})
    (path,) = (tmp_path / "s" / "begun").glob("*.ckpt")
    path.write_bytes(pickle.dumps(Harm()))
    assert store.checkpoints.load("x", {}) is None
    # Even with a head that is right: torch refuses whatever is not plain data.
    from reluexp.store.checkpoints import _line
    from reluexp.store.files import digest

    body = pickle.dumps(Harm(), 2)  # the protocol that torch reads
    path.write_bytes(_line({**record, "stack": "x", "turn": 9, "bytes": len(body), "sha256": digest(body)}) + body)
    assert store.checkpoints.load("x", {}) is None
    np.save(tmp_path / "x.npy", np.array([Harm()], object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        np.load(tmp_path / "x.npy", mmap_mode="c")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("name", ["../../out", "/abs", "a/../../b", "..", "a\0b", "a\\b", "nul", "a.", "\u202eevil"])
def test_a_studys_name_stays_in_the_results(name: str) -> None:
    from reluexp.errors import ConfigError

    with pytest.raises(ConfigError, match="study"):
        load_config({"study": name})


def test_a_record_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    from reluexp.store.files import seal

    folder = tmp_path / "stacks" / "one"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    files = {"../../secret": {"bytes": 1, "sha256": "0"}}
    (folder / "stack.json").write_bytes(seal({"format": 1, "trials": [], "outcomes": [], "files": files}))
    records, damaged = Store(tmp_path).ended("all")
    assert records == {}
    assert len(damaged) == 1


def test_what_a_terminal_would_obey_is_spelt_out() -> None:
    assert plain("a\x1b[2Jb\x07\x9b31m\u202ec\r\n") == "a\\x1b[2Jb\\x07\\x9b31m\\u202ec\\r\n"
    assert plain("Größe × 10⁻³ – “ok” 漢字 ✓") == "Größe × 10⁻³ – “ok” 漢字 ✓"


def test_a_pickle_of_a_data_set_may_hold_arrays_and_nothing_else(tmp_path: Path) -> None:
    from reluexp.catalogue.published import _arrays_only

    class Harm:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return (os.mkdir, (str(tmp_path / "harmed"),))

    path = tmp_path / "batch"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps({"data": np.arange(4, dtype=np.uint8), "labels": [1, 2]}, min(protocol, 4)))
        assert _arrays_only(path)["data"].tolist() == [0, 1, 2, 3]
        path.write_bytes(pickle.dumps({"data": Harm()}, protocol))
        with pytest.raises(pickle.UnpicklingError, match="does not belong"):
            _arrays_only(path)
    assert not (tmp_path / "harmed").exists()
