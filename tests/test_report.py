"""The report: figures for ordinary and degenerate studies, tables with hostile names, one self-contained page."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made import SEVEN, STUDIES, Made, failed_study, hostile_study, made_study
from matplotlib.figure import Figure as MplFigure
from matplotlib.image import imread
from rich.console import Console
from rich.text import Text

import reluexp
from reluexp.errors import ConfigError, ResultsError
from reluexp.report import FORMATS, write_report, write_together
from reluexp.report.answer import answer
from reluexp.report.figures import FIGURES, draw_figure
from reluexp.report.figures.captions import OF_PICTURE
from reluexp.report.figures.lives import _draw_causes, _spike_note
from reluexp.report.findings import findings, gradient_loss
from reluexp.report.frames.across import across_summary, ranks
from reluexp.report.frames.birth import born_dead
from reluexp.report.frames.choices import numeric_axis
from reluexp.report.frames.lives import causes, survival_curves
from reluexp.report.lines import facets_of, lines_of
from reluexp.report.panels import Panel, log_ticks
from reluexp.report.rendering import render
from reluexp.report.style import Style
from reluexp.report.tables import TABLES, Cell, Table, to_csv, to_latex, to_markdown
from reluexp.report.terminal import shown
from reluexp.report.together import _differing, together_table
from reluexp.report.verdicts import cards_of
from reluexp.stats import LOSS, compare_study, differences, dying, final_metrics, outcome_of


def shown_summary(study: Made) -> Table:
    """The summary as it is read."""
    return TABLES[0].shown(study, TABLES[0].frame(study))


def rows_of(study: Made) -> tuple[list[str], list[list[str]]]:
    """The headers of the summary and its cells as they are read."""
    table = shown_summary(study)
    return table.headers, [[cell.whole for cell in row] for row in table.rows]


BARE = {"untrained", "network_metrics", "all_failed", "all_diverged"}
NEEDS: dict[str, Callable[[Made], bool]] = {
    "final_loss": lambda study: study.epochs["test_accuracy"].isna().all(),
    "axis_sensitivity": lambda study: numeric_axis(study) is not None,
    "born_dead": lambda study: len(born_dead(study)) > 0,
    "tuning": lambda study: bool(study.tuned_axes),
    "performance_profiles": lambda study: len(across_summary(study)) > 0,
    "critical_difference": lambda study: len(ranks(study)) > 0,
    "learned_slopes": lambda study: study.trials["activation"].eq("prelu").any(),
    "causes_of_death": lambda study: bool(dying(study)),
    "backprop_by_depth": lambda study: study.layers["site"].max() > 0,
    "spread_by_depth": lambda study: study.layers["site"].max() > 0,
}
"""what a study must have for a figure that not every study has"""


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_of_every_study_is_drawn_or_has_a_reason_not_to_be(name: str) -> None:
    study = STUDIES[name]()
    for spec in FIGURES:
        figure = draw_figure(spec, study)
        assert OF_PICTURE.sub(r"\1", spec.caption(study)).endswith("."), spec.name
        if figure is None:
            assert name in BARE or (spec.name in NEEDS and not NEEDS[spec.name](study)), spec.name
            continue
        assert all(np.isfinite(ax.get_xlim()).all() and np.isfinite(ax.get_ylim()).all() for ax in figure.axes)


@pytest.mark.parametrize("name", ["hostile"])
def test_every_figure_renders(name: str) -> None:
    study = STUDIES[name]()
    for spec in FIGURES:
        figure = draw_figure(spec, study)
        if figure is not None:
            assert ET.fromstring(render(figure, "svg", Style())).tag.endswith("svg")


def test_ordinary_study_has_every_figure_but_those_of_several_settings() -> None:
    study = made_study()
    missing = {spec.name for spec in FIGURES if draw_figure(spec, study) is None}
    assert missing == {
        "final_loss",
        "axis_sensitivity",
        "born_dead",
        "tuning",
        "performance_profiles",
        "critical_difference",
    }


def test_survival_is_drawn_as_the_table_has_it_and_only_for_lines_that_fall() -> None:
    study = made_study(("relu", "tanh"), 4, 6, accidents=False)
    frame = survival_curves(study)
    figure = draw_figure(next(spec for spec in FIGURES if spec.name == "survival"), study)
    assert figure is not None
    (line,) = figure.axes[0].get_lines()
    own = frame[frame["activation"] == "relu"]
    assert frame.loc[frame["activation"] == "tanh", "survival"].eq(1).all()
    np.testing.assert_array_equal(line.get_xydata(), own[["step", "survival"]])


def test_an_untrained_study_shows_its_birth() -> None:
    study = STUDIES["untrained"]()
    drawn = {spec.name for spec in FIGURES if draw_figure(spec, study) is not None}
    assert {"final_accuracy", "unit_fates", "dead_by_layer", "backprop_by_depth"} <= drawn
    assert not {"grad_norm", "dead_fraction", "test_accuracy", "survival"} & drawn


SIZES = {"architecture.depth": [1, 2], "architecture.width": [2, 3]}


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    ("changes", "points"),
    [
        ({}, 4),
        ({"dataset": {"name": "point", "features": 3}}, 4),
        ({"dataset": "digits"}, 0),
        ({"init": "rai"}, 0),
        ({"init": {"name": "he_normal", "bias": 0.1}}, 0),
        ({"architecture": {"name": "mlp", "normalization": "batch"}}, 0),
        ({"train": {"epochs": 1}}, 0),
        ({"activation": "elu"}, 0),
        (
            {"grid": {"architecture.depth": [1, 2], "architecture.width": [2, 3], "init": ["he_normal", "he_uniform"]}},
            0,
        ),
    ],
)
def test_births_stand_beside_theory_where_it_holds(tmp_path: Path, changes: dict[str, Any], points: int) -> None:
    config = {"study": "s", "dataset": "line", "architecture": {"name": "mlp"}, "train": {"epochs": 0}, "seeds": 3}
    study = reluexp.run({**config, "grid": SIZES, **changes}, tmp_path)
    assert len(born_dead(study)) == points


CROSSED = {
    *(
        "final_accuracy",
        "final_loss",
        "loss",
        "test_accuracy",
        "dead_fraction",
        "off_fraction",
        "deaths_for_good",
        "zero_fraction",
    ),
    *("grad_norm", "effective_rank", "update_ratio", "learned_slopes"),
}
"""the figures in which a diverged trial's curve or dot is marked"""


