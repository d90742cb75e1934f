"""Figures as files: the same bytes whichever process draws them, and one of them for a page."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import wait

import pytest
from made import STUDIES

from reluexp.report import rendering
from reluexp.report.figures import FIGURES, draw_figure
from reluexp.report.rendering import Drawing, Renderer, for_page
from reluexp.report.style import Style, paper_style


def rendered(drawings: Iterable[Drawing]) -> list[dict[str, bytes]]:
    renderer = Renderer()
    for drawing in drawings:
        renderer.add(drawing)
    wait(renderer._begun)  # else a short list would be drawn here before another process has started
    return renderer.results()


def drawings() -> list[Drawing]:
    study = STUDIES["data_sets"]()
    looks = ((("svg", "png"), Style()), (("pdf",), paper_style()))
    return [
        Drawing(figure, forms, look)
        for spec in FIGURES[::8]
        for forms, look in looks
        if (figure := draw_figure(spec, study, look)) is not None
    ]


def test_figures_have_the_same_bytes_whichever_process_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "cpu_count", lambda: 1)
    here = rendered(drawings())
    monkeypatch.setattr(rendering, "cpu_count", lambda: 2)
    assert rendered(drawings()) == here
    assert {form for made in here for form in made} == {"svg", "png", "pdf"}


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
