"""The definitions: what is measured of a site, as sums over chunks of the probe that can be put together.

Pure: tensors in, tensors out. Shapes: z and h are [replica, sample, channel, position]; sums [replica, channel] or
[replica]. The definitions stand in the function that computes them, with their sources.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    *("STEEPEST", "Sums", "beside", "effective_rank", "extreme", "first_sample", "hoyer", "merge"),
    *("site_sums", "summaries", "summarise", "top_count"),
]

Sums = dict[str, Any]
"""what adds up over chunks: `extremes` [replica, 4, channel], `sums` [replica, 7, channel], `squares` of z and h and
`hoyer` [replica, 2], the numbers of `places` and `samples`; perhaps `top` [replica, number], `mean` [replica, channel]
and `gram` [replica, channel, channel]"""

DORMANT = 0.025
SATURATED = 1e-3
RARE, RARE_NEEDS = 0.01, 300
TAIL = 0.001
SMALLEST_EIGENVALUE = 1e-12
_LANES = 32
_CANCELS = 1e-3
_SQUARABLE = 1e-16, 1e18  # sizes whose squares, and sums of some, single precision can hold
_HALVES = (torch.float16, torch.bfloat16)
_BLOCK, _GPU_BLOCK = 1 << 19, 1 << 31
ROUNDING = 1e-28
STEEPEST, _AWAKE = 2, 5  # where max |f'(z)| stands among the extremes, and the samples with a response among the sums
_SHARES = tuple(f"{name}_fraction" for name in ("dead", "off", "always_on", "saturated", "dormant", "rare"))


def top_count(total: int) -> int:
    """How many of the largest of `total` values the 0.999 quantile needs."""
    return total - math.floor((1 - TAIL) * (total - 1))


def hoyer(size: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over places of (√n − ‖h‖₁/‖h‖₂)/(√n − 1), n channels, and the number of terms [replica] (Hoyer 2004).

    `size` [replica, place, channel] is |h|, `length` [replica, place] is ‖h‖₂. All-zero vectors are left out; for
    n = 1 there are no terms.
    """
    n = size.shape[2]
    if n == 1:
        return size.new_zeros(len(size)), size.new_zeros(len(size))
    total = size.sum(2)
    valid = torch.gt(total, 0, out=torch.empty_like(total))
    ratios = (total / length.clamp_min(torch.finfo(length.dtype).tiny)).mul_(valid)
    if size.dtype == torch.float32 and not _SQUARABLE[0] < length.amin() <= length.amax() < _SQUARABLE[1]:
        # squares of such numbers are 0 or infinite; the ratio does not depend on the scale
        poor = (length >= _SQUARABLE[1]) | (length <= _SQUARABLE[0]) & (total > 0)
        wide = size[poor].double()
        ratios[poor] = (wide.sum(1) / torch.linalg.vector_norm(wide, dim=1)).to(ratios.dtype)
    count = valid.sum(1)
    return (math.sqrt(n) * count - ratios.sum(1)) / (math.sqrt(n) - 1), count


def first_sample(x: Tensor) -> Tensor:
    """The number, from 1, of the first sample with a value that is not 0 [replica, channel]; 0 where there is none.

    x is [replica, sample, channel, position].
    """
    samples = x.shape[1]
    nonzero = _of_samples(_places(x.abs()), samples).ne(0)
    left = torch.arange(samples, 0, -1, dtype=torch.float32, device=x.device)[:, None]
    most = extreme(nonzero * left, torch.amax)
    return torch.where(most > 0, samples + 1 - most, 0.0).long()


def _of_samples(x: Tensor, samples: int) -> Tensor:
    """Maxima over positions [replica, sample, channel] of [replica, place, channel]."""
    if x.shape[1] == samples:
        return x
    return extreme(x.reshape(len(x) * samples, -1, x.shape[2]), torch.amax).unflatten(0, (-1, samples))


def _places(x: Tensor) -> Tensor:
    """[replica, sample, channel, position] as [replica, place, channel], a place being a sample at a position."""
    return x.movedim(2, 3).flatten(1, 2)


def extreme(x: Tensor, of: Callable[..., Tensor]) -> Tensor:
    """Extremes over places [replica, channel] of x [replica, place, channel], by amax or amin.

    Narrow layers have several places side by side, since wide ones vectorise.
    """
    replicas, places, channels = x.shape
    fold = math.ceil(_LANES / channels)
    if fold == 1 or places < 2 * fold or not x.is_contiguous():
        return of(x, 1)
    whole = places - places % fold
    folded = of(of(x[:, :whole].reshape(replicas, -1, fold * channels), 1).view(replicas, fold, channels), 1)
    return folded if whole == places else of(torch.stack([folded, of(x[:, whole:], 1)]), 0)


