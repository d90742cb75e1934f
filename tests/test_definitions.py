"""Hand-worked cases in float64 for each definition, and properties that hold for all inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

import reluexp
from reluexp.catalogue.activations import ACTIVATIONS, build_activation
from reluexp.catalogue.loading import load_dataset
from reluexp.config import load_config
from reluexp.layers import activate
from reluexp.networks.gains import exact_slope
from reluexp.planning.plan import make_plan, make_trials
from reluexp.training.loop import Training


def look(function: nn.Module, z: Any, **options: Any) -> tuple[pd.Series, pd.DataFrame]:
    """Metrics of a site and lives of its units for pre-activations z [sample, unit, …]."""
    watched = reluexp.watch(function, torch.as_tensor(z, dtype=options.pop("dtype", torch.float64)), **options)
    return watched.measure().iloc[0], watched.units()


class Marked(nn.Module):
    """A user's own function, made a site."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return activate(z, self.function)


def test_dead_is_a_slope_of_0_at_every_sample_and_off_is_below_0_at_every_sample() -> None:
    z = [[-1.0, 2.0, -1.0, 0.0], [-2.0, 1.0, 3.0, -1.0]]
    row, units = look(nn.ReLU(), z)
    assert units["dead_at_end"].tolist() == [True, False, False, True]
    assert units["off_at_end"].tolist() == [True, False, False, True]
    assert (row["dead_fraction"], row["off_fraction"], row["always_on_fraction"]) == (0.5, 0.5, 0.25)
    assert look(nn.ReLU(), [[0.0, 2.0], [1.0, 3.0]])[0]["always_on_fraction"] == 0.5
    row, units = look(nn.LeakyReLU(0.1), z)
    assert units["off_at_end"].tolist() == [True, False, False, True]
    assert (row["dead_fraction"], row["slope_mean"]) == (0, pytest.approx((3 * 1 + 5 * 0.1) / 8))


def test_a_convolutions_unit_must_be_silent_at_every_position_too() -> None:
    z = np.full((2, 3, 2, 2), -1.0)
    z[1, 1, 0, 1] = 0.5
    z[:, 2] = 1
    row, units = look(nn.ReLU(), z)
    assert units["dead_at_end"].tolist() == [True, False, False]
    assert units["firing_rate"].tolist() == [0, 1 / 8, 1]
    assert units["sample_rate"].tolist() == [0, 1 / 2, 1]
    assert (row["kind"], row["zero_fraction"]) == ("conv", pytest.approx((8 + 7) / 24))
    assert row["zero_fraction_live"] == pytest.approx(7 / 16)
    assert row["slope_mean"] == pytest.approx(9 / 24)


def test_relu6_dies_on_both_sides() -> None:
    row, units = look(nn.ReLU6(), [[-1.0, 7.0, -3.0, 5.0, 6.0], [9.0, 8.0, -1.0, 7.0, 6.5]])
    assert units["dead_at_end"].tolist() == [True, True, True, False, True]
    assert units["off_at_end"].tolist() == [False, False, True, False, False]
    assert row["always_on_fraction"] == 3 / 5


