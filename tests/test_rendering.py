"""Figures as files: the same bytes whichever process draws them, and one of them for a page."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from concurrent.futures import wait
from pathlib import Path

import matplotlib as mpl
import pytest
from made import STUDIES, made_study

from reluexp.errors import ConfigError
from reluexp.report import rendering, write_report
from reluexp.report.figures import FIGURES, draw_figure
from reluexp.report.rendering import Drawing, Renderer, for_page
from reluexp.report.style import Style, paper_style, styled


def rendered(drawings: Iterable[Drawing]) -> list[dict[str, bytes]]:
    renderer = Renderer()
    for number, drawing in enumerate(drawings):
        renderer.add(number, drawing)
    wait(renderer._begun)  # else a short list would be drawn here before another process has started
    return list(renderer.results().values())


def drawings() -> list[Drawing]:
    study = made_study(("relu", "prelu"), 3, 3, ("dense",) * 2)
    looks = ((("svg", "png"), Style()), (("pdf",), paper_style()))
    return [
        Drawing(figure, forms, look)
        for spec in FIGURES[::12]
        for forms, look in looks
        if (figure := draw_figure(spec, study, look)) is not None
    ]


@pytest.mark.slow
def test_figures_have_the_same_bytes_whichever_process_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "cpu_count", lambda: 1)
    here = rendered(drawings())
    monkeypatch.setattr(rendering, "cpu_count", lambda: 2)
    assert rendered(drawings()) == here
    assert {form for made in here for form in made} == {"svg", "png", "pdf"}
    monkeypatch.setattr(rendering, "cpu_count", lambda: 1)
    own = drawings()
    with mpl.rc_context({"lines.linewidth": 9.0, "path.snap": False, "image.interpolation": "nearest"}):
        assert rendered(own) == here


def test_what_a_process_that_was_killed_had_to_draw_is_drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "cpu_count", lambda: 2)
    with Renderer() as renderer:
        monkeypatch.setattr(rendering, "_render_forms", _die)
        renderer.add("first", drawings()[0])
        monkeypatch.undo()
        wait(renderer._begun)
        made = renderer.results()["first"]
    assert set(made) == {"svg", "png"}


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_report_of_tables_starts_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rendering, "get_reusable_executor", None)
    write_report(STUDIES["ordinary"](), tmp_path, ("csv", "md"))
    assert (tmp_path / "tables" / "summary.csv").is_file()
    assert not (tmp_path / "figures").exists()


def test_a_large_drawing_brings_a_png_along_for_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "cpu_count", lambda: 1)
    study = STUDIES["ordinary"]()
    figure = draw_figure(FIGURES[0], study)
    assert figure is not None
    (small,) = rendered([Drawing(figure, ["svg"], Style())])
    assert for_page(small) == small
    monkeypatch.setattr(rendering, "_LARGE", len(small["svg"]) - 1)
    (large,) = rendered([Drawing(figure, ["svg"], Style())])
    assert large["svg"] == small["svg"]
    assert for_page(large) == {"png": large["png"]}
    assert large["png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text.usetex: True\n", "text.usetex: figures have plain text"),
        ("figure.figsize: 100000, 3\n", "figure.figsize: got 100000; from 1 to 60"),
        ("figure.dpi: 1\n", "figure.dpi: got 1; from 10 to 1200"),
        ("# sizes\naxes.titlesze: 9 # too small\n", "own.mplstyle:2: 'axes.titlesze' is no rcParam of matplotlib"),
    ],
)
def test_styles_that_cannot_be_are_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.mplstyle").write_text(text)
    with pytest.raises(ConfigError, match=message):
        styled(Style(), tmp_path / "own.mplstyle")


def test_a_style_sets_width_and_dots(tmp_path: Path) -> None:
    (tmp_path / "own.mplstyle").write_text("figure.figsize: 3.25, 2\nfigure.dpi: 300\naxes.titlesize: 7\n")
    found = styled(Style(), tmp_path / "own.mplstyle")
    assert (found.width, found.dpi, found.rc["axes.titlesize"]) == (3.25, 300, 7.0)
