"""Watching models that write, fold, branch, count and name things in ways of their own."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

import reluexp
from reluexp.errors import WatchError


def squares(output: Tensor) -> Tensor:
    return output.flatten(1).square().mean(1)


def samples(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Written(nn.Module):
    """A module whose forward pass is a function of itself and x."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way = forward
        for name, part in parts.items():
            setattr(self, name, part() if callable(part) and not isinstance(part, nn.Module) else part)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


BETWEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "scaled": lambda x: x * 0.5,
    "shifted": lambda x: 1 + x,
    "cut": lambda x: x[..., :-2],
    "padded": lambda x: F.pad(x, (1, 1)),
    "cast": lambda x: x.float().clone(),
    "stretched": lambda x: F.interpolate(x, scale_factor=2),
    "a half": lambda x: torch.cat([x, x], 1).chunk(2, 1)[0],
    "there and back": lambda x: x.permute(0, 2, 1).mT,
}


@pytest.mark.parametrize("between", BETWEEN)
def test_channels_of_one_dimensional_convolutions_stay_the_units(between: str) -> None:
    model = nn.Sequential(nn.Conv1d(4, 8, 3), Written(lambda _, x: BETWEEN[between](x)), nn.ReLU(), nn.Conv1d(8, 2, 3))
    with torch.no_grad():
        model[0].bias[:6] = -100.0  # type: ignore[union-attr, index]
    row = reluexp.watch(model, samples(32, 4, 20)).measure().iloc[0]
    assert (row["width"], row["dead_fraction"]) == (8, 0.75)


def test_channels_that_were_moved_last_are_there() -> None:
    model = Written(
        lambda m, x: m.out(F.relu(m.conv(x).transpose(1, 2) * 2)), conv=nn.Conv1d(4, 8, 3), out=nn.Linear(8, 2)
    )
    assert reluexp.watch(model, samples(5, 4, 20)).sites[["width", "positions"]].to_numpy().tolist() == [[8, 18]]


def test_layers_may_have_two_names() -> None:
    layers = nn.ModuleList([nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)])
    model = Written(lambda m, x: m.net(x), layers=layers, net=nn.Sequential(layers[0], layers[1], nn.ReLU(), layers[2]))
    watched = reluexp.watch(model, samples(16, 8))
    watched.measure()
    with torch.no_grad():
        layers[1].bias[2] -= 50  # type: ignore[operator, index]
    watched.measure()
    assert watched.units()["cause"].tolist()[2] == "bias"


def test_weights_may_have_any_name() -> None:
    weight, other = nn.Parameter(samples(5, 8)), nn.Parameter(samples(5, 8))
    both = Written(
        lambda m, x: F.linear(F.relu(F.linear(x, m.weight)), m.other), weight=weight, other=nn.Parameter(samples(3, 5))
    )
    rows = reluexp.watch(nn.Sequential(both), samples(16, 8)).measure()
    assert rows["weight_norm"].isna().tolist() == [False, True]
    alone = nn.Sequential(Written(lambda m, x: F.linear(x, m.kernel), kernel=other), nn.ReLU())
    assert reluexp.watch(alone, samples(16, 8), squares).measure()["weight_norm"].isna().all()


def test_what_is_done_to_indices_is_no_activation() -> None:
    model = Written(
        lambda m, i: F.relu(m.out(m.e(torch.where(i < 0, 0, i).clamp(min=0)))),
        e=nn.Embedding(9, 8),
        out=nn.Linear(8, 4),
    )
    assert reluexp.watch(model, torch.randint(-1, 9, (6, 5))).measure()["site_name"].tolist() == ["model", "output"]


def test_a_model_may_write_over_its_input() -> None:
    data = samples(40, 8)
    before = data.clone()
    model = Written(lambda m, x: m.out(F.relu(x.sub_(3).div_(5), inplace=True)), out=nn.Linear(8, 4))
    watched = reluexp.watch(model, data[:20], squares)
    first, second = (watched.measure()["pre_std"][0] for _ in range(2))
    watched.confirm(data)
    assert first == second
    assert torch.equal(data, before)


def test_what_a_forward_pass_sets_besides_buffers_is_put_back() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        m.calls += 1
        if x.shape[1] > m.length:
            m.register_buffer("places", torch.randn(x.shape[1], 8))
            m.length, m.grown = x.shape[1], True
        random.random(), np.random.rand()
        return F.relu(m.first(x + m.places[: x.shape[1]]))

    model = Written(forward, first=nn.Linear(8, 4), calls=0, length=4)
    model.register_buffer("places", torch.zeros(4, 8))
    states = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    reluexp.watch(model, samples(6, 9, 8)).measure()
    assert (model.calls, model.length, hasattr(model, "grown"), len(model.places)) == (0, 4, False, 4)  # type: ignore[arg-type]
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # type: ignore[union-attr]
    assert model(samples(6, 9, 8)).shape == (6, 9, 4)


