"""Random changes of training images."""

from __future__ import annotations

import torch

from reluexp.catalogue.datasets import Augment

__all__ = ["augment_batch"]


def augment_batch(x: torch.Tensor, kind: Augment, generator: torch.Generator) -> torch.Tensor:
    """The images [sample, channel, height, width], each moved by a random number of pixels and perhaps mirrored.

    `shift`: a random crop of the image padded with zeros, 2 pixels wide for 28×28 and 4 for 32×32 (He et al. 2015,
    arXiv 1512.03385); `flip_shift`: also mirrored left to right for half of the samples; `none`: as they are.
    Zero is the channel's mean. Random numbers come from the given CPU generator, whatever the device of x.
    """
    if kind == "none":
        return x
    count, channels, height, width = x.shape
    pad = _padding(min(height, width))
    shift = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator).to(x.device)
    rows = shift[0] + torch.arange(height, device=x.device)
    columns = shift[1] + torch.arange(width, device=x.device)
    if kind == "flip_shift":
        flip = torch.randint(0, 2, (count, 1), generator=generator).to(x.device).bool()
        columns = torch.where(flip, columns.flip(1), columns)
    sample = torch.arange(count, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[:, None, None]
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _padding(side: int) -> int:
    """Pixels of padding: an eighth of the side from 32 on, less for smaller images, whose content fills them."""
    return side // 8 if side >= 32 else max(1, side // 14)
