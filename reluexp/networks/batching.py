"""Whether a user's model can be read for a whole stack at once: a comparison with single replicas.

A batched reading of a module that was not written for it can be wrong without an error, where numbers of replicas,
samples and features happen to be equal; hence three numbers of samples, none of which is the number of replicas.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reluexp.config import Setting
from reluexp.networks.network import Network
from reluexp.seeds import generator, seed_globals

__all__ = ["reads_batched"]

_SEEDS, _SAMPLES, _ROUNDING = (0, 1, 2), (4, 5, 7), 1e-3
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def reads_batched(setting: Setting, shape: tuple[int, ...], outputs: int, device: str = "cpu") -> bool:
    """Whether replicas of this setting's model give in a stack what they give alone, gradients and buffers too.

    Convolutions on a CPU are not worth a stack, and are not compared. A model that fails is not batched: what it
    fails of is for the trial to say.
    """
    try:
        alone = [Network([setting], [seed], shape, outputs, device) for seed in _SEEDS]
        if device == "cpu" and any(isinstance(own, _CONVOLUTIONS) for own in alone[0].module.modules()):
            return False
        together = Network([setting] * len(_SEEDS), _SEEDS, shape, outputs, device, batched=True)
        apart = [Network([setting], [seed], shape, outputs, device, batched=True) for seed in _SEEDS]
        expected, *found = ([own for samples in _SAMPLES for own in _passes(networks, shape, samples)]
                            for networks in (alone, [together], apart))  # fmt: skip
    except Exception:  # whatever the user's code makes of a dimension that it does not expect
        return False
    return all(_same(*pair) for own in found for pair in zip(own, expected, strict=True))


def _same(found: Tensor, expected: Tensor) -> bool:
    """To rounding, which a batch norm over few samples makes much larger."""
    size = float(expected.abs().max()) if expected.numel() else 0.0
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=0, atol=_ROUNDING * size)


def _not_torchs() -> tuple[Any, ...]:
    """The states of Python's and NumPy's global generators."""
    kind, keys, *rest = np.random.get_state()
    return random.getstate(), kind, np.asarray(keys).tobytes(), *rest


def _passes(networks: list[Network], shape: tuple[int, ...], samples: int) -> list[Tensor]:
    """Outputs, gradients and buffers of a training step, then outputs in evaluation, each [replica, …].

    Gradients in the order of the parameters' own dimensions: in memory they lie otherwise alone than in a stack.
    """
    x = torch.randn(len(_SEEDS), samples, *shape, generator=generator(samples, "batching")).to(networks[0].device)
    found: list[list[Tensor]] = []
    start = 0
    for network in networks:
        own = x[start : start + network.replicas]
        start += network.replicas
        seed_globals(network.seeds[0], "user", samples)
        before = _not_torchs()
        network.module.train()
        out = network.forward(own, moment=(0, samples))
        weights = torch.linspace(-1, 1, out[0].numel(), device=out.device).view_as(out[0])
        end = (out * weights).sum()
        gradients = torch.autograd.grad(end, network.leaves, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([network.per_replica(own).flatten(1) for own in gradients], 1)
        buffers = [network.per_replica(b) for b in network.buffers().values() if b.is_floating_point()]
        network.module.eval()
        with torch.no_grad():
            later = network.forward(own)
        if _not_torchs() != before:
            raise ValueError("replicas would share what is drawn from generators that torch does not know")
        found.append([out.detach(), gradient, *(b.clone() for b in buffers), later])
    return [torch.cat(parts) for parts in zip(*found, strict=True)]
