"""Whether there are kernels for a tensor: on GPUs, where Triton is and can compile."""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

__all__ = ["kernels_for"]


def kernels_for(x: Tensor) -> ModuleType | None:
    """`reluexp.networks.kernels`, for single precision, or None where torch's own operations must do."""
    return _kernels() if x.is_cuda and x.dtype == torch.float32 else None


@cache
def _kernels() -> ModuleType | None:
    try:
        from reluexp.networks import kernels
    except ImportError:
        return None
    try:
        kernels.pooled(torch.ones(1, 2, 2, 1, device="cuda"))
    except Exception as error:  # whatever a missing compiler or an old GPU makes Triton raise
        text = f"convolutions will be slower: Triton compiles no kernels here ({type(error).__name__}: {error})"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return None
    return kernels
