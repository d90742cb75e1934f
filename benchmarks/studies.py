"""The studies that every program trains, and what it must report of each network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reluexp.catalogue.loading import Dataset, load_dataset
from reluexp.config import LoadedConfig, load_config

__all__ = ["STUDIES", "Study", "build"]

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


@dataclass(frozen=True)
class Study:
    """One study: its data set's options, its network, and how long it trains."""

    name: str
    dataset: dict[str, Any]
    architecture: dict[str, Any]
    seeds: int
    epochs: int
    batch_size: int
    lr: float = 0.05

    def config(self, root: str) -> LoadedConfig:
        """The same as a config of reluexp; `root` is where MNIST lies."""
        own = {"root": root} if self.dataset["name"] == "mnist" else {}
        return load_config(
            {
                "study": self.name,
                "dataset": self.dataset | own,
                "architecture": self.architecture,
                "train": {"epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr},
                "seeds": self.seeds,
                "grid": {"activation": list(ACTIVATIONS)},
            }
        )

    def data(self, root: str) -> Dataset:
        """The data set as tensors, the same for every program."""
        return load_dataset(self.config(root).config.dataset)


STUDIES = {
    study.name: study
    for study in (
        Study("digits_64", {"name": "digits"}, {"name": "mlp", "depth": 4, "width": 64}, 5, 20, 64),
        Study("digits_16", {"name": "digits"}, {"name": "mlp", "depth": 4, "width": 16}, 5, 20, 64),
        Study(
            "mnist_mlp", {"name": "mnist", "train_size": 10_000}, {"name": "mlp", "depth": 4, "width": 128}, 5, 2, 128
        ),
        Study(
            "mnist_cnn", {"name": "mnist", "train_size": 10_000}, {"name": "cnn", "channels": [16, 32]}, 2, 1, 128, 0.02
        ),
    )
}


def build(study: Study, activation: str, data: Dataset) -> nn.Module:
    """The network as one writes it by hand, He's initialisation in every layer."""
    act = ACTIVATIONS[activation]
    layers: list[nn.Module] = []
    if study.architecture["name"] == "mlp":
        inputs = data.train_x[0].numel()
        layers.append(nn.Flatten())
    else:
        channels, side = data.input_shape[0], data.input_shape[1]
        for out in study.architecture["channels"]:
            layers += [nn.Conv2d(channels, out, 3, padding=1), act(), nn.MaxPool2d(2)]
            channels, side = out, side // 2
        inputs = channels * side * side
        layers.append(nn.Flatten())
    depth, width = study.architecture.get("depth", 1), study.architecture.get("width", 128)
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), act()]
        inputs = width
    layers.append(nn.Linear(inputs, data.outputs))
    for layer in layers:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def measure(model: nn.Module, probe: torch.Tensor, labels: torch.Tensor) -> dict[str, list[float]]:
    """What a hand-written script measures of each activation: dead units, zeros, moments, sparsity, gradients."""
    found: dict[str, list[float]] = {name: [] for name in ("dead", "off", "zero", "mean", "std", "hoyer", "gradient")}
    outputs: list[torch.Tensor] = []
    inputs: list[torch.Tensor] = []

    def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        output.retain_grad()
        inputs.append(args[0].detach())
        outputs.append(output)

    handles = [m.register_forward_hook(hook) for m in model.modules() if type(m) in ACTIVATIONS.values()]
    model.eval()
    model.zero_grad()
    nn.functional.cross_entropy(model(probe), labels).backward()
    for handle in handles:
        handle.remove()
    for z, output in zip(inputs, outputs, strict=True):
        h = output.detach()
        dims = (0, *range(2, h.dim()))
        found["dead"].append(
            float((h == 0).all(0).flatten(1).all(1).float().mean() if h.dim() > 2 else (h == 0).all(0).float().mean())
        )
        found["off"].append(float((z.amax(dims) <= 0).float().mean()))
        found["zero"].append(float((h == 0).float().mean()))
        found["mean"].append(float(h.mean()))
        found["std"].append(float(h.std()))
        flat = h.flatten(1)
        n = flat.shape[1]
        ratio = flat.abs().sum(1) / flat.norm(dim=1).clamp(min=1e-12)
        found["hoyer"].append(float(((n**0.5 - ratio) / (n**0.5 - 1)).mean()))
        found["gradient"].append(float(output.grad.norm()))
    model.zero_grad()
    return found
