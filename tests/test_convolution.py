"""A stack's convolutions and max pools against torch's own: by products, by slices, and by kernels for GPUs.

Kernels run on a CPU in Triton's interpreter, which has to be chosen before Triton is imported: hence in a process of
their own, which runs this file.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import reluexp
from reluexp import networks
from reluexp.engine.work import settle_torch
from reluexp.networks import compiled, convolution, pooling
from reluexp.networks.convolution import _summed_product, convolve
from reluexp.networks.pooling import max_pool2d

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
DEVICES = ["cpu"] if INTERPRETED else ["cpu", pytest.param("cuda", marks=CUDA)]
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kernel was called, where they are interpreted."""
    counted: Counter[str] = Counter()
    if INTERPRETED:
        from reluexp.networks import kernels

        for user in (convolution, pooling):
            monkeypatch.setattr(user, "kernels_for", lambda x: kernels if x.dtype == torch.float32 else None)
        monkeypatch.setattr(kernels, "_LONG", 128)  # that few positions make several parts
        for name in kernels.__all__:
            monkeypatch.setattr(kernels, name, _counted(counted, name, getattr(kernels, name)))
    return counted


def _counted(counted: Counter[str], name: str, function: Any) -> Any:
    def called(*args: Any) -> Any:
        counted[name] += 1
        return function(*args)

    return called


@pytest.fixture
def untried() -> Iterator[None]:
    compiled._tried.cache_clear()
    yield
    compiled._tried.cache_clear()


