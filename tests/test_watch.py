"""Watching any module leaves no trace, sees every site, and gives a study's own columns."""

from __future__ import annotations

import copy
import hashlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import reluexp
from reluexp.catalogue.loading import load_dataset
from reluexp.config import load_config
from reluexp.errors import ReluexpError, WatchError
from reluexp.networks.trained import network_of
from reluexp.planning.plan import make_plan, make_trials
from reluexp.training.loop import Training


def network(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), *layers, nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def probe(samples: int = 20) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(samples, 4, generator=random), torch.randint(3, (samples,), generator=random)


TORCHVISION: dict[str, tuple[int, dict[str, int]]] = {
    "resnet18": (32, {"relu": 17}),
    "vgg11_bn": (32, {"relu": 10}),
    "mobilenet_v3_small": (32, {"hardswish": 19, "relu": 14, "hardsigmoid": 9}),
    "densenet121": (32, {"relu": 121}),
    "vit_b_16": (32, {"gelu": 12}),
}
NAMES = {
    "resnet18": ["relu", "layer1.0.relu", "layer1.0.relu#2", "layer1.1.relu"],
    "vgg11_bn": ["features.2", "features.6"],
    "mobilenet_v3_small": ["features.0.2", "features.1.block.0.2", "features.1.block.1.activation"],
    "densenet121": ["features.relu0", "features.denseblock1.denselayer1.relu1"],
    "vit_b_16": ["encoder.layers.encoder_layer_0.mlp.1"],
}


