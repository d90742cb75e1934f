"""The user's own models in stacks: only what gives in a stack what it gives alone, and then the same numbers."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import reluexp
from reluexp.catalogue.activations import ACTIVATIONS
from reluexp.config import Setting, load_config
from reluexp.errors import ConfigError, ResultsError
from reluexp.networks.batching import reads_batched
from reluexp.networks.network import Network
from reluexp.planning.plan import make_trials
from reluexp.report import write_report
from reluexp.report.findings import findings
from reluexp.report.tables.summary import summary_table
from reluexp.stats import dying, summary

PAGE = Path(__file__).parents[1] / "docs" / "own.md"


class Mlp(nn.Module):
    def __init__(self, input_shape: Any, num_outputs: int, activation: Any) -> None:
        super().__init__()
        norm, drop = nn.BatchNorm1d(9), nn.Dropout(0.3)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 9), norm, activation(9), drop, nn.Linear(9, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class Viewed(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[1:](x.view(x.size(0), -1))
        return out


class Reshaped(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net[1:](torch.reshape(x, (-1, 16)))
        return out


class Normalised(nn.Module):
    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 9), nn.Linear(9, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(F.gelu(F.layer_norm(self.first(x.flatten(1)), (9,))))
        return out


class Restless(nn.Module):
    """Its second layer gets a parameter, and what its first layer got is written over."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(16))
        self.first, self.second, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1).clone()
        h = self.first(flat).relu()
        flat.add_(1)
        out: Tensor = self.last(h + self.second(self.token.expand(len(x), -1)).relu())
        return out


