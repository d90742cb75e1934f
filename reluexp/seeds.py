"""Random numbers that depend on a seed and a purpose alone, never on global state.

Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator

__all__ = ["derive", "generator", "kept_globals", "seed_globals", "seeded_globals"]


_quoted = lru_cache(json.dumps)


def derive(*key: int | str) -> int:
    """A 63-bit number that is a function of the key, the same on every machine and in every version."""
    parts = [str(part) if isinstance(part, int) else _quoted(part) for part in key]
    digest = hashlib.blake2b(f"[{', '.join(parts)}]".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*key: int | str) -> Generator:
    """A fresh CPU generator seeded by the key, such as (seed, "order", epoch)."""
    import torch

    return torch.Generator().manual_seed(derive(*key))


def seed_globals(*key: int | str) -> None:
    """Seeds what code of the user's may draw from: torch's, NumPy's and Python's own global generators."""
    import numpy as np
    import torch

    number = derive(*key)
    torch.manual_seed(number)
    np.random.seed(number % 2**32)
    random.seed(number)


@contextmanager
def seeded_globals(*key: int | str) -> Iterator[None]:
    """The same for the time of a block; afterwards all are as they were, but for those of GPUs."""
    import torch

    with torch.random.fork_rng(devices=[]), kept_globals():
        seed_globals(*key)
        yield


@contextmanager
def kept_globals() -> Iterator[None]:
    """Afterwards NumPy's and Python's own generators are as they were."""
    import numpy as np

    pythons, numpys = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)
