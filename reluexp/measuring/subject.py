"""What can be measured: a stack of replicas, or one module of anybody's that is treated as a stack of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor, nn

from reluexp.networks.intercept import SiteListener
from reluexp.networks.sites import Site

__all__ = ["Measured"]


class Measured(Protocol):
    """A network as the probe sees it; see `Network` for what each part means."""

    @property
    def module(self) -> nn.Module:
        """The module that is executed."""

    @property
    def device(self) -> str:
        """Where it computes."""

    @property
    def chunk(self) -> int | None:
        """The largest number of samples that are computed at a time, if that is not the probe's to choose."""

    @property
    def memory_share(self) -> float:
        """Of a GPU's memory, what it may count on."""

    @property
    def sites(self) -> list[Site]:
        """The places of activations, in the order of execution."""

    @property
    def replicas(self) -> int:
        """How many networks there are."""

    @property
    def stacked(self) -> bool:
        """Whether parameters and pre-activations carry a leading replica dimension."""

    @property
    def masks(self) -> list[Tensor]:
        """For each site what disables units [replica, channel]; nothing when no unit is disabled."""

    @property
    def output_layer(self) -> str | None:
        """The linear map that gives the output."""

    def only(self, replicas: Sequence[int]) -> Measured | None:
        """Some of the replicas, as they are now; None where they cannot be had apart."""

    def forward(self, x: Tensor, moment: tuple[int, ...] | None = None, listener: SiteListener | None = None) -> Tensor:
        """Outputs [replica, sample, …] for x [sample, …]; `listener` hears each site."""

    def hearing(self, layers: Iterable[str]) -> AbstractContextManager[dict[str, Tensor]]:
        """While open, forward passes keep the inputs of the named linear maps in the mapping that it gives."""

    def weight(self, layer: str | None) -> Tensor | None:
        """The weights of a named layer, as a leaf."""

    def per_replica(self, values: Tensor) -> Tensor:
        """A leaf's or a site's values as [replica, …]."""
