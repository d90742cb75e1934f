"""The data sets that are made: each one function from its options to raw arrays."""

from __future__ import annotations

import numpy as np
import torch

from reluexp.catalogue.datasets import Blobs, DatasetOptions, Functions, Point, Spirals, share_of
from reluexp.catalogue.samples import Raw, split
from reluexp.errors import DataError
from reluexp.seeds import generator

__all__ = ["blobs", "functions", "line", "point", "spirals"]


def blobs(options: Blobs) -> Raw:
    """Gaussian clusters with random centres."""
    random = generator("data", "blobs")
    shape = (options.classes, options.features)
    centres = torch.rand(shape, generator=random, dtype=torch.float64) * 20 - 10
    y = torch.arange(options.samples) % options.classes
    noise = torch.randn((options.samples, options.features), generator=random, dtype=torch.float64)
    return _generated(centres[y] + options.spread * noise, y, options)


def spirals(options: Spirals) -> Raw:
    """Intertwined arms in the plane."""
    random = generator("data", "spirals")
    y = torch.arange(options.samples) % options.classes
    turned = options.turns * torch.rand(options.samples, generator=random, dtype=torch.float64).sqrt()
    angle = 2 * torch.pi * (turned + y.double() / options.classes)
    noise = torch.randn((options.samples, 2), generator=random, dtype=torch.float64)
    arms = turned[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return _generated(arms + options.noise * noise, y, options)


def functions(options: Functions) -> Raw:
    """A function on [−√3, √3] to be learned by regression (Lu et al. 2019, arXiv 1903.06733)."""
    dimensions = 2 if options.function == "plane" else 1
    random = generator("data", "functions")
    x = (torch.rand((options.samples, dimensions), generator=random, dtype=torch.float64) * 2 - 1) * 3**0.5
    y = {
        "abs": lambda: x.abs(),
        "sine": lambda: x * (5 * x).sin(),
        "step": lambda: (x > 0).double() + 0.2 * (5 * x).sin(),
        "plane": lambda: torch.stack([(x[:, 0] + x[:, 1]).abs(), (x[:, 0] - x[:, 1]).abs()], 1),
    }[options.function]()
    train = options.samples - share_of(options.test_share, options.samples)
    return Raw(x[:train].numpy(), y[:train].numpy(), x[train:].numpy(), y[train:].numpy(), ())


def line(options: DatasetOptions) -> Raw:
    """The points −1 and +1, with |x| to be learned."""
    x = np.array([[-1.0], [1.0]])
    return Raw(x, np.abs(x), x, np.abs(x), ())


def point(options: Point) -> Raw:
    """The single input (1, …, 1)."""
    x = np.ones((1, options.features))
    return Raw(x, x[:, :1], x, x[:, :1], ())


def _generated(x: torch.Tensor, y: torch.Tensor, options: Blobs | Spirals) -> Raw:
    if options.samples < 2 * options.classes:
        raise DataError(f"{options.samples} samples are too few for {options.classes} classes; give at least two each")
    names = tuple(map(str, range(options.classes)))
    return split(x.numpy(), y.numpy(), share_of(options.test_share, options.samples), names)