class Softmax(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(super().forward(x), dim=1)


class Noisy(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn_like(x) if self.training else x)


class Centred(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


class Scaled(Mlp):
    def __init__(self, input_shape: Any, num_outputs: int, activation: Any) -> None:
        super().__init__(input_shape, num_outputs, activation)
        self.scale = nn.Parameter(torch.ones(num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class Pooled(nn.Module):
    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.last = nn.Linear(1, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(x.mean((2, 3)))
        return out


class Convolution(nn.Module):
    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 3, 3), nn.Linear(12, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(F.relu(self.first(x)).flatten(1))
        return out


def setting(model: str, activation: str = "relu", **options: Any) -> Setting:
    loaded = load_config(
        {"study": "s", "architecture": {"name": f"{__name__}:{model}"}, "activation": activation, **options}
    )
    return make_trials(loaded)[0].point.setting


@pytest.mark.parametrize(("model", "batched"), [
    *((name, True) for name in ("Mlp", "Viewed", "Reshaped", "Normalised")),
    *((name, False) for name in ("Softmax", "Noisy", "Centred", "Scaled", "Pooled", "Convolution")),
])  # fmt: skip
def test_a_model_is_stacked_if_it_gives_the_same_there(model: str, batched: bool) -> None:
    assert reads_batched(setting(model), (1, 4, 4), 5) is batched


def test_a_model_that_fails_alone_is_not_stacked() -> None:
    assert not reads_batched(setting("Mlp"), (1, 5, 5), 5)


def test_each_replica_keeps_what_its_own_constructor_drew() -> None:
    own = setting("Mlp", init="torch")
    together = Network([own] * 3, [4, 5, 6], (1, 4, 4), 5, batched=True)
    for replica, seed in enumerate((4, 5, 6)):
        alone = Network([own], [seed], (1, 4, 4), 5).state(0)
        assert all(torch.equal(together.state(replica)[name], value) for name, value in alone.items())


@pytest.mark.parametrize("activation", ACTIVATIONS.names)
def test_what_the_factory_gives_is_one_site(activation: str) -> None:
    network = Network([setting("Mlp", activation)], [0], (1, 4, 4), 5)
    assert [(site.name, site.width) for site in network.sites] == [("net.3", 9)]
    function = activation.replace("_", "")
    assert network.sites[0].function == function


def tables(folder: Path, config: str, **means: Any) -> tuple[dict[str, pd.DataFrame], int]:
    study = reluexp.run(config, folder, **means)
    assert set(study.trials["outcome"]) == {"finished"}
    found = {}
    for name in ("trials", "epochs", "layers", "units"):
        frame: pd.DataFrame = getattr(study, name).dropna(axis=1, how="all")
        keys = [key for key in ("trial", "step", "site", "unit") if key in frame]
        found[name] = frame.sort_values(keys).reset_index(drop=True)
    return found, int(study.timing["replicas"].max())


@pytest.mark.slow
def test_the_example_of_the_docs_trains_in_stacks_with_the_numbers_it_has_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, yaml = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    leaving = "import atexit\nfrom pathlib import Path\natexit.register(Path('left').touch)\n"
    (tmp_path / "mine.py").write_text(python + leaving)
    (tmp_path / "mine.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    stacked, most = tables(tmp_path / "stacked", "mine.yaml", workers=1)
    assert (tmp_path / "left").exists()
    alone, one = tables(tmp_path / "alone", "mine.yaml", workers=1, stack=1)
    assert (most, one) == (6, 1)
    for name, frame in stacked.items():
        own = frame["trial"].isin(stacked["trials"]["trial"][~stacked["trials"]["activation"].str.contains(":")])
        pd.testing.assert_frame_equal(frame[own], alone[name][own])
        pd.testing.assert_frame_equal(frame, alone[name], rtol=0.05, atol=0.05, check_exact=False)


class Broken(nn.Module):
    def __init__(self, num_outputs: int, activation: Any) -> None:
        super().__init__()
        self.act, self.last = activation(64), nn.Linear(64, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.is_grad_enabled():
            raise RuntimeError("the loss of <b>hope</b>\nand more")
        out: Tensor = self.last(self.act(x.flatten(1)))
        return out


def tiny(model: str, **changes: Any) -> dict[str, Any]:
    """One epoch of a few digits with a model of this file."""
    dataset = {"name": "digits", "train_size": 100, "test_size": 50}
    return {"study": "s", "dataset": dataset, "architecture": f"{__name__}:{model}", "train": {"epochs": 1}, **changes}


@pytest.mark.usefixtures("inline")
def test_a_study_whose_every_trial_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)  # from where workers import
    config = tiny("Broken", seeds=2, grid={"activation": ["relu", "elu"]})
    study = reluexp.run(config, tmp_path, workers=1)
    assert set(study.trials["outcome"]) == {"failed"}
    assert "4 trials (4 failed)" in repr(study)
    with pytest.raises(ConfigError, match="every trial of this study failed"):
        study.survival()
    with pytest.raises(ResultsError, match="failed and has no weights"):
        study.model(study.trials["trial"].iloc[0])
    line = inspect.getsourcelines(Broken.forward)[1] + 2
    assert findings(study) == [
        "4 of 4 trials failed (ReLU 2 of 2, ELU 2 of 2); a failed one is in no mean; "
        f"why, most often: RuntimeError: the loss of <b>hope</b> (test_batching.py, line {line})."
    ]
    page = write_report(study).read_text("utf-8")
    assert "RuntimeError: the loss of &lt;b&gt;hope" in page
    assert "<b>hope" not in page


class Straight(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, activation: Any) -> None:
        super().__init__()
        self.only = nn.Linear(math.prod(input_shape), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.only(x.flatten(1))


def no_module() -> int:
    return 3


class Wide(nn.Module):
    """For digits; with layers that the tests change."""

    def __init__(self, num_outputs: int, activation: Any) -> None:
        super().__init__()
        first, second, last = nn.Linear(64, 9), nn.Linear(9, 9), nn.Linear(9, num_outputs)
        self.net = nn.Sequential(nn.Flatten(), first, activation(9), second, activation(9), last)

    def forward(self, x: Tensor) -> Any:
        return self.net(x)


class Untrained(Wide):
    def __init__(self, num_outputs: int, activation: Any) -> None:
        super().__init__(num_outputs, activation)
        self.requires_grad_(False)


class Summed(Wide):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).sum(1)


class Headless(Wide):
    def __init__(self, activation: Any) -> None:
        super().__init__(9, activation)


class Doubled(Wide):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


class Weighed(Wide):
    def __init__(self, num_outputs: int, activation: Any) -> None:
        super().__init__(num_outputs, activation)
        nn.utils.parametrizations.weight_norm(self.net[5])


class Tied(Wide):
    def __init__(self, num_outputs: int, activation: Any) -> None:
        super().__init__(num_outputs, activation)
        self.net.insert(5, nn.Linear(9, 9))
        self.net.insert(6, activation(9))
        self.net[5].weight = self.net[3].weight


class Own(nn.Module):
    """An activation with a slope for each channel, which works in place."""

    def __init__(self, width: int, slope: float = 0.5) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((width,), slope))

    def forward(self, z: Tensor) -> Tensor:
        return z.sin_() * self.slope


class Deaf(Wide):
    def __init__(self, num_outputs: int) -> None:
        super().__init__(num_outputs, lambda width: nn.ReLU())


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Straight", "has no activation to be measured"),
        ("no_module", "made int, not a torch.nn.Module"),
        ("Headless", r"gives [sample, 9]; its output must be [sample, 10]"),
        ("Doubled", "gives no tensor"),
        ("Summed", "gives [sample]; its output must be [sample, 10]"),
        ("Untrained", "has no parameters to train"),
        ("Weighed", "cannot draw the weights of 'net.5', which are computed from others"),
    ],
)
def test_models_that_cannot_be_studied_are_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    study = reluexp.run(tiny(name, seeds=1), tmp_path, workers=1)
    assert study.trials["outcome"].tolist() == ["failed"]
    assert message in study.trials["failure"].iloc[0]


class PerChannel(nn.Module):
    """An activation for images alone, with a slope for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, z: Tensor) -> Tensor:
        return z.relu() * self.slope


class Images(nn.Module):
    def __init__(self, num_outputs: int, activation: Any) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), activation(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


@pytest.mark.usefixtures("inline")
def test_an_activation_may_be_for_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    study = reluexp.run({**tiny("Images", seeds=1), "activation": f"{__name__}:PerChannel"}, tmp_path)
    assert study.trials["outcome"].tolist() == ["finished"]


def narrow(z: Tensor) -> Tensor:
    return z[:, :1]


def detached(z: Tensor) -> Tensor:
    return z.detach().relu()


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    ("name", "message"), [("narrow", "gives [2, 1] for [2, 3]"), ("detached", "gives what has no derivative")]
)
def test_so_are_activations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    study = reluexp.run({**tiny("Wide", seeds=1), "activation": f"{__name__}:{name}"}, tmp_path, workers=1)
    assert message in study.trials["failure"].iloc[0]


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net = 7", "'{0}:net' is an int; it must be a class or function that makes a torch.nn.Module"),
        ("\nnet = nowhere", "'{0}:net' cannot be imported: NameError: name 'nowhere' is not defined ({0}.py, line 2)"),
        ("import json\n\nnet = json.loads('')", "line 1 column 1 (char 0) ({0}.py, line 3)"),
        ("def net(:", "'{0}:net' cannot be imported: SyntaxError: invalid syntax ({0}.py, line 1)"),
    ],
)
def test_what_makes_no_model_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"made_{len(text)}"
    Path(f"{name}.py").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message.format(name))):
        reluexp.run({**tiny("Wide"), "architecture": f"{name}:net"}, tmp_path, workers=1)


class Gated(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        gate = torch.rand(()) if self.training else 0.5
        return super().forward(x) * gate


class Squeezed(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.squeeze())


class Frozen(Mlp):
    def __init__(self, input_shape: Any, num_outputs: int, activation: Any) -> None:
        super().__init__(input_shape, num_outputs, activation)
        self.net[1].requires_grad_(False)


@pytest.mark.parametrize("model", ["Gated", "Squeezed"])
def test_what_would_be_the_same_for_all_replicas_or_differ_for_one_is_not_stacked(model: str) -> None:
    assert not reads_batched(setting(model), (1, 4, 4), 5)


def test_frozen_parameters_stay_and_are_not_decayed() -> None:
    assert reads_batched(setting("Frozen"), (1, 4, 4), 5)
    network = Network([setting("Frozen")], [0], (1, 4, 4), 5)
    assert len(network.leaves) == 6 - 2
    assert not network.decayed[network.columns["net.1.weight"]].any()
    assert network.decayed[network.columns["net.5.weight"]].all()


def test_what_a_layer_got_stays_what_it_was() -> None:
    network = Network([setting("Restless")], [0], (1, 4, 4), 10)
    x = torch.randn(5, 1, 4, 4)
    with torch.no_grad(), network.hearing(["first", "second"]) as heard:
        network.forward(x)
        network.flat.add_(1)
    assert torch.equal(heard["first"], x.flatten(1))
    assert torch.equal(heard["second"], torch.ones(5, 16))


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("init", ["he_normal", "torch"])
def test_shared_weights_are_drawn_and_saved_once_and_their_deaths_have_no_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    train = {"epochs": 8, "lr": 0.3}
    study = reluexp.run(tiny("Tied", seeds=4, init=init, train=train), tmp_path, workers=1)
    assert set(study.trials["outcome"]) <= {"finished", "diverged"}
    trial = study.trials["trial"].iloc[0]
    model: Any = study.model(trial)
    assert model.net[5].weight is model.net[3].weight
    x, y = study.probe(trial)
    last = study.epochs[study.epochs["trial"] == trial].iloc[-1]
    assert (model(x).argmax(1) == y).float().mean().item() == pytest.approx(last["probe_accuracy"], abs=1e-6)
    died = study.units[study.units["died_at_step"].notna()]
    assert died["site"].isin([1, 2]).any()
    assert died.loc[died["site"] > 0, "cause"].isna().all()


@pytest.mark.usefixtures("inline")
def test_weight_norm_trains_with_the_inits_of_its_constructor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    study = reluexp.run(tiny("Weighed", seeds=1, init="torch"), tmp_path, workers=1)
    assert study.trials["outcome"].tolist() == ["finished"]


@pytest.mark.usefixtures("inline")
def test_an_activation_of_the_users_may_have_a_parameter_for_each_channel_and_work_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    own = {"name": f"{__name__}:Own", "slope": 0.25}
    study = reluexp.run(tiny("Wide", seeds=1, activation=own), tmp_path, workers=1)
    assert study.trials["outcome"].tolist() == ["finished"]
    model: Any = study.model(study.trials["trial"].iloc[0])
    assert model.net[2].function.slope.shape == (9,)


@pytest.mark.usefixtures("inline")
def test_deaths_of_functions_of_torchs_are_those_of_the_catalogue(tmp_path: Path) -> None:
    names = ["relu", "torch.nn:ReLU", "torch.nn.functional:relu", "torch.nn.functional:gelu", "torch.nn:Hardtanh"]
    config = {"study": "s", "dataset": {"name": "digits", "train_size": 300}, "architecture": {"width": [16, 16]}}
    train = {"epochs": 4, "lr": 0.5}
    study = reluexp.run({**config, "train": train, "seeds": 2, "grid": {"activation": names}}, tmp_path, workers=1)
    known = study.trials.set_index("trial")
    assert known.groupby("activation")["can_die"].first().loc[names].tolist() == [True, True, True, False, True]
    assert dying(study) == {*names[:3], names[4]}
    units = study.units.assign(activation=study.units["trial"].map(known["activation"]))
    causes = [units.loc[units["activation"] == name, "cause"].tolist() for name in names[:3]]
    assert "bias" in causes[0] or "weights" in causes[0] or "mixed" in causes[0]
    assert causes[0] == causes[1] == causes[2]


class Shuffled(Mlp):
    """What it draws is neither a parameter nor a buffer."""

    def __init__(self, input_shape: Any, num_outputs: int, activation: Any) -> None:
        super().__init__(input_shape, num_outputs, activation)
        self.order = torch.randperm(16)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)[:, self.order])


@pytest.mark.usefixtures("inline")
def test_the_model_of_a_trial_has_what_its_constructor_drew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    study = reluexp.run(tiny("Shuffled", seeds=[3, 4]), tmp_path, workers=1)
    for trial in study.trials["trial"]:
        x, y = study.probe(trial)
        last = study.epochs[study.epochs["trial"] == trial].iloc[-1]
        loss = F.cross_entropy(study.model(trial)(x), y).item()
        assert loss == pytest.approx(last["probe_loss"], rel=1e-5)


class Fixed(nn.Module):
    """A model with a ReLU of its own behind the activation that it is given."""

    def __init__(self, num_outputs: int, activation: Any) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Linear(64, 6), activation(6), nn.Linear(6, 8)
        self.last = nn.Linear(8, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.relu(self.second(self.act(self.first(x.flatten(1)))) - 1))
        return out


@pytest.mark.usefixtures("inline")
def test_units_of_a_function_besides_the_activation_can_die(tmp_path: Path) -> None:
    grid = {"activation": ["relu", "elu", "tanh"]}
    study = reluexp.run(tiny("Fixed", seeds=7, grid=grid), tmp_path)
    assert study.trials["can_die"].all()
    assert dying(study) == {"relu", "elu", "tanh"}
    assert not study.compare("dead_fraction")["verdict"].eq("by definition").any()
    assert study.survival().comparison["comparable"].all()
    table = summary_table(study, summary(study))
    assert not any("†" in cell.text for row in table.rows for cell in row)
    assert "†" not in table.caption
    plain = reluexp.run({**tiny("Fixed", seeds=1, grid=grid), "architecture": {"width": [4]}}, tmp_path / "plain")
    assert plain.trials.set_index("activation")["can_die"].to_dict() == {"relu": True, "elu": False, "tanh": False}
    told = [own.claims().set_index("claim").loc["sparsity", "numbers"] for own in (study, plain)]
    assert ["multiply-adds" in numbers for numbers in told] == [False, True]
    mine = reluexp.run(tiny("Wide", seeds=1, grid=grid), tmp_path / "mine")
    assert mine.trials.set_index("activation")["can_die"].to_dict() == {"relu": True, "elu": False, "tanh": False}


@pytest.mark.usefixtures("inline")
def test_models_that_never_ask_for_their_activation_compare_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    with pytest.raises(ConfigError, match=r"does not use the `activation` .* so that elu, relu would be the same"):
        reluexp.run(tiny("Deaf", seeds=1, grid={"activation": ["relu", "elu"]}), tmp_path, workers=1)
    assert not (tmp_path / "s" / "study.yaml").exists()
    said: list[str] = []
    reluexp.run(tiny("Deaf", seeds=1), tmp_path, workers=1, listener=lambda event: said.append(event.get("text", "")))
    assert any(text.endswith("results call it relu") for text in said)
