"""What a trial leaves behind besides numbers: its network with the final weights, and the samples of its probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reluexp.errors import DataError
from reluexp.planning.plan import probe_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from reluexp.config import Setting

__all__ = ["network_of", "probe_of"]


def network_of(
    setting: Setting, seed: int, shape: Sequence[int], outputs: int, weights: Mapping[str, Tensor]
) -> nn.Module:
    """The network of a setting with these weights, in evaluation mode; units that `init.dead` disabled stay so."""
    import torch

    from reluexp.networks.intercept import disable
    from reluexp.networks.network import build_module, disabled_units
    from reluexp.networks.sites import trace

    module = build_module(setting, tuple(shape), outputs, seed)
    if setting.init.dead:
        sites = trace(module, torch.zeros(2, *shape)).sites
        disable(module, disabled_units(sites, [setting], [seed]))
    module.load_state_dict(weights)
    return module.eval()


def probe_of(setting: Setting, fingerprint: str | None = None) -> tuple[Tensor, Tensor]:
    """The probe set: samples [sample, …], normalised as trials see them, and labels or targets [sample, …].

    Raises DataError when the data set is not there any more, or its fingerprint is another than the one given.
    """
    from reluexp.catalogue.loading import load_dataset

    data = load_dataset(setting.dataset)
    if fingerprint not in (None, data.fingerprint):
        raise DataError(f"{data.name}: the data have changed since the trial was trained; its probe cannot be had")
    chosen = data.probe_order[: probe_size(setting.probe.size, len(data.train_x))]
    return data.train_x[chosen], data.train_y[chosen]