def step_of(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Output and gradients of one training step, its dropout drawn from the global generator."""
    out = model(x)
    F.cross_entropy(out, y).backward()
    return {"out": out.detach(), **{name: p.grad for name, p in model.named_parameters() if p.grad is not None}}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


_LARGE = ("vgg11_bn", "vit_b_16")  # of a hundred million weights


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in _LARGE else ()) for n in TORCHVISION])
def test_all_sites_of_torchvision_and_not_a_bit_changed(name: str) -> None:
    size, functions = TORCHVISION[name]
    torch.manual_seed(0)
    options = {"image_size": size} if name == "vit_b_16" else {}
    model = getattr(torchvision.models, name)(num_classes=5, **options)
    x, y = torch.randn(2, 3, size, size), torch.tensor([0, 3])
    model.train()
    with torch.no_grad():
        model(x)  # running statistics are no longer those of birth
    buffers = {key: value.clone() for key, value in model.named_buffers()}

    def outcome(watching: bool) -> dict[str, str]:
        model.load_state_dict(buffers, strict=False)
        model.zero_grad()
        torch.manual_seed(7)
        if watching:
            rows = reluexp.watch(model, (x, y), F.cross_entropy, causes=False, spectra=False).measure()
            names = rows["site_name"].tolist()
            assert names[: len(NAMES[name])] == NAMES[name]
            assert names[-1] == "output"
            assert len(names) == len(set(names))
            assert rows[["dead_fraction", "post_q999", "backprop_norm"]][:-1].notna().all(axis=None)
        found = step_of(model, x, y)
        model.eval()
        with torch.no_grad():
            found["evaluated"] = model(x)
        model.train()
        found |= {f"state {key}": value for key, value in model.state_dict().items()}
        return {key: hashlib.blake2b(memoryview(value.numpy())).hexdigest() for key, value in found.items()}

    assert outcome(False) == outcome(True)
    with reluexp.watch(model, x) as seen:
        assert seen.sites["function"].value_counts().to_dict() == functions


def test_dead_units_of_a_resnet_are_those_of_hooks_on_z() -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=4).eval()
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        for own in model.modules():
            if isinstance(own, nn.BatchNorm2d):
                own.bias.normal_(-1.5)
                own.num_batches_tracked.fill_(1)
    pre: list[Tensor] = []
    for own in model.modules():
        if isinstance(own, nn.ReLU):
            own.register_forward_pre_hook(lambda module, inputs: pre.append(inputs[0].clone()))
    with torch.no_grad():
        model(x)
    expected = [(z <= 0).flatten(2).all(2).all(0).tolist() for z in pre]
    watched = reluexp.watch(model, x, chunk=2)
    watched.measure()
    found = [own["dead_at_end"].tolist() for _, own in watched.units().groupby("site")]
    assert found == expected
    assert any(any(site) for site in expected)


def identities(model: nn.Module) -> list[Any]:
    return [
        [own.training, {k: {n: id(v) for n, v in d.items()} for k, d in vars(own).items() if isinstance(d, dict)}]
        + [(t._version, t.grad is None, dict(vars(t))) for t in (*own.parameters(), *own.buffers())]
        for own in model.modules()
    ]


class Failing(nn.Module):
    """Fails in the middle of a pass once it is told to."""

    fails = False

    def forward(self, x: Tensor) -> Tensor:
        if self.fails:
            raise ArithmeticError("on purpose")
        return x


def test_nothing_of_a_model_is_touched_even_by_a_pass_that_fails() -> None:
    failing = Failing()
    model = network(nn.BatchNorm1d(8), nn.Dropout(0.5), failing)
    model.train()
    model[1].eval()
    x, y = probe()
    state, random = identities(model), torch.get_rng_state()
    with reluexp.watch(model, (x, y), F.cross_entropy) as watched:
        watched.measure()
        assert identities(model) == state
        failing.fails = True
        with pytest.raises(ArithmeticError):
            watched.measure()
        failing.fails = False
        assert identities(model) == state
    assert identities(model) == state
    assert torch.equal(random, torch.get_rng_state())
    with pytest.raises(WatchError, match="ended"):
        watched.measure()
    assert len(watched.frame()) == 3


def train(watching: bool, wrap: Callable[[nn.Module], nn.Module] = lambda model: model) -> dict[str, Tensor]:
    model = network(nn.BatchNorm1d(8), nn.Dropout(0.3))
    wrapped, (x, y) = wrap(model), probe(60)
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    watched = reluexp.watch(wrapped, (x[:20], y[:20]), F.cross_entropy) if watching else None
    torch.manual_seed(3)
    for step in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(wrapped(x), y)
        if watched:
            watched.measure(step=step)  # between a forward and its backward pass, where it would hurt most
        loss.backward()
        optimizer.step()
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel], ids=["plain", "DataParallel"])
def test_training_is_the_same_bit_for_bit_with_and_without(wrap: Callable[[nn.Module], nn.Module]) -> None:
    same(train(False, wrap), train(True, wrap))


def test_measuring_under_autocast_spoils_no_gradient() -> None:
    def gradients(watching: bool) -> dict[str, Tensor]:
        model, (x, y) = network(), probe()
        with torch.autocast("cpu", torch.bfloat16):
            if watching:
                rows = reluexp.watch(model, x).measure()
                assert rows["pre_std"].notna().all()
            return step_of(model, x, y)

    same(gradients(False), gradients(True))
    model, (x, _) = network(), probe()
    model[0].register_forward_hook(lambda *event: cached.append(torch.is_autocast_cache_enabled()))
    cached: list[bool] = []
    with torch.autocast("cpu", torch.bfloat16):
        inside = reluexp.watch(model, x).measure()
    assert not cached[-1]  # else each measurement would leave a copy of the weights in the cache
    outside = reluexp.watch(model, x).measure()
    assert 0 < (inside["pre_mean"] - outside["pre_mean"]).abs().max() < 0.02


def test_a_measurement_without_gradients_asked_or_allowed_works() -> None:
    model, (x, y) = network(), probe()
    with torch.inference_mode():
        rows = reluexp.watch(model, (x, y), F.cross_entropy).measure()
    model.requires_grad_(False)
    frozen = reluexp.watch(model, (x, y), F.cross_entropy).measure()
    assert rows["backprop_norm"].notna().all()
    assert rows.equals(frozen)
    assert reluexp.watch(model, x).measure()[["backprop_norm", "weight_grad_norm"]].isna().all(axis=None)


def test_rows_are_those_of_a_study() -> None:
    architecture = {"name": "mlp", "width": [7, 6], "normalization": "batch", "dropout": 0.2}
    dataset = {"name": "digits", "train_size": 100, "test_size": 50}
    config = {"study": "s", "dataset": dataset, "architecture": architecture, "activation": "prelu", "seeds": 1}
    loaded = load_config({**config, "train": {"epochs": 1}, "probe": {"size": 40}})
    (stack,) = make_plan(make_trials(loaded)).stacks
    training = Training(stack, load_dataset(stack.setting.dataset), "s")
    watched = []

    def look(epoch: int, *numbers: Tensor) -> None:
        from reluexp.networks.network import build_module

        plain = build_module(training.setting, training.data.input_shape, 10)
        plain.load_state_dict(training.network.state(0))
        own = reluexp.watch(plain, (training.probe.x, training.probe.y), F.cross_entropy)
        watched.append(own.measure(step=training.step, epoch=float(epoch)))

    assert training.run(lambda: False, look)
    tables = training.result().tables
    layers = tables["layers"].drop(columns="trial")
    for rows in watched:
        expected = layers[layers["epoch"] == rows["epoch"][0]].reset_index(drop=True)
        assert list(rows.columns) == list(expected.columns)
        for column in rows.columns.difference(["starved_fraction", "update_ratio"]):
            if rows[column].dtype.kind == "f":
                np.testing.assert_allclose(rows[column], expected[column], rtol=1e-4, atol=1e-6, err_msg=column)
            else:
                assert rows[column].tolist() == expected[column].tolist()
    assert len(watched) == 2


def test_lives_of_units_and_causes_of_their_deaths() -> None:
    model, (x, _) = network(), probe()
    with torch.no_grad():
        for layer in (model[0], model[3 - 1]):
            layer.bias.fill_(3)
        watched = reluexp.watch(model, x)
        watched.measure(step=0)
        model[0].bias[2] -= 50
        watched.measure(step=5)
        model[2].weight[4] = -model[2].weight[4].abs() - 9
        watched.measure(torch.zeros(1, 4), step=6)  # a snapshot, in which other units are silent
        watched.measure(step=7)
        model[0].bias[2] += 50
        watched.measure(step=9)
    units = watched.units().set_index(["site", "unit"])
    assert units.loc[(0, 2), ["born_dead", "died_at_step", "revived", "dead_at_end"]].tolist() == [False, 5, 1, False]
    assert units.loc[(0, 2), "cause"] == "bias"
    assert units.loc[(0, 2), "cause_bias"] == pytest.approx(1)
    assert units.loc[(1, 4), ["died_at_step", "dead_since_step", "dead_at_end"]].tolist() == [7, 7, True]
    assert units.loc[(1, 4), "cause"] == "weights"
    assert units["dead_at_end"].sum() == 1
    assert sorted(set(watched.frame()["step"])) == [0, 5, 7, 9]
    confirmed = watched.confirm(x[:3])
    assert confirmed["confirmed_dead"].tolist() == (
        torch.cat([(z <= 0).all(0) for z in pre_activations(model, x[:3])]).tolist()
    )


@pytest.mark.parametrize("layers", [[], [nn.BatchNorm1d(8)]], ids=["plain", "batch norm"])
def test_two_watches_on_one_model_agree_on_causes_whatever_their_chunks(layers: list[nn.Module]) -> None:
    model, (x, _) = network(*copy.deepcopy(layers)), probe(60)
    model(x)
    watches = [reluexp.watch(model, x, chunk=chunk) for chunk in (60, 7)]
    for step in range(5):
        for own in watches:
            own.measure(step=step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter) - 0.5 * (parameter.dim() == 1))
    one, other = (own.units() for own in watches)
    died = one["cause"].notna()
    assert died.sum() >= 3
    assert one["cause"].tolist() == other["cause"].tolist()
    shares = ["cause_bias", "cause_weights", "cause_input"]
    np.testing.assert_allclose(one[shares].astype(float), other[shares].astype(float), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.loc[died, shares].astype(float).sum(axis=1), 1, rtol=1e-9)


def pre_activations(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    first = model[0](x)
    return [first, model[2](first.relu())]


def test_norms_before_their_first_step_are_settled_on_the_probe() -> None:
    model, (x, _) = network(nn.BatchNorm1d(8)), probe()
    row = reluexp.watch(model, x).measure().iloc[0]
    z = model[0](x)
    expected = (z - z.mean(0)) / (z.var(0) + 1e-5).sqrt()
    assert row["pre_mean"] == pytest.approx(0, abs=1e-6)
    assert row["pre_std"] == pytest.approx(float(expected.detach().std(correction=0)), rel=1e-5)
    assert torch.equal(model[1].running_mean, torch.zeros(8))
    assert model[1].num_batches_tracked == 0
    model(x)
    row = reluexp.watch(model, x).measure().iloc[0]
    assert row["pre_mean"] == pytest.approx(float(model[1].eval()(model[0](x)).detach().mean()), rel=1e-5)


def test_statistics_of_a_norm_that_came_without_a_count_are_believed() -> None:
    model, (x, _) = network(nn.BatchNorm1d(8)), probe()
    norm = model[1]
    norm.running_mean.fill_(5.0)
    norm.running_var.fill_(4.0)
    assert norm.num_batches_tracked == 0
    row = reluexp.watch(model, x).measure().iloc[0]
    assert row["pre_mean"] == pytest.approx(float(model.eval()[1](model[0](x)).detach().mean()), rel=1e-5)


def test_any_chunk_gives_the_same() -> None:
    model, pair = network(nn.LayerNorm(8)), probe()
    one, whole = (reluexp.watch(model, pair, F.cross_entropy, chunk=n).measure() for n in (3, 20))
    for column in one.columns:
        if one[column].dtype.kind == "f":
            np.testing.assert_allclose(one[column], whole[column], rtol=1e-4, atol=1e-7, err_msg=column)


def test_a_loss_may_give_the_mean_or_each_samples_own() -> None:
    model, pair = network(), probe()
    mean = reluexp.watch(model, pair, F.cross_entropy).measure()
    each = reluexp.watch(model, pair, lambda out, y: F.cross_entropy(out, y, reduction="none")).measure()
    np.testing.assert_allclose(mean["backprop_norm"], each["backprop_norm"], rtol=1e-5)
    without = reluexp.watch(model, pair[0], lambda out: out.square().mean()).measure()
    assert without["weight_grad_norm"].notna().all()


class Checkpointed(nn.Module):
    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.first, self.body, self.out = (
            nn.Linear(4, 8),
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace)),
            nn.Linear(8, 3),
        )
        self.use = True

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.first(x)
        h = checkpoint(self.body, h, use_reentrant=False) if self.use else self.body(h)
        return {"logits": self.out(h)}


@pytest.mark.parametrize("inplace", [False, True])
def test_checkpointed_parts_have_gradients(inplace: bool) -> None:
    torch.manual_seed(0)
    model = Checkpointed(inplace)
    rows = []
    for use in (True, False):
        model.use = use
        rows.append(reluexp.watch(model, probe(), lambda out, y: F.cross_entropy(out["logits"], y)).measure())
    assert rows[0].equals(rows[1])
    assert rows[0]["backprop_norm"][0] > 0


def test_gradients_out_of_reach_are_null_and_not_0() -> None:
    class Reentrant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.out = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(checkpoint(self.body, x, use_reentrant=True))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's own, on inputs without gradients
        rows = reluexp.watch(Reentrant(), probe(), F.cross_entropy).measure()
    assert rows["backprop_norm"].isna().tolist() == rows["weight_grad_norm"].isna().tolist() == [True, False]


def test_hooks_on_parameters_are_not_called_and_frozen_layers_are_measured() -> None:
    model, called = network(), []
    model[0].weight.register_hook(lambda gradient: called.append(gradient))
    model[2].requires_grad_(False)
    rows = reluexp.watch(model, probe(), F.cross_entropy).measure()
    assert not called
    assert rows["weight_grad_norm"].gt(0).all()


class Mapped(nn.Module):
    """A model that is written for one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.vmap(lambda own: self.linear(own).relu())(x)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "compiled": (lambda: torch.compile(network()), "compiled by torch.compile"),
    "compiled part": (lambda: nn.Sequential(torch.compile(network()), nn.ReLU()), "part '0' is compiled"),
    "compiled in place": (lambda: (model := network(), model.compile())[0], "compiled by torch.compile"),
    "scripted": (lambda: torch.jit.script(network()), "ScriptModule"),
    "traced": (lambda: torch.jit.trace(network(), probe()[0]), "ScriptModule"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3), nn.ReLU()), "lazy"),
    "mapped": (lambda: Mapped(), "inside a transform of torch.func"),
    "no module": (lambda: torch.relu, "torch.nn.Module"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*", "ignore:Lazy modules:UserWarning")
def test_what_cannot_be_seen_is_refused_with_what_to_do(kind: str) -> None:
    make, message = REFUSED[kind]
    with pytest.raises(WatchError, match=message):
        reluexp.watch(make(), probe()[0])


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_the_module_behind_a_compiled_or_scripted_one_can_be_watched() -> None:
    model, (x, _) = network(), probe()
    for other in (torch.compile(model), torch.jit.script(model)):
        watched = reluexp.watch(model, x)
        first = watched.measure()
        with torch.no_grad():
            next(other.parameters()).mul_(-1)
        assert not watched.measure()["pre_mean"].equals(first["pre_mean"])


@pytest.mark.parametrize(
    "unfit",
    [torch.zeros(0, 4), torch.zeros(3, 5), (torch.zeros(3, 4), torch.zeros(2)), [1, 2, 3], "x",
     (torch.zeros(3, 4), 5), np.zeros((3, 4))],
)  # fmt: skip
def test_unfit_probes_are_refused(unfit: Any) -> None:
    with pytest.raises(WatchError, match=r"probe|targets"):
        reluexp.watch(network(), unfit)


def test_steps_are_whole_numbers_that_do_not_fall() -> None:
    watched = reluexp.watch(network(), probe()[0])
    watched.measure(step=np.int64(5), epoch=np.float32(0.5))
    for unfit, reason in (("a", "whole"), (1.5, "whole"), (3, "the last measurement was at step 5")):
        with pytest.raises(WatchError, match=reason):
            watched.measure(step=unfit)  # type: ignore[arg-type]
    with pytest.raises(WatchError, match="a fraction"):
        watched.measure(epoch="first")  # type: ignore[arg-type]
    watched.measure(probe()[0], step=3)  # a snapshot on other samples is no part of any life
    watched.measure()
    assert watched.frame()["step"].unique().tolist() == [5, 6]
    for chunk in (0, -1, 1.5, "a"):
        with pytest.raises(WatchError, match="chunk: got"):
            reluexp.watch(network(), probe()[0], chunk=chunk)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        ("mse", "loss: got 'mse'"),
        (nn.CrossEntropyLoss, "loss: got <class"),
        (nn.CrossEntropyLoss(reduction="sum"), "a sum over the samples"),
        (lambda out, y: F.cross_entropy(out.detach(), y), "has no gradient"),
        (lambda out, y: 3, "must return a tensor"),
    ],
)
def test_losses_that_would_give_other_gradients_are_refused(loss: Any, reason: str) -> None:
    with pytest.raises(WatchError, match=reason):
        reluexp.watch(network(), probe(), loss).measure()


