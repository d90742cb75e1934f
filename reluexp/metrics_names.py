"""What the metric columns mean, in a line each; without torch, for lists."""

from __future__ import annotations

__all__ = ["COMPARED", "METRICS"]

METRICS = {
    "dead_fraction": "units with f'(z) = 0 at every probe sample and position",
    "off_fraction": "units with max z ≤ 0",
    "always_on_fraction": "units with min z > 0",
    "saturated_fraction": "units with max |f'(z)| < 10⁻³ s_f",
    "dormant_fraction": "units with mean |h| ≤ 0.025 of the layer's mean",
    "rare_fraction": "units that respond in some but under 1 % of the samples",
    "zero_fraction": "share of h exactly 0",
    "zero_fraction_live": "the same over units that are not dead",
    "hoyer_sparsity": "(√n − ‖h‖₁/‖h‖₂)/(√n − 1), averaged",
    "mean_shift": "√mean_i(mean h_i)²/√mean h²: 0 centred, 1 constant units",
    "slope_mean": "mean |f'(z)|",
    "backprop_norm": "RMS of ∂ℓ_p/∂z_p over samples, positions, units",
    "weight_norm": "Frobenius norm of the feeding layer's weights",
    "weight_grad_norm": "norm of the mean probe loss's gradient of those weights",
    "grad_norm": "mean over the epoch's steps of the whole gradient's L2 norm, before clipping",
}

COMPARED = (
    *(f"{split}_{kind}" for split in ("test", "validation", "probe", "train") for kind in ("accuracy", "loss")),
    *("confirmed_dead_fraction", "born_dead_fraction", "starved_fraction", "effective_rank", "update_ratio"),
    *("grad_norm_max", "output_range", "dead_layers_at_end", "stuck", *METRICS),
)
"""metrics that hypotheses can be about, besides steps_to_<target>"""
