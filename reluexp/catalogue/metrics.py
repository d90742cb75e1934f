"""The metrics: what each is called, what it means, which way is better, by how much it matters; without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    *("MARGINS", "METRICS", "REACHED", "TIME", "Metric"),
    *("better_sign", "is_share", "is_time", "margin_of", "target_of", "times_of"),
]

TIME = "steps_to_"
"""what the name of a time to a target begins with"""


@dataclass(frozen=True)
class Metric:
    """One metric: its name in tables, its label in figures, and what it means in a line.

    `share` says that it lies in [0, 1], `log` that its values span decades, `better` 1 where more is better and −1
    where less is, `death` that it counts exact deaths, which many activations cannot have.
    """

    name: str
    label: str
    meaning: str = ""
    share: bool = False
    log: bool = False
    better: int = 0
    death: bool = False


def _accuracy(split: str, label: str, meaning: str) -> Metric:
    return Metric(f"{split}_accuracy", f"{label} accuracy", meaning, share=True, better=1)


def _loss(split: str, label: str, meaning: str) -> Metric:
    return Metric(f"{split}_loss", f"{label} loss", meaning, log=True, better=-1)


def _units(name: str, label: str, meaning: str, better: int = 0, death: bool = False) -> Metric:
    return Metric(f"{name}_fraction", label, meaning, share=True, better=better, death=death)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _loss("train", "training", "loss in training, mean over the epoch's steps; null in row 0"),
        _accuracy("train", "training", "accuracy in training, likewise"),
        _loss("probe", "probe", "loss on the probe, in measuring mode; null in epochs that were not measured"),
        _accuracy("probe", "probe", "accuracy on the probe"),
        _loss("validation", "validation", "loss on the validation split; null without one"),
        _accuracy("validation", "validation", "accuracy on the validation split"),
        _loss("test", "test", "loss on the test split"),
        _accuracy("test", "test", "accuracy on the test split; accuracies are null for regressions"),
        Metric(
            "grad_norm",
            "L2 norm of the gradient",
            "mean over the epoch's steps of the whole gradient's L2 norm, before clipping",
            log=True,
        ),
        Metric("grad_norm_max", "largest norm of the gradient", "the largest of these norms", log=True),
        Metric("output_range", "range of the outputs", "largest range of an output over the probe", log=True),
        Metric(
            "stuck",
            "stuck nets",
            "whether the last training accuracy is not above the largest class's share + 3 standard errors",
            share=True,
            better=-1,
        ),
        Metric(
            "dead_layers_at_end",
            "dead layers at the end",
            "number of sites all of whose units are dead at the end",
            death=True,
        ),
        _units("dead", "dead units", "units with f'(z) = 0 at every probe sample and position", -1, True),
        _units("off", "units that are off", "units with max z ≤ 0", -1),
        _units(
            "starved", "starved units", "units whose shift had a gradient of exactly 0 at every step of the epoch", -1
        ),
        _units("confirmed_dead", "units confirmed dead", "units dead on the whole training set, at the end", -1, True),
        _units("born_dead", "units born dead", "units dead before training", -1, True),
        _units("always_on", "units that are always on", "units with min z > 0"),
        _units("saturated", "saturated units", "units with max |f'(z)| < 10⁻³ s_f"),
        _units("dormant", "dormant units", "units with mean |h| ≤ 0.025 of the layer's mean"),
        _units("rare", "rare units", "units that respond in some but under 1 % of the samples"),
        _units("zero", "activations that are 0", "share of h exactly 0"),
        Metric(
            "zero_fraction_live",
            "activations of live units that are 0",
            "the same over units that are not dead",
            share=True,
        ),
        Metric("hoyer_sparsity", "Hoyer sparsity", "(√n − ‖h‖₁/‖h‖₂)/(√n − 1), averaged", share=True),
        Metric("pre_mean", "mean of z", "mean of z"),
        Metric("pre_std", "standard deviation of z", "standard deviation of z", log=True),
        Metric("post_mean", "mean of h", "mean of h"),
        Metric("post_std", "standard deviation of h", "standard deviation of h", log=True),
        Metric("post_absmax", "largest |h|", "largest |h|", log=True),
        Metric("post_q999", "0.999 quantile of |h|", "0.999 quantile of |h|", log=True),
        Metric(
            "effective_rank",
            "effective rank",
            "exp of the entropy of the normalised singular values of the centred h",
        ),
        Metric("mean_shift", "mean shift", "√mean_i(mean h_i)²/√mean h²: 0 centred, 1 constant units", share=True),
        Metric("slope_mean", "mean |f'(z)|", "mean |f'(z)|"),
        Metric("backprop_norm", "backprop norm", "RMS of ∂ℓ_p/∂z_p over samples, positions, units", log=True),
        Metric("weight_norm", "norm of the weights", "Frobenius norm of the feeding layer's weights", log=True),
        Metric(
            "weight_grad_norm",
            "norm of the weights' gradient",
            "norm of the mean probe loss's gradient of those weights",
            log=True,
        ),
        Metric("update_ratio", "‖ΔW‖/‖W‖", "RMS of ‖ΔW‖/‖W‖ over the epoch's last steps", log=True),
        Metric("learned_slope_mean", "learned slope", "mean of the slopes that the activation learned"),
        Metric("learned_slope_min", "least learned slope", "the least of them"),
        Metric("learned_slope_max", "largest learned slope", "the largest of them"),
    )
}
"""what hypotheses can be about, besides steps_to_<target>"""

MARGINS = {
    "accuracy": 0.005,
    "dead_fraction": 0.02,
    "off_fraction": 0.02,
    "starved_fraction": 0.02,
    "restricted_life": 0.02,
    "steps": math.log(1.1),
}
"""defaults of `margins:`; a kind stands for every metric that ends, or for steps begins, with it"""

_OF_TRIALS = {"restricted_life": 1, "diverged": -1, "collapsed_at_end": -1}
"""which way is better for what comparisons know of trials besides the metrics"""

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


def is_share(metric: str) -> bool:
    """Whether a metric, or a kind of `margins:`, lies in [0, 1].

    >>> [is_share(metric) for metric in ("test_accuracy", "accuracy", "test_loss", "steps")]
    [True, True, False, False]
    """
    return METRICS[metric].share if metric in METRICS else metric in MARGINS and metric != "steps"


def better_sign(metric: str) -> int:
    """1 where more is better, −1 where less is, 0 where neither is.

    >>> [better_sign(metric) for metric in ("test_accuracy", "test_loss", "steps_to_95%", "zero_fraction")]
    [1, -1, -1, 0]
    """
    if is_time(metric):
        return -1
    return METRICS[metric].better if metric in METRICS else _OF_TRIALS.get(metric, 0)


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