def test_captions_speak_of_crosses_only_where_they_are_drawn() -> None:
    study = made_study(("relu", "tanh"), 4, 3)
    crossed = {spec.name for spec in FIGURES if "marked ×" in spec.caption(study)}
    assert crossed == CROSSED
    counted = {spec.name for spec in FIGURES if "1 of 8 diverged" in spec.caption(study)}
    rest = {"time_by_phase", "born_dead", "tuning", "performance_profiles", "critical_difference"}
    assert counted == {spec.name for spec in FIGURES} - rest


@pytest.mark.parametrize(
    "bounds", [(0.21, 0.29), (0.9, 5.3), (0.04, 0.11), (2, 90), (0.011, 9.9), (1e-9, 3), (5, 1100), (1, 1.02)]
)
def test_log_axes_have_three_labelled_ticks_at_least(bounds: tuple[float, float]) -> None:
    ax = MplFigure().subplots()
    ax.set_yscale("log")
    ax.set_ylim(*bounds)
    log_ticks(ax.yaxis)
    ax.figure.canvas.draw()
    shown = [label.get_text() for label in ax.get_yticklabels() if bounds[0] <= label.get_position()[1] <= bounds[1]]
    assert 3 <= len(shown) <= 10
    assert all(shown)
    assert len(set(shown)) == len(shown)


def test_bars_of_causes_are_named_evenly() -> None:
    ax, sites = MplFigure().subplots(), range(17)
    rows = pd.DataFrame({"site": sites, "cause": "bias", "deaths": 1, "site_name": [f"dense{i}" for i in sites]})
    _draw_causes(ax, Panel("", rows, "deaths"), {"bias": ("black", "")})
    assert ax.get_yticks().tolist() == list(range(0, 17, 2))


def test_facets_beyond_the_limit_are_counted_in_the_caption() -> None:
    study = STUDIES["many_facets"]()
    facets, left_out = facets_of(study, 12)
    assert (len(facets), left_out) == (12, 3)
    every, none = facets_of(study, 15)
    assert none == 0
    assert (facets[0], facets[-1]) == (every[0], every[-1])  # the ends of an axis are seen
    assert [every.index(facet) for facet in facets] == sorted({every.index(facet) for facet in facets})
    caption = next(spec for spec in FIGURES if spec.name == "test_accuracy").caption(study)
    assert "9 more settings" in caption


def test_data_sets_share_no_axis() -> None:
    study = made_study(("relu",), 2, 2, ("dense",), accidents=False)
    both = replace(
        study,
        axes=["activation", "dataset"],
        trials=pd.concat([study.trials, study.trials.assign(dataset="mnist", trial=study.trials["trial"] + "m")]),
        epochs=pd.concat([study.epochs, study.epochs.assign(trial=study.epochs["trial"] + "m", test_accuracy=0.3)]),
        layers=study.layers.iloc[:0],
    )
    both = replace(both, trials=pd.concat([both.trials, both.trials.assign(activation="tanh", trial="t")]))
    figure = draw_figure(next(spec for spec in FIGURES if spec.name == "test_accuracy"), both)
    assert figure is not None
    first, second = figure.axes[:2]
    assert not first.get_shared_y_axes().joined(first, second)


def test_variants_of_one_activation_differ_in_their_dashes() -> None:
    labels = tuple(f"leaky_relu(negative_slope={slope})" for slope in (0.1, 0.2, 0.3))
    looks = lines_of(made_study(("leaky_relu", *labels), 1, 1)).looks
    assert len({(colour, str(dashes)) for _, colour, dashes in looks.values()}) == 4


def test_an_axis_takes_the_lines_when_the_activation_does_not_vary() -> None:
    lines = lines_of(STUDIES["one_activation_facets"]())
    assert lines.by == "train.optimizer.lr"
    assert list(lines.looks) == [0.01, 0.1, 1.0]


