"""Images from files: published sets in torchvision's layout, and the user's own folders of images."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import math
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from filelock import FileLock
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from reluexp.errors import DataError

__all__ = ["Images", "read_folder", "read_image", "read_published", "stamp_folder", "stamp_published"]

Progress = Callable[[int, int], None]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]

_TORCHVISION = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
}
_FILES = {
    "mnist": "MNIST/raw/*-ubyte",
    "fashion_mnist": "FashionMNIST/raw/*-ubyte",
    "kmnist": "KMNIST/raw/*-ubyte",
    "cifar10": "cifar-10-batches-py/*",
    "cifar100": "cifar-100-python/*",
    "svhn": "*_32x32.mat",
}
_FETCH_ERRORS = (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError, zlib.error)
_READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError)

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
# Named, so that a file which only pretends to be one of these cannot reach the interpreter of another format.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_CACHE_VERSION = 1

logger = logging.getLogger(__name__)

# All of PIL's formats at once: loading them when the first image wants them is a race between threads.
Image.init()


class Images(NamedTuple):
    """Images uint8 [sample, channel, height, width] and their labels; `is_test` None where the folder does not say."""

    x: np.ndarray
    y: np.ndarray
    is_test: np.ndarray | None
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Archive:
    """One file to fetch: where from (any of the addresses), where to (under the root), and its MD5."""

    urls: tuple[str, ...]
    path: str
    md5: str


@dataclass(frozen=True)
class Source:
    """A published data set: the files that are read (with their MD5 where known), those to fetch, and how to read."""

    name: str
    files: dict[str, str | None]
    archives: list[Archive]
    read: Callable[[Path], Arrays]


def read_published(name: str, root: Path, download: bool) -> Arrays:
    """Training images uint8 [sample, channel, height, width] and labels, the same for testing, and class names.

    Raises DataError when files are missing and cannot be fetched, or are damaged.
    """
    source = _source(name)
    _obtain(source, root, download)
    try:
        return source.read(root)
    except _READ_ERRORS as error:
        damaged = [str(root / path) for path, md5 in source.files.items() if not _intact(root / path, md5)]
        if damaged:
            reason = "its MD5 is not the original's" if len(damaged) == 1 else "their MD5s are not the originals'"
            raise DataError(f"{name}: damaged: {', '.join(damaged)} ({reason}); {_AGAIN}") from error
        raise DataError(f"{name}: the files in {root} cannot be read: {error}") from error


def stamp_published(name: str, root: Path) -> list[list[Any]] | None:
    """Names, sizes and times of change of a published data set's files; None where there are none."""
    files = sorted(root.absolute().glob(_FILES[name]))
    return [[str(file), *_stamp(file)] for file in files] or None


def stamp_folder(root: Path) -> list[list[Any]] | None:
    """The same of a folder of images; None where it cannot be listed."""
    try:
        files, _, _ = _listing(root)
    except (OSError, DataError):
        return None
    return [[str(file.path.absolute()), file.label, file.is_test, *file.stamp] for file in files]


_AGAIN = "delete it and run again with download: true, or copy it anew"


def _source(name: str) -> Source:
    import torchvision.datasets

    kind = getattr(torchvision.datasets, _TORCHVISION[name])
    if name == "svhn":
        return _svhn(name, kind)
    return _cifar(name, kind) if name.startswith("cifar") else _mnist(name, kind)


def _mnist(name: str, kind: Any) -> Source:
    folder = f"{kind.__name__}/raw"
    archives = [
        Archive(tuple(mirror + file for mirror in kind.mirrors), f"{folder}/{file}", md5)
        for file, md5 in kind.resources
    ]
    files = [archive.path.removesuffix(".gz") for archive in archives]

    def read(root: Path) -> Arrays:
        train_x, train_y, test_x, test_y = (_idx(root / file) for file in files)
        _check_pair(root / files[0], train_x, root / files[1], train_y)
        _check_pair(root / files[2], test_x, root / files[3], test_y)
        names = tuple(label.partition(" - ")[0] for label in kind.classes)
        return train_x[:, None], train_y, test_x[:, None], test_y, names

    return Source(name, dict.fromkeys(files), archives, read)


