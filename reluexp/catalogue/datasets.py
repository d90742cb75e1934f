"""The data sets that a config can name: options, where each comes from, and what is known of it before it is read.

Importing this module imports neither torch nor numpy; loading a data set does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from reluexp.catalogue.registry import Options, Registry, is_own

if TYPE_CHECKING:
    from reluexp.catalogue.samples import Raw

__all__ = [
    *("DATASETS", "Augment", "Blobs", "DatasetEntry", "DatasetOptions", "Functions", "Hints", "Point", "Progress"),
    *("Published", "Shape", "Spirals", "hints_of", "share_of", "validation_count"),
]

Shape = tuple[int, ...]
Progress = Callable[[int, int], None]
Augment = Literal["none", "shift", "flip_shift"]

_DIGITS_TEST = 360


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
    spread: float = Field(
        1.0, ge=0, le=1e6, description="standard deviation of a cluster; the centres lie in [−10, 10]"
    )
    test_share: float = Field(0.2, gt=0, lt=1, description="share of each class for testing")


class Spirals(DatasetOptions):
    """Options of the intertwined spirals."""

    classes: int = Field(2, ge=2, le=100, description="arms")
    samples: int = Field(2000, ge=4, le=100_000_000, description="samples, training and test together")
    noise: float = Field(0.1, ge=0, le=1e6, description="standard deviation, in units of the radius gained per turn")
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
    """One data set; `load(options, cache, progress)` reads it, `hints(options)` foretells what that will give.

    `stamp(options)` says how the files behind it look from outside, None where they cannot be listed;
    `missing(options)` is what to say of files that are not there.
    """

    name: str
    label: str
    summary: str
    reference: str
    options: type[DatasetOptions]
    load: Callable[[Any, Path | None, Progress | None], Raw]
    hints: Callable[[Any], Hints]
    stamp: Callable[[Any], Any] = lambda options: "made by the code"
    missing: Callable[[Any], str] = lambda options: ""


def _digits(options: DatasetOptions, cache: Path | None, progress: Progress | None) -> Raw:
    from reluexp.catalogue.digits import read_digits
    from reluexp.catalogue.samples import split

    images, labels = read_digits()
    return split(images, labels, _DIGITS_TEST, tuple(map(str, range(10))))


def _published(name: str, label: str, summary: str, reference: str, hints: Hints) -> DatasetEntry:
    """The entry of a data set whose files lie under a root in torchvision's layout."""

    def load(options: Published, cache: Path | None, progress: Progress | None) -> Raw:
        from reluexp.catalogue.published import read_published
        from reluexp.catalogue.samples import Raw

        return Raw(*read_published(name, Path(options.root).expanduser(), options.download))

    def stamp(options: Published) -> list[list[Any]] | None:
        from reluexp.catalogue.published import stamp_published

        return stamp_published(name, Path(options.root).expanduser())

    def missing(options: Published) -> str:
        then = "download it" if options.download else "end there, since download is false"
        place = str(Path(options.root).expanduser())
        return f"{name} is not in {place!r}: run would {then}" if stamp(options) is None else ""

    return DatasetEntry(name, label, summary, reference, Published, load, lambda options: hints, stamp, missing)


def _imagefolder(options: ImageFolder, cache: Path | None, progress: Progress | None) -> Raw:
    from reluexp.catalogue.images import read_folder
    from reluexp.catalogue.samples import Raw, split

    path = Path(options.path).expanduser()
    images = read_folder(path, options.size, options.channels, options.on_error == "skip", cache, progress)
    if images.is_test is None:
        return split(images.x, images.y, share_of(options.test_share, len(images.y)), images.class_names)
    train, test = ~images.is_test, images.is_test
    return Raw(images.x[train], images.y[train], images.x[test], images.y[test], images.class_names)


def _stamp_folder(options: ImageFolder) -> list[list[Any]] | None:
    from reluexp.catalogue.images import stamp_folder

    return stamp_folder(Path(options.path).expanduser())


def _missing_folder(options: ImageFolder) -> str:
    folder = Path(options.path).expanduser()
    return "" if folder.is_dir() else f"there is no folder {str(folder)!r}: run would end there"


