"""Config: what is accepted, what each mistake is told, and the grid."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import reluexp
from reluexp.catalogue.activations import OTHERS, build_activation
from reluexp.config import json_schema, label_of, load_config, shipped_configs
from reluexp.config.models import CHOICES, Config
from reluexp.config.reference import EXAMPLE, keys_of, reference
from reluexp.config.source import scalar
from reluexp.errors import ConfigError
from reluexp.foretold import foretold
from reluexp.planning.plan import make_plan, make_trials
from reluexp.runner import resources_of


def refusal(tmp_path: Path, text: str, *overrides: str) -> str:
    path = tmp_path / "study.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_shipped_config_is_valid_and_states_question_and_time(name: str) -> None:
    text = shipped_configs()[name].read_text("utf-8").splitlines()
    assert text[0] == "# yaml-language-server: $schema=schema.json"
    assert text[1].endswith("?")
    assert "second" in text[2] or "minute" in text[2] or "hour" in text[2]
    assert load_config(name).points


def test_the_reference_is_what_the_command_prints_and_its_example_is_a_config(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "config.md").read_text("utf-8")
    assert text.rstrip() == reference().rstrip()
    (tmp_path / "mine.yaml").write_text(EXAMPLE, "utf-8")
    loaded = load_config(tmp_path / "mine.yaml")
    assert set(yaml.safe_load(EXAMPLE)) == set(Config.model_fields) - {"tune", "cost"}
    assert len(loaded.points) == 6
    for registry in CHOICES.values():
        for entry in registry.entries:
            keys = keys_of(entry.options)
            assert [key.name for key in keys] == list(entry.options.model_fields)
            assert f"| `{entry.name}` |" in text
            assert all(f"`{key.name}`" in text and key.allowed for key in keys)


def test_levels_of_hypotheses_may_be_what_the_grid_has() -> None:
    adam, sgd = {"name": "adam", "lr": 0.01}, {"name": "sgd", "lr": 0.1}
    leaky = {"name": "leaky_relu", "negative_slope": 0.1}
    own = {"metric": "test_accuracy", "direction": "less", "by": "train.optimizer", "level": adam, "against": sgd}
    config = {
        "study": "s", "seeds": 2, "grid": {"activation": ["relu", leaky], "train.optimizer": [sgd, adam]},
        "hypotheses": [
            {**own, "where": {"activation": leaky}},
            {"metric": "test_loss", "direction": "less", "activation": leaky, "where": {"train.optimizer": adam}},
        ],
    }  # fmt: skip
    assert load_config(config).config.hypotheses is not None
    with pytest.raises(ConfigError, match=r"got 'adam\(lr=0.02\)'; allowed: sgd\(lr=0.1\), adam\(lr=0.01\)"):
        load_config({**config, "hypotheses": [{**own, "level": {"name": "adam", "lr": 0.02}}]})
    with pytest.raises(ConfigError, match="no setting of the study has activation"):
        load_config({**config, "hypotheses": [{**own, "where": {"activation": {"name": "elu", "alpha": 0.5}}}]})


@pytest.mark.parametrize(
    ("metric", "more", "fine"),
    [
        ("grad_norm", {}, False),
        ("grad_norm", {"margin": 0.1}, True),
        ("test_accuracy", {}, True),
        ("steps_to_95%", {}, True),
        ("output_range", {}, True),  # which the config has a margin of
    ],
)
def test_what_is_expected_to_be_equal_needs_a_margin(metric: str, more: dict[str, Any], fine: bool) -> None:
    own = {"metric": metric, "direction": "equal", "activation": "elu", **more}
    config = {"study": "s", "grid": {"activation": ["relu", "elu"]}, "margins": {"output_range": 0.5}}
    if fine:
        load_config({**config, "hypotheses": [own]})
        return
    with pytest.raises(ConfigError, match=r"hypotheses\[0\].direction: of grad_norm no margin is known"):
        load_config({**config, "hypotheses": [own]})


@pytest.mark.parametrize("override", ["train={lr: 0.3}", "train.lr=0.3", "train.optimizer={name: sgd, lr: 0.3}"])
def test_the_rate_has_its_short_name_in_mappings_too(override: str) -> None:
    assert load_config({"study": "s"}, [override]).config.train.optimizer.lr == 0.3
    grid = load_config({"study": "s"}, [override, "grid={train.lr: [0.1, 0.2]}"])
    assert [point.setting.train.optimizer.lr for point in grid.points] == [0.1, 0.2]


def test_options_that_the_grid_replaces_are_told() -> None:
    base = {"study": "s", "train": {"optimizer": {"name": "sgd", "lr": 0.1}}, "activation": "relu"}
    bare = {"activation": ["relu", "elu"], "train.optimizer": ["sgd", "adam"]}
    text = "train.optimizer.lr: not used, since each value of grid.train.optimizer takes the place of the whole"
    assert [note.startswith(text) for note in load_config({**base, "grid": bare}).notes] == [True]
    for heeded in ({"train.optimizer.name": ["sgd", "adam"]}, [bare, {"activation": ["tanh"]}]):
        assert load_config({**base, "grid": heeded}).notes == ()
    assert all(load_config(path).notes == () for path in shipped_configs().values())


def test_what_is_hardly_meant_is_told() -> None:
    twice = {"activation": ["relu", "leaky_relu", {"name": "leaky_relu", "negative_slope": 0.01}]}
    text = "grid: 1 of its 3 settings is another one in other words, and trained once"
    assert load_config({"study": "s", "grid": twice}).notes == (text,)
    assert load_config({"study": "s", "grid": [{"activation": ["relu"]}, {"activation": ["relu", "elu"]}]}).notes == ()
    late = {"study": "s", "train": {"epochs": 2, "schedule": {"name": "cosine", "warmup": 100}}}
    text = "train.schedule.warmup: 100 epochs, of which 2 are trained: the rate never reaches lr"
    assert load_config(late).notes == (text,)
    assert load_config(late, ["train.schedule.warmup=2"]).notes == load_config(late, ["train.epochs=0"]).notes == ()


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"name": "blobs", "samples": 4, "classes": 100}, "dataset.samples: got 4; 100 classes need two each"),
        ({"name": "digits", "train_size": 5}, "dataset.train_size: got 5; digits has 10 classes, each needs a sample"),
    ],
)
def test_fewer_samples_than_classes_are_refused_by_plan_and_run(tmp_path: Path, dataset: Any, message: str) -> None:
    loaded = load_config({"study": "s", "dataset": dataset})
    with pytest.raises(ConfigError, match=message):
        list(foretold(loaded, tmp_path, resources_of({})))
    with pytest.raises(ConfigError, match=message):
        reluexp.run({"study": "s", "dataset": dataset}, tmp_path)


def three_classes() -> tuple[list[list[int]], list[int], list[list[int]], list[int]]:
    return [[1], [2], [3]], [0, 1, 2], [[1], [2], [3]], [0, 1, 2]


@pytest.mark.usefixtures("inline")
def test_so_are_fewer_than_the_classes_of_data_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    dataset = {"name": f"{__name__}:three_classes", "train_size": 2}
    with pytest.raises(ConfigError, match=r"dataset.train_size: got 2; .* has 3 classes, each needs a sample"):
        reluexp.run({"study": "s", "dataset": dataset}, tmp_path)


def test_schema_file_is_what_the_command_prints() -> None:
    folder = next(iter(shipped_configs().values())).parent
    assert json.loads((folder / "schema.json").read_text("utf-8")) == json.loads(json_schema())


MISTAKES = [
    ("", "FILE: the file is empty"),
    ("{}\n", "FILE: the file is empty; it needs at least one key"),
    ("- a\n", "FILE:1: a config is a mapping"),
    ("a: [\n", "FILE:2: not YAML"),
    ("train:\n\tepochs: 3\n", "indent with spaces"),
    ("\ntrain: {epoch: 3}\n", "FILE:2: train.epoch: unknown key; allowed: epochs"),
    ("train: {epoch: 3}\n", "did you mean 'epochs'?"),
    ("activation: rellu\n", "FILE:1: activation: unknown activation 'rellu'; allowed: relu, leaky_relu"),
    ("train: {epochs: many}\n", "FILE:1: train.epochs: got 'many'; allowed: a whole number"),
    ("train: {epochs: true}\n", "got true; allowed: a whole number"),
    ("train: {lr: -1}\n", "FILE:1: train.optimizer.lr: got -1; allowed: greater than 0"),
    ("train: {lr: .nan}\n", "a finite number"),
    ("train: {lr: 1e999}\n", "a finite number"),
    ("seeds: 0\n", "seeds: got 0; allowed: at least 1"),
    ("seeds: [1, 1]\n", "differ"),
    ("seeds: 3\nseeds: 4\n", "FILE:2: seeds: given twice"),
    ("study: ../x\n", "FILE:1: study: got '../x'"),
    ("study: CON\n", "reserved"),
    ("grid: {activation: relu}\n", "grid.activation: got 'relu'; allowed: a list"),
    ("grid:\n  activation: [relu, {name: elu, alpha: -1}]\n", "FILE:2: grid.activation[1].alpha: got -1"),
    ("grid: {activation: [relu, relu]}\n", "FILE:1: grid.activation: got ['relu', 'relu']; allowed: values that"),
    ("activation: ReLU\n", "; did you mean 'relu'?"),
    ("init: he\n", "; did you mean 'he_normal'?"),
    ("lr: 0.1\n", "FILE:1: lr: unknown key; allowed: dataset, architecture, activation"),
    ("lr: 0.1\n", "; did you mean 'train.optimizer.lr'?"),
    ("train: {depth: 3}\n", "; did you mean 'architecture.depth'?"),
    ("weight_decy: 3\n", "; did you mean 'train.optimizer.weight_decay'?"),
    ("train: {optimizer: {name: adam, momentum: 0.9}}\n", "adam has no momentum; sgd and rmsprop have; allowed: lr"),
    ("architecture: {name: mlp, channels: [3]}\n", "architecture.channels: mlp has no channels; cnn has; allowed: "),
    ("grid: {activation.negative_slope: [0.1, 0.2]}\n", "FILE:1: grid.activation.negative_slope: relu has no"),
    ("grid: {architecture: [mlp, cnn], architecture.depth: [2, 3]}\n", "FILE:1: grid.architecture.depth: cnn has no"),
    ("architecture: {width: [64, 0]}\n", "FILE:1: architecture.width[1]: got 0; allowed: at least 1"),
    ("grid: {width: [8, 16]}\n", "grid.width: unknown axis; allowed: dotted keys of a setting, such as dataset"),
    ("grid: {width: [8, 16]}\n", "; did you mean 'architecture.width'?"),
    ("grid: {architecure.width: [8, 16]}\n", "; did you mean 'architecture.width'?"),
    ("grid: {speed: [1]}\n", "grid.speed: unknown axis"),
    ("architecture: cnn\ndataset: blobs\n", "FILE:1: architecture: a convolution needs images"),
    ("probe: {size: 5000}\n", "FILE:1: probe.size: got 5000; there are 1437"),
    ("dataset: {name: digits, train_size: 9999}\n", "dataset.train_size: got 9999; digits has 1437"),
    ("grid: {train.save_weights: [true, false]}\n", "grid.train.save_weights: decides no number; say it once"),
    ("dataset: mnist\ngrid: [{dataset.root: [a, b]}]\n", "FILE:2: grid[0].dataset.root: decides no number"),
    ("grid: {train.lr: [0.1], train.optimizer.lr: [0.2]}\n", "grid.train.lr: given twice"),
    ("architecture: {width: [8, 8]}\ngrid: {architecture.depth: [4, 9]}\n", "depth 9 or a list of widths"),
    ("dataset: functions\ntargets: {test_accuracy: [0.9]}\n", "targets.test_accuracy: got 'test_accuracy', but data"),
    ("grid: {activation: [relu, elu]}\nhypotheses: [{metric: test_accuracy, activation: elu, direction: greater, "
     "at: best}]\n",
     "hypotheses[0].at: 'best' is chosen on the validation split, and there is none"),
    ("dataset: {name: functions, validation: 0.2}\ntune: {over: [train.lr]}\ngrid: {train.lr: [0.1, 0.2]}\n",
     "tune.metric: got 'validation_accuracy', but data with real targets have losses alone"),
    ("grid: {train.lr: [0.1, 0.2]}\nhypotheses: [{metric: test_loss, by: train.lr, level: 0.1, against: 0.3, "
     "direction: less}]\n", "hypotheses[0].against: got 0.3; allowed: 0.1, 0.2"),
    ("activation: {name: 'a:f', high: .inf}\n", "activation: got "),
    ("dataset: {name: 'a:f', high: .nan}\n", "a finite number for high; leave it out"),
    ("dataset: {name: 'a:f', high: [1, {x: .nan}]}\n", "a finite number for high; leave it out"),
    ("baseline: {activation: elu}\n", "baseline.activation: got 'elu'; allowed: an activation of the study: relu"),
    ("seeds: 1000000\ngrid: {init.gain: [1, 2]}\n", "2,000,000 trials"),
    ("activation: !!python/object:os.system x\n", "tags are not allowed"),
    ("[" * 3000, "nested too deep"),
    ("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
     "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e]\n", "aliases"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_a_study_is_called_as_its_file_where_it_says_no_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seeds: 1\n")
    assert load_config(tmp_path / "mine.yaml").config.study == "mine"
    assert "study" not in json.loads(json_schema())["required"]
    (study,) = [key for key in keys_of(Config) if key.name == "study"]
    assert study.default == "the file's name"
    (tmp_path / "my own.yaml").write_text("seeds: 1\n")
    with pytest.raises(ConfigError, match=r"own.yaml \(the file's name, as it gives no study\): study: got 'my own'"):
        load_config(tmp_path / "my own.yaml")
    with pytest.raises(ConfigError, match="config: study: missing; it must be given"):
        load_config({"seeds": 1})


def test_a_key_like_no_other_is_told_what_is_allowed_alone(tmp_path: Path) -> None:
    message = refusal(tmp_path, "dataset: {name: digits, extra: 1}\n")
    assert message == "FILE:1: dataset.extra: unknown key; allowed: train_size, test_size, validation, name"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    assert "problems" not in refusal(tmp_path, "architecture: {width: [64, 0]}\n")
    message = refusal(tmp_path, "activation: rellu\ntrain: {epochs: -1, lr: x}\nseeds: 0\n")
    assert message.startswith("4 problems")


@pytest.mark.parametrize(
    "source", [None, 42, ["quickstart"], load_config("quickstart")], ids=lambda source: type(source).__name__
)
def test_what_is_no_config_at_all_is_told_by_its_kind(source: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    assert str(caught.value) == (
        f"a config is a YAML file, the name of a shipped one, or a mapping; got: {type(source).__name__}"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": 0}, "workers: got 0; allowed: at least 1"),
        (
            {"stack": "two", "device": "tpu"},
            "device: got 'tpu'; allowed: 'auto', 'cpu', 'cuda' or 'mps'\nstack: got 'two'",
        ),
        ({"worker": 2}, "worker: unknown key; allowed: device, workers"),
        ({"engine": "rya"}, "did you mean 'ray'?"),
    ],
)
def test_keywords_of_a_run_are_told_as_keys_of_a_config_are(tmp_path: Path, wrong: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        reluexp.run("smoke", tmp_path, **wrong)
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_overrides_are_checked_and_win_over_the_grid(tmp_path: Path) -> None:
    assert "--set train.epochs: got 'x'" in refusal(tmp_path, "seeds: 1\n", "train.epochs=x")
    loaded = load_config({"study": "s", "grid": {"train.lr": [1, 2]}}, ["train.lr=1e-3"])
    assert [point.setting.train.optimizer.lr for point in loaded.points] == [0.001]


def test_numbers_without_a_dot_are_numbers() -> None:
    assert [scalar(word) for word in ("1e-3", "1E5", "-2", ".5", "0x1f", "yes")] == [1e-3, 1e5, -2, 0.5, "0x1f", "yes"]


def test_grids_multiply_and_lists_of_grids_add_up_without_repetition() -> None:
    product = {"activation": ["relu", "elu"], "architecture.depth": [1, 2, 3]}
    loaded = load_config({"study": "s", "grid": [product, {"activation": ["relu"], "architecture.depth": [3, 4]}]})
    assert len(loaded.points) == 7
    assert loaded.points[-1].axes == {"activation": "relu", "architecture.depth": 4}


def test_labels_show_what_is_not_default() -> None:
    loaded = load_config({"study": "s", "activation": {"name": "leaky_relu", "negative_slope": 0.3}})
    assert label_of(loaded.points[0].setting.activation) == "leaky_relu(negative_slope=0.3)"
    assert label_of(loaded.config.dataset) == "digits"


@pytest.mark.parametrize("field", sorted(CHOICES))
def test_every_entry_can_be_named(field: str) -> None:
    prefix = "train." if field in ("optimizer", "schedule") else ""
    for name in CHOICES[field].names:
        needed = [f"{field}.path=x"] if name == "imagefolder" else []
        wide = ["dataset=mnist"] if field == "architecture" else []
        loaded = load_config({"study": "s"}, [*wide, f"{prefix}{field}={name}", *needed])
        part = loaded.config.train if prefix else loaded.config
        assert getattr(part, field).name == name


def test_a_trials_name_depends_on_what_decides_its_numbers_alone() -> None:
    def ids(**changes: Any) -> list[str]:
        return [trial.id for trial in make_trials(load_config({"study": "s", "seeds": 2, **changes}))]

    assert ids() == ids(study="t") == ids(train={"save_weights": False}) == ids(activation={"name": "relu"})
    several = {"dataset": [{"name": "mnist", "root": root} for root in "ab"]}
    assert len(ids(grid=several)) == 2
    assert len({*ids(), *ids(train={"lr": 0.1}), *ids(activation="elu"), *ids(seeds=[7, 8])}) == 8


def test_stacks_hold_equal_shapes_and_begun_ones_stay_together() -> None:
    grid = {"activation": ["relu", "elu"], "architecture.width": [[4], [5]]}
    trials = make_trials(load_config({"study": "s", "seeds": 3, "grid": grid}))
    begun = [tuple(trial.id for trial in (*trials[:3], *trials[6:8]))]
    plan = make_plan(trials, finished=[trials[-1].id], begun=begun, workers=2)
    assert plan.to_do == 11
    assert tuple(trial.id for trial in plan.stacks[0].trials) == begun[0]
    assert all(len({str(setting.architecture) for setting in stack.settings}) == 1 for stack in plan.stacks[1:])


def test_trials_of_the_same_activation_lie_beside_each_other() -> None:
    slopes = [{"name": "leaky_relu", "negative_slope": slope} for slope in (0.1, 0.2)]
    grid = {"train.lr": [0.1, 0.2, 0.3], "activation": ["relu", *slopes]}
    (stack,) = make_plan(make_trials(load_config({"study": "s", "seeds": 2, "grid": grid}))).stacks
    labels = [label_of(setting.activation) for setting in stack.settings]
    assert len(list(itertools.groupby(labels))) == 3


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_text_raises_anything_but_our_own_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "x.yaml"
    path.write_text(text, "utf-8", errors="replace")
    with contextlib.suppress(ConfigError):
        load_config(path)


@pytest.mark.parametrize("command", [["--help"], ["schema"], ["plan", "quickstart"], ["run", "nonsense"], ["list"]])
def test_torch_is_not_imported(command: list[str]) -> None:
    code = "import sys; from reluexp.cli import _guarded, app; _guarded(app); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_a_study_can_be_run_again_by_what_its_results_say_of_it(name: str, tmp_path: Path) -> None:
    loaded = load_config(name)
    config = loaded.config.model_dump(mode="json")
    if "baseline" not in loaded.config.model_fields_set:
        del config["baseline"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"given": loaded.text, "config": config, "provenance": {}}))
    again = load_config(tmp_path / "study.yaml")
    assert [point.setting for point in again.points] == [point.setting for point in loaded.points]
    assert (again.config.study, again.seed_list, again.baseline) == (name, loaded.seed_list, loaded.baseline)
    assert load_config(tmp_path / "study.yaml", ["train.epochs=7"]).points[0].setting.train.epochs == 7
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"given": "", "config": {**config, "sedes": 3}}))
    with pytest.raises(ConfigError, match=r"study.yaml:\d+: sedes"):
        load_config(tmp_path / "study.yaml")


def test_activations_of_torchs_are_told_by_the_name_that_they_have_here() -> None:
    for other, name in (("mish", "torch.nn:Mish"), ("swish", "silu")):
        with pytest.raises(ConfigError, match=rf"unknown activation '{other}'.*; it is '{name}' here"):
            load_config({"study": "s", "grid": {"activation": ["relu", other]}})
    for name in OTHERS.values():
        build_activation(load_config({"study": "s", "activation": name}).points[0].setting.activation, 3)


def test_what_no_setting_depends_on_hides_no_other_mistake() -> None:
    config = {
        "study": "../x",
        "seeds": [1, 1],
        "grid": {"activation": ["relu", "leaky_relux"], "train.lr": [-1]},
        "margins": {"nonsense": 1},
        "targets": {"test_accuracy": [2]},
    }
    with pytest.raises(ConfigError) as caught:
        load_config(config)
    wrong = (
        "study:",
        "seeds:",
        "grid.activation[1]",
        "grid.train.optimizer.lr[0]",
        "margins.nonsense",
        "targets.test_",
    )
    assert all(key in str(caught.value) for key in wrong)
    assert "6 problems" in str(caught.value)


def test_a_mapping_may_hold_what_python_has_for_numbers_lists_and_names() -> None:
    loaded = load_config(
        {
            "study": "s",
            "dataset": {"name": "mnist", "root": Path("some") / "where"},
            "seeds": range(3),
            "train": {"epochs": np.int64(2)},
            "grid": {"train.lr": np.array([0.1, 0.2]), "activation": ("relu", {"name": "a:f", "p": np.float32(0.5)})},
        }
    )
    plain = {
        "study": "s",
        "dataset": {"name": "mnist", "root": "some/where"},
        "seeds": [0, 1, 2],
        "train": {"epochs": 2},
        "grid": {"train.lr": [0.1, 0.2], "activation": ["relu", {"name": "a:f", "p": 0.5}]},
    }
    assert loaded.config == load_config(plain).config


@pytest.mark.parametrize("value", [{1, 2}, b"x", 1j, object(), len], ids=lambda value: type(value).__name__)
def test_own_options_that_no_file_could_hold_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="what YAML has words for as p"):
        load_config({"study": "s", "activation": {"name": "a:f", "p": value}})


def test_options_that_look_alike_have_two_names() -> None:
    options = [{"name": "a:f", "p": value} for value in (1, "1", True, "true", "x")]
    points = load_config({"study": "s", "grid": {"activation": options}, "baseline": {"activation": options[0]}}).points
    names = ["a:f(p=1)", "a:f(p='1')", "a:f(p=true)", "a:f(p='true')", "a:f(p=x)"]
    assert [point.labels["activation"] for point in points] == names


def test_a_config_without_an_end_is_read_to_its_bound() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: a config has at most 250,000 bytes"):
        load_config("/dev/zero")


def test_activations_without_the_baseline_are_said_not_to_be_compared() -> None:
    grid = {"study": "s", "grid": {"activation": ["elu", "tanh"]}}
    (note,) = load_config(grid).notes
    assert note.startswith("baseline: relu is none of the activations, so that they are not compared; say which one is")
    assert load_config({**grid, "baseline": {"activation": "elu"}}).notes == ()
    assert load_config({"study": "s", "activation": "elu"}).notes == ()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"init": "kaiming_normal"}, "init: unknown init 'kaiming_normal'.*; it is 'he_normal' here"),
        ({"train": {"learning_rate": 0.1}}, "train.learning_rate: .*; it is 'train.lr' here"),
        ({"grid": {"architecture.batch_norm": [True]}}, "batch_norm.*; it is 'architecture.normalization' here"),
        ({"exclude": [{"activation": "relu"}]}, "exclude: .*; it is a list of grids"),
    ],
)
def test_names_of_other_programs_are_told_as_they_are_here(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config({"study": "s", **config})


def test_overrides_are_texts() -> None:
    config = {"study": "s", "activation": "relu"}
    assert load_config(config, "train.epochs=3").config.train.epochs == 3
    for other in ({"train.epochs": 3}, [3]):
        with pytest.raises(ConfigError, match="overrides: texts such as"):
            load_config(config, other)  # type: ignore[arg-type]
