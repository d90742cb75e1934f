"""What researchers write into their own models and activations, measured and trained as it should be."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import reluexp
from reluexp.config import load_config
from reluexp.errors import WatchError
from reluexp.layers import activate
from reluexp.networks.batching import reads_batched
from reluexp.networks.network import build_module

CLASSES, SAMPLES = 3, 40


class Net(nn.Module):
    """Some modules and a function of them and the input, whose sums are the output."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.parts, self.function = nn.ModuleList(parts), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts).flatten(1).sum(1, keepdim=True)


IMAGES, FRAMES = torch.randn(SAMPLES, 3, 6, 10), torch.randn(SAMPLES, 5, 3, 6, 10)
SHAPES: dict[str, tuple[Callable[..., Tensor], Tensor, nn.Module, tuple[int, int]]] = {
    "a generator's first layer": (
        lambda x, m: m(x).view(-1, 6, 4, 4).relu(), torch.randn(SAMPLES, 10), nn.Linear(10, 96), (6, 16)),
    "channels shuffled": (
        lambda x, m: m(x).view(len(x), 2, 4, 6, 10).transpose(1, 2).reshape(len(x), 8, 6, 10).relu(),
        IMAGES, nn.Conv2d(3, 8, 3, padding=1), (8, 60)),
    "a mean over columns": (lambda x, m: m(x).mean(-1).relu(), IMAGES, nn.Conv2d(3, 8, 1), (8, 6)),
    "a maximum over rows": (lambda x, m: m(x).amax(2).relu(), IMAGES, nn.Conv2d(3, 8, 1), (8, 10)),
    "one column": (lambda x, m: m(x)[..., 0].relu(), IMAGES, nn.Conv2d(3, 8, 1), (8, 6)),
    "frames as samples": (
        lambda x, m: m(x.flatten(0, 1)).view(len(x), 5, 8, 6, 10).relu(), FRAMES, nn.Conv2d(3, 8, 1), (8, 300)),
    "another axis": (
        lambda x, m: m(x).unsqueeze(1).relu(), torch.randn(SAMPLES, 3, 12), nn.Conv1d(3, 8, 3), (8, 10)),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_units_are_channels_whatever_shape_they_are_brought_into(name: str) -> None:
    function, x, part, expected = SHAPES[name]
    (site,) = reluexp.watch(Net(function, part), x).sites.to_dict("records")
    assert (site["width"], site["positions"]) == expected


def test_a_silent_channel_of_a_generator_is_dead() -> None:
    linear = nn.Linear(10, 96)
    with torch.no_grad():
        linear.bias.view(6, 16)[1] = -99
    row = reluexp.watch(Net(lambda x, m: m(x).view(-1, 6, 4, 4).relu(), linear), torch.randn(SAMPLES, 10)).measure()
    assert row["dead_fraction"].iloc[0] == pytest.approx(1 / 6)


def test_samples_may_come_second_as_torchs_recurrent_layers_have_them() -> None:
    torch.manual_seed(0)
    x, linear = torch.randn(SAMPLES, 20, 8), nn.Linear(8, 16)
    with torch.no_grad():
        linear.bias -= 1.5
    second = Net(lambda x, m: m(x.transpose(0, 1)).relu().transpose(0, 1), linear)
    found = [reluexp.watch(model, x, chunk=9) for model in (Net(lambda x, m: m(x).relu(), linear), second)]
    rows = [own.measure().drop(columns="site_name") for own in found]
    assert rows[0].round(5).equals(rows[1].round(5))
    assert found[0].units()["sample_rate"].tolist() == found[1].units()["sample_rate"].tolist()


@pytest.mark.parametrize("name", ["weight by name", "rows of a batch norm"])
def test_deaths_have_causes_or_none_but_never_those_of_other_weights(name: str) -> None:
    torch.manual_seed(0)
    if name == "weight by name":
        x, parts = torch.randn(SAMPLES, 10), (nn.Linear(10, 16),)
        model = Net(lambda x, m: F.linear(x, weight=m.weight, bias=m.bias).relu(), *parts)
    else:
        x, parts = torch.randn(SAMPLES, 20, 10), (nn.Linear(10, 16), nn.BatchNorm1d(20))
        model = Net(lambda x, m, n: n(m(x)).relu(), *parts)
    watched = reluexp.watch(model, x)
    watched.measure()
    with torch.no_grad():
        parts[-1].bias[-2:] = -99
    watched.measure()
    units = watched.units()
    assert units["dead_at_end"].sum() == 2
    causes = units.loc[units["dead_at_end"], "cause"]
    assert causes.eq("bias").all() if name == "weight by name" else causes.isna().all()


def test_the_norm_without_a_mean_is_a_norm() -> None:
    model = nn.Sequential(nn.Linear(10, 16), nn.RMSNorm(16), nn.ReLU(), nn.Linear(16, 3))
    assert reluexp.watch(model, torch.randn(SAMPLES, 10)).sites["layer"].tolist() == ["0"]


def test_relu6_has_its_name() -> None:
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU6(), nn.Hardtanh())
    assert reluexp.watch(model, torch.randn(SAMPLES, 10)).sites["function"].tolist() == ["relu6", "hardtanh"]


