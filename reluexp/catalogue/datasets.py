"""The data sets: where each comes from, and how any of them becomes the tensors that a trial sees.

Importing this module imports neither torch nor numpy; loading a data set does.
Shapes: x is [sample, *shape], with shape (channel, height, width) for images and (feature,) for flat data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, ValidationError

from reluexp.catalogue.registry import Options, Registry, import_attribute
from reluexp.errors import DataError, ReluexpError
from reluexp.seeds import generator

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetEntry",
    "DatasetOptions",
    "Hints",
    "Raw",
    "augment_batch",
    "balanced_order",
    "hints_of",
    "load_dataset",
    "validation_count",
]

Shape = tuple[int, ...]
Progress = Callable[[int, int], None]
Augment = Literal["none", "shift", "flip_shift"]

_DIGITS_TEST = 360
_CHUNK = 1 << 22


class DatasetOptions(Options):
    """Options that every data set has."""

    train_size: int | None = Field(None, ge=1, description="training samples to use, class-balanced; all if not given")
    test_size: int | None = Field(None, ge=1, description="test samples to use, class-balanced; all if not given")
    validation: float = Field(0.0, ge=0, lt=1, description="share of the training samples kept apart for validation")


class ImageOptions(DatasetOptions):
    """Options of image data sets."""

    augment: Augment = Field("none", description="random shifts, or flips and shifts, of the training images")


class Published(ImageOptions):
    """Options of the data sets that torchvision knows."""

    outside_identity: ClassVar[frozenset[str]] = frozenset({"root", "download"})

    root: str = Field("data", min_length=1, description="folder in torchvision's layout")
    download: bool = Field(True, description="fetch the files when they are missing")


class ImageFolder(ImageOptions):
    """Options of a folder with one folder of images for each class."""

    path: str = Field(min_length=1, description="the folder; with train/ and test/ in it, these are the split")
    size: int = Field(32, ge=1, le=4096, description="side of the square that images are cropped and scaled to, pixels")
    channels: Literal[1, 3] = Field(3, description="1 grey, 3 colour")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of each class for testing, without train/ and test/")
    on_error: Literal["stop", "skip"] = Field("stop", description="what to do about unreadable images")


class Blobs(DatasetOptions):
    """Options of the Gaussian clusters."""

    classes: int = Field(3, ge=2, le=1000, description="clusters")
    features: int = Field(2, ge=1, le=100_000, description="dimensions")
    samples: int = Field(1000, ge=4, le=100_000_000, description="samples, training and test together")
    spread: float = Field(1.0, ge=0, description="standard deviation of a cluster; the centres lie in [−10, 10]")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of each class for testing")


class Spirals(DatasetOptions):
    """Options of the intertwined spirals."""

    classes: int = Field(2, ge=2, le=100, description="arms")
    samples: int = Field(2000, ge=4, le=100_000_000, description="samples, training and test together")
    noise: float = Field(0.1, ge=0, description="standard deviation, in units of the radius gained per turn")
    turns: float = Field(1.5, gt=0, le=100, description="turns of an arm from the centre to its end")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of each class for testing")


class Functions(DatasetOptions):
    """Options of the functions to be learned by regression."""

    function: Literal["abs", "sine", "step", "plane"] = Field(
        "abs", description="|x|; x·sin 5x; 1(x > 0) + 0.2·sin 5x; or (|x₁ + x₂|, |x₁ − x₂|), on [−√3, √3]"
    )
    samples: int = Field(3000, ge=4, le=100_000_000, description="samples, training and test together")
    test_share: float = Field(1 / 3, gt=0, lt=1, description="share for testing")


class Point(DatasetOptions):
    """Options of the single input."""

    features: int = Field(1, ge=1, le=100_000, description="dimensions")


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


@dataclass(frozen=True)
class Hints:
    """What is known of a data set before it is read; None where it takes reading.

    `train` and `test` count samples before train_size, test_size and validation.
    """

    shape: Shape | None = None
    classes: int | None = None
    train: int | None = None
    test: int | None = None
    outputs: int | None = None

    @property
    def width(self) -> int | None:
        """The number of a network's outputs: one for each class, or for each real target."""
        return self.outputs or self.classes


