"""How any data set becomes the tensors that a trial sees: read, checked, subsampled, split, normalised.

Shapes: x is [sample, *shape], with shape (channel, height, width) for images and (feature,) for flat data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reluexp.catalogue.datasets import DATASETS, Progress, Shape
from reluexp.catalogue.registry import import_attribute, is_own, message_of, told_with_place
from reluexp.catalogue.samples import Raw, balanced_order, hold_out
from reluexp.errors import DataError, ReluexpError

__all__ = ["Dataset", "load_dataset"]

_CHUNK = 1 << 22


@dataclass
class Dataset:
    """A data set as trials see it: split, normalised, in memory.

    x is float32 [sample, *input_shape], y int64 [sample], or for regression, where `classes` is None, float32
    [sample, output]. `probe_order` are indices into train_x: its first n are as class-balanced as n samples can be, for
    every n.
    """

    name: str
    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    validation_x: torch.Tensor | None
    validation_y: torch.Tensor | None
    probe_order: torch.Tensor
    input_shape: Shape
    outputs: int
    classes: int | None
    class_names: tuple[str, ...]
    fingerprint: str

    def _tensors(self) -> dict[str, torch.Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}

    def to(self, device: torch.device | str) -> Dataset:
        """The data set with its tensors on that device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return replace(self, **moved)


def load_dataset(options: Any, cache: Path | None = None, progress: Progress | None = None) -> Dataset:
    """The data set that the options name, split, subsampled and normalised.

    `cache` is a folder for decoded images; `progress(done, total)` is called while images are read. Nothing here
    depends on a trial's seed. Each channel (each feature of flat data) gets mean 0 and standard deviation 1 over the
    training split that remains after train_size and validation; constant ones are only centred.
    Raises DataError when the data are missing, damaged, or too few for what the options ask.
    """
    own = is_own(options)
    raw = _user_data(options) if own else DATASETS[options.name].load(options, cache, progress)
    _check(options.name, raw)
    train_labels, test_labels = _labels(raw.train_y), _labels(raw.test_y)
    order = _first(balanced_order(train_labels), options.train_size, "train_size", "training")
    order, held = hold_out(train_labels, order, options.validation)
    tested = _first(balanced_order(test_labels), options.test_size, "test_size", "test")

    kept = np.sort(order)
    if raw.class_names and len(np.unique(raw.train_y[kept])) < 2:
        raise DataError(f"{options.name}: the {len(kept)} training samples are of one class; at least two are needed")
    train_x, train_y = _pick(raw.train_x, kept), _pick(raw.train_y, kept)
    validation_x, validation_y = _pick(raw.train_x, held), _pick(raw.train_y, held)
    test_x, test_y = _pick(raw.test_x, np.sort(tested)), _pick(raw.test_y, np.sort(tested))
    probe_order = np.searchsorted(kept, order)
    parts = (train_x, train_y, validation_x, validation_y, test_x, test_y, probe_order)

    scale = _moments(train_x) if raw.class_names else _as_it_is(train_x)
    return Dataset(
        name=options.name,
        train_x=_normalise(train_x, *scale),
        train_y=_targets(train_y),
        test_x=_normalise(test_x, *scale),
        test_y=_targets(test_y),
        validation_x=_normalise(validation_x, *scale) if len(held) else None,
        validation_y=_targets(validation_y) if len(held) else None,
        probe_order=torch.from_numpy(probe_order),
        input_shape=tuple(train_x.shape[1:]),
        outputs=len(raw.class_names) or raw.train_y.shape[1],
        classes=len(raw.class_names) or None,
        class_names=raw.class_names,
        fingerprint=_fingerprint(parts),
    )


def _labels(y: np.ndarray) -> np.ndarray:
    """The labels by which samples are balanced: all the same for real targets."""
    return y if y.ndim == 1 else np.zeros(len(y), np.int64)


def _targets(y: np.ndarray) -> torch.Tensor:
    return torch.tensor(y) if y.ndim == 1 else torch.tensor(y, dtype=torch.float32)


