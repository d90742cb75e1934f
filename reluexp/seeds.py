"""Random numbers that depend on a seed and a purpose alone, never on global state.

Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator

__all__ = ["derive", "generator"]


def derive(*key: int | str) -> int:
    """A 63-bit number that is a function of the key, the same on every machine and in every version."""
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*key: int | str) -> Generator:
    """A fresh CPU generator seeded by the key, such as (seed, "order", epoch)."""
    import torch

    return torch.Generator().manual_seed(derive(*key))