@dataclass(frozen=True)
class DatasetEntry:
    """One data set; `load(options, cache, progress)` reads it, `hints(options)` foretells what that will give."""

    name: str
    label: str
    summary: str
    reference: str
    options: type[DatasetOptions]
    load: Callable[[Any, Path | None, Progress | None], Raw]
    hints: Callable[[Any], Hints]


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
        import torch

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}

    def share_memory_(self) -> Dataset:
        """The same data set, its tensors moved to shared memory, so that workers need no copy."""
        for tensor in self._tensors().values():
            tensor.share_memory_()
        return self

    def to(self, device: torch.device | str) -> Dataset:
        """The data set with its tensors on that device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return replace(self, **moved)


def _digits(options: DatasetOptions, cache: Path | None, progress: Progress | None) -> Raw:
    from sklearn.datasets import load_digits

    digits = load_digits()
    names = tuple(str(name) for name in digits.target_names)
    return _split(digits.images[:, None], digits.target, _DIGITS_TEST, names)


def _published(name: str) -> Callable[[Any, Path | None, Progress | None], Raw]:
    def load(options: Published, cache: Path | None, progress: Progress | None) -> Raw:
        from reluexp.catalogue.published import read_published

        return Raw(*read_published(name, Path(options.root).expanduser(), options.download))

    return load


def _imagefolder(options: ImageFolder, cache: Path | None, progress: Progress | None) -> Raw:
    from reluexp.catalogue.images import read_folder

    path = Path(options.path).expanduser()
    images = read_folder(path, options.size, options.channels, options.on_error == "skip", cache, progress)
    if images.is_test is None:
        return _split(images.x, images.y, _share(options.test_share, len(images.y)), images.class_names)
    train, test = ~images.is_test, images.is_test
    return Raw(images.x[train], images.y[train], images.x[test], images.y[test], images.class_names)


def _blobs(options: Blobs, cache: Path | None, progress: Progress | None) -> Raw:
    import torch

    random = generator("data", "blobs")
    shape = (options.classes, options.features)
    centres = torch.rand(shape, generator=random, dtype=torch.float64) * 20 - 10
    y = torch.arange(options.samples) % options.classes
    noise = torch.randn((options.samples, options.features), generator=random, dtype=torch.float64)
    return _generated(centres[y] + options.spread * noise, y, options)


def _spirals(options: Spirals, cache: Path | None, progress: Progress | None) -> Raw:
    import torch

    random = generator("data", "spirals")
    y = torch.arange(options.samples) % options.classes
    turned = options.turns * torch.rand(options.samples, generator=random, dtype=torch.float64).sqrt()
    angle = 2 * torch.pi * (turned + y.double() / options.classes)
    noise = torch.randn((options.samples, 2), generator=random, dtype=torch.float64)
    arms = turned[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return _generated(arms + options.noise * noise, y, options)


def _functions(options: Functions, cache: Path | None, progress: Progress | None) -> Raw:
    import torch

    dimensions = 2 if options.function == "plane" else 1
    random = generator("data", "functions")
    x = (torch.rand((options.samples, dimensions), generator=random, dtype=torch.float64) * 2 - 1) * 3**0.5
    y = {
        "abs": lambda: x.abs(),
        "sine": lambda: x * (5 * x).sin(),
        "step": lambda: (x > 0).double() + 0.2 * (5 * x).sin(),
        "plane": lambda: torch.stack([(x[:, 0] + x[:, 1]).abs(), (x[:, 0] - x[:, 1]).abs()], 1),
    }[options.function]()
    train = options.samples - _share(options.test_share, options.samples)
    return Raw(x[:train].numpy(), y[:train].numpy(), x[train:].numpy(), y[train:].numpy(), ())


def _line(options: DatasetOptions, cache: Path | None, progress: Progress | None) -> Raw:
    import numpy as np

    x = np.array([[-1.0], [1.0]])
    return Raw(x, np.abs(x), x, np.abs(x), ())


def _point(options: Point, cache: Path | None, progress: Progress | None) -> Raw:
    import numpy as np

    x = np.ones((1, options.features))
    return Raw(x, x[:, :1], x, x[:, :1], ())


def _generated(x: torch.Tensor, y: torch.Tensor, options: Blobs | Spirals) -> Raw:
    if options.samples < 2 * options.classes:
        raise DataError(f"{options.samples} samples are too few for {options.classes} classes; give at least two each")
    names = tuple(map(str, range(options.classes)))
    return _split(x.numpy(), y.numpy(), _share(options.test_share, options.samples), names)


def _fixed(shape: Shape, classes: int, train: int, test: int) -> Callable[[Any], Hints]:
    known = Hints(shape, classes, train, test)
    return lambda options: known


def _generated_hints(options: Any) -> Hints:
    test = _share(options.test_share, options.samples)
    return Hints((getattr(options, "features", 2),), options.classes, options.samples - test, test)


def _functions_hints(options: Functions) -> Hints:
    dimensions, test = 2 if options.function == "plane" else 1, _share(options.test_share, options.samples)
    return Hints((dimensions,), None, options.samples - test, test, dimensions)


DATASETS: Registry[DatasetEntry] = Registry(
    "data set",
    [
        DatasetEntry(
            "digits",
            "Digits",
            "1,797 handwritten digits of 8×8 pixels; comes with scikit-learn",
            "Alpaydin & Kaynak 1998, UCI Machine Learning Repository",
            DatasetOptions,
            _digits,
            _fixed((1, 8, 8), 10, 1797 - _DIGITS_TEST, _DIGITS_TEST),
        ),
        DatasetEntry(
            "mnist",
            "MNIST",
            "70,000 handwritten digits of 28×28 pixels",
            "LeCun et al. 1998",
            Published,
            _published("mnist"),
            _fixed((1, 28, 28), 10, 60_000, 10_000),
        ),
        DatasetEntry(
            "fashion_mnist",
            "Fashion-MNIST",
            "70,000 articles of clothing of 28×28 pixels",
            "Xiao et al. 2017, arXiv 1708.07747",
            Published,
            _published("fashion_mnist"),
            _fixed((1, 28, 28), 10, 60_000, 10_000),
        ),
        DatasetEntry(
            "kmnist",
            "KMNIST",
            "70,000 cursive Japanese characters of 28×28 pixels",
            "Clanuwat et al. 2018, arXiv 1812.01718",
            Published,
            _published("kmnist"),
            _fixed((1, 28, 28), 10, 60_000, 10_000),
        ),
        DatasetEntry(
            "cifar10",
            "CIFAR-10",
            "60,000 colour photographs of 32×32 pixels, 10 classes",
            "Krizhevsky 2009",
            Published,
            _published("cifar10"),
            _fixed((3, 32, 32), 10, 50_000, 10_000),
        ),
        DatasetEntry(
            "cifar100",
            "CIFAR-100",
            "60,000 colour photographs of 32×32 pixels, 100 classes",
            "Krizhevsky 2009",
            Published,
            _published("cifar100"),
            _fixed((3, 32, 32), 100, 50_000, 10_000),
        ),
        DatasetEntry(
            "svhn",
            "SVHN",
            "99,289 colour photographs of house numbers of 32×32 pixels",
            "Netzer et al. 2011",
            Published,
            _published("svhn"),
            _fixed((3, 32, 32), 10, 73_257, 26_032),
        ),
        DatasetEntry(
            "imagefolder",
            "Image folder",
            "your own images: a folder with one folder for each class",
            "—",
            ImageFolder,
            _imagefolder,
            lambda options: Hints((options.channels, options.size, options.size)),
        ),
        DatasetEntry(
            "blobs",
            "Blobs",
            "Gaussian clusters with random centres",
            "scikit-learn's make_blobs, Pedregosa et al. 2011",
            Blobs,
            _blobs,
            _generated_hints,
        ),
        DatasetEntry(
            "spirals",
            "Spirals",
            "intertwined spirals in the plane, which no linear network can tell apart",
            "Lang & Witbrock 1988",
            Spirals,
            _spirals,
            _generated_hints,
        ),
        DatasetEntry(
            "functions",
            "Functions",
            "regression: |x| and other functions on [−√3, √3], on which narrow deep ReLU nets collapse",
            "Lu et al. 2019, arXiv 1903.06733",
            Functions,
            _functions,
            _functions_hints,
        ),
        DatasetEntry(
            "line",
            "Line",
            "the points −1 and +1: all that a ReLU net of one input without biases is made of",
            "Lu et al. 2019, arXiv 1903.06733",
            DatasetOptions,
            _line,
            lambda options: Hints((1,), None, 2, 2, 1),
        ),
        DatasetEntry(
            "point",
            "Point",
            "a single input, (1, …, 1), for networks at birth",
            "Lu et al. 2019, arXiv 1903.06733",
            Point,
            _point,
            lambda options: Hints((options.features,), None, 1, 1, 1),
        ),
    ],
)


def hints_of(options: Any) -> Hints:
    """What is known of the data set that the options name before it is read; nothing of the user's own."""
    return Hints() if ":" in options.name else DATASETS[options.name].hints(options)