def test_a_training_set_may_come_with_its_targets() -> None:
    watched = reluexp.watch(network(), probe()[0])
    watched.measure()
    alone = watched.confirm(probe()[0])["confirmed_dead"]
    assert watched.confirm(probe())["confirmed_dead"].equals(alone)
    for unfit in (probe()[0][:0], np.zeros((3, 4))):
        with pytest.raises(WatchError, match="the training set must be"):
            watched.confirm(unfit)  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ["relu", "prelu", "elu", "sigmoid", "leaky_relu"])
def test_a_trials_network_with_disabled_units_is_measured_as_the_trial_was(activation: str) -> None:
    config = {"study": "s", "activation": activation, "architecture": {"width": [12, 8]}, "train": {"epochs": 1}}
    data = {"name": "digits", "train_size": 200}
    loaded = load_config({**config, "dataset": data, "seeds": 1, "init": {"name": "he_normal", "dead": 0.25}})
    (stack,) = make_plan(make_trials(loaded)).stacks
    training = Training(stack, load_dataset(stack.setting.dataset), "s")
    assert training.run(lambda: False, lambda *event: None)
    rows = training.result().tables["layers"]
    rows = rows[rows["step"] == rows["step"].max()].drop(
        columns=["trial", "step", "epoch", "starved_fraction", "update_ratio"]
    )
    network = network_of(stack.setting, 0, (1, 8, 8), 10, training.weights(0))
    watched = reluexp.watch(network, (training.probe.x, training.probe.y), nn.CrossEntropyLoss(reduction="none"))
    found = watched.measure()[rows.columns.tolist()]
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True), rows.reset_index(drop=True), check_dtype=False, rtol=1e-4
    )
    assert torch.isfinite(network(training.probe.x)).all()


