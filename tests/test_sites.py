"""Every activation of any model is seen, wherever and however it is written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import reluexp
from reluexp.layers import activate
from reluexp.networks.sites import trace

SAMPLES, INPUTS, WIDTH = 24, 5, 12


class Written(nn.Module):
    """Two linear maps, with an activation written as given after the first, and again after the second."""

    def __init__(self, function: Callable[[Tensor], Tensor], again: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, 3)
        self.function, self.again = function, again

    def forward(self, x: Tensor) -> Tensor:
        h = self.function(self.first(x))
        return self.out(self.function(self.second(h)) if self.again else self.second(h))


class TutorialRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return gradients[0] * (z > 0)


def discarded(z: Tensor) -> Tensor:
    F.relu(z, inplace=True)
    return z


def emptied(z: Tensor) -> Tensor:
    z[z < 0] = 0
    return z


def into(z: Tensor) -> Tensor:
    h = torch.empty_like(z)
    with torch.no_grad():
        torch.clamp(z, min=0, out=h)
    return h


WAYS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "nn.ReLU": (nn.ReLU(), "relu"),
    "nn.ReLU(inplace)": (nn.ReLU(inplace=True), "relu"),
    "F.relu": (F.relu, "relu"),
    "F.relu(inplace)": (lambda z: F.relu(z, inplace=True), "relu"),
    "F.relu(z, True)": (lambda z: F.relu(z, True), "relu"),
    "discarded result": (discarded, "relu"),
    "torch.relu": (torch.relu, "relu"),
    "torch.relu_": (torch.relu_, "relu"),
    "z.relu": (lambda z: z.relu(), "relu"),
    "z.relu_": (lambda z: z.relu_(), "relu"),
    "a view in place": (lambda z: z.view(-1, WIDTH).relu_(), "relu"),
    "clamp(min=0)": (lambda z: z.clamp(min=0), "clamp"),
    "torch.clamp(z, 0)": (lambda z: torch.clamp(z, 0), "clamp"),
    "clamp_": (lambda z: z.clamp_(0), "clamp"),
    "clamp_min": (lambda z: z.clamp_min(0.0), "clamp"),
    "clip": (lambda z: z.clip(0), "clamp"),
    "clamp out": (into, "clamp"),
    "threshold": (lambda z: F.threshold(z, 0, 0), "threshold"),
    "threshold_": (lambda z: F.threshold(z, 0, 0, inplace=True), "threshold"),
    "hardtanh": (nn.Hardtanh(0, 1e9), "hardtanh"),
    "maximum": (lambda z: torch.maximum(z, torch.zeros_like(z)), "maximum"),
    "maximum of 0": (lambda z: torch.max(torch.tensor(0.0), z), "maximum"),
    "where": (lambda z: torch.where(z > 0, z, 0.0), "where"),
    "where not": (lambda z: z.new_zeros(()).where(z <= 0, z), "where"),
    "relu by name": (lambda z: F.relu(input=z, inplace=False), "relu"),
    "clamp by name": (lambda z: torch.clamp(input=z, min=0), "clamp"),
    "clamp with a tensor": (lambda z: torch.clamp(z, min=torch.zeros(1), max=torch.full((1,), 1e9)), "clamp"),
    "maximum by name": (lambda z: torch.maximum(input=z, other=torch.zeros_like(z)), "maximum"),
    "where by name": (lambda z: torch.where(torch.gt(input=z, other=0), input=z, other=torch.zeros(())), "where"),
    "times a mask by name": (lambda z: torch.mul(input=z, other=z.gt(other=0)), "mul"),
    "times a mask": (lambda z: z * (z > 0), "mul"),
    "times a cast mask": (lambda z: (z > 0).float() * z, "mul"),
    "masked_fill of what is not above": (lambda z: z.masked_fill(~(z > 0), 0), "where"),
    "times torch.greater": (lambda z: torch.greater(z, 0) * z, "mul"),
    "times a mask by zeros": (lambda z: z * (z > torch.zeros_like(z)), "mul"),
    "times a mask by a zero": (lambda z: z * (z > torch.tensor(0.0)), "mul"),
    "times a mask of whole numbers": (lambda z: z * (z > 0).int(), "mul"),
    "times a mask of the detached": (lambda z: z * (z.detach() > 0), "mul"),
    "where the data are": (lambda z: torch.where(z.data > 0, z, 0.0), "where"),
    "masked_fill": (lambda z: z.masked_fill(z < 0, 0), "where"),
    "z[z < 0] = 0": (emptied, "where"),
    "own autograd": (lambda z: TutorialRelu.apply(z), "clamp"),
    "torch.ops": (lambda z: torch.ops.aten.relu(z), "relu"),
    "marked": (lambda z: activate(z, lambda x: (x + x.abs()) / 2), "<lambda>"),
    "marked in place": (lambda z: activate(z, nn.ReLU(inplace=True)), "relu"),
}


def by_hand(model: Written, x: Tensor) -> list[list[bool]]:
    """Which units are dead after each linear map, worked out without any hook."""
    with torch.no_grad():
        z = model.first(x)
        dead = [(z <= 0).all(0).tolist()]
        return [*dead, (model.second(z.clamp(min=0)) <= 0).all(0).tolist()] if model.again else dead


def built(way: str, again: bool) -> tuple[Written, Tensor]:
    torch.manual_seed(5)
    model = Written(WAYS[way][0], again)
    with torch.no_grad():
        for layer in (model.first, model.second):
            layer.bias.sub_(0.6)
    return model, torch.randn(SAMPLES, INPUTS)


@pytest.mark.parametrize("way", WAYS)
def test_the_sites_and_the_dead_units_are_those_counted_by_hand(way: str) -> None:
    model, x = built(way, again=True)
    expected = by_hand(model, x)
    assert 0 < sum(expected[0]) < WIDTH
    watched = reluexp.watch(model, (x, torch.zeros(SAMPLES, dtype=torch.long)), F.cross_entropy)
    watched.measure()
    units = watched.units()
    assert watched.sites["function"].tolist() == [WAYS[way][1]] * 2
    assert watched.sites["layer"].tolist() == ["first", "second"]
    assert [units[units["site"] == site]["dead_at_end"].tolist() for site in (0, 1)] == expected


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("own autograd", "clamp out")])
def test_gradients_reach_z_before_it_is_written_over(way: str) -> None:
    model, x = built(way, again=True)
    y = torch.randint(3, (SAMPLES,))
    rows = reluexp.watch(model, (x, y), F.cross_entropy, chunk=7).measure()
    first = model.first(x)
    z = first.detach().requires_grad_()
    second = model.second(z.relu())
    loss = F.cross_entropy(model.out(second.relu()), y, reduction="sum")
    expected = [float(g.square().mean().sqrt()) for g in torch.autograd.grad(loss, [z, second])]
    assert rows["backprop_norm"][:2].tolist() == pytest.approx(expected, rel=1e-5)
    assert rows["pre_mean"][0] == pytest.approx(float(first.detach().mean()), rel=1e-4)


def test_what_is_written_into_z_after_its_activation_is_another_matter() -> None:
    def late(z: Tensor) -> Tensor:
        h = z.relu()
        z.add_(100)
        return h

    plain, _ = built("torch.relu", again=False)
    model, x = built("torch.relu", again=False)
    model.function = late
    rows = [reluexp.watch(m, (x, x), lambda out, t: out.square().sum(1)).measure() for m in (plain, model)]
    assert rows[0].equals(rows[1])


class Containers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.named = nn.ModuleDict({"a": nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(0.2)), "b": nn.Tanh()})
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + self.act(layer(x))
        x = self.named["b"](self.named["a"](x))
        return F.relu(x * F.softplus(self.scale)) + torch.sigmoid(self.scale * 2)


def test_names_are_paths_with_the_number_of_the_call() -> None:
    sites = trace(Containers(), torch.randn(2, 4)).sites
    assert [site.name for site in sites] == ["act", "act#2", "act#3", "named.a.1", "named.b", "model"]
    assert [site.function for site in sites] == ["relu"] * 3 + ["leaky_relu", "tanh", "relu"]
    assert [site.below for site in sites] == [None, None, None, None, 3, None]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.two, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norm(self.one(x)))
        h = self.two(h)
        h += x
        return self.head(torch.cat([self.relu(h), x], 1)[:, :3].mean((2, 3)))


def test_pools_and_dropout_by_name_are_read_as_by_position() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 3, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.max_pool2d(input=F.relu(input=self.conv(x)), kernel_size=2)
            return self.out(torch.feature_dropout(input=h, p=0.5, train=True).amax((2, 3)))

    model, x = Named(), torch.randn(4, 1, 6, 6)
    (site,) = trace(model, x).sites
    assert site.pooled
    watched = reluexp.watch(model, x)
    assert watched.measure().equals(watched.measure(x, step=0))


def test_sums_by_name_are_sums() -> None:
    model, x = built("F.relu", again=False)
    plain = trace(model, x).sites
    for way in (lambda z: F.relu(torch.add(z, other=z)), lambda z: F.relu(z.add(other=z)), lambda z: F.relu(z + z)):
        model.function = way
        assert [site.layer for site in trace(model, x).sites] == [None]
    assert plain[0].layer == "first"


def test_a_residual_branch_has_no_feeding_layer() -> None:
    first, second = trace(Residual(), torch.randn(2, 3, 4, 4)).sites
    assert (first.layer, first.norm, first.shift, first.affine) == ("one", "norm", "norm.bias", True)
    assert (second.kind, second.layer, second.shift, second.affine) == ("sum", None, None, False)


@pytest.mark.parametrize(
    ("layers", "shape", "axis", "kind", "positions"),
    [
        ([nn.Linear(6, 4)], (2, 6), 1, "dense", 1),
        ([nn.Linear(6, 4)], (2, 5, 6), 2, "token", 5),
        ([nn.Linear(6, 4)], (2, 3, 5, 6), 3, "token", 15),
        ([nn.Linear(6, 4), nn.LayerNorm(4)], (2, 5, 6), 2, "token", 5),
        ([nn.Linear(6, 4), nn.Flatten(0, 1)], (2, 5, 6), 1, "dense", 5),
        ([nn.Conv1d(6, 4, 1)], (2, 6, 5), 1, "conv", 5),
        ([nn.Conv1d(6, 4, 1), nn.BatchNorm1d(4)], (2, 6, 5), 1, "conv", 5),
        ([nn.Conv2d(6, 4, 1)], (2, 6, 5, 5), 1, "conv", 25),
        ([nn.Conv2d(6, 4, 1), nn.Flatten(2)], (2, 6, 5, 5), 1, "conv", 25),
        ([nn.ConvTranspose2d(6, 4, 2)], (2, 6, 5, 5), 1, "conv", 36),
        ([nn.Conv3d(6, 4, 1)], (2, 6, 2, 2, 2), 1, "conv", 8),
    ],
)
def test_units_are_channels(
    layers: list[nn.Module], shape: tuple[int, ...], axis: int, kind: str, positions: int
) -> None:
    (site,) = trace(nn.Sequential(*layers, nn.ReLU()), torch.randn(shape)).sites
    assert (site.width, site.axis, site.kind, site.positions, site.layer) == (4, axis, kind, positions, "0")


@pytest.mark.parametrize(
    ("way", "name"),
    [
        (lambda z: torch.maximum(z, 0.1 * z), "maximum"),
        (lambda z: torch.max(z * 0.1, z), "maximum"),
        (lambda z: torch.where(z > 0, z, 0.1 * z), "where"),
        (lambda z: torch.where(z > 0, z, z / 10), "where"),
        (lambda z: torch.max(torch.div(z, 10), z), "maximum"),
        (lambda z: torch.where(z < 0, z * 0.1, z), "where"),
        (lambda z: (0.1 * z).where(z <= 0, z), "where"),
    ],
)
def test_z_and_a_multiple_of_it_are_a_leaky_unit(way: Callable[[Tensor], Tensor], name: str) -> None:
    model, x = built("F.relu", again=False)
    model.function = partial(F.leaky_relu, negative_slope=0.1)
    expected = reluexp.watch(model, x).measure()
    model.function = way
    found = reluexp.watch(model, x)
    assert found.sites["function"].tolist() == [name]
    columns = ["off_fraction", "post_mean", "slope_mean", "dead_fraction"]
    assert found.measure()[columns].round(6).equals(expected[columns].round(6))


def test_what_only_looks_like_an_activation_is_none() -> None:
    def changed(z: Tensor) -> Tensor:
        floor, mask, tenth = torch.zeros_like(z), z > 0, 0.1 * z
        floor += 1
        z.add_(1)
        return torch.maximum(z, floor) + torch.where(mask, z, 0) + torch.max(tenth, z) + z.clamp(-1) + z.clamp(-2, 1)

    model, x = built("F.relu", again=False)
    for function in (changed, lambda z: torch.where(z > 0, 0.1 * z, z), lambda z: torch.where(z > 0, z, 0.1 * (z + 1))):
        model.function = function
        assert trace(model, x).sites == []


def test_units_that_share_a_bias_have_no_gauge_of_their_own() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.ReLU())
    (site,) = trace(model, torch.randn(2, 2, 3, 3)).sites
    assert (site.kind, site.width, site.layer, site.shift, site.affine) == ("dense", 12, "0", None, False)


def test_a_mask_of_a_copy_from_before_a_change_is_none_of_the_changed() -> None:
    def changed(z: Tensor) -> Tensor:
        before = z.detach()
        mask = before > 0
        z.add_(1)
        return z * mask

    model, x = built("F.relu", again=False)
    model.function = changed
    assert trace(model, x).sites == []


def test_a_gated_linear_unit_is_a_site_of_its_gate() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(INPUTS, 2 * WIDTH), nn.GLU(), nn.Linear(WIDTH, 3)), torch.randn(SAMPLES, INPUTS)
    y = torch.randint(3, (SAMPLES,))
    watched = reluexp.watch(model, (x, y), F.cross_entropy)
    row, (site,) = watched.measure().iloc[0], watched.sites.to_dict("records")
    assert (site["site_name"], site["function"], site["width"], site["layer"]) == ("1", "glu", WIDTH, "0")
    kept, gate = model[0](x).detach().chunk(2, -1)
    gate.requires_grad_()
    loss = F.cross_entropy(model[2](kept * gate.sigmoid()), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, gate)
    found = row[["pre_mean", "post_mean", "slope_mean", "backprop_norm"]].tolist()
    h = gate.detach().sigmoid()
    expected = [gate.mean(), h.mean(), (h * (1 - h)).mean(), gradient.square().mean().sqrt()]
    assert found == pytest.approx([float(value.detach()) for value in expected], rel=1e-4)


OTHER_FUNCTIONS = [
    *(nn.ReLU6(), nn.LeakyReLU(), nn.PReLU(), nn.PReLU(WIDTH), nn.RReLU(), nn.ELU(), nn.SELU(), nn.CELU(), nn.GELU()),
    *(nn.SiLU(), nn.Mish(), nn.Softplus(), nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(), nn.Sigmoid(), nn.Tanh()),
    *(nn.Threshold(0.1, 20), nn.Softsign(), nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink(), nn.LogSigmoid()),
]


@pytest.mark.parametrize("function", OTHER_FUNCTIONS, ids=repr)
def test_torchs_own_activations_are_sites_with_torchs_slopes(function: nn.Module) -> None:
    torch.manual_seed(0)
    model, x = Written(function), 4 * torch.randn(SAMPLES, INPUTS)
    row = reluexp.watch(model, x).measure().iloc[0]
    z = model.eval().first(x).detach().requires_grad_()
    h = function(z)
    (slope,) = torch.autograd.grad(h.sum(), z)
    assert row["slope_mean"] == pytest.approx(float(slope.abs().mean()), rel=1e-4)
    assert row["post_mean"] == pytest.approx(float(h.detach().mean()), rel=1e-4, abs=1e-6)
    learned = list(function.parameters())
    assert (row["learned_slope_mean"] == 0.25) == bool(learned)
