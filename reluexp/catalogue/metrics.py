"""What the metric columns mean, in a line each; which way each is better, and by how much it matters; without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    *("COMPARED", "DEATHS", "MARGINS", "METRICS", "REACHED", "TIME"),
    *("better_sign", "is_time", "margin_of", "target_of", "times_of"),
]

TIME = "steps_to_"
"""what the name of a time to a target begins with"""

METRICS = {
    "dead_fraction": "units with f'(z) = 0 at every probe sample and position",
    "off_fraction": "units with max z ≤ 0",
    "starved_fraction": "units whose shift had a gradient of exactly 0 at every step of the epoch",
    "confirmed_dead_fraction": "units dead on the whole training set, at the end",
    "born_dead_fraction": "units dead before training",
    "always_on_fraction": "units with min z > 0",
    "saturated_fraction": "units with max |f'(z)| < 10⁻³ s_f",
    "dormant_fraction": "units with mean |h| ≤ 0.025 of the layer's mean",
    "rare_fraction": "units that respond in some but under 1 % of the samples",
    "zero_fraction": "share of h exactly 0",
    "zero_fraction_live": "the same over units that are not dead",
    "hoyer_sparsity": "(√n − ‖h‖₁/‖h‖₂)/(√n − 1), averaged",
    "pre_mean": "mean of z",
    "pre_std": "standard deviation of z",
    "post_mean": "mean of h",
    "post_std": "standard deviation of h",
    "post_absmax": "largest |h|",
    "post_q999": "0.999 quantile of |h|",
    "effective_rank": "exp of the entropy of the normalised singular values of the centred h",
    "mean_shift": "√mean_i(mean h_i)²/√mean h²: 0 centred, 1 constant units",
    "slope_mean": "mean |f'(z)|",
    "backprop_norm": "RMS of ∂ℓ_p/∂z_p over samples, positions, units",
    "weight_norm": "Frobenius norm of the feeding layer's weights",
    "weight_grad_norm": "norm of the mean probe loss's gradient of those weights",
    "update_ratio": "RMS of ‖ΔW‖/‖W‖ over the epoch's last steps",
    "learned_slope_mean": "mean of the slopes that the activation learned",
    "learned_slope_min": "the least of them",
    "learned_slope_max": "the largest of them",
    "grad_norm": "mean over the epoch's steps of the whole gradient's L2 norm, before clipping",
}

COMPARED = (
    *(f"{split}_{kind}" for split in ("test", "validation", "probe", "train") for kind in ("accuracy", "loss")),
    *("grad_norm_max", "output_range", "dead_layers_at_end", "stuck", *METRICS),
)
"""metrics that hypotheses can be about, besides steps_to_<target>"""

MARGINS = {
    "accuracy": 0.005,
    "dead_fraction": 0.02,
    "off_fraction": 0.02,
    "starved_fraction": 0.02,
    "restricted_life": 0.02,
    "steps": math.log(1.1),
}
"""defaults of `margins:`; a kind stands for every metric that ends, or for steps begins, with it"""

DEATHS = ("dead_fraction", "confirmed_dead_fraction", "born_dead_fraction", "dead_layers_at_end")
"""metrics of exact death, which many activations cannot have"""

_LESS_IS_BETTER = ("loss", "dead_fraction", "off_fraction", "starved_fraction", "stuck", "diverged")


REACHED = (50, 90, 95, 99)
"""per cent of the way from chance that are targets where none are given"""


def times_of(targets: Mapping[Any, Sequence[float]] | None) -> list[str]:
    """The names of the times to targets, as a config gives them or to those that there are without.

    >>> times_of({"test_accuracy": [0.9, 0.95]}), times_of(None)[0]
    (['steps_to_test_accuracy_0.9', 'steps_to_test_accuracy_0.95'], 'steps_to_50%')
    """
    if not targets:
        return [f"{TIME}{share}%" for share in REACHED]
    return [f"{TIME}{metric}_{level:g}" for metric, levels in targets.items() for level in levels]


def is_time(metric: str) -> bool:
    """Whether a metric is a time to a target: compared by the logarithm of a ratio, never ranked last."""
    return metric.startswith(TIME)


def target_of(metric: str) -> str:
    """The target that a time is the time to.

    >>> target_of("steps_to_95%")
    '95%'
    """
    return metric.removeprefix(TIME)


def better_sign(metric: str) -> int:
    """1 where more is better, −1 where less is, 0 where neither is.

    >>> [better_sign(metric) for metric in ("test_accuracy", "test_loss", "steps_to_95%", "zero_fraction")]
    [1, -1, -1, 0]
    """
    if metric.endswith(("accuracy", "restricted_life")):
        return 1
    return -1 if is_time(metric) or metric.endswith(_LESS_IS_BETTER) else 0


def margin_of(metric: str, given: Mapping[str, float] | None = None) -> float:
    """The margin of a metric: as given for it or its kind, else the default of its kind; NaN if it has none.

    >>> [margin_of("test_accuracy"), margin_of("test_accuracy", {"accuracy": 0.01}), margin_of("gain")]
    [0.005, 0.01, nan]
    """
    own = given or {}
    if metric in own:
        return float(own[metric])
    kinds = ["steps"] if is_time(metric) else [kind for kind in MARGINS if metric.endswith(kind)]
    return float(next((source[kind] for source in (own, MARGINS) for kind in kinds if kind in source), math.nan))
