"""The definitions: what is measured of a site, as sums over chunks of the probe that can be put together.

Pure: tensors in, tensors out. Shapes: z and h are [replica, sample, channel, position]; sums [replica, channel] or
[replica]. The definitions stand in the function that computes them, with their sources.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    *("LAYER_COLUMNS", "LAYER_METRICS", "Sums", "beside", "effective_rank", "hoyer", "largest"),
    *("merge", "site_sums", "summarise", "top_count"),
]

Sums = dict[str, Tensor]

DORMANT = 0.025
SATURATED = 1e-3
RARE, RARE_NEEDS = 0.01, 300
TAIL = 0.001
SMALLEST_EIGENVALUE = 1e-12
_LANES = 32
_CANCELS = 1e-3
_BLOCK = 1 << 17
ROUNDING = 1e-28

LAYER_METRICS = (
    *("dead_fraction", "off_fraction", "always_on_fraction", "saturated_fraction", "starved_fraction"),
    *("dormant_fraction", "rare_fraction", "zero_fraction", "zero_fraction_live", "hoyer_sparsity"),
    *("pre_mean", "pre_std", "post_mean", "post_std", "post_absmax", "post_q999", "mean_shift", "effective_rank"),
    *("slope_mean", "backprop_norm", "weight_norm", "weight_grad_norm", "update_ratio"),
    *("learned_slope_mean", "learned_slope_min", "learned_slope_max"),
)
"""the metric columns of the table `layers`, in order"""

LAYER_COLUMNS = ("epoch", "step", "site", "site_name", "kind", "width", *LAYER_METRICS)
"""the columns of the table `layers` after `trial`"""


def top_count(total: int) -> int:
    """How many of the largest of `total` values the 0.999 quantile needs."""
    return total - math.floor((1 - TAIL) * (total - 1))


def hoyer(size: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over places of (√n − ‖h‖₁/‖h‖₂)/(√n − 1), n channels, and the number of terms [replica] (Hoyer 2004).

    `size` [replica, place, channel] is |h|. All-zero vectors are left out; for n = 1 there are no terms.
    """
    n = size.shape[2]
    if n == 1:
        return size.new_zeros(len(size)), size.new_zeros(len(size))
    length = torch.linalg.vector_norm(size, dim=2)
    valid = torch.gt(length, 0, out=torch.empty_like(length))
    # where the length is 0 so is ‖h‖₁, and the term is taken away by `valid`
    value = (math.sqrt(n) - size.sum(2) / (length + (1 - valid))).mul_(valid)
    return value.sum(1) / (math.sqrt(n) - 1), valid.sum(1)


def largest(x: Tensor) -> Tensor:
    """Maxima [replica, channel] of [replica, sample, channel, position]."""
    return _extreme(_places(x), torch.amax)


def _places(x: Tensor) -> Tensor:
    """[replica, sample, channel, position] as [replica, place, channel], a place being a sample at a position."""
    return x.movedim(2, 3).flatten(1, 2)


def _extreme(x: Tensor, extreme: Callable[..., Tensor]) -> Tensor:
    """Extremes over places [replica, channel]; narrow layers have several places side by side: wide ones vectorise."""
    replicas, places, channels = x.shape
    fold = math.ceil(_LANES / channels)
    if fold == 1 or places < 2 * fold or not x.is_contiguous():
        return extreme(x, 1)
    whole = places - places % fold
    folded = extreme(extreme(x[:, :whole].reshape(replicas, -1, fold * channels), 1).view(replicas, fold, channels), 1)
    return folded if whole == places else extreme(torch.stack([folded, extreme(x[:, whole:], 1)]), 0)