def test_a_diverging_curve_does_not_squeeze_the_others() -> None:
    study = made_study(seeds=4, epochs=8)
    epochs = study.epochs.copy()
    lost = epochs["trial"].isin(study.trials.loc[study.trials["outcome"] == "diverged", "trial"])
    epochs.loc[lost & (epochs["epoch"] == 5), ["train_loss", "test_loss"]] = 1e30
    figure = draw_figure(next(spec for spec in FIGURES if spec.name == "loss"), replace(study, epochs=epochs))
    assert figure is not None
    assert max(ax.get_ylim()[1] for ax in figure.axes) < 10


CSV_ONLY = ("curves", "causes", "fates", "survival", "starved_and_dead", "seconds")
"""the tables behind figures"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Path]:
    """A study, and its report in every format."""
    study = made_study(("relu", "tanh"), 4, 4)
    return study, write_report(study, tmp_path_factory.mktemp("written"), FORMATS).parent


def test_the_report_holds_every_file_asked_for(written: tuple[Made, Path]) -> None:
    study, folder = written
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file()}
    tables = {f"tables/{name}.{form}" for name in ("summary", "differences", "trials") for form in ("csv", "md", "tex")}
    tables |= {f"tables/{name}.csv" for name in CSV_ONLY}
    missing = {name for name, has in NEEDS.items() if not has(study)}
    drawn = [spec.name for spec in FIGURES if spec.name not in missing]
    figures = {f"figures/{name}.{form}" for name in drawn for form in ("png", "svg", "pdf")}
    assert names == {"index.html", *tables, *figures}


def test_the_report_goes_beside_the_study_and_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    study = made_study(("relu",), 2, 1, path=tmp_path)
    folder = write_report(study, formats=("csv",))
    assert folder == tmp_path / "report"
    written = {path.name for path in folder.rglob("[!.]*") if path.is_file()}
    assert written == {f"{name}.csv" for name in ("summary", "differences", "trials", *CSV_ONLY)}


@pytest.mark.slow
def test_the_same_study_gives_the_same_bytes(written: tuple[Made, Path], tmp_path: Path) -> None:
    write_report(made_study(("relu", "tanh"), 4, 4), tmp_path, FORMATS)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (written[1], tmp_path)
    )
    assert set(first) == set(second)
    assert [str(path) for path in first if first[path] != second[path]] == []


def test_files_of_another_state_of_the_study_do_not_stay_beside_new_ones(tmp_path: Path) -> None:
    """Those of other formats would be of other trials; a page of somebody else's is not ours to remove."""
    (tmp_path / "index.html").write_text("mine")
    small = made_study(("relu", "tanh"), 2, 1, path=tmp_path)
    write_report(small, tmp_path, ("csv", "md"))
    assert (tmp_path / "index.html").read_text() == "mine"
    write_report(small, tmp_path, ("tex",))
    before = {path.suffix for path in (tmp_path / "tables").iterdir()}
    assert before == {".csv", ".md", ".tex"}
    write_report(made_study(("relu",), 3, 1, path=tmp_path), tmp_path, ("md",))
    assert {path.suffix for path in (tmp_path / "tables").iterdir()} == {".md"}
    assert not (tmp_path / "tables" / "differences.md").exists()


def test_equal_ones_are_told_together() -> None:
    study = made_study(("relu", "relu6", "leaky_relu"), 3, 3, accidents=False)
    layers = study.layers.assign(dead_fraction=0.25, zero_fraction=0.5)
    equal = replace(study, layers=layers, trials=study.trials.assign(dead_fraction=0.25))
    (died,) = (sentence for sentence in answer(equal) if "dead units" in sentence)
    assert died.startswith("ReLU and ReLU6 had dead units: 25.0 %")
    told = " ".join(findings(equal))
    assert "ReLU and ReLU6 units were dead" in told
    assert "the most" not in told
    assert "sparsest" not in told


def test_a_gradient_that_vanished_in_most_nets_is_not_told_by_the_others() -> None:
    study = made_study(("relu", "tanh"), 5, 3, accidents=False)
    first = study.layers["site"].eq(study.layers["site"].min())
    silent = study.layers["trial"].isin([f"relu-0-{seed}" for seed in range(4)])
    gone = replace(study, layers=study.layers.assign(
        backprop_norm=study.layers["backprop_norm"].where(~(first & silent), 0.0)))  # fmt: skip
    (told,) = (sentence for sentence in findings(gone) if sentence.startswith("At birth"))
    assert "vanished altogether before the first hidden layer in 4 of 5 nets of ReLU" in told


def test_one_activation_alone_is_not_the_sparsest_of_any() -> None:
    names = (("relu",), ("relu", "tanh"))
    alone, two = (" ".join(findings(made_study(own, 3, 3, accidents=False))) for own in names)
    assert "of its hidden activations were exactly 0" in alone
    assert "sparsest" not in alone
    assert "was the sparsest" in two


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'png'"):
        write_report(made_study(("relu",), 1, 1), formats=("pgn",))


