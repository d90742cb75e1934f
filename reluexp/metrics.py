"""The definitions: what is measured of a site, as sums over chunks of the probe that can be put together.

Pure: tensors in, tensors out. Shapes: z and h are [replica, sample, channel, position]; sums [replica, channel] or
[replica]. The definitions stand in the function that computes them, with their sources.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "LAYER_COLUMNS",
    "LAYER_METRICS",
    "Sums",
    "effective_rank",
    "hoyer",
    "merge",
    "site_sums",
    "summarise",
    "top_count",
]

Sums = dict[str, Tensor]

DORMANT = 0.025
SATURATED = 1e-3
RARE, RARE_NEEDS = 0.01, 300
TAIL = 0.001
SMALLEST_EIGENVALUE = 1e-12
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


def hoyer(h: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over samples and positions of (√n − ‖h‖₁/‖h‖₂)/(√n − 1), n channels, and the number of terms (Hoyer 2004).

    All-zero vectors are left out; for n = 1 there are no terms.
    """
    n = h.shape[2]
    if n == 1:
        none = torch.zeros(h.shape[0], dtype=torch.float64, device=h.device)
        return none, none
    largest = h.abs().sum(2)
    length = (h * h).sum(2).sqrt()
    valid = length > 0
    value = (math.sqrt(n) - largest / length.where(valid, 1)) / (math.sqrt(n) - 1)
    return value.where(valid, 0).double().sum((1, 2)), valid.sum((1, 2)).double()


def site_sums(z: Tensor, h: Tensor, slope: Tensor, reference: Tensor, top: int = 0, spectrum: bool = False) -> Sums:
    """What one chunk adds: extremes, counts and sums. `slope` is f'(z), `reference` s_f [replica or 1, channel or 1].

    `top` asks for as many of the largest |h| of each replica, for a quantile; `spectrum` for the effective rank.
    """
    dims = (1, 3)
    active = slope.abs() >= SATURATED * reference[:, None, :, None]
    wide_z, wide_h = z.double(), h.double()
    size = h.abs()
    sums = {
        "z_max": z.amax(dims),
        "z_min": z.amin(dims),
        "slope_max": slope.abs().amax(dims).double(),
        "slope": slope.abs().double().sum(dims),
        "firing": active.sum(dims).double(),
        "samples_firing": active.any(3).sum(1).double(),
        "zeros": (h == 0).sum(dims).double(),
        "z": wide_z.sum(dims),
        "zz": (wide_z * wide_z).sum(dims),
        "h": wide_h.sum(dims),
        "hh": (wide_h * wide_h).sum(dims),
        "abs": size.double().sum(dims),
        "abs_max": size.amax(dims),
        "places": torch.full((1,), z.shape[1] * z.shape[3], dtype=torch.float64, device=z.device),
        "samples": torch.full((1,), z.shape[1], dtype=torch.float64, device=z.device),
    }
    sums["hoyer"], sums["hoyer_terms"] = hoyer(h)
    if top:
        flat = size.flatten(1)
        sums["top"] = flat.topk(min(top, flat.shape[1]), 1).values
    if spectrum:
        sums["gram"] = _gram(wide_h, sums["h"] / sums["places"])
    return sums


def _gram(h: Tensor, mean: Tensor) -> Tensor:
    """Σ (h − mean)(h − mean)ᵀ over samples and positions [replica, channel, channel], in float64."""
    centred = (h - mean[:, None, :, None]).transpose(1, 2).flatten(2)
    if 1 in centred.shape[1:]:
        # products with a dimension of 1 take another path in a stack than alone, with other rounding
        return (centred[:, :, None] * centred[:, None]).sum(-1)
    return torch.bmm(centred, centred.mT)


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


def merge(left: Sums, right: Sums, top: int = 0) -> Sums:
    """Two parts of the probe together."""
    merged = {}
    for name, value in left.items():
        if name == "gram":
            # the centred products of both parts, and what their means differ by (Chan, Golub & LeVeque 1983)
            apart = right["h"] / right["places"] - left["h"] / left["places"]
            weight = left["places"] * right["places"] / (left["places"] + right["places"])
            merged[name] = value + right[name] + weight * apart[:, :, None] * apart[:, None]
        elif name == "top":
            both = torch.cat([value, right[name]], 1)
            merged[name] = both.topk(min(top, both.shape[1]), 1).values
        elif name.endswith("_max"):
            merged[name] = torch.maximum(value, right[name])
        elif name.endswith("_min"):
            merged[name] = torch.minimum(value, right[name])
        else:
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
    for name, one, two in (("pre", "z", "zz"), ("post", "h", "hh")):
        mean = (sums[one] / places).mean(1)
        square = (sums[two] / places).mean(1)
        layer[f"{name}_mean"], layer[f"{name}_std"] = mean, (square - mean * mean).clamp(min=0).sqrt()
    unit_means = sums["h"] / places
    layer["mean_shift"] = (unit_means * unit_means).mean(1).sqrt() / (sums["hh"] / places).mean(1).sqrt()
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