def site_sums(z: Tensor, h: Tensor, slope: Tensor, reference: Tensor, top: int = 0, spectrum: bool = False) -> Sums:
    """What one chunk adds: extremes, counts and sums. `slope` is f'(z), `reference` s_f [replica or 1, channel or 1].

    `top` asks for as many of the largest |h| of each replica, for a quantile; `spectrum` for the effective rank.
    """
    samples, positions = z.shape[1], z.shape[3]
    z, h, slope = _places(z), _places(h), _places(slope)
    limit, once = SATURATED * reference[:, None], torch.zeros((1,), dtype=torch.float64, device=z.device)
    found = []
    for rows in _slices(len(z), z[0].numel()):
        own, parts = limit[rows] if len(limit) > 1 else limit, []
        for few in _slices(samples, z[0].numel() // samples) if positions > 1 else [slice(0, samples)]:
            places = slice(few.start * positions, few.stop * positions)
            parts.append(_block(z[rows, places], h[rows, places], slope[rows, places], own, few.stop - few.start))
        found.append(parts[0] if len(parts) == 1 else functools.reduce(_combined, parts))
    sums = {name: value if "max" in name or "min" in name else value.double() for name, value in beside(found).items()}
    sums |= {"slope_max": sums["slope_max"].double(), "places": once + samples * positions, "samples": once + samples}
    for name, x in (("z", z), ("h", h)):
        _mend(sums, name, x)
    if top:
        flat = h.flatten(1).abs()
        sums["top"] = flat.topk(min(top, flat.shape[1]), 1).values
    if spectrum:
        wide = h.double()
        sums["h"] = wide.sum(1)  # about a mean of single precision a constant unit would have a direction
        sums["gram"] = _gram(wide, sums["h"] / sums["places"])
    return sums


def _block(z: Tensor, h: Tensor, slope: Tensor, limit: Tensor, samples: int) -> Sums:
    """The sums of a block [replica, place, channel] small enough for a core's cache, in single precision.

    Comparisons are written as numbers and squares summed as norms, since these are the cheapest passes over memory;
    counts are exact below 2²⁴ places.
    """
    steep, size = slope.abs(), h.abs()
    active = torch.ge(steep, limit, out=torch.empty_like(steep))
    firing = active.sum(1)
    total, terms = hoyer(size)
    return {
        "z_max": _extreme(z, torch.amax),
        "z_min": _extreme(z, torch.amin),
        "slope_max": _extreme(steep, torch.amax),
        "slope": steep.sum(1),
        "firing": firing,
        "samples_firing": firing if len(z[0]) == samples else active.unflatten(1, (samples, -1)).amax(2).sum(1),
        "zeros": torch.eq(h, 0, out=torch.empty_like(h)).sum(1),
        "abs": size.sum(1),
        "abs_max": size.flatten(1).amax(1, keepdim=True),
        **{"z": z.sum(1), "h": h.sum(1), "hoyer": total, "hoyer_terms": terms},
        "zz": torch.linalg.vector_norm(z.flatten(1), dim=1).double().square(),
        "hh": torch.linalg.vector_norm(h.flatten(1), dim=1).double().square(),
    }


def _slices(count: int, each: int) -> list[slice]:
    """Consecutive ranges of `count` things of `each` elements, in blocks that a cache holds."""
    step = max(1, _BLOCK // max(1, each))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _mend(sums: Sums, name: str, x: Tensor) -> None:
    """Replaces Σ x² by one in float64 where the mean is so much larger than the spread that a variance would suffer."""
    mean = sums[name].mean(1) / x.shape[1]
    square = sums[name + name] / x[0].numel()
    poor = ~(square - mean * mean > _CANCELS * mean * mean) | torch.isinf(square)
    if bool(poor.any()):
        sums[name + name][poor] = x[poor].double().square().sum((1, 2))
        sums[name][poor] = x[poor].double().sum(1)


def _gram(h: Tensor, mean: Tensor) -> Tensor:
    """Σ (h − mean)(h − mean)ᵀ over places [replica, channel, channel], in float64."""
    centred = h - mean[:, None]
    if 1 in centred.shape[1:]:
        # products with a dimension of 1 take another path in a stack than alone, with other rounding
        return (centred[..., None] * centred[:, :, None]).sum(1)
    return torch.bmm(centred.mT, centred)


def effective_rank(gram: Tensor, power: Tensor | float = 0.0) -> Tensor:
    """exp of the entropy of the normalised singular values of the centred h (Roy & Vetterli 2007, there uncentred).

    From the Gram matrix [replica, channel, channel]; eigenvalues below 10⁻¹² of the largest count as 0, and so do those
    below 10⁻²⁸ of `power` [replica], Σh², which rounding gives to constants. 0 if all are 0, NaN where the matrix is
    not finite.
    """
    sound = torch.isfinite(gram).flatten(1).all(1)
    values = torch.linalg.eigvalsh(torch.where(sound[:, None, None], gram, 0.0)).clamp(min=0)
    floor = ROUNDING * torch.as_tensor(power, dtype=values.dtype, device=values.device).reshape(-1, 1)
    values = torch.where(values > floor, values, 0.0)
    largest = values.amax(1, keepdim=True)
    singular = torch.where(values >= SMALLEST_EIGENVALUE * largest, values, 0.0).sqrt()
    share = singular / singular.sum(1, keepdim=True).clamp(min=torch.finfo(singular.dtype).tiny)
    rank = torch.exp(-torch.special.xlogy(share, share).sum(1))
    return torch.where(largest[:, 0] > 0, rank, 0.0).where(sound, math.nan)


def beside(parts: list[Sums]) -> Sums:
    """The sums of different replicas of one site, put beside each other."""
    shared = ("places", "samples")
    return {
        name: own if name in shared else torch.cat([part[name] for part in parts]) for name, own in parts[0].items()
    }


def merge(left: Sums, right: Sums, top: int = 0) -> Sums:
    """Two parts of the probe together."""
    merged = _combined(left, right)
    if "gram" in left:
        # the centred products of both parts, and what their means differ by (Chan, Golub & LeVeque 1983)
        apart = right["h"] / right["places"] - left["h"] / left["places"]
        weight = left["places"] * right["places"] / (left["places"] + right["places"])
        merged["gram"] += weight * apart[:, :, None] * apart[:, None]
    if "top" in left:
        both = torch.cat([left["top"], right["top"]], 1)
        merged["top"] = both.topk(min(top, both.shape[1]), 1).values
    return merged


def _combined(left: Sums, right: Sums) -> Sums:
    """Sums added, extremes compared."""
    merged = {}
    for name, value in left.items():
        if name.endswith("_max"):
            merged[name] = torch.maximum(value, right[name])
        elif name.endswith("_min"):
            merged[name] = torch.minimum(value, right[name])
        elif name != "top":
            merged[name] = value + right[name]
    return merged


def summarise(sums: Sums, reference: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The metrics of a site [replica], and the states of its units [replica, channel].

    dead: f'(z) = 0 at every sample and position (Lu et al. 2019, arXiv 1903.06733); off: max z ≤ 0; always on:
    min z > 0; saturated: max |f'(z)| < 10⁻³ s_f; dormant: mean|h| ≤ 0.025 of the layer's mean (Sokar et al. 2023);
    firing rate: share of places with |f'(z)| ≥ 10⁻³ s_f (Dohare et al. 2024); rare: such a place in under 1 % of the
    samples but in some, null below 300 samples; mean shift: √mean_i(mean h_i)²/√mean h² (Clevert et al. 2015).
    A unit with a z that is not finite is in none of the states. Two numbers of each unit serve other thresholds:
    slope_ratio, max |f'(z)|/s_f, and activity, mean|h| over the layer's mean (0 in a layer of zeros).
    """
    places, samples = sums["places"], sums["samples"]
    finite = torch.isfinite(sums["z_max"]) & torch.isfinite(sums["z_min"])
    units = {
        "dead": (sums["slope_max"] == 0) & finite,
        "off": (sums["z_max"] <= 0) & finite,
        "always_on": (sums["z_min"] > 0) & finite,
        "saturated": (sums["slope_max"] < SATURATED * reference) & finite,
        "firing_rate": sums["firing"] / places,
        "sample_rate": sums["samples_firing"] / samples,
    }
    mean_abs = sums["abs"] / places
    whole = mean_abs.mean(1, keepdim=True)
    dormant = mean_abs <= DORMANT * whole
    units["slope_ratio"] = sums["slope_max"] / reference
    units["activity"] = mean_abs / whole.clamp(min=torch.finfo(whole.dtype).tiny)
    rare = (units["sample_rate"] > 0) & (units["sample_rate"] < RARE)
    zero = sums["zeros"] / places
    live = (~units["dead"]).double()
    layer = {f"{name}_fraction": units[name].double().mean(1) for name in ("dead", "off", "always_on", "saturated")}
    layer["dormant_fraction"] = dormant.double().mean(1)
    layer["rare_fraction"] = rare.double().mean(1) if samples >= RARE_NEEDS else torch.full_like(zero[:, 0], math.nan)
    layer["zero_fraction"] = zero.mean(1)
    layer["zero_fraction_live"] = (zero * live).sum(1) / live.sum(1)
    layer["hoyer_sparsity"] = sums["hoyer"] / sums["hoyer_terms"]
    width = zero.shape[1]
    for name, one, two in (("pre", "z", "zz"), ("post", "h", "hh")):
        mean = (sums[one] / places).mean(1)
        square = sums[two] / (places * width)
        layer[f"{name}_mean"], layer[f"{name}_std"] = mean, (square - mean * mean).clamp(min=0).sqrt()
    unit_means = sums["h"] / places
    length = (sums["hh"] / (places * width)).sqrt()
    layer["mean_shift"] = ((unit_means * unit_means).mean(1).sqrt() / length).clamp(max=1)
    layer["post_absmax"] = sums["abs_max"].amax(1).double()
    layer["slope_mean"] = (sums["slope"] / places).mean(1)
    if "gram" in sums:
        layer["effective_rank"] = effective_rank(sums["gram"], sums["hh"].reshape(len(sums["gram"]), -1).sum(1))
    if "top" in sums:
        layer["post_q999"] = _quantile(sums["top"], int(places.item()) * sums["zeros"].shape[1])
    return layer, units


def _quantile(top: Tensor, total: int) -> Tensor:
    """The 0.999 quantile of `total` values, interpolated linearly, from the largest of them in descending order.

    NaN where too few of them were kept, because a site has more places in some chunks than when it was traced.
    """
    place = (1 - TAIL) * (total - 1)
    below = total - 1 - math.floor(place)
    if below >= top.shape[1]:
        return torch.full_like(top[:, 0], math.nan, dtype=torch.float64)
    low, high = top[:, below].double(), top[:, max(below - 1, 0)].double()
    return low + (place - math.floor(place)) * (high - low)
