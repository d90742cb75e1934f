"""Whether there are kernels for a tensor: on GPUs, where Triton is and can compile."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

__all__ = ["kernels_for", "refusal"]


def kernels_for(x: Tensor) -> ModuleType | None:
    """`reluexp.networks.kernels`, for single precision, or None where torch's own operations must do.

    Triton launches on the current device, whatever device a tensor is on.
    """
    here = x.is_cuda and x.dtype == torch.float32 and x.get_device() == torch.cuda.current_device()
    return _tried()[0] if here else None


def refusal() -> str | None:
    """Why this process went without kernels where it wanted some, if Triton refused to compile them."""
    return _tried()[1] if _tried.cache_info().currsize else None


@cache
def _tried() -> tuple[ModuleType | None, str | None]:
    try:
        from reluexp.networks import kernels
    except ImportError:
        return None, None
    try:
        one = torch.ones(1, 1, 1, 1, 1, device="cuda")
        kernels.convolved(one, one.view(1, 1, 1), None, (1, 1), (1, 1), ((1, 1), (0, 0), (1, 1)), "ieee")
    except torch.OutOfMemoryError:  # says nothing about kernels, which take less than what stands in for them
        raise
    except Exception as error:  # whatever a missing compiler or an old GPU makes Triton raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return None, f"convolutions took longer than they might: Triton could not compile kernels ({reason})"
    return kernels, None
