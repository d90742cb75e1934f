"""What must be set before torch is imported: the conditions that workers run under, but for their flushed denormals.

(hypothesis refuses to draw numbers where these are flushed.)
"""

import os
from collections.abc import Iterator

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(name="inline")
def _inline() -> Iterator[None]:
    """Studies of this test train in its own process."""
    from inline import inline

    with inline():
        yield
