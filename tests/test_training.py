"""Training and measuring: hand-worked metrics, theory, and numbers that depend on config and seed alone."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import reluexp
from reluexp.catalogue.activations import ACTIVATIONS, build_activation
from reluexp.catalogue.columns import TABLES
from reluexp.catalogue.functions import Prelu
from reluexp.catalogue.loading import load_dataset
from reluexp.catalogue.metrics import METRICS
from reluexp.catalogue.schedules import SCHEDULES
from reluexp.config import load_config
from reluexp.errors import DeviceError
from reluexp.measuring.metrics import merge, site_sums, summarise, top_count
from reluexp.measuring.probe import Probe
from reluexp.networks.gains import auto_gain, derivative, reference_slope
from reluexp.networks.intercept import Reading
from reluexp.networks.network import Network, build_module
from reluexp.planning.plan import make_plan, make_trials
from reluexp.planning.schedule import early_steps, full_epochs
from reluexp.training.loop import Training

WIDE = {"width": [2000]}
TINY = {"name": "digits", "train_size": 100, "test_size": 50}


def trainings(config: dict[str, Any], largest: int | None = None) -> list[Training]:
    loaded = load_config({"study": "s", "dataset": TINY, "probe": {"size": 60}, **config})
    data = load_dataset(loaded.config.dataset)
    return [Training(stack, data, "s") for stack in make_plan(make_trials(loaded), largest=largest).stacks]


def tables(found: list[Training]) -> dict[str, pd.DataFrame]:
    results = []
    for training in found:
        assert training.run(lambda: False, lambda *event: None)
        results.append(training.result().tables)
    names = ("trials", "epochs", "layers", "units")
    return {
        n: pd.concat([r[n] for r in results]).sort_values("trial", kind="stable").reset_index(drop=True) for n in names
    }


def same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    for name in left:
        pd.testing.assert_frame_equal(left[name], right[name], check_exact=True)


def built(name: str) -> torch.nn.Module:
    return build_activation(ACTIVATIONS.models[name](), 1)


@pytest.mark.parametrize("name", ACTIVATIONS.names)
def test_closed_form_derivative_is_autograds(name: str) -> None:
    function = built(name).double()
    z = torch.tensor([-100.0, -18, -6.5, -1, -1e-3, 1e-3, 1, 5.9, 6.5, 18, 100], dtype=torch.float64).unsqueeze(-1)
    x = z.clone().requires_grad_()
    (auto,) = torch.autograd.grad(function(x).sum(), x)
    torch.testing.assert_close(derivative(function, z), auto, rtol=1e-9, atol=1e-14)
    assert torch.isfinite(auto).all()


def test_gains_and_reference_slopes_are_the_published_ones() -> None:
    gains = {"relu": math.sqrt(2), "elu": 1.245, "selu": 1, "sigmoid": 1.846, "tanh": 1.593, "identity": 1}
    for name, gain in gains.items():
        assert auto_gain(built(name)) == pytest.approx(gain, abs=1e-3)
    slopes = {"relu": 1, "prelu": 1, "selu": 1.758, "sigmoid": 0.25, "leaky_relu": 1}
    for name, slope in slopes.items():
        assert float(reference_slope(built(name), torch.Size([4, 3]), 1, 0).max()) == pytest.approx(slope, abs=1e-3)


def measured(z: torch.Tensor, chunks: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of a ReLU site for z [sample, channel] in so many chunks."""
    one, total = torch.ones(1, 1, dtype=torch.float64), None
    top = top_count(z.numel())
    for part in torch.tensor_split(z[None, :, :, None], chunks, 1):
        least = float(total["top"][0, -1]) if total and total["top"].shape[1] == top else -1.0
        sums = site_sums(part, part.relu(), (part > 0).to(part.dtype), one, top, least=least)
        total = merge(total, sums, top) if total else sums
    assert total
    return summarise(total, one)


