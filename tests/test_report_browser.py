"""The page in a real browser: quiet, offline, sortable, explorable by mouse and keyboard, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, browser
from made import made_study

from reluexp.config import load_config
from reluexp.report import write_report, write_together
from reluexp.report.figures import FIGURES


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study with stuck and diverged trials, convolutional and dense sites, and a learned slope."""
    study = made_study(("relu", "prelu", "tanh"), seeds=4, epochs=4, kinds=("conv", "dense", "dense"))
    return write_report(study, tmp_path_factory.mktemp("page"), ("html",))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def every_chart(chromium: Browser) -> None:
    """Bring every figure that can be explored into view, one after the other."""
    for name in chromium.run("return [...document.querySelectorAll('figure[data-live]')].map((f) => f.id)"):
        chromium.bring(name)


def test_the_page_opens_quietly_asks_for_nothing_and_every_chart_comes_alive(page: Path, chromium: Browser) -> None:
    chromium.open(page)
    assert chromium.run("return performance.getEntriesByType('paint').length") > 0
    every_chart(chromium)
    assert chromium.run("return document.querySelectorAll('figure.is-live').length") >= 15
    assert chromium.complaints() == []
    assert chromium.requests() == []


def test_a_head_sorts_its_column_and_sorts_back(page: Path, chromium: Browser) -> None:
    chromium.open(page)
    column = "return [...document.querySelectorAll('#comparison tbody')[0].rows].map((r) => +r.cells[1].dataset.sort)"
    head = "document.querySelectorAll('#comparison th')[1].querySelector('button').click()"
    before = chromium.run(column)
    chromium.run(head)
    assert chromium.run(column) == sorted(before, reverse=True)
    chromium.run(head)
    assert chromium.run(column) == sorted(before)
    assert (
        chromium.run("return document.querySelectorAll('#comparison th')[1].getAttribute('aria-sort')") == "ascending"
    )


def test_trials_are_filtered_by_outcome_and_by_word(page: Path, chromium: Browser) -> None:
    chromium.open(page)
    shown = "return [...document.querySelectorAll('#trials tbody tr')].filter((r) => !r.hidden).length"
    assert chromium.run(shown) == 12
    chromium.run(
        "const s = [...document.querySelectorAll('#trials select')].at(-1); s.value = 'diverged';"
        "s.dispatchEvent(new Event('change'))"
    )
    assert chromium.run(shown) == 1
    assert "1 of 12 rows" in chromium.run("return document.querySelector('#trials output').textContent")


def choose(chromium: Browser, figure: str, control: str, value: str) -> None:
    """Choose an option of a figure's control."""
    chromium.run(
        "const s = document.querySelector(`#${arguments[0]} [data-control=${arguments[1]}]`); s.value = arguments[2];"
        "s.dispatchEvent(new Event('change'))",
        figure,
        control,
        value,
    )


def drawn(chromium: Browser, figure: str, what: str) -> object:
    """A JavaScript expression of the chart `p` of a figure."""
    return chromium.run(f"const p = document.querySelector('#{figure} .plot'); return {what}")


def test_controls_choose_metric_layer_trials_and_axes(page: Path, chromium: Browser) -> None:
    chromium.open(page)
    chromium.bring("dead_fraction")
    first = drawn(chromium, "dead_fraction", "p.data.filter((t) => t.meta === 'mean').map((t) => [...t.y])")
    choose(chromium, "dead_fraction", "site", "1")
    assert drawn(chromium, "dead_fraction", "p.data.filter((t) => t.meta === 'mean').map((t) => [...t.y])") != first
    choose(chromium, "dead_fraction", "metric", "effective_rank")
    assert drawn(chromium, "dead_fraction", "p.layout.yaxis.title.text") == "effective rank"
    choose(chromium, "dead_fraction", "show", "trials")
    assert "seed 0" in str(drawn(chromium, "dead_fraction", "p.data[0].text[0]"))
    choose(chromium, "dead_fraction", "scale", "log")
    assert drawn(chromium, "dead_fraction", "p.layout.yaxis.type") == "log"