def _planted(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Kernels whose first call raises that."""

    def convolved(*args: Any) -> None:
        raise error

    module = ModuleType("reluexp.networks.kernels")
    monkeypatch.setattr(module, "convolved", convolved, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(networks, "kernels", module, raising=False)
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *size, device: ones(*size))


def test_where_no_kernel_can_be_compiled_it_is_said_why(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _planted(monkeypatch, RuntimeError("no C compiler\nat all"))
    assert compiled.refusal() is None  # nobody has asked for any
    assert compiled._tried()[0] is None
    assert "Triton could not compile kernels (RuntimeError: no C compiler)" in str(compiled.refusal())


@pytest.mark.usefixtures("inline")
def test_a_run_says_once_why_it_went_without_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "refusal", lambda: "no kernels here")
    data = {"name": "digits", "train_size": 60, "test_size": 30}
    events: list[dict[str, Any]] = []
    reluexp.run(
        {"study": "s", "dataset": data, "train": {"epochs": 1}, "seeds": 2}, tmp_path, stack=1, listener=events.append
    )
    assert sum(event["event"] == "done" for event in events) == 2
    assert [event["text"] for event in events if event["event"] == "note"] == ["no kernels here"]


def test_want_of_memory_is_no_refusal(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _planted(monkeypatch, torch.OutOfMemoryError("no memory"))
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            compiled._tried()
    assert compiled.refusal() is None


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="this is that process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="there is no Triton")
def test_kernels_compute_what_is_computed_without_them() -> None:
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "is_a_convolution or torchs or memory",
    ]
    found = subprocess.run(
        [*words, __file__], env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
    assert " passed" in found.stdout


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "sides", "inputs", "outputs", "samples"),
    [
        ((3, 3), (1, 1), (1, 1), (1, 1), (8, 7), 3, 5, 4),
        ((3, 3), (2, 2), (1, 1), (1, 1), (8, 9), 3, 5, 4),
        ((5, 3), (1, 2), (2, 0), (1, 1), (9, 9), 1, 2, 3),
        ((1, 1), (1, 1), (0, 0), (1, 1), (4, 4), 6, 3, 2),
        ((1, 1), (2, 2), (0, 0), (1, 1), (5, 4), 6, 3, 2),
        ((3, 2), (1, 1), (0, 1), (2, 1), (9, 8), 2, 4, 4),
        ((3, 3), (1, 1), (2, 2), (1, 1), (6, 6), 2, 2, 1),
        ((1, 1), (1, 1), (1, 1), (1, 1), (4, 5), 2, 3, 4),
        ((3, 3), (1, 1), (1, 1), (1, 1), (40, 41), 2, 3, 24),
        ((3, 3), (1, 1), (1, 1), (1, 1), (7, 9), 2, 3, 45),
        ((3, 3), (1, 1), (1, 1), (1, 1), (7, 9), 2, 3, 47),
        ((3, 3), (1, 1), (1, 1), (1, 1), (5, 6), 8, 4, 2),
        ((3, 2), (1, 1), (1, 0), (1, 1), (5, 4), 16, 32, 2),
        ((3, 3), (2, 1), (0, 1), (1, 2), (7, 9), 4, 12, 3),
        ((3, 3), (1, 1), (1, 1), (1, 1), (5, 4), 32, 16, 2),
        ((1, 1), (1, 1), (0, 0), (1, 1), (3, 4), 32, 64, 2),
        ((3, 3), (1, 1), (1, 1), (1, 1), (4, 5), 65, 3, 2),
        ((2, 2), (1, 1), (0, 0), (1, 1), (4, 5), 3, 65, 2),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
def test_a_convolution_by_products_is_a_convolution(
    device: str, kernel: Any, stride: Any, padding: Any, dilation: Any, sides: Any, inputs: int, outputs: int,
    samples: int, biased: bool, dtype: torch.dtype, calls: Counter[str],
) -> None:  # fmt: skip
    if INTERPRETED and (dtype != torch.float32 or samples > 4):
        pytest.skip("an interpreter takes minutes for many samples, and kernels are for single precision")
    settle_torch()
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, generator=random).to(device).requires_grad_()

    x, weight = drawn(3, samples, inputs, *sides), drawn(3, outputs, inputs, *kernel)
    bias = drawn(3, outputs) if biased else None
    found = convolve(x, weight, bias, stride, padding, dilation)
    expected = torch.stack(
        [F.conv2d(x[i], weight[i], None if bias is None else bias[i], stride, padding, dilation) for i in range(3)]
    )
    leaves = [leaf for leaf in (x, weight, bias) if leaf is not None]

    def close(own: torch.Tensor, other: torch.Tensor) -> None:
        size = float(other.detach().abs().max())
        torch.testing.assert_close(own, other, rtol=0, atol=size * ROUNDING[dtype])

    close(found, expected)
    g = torch.randn(found.shape, dtype=dtype, generator=random).to(device)
    pairs = zip(torch.autograd.grad(found, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True)
    for own, other in pairs:
        close(own, other)
    if INTERPRETED:
        few, cheap = max(inputs, outputs) <= 64, stride == dilation == (1, 1) and padding < kernel
        assert calls == ({"convolved": 1 + cheap, "summed_over_places": 1} if few else {})


def test_under_autocast_a_convolution_has_its_precision() -> None:
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=random) for s in ((2, 3, 4, 6, 6), (2, 5, 4, 3, 3), (2, 5)))
    leaves = [own.requires_grad_() for own in (x, weight, bias)]
    with torch.autocast("cpu", torch.bfloat16):
        found = convolve(x, weight, bias, (1, 1), (1, 1), (1, 1))
        expected = torch.stack([F.conv2d(x[i], weight[i], bias[i], 1, 1) for i in range(2)])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    g = torch.randn(found.shape, generator=random).to(found)
    pairs = zip(torch.autograd.grad(found, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True)
    for own, other in pairs:
        assert own.dtype == torch.float32
        torch.testing.assert_close(own, other, rtol=0, atol=0.02 * float(other.abs().max()))


@pytest.mark.parametrize(("samples", "parts"), [(16, 1), (45, 3), (47, 47), (128, 4)])
def test_sums_over_many_places_are_cut_at_few_samples(
    monkeypatch: pytest.MonkeyPatch, samples: int, parts: int
) -> None:
    batches: list[int] = []
    bmm = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda left, right: (batches.append(len(left)), bmm(left, right))[1])
    rows, out = torch.randn(2, samples * 63, 18), torch.randn(2, samples * 63, 5)
    found = _summed_product(rows, out, samples)
    assert batches == [2 * parts]
    torch.testing.assert_close(found, rows.mT @ out, rtol=1e-3, atol=1e-3)


def test_a_convolution_of_what_stands_anywhere_in_memory_is_the_same() -> None:
    memory = torch.randn(2 * 3 * 5 * 5 * 8 + 1)
    last = memory[1:].view(2, 3, 5, 5, 8)  # at no multiple of 16 bytes
    shared = last[:1, ..., 4:].expand(2, -1, -1, -1, -1)
    weight, g = torch.randn(2, 4, 4, 3, 3), torch.randn(4, 2, 3, 3, 3)
    for x in (last[..., :4].movedim(-1, 2), last[..., ::2].movedim(-1, 2), shared.movedim(-1, 2)):
        outcomes = []
        for own in (x, x.clone(memory_format=torch.contiguous_format)):
            leaf = weight.clone().requires_grad_()
            found = convolve(own, leaf, None, (1, 1), (0, 0), (1, 1))
            outcomes.append((found, *torch.autograd.grad(found, leaf, g.movedim(0, 2))))
        for one, other in zip(*outcomes, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(
    ("sides", "options"),
    [((6, 8), {}), ((7, 8), {}), ((9, 8), {"stride": 1}), ((8, 8), {"padding": 1}), ((6, 6), {"ceil_mode": True})],
    ids=str,
)
def test_a_max_pool_and_its_gradient_are_torchs(
    device: str, last: bool, sides: Any, options: dict[str, Any], calls: Counter[str]
) -> None:
    drawn = torch.randint(-3, 3, (2, 5, 4, *sides), generator=torch.Generator().manual_seed(0))  # ties abound
    x = drawn.float().to(device)
    if last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    own, other = (x.detach().clone().requires_grad_() for _ in range(2))
    found = max_pool2d(own, 2, **options)
    expected = F.max_pool2d(other.flatten(0, 1), 2, **options).unflatten(0, (2, 5))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    g = torch.arange(1.0, found.numel() + 1, device=device).view(found.shape)
    (left,), (right,) = torch.autograd.grad(found, own, g), torch.autograd.grad(expected, other, g)
    torch.testing.assert_close(left, right, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(max_pool2d(x, 2, **options), expected, rtol=0, atol=0)
    if INTERPRETED:
        ours = last and not options and sides == (6, 8)
        assert calls == ({"pooled": 2, "spread": 1} if ours else {})
