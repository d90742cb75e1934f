"""Which samples: the raw arrays of a data set, one fixed class-balanced order, splits by class. No seed decides any."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from reluexp.catalogue.datasets import validation_count
from reluexp.errors import DataError
from reluexp.seeds import generator

__all__ = ["Raw", "balanced_order", "hold_out", "split"]


class Raw(NamedTuple):
    """A data set as its source gives it: x of any real type, y integers 0 … classes − 1.

    Or, for regression, y real [sample, output] and no class names; such data are taken as they are, without being
    normalised.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    class_names: tuple[str, ...]


def balanced_order(labels: np.ndarray) -> np.ndarray:
    """All indices in one fixed random order whose every prefix is as class-balanced as it can be.

    Counts of classes in a prefix differ by at most one, until the smaller classes run out. Depends on the labels alone.
    """
    random = generator("data", "order")
    shuffled = torch.randperm(len(labels), generator=random).numpy()
    ties = torch.randperm(len(labels), generator=random).numpy()
    ranks = np.empty(len(labels), np.int64)
    ranks[shuffled] = _ranks(labels[shuffled])
    return np.lexsort((ties, ranks))


def _ranks(labels: np.ndarray) -> np.ndarray:
    """For each label, how many equal ones stand before it."""
    by_class = np.argsort(labels, kind="stable")
    positions = np.empty(len(labels), np.int64)
    positions[by_class] = np.arange(len(labels))
    return positions - np.searchsorted(labels[by_class], labels)


def take(labels: np.ndarray, order: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The order without `count` of its indices, and these: an equal share of every class, each's last in the order.

    What remains of a balanced order is balanced again, and its beginning is as it was.
    """
    classes = labels[order]
    size = np.bincount(classes)[classes]
    place = (_ranks(classes) + 0.5) / size
    taken = np.zeros(len(order), bool)
    taken[np.argsort(-place, kind="stable")[:count]] = True
    return order[~taken], order[taken]


def split(x: np.ndarray, y: np.ndarray, test: int, class_names: tuple[str, ...]) -> Raw:
    """A fixed split of the samples with `test` of them in the test split, an equal share of every class."""
    train, held = map(np.sort, take(y, balanced_order(y), test))
    return Raw(x[train], y[train], x[held], y[held], class_names)


def hold_out(labels: np.ndarray, order: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The order without the validation split, and that split, sorted."""
    count = validation_count(len(order), share)
    if share and not 0 < count < len(order):
        raise DataError(
            f"validation: {share} of {len(order)} training samples is {count}; it must take at least one and leave one"
        )
    rest, held = take(labels, order, count)
    return rest, np.sort(held)
