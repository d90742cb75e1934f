"""Random numbers that depend on a seed and a purpose alone, never on global state.

Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator

__all__ = ["derive", "generator"]


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