def _idx(path: Path) -> np.ndarray:
    """The unsigned bytes of a file in the IDX format (LeCun et al. 1998): images [sample, row, column] or labels."""
    data = path.read_bytes()
    dimensions = 3 if "images" in path.name else 1
    header = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(f"damaged: {path} begins with 0x{data[:4].hex()}, not 0x0000080{dimensions}; {_AGAIN}")
    if len(data) < header:
        raise DataError(f"damaged: {path} ends within its header; {_AGAIN}")
    shape = [int(length) for length in np.frombuffer(data, ">u4", dimensions, 4)]
    if len(data) - header != math.prod(shape):
        raise DataError(f"damaged: {path} has {len(data)} bytes, not {header + math.prod(shape)}; {_AGAIN}")
    return np.frombuffer(bytearray(data), np.uint8, offset=header).reshape(shape)


def _check_pair(images: Path, x: np.ndarray, labels: Path, y: np.ndarray) -> None:
    if x.shape[1:] != (28, 28):
        raise DataError(f"damaged: the images in {images} have {list(x.shape[1:])} pixels, not [28, 28]; {_AGAIN}")
    if len(x) != len(y):
        raise DataError(f"damaged: {images} has {len(x)} images but {labels} {len(y)} labels; {_AGAIN}")
    if len(y) and y.max() > 9:
        raise DataError(f"damaged: {labels} has the label {y.max()}, above 9; {_AGAIN}")


def _cifar(name: str, kind: Any) -> Source:
    listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]

    def read(root: Path) -> Arrays:
        with warnings.catch_warnings():
            # The pickles are of numpy 1's age and say align=0, at which numpy 2.4 warns.
            warnings.filterwarnings("ignore", message=".*align should be passed")
            train, test = kind(root, train=True), kind(root, train=False)
        return *_channels_first(train), *_channels_first(test), tuple(train.classes)

    archive = Archive((kind.url,), kind.filename, kind.tgz_md5)
    return Source(name, {f"{kind.base_folder}/{file}": md5 for file, md5 in listed}, [archive], read)