def test_lines_can_be_hidden_and_the_still_picture_brought_back(page: Path, chromium: Browser) -> None:
    chromium.open(page)
    chromium.bring("test_accuracy")
    count = "p.data.filter((t) => t.meta === 'mean').length"
    assert drawn(chromium, "test_accuracy", count) == 3
    chromium.run("document.querySelector('#test_accuracy [data-line=\"0\"]').click()")
    assert drawn(chromium, "test_accuracy", count) == 2
    chromium.run("document.querySelector('#test_accuracy .quiet').click()")
    visible = "return getComputedStyle(document.querySelector('#test_accuracy .still')).display"
    assert chromium.run(visible) != "none"


def test_a_caption_speaks_of_the_still_picture_only_beside_it(page: Path, chromium: Browser) -> None:
    chromium.open(page)
    chromium.bring("dead_fraction")
    caption = "return document.querySelector('#dead_fraction figcaption').innerText"
    words = ("the trials faint behind", "0 throughout, hence not drawn: PReLU")
    assert not any(part in chromium.run(caption) for part in words)
    assert "class" not in chromium.run(caption)
    assert "pointwise 95 % t interval. 12 trials, 4 seeds." in chromium.run(caption)
    chromium.run("document.querySelector('#dead_fraction .quiet').click()")
    assert all(part in chromium.run(caption) for part in words)


def test_arrow_keys_read_the_values(page: Path, chromium: Browser) -> None:
    chromium.open(page)
    chromium.bring("test_accuracy")
    chromium.run(
        "document.querySelector('#test_accuracy .plot')"
        ".dispatchEvent(new KeyboardEvent('keydown', {key: 'End', bubbles: true}))"
    )
    said = chromium.run("return document.querySelector('#test_accuracy .readout').textContent")
    assert said.startswith("epoch 4: ReLU ")
    assert "n = 4" in said


def test_the_means_that_charts_show_are_those_of_the_csv(tmp_path: Path, chromium: Browser) -> None:
    import pandas as pd

    study = made_study(("relu", "tanh"), seeds=4, epochs=3)
    page = write_report(study, tmp_path, ("html", "csv"))
    table = pd.read_csv(tmp_path / "tables" / "curves.csv", keep_default_na=False, na_values=[""])
    rows = table[(table["metric"] == "test_accuracy") & (table["figure"] == "epochs") & (table["activation"] == "relu")]
    chromium.open(page)
    chromium.bring("test_accuracy")
    found = drawn(chromium, "test_accuracy", "p.data.filter((t) => t.meta === 'mean')[0].y")
    assert found == pytest.approx(rows["mean"].tolist(), rel=1e-3)


@pytest.mark.slow
def test_charts_open_on_the_configs_own_setting(
    tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = made_study(("relu", "elu"), 2, 3, axis="train.optimizer.lr", values=(0.01, 0.05, 0.1))
    own = load_config({"study": "s", "train": {"lr": 0.05}}).points[0].setting
    monkeypatch.setattr(type(study), "base", own)
    chromium.open(write_report(study, tmp_path, ("html",)))
    chromium.bring("dead_fraction")
    chosen = """return document.querySelector('#dead_fraction [data-control="facet"]').selectedOptions[0].textContent"""
    assert chromium.run(chosen) == "lr = 0.05"


@pytest.mark.slow
def test_axes_of_charts_end_where_training_did_and_have_three_ticks(tmp_path: Path, chromium: Browser) -> None:
    study = made_study(("relu", "elu"), seeds=3, epochs=6, accidents=False)
    layers = study.layers.assign(pre_std=0.21 + 0.01 * study.layers["site"])
    chromium.open(write_report(replace(study, layers=layers), tmp_path, ("html",)))
    chromium.bring("gradient_by_layer")
    assert drawn(chromium, "gradient_by_layer", "p._fullLayout.xaxis.range") == [-0.5, 6.5]
    chromium.bring("spread_by_depth")
    assert (
        len(drawn(chromium, "spread_by_depth", "p._fullLayout.yaxis._vals.filter((v) => v.text).map((v) => v.x)")) > 2
    )


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, True)], ids=["phone", "night", "dark"])
def test_nothing_is_wider_than_the_window(page: Path, chromium: Browser, width: int, dark: bool) -> None:
    chromium.open(page, width, dark)
    every_chart(chromium)
    assert chromium.run("return document.documentElement.scrollWidth") <= width
    assert chromium.complaints() == []