def _made(name: str) -> Callable[[Any, Path | None, Progress | None], Raw]:
    def load(options: Any, cache: Path | None, progress: Progress | None) -> Raw:
        from reluexp.catalogue import made

        found: Raw = getattr(made, name)(options)
        return found

    return load


def _generated_hints(options: Any) -> Hints:
    test = share_of(options.test_share, options.samples)
    return Hints((getattr(options, "features", 2),), options.classes, options.samples - test, test)


def _functions_hints(options: Functions) -> Hints:
    dimensions, test = 2 if options.function == "plane" else 1, share_of(options.test_share, options.samples)
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
            lambda options: Hints((1, 8, 8), 10, 1797 - _DIGITS_TEST, _DIGITS_TEST),
        ),
        _published(
            "mnist",
            "MNIST",
            "70,000 handwritten digits of 28×28 pixels",
            "LeCun et al. 1998",
            Hints((1, 28, 28), 10, 60_000, 10_000),
        ),
        _published(
            "fashion_mnist",
            "Fashion-MNIST",
            "70,000 articles of clothing of 28×28 pixels",
            "Xiao et al. 2017, arXiv 1708.07747",
            Hints((1, 28, 28), 10, 60_000, 10_000),
        ),
        _published(
            "kmnist",
            "KMNIST",
            "70,000 cursive Japanese characters of 28×28 pixels",
            "Clanuwat et al. 2018, arXiv 1812.01718",
            Hints((1, 28, 28), 10, 60_000, 10_000),
        ),
        _published(
            "cifar10",
            "CIFAR-10",
            "60,000 colour photographs of 32×32 pixels, 10 classes",
            "Krizhevsky 2009",
            Hints((3, 32, 32), 10, 50_000, 10_000),
        ),
        _published(
            "cifar100",
            "CIFAR-100",
            "60,000 colour photographs of 32×32 pixels, 100 classes",
            "Krizhevsky 2009",
            Hints((3, 32, 32), 100, 50_000, 10_000),
        ),
        _published(
            "svhn",
            "SVHN",
            "99,289 colour photographs of house numbers of 32×32 pixels",
            "Netzer et al. 2011",
            Hints((3, 32, 32), 10, 73_257, 26_032),
        ),
        DatasetEntry(
            "imagefolder",
            "Image folder",
            "your own images: a folder with one folder for each class",
            "—",
            ImageFolder,
            _imagefolder,
            lambda options: Hints((options.channels, options.size, options.size)),
            _stamp_folder,
            _missing_folder,
        ),
        DatasetEntry(
            "blobs",
            "Blobs",
            "Gaussian clusters with random centres",
            "scikit-learn's make_blobs, Pedregosa et al. 2011",
            Blobs,
            _made("blobs"),
            _generated_hints,
        ),
        DatasetEntry(
            "spirals",
            "Spirals",
            "intertwined spirals in the plane, which no linear network can tell apart",
            "Lang & Witbrock 1988",
            Spirals,
            _made("spirals"),
            _generated_hints,
        ),
        DatasetEntry(
            "functions",
            "Functions",
            "regression: |x| and other functions on [−√3, √3], on which narrow deep ReLU nets collapse",
            "Lu et al. 2019, arXiv 1903.06733",
            Functions,
            _made("functions"),
            _functions_hints,
        ),
        DatasetEntry(
            "line",
            "Line",
            "the points −1 and +1: all that a ReLU net of one input without biases is made of",
            "Lu et al. 2019, arXiv 1903.06733",
            DatasetOptions,
            _made("line"),
            lambda options: Hints((1,), None, 2, 2, 1),
        ),
        DatasetEntry(
            "point",
            "Point",
            "a single input, (1, …, 1), for networks at birth",
            "Lu et al. 2019, arXiv 1903.06733",
            Point,
            _made("point"),
            lambda options: Hints((options.features,), None, 1, 1, 1),
        ),
    ],
)


def hints_of(options: Any) -> Hints:
    """What is known of the data set that the options name before it is read; nothing of the user's own."""
    return Hints() if is_own(options) else DATASETS[options.name].hints(options)


def validation_count(train: int, share: float) -> int:
    """How many of so many training samples (after train_size) the validation split takes."""
    return share_of(share, train)


def share_of(share: float, count: int) -> int:
    """A share of so many things, as a whole number."""
    return round(share * count)