def validation_count(train: int, share: float) -> int:
    """How many of so many training samples (after train_size) the validation split takes."""
    return _share(share, train)


def _share(share: float, count: int) -> int:
    return round(share * count)


def load_dataset(options: Any, cache: Path | None = None, progress: Progress | None = None) -> Dataset:
    """The data set that the options name, split, subsampled and normalised.

    `cache` is a folder for decoded images; `progress(done, total)` is called while images are read. Nothing here
    depends on a trial's seed. Each channel (each feature of flat data) gets mean 0 and standard deviation 1 over the
    training split that remains after train_size and validation; constant ones are only centred.
    Raises DataError when the data are missing, damaged, or too few for what the options ask.
    """
    import numpy as np
    import torch

    if ":" in options.name:
        raw, sizes = _user_data(options)
    else:
        raw, sizes = DATASETS[options.name].load(options, cache, progress), options
    _check(options.name, raw)
    train_labels, test_labels = _labels(raw.train_y), _labels(raw.test_y)
    order = _first(balanced_order(train_labels), sizes.train_size, "train_size", "training")
    order, held = _hold_out(train_labels, order, sizes.validation)
    tested = _first(balanced_order(test_labels), sizes.test_size, "test_size", "test")

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
    import numpy as np

    return y if y.ndim == 1 else np.zeros(len(y), np.int64)


