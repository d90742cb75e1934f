"""`Study.plot`: figures of the report in axes of one's own, as artists that can be changed."""

from __future__ import annotations

import numpy as np
import pytest
from made import STUDIES, Made, made_study
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reluexp.errors import ResultsError
from reluexp.report.figures import FIGURES, draw_figure
from reluexp.report.plots import Plots


@pytest.fixture(scope="module")
def study() -> Made:
    return made_study(("relu", "prelu", "tanh"), 3, 4)


def own_axes(layout: str | None = "constrained") -> tuple[Figure, Axes]:
    figure = Figure(layout=layout)
    return figure, figure.subplots(1, 2)[1]


def test_one_panel_is_drawn_as_artists_into_the_axes_given(study: Made) -> None:
    figure, ax = own_axes()
    assert Plots(study).dead_fraction(ax=ax) is ax
    alone = draw_figure(next(spec for spec in FIGURES if spec.name == "dead_fraction"), study)
    assert alone is not None
    assert len(ax.images) == 0
    for line, other in zip(ax.get_lines(), alone.axes[0].get_lines(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())
    assert len(ax.get_lines()) > 0
    assert len(ax.collections) == len(alone.axes[0].collections)
    assert len(figure.axes[0].get_lines()) == 0
    assert figure.subfigs == []


def test_several_panels_stand_in_the_place_of_the_axes(study: Made) -> None:
    figure, ax = own_axes()
    assert Plots(study).loss(ax=ax) is ax
    (inner,) = figure.subfigs
    assert [len(panel.get_lines()) for panel in inner.axes] == [3, 3]
    assert not ax.axison
    figure.canvas.draw()
    assert min(panel.get_window_extent().x0 for panel in inner.axes) > figure.bbox.width / 2
    assert inner.legends[0].get_window_extent().y1 < min(panel.get_window_extent().y0 for panel in inner.axes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layout", "missing"),
    [
        ("ordinary", None, "final_loss axis_sensitivity born_dead tuning performance_profiles critical_difference"),
        ("data_sets", "constrained", "final_loss axis_sensitivity born_dead tuning learned_slopes"),
    ],
)
def test_every_figure_that_a_study_has_can_be_drawn_into_axes(name: str, layout: str | None, missing: str) -> None:
    study = STUDIES[name]()
    for spec in FIGURES:
        figure, ax = own_axes(layout)
        if spec.name in missing.split():
            with pytest.raises(ResultsError, match="nothing to draw"):
                getattr(Plots(study), spec.name)(ax=ax)
            continue
        getattr(Plots(study), spec.name)(ax=ax)
        figure.canvas.draw()


def test_axes_that_stand_in_no_grid_are_taken_too(study: Made) -> None:
    figure = Figure()
    ax = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    Plots(study).loss(ax=ax)
    assert len(figure.subfigs[0].axes) == 2


def test_an_unknown_figure_names_the_nearest(study: Made) -> None:
    with pytest.raises(AttributeError, match="dead_fraction"):
        Plots(study).dead_fractoin()