def test_another_way_through_the_model_is_an_error() -> None:
    class Wandering(nn.Module):
        deep = False

        def forward(self, x: Tensor) -> Tensor:
            return x.relu().tanh() if self.deep else x.relu()

    model = Wandering()
    watched = reluexp.watch(model, probe()[0])
    model.deep = True
    with pytest.raises(WatchError, match="2 activations"):
        watched.measure()


def test_warnings_name_what_is_suspicious() -> None:
    model, (x, y) = network(), probe()
    healthy = reluexp.watch(model, (x, y), F.cross_entropy)
    healthy.measure()
    assert healthy.warnings() == []
    with torch.no_grad():
        model[2].bias[:4] = -99
        model[0].weight.mul_(1)
    watched = reluexp.watch(model, (x, y), F.cross_entropy)
    watched.measure(step=12)
    assert watched.warnings() == ["3: 4 of 6 units (67%) are dead at step 12"]
    with torch.no_grad():
        model[2].bias.fill_(-99)
    watched.measure(step=13)
    assert watched.warnings()[0] == "3: all 6 units are dead at step 13; no gradient passes here"
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)
    watched.measure(step=14)
    assert "not finite" in watched.warnings()[0]


def test_vanishing_gradients_are_a_suspicion() -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(12) for part in (nn.Linear(4, 4), nn.Sigmoid())]
    watched = reluexp.watch(nn.Sequential(*layers, nn.Linear(4, 3)), probe(), F.cross_entropy)
    rows = watched.measure()
    (sentence,) = watched.warnings()
    assert sentence.startswith("the gradient vanishes: it shrinks by 10^-")
    assert rows["backprop_norm"][0] < 1e-3 * rows["backprop_norm"][11]