def site_sums(
    z: Tensor, h: Tensor, slope: Tensor, reference: Tensor, top: int = 0, spectrum: bool = False, least: float = -1.0
) -> Sums:
    """What one chunk adds: extremes, counts and sums. `slope` is |f'(z)|, `reference` s_f [replica or 1, channel or 1].

    `top` asks for as many of the largest |h| of each replica, for a quantile, of one replica only for those above
    `least`, since earlier chunks had enough of the others; `spectrum` for the effective rank.
    """
    samples, positions = z.shape[1], z.shape[3]
    if not samples:
        return _of_nothing(z, bool(top), spectrum)
    z, h, slope = _places(z), _places(h), _places(slope)
    limit = (SATURATED * reference[:, None]).to(slope.dtype)
    found = []
    block = _BLOCK if z.device.type == "cpu" else _GPU_BLOCK
    for rows in _slices(len(z), z[0].numel(), block):
        own, parts = limit[rows] if len(limit) > 1 else limit, []
        for few in _slices(samples, z[0].numel() // samples, block) if positions > 1 else [slice(0, samples)]:
            places = slice(few.start * positions, few.stop * positions)
            parts.append(_block(z[rows, places], h[rows, places], slope[rows, places], own, few.stop - few.start))
        found.append(parts[0] if len(parts) == 1 else functools.reduce(_combined, parts))
    sums = {name: value.double() for name, value in beside(found).items()}
    sums |= {"places": samples * positions, "samples": samples}
    _mend(sums, z, h)
    if top:
        flat = h.flatten(1).abs()
        if least >= 0 and len(flat) == 1:
            flat = flat[~(flat <= least)][None]  # NaN is among the largest, as in a stack
        sums["top"] = _largest(flat, min(top, flat.shape[1]))
    if spectrum:
        wide = h.to(torch.float64, copy=True)
        sums["mean"] = wide.mean(1)  # about a mean of single precision a constant unit would have a direction
        sums["gram"] = _gram(wide.sub_(sums["mean"][:, None]))
    return sums


def _of_nothing(z: Tensor, top: bool, spectrum: bool) -> Sums:
    """What a chunk adds in which a site got no sample, as an expert of a mixture may."""
    replicas, _, channels, _ = z.shape
    zeros = torch.zeros(replicas, 7, channels, dtype=torch.float64, device=z.device)
    none = {"extremes": torch.full_like(zeros[:, :4], -math.inf), "sums": zeros, "places": 0, "samples": 0}
    found: Sums = {**none, "squares": zeros[:, :2, 0], "hoyer": zeros[:, :2, 0]}
    found |= {"top": z.new_zeros(replicas, 0)} if top else {}
    gram = zeros.new_zeros(replicas, channels, channels)
    return found | ({"mean": zeros[:, 0], "gram": gram} if spectrum else {})


def _block(z: Tensor, h: Tensor, slope: Tensor, limit: Tensor, samples: int) -> Sums:
    """The sums of a block [replica, place, channel] small enough for a core's cache, in single precision.

    Comparisons are written as numbers and squares summed as norms, since these are the cheapest passes over memory;
    counts are exact below 2²⁴ places.
    """
    z, h, slope, limit = (x.float() if x.dtype in _HALVES else x for x in (z, h, slope, limit))
    size = h.abs()
    active = torch.ge(slope, limit, out=torch.empty_like(slope))
    firing = active.sum(1)
    awake = firing if len(z[0]) == samples else _of_samples(active, samples).sum(1)
    zeros = torch.eq(h, 0, out=active).sum(1)  # in memory that a cache has
    length = torch.linalg.vector_norm(h, dim=2)
    squares = torch.linalg.vector_norm(z.flatten(1), dim=1), torch.linalg.vector_norm(length, dim=1)
    return {
        "extremes": torch.stack([extreme(own, torch.amax) for own in (z, size, slope)] + [-extreme(z, torch.amin)], 1),
        "sums": torch.stack([z.sum(1), h.sum(1), size.sum(1), slope.sum(1), firing, awake, zeros], 1),
        "squares": torch.stack(squares, 1).double().square(),
        "hoyer": torch.stack(hoyer(size, length), 1),
    }


def _slices(count: int, each: int, block: int) -> list[slice]:
    """Consecutive ranges of `count` things of `each` elements, in blocks that a cache holds."""
    step = max(1, block // max(1, each))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _largest(values: Tensor, count: int) -> Tensor:
    """The largest values of each row in descending order: those of groups whose largest are among the largest ones."""
    groups = values.shape[1] // _LANES
    if count >= groups:
        return values.topk(count, 1).values
    grouped = values[:, : groups * _LANES].unflatten(1, (groups, _LANES))
    chosen = grouped.amax(2).topk(count, 1, sorted=False).indices
    few = grouped.gather(1, chosen[:, :, None].expand(-1, -1, _LANES)).flatten(1)
    return torch.cat([few, values[:, groups * _LANES :]], 1).topk(count, 1).values


def _mend(sums: Sums, z: Tensor, h: Tensor) -> None:
    """Replaces Σ x² by one in float64 where single precision would not do.

    So it is where the mean is so much larger than the spread that a variance would suffer, or squares leave the range.
    """
    power = (sums["sums"][:, :2].mean(2) / z.shape[1]).square()
    square = sums["squares"] / z[0].numel()
    there = torch.stack([sums["extremes"][:, [0, 3]].abs().amax((1, 2)), sums["extremes"][:, 1].amax(1)], 1) > 0
    poor = ~(square - power > _CANCELS * power) | torch.isinf(square) | ((square < _SQUARABLE[0] ** 2) & there)
    if bool(poor.any()):
        for number, x in enumerate((z, h)):
            own = poor[:, number]
            sums["squares"][own, number] = x[own].double().square().sum((1, 2))
            sums["sums"][own, number] = x[own].double().sum(1)


def _gram(centred: Tensor) -> Tensor:
    """Σ h hᵀ over places [replica, channel, channel] of centred h in float64."""
    if 1 in centred.shape[1:]:
        # products with a dimension of 1 take another path in a stack than alone, with other rounding
        return (centred[..., None] * centred[:, :, None]).sum(1)
    return torch.bmm(centred.mT, centred)


def effective_rank(gram: Tensor, power: Tensor | float = 0.0) -> Tensor:
    """exp of the entropy of the normalised singular values of the centred h (Roy & Vetterli 2007, there uncentred).

    From the Gram matrix [..., channel, channel]; eigenvalues below 10⁻¹² of the largest count as 0, and so do those
    below 10⁻²⁸ of `power` [...], Σh², which rounding gives to constants. 0 if all are 0, NaN where the matrix is
    not finite.
    """
    sound = torch.isfinite(gram).flatten(-2).all(-1)
    whole = torch.where(sound[..., None, None], gram, 0.0)
    # on a CPU: a GPU takes a hundred times as long for one small matrix, and takes them one after the other
    values = torch.linalg.eigvalsh(whole.cpu()).to(gram.device).clamp(min=0)
    floor = ROUNDING * torch.as_tensor(power, dtype=values.dtype, device=values.device).unsqueeze(-1)
    values = torch.where(values > floor, values, 0.0)
    largest = values.amax(-1, keepdim=True)
    singular = torch.where(values >= SMALLEST_EIGENVALUE * largest, values, 0.0).sqrt()
    share = singular / singular.sum(-1, keepdim=True).clamp(min=torch.finfo(singular.dtype).tiny)
    rank = torch.exp(-torch.special.xlogy(share, share).sum(-1))
    return torch.where(largest[..., 0] > 0, rank, 0.0).where(sound, math.nan)


def beside(parts: list[Sums]) -> Sums:
    """The sums of different replicas of one site, put beside each other."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return {n: torch.cat([own[n] for own in parts]) if isinstance(v, Tensor) else v for n, v in first.items()}


def merge(left: Sums, right: Sums, top: int = 0) -> Sums:
    """Two parts of the probe together."""
    merged = _combined(left, right)
    if "gram" in left:
        # the centred products of both parts, and what their means differ by (Chan, Golub & LeVeque 1983)
        share = right["places"] / max(1, merged["places"])
        apart = right["mean"] - left["mean"]
        merged["mean"] = left["mean"] + share * apart
        merged["gram"] = merged["gram"] + share * left["places"] * apart[:, :, None] * apart[:, None]
    if "top" in left:
        both = torch.cat([left["top"], right["top"]], 1)
        merged["top"] = _largest(both, min(top, both.shape[1]))
    return merged


def _combined(left: Sums, right: Sums) -> Sums:
    """Sums added, extremes compared."""
    merged = {name: left[name] + right[name] for name in left if name not in ("extremes", "top", "mean")}
    return merged | {"extremes": torch.maximum(left["extremes"], right["extremes"])}


def summaries(sites: Sequence[Sums], references: Sequence[Tensor]) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """`summarise` for several sites, those of one shape at once: on so few numbers a call costs more than the work."""
    alike: dict[Any, list[int]] = {}
    for index, sums in enumerate(sites):
        alike.setdefault((sums["sums"].shape, sums["places"], sums["samples"]), []).append(index)
    found: dict[int, tuple[dict[str, Tensor], dict[str, Tensor]]] = {}
    for (shape, *_), group in alike.items():
        first = sites[group[0]]
        sums = {
            name: torch.stack([sites[index][name] for index in group]) if isinstance(value, Tensor) else value
            for name, value in first.items()
        }
        wide = torch.stack([references[index].expand(shape[0], shape[2]) for index in group])
        layers, units = ({k: v.unbind() for k, v in own.items()} for own in summarise(sums, wide))
        for place, index in enumerate(group):
            found[index] = {k: v[place] for k, v in layers.items()}, {k: v[place] for k, v in units.items()}
    return [found[index] for index in range(len(sites))]


def summarise(sums: Sums, reference: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The metrics of a site [..., replica], and the states of its units [..., replica, channel].

    dead: f'(z) = 0 at every sample and position (Lu et al. 2019, arXiv 1903.06733); off: max z ≤ 0; always on:
    min z > 0; saturated: max |f'(z)| < 10⁻³ s_f; dormant: mean|h| ≤ 0.025 of the layer's mean (Sokar et al. 2023);
    firing rate: share of places with |f'(z)| ≥ 10⁻³ s_f (Dohare et al. 2024); rare: such a place in under 1 % of the
    samples but in some, null below 300 samples; mean shift: √mean_i(mean h_i)²/√mean h² (Clevert et al. 2015).
    A unit with a z that is not finite is in none of the states, and its layer has no share of dormant ones. Two numbers
    of each unit serve other thresholds: slope_ratio, max |f'(z)|/s_f, and activity, mean|h| over the layer's mean
    (0 in a layer of zeros).
    """
    places, samples = sums["places"], sums["samples"]
    top, size, steepest, fall = sums["extremes"].unbind(-2)
    means = sums["sums"] / places
    pre, post, mean_abs, slope, firing, _, zero = means.unbind(-2)
    finite = torch.isfinite(top) & torch.isfinite(fall)
    whole = mean_abs.mean(-1, keepdim=True)
    units = {
        "dead": (steepest == 0) & finite,
        "off": (top <= 0) & finite,
        "always_on": (fall < 0) & finite,
        "saturated": (steepest < SATURATED * reference) & finite,
        "firing_rate": firing,
        "sample_rate": sums["sums"][..., _AWAKE, :] / samples,
        "slope_ratio": steepest / reference,
        "activity": mean_abs / whole.clamp(min=torch.finfo(whole.dtype).tiny),
    }
    rare = (units["sample_rate"] > 0) & (units["sample_rate"] < RARE)
    live = (~units["dead"]).double()
    states = [units[name] for name in ("dead", "off", "always_on", "saturated")]
    shares = torch.stack([*states, mean_abs <= DORMANT * whole, rare]).double().mean(-1)
    layer = dict(zip(_SHARES, shares, strict=True))
    layer["dormant_fraction"] = layer["dormant_fraction"].where(whole[..., 0].isfinite(), math.nan)
    if samples < RARE_NEEDS:
        layer["rare_fraction"] = torch.full_like(layer["rare_fraction"], math.nan)
    layer["zero_fraction"] = zero.mean(-1)
    layer["zero_fraction_live"] = (zero * live).sum(-1) / live.sum(-1)
    layer["hoyer_sparsity"] = sums["hoyer"][..., 0] / sums["hoyer"][..., 1]
    square = sums["squares"] / (places * zero.shape[-1])
    for number, (name, own) in enumerate((("pre", pre), ("post", post))):
        mean = own.mean(-1)
        layer[f"{name}_mean"] = mean
        layer[f"{name}_std"] = (square[..., number] - mean * mean).clamp(min=0).sqrt()
    layer["mean_shift"] = ((post * post).mean(-1) / square[..., 1]).sqrt().clamp(max=1)
    layer["post_absmax"] = size.amax(-1)
    layer["slope_mean"] = slope.mean(-1)
    if "gram" in sums:
        layer["effective_rank"] = effective_rank(sums["gram"], sums["squares"][..., 1])
    if "top" in sums:
        layer["post_q999"] = _quantile(sums["top"], places * zero.shape[-1])
    if not places:
        layer = {name: torch.full_like(value, math.nan) for name, value in layer.items()}
    return layer, units


def _quantile(top: Tensor, total: int) -> Tensor:
    """The 0.999 quantile of `total` values, interpolated linearly, from the largest of them in descending order.

    NaN where too few of them were kept, because a site has more places in some chunks than when it was traced.
    """
    place = (1 - TAIL) * (total - 1)
    below = total - 1 - math.floor(place)
    if below >= top.shape[-1]:
        return top.new_full(top.shape[:-1], math.nan, dtype=torch.float64)
    low, high = top[..., below].double(), top[..., max(below - 1, 0)].double()
    return low + (place - math.floor(place)) * (high - low)
