"""`Study.plot`: figures of the report in axes of one's own, as artists that can be changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made import STUDIES, Made, made_study
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reluexp.config import load_config
from reluexp.errors import ResultsError
from reluexp.report.figures import FIGURES, draw_figure
from reluexp.report.lines import facets_of
from reluexp.report.plots import Plots


@pytest.fixture(scope="module")
def study() -> Made:
    return made_study(("relu", "prelu", "tanh"), 3, 4)


def own_axes(layout: str | None = "constrained", size: tuple[float, float] = (6.4, 4.8)) -> tuple[Figure, Axes]:
    figure = Figure(layout=layout, figsize=size)
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


@pytest.mark.parametrize("width", [4.0, 9.0])
def test_the_legend_hides_no_label_of_the_axes(study: Made, width: float) -> None:
    figure = Figure(layout="constrained", figsize=(width, 2.5))
    ax = figure.subplots()
    Plots(study).dead_fraction(ax=ax)
    figure.draw_without_rendering()
    found = ax.get_legend()
    assert found is not None
    assert found.get_window_extent().y1 < ax.xaxis.label.get_window_extent().y0
    assert found.get_window_extent().y0 >= 0


def test_the_configs_own_setting_is_among_those_that_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    study = made_study(("relu", "elu"), 1, 1, axis="train.optimizer.lr", values=tuple(i / 10 for i in range(1, 20)))
    own = load_config({"study": "s", "train": {"lr": 0.6}, "activation": "relu"}).points[0].setting
    for base, there in ((None, False), (own, True)):
        monkeypatch.setattr(Made, "base", base)
        facets, left = facets_of(study, 6)
        titles = [facet.title for facet in facets]
        assert (len(titles), left, "lr = 0.6" in titles) == (6, 13, there)
        assert (titles[0], titles[-1]) == ("lr = 0.1", "lr = 1.9")


def test_combinations_that_were_not_run_are_told_from_those_in_which_none_died() -> None:
    study = made_study(("relu", "relu6"), 2, 2, axis="init", values=("he_normal", "rai"))
    absent = study.trials["activation"].eq("relu") & study.trials["init"].eq("rai")
    gone = set(study.trials.loc[absent, "trial"])
    tables = {
        name: (own := getattr(study, name))[~own["trial"].isin(gone)]
        for name in ("trials", "epochs", "layers", "units")
    }
    figure = Plots(replace(study, **tables)).unit_fates()
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [[], ["not run"]]


def test_nets_that_diverged_keep_their_dead_units_in_the_map() -> None:
    study = made_study(("relu",), 2, 4, ("dense",), accidents=False)
    lost = study.trials["trial"].iloc[1]
    trials = study.trials.assign(outcome=["finished", "diverged"])
    layers = study.layers.assign(dead_fraction=np.where(study.layers["trial"] == lost, 1.0, 0.0))
    layers = layers[(layers["trial"] != lost) | (layers["epoch"] <= 2)]
    (mesh,) = Plots(replace(study, trials=trials, layers=layers)).dead_by_layer().axes[0].collections
    np.testing.assert_allclose(mesh.get_array(), np.full((1, 5), 0.5))


def test_several_panels_stand_in_the_place_of_the_axes(study: Made) -> None:
    figure, ax = own_axes()
    assert Plots(study).loss(ax=ax) is ax
    (inner,) = figure.subfigs
    assert [len(panel.get_lines()) for panel in inner.axes] == [3, 3]
    assert not ax.axison
    figure.draw_without_rendering()
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
        figure, ax = own_axes(layout, (12, 8))  # sixteen maps need room
        if spec.name in missing.split():
            with pytest.raises(ResultsError, match="nothing to draw"):
                getattr(Plots(study), spec.name)(ax=ax)
            continue
        getattr(Plots(study), spec.name)(ax=ax)
        figure.draw_without_rendering()


def test_axes_that_stand_in_no_grid_are_taken_too(study: Made) -> None:
    figure = Figure()
    ax = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    Plots(study).loss(ax=ax)
    assert len(figure.subfigs[0].axes) == 2


def test_an_unknown_figure_names_the_nearest(study: Made) -> None:
    with pytest.raises(AttributeError, match="dead_fraction"):
        Plots(study).dead_fractoin()