def _channels_first(part: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.array(part.targets, np.int64)


def _svhn(name: str, kind: Any) -> Source:
    archives = [Archive((url,), path, md5) for url, path, md5 in map(kind.split_list.get, ("train", "test"))]

    def read(root: Path) -> Arrays:
        train, test = kind(root, "train"), kind(root, "test")
        return train.data, train.labels, test.data, test.labels, tuple("0123456789")

    return Source(name, {archive.path: archive.md5 for archive in archives}, archives, read)


def _intact(path: Path, md5: str | None) -> bool:
    from torchvision.datasets.utils import check_integrity

    return bool(check_integrity(path, md5))


def _obtain(source: Source, root: Path, download: bool) -> None:
    """Sees to it that the files lie under the root: as they are, unpacked from archives there, or downloaded."""
    if not _missing(source, root):
        return
    try:
        if download or all(_intact(root / archive.path, archive.md5) for archive in _needed(source, root)):
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{source.name}.lock"):
                _fetch(source, root)
    except _FETCH_ERRORS as error:
        raise DataError(_instructions(source, root, f"could not be fetched: {error}")) from error
    if _missing(source, root):
        raise DataError(_instructions(source, root, "download is off"))


def _missing(source: Source, root: Path) -> list[str]:
    return [path for path in source.files if not (root / path).is_file()]


def _needed(source: Source, root: Path) -> list[Archive]:
    """The archives of the missing files: those of like name, or the one that holds all."""
    missing = _missing(source, root)
    alike = [archive for archive in source.archives if archive.path.removesuffix(".gz") in missing]
    return alike or (source.archives if missing else [])


def _fetch(source: Source, root: Path) -> None:
    """Fetches and unpacks in a folder apart, so that nobody ever sees half a file.

    The folder keeps its name: a download that was broken off goes on with what it lacks.
    """
    needed = _needed(source, root)
    if not needed:  # another process fetched them while this one waited for the lock
        return
    stage = root / f".{source.name}.part"
    with contextlib.redirect_stdout(sys.stderr):
        for archive in needed:
            _unpack(archive, root, stage, archive.path in source.files)
    for path in _missing(source, root):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(stage / path, root / path)
    shutil.rmtree(stage)


def _unpack(archive: Archive, root: Path, stage: Path, plain: bool) -> None:
    """Brings the archive's content into the stage, from the archive under the root if it is there."""
    from torchvision.datasets.utils import extract_archive

    target = stage / archive.path
    target.parent.mkdir(parents=True, exist_ok=True)
    local = _intact(root / archive.path, archive.md5)
    if not local:
        _download(archive, target)
    if not plain:
        extract_archive(root / archive.path if local else target, target.parent)


def _download(archive: Archive, target: Path) -> None:
    from torchvision.datasets.utils import download_url

    failed = []
    for url in archive.urls:
        try:
            return download_url(url, target.parent, target.name, archive.md5)
        except _FETCH_ERRORS as error:
            failed.append(f"{url}: {error}")
    raise OSError("; ".join(failed))


def _instructions(source: Source, root: Path, reason: str) -> str:
    lines = [f"  {archive.urls[0]}  →  {root / archive.path}" for archive in _needed(source, root)]
    spoilt = [str(root / archive.path) for archive in _needed(source, root) if (root / archive.path).is_file()]
    return "\n".join(
        [
            f"{source.name} is not in {root} ({reason}). Fetch these files, put them where the arrows point (they are "
            "unpacked from there) and run again, or set root to the folder that has them:",
            *lines,
            *(f"  ({path} is there, but damaged)" for path in spoilt),
        ]
    )


@dataclass(frozen=True)
class _File:
    """One image of a folder of images; `stamp` is its size in bytes and time of change in ns."""

    path: Path
    label: int
    is_test: bool
    stamp: tuple[int, int]


def read_folder(
    root: Path, size: int, channels: int, skip: bool, cache: Path | None = None, progress: Progress | None = None
) -> Images:
    """Every image of a folder of class folders, or of train/ and test/ with class folders in each.

    Images are turned upright as their EXIF data say, cropped to the central square and scaled to `size` pixels. Those
    that cannot be read stop it all, named in one DataError, or are left out with a warning. The `cache` folder keeps
    the result until a file's name, size or time of change differs.
    Raises DataError also when there is no folder, no image, only one class, or a class without images.
    """
    try:
        files, class_names, divided = _listing(root)
    except OSError as error:
        raise DataError(f"imagefolder: {root} cannot be listed: {error}") from error
    store = _store(cache, root, files, (size, channels, skip)) if cache else None
    found = _from_cache(store, (channels, size, size), len(files)) if store else None
    x, problems = found or _read_all(files, root, size, channels, progress)
    if problems:
        _report(root, problems, len(files), skip)
    if store and not found:
        _to_cache(store, x, problems)
    kept = [file for file in files if str(file.path.relative_to(root)) not in problems]
    _check_classes(root, kept, class_names, "no image that can be read" if problems else "no image")
    is_test = np.array([file.is_test for file in kept]) if divided else None
    return Images(x, np.array([file.label for file in kept], np.int64), is_test, class_names)


def _listing(root: Path) -> tuple[list[_File], tuple[str, ...], bool]:
    """All image files in a fixed order, the names of the classes, and whether the folder has train/ and test/."""
    if not root.is_dir():
        raise DataError(f"imagefolder: there is no folder {root}")
    train, test = root / "train", root / "test"
    if divided := train.is_dir() and test.is_dir():
        splits = [(train, False), (test, True)]
    elif any(_folders(split) for split in (train, test) if split.is_dir()):
        raise DataError(
            f"imagefolder: {root} has only one of the folders train and test; both or neither must be there"
        )
    else:
        splits = [(root, False)]
    names = _folders(splits[0][0])
    if divided and (unknown := sorted(set(_folders(test)) - set(names))):
        raise DataError(f"imagefolder: {test} has classes that {train} lacks: {', '.join(unknown[:10])}")
    if len(names) < 2:
        raise DataError(
            f"imagefolder: {splits[0][0]} has {len(names)} class folders; at least two are needed, "
            "each named as its class and with its images in it"
        )
    files = [
        _File(path, label, is_test, _stamp(path))
        for split, is_test in splits
        for label, name in enumerate(names)
        if (split / name).is_dir()
        for path in _walk(split / name, frozenset({os.path.realpath(root)}))
    ]
    return files, tuple(names), divided


def _folders(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """The image files below a folder, through links, but not through those that lead back up."""
    here = os.path.realpath(folder)
    if here in above:
        return
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_dir():
            yield from _walk(child, above | {here})
        elif child.suffix.lower() in _SUFFIXES and (child.is_file() or child.is_symlink()):
            yield child


def _stamp(path: Path) -> tuple[int, int]:
    """(−1, −1) for a link to nowhere, which reading will report."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _check_classes(root: Path, files: list[_File], names: tuple[str, ...], lack: str) -> None:
    present = {file.label for file in files if not file.is_test}
    if empty := [name for label, name in enumerate(names) if label not in present]:
        suffixes = " ".join(sorted(_SUFFIXES))
        raise DataError(f"imagefolder: {lack} ({suffixes}) in {root} of class {', '.join(empty[:10])}")


def _read_all(
    files: list[_File], root: Path, size: int, channels: int, progress: Progress | None
) -> tuple[np.ndarray, dict[str, str]]:
    """The images that can be read, in order, and why others cannot, by relative path."""
    x = np.empty((len(files), channels, size, size), np.uint8)

    def read(index: int) -> str | None:
        try:
            x[index] = read_image(files[index].path, size, channels)
        except Exception as error:  # decoders raise anything on foreign bytes: struct.error, SyntaxError, IndexError …
            unknown = isinstance(error, UnidentifiedImageError)
            return "not an image" if unknown else str(error) or type(error).__name__
        return None

    reasons = []
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for reason in pool.map(read, range(len(files))):
            reasons.append(reason)
            if progress:
                progress(len(reasons), len(files))
    good = np.array([reason is None for reason in reasons], bool)
    problems = {
        str(file.path.relative_to(root)): reason
        for file, reason in zip(files, reasons, strict=True)
        if reason is not None
    }
    return x if good.all() else x[good], problems


def _report(root: Path, problems: dict[str, str], total: int, skip: bool) -> None:
    named = "; ".join(f"{path} ({reason})" for path, reason in list(problems.items())[:10])
    more = "; …" if len(problems) > 10 else ""
    text = f"imagefolder: {len(problems)} of {total} images in {root} cannot be read: {named}{more}"
    if not skip:
        raise DataError(f"{text}. Mend or remove them, or set on_error: skip")
    logger.warning("%s; they are left out", text)


def read_image(path: Path, size: int, channels: int) -> np.ndarray:
    """The first frame of an image file as uint8 [channel, size, size]; transparency is laid over white."""
    with Image.open(path, formats=_FORMATS) as image:
        # Decoding finds most damage, but not a wrong checksum of a PNG; verifying does, and closes the file.
        image.verify()
    with Image.open(path, formats=_FORMATS) as image:
        # A JPEG is decoded at about the size that is needed, which for photographs takes a fraction of the time.
        image.draft(None, (2 * size, 2 * size))
        image.load()
        flat = _flat(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    side = min(flat.size)
    left, top = (flat.width - side) // 2, (flat.height - side) // 2
    # Cropped before scaling: ImageOps.fit lets pixels from outside the crop bleed into its edge.
    square = flat.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square).reshape(size, size, channels).transpose(2, 0, 1)


def _flat(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel and nothing to see through."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("pixels of more than 16 bits")
        return Image.fromarray((values.astype(np.uint32) // 257).astype(np.uint8))
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return image


def _store(cache: Path, root: Path, files: list[_File], options: tuple[int, int, bool]) -> Path:
    """Where the decoded images are kept: a name that changes with anything that could change a pixel."""
    listed = [[str(file.path.relative_to(root)), *file.stamp] for file in files]
    key = [_CACHE_VERSION, PIL.__version__, str(root.resolve()), options, listed]
    return cache / f"images-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.safetensors"


def _from_cache(store: Path, shape: tuple[int, ...], count: int) -> tuple[np.ndarray, dict[str, str]] | None:
    if not store.exists():
        return None
    try:
        with safe_open(store, "numpy") as file:
            metadata, x = file.metadata() or {}, file.get_tensor("x")
        problems = json.loads(metadata["problems"])
        if x.shape == (count - len(problems), *shape) and metadata["sha256"] == _digest(x):
            return x, problems
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("the image cache %s is damaged (%s) and is made anew", store, error)
        return None
    logger.warning("the image cache %s is damaged and is made anew", store)
    return None


def _to_cache(store: Path, x: np.ndarray, problems: dict[str, str]) -> None:
    """Writes the cache whole or not at all; a disk that refuses costs the next run's time, not this run."""
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store.parent, prefix=".images-") as folder:
            whole = Path(folder) / store.name
            save_file({"x": x}, whole, {"problems": json.dumps(problems), "sha256": _digest(x)})
            os.replace(whole, store)
    except (OSError, SafetensorError) as error:
        logger.warning("the image cache %s cannot be written: %s", store, error)


def _digest(x: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()