def test_an_unwritable_folder_is_said_in_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(ResultsError, match="cannot write the report"):
        write_report(made_study(("relu",), 1, 1), blocked)
    assert blocked.read_text() == "not a folder"


class _Page(HTMLParser):
    """Collects ids, tags, what would be loaded, and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.text = ""
        self.pictures: list[str | None] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "action")]
        self.scripts += tag == "script"
        if tag in ("svg", "img") and "aria-hidden" not in values:
            self.pictures.append(values.get("aria-label") or values.get("alt"))

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(page: Path) -> _Page:
    parser = _Page()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


@pytest.mark.slow
@pytest.mark.parametrize("name", ["facets", "all_failed", "untrained"])
def test_the_page_loads_nothing_and_its_ids_are_unique(name: str, tmp_path: Path) -> None:
    page = _read(write_report(STUDIES[name](), tmp_path, ("html",)))
    assert [load for load in page.loads if not load.startswith(("#", "data:image/png;base64,"))] == []
    assert len(page.ids) == len(set(page.ids))
    assert {load[1:] for load in page.loads if load.startswith("#")} <= set(page.ids)
    assert not page.tags & {"link", "iframe", "object", "embed"}
    assert all(page.pictures)
    assert "url(http" not in (tmp_path / "index.html").read_text()


def test_clip_paths_of_the_page_point_into_their_own_figure(tmp_path: Path) -> None:
    write_report(made_study(("relu", "tanh"), 3, 3), tmp_path, ("html",))
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    targets = set(re.findall(r"url\(#([^)]+)\)", text))
    assert targets
    assert all(f'id="{target}"' in text for target in targets)


def test_the_page_tells_question_counts_findings_and_provenance(tmp_path: Path) -> None:
    study = made_study(provenance={"versions": {"torch": "2.5.1"}, "commit": "abc123"})
    page = _read(write_report(study, tmp_path, ("html",)))
    assert "Which activations lose units, and does it matter?" in page.text
    text = page.text.replace("\N{NO-BREAK SPACE}%", " %")
    assert text != page.text
    assert all(sentence in text for sentence in findings(study))
    assert "versions.torch" in page.text
    assert "abc123" in page.text
    assert len(page.pictures) == sum(name not in NEEDS or NEEDS[name](study) for name in (s.name for s in FIGURES))


@pytest.mark.slow
def test_hostile_names_are_text_in_the_page(tmp_path: Path) -> None:
    page = _read(write_report(hostile_study(), tmp_path, ("html",)))
    assert not page.tags & {"i", "b"}
    assert page.scripts == 5  # our three, the data, the library
    assert "<script>alert(1)</script>:y" in page.text
    assert "</pre><script>alert(2)</script>" in page.text
    assert "<img src=http://example.org/x>" in page.text
    assert "<b>study</b>" in page.text


def test_hostile_names_are_text_in_latex() -> None:
    table = Table(["a_b"], [[Cell(r"$x$ & 50% #_{}~^\ <|>", best=True, number=False)]], "caption\nwith a line")
    body = to_latex(table)
    assert r"\textbf{\$x\$ \& 50\% \#\_\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} " in body
    assert r"a\_b \\" in body
    assert body.splitlines()[0] == "% caption with a line"


def test_hostile_names_are_text_in_markdown() -> None:
    table = Table(["a|b"], [[Cell("<b> x|y\n*z* [l](u) `c` &", number=False)]], "c")
    line = to_markdown(table).splitlines()[2]
    assert line == r"| &lt;b&gt; x\|y \*z\* \[l\](u) \`c\` &amp; |"
    assert to_markdown(table).splitlines()[0] == r"| a\|b |"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=x", "\r=x"])
def test_formulas_are_guarded_in_csv_and_numbers_are_not(text: str) -> None:
    frame = pd.DataFrame({text: [text, "plain"], "number": [-1.5, 2.0]})
    back = pd.read_csv(pd.io.common.StringIO(to_csv(frame)))
    assert back.columns[0].startswith("'")
    assert back.iloc[:, 0].tolist() == [back.columns[0], "plain"]
    assert back["number"].tolist() == [-1.5, 2.0]


def test_csv_holds_raw_numbers_of_every_trial(tmp_path: Path) -> None:
    study = made_study(("relu", "tanh"), 5, 4)
    write_report(study, tmp_path, ("csv",))
    back = pd.read_csv(tmp_path / "tables" / "trials.csv")
    assert sorted(back["trial"]) == sorted(study.trials["trial"])
    relu = back[back["activation"] == "relu"]
    assert relu["outcome"].tolist() == ["finished"] * 4 + ["diverged"]
    table = pd.read_csv(tmp_path / "tables" / "summary.csv")
    np.testing.assert_allclose(table["test_accuracy_mean"], back.groupby("activation")["test_accuracy"].mean())


def test_the_best_is_bold_in_each_group_and_only_where_better_has_a_meaning() -> None:
    study = STUDIES["facets"]()
    shown = shown_summary(study)
    accuracy = shown.headers.index("test accuracy %")
    depth = shown.headers.index("depth")
    bold = {row[depth].text for row in shown.rows if row[accuracy].best}
    assert bold == {"2", "4", "8"}
    assert not any(row[shown.headers.index("dead %")].best for row in shown.rows)
    assert shown.rules == frozenset({3, 6})
    assert to_latex(shown).count(r"\addlinespace") == 2


def test_an_activation_whose_trials_all_diverged_is_never_best() -> None:
    study = made_study(("relu", "tanh"), 3, 3, accidents=False)
    trials = study.trials.copy()
    trials.loc[trials["activation"] == "tanh", "outcome"] = "diverged"
    epochs = study.epochs.copy()
    epochs.loc[epochs["trial"].str.startswith("tanh"), "test_accuracy"] = 1.0
    shown = shown_summary(replace(study, trials=trials, epochs=epochs))
    assert not any(cell.best for cell in shown.rows[1])


def test_the_terminal_rows_carry_means_intervals_and_counts() -> None:
    headers, rows = rows_of(made_study())
    assert [row[0] for row in rows] == ["ReLU", "Leaky ReLU", "PReLU", "ELU", "SELU", "Sigmoid", "Tanh"]
    relu = dict(zip(headers, rows[0], strict=True))
    assert relu["activation"] == "ReLU"
    assert re.fullmatch(r"\d+\.\d ± \d+\.\d", relu["test accuracy %"])
    assert (relu["trials"], relu["diverged"], relu["stuck"]) == ("10", "1", "1")
    assert "failed" not in headers
    headers, rows = rows_of(failed_study())
    assert [row[headers.index("failed")] for row in rows] == ["1", "0"]
    assert "never" in relu["steps to 95 %"]


def test_underflow_is_marked_and_not_compared() -> None:
    headers, rows = rows_of(made_study(("relu", "sigmoid"), 3, 3))
    dead = headers.index("dead %")
    assert not rows[0][dead].endswith("†")
    assert rows[1][dead].endswith("†")


def test_a_narrow_terminal_keeps_the_columns_that_tell_settings_apart() -> None:
    study = made_study(("relu", "sigmoid"), 3, 3, axis="depth", values=(2, 16))

    def printed(width: int) -> str:
        console = Console(width=width, file=io.StringIO(), markup=False, highlight=False)
        for part in shown(study, console):
            console.print(part)
        return console.file.getvalue()  # type: ignore[attr-defined]

    narrow, wide = printed(80), printed(160)
    assert "…" not in narrow.split("mean ±")[0]
    for word in ("activation", "depth", "acc. %", "dead %"):
        assert word in narrow
    assert all(re.search(rf"{name} +{depth} ", narrow) for name in ("ReLU", "Sigmoid") for depth in (2, 16))
    assert "for want of width without trials" in " ".join(narrow.split())
    assert "trials" in wide
    assert "for want of width" not in wide


def test_a_narrow_terminal_shortens_long_labels_in_the_middle_and_tells_them_apart() -> None:
    study = made_study(("relu", "elu", "tanh"), 3, 3)
    longest = "a_long_package.activations:parametric_softplus(beta=0.5, {}=1)"
    labels = {"elu": longest.format("a" * 9), "tanh": longest.format("b" + "a" * 8)}
    study = replace(study, trials=study.trials.assign(activation=study.trials["activation"].replace(labels)))
    for width, told in ((70, ["a_l…=1)", "a_l…=1)"]), (110, ["a_l…=1)"] * 2), (240, list(labels.values()))):
        console = Console(width=width, file=io.StringIO(), markup=False, highlight=False)
        for part in shown(study, console):
            if not isinstance(part, Text):
                console.print(part)
                break
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        found = [line.split("  ")[1] for line in lines if line.startswith("  a_")]
        assert len(set(found)) == 2
        assert all(
            own == text or (own[:3], own[-3:]) == (text[:3], text[-3:]) for own, text in zip(found, told, strict=True)
        )
        assert max(map(len, lines)) <= width
        assert all("acc. %" in line for line in lines if "activation " in line)


def test_nothing_is_said_before_a_trial_has_ended(tmp_path: Path) -> None:
    for ask in (lambda s: write_report(s, tmp_path), lambda s: compare_study(s, "test_accuracy"), final_metrics):
        with pytest.raises(ResultsError, match="made: no trial has ended yet"):
            ask(Made(trials=pd.DataFrame({"trial": [], "activation": []})))


def regression(losses: Mapping[str, Sequence[float]], **changes: object) -> Made:
    """A study without accuracies, with the final test losses of each activation by seed."""
    study = made_study(tuple(losses), len(next(iter(losses.values()))), 3, accidents=False)
    epochs = study.epochs.assign(test_accuracy=np.nan, probe_accuracy=np.nan, train_accuracy=np.nan)
    for label, own in losses.items():
        for seed, loss in enumerate(own):
            epochs.loc[epochs["trial"].eq(f"{label}-0-{seed}") & epochs["epoch"].eq(3), "test_loss"] = loss
    return replace(study, epochs=epochs, trials=study.trials.assign(classes=np.nan), **changes)  # type: ignore[arg-type]


def test_a_regression_is_judged_by_its_loss() -> None:
    steps = 0.001 * np.arange(8)
    study = regression({"relu": 0.3 + steps, "elu": 0.2 + 2 * steps, "tanh": 0.296 + 1.5 * steps})
    assert outcome_of(study) == LOSS
    found = differences(study)
    assert found["metric"].unique().tolist() == ["test_loss", "off_fraction"]
    own = found[found["metric"] == "test_loss"].set_index("activation")
    assert own["mean"].tolist() == pytest.approx([-0.0965, -0.00225])
    assert own["wins"].tolist() == [8, 8]
    assert own["verdict"].tolist() == ["no margin"] * 2
    died, mattered, chosen = answer(study)
    assert died.startswith("ReLU had")
    assert mattered.startswith("Against ReLU, paired over 8 seeds, test loss was better with ELU (−0.0965 [−0.0985, ")
    assert "better with Tanh (−0.0022 [" in mattered
    assert "`margins: {test_loss: …}` would say" in mattered
    assert chosen == "ELU had the lowest mean test loss, 0.207: better than ReLU."
    (told,) = [sentence for sentence in findings(study) if "test loss" in sentence]
    assert told.startswith(
        "ELU was ahead of ReLU by 0.0965 [+0.0945, +0.0985] (in 8 of 8 seeds); Tanh was ahead of ReLU by 0.0022"
    )
    assert [card["numbers"] for card in cards_of(study, found)] == [
        "−0.0965 [−0.0985, −0.0945], 8 pairs",
        "−0.0022 [−0.0033, −0.0012], 8 pairs",
    ]
    with_margin = answer(replace(study, margins={"test_loss": 0.05}))
    assert with_margin[1].endswith(
        "was better with ELU (−0.0965 [−0.0985, −0.0945]): by more than the 0.05 taken to matter."
    )
    assert with_margin[2] == "ELU had the lowest mean test loss, 0.207: better than ReLU."
    shown = TABLES[0].shown(study, TABLES[0].frame(study))
    (loss,) = [place for place, header in enumerate(shown.headers) if header == "test loss"]
    assert [(row[loss].best, row[loss].star, row[loss].mark) for row in shown.rows] == [
        (False, False, ""), (True, True, ""), (False, True, "")
    ]  # fmt: skip
    drawn = {spec.name for spec in FIGURES if draw_figure(spec, study) is not None}
    assert "final_loss" in drawn
    assert not {"final_accuracy", "test_accuracy", "off_and_accuracy"} & drawn


def test_where_losses_do_not_tell_no_difference_is_claimed() -> None:
    study = regression({"relu": [0.3, 0.1, 0.2, 0.4], "elu": [0.2, 0.2, 0.1, 0.5]})
    assert answer(study)[1].startswith("Whether test loss differs from ReLU's stays open: 4 seeds cannot settle")
    study = regression({"relu": [0.3, 0.1] * 4, "elu": [0.2, 0.3] * 4})
    assert answer(study)[1] == "In test loss no activation was shown to differ from ReLU (paired over 8 seeds)."
    assert answer(study)[2] == "ReLU had the lowest mean test loss, 0.2: it is the baseline."


def test_regression_shows_losses_and_collapsed_networks() -> None:
    study = made_study(("relu", "elu"), 4, 3, accidents=False)
    epochs = study.epochs.drop(columns=["test_accuracy", "probe_accuracy", "train_accuracy"])
    trials = study.trials.assign(collapsed_at_end=study.trials["activation"].eq("relu"), classes=np.nan)
    for name in ("test_accuracy", "probe_accuracy", "train_accuracy"):
        epochs[name] = np.nan
    headers, rows = rows_of(replace(study, epochs=epochs, trials=trials))
    assert headers[:4] == ["activation", "test loss", "collapsed", "dead %"]
    assert not any("steps" in header for header in headers)
    assert [row[2] for row in rows] == ["4 of 4", "0 of 4"]
    last = study.epochs[study.epochs["epoch"] == 3]
    mean, half = rows[0][1].split(" ± ")
    assert mean == f"{last['test_loss'].iloc[:4].mean():.4f}"
    assert len(mean) == len(half)  # as many decimals


def test_losses_of_a_regression_are_no_nats() -> None:
    study = regression({"relu": [0.3, 0.1], "elu": [0.2, 0.2]})
    (spec,) = (spec for spec in FIGURES if spec.name == "loss")
    for own, label in ((study, "mean squared error"), (made_study(), "cross-entropy (nats)")):
        figure = draw_figure(spec, own)
        assert figure is not None
        assert label in {ax.get_ylabel() for ax in figure.axes}


def test_findings_of_an_ordinary_study() -> None:
    found = findings(made_study())
    assert 4 <= len(found) <= 7
    assert found[0].startswith("1 of 70 trials diverged (ReLU 1 of 10)")
    assert found[1] == "Stuck, with a training accuracy not above chance at the end: ReLU 1 of 10."
    assert re.match(r"ReLU units were dead at the end in 10 of 10 nets: [\d.]+ % \[[\d.]+, [\d.]+\]", found[2])
    assert not any("Sigmoid units" in sentence or "Tanh units" in sentence for sentence in found)
    assert any(sentence.startswith("At birth Sigmoid lost 2.1 decades") for sentence in found)


def test_findings_claim_no_difference_that_the_seeds_do_not_carry() -> None:
    study = made_study(("relu", "tanh"), 4, 3, accidents=False)
    epochs = study.epochs.copy()
    final = epochs["epoch"] == 3
    epochs.loc[final, "test_accuracy"] = [0.90, 0.92, 0.94, 0.96, 0.91, 0.91, 0.95, 0.95]
    found = findings(replace(study, epochs=epochs))
    assert any(sentence.startswith("No activation differs from ReLU in test accuracy") for sentence in found)


def test_findings_name_a_difference_that_excludes_zero() -> None:
    study = made_study(("relu", "tanh"), 3, 3, accidents=False)
    epochs = study.epochs.copy()
    epochs.loc[epochs["epoch"] == 3, "test_accuracy"] = [0.90, 0.92, 0.94, 0.91, 0.931, 0.949]
    sentence = next(s for s in findings(replace(study, epochs=epochs)) if "was ahead of" in s)
    assert sentence.startswith("Tanh was ahead of ReLU by 1.0 points [+0.8, +1.2] (in 3 of 3 seeds)")
    assert "exploratory: intervals that exclude 0, of 1 comparison: 1; tests need 6 seeds" in sentence


def test_findings_name_what_the_corrected_tests_say_where_they_can() -> None:
    study = made_study(("relu", "tanh", "elu"), 8, 3, accidents=False)
    epochs, final = study.epochs.copy(), study.epochs["epoch"] == 3
    rng = np.random.default_rng(0)
    base = rng.uniform(0.9, 0.95, 8)
    epochs.loc[final, "test_accuracy"] = [*base, *(base - rng.uniform(0.01, 0.02, 8)), *(base + rng.normal(0, 0.01, 8))]
    own = replace(study, epochs=epochs)
    sentence = next(s for s in findings(own) if "fell behind" in s)
    assert sentence.startswith("Tanh fell behind ReLU by 1.")
    assert "signed-rank tests, Holm-corrected: 1 of 2 comparisons differ" in sentence
    assert "ELU" not in sentence


def test_the_sentence_on_speed_is_of_one_setting_and_shows_the_pairs() -> None:
    study = made_study(("relu", "tanh"), 6, 6, axis="depth", values=(2, 4), accidents=False)
    epochs = study.epochs.merge(study.trials[["trial", "activation", "depth", "seed"]], on="trial")
    deep, relu, epoch, seed = (epochs[c] for c in ("depth", "activation", "epoch", "seed"))
    # At depth 4 nobody learns much, so that the little they learn is learned at once.
    late = np.where(relu == "relu", 3 + (seed == 0), 2 + 2 * (seed == 1))
    easy, hard = np.where(epoch > 0, 0.2, 0.1), np.where(epoch >= late, 0.9, 0.1)
    accuracy = pd.Series(np.where(deep == 4, easy, hard), index=study.epochs.index)
    own = replace(study, epochs=study.epochs.assign(probe_accuracy=accuracy, test_accuracy=accuracy))
    sentence = next(s for s in findings(own) if "came first" in s)
    assert sentence.startswith("By medians Tanh came first at depth = 2, where the target asks most: ")
    steps = {"relu": 22 * np.array([4, 3, 3, 3, 3, 3]), "tanh": 22 * np.array([2, 4, 2, 2, 2, 2])}
    exact = {k: v - 22 * (0.8 - 0.95 * 0.8) / 0.8 for k, v in steps.items()}
    ratio = float(np.exp(np.log(exact["tanh"] / exact["relu"]).mean()))
    assert f"paired over 6 seeds Tanh took {ratio:.2f} times ReLU's steps [" in sentence
    assert f"ReLU took {np.median(exact['relu']):.0f} steps" in sentence


def test_the_note_on_spikes_counts_the_deaths_of_the_figure() -> None:
    study = made_study(("relu", "sigmoid"), 3, 3, accidents=False)
    died = study.units.assign(died_at_step=44.0, spike=True, cause="bias")
    died["spike"] = died["trial"].str.startswith("sigmoid")
    own = replace(study, units=died)
    note = _spike_note(own)
    deaths = int(causes(own)["deaths"].sum())
    assert note == f" A gradient spike came before 0 of {deaths} deaths."


def test_findings_say_when_there_is_one_seed_and_when_nothing_ended() -> None:
    assert any("run more seeds" in sentence for sentence in findings(STUDIES["one_seed"]()))
    assert findings(Made()) == ["No trial has ended yet."]


@pytest.mark.parametrize("name", STUDIES)
def test_findings_are_sentences_without_nan(name: str) -> None:
    for sentence in findings(STUDIES[name]()):
        assert sentence.endswith(".")
        assert "nan" not in sentence.lower().split()
        assert "inf" not in sentence.lower().split()


def test_gradient_loss_is_the_decades_between_the_ends_of_the_net() -> None:
    study = made_study(("relu", "tanh"), 2, 1, ("dense",) * 3, accidents=False)
    layers = study.layers.copy()
    layers["backprop_norm"] = layers["site"].map({0.0: 1e-4, 1.0: 1e-3, 2.0: 1e-1})
    first = layers["trial"] == study.trials["trial"][0]
    layers.loc[first & (layers["site"] == 0), "backprop_norm"] = 0.0
    found = gradient_loss(replace(study, layers=layers)).set_index("trial")["decades"]
    assert np.isnan(found.iloc[0])
    np.testing.assert_allclose(found.iloc[1:], 3.0)


@pytest.mark.slow
def test_the_page_of_a_thousand_trials_stays_small(tmp_path: Path) -> None:
    study = made_study(SEVEN, 143, 10, ("dense",) * 4)
    assert len(study.trials) > 1000
    assert write_report(study, tmp_path, formats=("html",)).stat().st_size < 20_000_000


def test_the_modules_of_the_report_do_not_import_torch() -> None:
    modules = "reluexp.stats, reluexp.report.findings, reluexp.report, reluexp.report.page, reluexp.report.figures"
    command = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_studies_side_by_side_have_their_axes_before_numbers_and_only_what_holds_is_said() -> None:
    base = {"init": {"name": "he", "gain": 1}, "train": {"epochs": 4}, "architecture": {"depth": 4}}
    deep = made_study(("relu", "elu"), 3, 3, axis="architecture.depth", values=(2, 8), name="deep", accidents=False,
                      config={**base, "grid": [{"architecture.depth": [2, 8]}]},
                      targets={"test_accuracy": [0.8]})  # fmt: skip
    union = [{"init": ["he", "rai"]}, {"init": ["he"], "train.epochs": [2]}]
    born = made_study(("relu", "elu"), 3, 3, axis="init", values=("he", "rai"), name="born",
                      config={**base, "grid": union})  # fmt: skip
    table = together_table([deep, born])
    assert table.headers[:4] == ["study", "activation", "init", "depth"]
    assert [[cell.text for cell in table.rows[i][:4]] for i in (0, -1)] == [
        ["deep", "ReLU", "–", "2"], ["born", "ELU", "he", "–"]
    ]  # fmt: skip
    assert not any(cell.number for row in table.rows for cell in row[:4])
    assert all(cell.number for row in table.rows for cell in row[4:])
    assert "Mean ± half of the 95 % t interval over seeds, at the end of training. " in table.caption
    assert "Steps: median to test accuracy ≥ 0.8 (deep)." in table.caption
    assert re.search(r"Steps: median to 95 % [^.]*ReLU \(born\)\.", table.caption)
    assert "failed ones are left out (born)." in table.caption
    differing = dict(_differing([deep, born]))
    assert differing.pop("grid")
    assert differing == {"architecture.depth": ["see grid", "4"], "init.name": ["he", "see grid"]}


@pytest.mark.slow
def test_studies_side_by_side_are_written_in_the_formats_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reluexp.report.together.FIGURES", FIGURES[:2])
    studies = [made_study(("relu", "tanh"), 2, 2, name=name, path=tmp_path / name) for name in ("first", "second")]
    folder = write_together(studies, tmp_path / "out", ["md", "tex", "png", "pdf"])
    assert folder == tmp_path / "out"
    kinds = Counter(path.suffix for path in folder.rglob("*") if path.is_file())
    assert set(kinds) == {".md", ".tex", ".png", ".pdf"}
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert {name.rpartition("-")[2] for name in figures} == {"first", "second"}
    assert kinds[".png"] == kinds[".pdf"] == len(figures)
    rows = (folder / "summary.md").read_text("utf-8")
    assert rows.count("first") == rows.count("second") == 2
    small = write_together(studies, tmp_path / "small", ["png"], Style(width=2.0, row_height=2.0)) / "figures"
    assert all(imread(small / f"{name}.png").shape[1] < imread(folder / "figures" / f"{name}.png").shape[1]
               for name in figures)  # fmt: skip
    with pytest.raises(ConfigError, match="unknown report format 'gif'"):
        write_together(studies, tmp_path / "out", ["gif"])


def test_the_table_has_the_dead_of_the_whole_training_set_where_the_probe_misleads() -> None:
    study = made_study(("relu", "tanh"), 4, 3, accidents=False)
    caption = shown_summary(study).caption
    assert "on the probe. Zero" in caption
    confirmed = study.trials["dead_fraction"] / 2
    apart = replace(study, trials=study.trials.assign(confirmed_dead_fraction=confirmed))
    half = 100 * confirmed[study.trials["activation"] == "relu"].mean()
    table = shown_summary(apart)
    assert "on the probe; confirmed: on the whole training set. Zero" in table.caption
    cell = table.rows[0][table.headers.index("confirmed dead %")]
    assert cell.text.startswith(f"{half:.1f} ± ")
    assert "confirmed dead %" not in shown_summary(study).headers
    same = replace(study, trials=study.trials.assign(confirmed_dead_fraction=study.trials["dead_fraction"]))
    assert shown_summary(same).caption == caption