def test_a_gradient_that_reaches_nothing_is_a_suspicion() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[2].bias.fill_(-18)  # where the slope of GELU is 0 in single precision
    watched = reluexp.watch(model, probe(), F.cross_entropy)
    assert watched.measure()["backprop_norm"][:2].tolist() == [0, 0]
    assert watched.warnings() == [
        "no gradient reaches 3 or what comes before it at step 0",
        "3: all 8 units are saturated at step 0",
    ]


def test_a_gradient_may_pass_beside_a_site() -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = F.elu(self.first(x))
            return self.last(h + F.gelu(self.second(h)))

    torch.manual_seed(0)
    model = Beside()
    with torch.no_grad():
        model.second.bias.fill_(-18)
    watched = reluexp.watch(model, probe(), F.cross_entropy)
    first, second, _ = watched.measure()["backprop_norm"]
    assert first > 0 == second
    assert watched.warnings()[0] == "no gradient reaches model#2 at step 0"


def test_what_runs_inside_one_kernel_is_said_to_be_unseen() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(x)[0].relu())[:, -1]

    watched = reluexp.watch(Recurrent(), torch.randn(6, 3, 4))
    assert len(watched.measure()) == 2
    assert watched.warnings() == ["rnn: the gates of LSTM run inside one kernel and cannot be seen"]
    assert "no activation" in reluexp.watch(nn.Linear(4, 2), probe()[0]).warnings()[0]


