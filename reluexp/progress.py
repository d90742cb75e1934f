"""What is shown while a study runs: a live table on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from reluexp.catalogue.activations import display_name
from reluexp.plain import counted, plain
from reluexp.runner import Listener

__all__ = ["watching"]

_LINES_APART = 2.0


class _State:
    """The latest of every stack, and how far all of them are, in trials."""

    def __init__(self) -> None:
        self.latest: dict[str, dict[str, Any]] = {}
        self.stacks: dict[str, Any] = {}
        self.total = self.before = self.done = 0
        self.told: set[str] = set()

    def take(self, event: dict[str, Any]) -> None:
        kind, stack = event["event"], event.get("stack", "")
        if kind == "plan":
            self.latest, self.done = {}, 0  # a study that tunes plans twice
            self.stacks = {item.id: item for item in event["stacks"]}
            self.total, self.before = event["trials"], event["trials"] - event["to_do"]
        elif kind == "split":
            self.latest.pop(stack, None)
            self.stacks |= {item.id: item for item in event["stacks"]}
        elif kind == "progress":
            self.latest[stack] = event
        elif kind in ("done", "failed"):
            self.done += len(self.stacks[stack].trials)
            own = self.latest.setdefault(stack, {"epoch": 1, "epochs": 1})
            self.latest[stack] = {**own, "epoch": own["epochs"]}

    def message(self, event: dict[str, Any]) -> str:
        """What a person should read of an event, if anything, once; without characters that a terminal would obey."""
        before = {"failed": "failed: ", "split": "", "note": ""}
        if event["event"] not in before or (text := plain(before[event["event"]] + str(event["text"]))) in self.told:
            return ""
        self.told.add(text)
        return text + (f"; traceback: {plain(event['traceback'])}" if event.get("traceback") else "")

    @property
    def trials_worked(self) -> float:
        """Trials' worth of work that is done, those under way by their epochs."""
        shares = (len(self.stacks[s].trials) * self._share(e) for s, e in self.latest.items())
        return self.before + sum(shares)

    @staticmethod
    def _share(event: dict[str, Any]) -> float:
        """How much of a stack is done; networks at birth are when they have been measured, which is epoch 0 of 0."""
        return event["epoch"] / event["epochs"] if event["epochs"] else 1.0

    def by_activation(self) -> list[tuple[str, float, float]]:
        """Label, what was reached and dead fraction, means over what has been heard of."""
        found: dict[str, list[tuple[float, float, int]]] = {}
        for event in self.latest.values():
            for label, (reached, dead, count) in event.get("latest", {}).items():
                found.setdefault(label, []).append((reached, dead, count))
        return [(display_name(label), _mean(rows, 0), _mean(rows, 1)) for label, rows in found.items()]

    @property
    def regression(self) -> bool:
        """Whether what is reached is a loss."""
        return any(event.get("regression") for event in self.latest.values())

    def reached(self, value: float) -> str:
        """A test accuracy in percent, or a test loss."""
        return _percent(value) if not self.regression else "–" if math.isnan(value) else f"{value:.3g}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def _mean(rows: list[tuple[float, float, int]], column: int) -> float:
    known = [row for row in rows if not math.isnan(row[column])]  # between measurements nothing is known of deaths
    return sum(row[column] * row[2] for row in known) / sum(row[2] for row in known) if known else math.nan


@contextmanager
def watching(quiet: bool) -> Iterator[Listener]:
    """A listener for `run`, for the time of the block."""
    console = Console(stderr=True)
    if quiet:
        yield lambda event: None
    elif console.is_terminal:
        with _live(console) as listener:
            yield listener
    else:
        yield _lines(console)


@contextmanager
def _live(console: Console) -> Iterator[Listener]:
    state = _State()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
    )
    task = bar.add_task("trials", total=None)
    with Live(Group(bar), console=console, refresh_per_second=4, transient=True) as live:

        def listen(event: dict[str, Any]) -> None:
            state.take(event)
            if text := state.message(event):
                live.console.print(text, markup=False, highlight=False, soft_wrap=True)
            if event["event"] == "reading":
                bar.update(task, description="images read", total=event["total"], completed=event["done"])
                return
            bar.update(task, description="trials", total=state.total, completed=round(state.trials_worked))
            table = Table("activation", "test loss" if state.regression else "test accuracy %", "dead %", box=None)
            for label, reached, dead in state.by_activation():
                table.add_row(label, state.reached(reached), _percent(dead))
            live.update(Group(bar, table))

        yield listen


def _left(seconds: float, worked: float, wanted: float) -> str:
    """The time left if it goes on as it went.

    >>> _left(10, 5, 15), _left(1, 0, 15)
    ('20 s left', 'just begun')
    """
    return f"{seconds * (wanted - worked) / worked:.0f} s left" if worked > 0 else "just begun"


def _lines(console: Console) -> Listener:
    state, start = _State(), time.monotonic()
    last = start

    def listen(event: dict[str, Any]) -> None:
        nonlocal last
        state.take(event)
        now = time.monotonic()
        if event["event"] == "plan":
            console.print(
                f"{counted(state.total, 'trial')}, {event['to_do']} to do in {counted(len(state.stacks), 'stack')}",
                highlight=False,
            )
        elif text := state.message(event):
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif event["event"] == "reading":
            console.print(f"{event['done']}/{event['total']} images read", highlight=False)
        elif now - last > _LINES_APART or state.before + state.done == state.total:
            last = now
            left = _left(now - start, state.trials_worked - state.before, state.total - state.before)
            shown = "  ".join(f"{a} {state.reached(b)}/{_percent(c)}" for a, b, c in state.by_activation())
            what = "loss/dead %" if state.regression else "accuracy/dead %"
            text = f"{state.trials_worked:.0f}/{state.total} trials, {left}; {what}: {shown}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    return listen