def test_a_hand_worked_layer() -> None:
    z = torch.tensor([[-1.0, 2, -1, 0], [-2, 1, 3, -1]])
    layer, units = measured(z)
    assert units["dead"].tolist() == [[True, False, False, True]]
    assert units["off"].tolist() == units["dead"].tolist()
    assert units["always_on"].tolist() == [[False, True, False, False]]
    assert units["firing_rate"].tolist() == [[0, 1, 0.5, 0]]
    assert layer["dead_fraction"] == 0.5
    assert layer["zero_fraction"] == 5 / 8
    assert layer["zero_fraction_live"] == 0.25
    assert layer["post_mean"] == 6 / 8
    assert layer["post_absmax"] == 3
    assert layer["post_q999"] == pytest.approx(float(torch.quantile(z.relu().flatten(), 0.999)))
    first, second = 1.0, (2 - 4 / math.sqrt(10)) / (2 - 1)
    assert layer["hoyer_sparsity"] == pytest.approx((first + second) / 2)
    means = torch.tensor([0, 1.5, 1.5, 0])
    assert layer["mean_shift"] == pytest.approx(float(means.square().mean().sqrt() / z.relu().square().mean().sqrt()))
    assert layer["pre_std"] == pytest.approx(float(z.std(correction=0)))
    assert math.isnan(layer["rare_fraction"])


def test_chunking_changes_nothing() -> None:
    z = torch.randn(64, 7, generator=torch.Generator().manual_seed(0))
    for whole, parts in zip(measured(z), measured(z, 5), strict=True):
        for name in whole:
            torch.testing.assert_close(whole[name], parts[name], equal_nan=True)


def test_every_metric_is_told_and_what_its_name_says_of_it_holds() -> None:
    assert all(metric.label and metric.meaning for metric in METRICS.values())
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    assert all(metric.share for name, metric in METRICS.items() if name.endswith(("_accuracy", "_fraction")))
    signs = {"accuracy": 1, "loss": -1}
    ends = {name: name.rpartition("_")[2] for name in METRICS}
    assert all(METRICS[name].better == signs[end] for name, end in ends.items() if end in signs)
    known = {*TABLES["epochs"], *TABLES["layers"], *TABLES["trials"], "born_dead_fraction"}
    assert set(METRICS) <= known
    assert {*TABLES["layers"]} - set(METRICS) == {"trial", "epoch", "step", "site", "site_name", "kind", "width"}


def test_schedule_of_measurements() -> None:
    assert full_epochs("log", 20) == {0, 1, 4, 16, 20}
    assert full_epochs("last", 20) == {20}
    assert early_steps(3, 64) == {1, 4, 16}


STACKABLE = [
    {"grid": {"activation": list(ACTIVATIONS.names)}, "architecture": {"name": "mlp", "width": [10, 33]}},
    {"architecture": {"name": "mlp", "width": [17, 5], "normalization": "batch", "dropout": 0.2}},
    {"architecture": {"name": "mlp", "width": [16], "normalization": "layer"}, "init": {"dead": 0.25}},
    *({"architecture": {"width": [10]}, "train": {"epochs": 2, "optimizer": n}} for n in ("adam", "adamw", "rmsprop")),
    {
        "architecture": {"width": [9, 1]},
        "train": {"epochs": 2, "clip_norm": 0.5, "schedule": {"name": "cosine", "warmup": 1}},
    },
]


@pytest.mark.parametrize("config", STACKABLE, ids=range(len(STACKABLE)))
def test_a_trial_has_the_same_bits_alone_and_in_a_stack(config: dict[str, Any]) -> None:
    config = {"train": {"epochs": 2, "batch_size": 29}, "seeds": 3, **config}
    same(tables(trainings(config)), tables(trainings(config, largest=1)))


