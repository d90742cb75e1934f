"""Data sets laid out once per machine, as arrays that every worker maps into its memory instead of copying them."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reluexp.catalogue.datasets import DATASETS
from reluexp.catalogue.registry import is_own
from reluexp.config import identity
from reluexp.environment import version_of
from reluexp.errors import DamagedError, DataError
from reluexp.hold import lock_file
from reluexp.planning.plan import NUMERICS
from reluexp.store.files import digest, digest_file, flush_folder, new_folder, seal, unseal, write_file, write_whole

if TYPE_CHECKING:
    from reluexp.catalogue.loading import Dataset

__all__ = ["Shelf"]

_TENSORS = ("train_x", "train_y", "test_x", "test_y", "validation_x", "validation_y", "probe_order")
_FACTS = ("name", "input_shape", "classes", "outputs", "class_names", "fingerprint")
_DECIDE = ("numpy", "torch", "torchvision", "scikit-learn", "pillow")

logger = logging.getLogger(__name__)


class Shelf:
    """The folder that keeps data sets, each under its fingerprint. It may be deleted at any time."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.folder = cache / "data"

    def recall(self, options: Any) -> str | None:
        """The fingerprint of the data that the options name, without reading them; None where it takes reading."""
        key = _key(options)
        if key is None:
            return None
        try:
            return str(unseal(self._source(key).read_bytes())["fingerprint"])
        except (OSError, DamagedError, KeyError):
            return None

    def obtain(self, options: Any, read: Callable[[], Dataset]) -> tuple[Dataset, Path | None]:
        """The data set, from the shelf where its files are unchanged, else read and shelved; and where it lies.

        A disk that refuses costs the other workers' time, not the run: then there is no place.
        """
        known = self.recall(options)
        if known:
            with suppress(DamagedError):
                self._verify(known)
                return self.take(self.folder / known), self.folder / known
        data = read()
        try:
            place = self._put(data)
            key = _key(options)
            if key:
                write_whole(self._source(key), seal({"fingerprint": data.fingerprint}))
            return self.take(place), place
        except OSError as error:
            logger.warning("the data set %s cannot be kept in %s: %s", data.name, self.folder, error)
            return data, None

    @staticmethod
    def take(place: Path) -> Dataset:
        """The data set that lies there, its arrays mapped into memory. Raises DataError when it has gone."""
        import numpy as np
        import torch

        from reluexp.catalogue.loading import Dataset

        try:
            facts = unseal((place / "about.json").read_bytes())
            # Copy on write: pages are shared between processes, and nobody can change the file by accident.
            arrays = {name: np.load(place / f"{name}.npy", mmap_mode="c") for name in facts["tensors"]}
        except (OSError, ValueError, DamagedError) as error:
            raise DataError(f"{place} cannot be read: {error}; run again") from error
        tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
        facts["input_shape"], facts["class_names"] = tuple(facts["input_shape"]), tuple(facts["class_names"])
        return Dataset(**{**dict.fromkeys(_TENSORS), **tensors, **{name: facts[name] for name in _FACTS}})

    def _put(self, data: Dataset) -> Path:
        """Lays a data set out unless it lies there whole; one process at a time, so that nobody removes another's."""
        place = self.folder / data.fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock_file(self.folder / data.fingerprint):
            with suppress(DamagedError):
                self._verify(data.fingerprint)
                return place
            for left in self.folder.glob(f".{data.fingerprint}.*.tmp"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            self._lay_out(data, place)
        return place

    def _lay_out(self, data: Dataset, place: Path) -> None:
        tensors = {name: tensor for name in _TENSORS if (tensor := getattr(data, name)) is not None}
        with new_folder(self.folder, data.fingerprint) as fresh:
            sums = {}
            for name, tensor in tensors.items():
                content = _npy(tensor.numpy())
                write_file(fresh / f"{name}.npy", content)
                sums[name] = digest(content)
            facts = {name: getattr(data, name) for name in _FACTS}
            write_file(fresh / "about.json", seal({**facts, "tensors": sums}))
            flush_folder(fresh)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(fresh, place)
            flush_folder(self.folder)

    def _verify(self, fingerprint: str) -> None:
        """Raises DamagedError unless the data set lies there whole."""
        place = self.folder / fingerprint
        try:
            facts = unseal((place / "about.json").read_bytes())
            for name, told in facts["tensors"].items():
                if digest_file(place / f"{name}.npy") != told:
                    raise DamagedError(f"{name}: altered")
        except (OSError, KeyError, AttributeError) as error:
            raise DamagedError(str(error)) from error

    def _source(self, key: str) -> Path:
        return self.folder / f"{key}.source.json"


def _npy(array: Any) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _key(options: Any) -> str | None:
    """A name that changes with whatever can change the data; None where only reading them can tell."""
    stamp = None if is_own(options) else DATASETS[options.name].stamp(options)
    if stamp is None:
        return None
    versions: Mapping[str, str] = {name: version_of(name) for name in _DECIDE}
    content = [NUMERICS, identity(options), str(getattr(options, "root", "")), stamp, versions]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