@pytest.mark.parametrize("shape", [(16,), (16, 1, 1)])
def test_learned_slopes_of_a_marked_function_are_each_channels_own(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    a = torch.full(shape, 0.5)
    a[0], a[1] = 0.01, 2.0
    x = torch.randn(SAMPLES, 4, 6, 6) if len(shape) > 1 else torch.randn(SAMPLES, 4)
    part = nn.Conv2d(4, 16, 1) if len(shape) > 1 else nn.Linear(4, 16)
    with torch.no_grad():
        part.bias[1] = -99
    slopes = nn.Parameter(a)
    watched = reluexp.watch(Net(lambda x, m: activate(m(x), lambda z: torch.where(z > 0, z, slopes * z)), part), x)
    watched.measure()
    units = watched.units()
    assert units["slope_ratio"].tolist()[:2] == pytest.approx([1.0] * 2)
    assert units["slope_ratio"].between(0.5, 1.0).all()
    assert units["firing_rate"].iloc[0] > 0.99
    with torch.no_grad():
        slopes.fill_(4.0)
    watched.measure()
    assert watched.units()["slope_ratio"].iloc[1] == pytest.approx(1.0)


def test_what_is_marked_needs_a_derivative() -> None:
    model = Net(lambda x, m: activate(m(x), lambda z: (z > 0).float()), nn.Linear(4, 5))
    with pytest.raises(WatchError, match="no derivative"):
        reluexp.watch(model, torch.randn(SAMPLES, 4)).measure()


class Noisy(nn.Module):
    """Draws from a generator of its own, and fills containers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.log, self.cache, self.calls = nn.Linear(4, 5), [], {"n": 0}, 0
        self.g = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        self.log.append(len(x))
        self.cache["n"] += 1
        self.cache[len(self.cache)] = x
        self.calls += 1
        return (self.a(x) + torch.randn(5, generator=self.g)).relu()


def test_generators_and_containers_of_the_model_stay_what_they_were() -> None:
    model = Noisy()
    before = model.g.get_state()
    watched = reluexp.watch(model, torch.randn(SAMPLES, 4))
    first, second = watched.measure(), watched.measure()
    assert first["pre_mean"].equals(second["pre_mean"])
    assert torch.equal(model.g.get_state(), before)
    assert (model.log, model.cache, model.calls) == ([], {"n": 0}, 0)


@pytest.mark.parametrize("wrap", [tuple, list, lambda parts: dict(zip(("logits", "aux"), parts, strict=True))])
def test_sums_over_samples_are_refused_whatever_the_model_returns(wrap: Any) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Any:
            h = self.a(x).relu()
            return wrap([self.b(h), torch.zeros(())])

    def first(out: Any) -> Tensor:
        logits: Tensor = out["logits"] if isinstance(out, dict) else out[0]
        return logits

    probe = torch.randn(SAMPLES, 4), torch.randint(CLASSES, (SAMPLES,))
    reluexp.watch(Two(), probe, lambda out, y: F.cross_entropy(first(out), y)).measure()
    with pytest.raises(WatchError, match="a sum over the samples"):
        reluexp.watch(Two(), probe, lambda out, y: F.cross_entropy(first(out), y, reduction="sum")).measure()


def test_models_of_one_batch_size_are_measured_in_chunks_of_it() -> None:
    model = Net(lambda x, m: m(x.view(8, 4)).relu(), nn.Linear(4, 5))
    rows = reluexp.watch(model, torch.randn(SAMPLES, 4), chunk=8).measure()
    assert rows["width"].tolist() == [5, 1]


def test_a_watch_goes_on_after_a_checkpoint_of_ones_own_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    watched = reluexp.watch(model, (torch.randn(SAMPLES, 4), torch.randint(CLASSES, (SAMPLES,))), F.cross_entropy)
    watched.measure()
    other, again = pickle.loads(pickle.dumps((model, watched)))
    for own in (model, other):
        with torch.no_grad():
            own[0].bias[:3] -= 9
    assert watched.measure().equals(again.measure())
    assert again.units()["cause"].dropna().eq("bias").sum() >= 2
    assert watched.units().equals(again.units())
    assert watched.frame().equals(again.frame())


# Activations of one's own, in studies.


class Dropped(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.rand(width))

    def forward(self, z: Tensor) -> Tensor:
        return F.dropout(torch.where(z > 0, z, self.slope * z), 0.1, self.training)


def rectified(z: Tensor) -> Tensor:
    return z.relu_()


def gain_of(name: str) -> float:
    config = {"study": "s", "architecture": {"depth": 1, "width": 8}, "activation": name}
    setting = load_config(config).points[0].setting
    module = build_module(setting, (1, 8, 8), 10, 0)
    return float(next(module.parameters()).detach().std())


def trained(names: list[str], results: Path, **changes: Any) -> reluexp.Study:
    """A study of some digits for an epoch."""
    config = {
        "study": "own",
        "dataset": {"name": "digits", "train_size": 200, "test_size": 50},
        "architecture": {"depth": 1, "width": 8},
        "init": {"gain": 1.0},
        "train": {"epochs": 1},
        "seeds": 1,
        "grid": {"activation": names},
    }
    return reluexp.run({**config, **changes}, results, workers=1)


def test_gains_of_random_activations_are_always_the_same() -> None:
    from reluexp.networks.network import _auto_gain

    found = set()
    for seed in range(3):
        _auto_gain.cache_clear()
        torch.manual_seed(seed)
        found.add(gain_of(f"{__name__}:Dropped"))
    assert len(found) == 1


@pytest.mark.usefixtures("inline")
def test_activations_of_ones_own_may_work_in_place_and_have_torchs_parameters(tmp_path: Path) -> None:
    names = ["relu", "torch:relu_", f"{__name__}:rectified", "torch.nn:PReLU", "torch.nn:RReLU"]
    study = trained(names, tmp_path, seeds=2, architecture={"depth": 2, "width": 16}, init={"gain": 1.4})
    assert study.trials["outcome"].eq("finished").all()
    layers = study.layers.merge(study.trials[["trial", "activation", "seed"]], on="trial")
    columns = ["dead_fraction", "pre_mean", "post_mean", "zero_fraction", "backprop_norm"]
    plain = layers.loc[layers["activation"] == "relu", columns].round(4).reset_index(drop=True)
    for name in names[1:3]:
        own = layers.loc[layers["activation"] == name, columns].round(4).reset_index(drop=True)
        assert own.equals(plain)


class Wordless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def wordless(z: Tensor) -> Tensor:
    raise Wordless


def unwritable(z: Tensor) -> Tensor:
    raise ValueError("a name of a file: \udcff")


@pytest.mark.usefixtures("inline")
def test_failures_are_told_whatever_their_words_are(tmp_path: Path) -> None:
    names = ["relu", f"{__name__}:wordless", f"{__name__}:unwritable"]
    study = trained(names, tmp_path)
    failures = study.trials.set_index("activation")["failure"]
    assert failures[names[1]].startswith("Wordless: its message cannot be told")
    assert failures[names[2]].startswith("ValueError: a name of a file: ?")


def test_comparisons_take_a_baseline_as_the_grid_has_it(tmp_path: Path) -> None:
    from made_results import made

    from reluexp.stats import compare_study

    study = made({"relu": [0.5] * 6, "leaky_relu(negative_slope=0.1)": [0.6] * 6})
    given = {"name": "leaky_relu", "negative_slope": 0.1}
    found = compare_study(study, "test_accuracy", baseline=given)
    assert found["activation"].tolist() == ["relu"]


class Lucky(nn.Module):
    """Draws from Python's and NumPy's global generators, when it is made and at every step."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, activation: Any) -> None:
        super().__init__()
        self.inner = nn.Linear(math.prod(input_shape), 16)
        self.activation, self.outer = activation(16), nn.Linear(16, num_outputs)
        self.scale = random.uniform(0.5, 2) + np.random.rand()

    def forward(self, x: Tensor) -> Tensor:
        z = self.scale * self.inner(x.flatten(-3))
        if self.training and random.random() < 0.5:
            z = z * np.random.rand()
        return self.outer(self.activation(z))


@pytest.mark.usefixtures("inline")
def test_every_generator_that_models_draw_from_goes_by_the_trials_seed(tmp_path: Path) -> None:
    found = []
    for number in range(2):
        random.seed(number)
        np.random.seed(number)
        model = f"{__name__}:Lucky"
        study = trained(["relu", "tanh"], tmp_path / str(number), seeds=2 + number, architecture=model)
        found.append(study.trials.query("seed < 2").reset_index(drop=True))
        assert found[-1]["outcome"].eq("finished").all()
        trial = study.trials["trial"][0]
        before = random.getstate()
        study.model(trial)
        assert random.getstate() == before
    pd.testing.assert_frame_equal(*found, check_exact=True)
    setting = load_config({"study": "s", "architecture": f"{__name__}:Lucky"}).points[0].setting
    assert not reads_batched(setting, (1, 8, 8), 10)
