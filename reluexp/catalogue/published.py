"""Published data sets: what torchvision's layout looks like, how the files are fetched, and how they are read."""

from __future__ import annotations

import codecs
import contextlib
import http.client
import math
import os
import pickle
import shutil
import sys
import tarfile
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from reluexp.errors import DataError
from reluexp.hold import lock_file

__all__ = ["read_published", "stamp_published"]

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]

_FETCH_ERRORS = (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError, zlib.error)
_READ_ERRORS = (pickle.UnpicklingError, OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError)

_reconstruct = np.ndarray(0).__reduce__()[0]  # numpy's own; the module that it lies in has changed its name


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
    try:
        files = sorted(root.absolute().glob(_PUBLISHED[name].files))
        return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files] or None
    except OSError:  # whoever reads them will say why
        return None


_AGAIN = "delete it and run again with download: true, or copy it anew"


def _source(name: str) -> Source:
    import torchvision.datasets

    own = _PUBLISHED[name]
    return own.source(name, getattr(torchvision.datasets, own.torchvision))


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
        folder = root / kind.base_folder
        for file, md5 in listed:
            if not _intact(folder / file, md5):
                raise OSError(f"{folder / file} is not the original")
        train = [_arrays_only(folder / file) for file, _ in kind.train_list]
        test = [_arrays_only(folder / file) for file, _ in kind.test_list]
        names = _arrays_only(folder / kind.meta["filename"])[kind.meta["key"]]
        return *_channels_first(train), *_channels_first(test), tuple(map(str, names))

    archive = Archive((kind.url,), kind.filename, kind.tgz_md5)
    return Source(name, {f"{kind.base_folder}/{file}": md5 for file, md5 in listed}, [archive], read)


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles of arrays and plain data; whatever else one may ask for is refused, not run."""

    _allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): codecs.encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong in a data set")
        return self._allowed[module, name]


def _arrays_only(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, warnings.catch_warnings():
        # These files are of numpy 1's age and say align=0, at which numpy 2.4 warns.
        warnings.filterwarnings("ignore", message=".*align should be passed")
        found: dict[str, Any] = _ArraysOnly(file, encoding="latin1").load()
    return found


def _channels_first(parts: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    x = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32)
    labels = [label for part in parts for label in part.get("labels", part.get("fine_labels", []))]
    return x, np.array(labels, np.int64)


def _svhn(name: str, kind: Any) -> Source:
    archives = [Archive((url,), path, md5) for url, path, md5 in map(kind.split_list.get, ("train", "test"))]

    def read(root: Path) -> Arrays:
        train, test = kind(root, "train"), kind(root, "test")
        return train.data, train.labels, test.data, test.labels, tuple("0123456789")

    return Source(name, {archive.path: archive.md5 for archive in archives}, archives, read)


class _Published(NamedTuple):
    """What torchvision calls a data set, a pattern of its files under the root, and its source."""

    torchvision: str
    files: str
    source: Callable[[str, Any], Source]


_PUBLISHED = {
    "mnist": _Published("MNIST", "MNIST/raw/*-ubyte", _mnist),
    "fashion_mnist": _Published("FashionMNIST", "FashionMNIST/raw/*-ubyte", _mnist),
    "kmnist": _Published("KMNIST", "KMNIST/raw/*-ubyte", _mnist),
    "cifar10": _Published("CIFAR10", "cifar-10-batches-py/*", _cifar),
    "cifar100": _Published("CIFAR100", "cifar-100-python/*", _cifar),
    "svhn": _Published("SVHN", "*_32x32.mat", _svhn),
}


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
            with lock_file(root / f".{source.name}"):
                _fetch(source, root)
    except _FETCH_ERRORS as error:
        raise DataError(_instructions(source, root, f"could not be fetched: {error}")) from error
    if _missing(source, root):
        raise DataError(_instructions(source, root, "download is off"))


def _missing(source: Source, root: Path) -> list[str]:
    return [path for path in source.files if not _is_file(root / path)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file system can hold, a folder that may not be read
        return False


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
    spoilt = [str(root / archive.path) for archive in _needed(source, root) if _is_file(root / archive.path)]
    return "\n".join(
        [
            f"{source.name} is not in {root} ({reason}). Fetch these files, put them where the arrows point (they are "
            "unpacked from there) and run again, or set root to the folder that has them:",
            *lines,
            *(f"  ({path} is there, but damaged)" for path in spoilt),
        ]
    )
