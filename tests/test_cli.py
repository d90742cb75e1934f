"""The command line as its users meet it: real processes, real files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from inline import inline
from PIL import Image

import reluexp
from reluexp.checking import check_study
from reluexp.cli import _json, app, main
from reluexp.config import load_config, shipped_configs
from reluexp.engine import Resources
from reluexp.errors import ConfigError, ResultsError
from reluexp.foretold import foretold
from reluexp.plain import plain
from reluexp.planning.code import code_of
from reluexp.planning.plan import make_trials
from reluexp.progress import watching
from reluexp.report.answer import answer
from reluexp.runner import resources_of, run_loaded
from reluexp.store import Shard

SMALL = "study: s\ndataset: {name: digits, train_size: 200, test_size: 60}\narchitecture: {width: [8]}\nseeds: 2\n"


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "from reluexp.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True, timeout=300)


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    study = reluexp.load(folder)
    frames = {name: getattr(study, name) for name in ("trials", "epochs", "layers", "units")}
    return {n: f.sort_values("trial", kind="stable").reset_index(drop=True) for n, f in frames.items()}


def same(left: Path, right: Path) -> None:
    first, second = tables(left), tables(right)
    for name in first:
        pd.testing.assert_frame_equal(first[name], second[name], check_exact=True)


def test_every_command_has_help_with_an_example(tmp_path: Path) -> None:
    names = [entry.name or entry.callback.__name__ for entry in app.registered_commands if entry.callback]
    assert names == ["run", "report", "list", "plan", "status", "check", "schema"]
    for name in names:
        found = command(name, "--help", cwd=tmp_path)
        assert found.returncode == 0
        assert "Example: reluexp" in found.stdout


def test_the_shipped_configs_are_listed_with_what_they_ask_and_where_they_lie(tmp_path: Path) -> None:
    _, *lines = command("list", "configs", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines[::2]] == list(shipped_configs())
    assert all(line.endswith("?") for line in lines[::2])
    assert [Path(line.strip()) for line in lines[1::2]] == list(shipped_configs().values())


def test_what_one_asks_of_any_command_line(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "reluexp", "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (found.returncode, found.stdout) == (0, f"reluexp {version('reluexp')}\n")
    assert command("-h", cwd=tmp_path).stdout == command("--help", cwd=tmp_path).stdout
    alone = command(cwd=tmp_path)
    assert (alone.returncode, alone.stderr) == (2, "")
    assert {"run", "load", "watch", "Study", "Watch"} <= set(dir(reluexp))


LONG = "x" * 10_000
BAD = [
    (["run", "missing.yaml"], "no such config"),
    (["run", "empty.yaml"], "empty"),
    (["run", "small.yaml", "--set", "train.epoch=1"], "did you mean 'epochs'"),
    (["run", "small.yaml", "--set", "train.epochs=x"], "whole number"),
    (["run", "small.yaml", "--set", "activation=rellu"], "did you mean 'relu'"),
    (["run", "small.yaml", "--set", "dataset={name: mnist, root: nowhere, download: false}"], "mnist"),
    (["run", "small.yaml", "--set", "train.epochs=1", "--device", "cuda"], "no cuda device"),
    (["run", "small.yaml", "--set", "architecture={name: ':x'}"], "cannot be imported"),
    (["run", "small.yaml", "--device", "gpu"], "allowed: 'auto', 'cpu'"),
    (["plan", "small.yaml", "--device", "gpu"], "allowed: 'auto', 'cpu'"),
    (["run", "small.yaml", "--workers", "0"], "workers: got 0; allowed: at least 1"),
    (["run", "small.yaml", "--patience", "inf"], "patience: got inf; allowed: a finite number"),
    (["run", "small.yaml", "--results", "small.yaml"], "cannot write the results: small.yaml is a file"),
    (["status", "--results", "small.yaml"], "small.yaml is a file, where a folder is needed"),
    (["plan", "small.yaml", "--results", "small.yaml"], "small.yaml is a file, where a folder is needed"),
    (["run", "small.yaml", "--set", "activation=nowhere.mine:f"], "nowhere.mine"),
    (["report", "nothing"], "no study"),
    (["report", "s", "--format", "docx"], "docx"),
    (["report", "s", "s"], "named twice"),
    (["list", "activation"], "did you mean"),
    (["nonsense"], "nonsense"),
    (["rnu"], "'run'"),
    *((words, "no study 'xxx") for words in (["report", LONG], ["status", LONG], ["check", LONG])),
    (["status", "--results", LONG], "no studies in 'xxx"),
    (["report", "s", "--format", "csv", "--out", LONG], "cannot write the report"),
    (["report", "s", "--style", LONG], "--style"),
    (["run", "small.yaml", "--results", LONG], "cannot write the results"),
    (["run", "small.yaml", "--set", f"dataset={{name: mnist, root: {LONG}, download: false}}"], "mnist"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "small.yaml").write_text(SMALL + "train: {epochs: 2}\ngrid: {activation: [relu, elu]}\n")
    (folder / "empty.yaml").write_text("")
    found = command("run", "small.yaml", "--workers", "1", cwd=folder)
    assert found.returncode == 0, found.stderr
    assert "ReLU" in found.stdout
    assert "report:" in found.stdout
    return folder


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words[:4])[:50] for words, _ in BAD])
def test_bad_input_gets_one_message_and_leaves_results_alone(
    folder: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    study = folder / "results" / "s"
    before = (study / "study.yaml").read_bytes(), sorted(study.glob("stacks/*/*"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["reluexp", *words])
    for name in ("MPLBACKEND", "ARROW_DEFAULT_MEMORY_POOL"):
        monkeypatch.setenv(name, os.environ.get(name, "agg"))
    with inline(), pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in said
    assert "Traceback" not in said
    assert ((study / "study.yaml").read_bytes(), sorted(study.glob("stacks/*/*"))) == before


_SORTS = ("missing.yaml", "root: nowhere", "nonsense")  # of a config, of a worker, of the command itself


@pytest.mark.parametrize(("words", "message"), [own for own in BAD if any(sort in str(own[0]) for sort in _SORTS)])
def test_bad_input_to_a_process_is_told_as_in_this_one(folder: Path, words: list[str], message: str) -> None:
    found = command(*words, cwd=folder)
    assert found.returncode == 2
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_two_workers_give_the_same_bits_and_a_second_run_does_nothing(folder: Path) -> None:
    reluexp.run(folder / "small.yaml", folder / "two", workers=2)
    same(folder / "results" / "s", folder / "two" / "s")
    found = command("run", "small.yaml", "--results", "two", "--quiet", "--no-report", cwd=folder)
    assert found.stderr == ""
    assert "`reluexp report two/s` makes one" in found.stdout
    assert not (folder / "two" / "s" / "report").exists()
    assert "4 finished" in command("status", "s", "--results", "two", cwd=folder).stdout


@pytest.mark.slow
def test_several_studies_can_be_had_as_json(folder: Path) -> None:
    shutil.copytree(folder / "results" / "s", folder / "again" / "s")
    found = command("report", "s", "again/s", "--json", "--format", "csv", "--out", "both", cwd=folder)
    assert found.returncode == 0, found.stderr
    both = json.loads(found.stdout)
    assert [own["study"] for own in both] == ["s", "s"]
    assert all(own["findings"] and own["table"] for own in both)
    assert [path.name for path in (folder / "both").iterdir()] == ["summary.csv"]


def test_the_page_says_what_the_base_setting_of_claims_is(folder: Path) -> None:
    page = (folder / "results" / "s" / "report" / "index.html").read_text("utf-8")
    assert "beside its grid: digits(train_size=200, test_size=60), mlp(width=[8]), sgd lr 0.05." in page


def test_what_is_not_there_is_told_with_what_is(folder: Path) -> None:
    with pytest.raises(ResultsError, match=r"results/t: there is no study; beside it: s"):
        reluexp.load(folder / "results" / "t")
    with pytest.raises(ResultsError, match=r"results: there is no study; below it: s"):
        reluexp.load(folder / "results")
    with pytest.raises(ResultsError, match=r"nothing: there is no study$"):
        reluexp.load(folder / "nowhere" / "nothing")
    with pytest.raises(ResultsError, match="a study is a folder such as results/quickstart; got: int"):
        reluexp.load(3)  # type: ignore[arg-type]
    study = reluexp.load(folder / "results" / "s")
    with pytest.raises(ConfigError, match=r"^unknown metric 'test_acuracy'; did you mean 'test_accuracy'\? This study"):
        study.compare("test_acuracy")
    assert repr(study) == f"<Study {str(folder / 'results' / 's')!r}: 4 trials, axes: activation>"


def test_a_study_gives_back_its_models(folder: Path) -> None:
    study = reluexp.load(folder / "results" / "s")
    row = study.trials.iloc[0]
    from reluexp.catalogue.loading import load_dataset
    from reluexp.config import load_config

    data = load_dataset(load_config(folder / "small.yaml").config.dataset)
    accuracy = (study.model(row["trial"])(data.test_x).argmax(1) == data.test_y).double().mean()
    last = study.epochs[study.epochs["trial"] == row["trial"]].iloc[-1]
    assert float(accuracy) == pytest.approx(last["test_accuracy"])


@pytest.mark.slow
def test_ctrl_c_saves_and_the_next_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "long.yaml").write_text(SMALL + "train: {epochs: 150}\nprobe: {every: 50}\n")
    code = "from reluexp.cli import main; main()"
    words = [sys.executable, "-c", code, "run", "long.yaml", "--workers", "1"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "results" / "s" / "study.yaml").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    told = {command(word, cwd=tmp_path).stdout.splitlines()[0] for word in ("status", "check")}
    begun = " (2 begun)" if list((tmp_path / "results" / "s").glob("begun/*.ckpt")) else ""  # else it had yet to begin
    assert told == {f"results/s: 2 trials: 0 finished, 0 diverged, 2 to do{begun}"}
    assert ", 2 to do\n" in command("plan", "long.yaml", cwd=tmp_path).stdout
    assert command("run", "long.yaml", "--workers", "1", "--no-report", cwd=tmp_path).returncode == 0
    reluexp.run(tmp_path / "long.yaml", tmp_path / "whole", workers=1)
    same(tmp_path / "results" / "s", tmp_path / "whole" / "s")


@pytest.mark.parametrize(
    ("where", "words", "message"),
    [
        ("report.write_report", ["run", "small.yaml"],
         "training is finished and saved; the report was not written; `reluexp report results/s` makes it"),
        ("report.findings.findings", ["run", "small.yaml", "--no-report"],
         "training is finished and saved; `reluexp report results/s` says what was found"),
        ("report.write_report", ["report", "s"],
         "stopped; every file of a report is written whole or not at all, and the same command makes the rest"),
        ("runner.run_loaded", ["run", "small.yaml"], "stopped at once; finished stacks are kept"),
        ("config.load_config", ["plan", "small.yaml"], "stopped"),
    ],
)  # fmt: skip
def test_ctrl_c_is_answered_with_what_is_saved(folder: Path, where: str, words: list[str], message: str) -> None:
    module, _, name = f"reluexp.{where}".rpartition(".")
    code = f"import {module}\ndef stop(*_, **__): raise KeyboardInterrupt\n{module}.{name} = stop\n"
    line = [sys.executable, "-c", f"{code}from reluexp.cli import main; main()", *words]
    found = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=120)
    assert found.returncode == 130
    assert found.stderr.splitlines()[-1] == message


def test_a_failing_model_is_an_outcome(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def bad(z):\n    raise RuntimeError('planted')\n")
    text = SMALL + "train: {epochs: 1}\ngrid: {activation: [relu, 'mine:bad']}\ninit: {gain: 1.0}\n"
    (tmp_path / "f.yaml").write_text(text)
    found = command("run", "f.yaml", "--no-report", cwd=tmp_path)
    assert found.returncode == 1
    assert "failed: RuntimeError: planted (mine.py, line 2); traceback: results/s/stacks/" in found.stderr
    record = re.findall(r"results/s/stacks/.*/stack\.json", found.stderr)
    assert len(record) == 1
    assert "in bad\\n    raise RuntimeError" in (tmp_path / record[0]).read_text("utf-8")
    outcomes = reluexp.load(tmp_path / "results" / "s").trials.set_index("activation")["outcome"]
    counts = "results/s: 4 trials: 2 finished, 0 diverged, 2 to do (2 failed)"
    again = (
        "what to do: `reluexp run` with the study's config goes on with what is to do, and tries failed trials again"
    )
    assert command("check", cwd=tmp_path).stdout.splitlines()[::2] == [counts, again]
    assert command("status", cwd=tmp_path).stdout == f"{counts}\n"
    assert ", 2 to do\n" in command("plan", "f.yaml", cwd=tmp_path).stdout
    assert set(outcomes["mine:bad"]) == {"failed"}
    assert set(outcomes["relu"]) == {"finished"}


OWN = """
from torch import nn