def _targets(y: np.ndarray) -> torch.Tensor:
    import torch

    return torch.tensor(y) if y.ndim == 1 else torch.tensor(y, dtype=torch.float32)


def _as_it_is(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    return np.zeros((x.shape[1], 1)), np.ones((x.shape[1], 1))


def _user_data(options: Any) -> tuple[Raw, DatasetOptions]:
    """The arrays of the user's own function, called with the options that are not ours, and the options that are."""
    extra = dict(options.model_extra or {})
    given = {key: extra.pop(key, getattr(options, key, None)) for key in DatasetOptions.model_fields}
    try:
        sizes = DatasetOptions.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(f"{options.name}: {wrong}") from error
    source = import_attribute(options.name)
    try:
        found = source(**extra)
    except ReluexpError:
        raise
    except Exception as error:  # the user's code may raise anything, and all of it is the user's to mend
        raise DataError(f"{options.name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, (tuple, list)) or len(found) != 4:
        raise DataError(f"{options.name} must return (train_x, train_y, test_x, test_y), not {type(found).__name__}")
    train_x, train_y, test_x, test_y = map(_array, found)
    _check_labels(options.name, train_y, test_y)
    names = tuple(str(label) for label in range(int(train_y.max()) + 1))
    return Raw(train_x, train_y, test_x, test_y, names), sizes


def _array(values: Any) -> np.ndarray:
    import numpy as np
    import torch

    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


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
    import numpy as np

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
    if raw.train_x.shape[1:] != raw.test_x.shape[1:]:
        raise DataError(
            f"{name}: training samples are {list(raw.train_x.shape[1:])}, test samples {list(raw.test_x.shape[1:])}"
        )


def balanced_order(labels: np.ndarray) -> np.ndarray:
    """All indices in one fixed random order whose every prefix is as class-balanced as it can be.

    Counts of classes in a prefix differ by at most one, until the smaller classes run out. Depends on the labels alone.
    """
    import numpy as np
    import torch

    random = generator("data", "order")
    shuffled = torch.randperm(len(labels), generator=random).numpy()
    ties = torch.randperm(len(labels), generator=random).numpy()
    ranks = np.empty(len(labels), np.int64)
    ranks[shuffled] = _ranks(labels[shuffled])
    return np.lexsort((ties, ranks))


def _ranks(labels: np.ndarray) -> np.ndarray:
    """For each label, how many equal ones stand before it."""
    import numpy as np

    by_class = np.argsort(labels, kind="stable")
    positions = np.empty(len(labels), np.int64)
    positions[by_class] = np.arange(len(labels))
    return positions - np.searchsorted(labels[by_class], labels)


def _take(labels: np.ndarray, order: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The order without `count` of its indices, and these: an equal share of every class, each's last in the order.

    What remains of a balanced order is balanced again, and its beginning is as it was.
    """
    import numpy as np

    classes = labels[order]
    size = np.bincount(classes)[classes]
    place = (_ranks(classes) + 0.5) / size
    taken = np.zeros(len(order), bool)
    taken[np.argsort(-place, kind="stable")[:count]] = True
    return order[~taken], order[taken]


def _split(x: np.ndarray, y: np.ndarray, test: int, class_names: tuple[str, ...]) -> Raw:
    """A fixed split of the samples with `test` of them in the test split, an equal share of every class."""
    import numpy as np

    train, held = map(np.sort, _take(y, balanced_order(y), test))
    return Raw(x[train], y[train], x[held], y[held], class_names)


def _hold_out(labels: np.ndarray, order: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The order without the validation split, and that split, sorted."""
    import numpy as np

    count = validation_count(len(order), share)
    if share and not 0 < count < len(order):
        raise DataError(
            f"validation: {share} of {len(order)} training samples is {count}; it must take at least one and leave one"
        )
    rest, held = _take(labels, order, count)
    return rest, np.sort(held)


def _first(order: np.ndarray, count: int | None, key: str, split: str) -> np.ndarray:
    if count is not None and count > len(order):
        raise DataError(f"{key}: {count} is more than the {len(order)} {split} samples there are")
    return order[:count]


def _pick(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Those samples, contiguous; labels as int64."""
    import numpy as np

    chosen = values if len(indices) == len(values) else values[indices]
    return np.ascontiguousarray(chosen, np.int64 if chosen.ndim == 1 else None)


def _chunks(x: np.ndarray) -> list[slice]:
    step = max(1, _CHUNK // max(1, x[0].size))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def _channels(x: np.ndarray) -> np.ndarray:
    """The samples as float64 [sample, channel, position]."""
    import numpy as np

    return x.reshape(len(x), x.shape[1], -1).astype(np.float64)


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (1/n) of each channel, float64 [channel, 1]; 1 for a constant channel.

    By numpy, whose sums do not depend on the number of threads.
    """
    import numpy as np

    count = x.size / x.shape[1]
    mean = sum(_channels(x[chunk]).sum((0, 2)) for chunk in _chunks(x))[:, None] / count
    squares = sum(((_channels(x[chunk]) - mean) ** 2).sum((0, 2)) for chunk in _chunks(x))[:, None]
    std = np.sqrt(squares / count)
    # The mean of equal numbers may be off by rounding, and so their spread not quite 0.
    return mean, np.where(std <= 1e-12 * np.abs(mean), 1.0, std)


def _normalise(x: np.ndarray, mean: np.ndarray, std: np.ndarray) -> torch.Tensor:
    import torch

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


def augment_batch(x: torch.Tensor, kind: Augment, generator: torch.Generator) -> torch.Tensor:
    """The images [sample, channel, height, width], each moved by a random number of pixels and perhaps mirrored.

    `shift`: a random crop of the image padded with zeros, 2 pixels wide for 28×28 and 4 for 32×32 (He et al. 2015,
    arXiv 1512.03385); `flip_shift`: also mirrored left to right for half of the samples; `none`: as they are.
    Zero is the channel's mean. Random numbers come from the given CPU generator, whatever the device of x.
    """
    import torch

    if kind == "none":
        return x
    count, channels, height, width = x.shape
    pad = _padding(min(height, width))
    shift = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator).to(x.device)
    rows = shift[0] + torch.arange(height, device=x.device)
    columns = shift[1] + torch.arange(width, device=x.device)
    if kind == "flip_shift":
        flip = torch.randint(0, 2, (count, 1), generator=generator).to(x.device).bool()
        columns = torch.where(flip, columns.flip(1), columns)
    sample = torch.arange(count, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[:, None, None]
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _padding(side: int) -> int:
    """Pixels of padding: an eighth of the side from 32 on, less for smaller images, whose content fills them."""
    return side // 8 if side >= 32 else max(1, side // 14)