@pytest.mark.parametrize(
    "architecture", [{"name": "cnn", "channels": [4]}, {"width": [8], "normalization": "batch", "dropout": 0.1}]
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_interrupted_training_ends_with_the_same_bits(architecture: dict[str, Any], optimizer: str) -> None:
    config = {"architecture": architecture, "seeds": 1, "train": {"epochs": 3, "optimizer": optimizer}}
    whole = tables(trainings(config))
    (first,), (second,) = trainings(config), trainings(config)
    steps = iter(range(1000))
    assert not first.run(lambda: next(steps) >= 3, lambda *event: None)
    second.restore(first.checkpoint())
    same(whole, tables([second]))


def test_a_measurement_changes_nothing() -> None:
    config = {
        "architecture": {"width": [8], "normalization": "batch", "dropout": 0.3},
        "seeds": 2,
        "train": {"epochs": 2},
    }
    (often,), (seldom,) = trainings(config), trainings({**config, "probe": {"size": 60, "full": "last", "every": 2}})
    tables([often]), tables([seldom])
    assert torch.equal(often.network.flat, seldom.network.flat)


def test_sgd_is_torchs() -> None:
    config = {"architecture": {"width": [8]}, "seeds": 1, "train": {"epochs": 2, "batch_size": 32, "lr": 0.1}}
    (ours,) = trainings(config)
    plain = build_module(ours.setting, ours.data.input_shape, 10)
    plain.load_state_dict(ours.network.state(0))
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, 0.9)
    for epoch in range(2):
        ours.epoch = epoch
        for index in ours._order()[0].split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(plain(ours.data.train_x[index]), ours.data.train_y[index]).backward()
            optimizer.step()
    ours.epoch = 0
    tables([ours])
    for name, value in ours.network.state(0).items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-3, atol=1e-5)


def test_a_batch_of_one_sample_passes_a_batch_norm_of_a_network_alone() -> None:
    norm = torch.nn.BatchNorm2d(3).train()
    torch.nn.init.normal_(norm.bias)
    with Reading(None, []).begin((0, 0)):
        out = norm(torch.randn(1, 3, 1, 1))
    torch.testing.assert_close(out, norm.bias[None, :, None, None])