@pytest.mark.slow
def test_long_labels_wrap_and_the_comparison_with_an_axis_needs_no_scrollbar(tmp_path: Path, chromium: Browser) -> None:
    study = made_study(("relu", "elu"), 4, 3, axis="init", values=("he_normal", "rai"))
    own = study.trials["activation"].replace({"elu": "my_package.activations:parametric_softplus(beta=0.5)"})
    trials = study.trials.assign(activation=own, collapsed_at_end=own.eq("relu"))
    chromium.open(write_report(replace(study, trials=trials), tmp_path, ("html",)), 1280)
    wide = "return [...document.querySelectorAll('#comparison {}')].filter((e) => e.scrollWidth > e.clientWidth).length"
    assert chromium.run(wide.format(".wide")) == 0
    assert chromium.run(wide.format("td")) == 0
    assert chromium.run("return document.querySelectorAll('#comparison td.activation').length") > 4


@pytest.mark.slow
def test_tiles_break_after_commas(tmp_path: Path, chromium: Browser) -> None:
    study = made_study(("relu",), seeds=2, epochs=2)
    trials = study.trials.assign(
        dataset="mnist(train_size=3000, test_size=1000)", architecture="mlp(depth=20, width=5)"
    )
    page = write_report(replace(study, trials=trials), tmp_path, ("html",))
    lines = "const r = document.createRange(); r.selectNodeContents([...document.querySelectorAll('.facts dd')][{}]); "
    lines += "return new Set([...r.getClientRects()].map((b) => b.top)).size"
    for width in (390, 900, 1280):
        chromium.open(page, width)
        assert all(chromium.run(lines.format(place)) <= 2 for place in (3, 4)), width


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(page: Path, chromium: Browser, dark: bool) -> None:
    chromium.open(page, dark=dark)
    chromium.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for name in ("final_accuracy", "dead_fraction", "gradient_by_layer", "backprop_by_depth"):
        chromium.bring(name)
    # a picture is one thing to a reader: what it is drawn of only makes the check slow
    chromium.run("document.querySelectorAll('.still svg').forEach((picture) => picture.replaceChildren())")
    found = chromium.violations()
    bad = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
    assert bad == []


def test_without_scripts_every_figure_is_a_picture(page: Path, chromium: Browser) -> None:
    chromium.open(page, scripts=False)
    chromium.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    shown = "return [...document.querySelectorAll('figure .still')].map((s) => s.getBoundingClientRect().height)"
    heights = chromium.run(shown)
    assert len(heights) > 20
    assert min(heights) > 50


def test_printed_charts_are_their_still_pictures(page: Path, chromium: Browser) -> None:
    chromium.open(page)
    chromium.bring("loss")
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    display = "return getComputedStyle(document.querySelector(arguments[0])).display"
    shown = [chromium.run(display, f"#loss .{part}") for part in ("still", "live")]
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert shown == ["block", "none"]


@pytest.mark.slow
def test_studies_stand_side_by_side_quietly(tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reluexp.report.together.FIGURES", FIGURES[:4])
    studies = [
        made_study(("relu", "tanh"), 2, 2, name=name, config={"study": name, "seeds": seeds}, path=tmp_path / name)
        for name, seeds in (("first", 2), ("second", 3))
    ]
    page = write_together(studies)
    assert page == tmp_path / "first+second" / "index.html"
    chromium.open(page)
    assert chromium.run("return document.querySelector('h1').textContent") == "first and second"
    assert "seeds" in chromium.run("return document.querySelector('#differing').textContent")
    assert chromium.run("return document.documentElement.scrollWidth") <= 1280
    assert chromium.complaints() == []
