"""Figures as files: the same bytes whichever process draws them, and one of them for a page."""

from __future__ import annotations

import pytest
from made import STUDIES

from reluexp.report import rendering
from reluexp.report.figures import FIGURES, draw_figure
from reluexp.report.rendering import Drawing, for_page, render_all
from reluexp.report.style import Style, paper_style


def drawings() -> list[Drawing]:
    study = STUDIES["data_sets"]()
    looks = ((("svg", "png"), Style()), (("pdf",), paper_style()))
    return [
        Drawing(figure, forms, look)
        for spec in FIGURES
        for forms, look in looks
        if (figure := draw_figure(spec, study, look)) is not None
    ]


def test_figures_have_the_same_bytes_whichever_process_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    here = render_all(drawings()[::9])
    monkeypatch.setattr(rendering, "_ALONE", 0)
    assert render_all(drawings()[::9]) == here
    assert {form for made in here for form in made} == {"svg", "png", "pdf"}


def test_a_large_drawing_brings_a_png_along_for_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    study = STUDIES["ordinary"]()
    figure = draw_figure(FIGURES[0], study)
    assert figure is not None
    (small,) = render_all([Drawing(figure, ["svg"], Style())])
    assert for_page(small) == small
    monkeypatch.setattr(rendering, "_LARGE", len(small["svg"]) - 1)
    (large,) = render_all([Drawing(figure, ["svg"], Style())])
    assert large["svg"] == small["svg"]
    assert for_page(large) == {"png": large["png"]}
    assert large["png"].startswith(b"\x89PNG")