@pytest.mark.parametrize("function", [nn.Sigmoid(), Marked(lambda z: 1 / (1 + torch.exp(-z)))], ids=["torch", "own"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sigmoid_dies_of_underflow_alone_and_alike_on_both_sides(function: nn.Module, dtype: torch.dtype) -> None:
    row, units = look(function, [[18.0, -18.0, 800.0]], dtype=dtype)
    assert units["dead_at_end"].tolist() == [False, False, True]
    assert row["saturated_fraction"] == 1
    slope = 4 * math.exp(-18) / (1 + math.exp(-18)) ** 2
    assert units["slope_ratio"][:2].tolist() == pytest.approx([slope, slope], rel=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_slopes_of_the_catalogues_sigmoids_are_exact_on_both_sides(name: str) -> None:
    function = build_activation(ACTIVATIONS.models[name](), 1)
    z = torch.tensor([1.0, 18.0, 40.0, 300.0], dtype=torch.float64)
    above, below = (exact_slope(function, side) for side in (z, -z))
    exact = [math.exp(-v) / (1 + math.exp(-v)) ** 2 if name == "sigmoid" else 1 / math.cosh(v) ** 2 for v in z.tolist()]
    assert above.tolist() == pytest.approx(exact, rel=1e-12)
    assert torch.equal(above, below)


@pytest.mark.parametrize("name", ["elu", "selu"])
def test_the_catalogues_elus_are_not_dead_where_torchs_are_not(name: str) -> None:
    function = build_activation(ACTIVATIONS.models[name](), 1)
    torchs = ACTIVATIONS[name].torchs
    assert torchs
    z = torch.tensor([-700.0, -50.0, -40.0, -17.0, -1.0, 0.0, 1.0], dtype=torch.float64)
    own = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(torchs(ACTIVATIONS.models[name](), 1)(own).sum(), own)
    torch.testing.assert_close(exact_slope(function, z), expected, rtol=1e-12, atol=0)
    assert exact_slope(function, z).all()


def logistic(z: Any) -> Any:
    return 1 / (1 + mpmath.exp(-z))


@pytest.mark.parametrize(
    ("name", "slope"),
    [
        ("gelu", lambda z: mpmath.ncdf(z) + z * mpmath.npdf(z)),
        ("silu", lambda z: logistic(z) * (1 + z * logistic(-z))),
        ("softplus", logistic),
    ],
)
def test_slopes_of_smooth_rectifiers_are_exact_far_from_0(name: str, slope: Callable[[Any], Any]) -> None:
    function = build_activation(ACTIVATIONS.models[name](), 1)
    z = torch.tensor([-37.0, -17.0, -9.0, -1.0, 0.0, 1.0, 9.0, 40.0, 300.0], dtype=torch.float64)
    with mpmath.workdps(400):
        expected = [float(slope(mpmath.mpf(value))) for value in z.tolist()]
    assert exact_slope(function, z).tolist() == pytest.approx(expected, rel=1e-12)
    assert exact_slope(function, z).all()


@pytest.mark.parametrize("function", [nn.Sigmoid(), nn.Tanh()], ids=["sigmoid", "tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torchs_own_live_far_above_0_as_they_do_below(function: nn.Module, dtype: torch.dtype) -> None:
    _, units = look(function, [[100.0, -100.0]], dtype=dtype)
    assert not units["dead_at_end"].any()
    above, below = units["slope_ratio"]
    assert above == below > 0


def test_one_infinite_unit_makes_no_other_dormant() -> None:
    row, units = look(nn.ReLU(), [[math.inf, 1.0, 2.0], [1.0, 2.0, 3.0]])
    assert math.isnan(row["dormant_fraction"])
    assert not units["dead_at_end"].any()


def test_torchs_sigmoid_is_dead_at_minus_800() -> None:
    assert look(nn.Sigmoid(), [[-800.0]])[1]["dead_at_end"].tolist() == [True]


def test_saturated_compares_the_largest_slope_with_a_thousandth_of_the_reference() -> None:
    below, above = (math.atanh(math.sqrt(1 - slope)) for slope in (0.99e-3, 1.01e-3))
    row, units = look(nn.Tanh(), [[below, above, -below], [9.0, 9.0, -9.0]])
    assert row["saturated_fraction"] == pytest.approx(2 / 3)
    assert units["slope_ratio"].tolist() == pytest.approx([0.99e-3, 1.01e-3, 0.99e-3])
    assert units["firing_rate"].tolist() == [0, 0.5, 0]


def test_dormant_compares_with_the_layers_mean_and_a_layer_of_zeros_is_wholly_dormant() -> None:
    assert look(nn.ReLU(), [[1.975, 0.025]])[0]["dormant_fraction"] == 0.5
    assert look(nn.ReLU(), [[1.974, 0.026]])[0]["dormant_fraction"] == 0
    assert look(nn.ReLU(), [[-1.0, -2.0, 0.0]])[0]["dormant_fraction"] == 1
    assert look(nn.LeakyReLU(0.5), [[1.0, -4.0]])[1]["activity"].tolist() == pytest.approx([2 / 3, 4 / 3])


def test_rare_is_a_response_in_under_one_per_cent_of_300_samples_or_more() -> None:
    z = -np.ones((300, 3))
    z[:2, 0], z[:3, 1] = 1, 1
    assert look(nn.ReLU(), z)[0]["rare_fraction"] == pytest.approx(1 / 3)
    assert math.isnan(look(nn.ReLU(), z[:299])[0]["rare_fraction"])


def test_hoyer_sparsity_leaves_out_vectors_of_zeros_and_is_null_for_one_unit() -> None:
    one_hot, even, mixed = [5.0, 0, 0, 0], [1.0, 1, 1, 1], [3.0, 4, 0, 0]
    expected = [1, 0, 2 - 7 / 5]
    row, _ = look(nn.ReLU(), [one_hot, even, mixed, [-1.0, -1, -1, -1]])
    assert row["hoyer_sparsity"] == pytest.approx(sum(expected) / 3)
    assert math.isnan(look(nn.ReLU(), [[1.0], [2.0]])[0]["hoyer_sparsity"])
    assert math.isnan(look(nn.ReLU(), [[-1.0, -2.0]])[0]["hoyer_sparsity"])
    places = np.array([[[[5.0, 3]], [[0, 4]], [[0, 0]], [[0, 0]]]])  # two positions, a vector of channels at each
    assert look(nn.ReLU(), places)[0]["hoyer_sparsity"] == pytest.approx((1 + expected[2]) / 2)


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e-20, 1e-10, 1e10, 1e19, 1e25, 1e36])
def test_what_has_no_scale_is_the_same_for_numbers_whose_squares_single_precision_cannot_hold(scale: float) -> None:
    z = torch.from_numpy(np.random.default_rng(0).normal(0.3, 1, (64, 12))).float()
    z[5] = -1
    plain, _ = look(nn.ReLU(), z, dtype=torch.float32)
    scaled, _ = look(nn.ReLU(), z * scale, dtype=torch.float32)
    same = ["hoyer_sparsity", "mean_shift", "zero_fraction", "dormant_fraction"]
    assert scaled[same].tolist() == pytest.approx(plain[same].tolist(), rel=1e-5)
    assert scaled["post_std"] == pytest.approx(plain["post_std"] * scale, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_counts_and_sums_of_half_precision_are_exact(dtype: torch.dtype) -> None:
    z = torch.from_numpy(np.random.default_rng(1).normal(0.2, 1, (40, 3, 50, 50))).to(dtype)
    half, _ = look(nn.ReLU(), z, dtype=dtype)
    whole, _ = look(nn.ReLU(), z.double())
    columns = ["zero_fraction", "slope_mean", "post_mean", "post_std", "pre_mean", "hoyer_sparsity", "mean_shift"]
    assert half[columns].tolist() == pytest.approx(whole[columns].tolist(), rel=1e-4)


def test_moments_are_pooled_and_divided_by_n() -> None:
    row, _ = look(nn.ReLU(), [[-1.0, 2.0], [3.0, -4.0]])
    assert (row["pre_mean"], row["pre_std"]) == (0, pytest.approx(math.sqrt(30 / 4)))
    assert (row["post_mean"], row["post_std"]) == (5 / 4, pytest.approx(math.sqrt(13 / 4 - (5 / 4) ** 2)))
    assert row["post_absmax"] == 3


def test_mean_shift_is_0_for_centred_units_and_1_for_constant_ones() -> None:
    identity = Marked(lambda z: z * 1.0)
    assert look(identity, [[1.0, -2.0], [-1.0, 2.0]])[0]["mean_shift"] == 0
    assert look(identity, [[3.0, -3.0], [3.0, -3.0]])[0]["mean_shift"] == pytest.approx(1)
    assert look(identity, [[2.0, 1.0], [0.0, -1.0]])[0]["mean_shift"] == pytest.approx(
        math.sqrt(1 / 2) / math.sqrt(6 / 4)
    )


def test_effective_rank_counts_equal_directions() -> None:
    identity = Marked(lambda z: z * 1.0)
    cross = [[1.0, 0, 5], [-1, 0, 5], [0, 1, 5], [0, -1, 5]]
    assert look(identity, cross)[0]["effective_rank"] == pytest.approx(2)
    assert look(identity, [[1.0, 2], [3, 6], [-1, -2]])[0]["effective_rank"] == pytest.approx(1)
    assert look(identity, [[0.1, 7], [0.1, 7], [0.1, 7]])[0]["effective_rank"] == 0
    singular = np.array([3, 1]) / 4
    uneven = [[3.0, 0], [-3, 0], [0, 1], [0, -1]]
    assert look(identity, uneven)[0]["effective_rank"] == pytest.approx(math.exp(-(singular * np.log(singular)).sum()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [None, 7])
def test_constants_have_no_direction_whatever_rounding_says(dtype: torch.dtype, chunk: int | None) -> None:
    row, _ = look(nn.ReLU(), [[0.1, 0.17, 1000.03]] * 300, dtype=dtype, chunk=chunk)
    assert row["effective_rank"] == 0
    assert row["mean_shift"] == pytest.approx(1, abs=1e-6)
    assert row["mean_shift"] <= 1


@pytest.mark.parametrize("chunk", [None, 64, 9])
@pytest.mark.parametrize("samples", [30, 701])
def test_the_999_quantile_is_numpys(samples: int, chunk: int | None) -> None:
    z = np.random.default_rng(0).normal(size=(samples, 5))
    z[samples // 3] = 3, 4, 5, 5, 6  # largest ones side by side
    assert look(nn.ReLU(), z, chunk=chunk)[0]["post_q999"] == pytest.approx(np.quantile(z.clip(0), 0.999))


class Chain(nn.Module):
    """x → 2x → relu → 3h, one unit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(1, 1, bias=False).double(), nn.Linear(1, 1, bias=False).double()
        nn.init.constant_(self.first.weight, 2)
        nn.init.constant_(self.last.weight, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu())


def test_backprop_and_weight_gradient_norms_by_hand() -> None:
    x = torch.tensor([[1.0], [-1.0], [2.0]], dtype=torch.float64)
    y = torch.tensor([[5.0], [0.0], [10.0]], dtype=torch.float64)
    rows = reluexp.watch(Chain(), (x, y), nn.functional.mse_loss).measure()
    # outputs 6, 0, 12; ∂ℓ/∂output 2, 0, 4; ∂ℓ/∂z 6, 0, 12
    assert rows["backprop_norm"].tolist() == pytest.approx([math.sqrt((36 + 144) / 3), math.sqrt((4 + 16) / 3)])
    # means over the samples of ∂ℓ/∂z·x = 6, 0, 24 and of ∂ℓ/∂output·h = 4, 0, 16
    assert rows["weight_grad_norm"].tolist() == pytest.approx([10, 20 / 3])
    assert rows["weight_norm"].tolist() == [2, 3]
    assert rows["pre_mean"].tolist() == pytest.approx([4 / 3, 6])


def test_backprop_norm_of_a_convolution_is_over_positions_too() -> None:
    conv = nn.Conv2d(1, 2, 1, bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0])[:, None, None, None])
    model = nn.Sequential(conv, nn.ReLU())
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    row = reluexp.watch(model, x, lambda out: (out * torch.tensor([[[1.0, 2], [3, 4]]])).sum()).measure().iloc[0]
    assert row["backprop_norm"] == pytest.approx(math.sqrt((1 + 4 + 9 + 16) / 8))
    assert row["weight_grad_norm"] == 10
    assert row["weight_norm"] == pytest.approx(math.sqrt(2))


def test_the_gradient_of_a_dead_layer_is_0_and_not_null() -> None:
    model = Chain()
    nn.init.constant_(model.first.weight, -1)
    x = torch.ones(2, 1, dtype=torch.float64)
    rows = reluexp.watch(model, (x, x), nn.functional.mse_loss).measure()
    assert rows["backprop_norm"][0] == rows["weight_grad_norm"][0] == 0
    assert math.isnan(rows["zero_fraction_live"][0])


class Branches(nn.Module):
    """A layer through dropout, reshape and pooling; a sum; a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.drop, self.pool = nn.Conv1d(2, 4, 1), nn.Dropout(0.5), nn.MaxPool1d(2)
        self.two = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.drop(self.one(x))).relu().flatten(1)
        h = (h + self.two(h)).relu()
        return torch.cat([h, h], 1).relu()


def test_sums_and_concatenations_have_no_feeding_layer() -> None:
    model = Branches()
    rows = reluexp.watch(model, torch.randn(3, 2, 2), lambda out: out.sum(1)).measure()
    assert rows["kind"].tolist() == ["conv", "sum", "concat", "dense"]
    assert rows["weight_norm"][0] == pytest.approx(float(model.one.weight.detach().norm()))
    assert rows.loc[1:, ["weight_norm", "weight_grad_norm"]].isna().all(axis=None)
    assert rows["backprop_norm"].notna().all()


def test_before_the_first_step_batch_norm_has_the_probes_statistics() -> None:
    z = torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0]], dtype=torch.float64)
    norm = nn.BatchNorm1d(2, eps=1e-12).double()
    model = nn.Sequential(norm, nn.ReLU())
    row = reluexp.watch(model, z).measure().iloc[0]
    centred = (z - z.mean(0)) / z.std(0)
    assert row["pre_std"] == pytest.approx(float(centred.std(correction=0)))
    assert row["zero_fraction"] == pytest.approx(4 / 6)
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [0, 0]
    norm.train()(z)
    watched = reluexp.watch(model, z)
    row, units = watched.measure().iloc[0], watched.units()
    assert row["pre_mean"] == pytest.approx(float(norm.eval()(z).detach().mean()))
    assert units["dead_at_end"].tolist() == [False, False]


class Stubborn(nn.Module):
    """Drops out in evaluation mode, too."""

    def forward(self, z: Tensor) -> Tensor:
        z = nn.functional.dropout(z, 0.9, training=True)
        return nn.functional.alpha_dropout(z, 0.9, training=True)


@pytest.mark.parametrize("random", [nn.Dropout(0.9), nn.AlphaDropout(0.9), Stubborn()])
def test_measuring_turns_everything_random_off(random: nn.Module) -> None:
    z = torch.randn(50, 4, dtype=torch.float64)
    model = nn.Sequential(random, nn.ReLU()).train()
    assert look(model, z)[0]["pre_mean"] == pytest.approx(float(z.mean()))


def test_a_samples_z_does_not_depend_on_its_companions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU())
    model.train()(torch.randn(9, 3))
    x = torch.randn(6, 3)
    watched = reluexp.watch(model, x)
    whole = watched.measure()["pre_mean"][0]
    halves = [watched.measure(part)["pre_mean"][0] for part in (x[:2], x[2:])]
    assert whole == pytest.approx((2 * halves[0] + 4 * halves[1]) / 6, rel=1e-5)


def trained(config: dict[str, Any]) -> dict[str, pd.DataFrame]:
    dataset = {"name": "digits", "train_size": 100, "test_size": 50}
    loaded = load_config({"study": "s", "dataset": dataset, "probe": {"size": 40}, "seeds": 2, **config})
    (stack,) = make_plan(make_trials(loaded)).stacks
    training = Training(stack, load_dataset(stack.setting.dataset), "s")
    assert training.run(lambda: False, lambda *event: None)
    return training.result().tables


def test_a_network_born_dead_is_collapsed_stuck_and_has_dead_layers() -> None:
    config = {"architecture": {"width": [6, 5, 4]}, "init": {"bias": -50.0}, "train": {"epochs": 2, "lr": 0.01}}
    found = trained(config)
    trials, units = found["trials"], found["units"]
    assert trials["born_collapsed"].tolist() == trials["collapsed_at_end"].tolist() == [True, True]
    assert trials["stuck"].tolist() == [True, True]
    assert trials["dead_layers_at_end"].tolist() == [3, 3]
    assert trials["dead_fraction"].tolist() == [1, 1]
    assert units["born_dead"].all()
    assert units["died_at_step"].isna().all()
    assert units["dead_since_step"].eq(0).all()
    healthy = trained({"architecture": {"width": [30]}, "train": {"epochs": 8, "batch_size": 10}})["trials"]
    assert not healthy[["born_collapsed", "collapsed_at_end", "stuck"]].any(axis=None)
    assert healthy["dead_layers_at_end"].eq(0).all()


ROUNDING = 1e-6
"""of a standard deviation from sums of squares of numbers up to 30, in float64: 30·√ε"""

values = st.integers(-240, 240).map(lambda eighths: eighths / 8)
pre_activations = arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3)), elements=values
)
FUNCTIONS = [nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.Tanh(), nn.Hardswish(), nn.GELU(), nn.ELU(), nn.Hardtanh()]