def test_a_transformers_fast_path_hides_nothing() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    sites = reluexp.watch(model, torch.randn(3, 5, 8)).sites
    assert sites["site_name"].tolist() == ["layers.0", "layers.1"]
    assert sites["layer"].tolist() == ["layers.0.linear1", "layers.1.linear1"]


def test_a_watched_model_can_be_saved_and_copied() -> None:
    model, (x, _) = network(), probe()
    watched = reluexp.watch(model, x)
    watched.measure()
    buffer = io.BytesIO()
    torch.save(model, buffer)
    assert b"reluexp" not in buffer.getvalue()
    same(dict(model.state_dict()), dict(copy.deepcopy(model).state_dict()))


def test_errors_are_the_packages_own() -> None:
    assert issubclass(WatchError, ReluexpError)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("autocast", [False, True])
def test_on_a_gpu_the_numbers_are_those_of_the_cpu(autocast: bool) -> None:
    model, pair = network(nn.BatchNorm1d(8)), probe()
    expected = reluexp.watch(model, pair, F.cross_entropy).measure()
    model.cuda()
    random = torch.cuda.get_rng_state()
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        watched = reluexp.watch(model, pair, F.cross_entropy)
        found = watched.measure()
        watched.confirm(pair[0])
    assert torch.equal(random, torch.cuda.get_rng_state())
    for column in ("dead_fraction", "pre_mean", "pre_std", "post_mean", "backprop_norm", "weight_norm"):
        np.testing.assert_allclose(found[column], expected[column], rtol=0.05 if autocast else 1e-3, atol=0.02)


def test_losses_without_their_targets_and_loaders_are_told_from_others() -> None:
    model, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.randn(8, 4)
    for loss in (nn.CrossEntropyLoss(), F.cross_entropy, nn.MSELoss()):
        with pytest.raises(WatchError, match=r"takes targets, too: give probe=\(samples, targets\)"):
            reluexp.watch(model, x, loss=loss)
    own = reluexp.watch(model, x, loss=lambda out, target=None: out.square().mean())
    own.measure()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=4)
    with pytest.raises(WatchError, match=r"the training set must be a tensor.*put together with torch.cat"):
        own.confirm(loader)  # type: ignore[arg-type]
