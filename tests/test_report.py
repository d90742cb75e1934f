"""The report: figures for ordinary and degenerate studies, tables with hostile names, one self-contained page."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reluexp.errors import ConfigError, ResultsError
from reluexp.findings import findings, gradient_loss
from reluexp.report import write_report, write_tables
from reluexp.report.figures import FIGURES, draw_figure
from reluexp.report.panels import Style, facets_of, lines_of, render
from reluexp.report.tables import TABLES, Cell, Table, summary_rows, to_csv, to_latex, to_markdown

SEVEN = ("relu", "leaky_relu", "prelu", "elu", "selu", "sigmoid", "tanh")
STEPS = 22  # per epoch
SHAPES = {  # final accuracy, epochs to learn, dead at birth and end, zero fraction, gradient factor per layer backwards
    "relu": (0.962, 2.0, 0.003, 0.12, 0.55, 0.95),
    "leaky_relu": (0.972, 1.8, 0.0, 0.0, 0.0, 0.97),
    "prelu": (0.971, 1.9, 0.0, 0.0, 0.0, 0.97),
    "elu": (0.969, 1.5, 0.0, 0.0, 0.0, 1.0),
    "selu": (0.966, 1.4, 0.0, 0.0, 0.0, 1.02),
    "sigmoid": (0.94, 7.0, 0.0, 0.01, 0.0, 0.2),
    "tanh": (0.968, 1.3, 0.0, 0.0, 0.0, 0.9),
}


@dataclass(frozen=True)
class Made:
    """A study in memory, as the statistics and the report read one."""

    name: str = "made"
    path: Path = Path("results/made")
    config: dict[str, Any] = field(default_factory=lambda: {"study": "made", "seeds": 10})
    provenance: dict[str, Any] = field(default_factory=lambda: {"versions": {"python": "3.11"}, "device": "cpu"})
    axes: list[str] = field(default_factory=lambda: ["activation"])
    baseline: str | None = "relu"
    targets: dict[str, list[float]] | None = None
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)
    epochs: pd.DataFrame = field(default_factory=pd.DataFrame)
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    units: pd.DataFrame = field(default_factory=pd.DataFrame)
    timing: pd.DataFrame = field(default_factory=pd.DataFrame)
    config_text: str = "# Which activations lose units,\n# and does it matter?\n\nstudy: made\n"


def made_study(
    activations: tuple[str, ...] = SEVEN,
    seeds: int = 10,
    epochs: int = 20,
    kinds: tuple[str, ...] = ("dense",) * 4,
    axis: str | None = None,
    values: tuple[Any, ...] = (None,),
    accidents: bool = True,
    **changes: Any,
) -> Made:
    """A study with numbers like real ones; with accidents the last ReLU nets get stuck, diverge."""
    tables: dict[str, list[dict[str, Any]]] = {"trials": [], "epochs": [], "layers": []}
    for place, value in enumerate(values):
        for label in activations:
            for seed in range(seeds):
                fate = {seeds - 1: "diverged", seeds - 2: "stuck"}.get(seed, "") if label == "relu" else ""
                trial = f"{label}-{place}-{seed}"
                extra = {axis: value} if axis else {}
                _add_trial(tables, trial, label, seed, place, epochs, kinds, fate if accidents else "", extra)
    frames = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    axes = ["activation", axis] if axis else ["activation"]
    return replace(Made(axes=axes), **{**frames, **changes})


def _add_trial(
    tables: dict[str, list[dict[str, Any]]],
    trial: str,
    label: str,
    seed: int,
    place: int,
    epochs: int,
    kinds: tuple[str, ...],
    fate: str,
    extra: dict[str, Any],
) -> None:
    best, pace, born, dead, zero, factor = SHAPES.get(label.partition("(")[0], SHAPES["leaky_relu"])
    rng = np.random.default_rng([seed, place, sum(map(ord, label))])
    best += rng.normal(0, 0.006) + np.random.default_rng(seed).normal(0, 0.004)
    dead *= (1 + 0.8 * place) * rng.uniform(0.7, 1.3)
    last = min(epochs, 6) if fate == "diverged" else epochs
    for epoch in range(last + 1):
        learned = 0.0 if fate == "stuck" else 1 - np.exp(-epoch / pace)
        accuracy = 0.1 + (best - 0.1) * learned + rng.normal(0, 0.004)
        loss = 2.3 * (1 - learned) + 0.12 + abs(rng.normal(0, 0.01))
        broken = fate == "diverged" and epoch == last and epoch > 0
        tables["epochs"].append(
            {
                "trial": trial,
                "epoch": epoch,
                "step": epoch * STEPS,
                "train_loss": np.nan if epoch == 0 else np.inf if broken else loss * 0.8,
                "train_accuracy": np.nan if epoch == 0 else accuracy + 0.01,
                "probe_loss": np.nan if broken else loss * 0.8,
                "probe_accuracy": min(accuracy + 0.01, 1.0),
                "test_loss": np.nan if broken else loss,
                "test_accuracy": accuracy,
                "grad_norm": np.nan if epoch == 0 else 3.0 * np.exp(-epoch / 9) * rng.uniform(0.7, 1.4),
            }
        )
        full = epoch in (0, 1, 2, 4, 8, 16, epochs)
        for site, kind in enumerate(kinds):
            share = born + (dead - born) * (1 - np.exp(-epoch / 5)) * (0.4 + 0.4 * site)
            share = 1.0 if fate == "stuck" and site == 2 else min(share, 1.0)
            width = 16 if kind == "conv" else 64
            norm = 0.02 * factor ** (len(kinds) - 1 - site) * np.exp(-epoch / 12) * rng.uniform(0.8, 1.25)
            tables["layers"].append(
                {
                    "trial": trial,
                    "epoch": float(epoch),
                    "step": epoch * STEPS,
                    "site": float(site),
                    "site_name": f"{3 * site + 1}.{kind}",
                    "kind": kind,
                    "width": width,
                    "dead_fraction": round(share * width) / width,
                    "off_fraction": round(share * width) / width,
                    "zero_fraction": zero,
                    "backprop_norm": norm
                    if full and not (fate == "stuck" and site < 2 and epoch)
                    else 0.0
                    if full
                    else np.nan,
                }
            )
        tables["layers"].append(
            {"trial": trial, "epoch": float(epoch), "step": epoch * STEPS, "site": np.nan, "site_name": "output"}
        )
    final = [row for row in tables["layers"] if row["trial"] == trial and "width" in row][-len(kinds) :]
    tables["trials"].append(
        {
            "trial": trial,
            "study": "made",
            "seed": seed,
            "dataset": "digits",
            "architecture": "mlp",
            "activation": label,
            "outcome": "diverged" if fate == "diverged" else "finished",
            "diverged_at_step": last * STEPS if fate == "diverged" else np.nan,
            "stuck": fate == "stuck",
            "dead_fraction": np.average([r["dead_fraction"] for r in final], weights=[r["width"] for r in final]),
            "confirmed_dead_fraction": np.nan,
            "classes": 10,
            **extra,
        }
    )


def failed_study() -> Made:
    """One trial failed without a measurement, beside three that finished."""
    study = made_study(("relu", "tanh"), seeds=2, epochs=3, accidents=False)
    trials = study.trials.copy()
    trials.loc[0, ["outcome", "dead_fraction"]] = ["failed", np.nan]
    gone = trials.loc[0, "trial"]
    rest = {name: getattr(study, name)[getattr(study, name)["trial"] != gone] for name in ("epochs", "layers")}
    return replace(study, trials=trials, **rest)


def all_failed() -> Made:
    """Nothing but failed trials."""
    study = made_study(("relu",), seeds=2, epochs=1, accidents=False)
    empty = {name: getattr(study, name).iloc[:0] for name in ("epochs", "layers")}
    return replace(study, trials=study.trials.assign(outcome="failed", dead_fraction=np.nan), **empty)


def all_diverged() -> Made:
    """Every trial diverged in its first epoch, with nothing finite after birth."""
    study = made_study(("relu", "tanh"), seeds=3, epochs=1, accidents=False)
    epochs = study.epochs.copy()
    numbers = epochs.columns.difference(["trial", "epoch", "step"])
    epochs.loc[epochs["epoch"] > 0, numbers] = np.inf
    return replace(study, trials=study.trials.assign(outcome="diverged"), epochs=epochs)


def hostile_study() -> Made:
    """Names that HTML, LaTeX, Markdown, matplotlib and spreadsheets would each like to run."""
    names = ("=cmd|'/c calc'!A1:x", "<script>alert(1)</script>:y", r"$\undefined_{x}$ & 50% #~^:z", "relu")
    study = made_study(names, seeds=2, epochs=2, accidents=False)
    return replace(
        study,
        name="<b>study</b>",
        config={"study": "</pre><script>alert(2)</script>"},
        provenance={"host": "<img src=http://example.org/x>"},
        config_text="# <i>why</i>?\nstudy: x",
    )


STUDIES = {
    "ordinary": made_study,
    "facets": lambda: made_study(
        ("relu", "sigmoid", "tanh"), 5, 8, ("dense",) * 6, "architecture.depth", (2, 4, 8, 16)
    ),
    "convolutional": lambda: made_study(("relu", "elu"), 4, 5, ("conv", "conv", "dense")),
    "one_seed": lambda: made_study(seeds=1, epochs=3, accidents=False),
    "one_activation": lambda: made_study(("relu",), 4, 3),
    "one_activation_facets": lambda: made_study(
        ("relu",), 4, 4, ("dense",) * 4, "train.optimizer.lr", (0.01, 0.1, 1.0)
    ),
    "no_baseline": lambda: made_study(("elu", "tanh"), 3, 3, baseline=None),
    "untrained": lambda: made_study(epochs=0, accidents=False),
    "network_metrics": lambda: made_study(seeds=3, epochs=3, layers=pd.DataFrame(), units=pd.DataFrame()),
    "failed": failed_study,
    "all_failed": all_failed,
    "all_diverged": all_diverged,
    "hostile": hostile_study,
    "mixed_axis": lambda: made_study(("relu", "tanh"), 3, 3, ("dense",) * 2, "init.gain", ("auto", 1.0, np.nan)),
    "many_facets": lambda: made_study(
        ("relu", "tanh"), 2, 2, ("dense",), "train.lr", tuple(i / 10 for i in range(1, 16))
    ),
}


def shown_summary(study: Made) -> Table:
    """The summary as it is read."""
    return TABLES[0].shown(study, TABLES[0].frame(study))


@pytest.mark.parametrize("spec", FIGURES, ids=lambda spec: spec.name)
@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_of_every_study_is_drawn_or_has_a_reason_not_to_be(name: str, spec: Any) -> None:
    study = STUDIES[name]()
    figure = draw_figure(spec, study)
    assert spec.caption(study).endswith(".")
    if figure is None:
        assert (
            name in {"untrained", "network_metrics", "all_failed", "all_diverged"} or spec.name == "backprop_by_depth"
        )
        return
    root = ET.fromstring(render(figure, "svg", Style()))
    assert root.tag.endswith("svg")
    assert all(np.isfinite(ax.get_xlim()).all() and np.isfinite(ax.get_ylim()).all() for ax in figure.axes)


def test_ordinary_study_has_every_figure() -> None:
    study = made_study()
    assert all(draw_figure(spec, study) is not None for spec in FIGURES)


def test_an_untrained_study_shows_its_birth() -> None:
    study = STUDIES["untrained"]()
    drawn = {spec.name for spec in FIGURES if draw_figure(spec, study) is not None}
    assert {"final_accuracy", "dead_fraction", "dead_by_layer", "test_accuracy", "backprop_by_depth"} <= drawn
    assert "grad_norm" not in drawn


def test_captions_speak_of_crosses_only_where_they_are_drawn() -> None:
    study = made_study(("relu", "tanh"), 4, 3)
    crossed = {spec.name for spec in FIGURES if "marked ×" in spec.caption(study)}
    assert crossed == {spec.name for spec in FIGURES} - {"dead_by_layer", "backprop_by_depth"}
    assert all("1 of 8 diverged" in spec.caption(study) for spec in FIGURES)


def test_facets_beyond_the_limit_are_counted_in_the_caption() -> None:
    study = STUDIES["many_facets"]()
    facets, left_out = facets_of(study, 12)
    assert (len(facets), left_out) == (12, 3)
    caption = next(spec for spec in FIGURES if spec.name == "test_accuracy").caption(study)
    assert "3 more settings" in caption


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


def test_the_report_holds_every_file_asked_for(tmp_path: Path) -> None:
    study = made_study(("relu", "tanh"), 3, 3)
    page = write_report(study, tmp_path / "out", ("html", "csv", "md", "tex", "png", "svg", "pdf"))
    names = {path.relative_to(page.parent).as_posix() for path in page.parent.rglob("*") if path.is_file()}
    tables = {f"tables/{spec.name}.{form}" for spec in TABLES for form in ("csv", "md", "tex")}
    figures = {f"figures/{spec.name}.{form}" for spec in FIGURES for form in ("png", "svg", "pdf")}
    assert names == {"index.html", *tables, *figures}


def test_the_report_goes_beside_the_study_and_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    study = made_study(("relu",), 2, 1, path=tmp_path)
    folder = write_report(study, formats=("csv",))
    assert folder == tmp_path / "report"
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {f"{spec.name}.csv" for spec in TABLES}


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(made_study(("relu", "tanh"), 4, 4), tmp_path / name, ("html", "svg", "png", "pdf", "csv"))
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'png'"):
        write_report(made_study(("relu",), 1, 1), formats=("pgn",))


def test_an_unwritable_folder_is_said_in_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(ResultsError, match="cannot write the report"):
        write_tables(made_study(("relu",), 1, 1), blocked)
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

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "action")]
        if tag == "svg" or tag == "img":
            self.pictures.append(values.get("aria-label") or values.get("alt"))

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(page: Path) -> _Page:
    parser = _Page()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize("name", ["ordinary", "facets", "convolutional", "failed", "all_failed", "untrained"])
def test_the_page_loads_nothing_and_its_ids_are_unique(name: str, tmp_path: Path) -> None:
    page = _read(write_report(STUDIES[name](), tmp_path, ("html",)))
    assert [load for load in page.loads if not load.startswith(("#", "data:image/png;base64,"))] == []
    assert len(page.ids) == len(set(page.ids))
    assert {load[1:] for load in page.loads if load.startswith("#")} <= set(page.ids)
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
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
    assert all(sentence in page.text for sentence in findings(study))
    assert "versions.torch" in page.text
    assert "abc123" in page.text
    assert len(page.pictures) == len(FIGURES)


def test_hostile_names_are_text_in_the_page(tmp_path: Path) -> None:
    page = _read(write_report(hostile_study(), tmp_path, ("html",)))
    assert not page.tags & {"script", "i", "b"}
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
    write_tables(study, tmp_path, ("csv",))
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
    assert bold == {"2", "4", "8", "16"}
    assert not any(row[shown.headers.index("dead %")].best for row in shown.rows)
    assert shown.rules == frozenset({3, 6, 9})
    assert to_latex(shown).count(r"\addlinespace") == 3


def test_an_activation_whose_trials_all_diverged_is_never_best() -> None:
    study = made_study(("relu", "tanh"), 3, 3, accidents=False)
    trials = study.trials.copy()
    trials.loc[trials["activation"] == "tanh", "outcome"] = "diverged"
    epochs = study.epochs.copy()
    epochs.loc[epochs["trial"].str.startswith("tanh"), "test_accuracy"] = 1.0
    shown = shown_summary(replace(study, trials=trials, epochs=epochs))
    assert not any(cell.best for cell in shown.rows[1])


def test_the_terminal_rows_carry_means_intervals_and_counts() -> None:
    headers, rows = summary_rows(made_study())
    assert [row[0] for row in rows] == ["ReLU", "Leaky ReLU", "PReLU", "ELU", "SELU", "Sigmoid", "Tanh"]
    relu = dict(zip(headers, rows[0], strict=True))
    assert relu["activation"] == "ReLU"
    assert re.fullmatch(r"\d+\.\d ± \d+\.\d", relu["test accuracy %"])
    assert (relu["trials"], relu["diverged"], relu["stuck"]) == ("10", "1", "1")
    assert "failed" not in headers
    headers, rows = summary_rows(failed_study())
    assert [row[headers.index("failed")] for row in rows] == ["1", "0"]
    assert "never" in relu["steps to 95 %"]


def test_underflow_is_marked_and_not_compared() -> None:
    headers, rows = summary_rows(made_study(("relu", "sigmoid"), 3, 3))
    dead = headers.index("dead %")
    assert not rows[0][dead].endswith("†")
    assert rows[1][dead].endswith("†")


def test_findings_of_an_ordinary_study() -> None:
    found = findings(made_study())
    assert 4 <= len(found) <= 6
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
    sentence = next(s for s in findings(replace(study, epochs=epochs)) if "beat" in s)
    assert sentence.startswith("Tanh beat ReLU by 1.0 points [+0.8, +1.2]")
    assert "exploratory" in sentence


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
@pytest.mark.parametrize(("seeds", "depths", "limit"), [(143, 1, 10), (12, 12, 30)], ids=["seeds", "facets"])
def test_a_thousand_trials_are_reported_in_seconds(tmp_path: Path, seeds: int, depths: int, limit: float) -> None:
    study = made_study(SEVEN, seeds, 20, ("dense",) * 4, "architecture.depth", tuple(range(1, depths + 1)))
    assert len(study.trials) > 1000
    start = time.process_time()  # of this process alone, whatever else the machine does
    page = write_report(study, tmp_path)
    assert time.process_time() - start < limit
    assert page.stat().st_size < 20_000_000


def test_the_modules_of_the_report_do_not_import_torch() -> None:
    modules = "reluexp.stats, reluexp.findings, reluexp.report, reluexp.report.page, reluexp.report.figures"
    command = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