@given(pre_activations, st.sampled_from(FUNCTIONS))
@settings(max_examples=60, deadline=None)
def test_what_is_dead_is_saturated_and_never_fires(z: np.ndarray, function: nn.Module) -> None:
    row, units = look(function, z.transpose(0, 2, 1)[..., None])
    dead = units["dead_at_end"]
    assert (units.loc[dead, "slope_ratio"] < 1e-3).all()
    assert (units.loc[dead, ["firing_rate", "sample_rate"]] == 0).all(axis=None)
    assert row["dead_fraction"] <= row["saturated_fraction"]
    assert (units["firing_rate"] <= units["sample_rate"] + 1e-12).all()
    assert 0 <= row["mean_shift"] <= 1 or math.isnan(row["mean_shift"])


@given(pre_activations, st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_scaling_z_leaves_relus_dead_and_zero_fractions(z: np.ndarray, factor: float) -> None:
    (one, units), (other, scaled) = look(nn.ReLU(), z), look(nn.ReLU(), factor * z)
    columns = ["dead_fraction", "off_fraction", "always_on_fraction", "zero_fraction", "zero_fraction_live"]
    pd.testing.assert_series_equal(one[columns], other[columns], check_names=False)
    assert units["dead_at_end"].tolist() == scaled["dead_at_end"].tolist()
    for column in ("hoyer_sparsity", "mean_shift", "dormant_fraction"):
        assert one[column] == pytest.approx(other[column], rel=1e-6, nan_ok=True)


@given(pre_activations, st.randoms(use_true_random=False), st.sampled_from(FUNCTIONS))
@settings(max_examples=40, deadline=None)
def test_permuting_units_permutes_the_results(z: np.ndarray, random: Any, function: nn.Module) -> None:
    z = z[..., None]
    order = list(range(z.shape[1]))
    random.shuffle(order)
    (one, units), (other, permuted) = look(function, z), look(function, z[:, order])
    for column in ("dead_at_end", "off_at_end", "firing_rate", "sample_rate", "slope_ratio"):
        assert units[column].iloc[order].tolist() == pytest.approx(permuted[column].tolist(), rel=1e-12)
    numbers = [name for name, value in one.items() if isinstance(value, float)]
    for column in numbers:
        assert one[column] == pytest.approx(other[column], rel=1e-6, abs=ROUNDING, nan_ok=True), column


@given(pre_activations, st.integers(1, 6), st.sampled_from(FUNCTIONS))
@settings(max_examples=40, deadline=None)
def test_streaming_in_any_chunking_gives_the_same(z: np.ndarray, chunk: int, function: nn.Module) -> None:
    z = z[..., None]
    (one, units), (other, chunked) = look(function, z), look(function, z, chunk=chunk)
    for name, value in one.items():
        if isinstance(value, float):
            assert value == pytest.approx(other[name], rel=1e-6, abs=ROUNDING, nan_ok=True), name
    pd.testing.assert_frame_equal(units, chunked)