def _as_it_is(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((x.shape[1], 1)), np.ones((x.shape[1], 1))


def _user_data(options: Any) -> Raw:
    """The arrays of the user's own function, called with the options that are not ours."""
    source = import_attribute(options.name)
    try:
        found = source(**(options.model_extra or {}))
    except ReluexpError:
        raise
    except Exception as error:  # the user's code may raise anything, and all of it is the user's to mend
        raise DataError(f"{options.name} failed: {told_with_place(error)}") from error
    if not isinstance(found, (tuple, list)) or len(found) != 4:
        raise DataError(f"{options.name} must return (train_x, train_y, test_x, test_y), not {type(found).__name__}")
    try:
        train_x, train_y, test_x, test_y = map(_array, found)
    except (TypeError, ValueError, RuntimeError) as error:
        text = f"must return dense arrays or tensors: {message_of(error)}"
        raise DataError(f"{options.name} {text}") from error
    if "f" in (train_y.dtype.kind, test_y.dtype.kind):
        return Raw(train_x, _real(options.name, train_y), test_x, _real(options.name, test_y), ())
    _check_labels(options.name, train_y, test_y)
    names = tuple(str(label) for label in range(int(train_y.max()) + 1))
    return Raw(train_x, train_y, test_x, test_y, names)


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def _real(name: str, y: np.ndarray) -> np.ndarray:
    """Targets of a regression [sample, output]; what may be meant as labels is refused."""
    if y.ndim not in (1, 2) or y.dtype.kind not in "iuf" or not np.isfinite(y).all():
        raise DataError(f"{name}: targets must be finite real numbers [sample, output], not {y.dtype} {list(y.shape)}")
    if y.ndim == 1 and (y == np.round(y)).all():
        raise DataError(f"{name}: are these labels or targets? Give labels as integers, targets as [sample, 1]")
    return y.reshape(len(y), -1).astype(np.float64)


def _check_labels(name: str, train: np.ndarray, test: np.ndarray) -> None:
    for split, labels in (("train_y", train), ("test_y", test)):
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels):
            raise DataError(
                f"{name}: {split} must be a non-empty vector of integer labels, not {labels.dtype} {list(labels.shape)}"
            )
    present = set(train.tolist())
    if present != set(range(len(present))):
        raise DataError(f"{name}: labels must be 0 … C − 1 with none missing; train_y has {_some(present)}")
    if unknown := set(test.tolist()) - present:
        raise DataError(f"{name}: test_y has labels that train_y lacks: {_some(unknown)}")


def _some(labels: set[int]) -> str:
    shown = ", ".join(map(str, sorted(labels)[:10]))
    return f"{shown}, … ({len(labels)})" if len(labels) > 10 else shown


def _check(name: str, raw: Raw) -> None:
    """Whether every split has finite real samples of one shape and a label for each."""
    for split, x, y in (("training", raw.train_x, raw.train_y), ("test", raw.test_x, raw.test_y)):
        if not len(x):
            raise DataError(f"{name}: there are no {split} samples")
        if x.dtype.kind not in "biuf" or x.ndim < 2 or 0 in x.shape:
            raise DataError(
                f"{name}: the {split} samples must be real numbers [sample, feature] or "
                f"[sample, channel, height, width], not {x.dtype} {list(x.shape)}"
            )
        if len(x) != len(y):
            raise DataError(f"{name}: {len(x)} {split} samples but {len(y)} labels")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise DataError(f"{name}: the {split} samples contain NaN or infinite numbers")
        if raw.class_names and (int(y.min()) < 0 or int(y.max()) >= len(raw.class_names)):
            raise DataError(f"{name}: the {split} labels must lie in 0 … {len(raw.class_names) - 1}")
    if raw.train_y.shape[1:] != raw.test_y.shape[1:]:
        raise DataError(
            f"{name}: training targets are {list(raw.train_y.shape)}, test targets {list(raw.test_y.shape)}"
        )
    if raw.train_x.shape[1:] != raw.test_x.shape[1:]:
        raise DataError(
            f"{name}: training samples are {list(raw.train_x.shape[1:])}, test samples {list(raw.test_x.shape[1:])}"
        )


def _first(order: np.ndarray, count: int | None, key: str, split: str) -> np.ndarray:
    if count is not None and count > len(order):
        raise DataError(f"{key}: {count} is more than the {len(order)} {split} samples there are")
    return order[:count]


def _pick(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Those samples, contiguous; labels as int64."""
    chosen = values if len(indices) == len(values) else values[indices]
    return np.ascontiguousarray(chosen, np.int64 if chosen.ndim == 1 else None)


def _chunks(x: np.ndarray) -> list[slice]:
    step = max(1, _CHUNK // max(1, x[0].size))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _channels(x: np.ndarray) -> np.ndarray:
    """The samples as float64 [sample, channel, position]."""
    return x.reshape(len(x), x.shape[1], -1).astype(np.float64)


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (1/n) of each channel, float64 [channel, 1]; 1 for a constant channel.

    By numpy, whose sums do not depend on the number of threads.
    """
    count = x.size / x.shape[1]
    mean = sum(_channels(x[chunk]).sum((0, 2)) for chunk in _chunks(x))[:, None] / count
    squares = sum(((_channels(x[chunk]) - mean) ** 2).sum((0, 2)) for chunk in _chunks(x))[:, None]
    std = np.sqrt(squares / count)
    # The mean of equal numbers may be off by rounding, and so their spread not quite 0.
    return mean, np.where(std <= 1e-12 * np.abs(mean), 1.0, std)


def _normalise(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> torch.Tensor:
    out = torch.empty(x.shape, dtype=torch.float32)
    for chunk in _chunks(x):
        out[chunk] = torch.from_numpy((_channels(x[chunk]) - mean) / std).reshape(out[chunk].shape)
    return out


def _fingerprint(parts: tuple[np.ndarray, ...]) -> str:
    """16 hex digits that change with any value, shape or type, and with which sample is in which split."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        digest.update(part.data if part.size else b"")
    return digest.hexdigest()[:16]
