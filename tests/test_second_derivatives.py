"""Whatever asks more of an activation than its gradient: second derivatives, torch.func, tracing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

import reluexp
from reluexp.catalogue.activations import ACTIVATIONS, build_activation
from reluexp.catalogue.functions import Mixed
from reluexp.catalogue.registry import Options
from reluexp.networks.linear import linear

WIDTH = 6


def own(name: str) -> Any:
    options: Options = ACTIVATIONS.models[name]()
    return build_activation(options, WIDTH).double()


@pytest.mark.parametrize("name", ACTIVATIONS.names)
def test_second_derivatives_are_those_of_differences(name: str) -> None:
    torch.manual_seed(0)
    function = own(name)
    z = (2 * torch.randn(5, WIDTH, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(function, (z,))
    assert torch.autograd.gradgradcheck(function, (z,))


@pytest.mark.parametrize("name", ACTIVATIONS.names)
def test_the_plain_function_is_the_function(name: str) -> None:
    function, z = own(name), torch.linspace(-9, 9, 40 * WIDTH, dtype=torch.float64).view(-1, WIDTH)
    torch.testing.assert_close(function.plain(z), function(z))
    mixed = Mixed([function, own("tanh")], [1, 2])
    stack = z.view(4, 10, WIDTH)[:3]
    torch.testing.assert_close(mixed.plain(stack), mixed(stack))


def test_parameters_have_second_derivatives_too() -> None:
    function, z = own("prelu"), torch.randn(5, WIDTH, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((function(z) ** 2).sum(), [function.slope], create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), [function.slope])
    assert float(second) == pytest.approx(float(2 * z.detach().clamp(max=0).square().sum()))


def test_a_stacks_linear_maps_have_second_derivatives() -> None:
    torch.manual_seed(0)
    sizes = ((2, 20, 5), (2, 17, 5), (2, 17))
    assert torch.autograd.gradgradcheck(
        linear, tuple(torch.randn(s, dtype=torch.float64).requires_grad_() for s in sizes)
    )


class Energy(nn.Module):
    """A network that is the gradient of another, as Hamiltonian ones are (Greydanus et al. 2019, arXiv 1906.01563)."""

    def __init__(self, outputs: int, activation: Any) -> None:
        super().__init__()
        self.a, self.act, self.e, self.h = nn.Linear(64, 16), activation(16), nn.Linear(16, 1), nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            (g,) = torch.autograd.grad(self.e(self.act(self.a(x))).sum(), x, create_graph=True)
        return self.h(g)


def energy(activation: Any, num_outputs: int) -> nn.Module:
    return Energy(num_outputs, activation)


@pytest.mark.usefixtures("inline")
def test_networks_that_differentiate_themselves_learn_as_with_torchs_own(tmp_path: Path) -> None:
    config = {
        "study": "energy",
        "dataset": {"name": "digits", "train_size": 200, "test_size": 50},
        "architecture": {"name": f"{__name__}:energy"},
        "init": {"gain": 1.0},
        "train": {"epochs": 2, "optimizer": {"name": "adam", "lr": 0.01}},
        "seeds": 2,
        "baseline": {"activation": "tanh"},
        "grid": {"activation": ["tanh", "torch.nn:Tanh", "elu", "torch.nn:ELU"]},
    }
    epochs = reluexp.run(config, tmp_path, workers=1)
    assert epochs.trials["outcome"].eq("finished").all()
    table = epochs.epochs.merge(epochs.trials[["trial", "activation", "seed"]], on="trial")
    loss = table[table["epoch"] == 2].set_index(["activation", "seed"])["train_loss"]
    for ours, theirs in (("tanh", "torch.nn:Tanh"), ("elu", "torch.nn:ELU")):
        assert loss[ours].tolist() == pytest.approx(loss[theirs].tolist(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("name", ACTIVATIONS.names)
def test_models_can_be_used_with_torch_func_and_traced(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, WIDTH), own(name).float(), nn.Linear(WIDTH, 1))
    x, weights = torch.randn(7, 4), dict(model.named_parameters())

    def loss(values: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(model, values, (sample[None],)).sum()

    each = vmap(grad(loss), in_dims=(None, 0))(weights, x)
    (whole,) = torch.autograd.grad(model(x).sum(), [weights["0.weight"]])
    torch.testing.assert_close(each["0.weight"].sum(0), whole)
    _, tangent = jvp(model, (x,), (torch.ones_like(x),))
    assert tangent.shape == (7, 1)
    torch.testing.assert_close(torch.jit.trace(model, x)(x), model(x))
