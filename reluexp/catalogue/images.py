"""The user's own images: a folder with one folder for each class."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from reluexp.errors import DataError

__all__ = ["Images", "read_folder", "read_image", "stamp_folder"]

Progress = Callable[[int, int], None]


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


def stamp_folder(root: Path) -> list[list[Any]] | None:
    """Path, label, split, size in bytes and time of change in ns of each image; None where they cannot be listed."""
    try:
        files, _, _ = _listing(root)
    except (OSError, DataError):
        return None
    return [[str(file.path.absolute()), file.label, file.is_test, *file.stamp] for file in files]


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