def bent(z):
    return {bend} * z.relu()  # {comment}

class Net(nn.Sequential):
    def __init__(self, num_outputs, activation):
        super().__init__(nn.Flatten(), nn.Linear(64, {width}), activation({width}), nn.Linear({width}, num_outputs))
"""


@pytest.mark.slow
def test_results_of_other_code_of_the_users_are_made_again_and_never_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    text = "study: s\ndataset: {name: digits, train_size: 200, test_size: 60}\narchitecture: 'mine:Net'\nseeds: 2\n"
    Path("own.yaml").write_text(text + "train: {epochs: 1}\ngrid: {activation: [relu, 'mine:bent']}\n")

    def own(**changes: object) -> None:
        Path("mine.py").write_text(OWN.format(**{"bend": 1, "comment": "", "width": 4, **changes}))

    def losses() -> dict[str, float]:
        said.clear()
        study = reluexp.run("own.yaml", workers=1, listener=lambda event: said.append(str(event.get("text", ""))))
        epochs = study.epochs.merge(study.trials[["trial", "activation"]])
        found: dict[str, float] = epochs.groupby("activation")["test_loss"].mean().to_dict()
        return found

    def planned() -> str:
        return next(iter(foretold(load_config("own.yaml"), Path("results"), Resources())))

    own()
    first = losses()
    own(comment="the same code, whatever is said of it")
    assert planned().endswith(", 0 to do")
    assert losses() == first
    own(bend=3)
    assert planned().endswith(", 4 to do")
    second = losses()
    assert any("made from code of mine:Net and mine:bent that has changed since; moved to" in text for text in said)
    assert second["relu"] == first["relu"]
    assert second["mine:bent"] != first["mine:bent"]
    study = reluexp.load("results/s")
    own(bend=3, width=5)
    assert planned().endswith(", 4 to do")
    assert command("status", cwd=tmp_path).stdout == "results/s: 4 trials: 0 finished, 0 diverged, 4 to do\n"
    checked = check_study(Path("results/s"))
    assert checked.sentences[0] == "results/s: 4 trials: 0 finished, 0 diverged, 4 to do"
    assert not checked.sound
    with pytest.raises(ResultsError, match="the code of mine:Net has changed since it was trained"):
        study.model(study.trials["trial"].iloc[0])


IMPORTING = {
    "mine.py": "import json\nfrom parts.blocks import Block\nimport other, gone\ndef net(): return Block()\n",
    "parts/__init__.py": "from .deep import inner\n",
    "parts/blocks.py": "from . import twice\nfrom .deep.inner import number\n",
    "parts/twice.py": "import parts.blocks\n",
    "parts/deep/__init__.py": "",
    "parts/deep/inner.py": "number = 1\n",
    "other.py": "def late():\n    import later\n",
    "later.py": "",
}


@pytest.mark.parametrize("changed", IMPORTING)
def test_code_is_a_module_and_what_it_imports_that_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {**IMPORTING, "apart.py": ""}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    setting = make_trials(load_config({"study": "s", "architecture": "mine:net"}))[0].point.setting

    def after(name: str, more: str) -> dict[str, str]:
        Path(name).write_text(Path(name).read_text() + more)
        return code_of([setting])

    first = code_of([setting])
    assert first == {"mine:net": "a100892240aba0b8"}  # by any Python
    assert after("apart.py", "x = 1\n") == first
    assert after(changed, "# said of it\n") == first
    assert after(changed, "x = 1\n") != first


@pytest.mark.parametrize(
    ("regression", "shown"), [(False, "accuracy/dead %: ReLU 25.0/50.0"), (True, "loss/dead %: ReLU 0.25/50.0")]
)
def test_progress_tells_accuracies_or_losses(regression: bool, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    stack = SimpleNamespace(id="a", trials=[None] * 2)
    with watching(False) as listener:
        listener({"event": "plan", "trials": 2, "to_do": 2, "stacks": [stack]})
        latest = {"relu": [0.25, 0.5, 2]}
        listener(
            {"event": "progress", "stack": "a", "epoch": 1, "epochs": 2, "regression": regression, "latest": latest}
        )
        listener({"event": "done", "stack": "a", "outcomes": ["finished"] * 2})
    assert shown in capsys.readouterr().err


def test_reading_images_is_shown(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 255, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    text = "study: s\ndataset: {name: imagefolder, path: images, size: 8}\narchitecture: {width: [4]}\nseeds: 1\n"
    (tmp_path / "i.yaml").write_text(text + "train: {epochs: 1}\n")
    assert "there is no folder" not in command("plan", "i.yaml", cwd=tmp_path).stdout
    elsewhere = command("plan", "i.yaml", "--set", "dataset.path=elsewhere", cwd=tmp_path)
    assert "note: there is no folder 'elsewhere': run would end there" in elsewhere.stdout
    found = command("run", "i.yaml", "--no-report", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "12/12 images read" in found.stderr


def test_json_holds_any_text_and_nothing_that_a_terminal_obeys() -> None:
    text = "a\x7fb\x9bc\u202ed\U000e0001 ±"
    told = _json({"text": text})
    assert json.loads(told) == {"text": text}
    assert told.isascii()
    assert told == plain(told)


@pytest.mark.parametrize("given", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}])
def test_signs_that_a_locale_lacks_are_written_all_the_same(given: dict[str, str]) -> None:
    code = "from reluexp.cli import main; main()"
    found = subprocess.run([sys.executable, "-X", "utf8=0", "-c", code, "list", "metrics"],
                           env={**os.environ, **given}, capture_output=True, check=True)  # fmt: skip
    assert "√n − ‖h‖₁/‖h‖₂" in found.stdout.decode()


@pytest.mark.parametrize("words", ["list", "schema"])
def test_a_reader_that_has_gone_and_a_full_disk_are_no_failed_trials(words: str) -> None:
    line = [sys.executable, "-m", "reluexp", words]
    read, write = os.pipe()
    os.close(read)
    found = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (found.returncode, found.stderr) == (141, "")
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            found = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True)
        assert found.returncode == 2
        assert found.stderr == "error: the output could not be written: No space left on device\n"


@pytest.mark.usefixtures("inline")
def test_a_part_of_a_study_says_so_and_needs_no_baseline(tmp_path: Path) -> None:
    loaded, resources = load_config("smoke"), resources_of({"workers": 1})
    study = run_loaded(loaded, tmp_path, resources, shard=Shard.parse("2/3"))
    assert "2 trials, 4 missing" in repr(study)
    assert study.baseline is None
    assert answer(study)[0] == "4 of 6 trials have not ended yet; this is of the others."
    assert study.compare("test_accuracy", baseline="leaky_relu").empty
    with pytest.raises(ConfigError, match="baseline: activation has none of its own; say which: "):
        study.times()


def test_an_address_is_of_a_ray_cluster() -> None:
    assert resources_of({"engine": "ray", "address": "auto"}).address == "auto"
    with pytest.raises(ConfigError, match="address: got 'auto'; allowed: nothing without --engine ray"):
        resources_of({"address": "auto"})