def test_masks_of_the_input_raise_no_alarm() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        masked = (x[..., 0] > 9).float().clamp(min=0)
        out: Tensor = F.relu(m.first(x)) * (1 - masked)[..., None]
        return out

    watched = reluexp.watch(Written(forward, first=nn.Linear(8, 40)), samples(60, 5, 8), squares)
    assert watched.measure()["dead_fraction"].tolist()[0] == 1
    assert watched.warnings() == []


def test_tokens_that_are_folded_into_samples_are_positions() -> None:
    def unfolded(m: Any, x: Tensor) -> Tensor:
        out: Tensor = m.last(F.relu(m.first(x)))
        return out

    def folded(m: Any, x: Tensor) -> Tensor:
        out: Tensor = m.last(F.relu(m.first(x.reshape(-1, 8)))).view(len(x), -1, 2)
        return out

    found = []
    for way in (unfolded, folded):
        model = Written(way, first=lambda: nn.Linear(8, 16), last=lambda: nn.Linear(16, 2))
        watched = reluexp.watch(model, samples(40, 10, 8), squares, chunk=16)
        row = watched.measure().iloc[0]
        units = watched.confirm(samples(40, 10, 8))
        assert np.isnan(row["rare_fraction"])
        found.append([row["pre_std"], row["backprop_norm"], *units["sample_rate"], *units["responds_after"]])
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("chunk", [1, 7, None])
@pytest.mark.parametrize("none", [False, True])
def test_an_expert_may_get_no_sample(chunk: int | None, none: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        chosen, out = m.router(x).argmax(1), x.new_zeros(len(x), 4)
        for number, expert in enumerate(m.experts):
            own = (chosen == number).nonzero().flatten()
            out = out.index_add(0, own, expert(x[own]))
        return out

    torch.manual_seed(0)
    experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 4)) for _ in range(2))
    model = Written(forward, router=nn.Linear(8, 2), experts=experts)
    with torch.no_grad():
        model.router.bias[0] += 99 if none else 0  # type: ignore[operator, union-attr, index]
    x = samples(20, 8)
    watched = reluexp.watch(model, x, squares, chunk=chunk)
    row = watched.measure().iloc[1]
    own = x[model.router(x).argmax(1) == 1]  # type: ignore[operator]
    if not none:
        assert row["pre_mean"] == pytest.approx(float(experts[1][0](own).mean().detach()), abs=1e-6)  # type: ignore[index]
        assert row["effective_rank"] > 1
        return
    assert row[["pre_mean", "dead_fraction", "effective_rank", "post_q999", "backprop_norm"]].isna().all()
    assert "experts.1.1: no sample came here at step 0" in watched.warnings()


def test_weights_that_are_computed_once_keep_their_gradients() -> None:
    layer: Any = nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 3))
    watched = reluexp.watch(model, samples(6, 8), squares)
    with parametrize.cached():
        watched.measure()
        model(samples(6, 8)).sum().backward()
    assert layer.parametrizations.weight.original1.grad is not None


def test_what_is_made_of_parameters_in_lists_and_parts_is_no_site() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        first, _ = m.whole.chunk(2)
        gates = torch.sigmoid(torch.stack([*m.gates])).prod(0) * torch.sigmoid(torch.cat([m.whole, first])[:4])
        out: Tensor = F.relu(m.first(x)) * gates * torch.tanh(first)
        return out

    gates = nn.ParameterList([nn.Parameter(samples(4)), nn.Parameter(samples(4))])
    model = Written(forward, first=nn.Linear(8, 4), gates=gates, whole=nn.Parameter(samples(8)))
    assert reluexp.watch(model, samples(6, 8)).sites["function"].tolist() == ["relu"]


def test_a_model_of_two_inputs_is_told_what_to_do() -> None:
    class Two(nn.Module):
        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return F.relu(one + other)

    with pytest.raises(WatchError, match="several inputs is watched as a module of one that takes them apart"):
        reluexp.watch(Two(), (samples(6, 8), samples(6, 8)))


def test_cells_are_said_to_be_unseen() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.RNNCell(8, 5, nonlinearity="relu"))
    watched = reluexp.watch(model, samples(6, 8))
    watched.measure()
    assert "2: the gates of RNNCell run inside one kernel and cannot be seen" in watched.warnings()


def test_the_first_use_may_be_in_inference_mode_or_for_another_device() -> None:
    lines = [
        "import torch, reluexp; from torch import nn; x = torch.randn(6, 8)",
        "m = nn.Sequential(nn.Linear(8, 6), nn.ReLU())",
        "with torch.inference_mode(), torch.device('meta'): reluexp.watch",
        "with torch.inference_mode(): y = torch.randn(6, 8); print(len(reluexp.watch(m, x).measure()))",
        "print(len(reluexp.watch(m, y, lambda out: out.square().mean()).measure()))",
    ]
    found = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["2", "2"]
