"""The mark, the short and the full form, and the figures that the fault tests find."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import TEXT, Study

_FULL = os.environ.get("RELUEXP_FAULTS") == "full"
_FIGURES: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything in this folder bears the mark; what is marked `full_form` is left out of the short form."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker(pytest.mark.faults)
    left_out = [item for item in here if item.get_closest_marker("full_form") and not _FULL]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of docs/reliability.md."""
    if _FIGURES and _FULL:
        terminalreporter.section("figures")
        for line in _FIGURES:
            terminalreporter.write_line(line)


@pytest.fixture
def full() -> bool:
    """Whether the full form was asked for: RELUEXP_FAULTS=full."""
    return _FULL


@pytest.fixture
def figure() -> Callable[[str], None]:
    """Notes a line for the summary."""
    return _FIGURES.append


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study, with an undisturbed run in `whole` that took `seconds`."""
    study = Study(tmp_path_factory.mktemp("whole"), TEXT)
    start = time.monotonic()
    study.run("whole")
    study.seconds = time.monotonic() - start
    return study