@pytest.mark.parametrize("pool", [
    *(torch.nn.MaxPool2d(2), torch.nn.MaxPool2d((2, 2), stride=2), torch.nn.MaxPool2d(2, stride=1)),
    *(torch.nn.MaxPool2d(3), torch.nn.MaxPool2d(2, padding=1), torch.nn.MaxPool2d(2, dilation=2)),
    *(torch.nn.MaxPool2d(2, ceil_mode=True), torch.nn.MaxPool2d(2, return_indices=True)),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_pools_without_gradients_are_torchs(pool: torch.nn.Module, size: tuple[int, int]) -> None:
    x = torch.randn(3, 5, *size).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, 1], x[1, 0, 2, 2] = torch.nan, -torch.inf
    with torch.no_grad(), Reading(None, []).begin(None):
        found = pool(x)
    torch.testing.assert_close(found, pool(x), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ACTIVATIONS.names)
@pytest.mark.parametrize("negative", [False, True])
def test_an_activation_after_the_pool_is_the_activation_before_it(name: str, negative: bool) -> None:
    config = {"study": "s", "dataset": "digits", "architecture": {"name": "cnn", "channels": [3, 4]}}
    (point,) = load_config({**config, "activation": name}).points
    networks = [Network([point.setting], [0], (1, 8, 8), 10) for _ in range(2)]
    assert networks[0].reading.pooled == {0, 1}
    networks[0].reading.pooled = frozenset()
    x = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    results = []
    for network in networks:
        if negative:  # of a learned slope; then the order is not exchanged
            for own in network.module.modules():
                if isinstance(own, Prelu):
                    own.slope.data.neg_()
        logits = network.forward(x, moment=(0, 0))
        gradient = torch.autograd.grad(logits.logsumexp(-1).sum(), network.leaves)
        results.append((logits.detach(), network.flatten(gradient).clone()))
        with torch.no_grad():
            torch.testing.assert_close(network.forward(x), logits, rtol=1e-5, atol=1e-5)
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_nothing_but_a_max_pool_may_come_before_an_activation() -> None:
    def pooled(**options: Any) -> set[int]:
        (point,) = load_config({"study": "s", "dataset": "mnist", "architecture": {"name": "cnn", **options}}).points
        return set(Network([point.setting], [0], (1, 28, 28), 10).reading.pooled)

    assert pooled() == {0, 1}
    assert pooled(convolutions=2) == {1, 3}
    assert pooled(pooling="average") == pooled(dropout=0.5) == set()


def test_divergence_is_an_outcome_and_does_not_touch_the_others() -> None:
    config = {"activation": "identity", "seeds": 2, "train": {"epochs": 4}, "grid": {"train.lr": [0.05, 50.0]}}
    together, alone = tables(trainings(config)), tables(trainings(config, 1))
    same(together, alone)
    outcomes = together["trials"].set_index("lr")["outcome"]
    assert set(outcomes[50.0]) == {"diverged"}
    assert set(outcomes[0.05]) == {"finished"}
    diverged = together["trials"][together["trials"]["outcome"] == "diverged"]
    assert diverged["diverged_at_step"].gt(0).all()
    assert together["epochs"].groupby("trial")["epoch"].max()[diverged["trial"]].lt(4).all()


def test_disabled_units_are_dead_and_seeds_pair_the_weights() -> None:
    found = tables(
        trainings({"architecture": {"width": [20]}, "init": {"dead": 0.5}, "seeds": 2, "train": {"epochs": 1}})
    )
    assert found["trials"]["dead_fraction"].ge(0.5).all()
    setting = load_config({"study": "s", "grid": {"activation": ["relu", "prelu"]}}).points
    relu, prelu = (Network([point.setting], [3], (1, 8, 8), 10).state(0)["dense1.linear.weight"] for point in setting)
    torch.testing.assert_close(relu / relu.std(), prelu / prelu.std())


@pytest.mark.usefixtures("inline")
def test_a_trial_of_disabled_units_is_had_back_with_them(tmp_path: Path) -> None:
    own = {"dataset": TINY, "architecture": {"width": [20, 10]}, "init": {"dead": 0.5}, "train": {"epochs": 1}}
    study = reluexp.run({"study": "s", "seeds": 1, **own}, tmp_path, workers=1)
    (trial,) = study.trials["trial"]
    model = study.model(trial)
    data = load_dataset(load_config({"study": "s", **own}).config.dataset)
    right = (model(data.test_x).argmax(1) == data.test_y).double().mean()
    assert float(right) == pytest.approx(study.epochs["test_accuracy"].iloc[-1])
    watched = reluexp.watch(model, study.probe(trial)[0])
    watched.measure()
    assert watched.units()["dead_at_end"].tolist() == study.units["dead_at_end"].tolist()
    assert torch.equal(copy.deepcopy(model)(data.test_x), model(data.test_x))


def test_rai_draws_biases_with_the_weights() -> None:
    (setting,) = [own.setting for own in load_config({"study": "s", "init": "rai", "architecture": WIDE}).points]
    state = Network([setting], [0], (1, 8, 8), 10).state(0)
    whole = torch.cat([state["dense1.linear.weight"], state["dense1.linear.bias"][:, None]], 1)  # [2000, 65]
    own = Network([setting, setting], [0, 1], (1, 8, 8), 10).state(0)
    assert all(torch.equal(own[name], value) for name, value in state.items())
    sigma = 0.6007 / math.sqrt(64)
    extreme = whole.gt(5 * sigma).double()  # hardly ever of a normal entry, nearly always of one from Beta(2, 1)
    beyond = 1 - (5 * sigma) ** 2
    assert float(extreme.sum(1).mean()) == pytest.approx(beyond, abs=0.05)
    assert extreme.sum(1).max() <= 1
    assert float(extreme[:, -1].mean()) == pytest.approx(beyond / 65, abs=0.01)  # the bias is one of 65 places
    assert float(whole[:, -1][extreme[:, -1] == 0].std()) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_every_schedule_does_for_a_study_of_births(schedule: str) -> None:
    found = tables(trainings({"train": {"epochs": 0, "schedule": schedule}, "seeds": 1}))
    assert found["epochs"]["lr"].gt(0).all()


def test_counters_of_a_trial_that_diverged_are_those_it_has_alone() -> None:
    config = {
        **{"architecture": {"width": [8], "normalization": "batch"}, "seeds": 1, "train": {"epochs": 4}},
        "grid": {"train.lr": [0.05, 1e6]},
    }
    counters = []
    for largest in (None, 1):
        found = trainings(config, largest)
        tables(found)
        counters.append(
            {
                trial: int(state["dense1.norm.num_batches_tracked"])
                for training in found
                for trial, state in training.result().weights.items()
            }
        )
    assert counters[0] == counters[1]
    assert len(set(counters[0].values())) == 2


def test_backprop_norm_and_weight_gradient_by_a_slow_reference() -> None:
    (training,) = trainings({"architecture": {"width": [6, 5]}, "seeds": 1, "train": {"epochs": 1}})
    network, probe = training.network, training.probe
    network.module.eval()
    found = probe.measure(full=True)
    plain = build_module(training.setting, training.data.input_shape, 10).double()
    plain.load_state_dict(network.state(0))
    pre: list[torch.Tensor] = []
    handle = plain.get_submodule("dense1.linear").register_forward_hook(lambda m, i, o: pre.append(o))
    loss = torch.nn.functional.cross_entropy(plain(probe.x.double()), probe.y, reduction="none")
    handle.remove()
    (gradient,) = torch.autograd.grad(loss.sum(), pre[0], retain_graph=True)
    (weight,) = torch.autograd.grad(loss.mean(), plain.get_parameter("dense1.linear.weight"))
    assert float(found.layers[0]["backprop_norm"]) == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-4)
    assert float(found.layers[0]["weight_grad_norm"]) == pytest.approx(float(weight.norm()), rel=1e-4)


def test_studies_of_networks_alone_compute_no_gradients_of_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    measure = Probe.measure

    def watched(self: Probe, full: bool, *rest: Any, **options: Any) -> Any:
        asked.append(full)
        return measure(self, full, *rest, **options)

    monkeypatch.setattr(Probe, "measure", watched)
    config = {"architecture": {"width": [8]}, "seeds": 2, "train": {"epochs": 2}}
    whole = tables(trainings(config))
    assert any(asked)
    asked.clear()
    few = tables(trainings({**config, "probe": {"size": 60, "metrics": "network"}}))
    assert asked
    assert not any(asked)
    order = ["epoch", "test_loss"]  # the names of the trials, which tables are sorted by, are others
    both = [own["epochs"].drop(columns="trial").sort_values(order, ignore_index=True) for own in (few, whole)]
    same({"epochs": both[0]}, {"epochs": both[1]})


class Products(TorchDispatchMode):
    """The precisions of the batched products of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.baddbmm, torch.ops.aten.bmm):
            self.found.add(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_that_of_products_in_training_alone(precision: str) -> None:
    config = {"architecture": {"width": [9, 5], "normalization": "batch"}, "grid": {"activation": ["relu", "tanh"]}}
    (training,) = trainings({**config, "train": {"epochs": 1, "precision": precision}})
    steps, step = Products(), training._step

    def watched(*args: Any) -> None:
        with steps:
            step(*args)

    training._step = watched  # type: ignore[method-assign]
    assert training.run(lambda: False, lambda *event: None)
    assert steps.found == {getattr(torch, precision)}
    (light,) = trainings({**config, "train": {"epochs": 0, "precision": precision}})
    with Products() as measurements:
        assert light.run(lambda: False, lambda *event: None)
    assert measurements.found == {torch.float32, torch.float64}
    assert training.network.flat.dtype == torch.float32


def test_half_precision_trains_to_nearly_the_same_network() -> None:
    config = {"architecture": {"name": "cnn", "channels": [4, 6], "dense": [8]}, "activation": "elu"}
    found = [trainings({**config, "train": {"epochs": 1, "precision": own}})[0] for own in ("float32", "bfloat16")]
    losses = [tables([training])["epochs"]["train_loss"].iloc[-1] for training in found]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_tf32_is_on_in_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    (training,) = trainings({"train": {"epochs": 1, "precision": "tf32"}})
    seen = []
    propose = training._propose
    monkeypatch.setattr(training, "_propose", lambda *args, **kwargs: (
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)),
        propose(*args, **kwargs))[1])  # fmt: skip
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert training.run(lambda: False, lambda *event: None)
    assert set(seen) == {(True, True)}
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_options_of_newer_versions_leave_the_names_of_older_trials() -> None:
    def name(**train: Any) -> str:
        return make_trials(load_config({"study": "s", "train": train}))[0].id

    assert name() == name(precision="float32") == "6a838988a856"
    assert len({name(precision=own) for own in ("float32", "tf32", "bfloat16")}) == 3


def test_deaths_are_confirmed_on_the_replicas_that_have_any(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "architecture": {"width": [30, 20]},
        "train": {"epochs": 1},
        "grid": {"activation": ["relu", "tanh", "elu"]},
    }
    (training,) = trainings({**config, "seeds": 2})
    (again,) = trainings({**config, "seeds": 2})
    taken: list[list[int]] = []
    only = Network.only
    monkeypatch.setattr(Network, "only", lambda self, own: (taken.append(list(own)), only(self, own))[1])
    assert training.run(lambda: False, lambda *event: None)
    relus = [i for i, trial in enumerate(training.trials) if trial.point.setting.activation.name == "relu"]
    assert taken == [relus]
    monkeypatch.setattr(Network, "only", lambda self, own: None)
    assert again.run(lambda: False, lambda *event: None)
    pd.testing.assert_frame_equal(training.result().tables["units"], again.result().tables["units"], check_exact=True)
    some = only(training.network, [1, 3])
    assert some is not None
    x = training.data.test_x
    training.network.module.eval()
    with torch.no_grad():
        assert torch.equal(some.forward(x), training.network.forward(x)[[1, 3]])


@pytest.mark.usefixtures("inline")
def test_a_precision_for_gpus_is_refused_on_a_cpu(tmp_path: Path) -> None:
    for precision in ("tf32", "bfloat16"):
        with pytest.raises(DeviceError, match=f"{precision} is for GPUs"):
            reluexp.run({"study": "s", "dataset": TINY, "train": {"precision": precision}}, tmp_path, device="cpu")
    assert not (tmp_path / "s" / "stacks").exists()


class Mixture(torch.nn.Module):
    """A model with a product that is no linear map, and what it was in."""

    seen: ClassVar[set[torch.dtype]] = set()

    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.first, self.weight = torch.nn.Linear(64, 8), torch.nn.Parameter(torch.randn(8, 10))
        self.activation = activation(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        out = self.activation(self.first(x.flatten(1))) @ self.weight
        if self.training:
            self.seen.add(out.dtype)
        return out


def test_code_of_the_users_trains_in_half_precision_by_autocast() -> None:
    (training, *_) = trainings(
        {"architecture": f"{__name__}:Mixture", "init": "torch", "train": {"epochs": 1, "precision": "bfloat16"}}
    )
    assert training.run(lambda: False, lambda *event: None)
    assert Mixture.seen == {torch.bfloat16}
