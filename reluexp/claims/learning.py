"""What is claimed of learning: what can be learned, how fast, how deep, and what it costs when units are dead."""

from __future__ import annotations

import math

import numpy as np

from reluexp.claims.claim import Evidence, Part
from reluexp.claims.field import Field, Group
from reluexp.claims.largest import median_of, ratio_contrast, smaller_than
from reluexp.stats import Contrast, mean_interval, outcome_of

__all__ = ["accuracy", "convergence", "depth", "dying_setting", "elu", "leaky", "nonlinear", "prelu"]

POINT = 0.01
_FASTER = math.log(1.1)
_TARGET = 0.95
_TRAINED, _DEEPEST, _BUDGET = 0.90, 32, 10
_CLASSES = "data with classes: real targets have no accuracy"


def accuracy_gap(field: Field, group: Group, level: str, base: str, threshold: float, label: str) -> Part:
    """level − base in final test accuracy, above a threshold; nothing is known where neither net of a pair learned."""
    values, idle = field.paired(group, level, base, field.metric("test_accuracy")), field.idle(group, level, base)
    contrast = Contrast(label, values[~idle], "greater", threshold, int(idle.sum()))
    numbers = _idle_pairs(int(idle.sum()), len(idle))
    return Part(f"{label} ({group.about})", [contrast], "points", 100, numbers)


def _idle_pairs(idle: int, pairs: int) -> str:
    return f"in {idle} of {pairs} pairs neither net learned" if idle else ""


def slower(field: Field, group: Group, slow: str, fast: str) -> Part:
    """ln of the ratio of steps to 95 % probe accuracy, one activation over another, above ln 1.1."""
    label = f"steps to {100 * _TARGET:g} % probe accuracy, {slow} / {fast}"
    reached = field.steps("probe_accuracy", _TARGET)
    values = field.paired(group, slow, fast, {k: math.log(max(v, 1.0)) for k, v in reached.items()})
    neither = field.neither(group, slow, fast, reached)
    never = {name: _nevers(field.single(group, name, reached)) for name in (slow, fast)}
    numbers = f"never within the budget: {slow} {never[slow]}, {fast} {never[fast]}"
    contrast = Contrast(label, values, "greater", _FASTER, neither)
    return Part(f"{label} ({group.about})", [contrast], "ratio", numbers=numbers)


def _nevers(steps: np.ndarray) -> str:
    return f"{int(np.isinf(steps).sum())} of {len(steps)}"


def nonlinear(field: Field) -> Evidence:
    """Accuracy relu − identity above 1 point in the base setting, and 20 points on the spirals."""
    parts, missing = [], []
    home = field.home("relu", "identity")
    if home:
        parts.append(accuracy_gap(field, home, "relu", "identity", POINT, "relu − identity"))
    else:
        missing.append("relu and identity in the base setting")
    spirals = field.where("relu", "identity", dataset__name="spirals")
    if spirals:
        parts.append(accuracy_gap(field, spirals[0], "relu", "identity", 20 * POINT, "relu − identity on the spirals"))
    else:
        missing.append("relu and identity on the data set spirals")
    return Evidence(parts, missing)


def convergence(field: Field) -> Evidence:
    """Sigmoid and tanh each need more than 1.1 times relu's steps to 95 % probe accuracy."""
    if not outcome_of(field.study).share:
        return Evidence(missing=[_CLASSES])
    parts, missing = [], []
    for rival in ("sigmoid", "tanh"):
        home = field.home("relu", rival)
        if home:
            parts.append(slower(field, home, rival, "relu"))
        else:
            missing.append(f"relu and {rival} in the base setting")
    return Evidence(parts, missing)


def elu(field: Field) -> Evidence:
    """Mean shift relu − elu above 0.1 at the end, and relu needs more than 1.1 times elu's steps."""
    home = field.home("relu", "elu")
    if home is None:
        return Evidence(missing=["relu and elu in the base setting"])
    shift = field.paired(home, "relu", "elu", field.metric("mean_shift"))
    contrast = Contrast("mean shift", shift, "greater", 0.1)
    moved = Part(f"mean shift relu − elu ({home.about})", [contrast])
    if not outcome_of(field.study).share:
        return Evidence([moved], missing=[_CLASSES])
    return Evidence([moved, slower(field, home, "relu", "elu")])


def prelu(field: Field) -> Evidence:
    """Some site's learned slope moved over 0.05 from 0.25, and accuracy is above leaky(0.25)'s by 0.3 points."""
    fixed = "leaky_relu(negative_slope=0.25)"
    home = field.home("prelu", fixed)
    if home is None:
        return Evidence(missing=["prelu and leaky_relu with negative_slope 0.25 in the base setting"])

    def moved(rows: object) -> float:
        return float(np.abs(rows["learned_slope_mean"] - 0.25).max())  # type: ignore[index]

    slopes = field.single(home, "prelu", field.sites("learned_slope_mean", moved, "end"))
    return Evidence(
        [
            Part(f"largest move of a slope ({home.about})", [Contrast("slope", slopes, "greater", 0.05)]),
            accuracy_gap(field, home, "prelu", fixed, 0.3 * POINT, "prelu − leaky(0.25)"),
        ]
    )


def dying_setting(field: Field, *labels: str) -> list[Group]:
    """Deep narrow nets at high rates: ten hidden layers or more, at most ten wide."""
    return field.where(*labels, tuned=False, architecture__depth=_at_least(10), architecture__width=_at_most(10))


def _at_least(bound: float) -> object:
    return lambda value: isinstance(value, (int, float)) and value >= bound


def _at_most(bound: float) -> object:
    return lambda value: isinstance(value, (int, float)) and value <= bound


def leaky(field: Field) -> Evidence:
    """Where 20 % of relu's units are confirmed dead or more: accuracy + 1 point, starved − 0.1; elsewhere no harm."""
    parts, missing, notes = [], [], []
    confirmed = field.metric("confirmed_dead_fraction")
    for group in dying_setting(field, "relu", "leaky_relu"):
        share = mean_interval(field.single(group, "relu", confirmed)).mean
        if not share >= 0.2:
            notes.append(f"{group.about}: only {100 * share:.0f} % of relu's units are confirmed dead, below 20 %")
            continue
        parts.append(accuracy_gap(field, group, "leaky_relu", "relu", POINT, "leaky − relu where relu dies"))
        starved = field.paired(group, "leaky_relu", "relu", field.metric("starved_fraction"))
        contrast = Contrast("starved", starved, "less", -0.1)
        parts.append(Part(f"starved leaky − relu ({group.about})", [contrast], "points", 100))
    if not parts:
        missing.append(
            "relu and leaky_relu in deep narrow nets (depth ≥ 10, width ≤ 10) in which 20 % of relu's units die or more"
        )
    home = field.home("relu", "leaky_relu")
    if home:
        parts.append(accuracy_gap(field, home, "leaky_relu", "relu", -0.5 * POINT, "no harm: leaky − relu"))
    else:
        missing.append("relu and leaky_relu in the base setting")
    return Evidence(parts, missing, notes)


def depth(field: Field) -> Evidence:
    """log₂ of the ratio of the largest depths, up to 32, trained to 90 % in 10 epochs: relu over a rival above 0.5."""
    parts, missing = [], []
    for rival in ("sigmoid", "tanh"):
        found = [
            series
            for group in field.where("relu", rival, tuned=False, train__epochs=_at_most(_BUDGET))
            if len(series := _depths(field, group, rival)) >= 3
        ]
        if not found:
            missing.append(f"relu and {rival} at three depths or more up to {_DEEPEST}, {_BUDGET} epochs")
            continue
        series = found[0]
        own, other = (_deepest(field, series, name) for name in ("relu", rival))
        numbers = f"median depths: relu {median_of(own, series)}, {rival} {median_of(other, series)}"
        about = f"{rival} at depths {', '.join(map(str, sorted(series)))}"
        contrast = ratio_contrast(rival, own, other, series, 0.5, _DEEPEST)
        parts.append(Part(f"log₂ depth relu / {about}", [contrast], numbers=numbers))
    return Evidence(parts, missing)


def _depths(field: Field, group: Group, rival: str) -> dict[int, Group]:
    series = field.alike(group, "architecture.depth", "relu", rival)  # of no architecture but some is depth a number
    return {value: own for value, own in series.items() if type(value) is int and value <= _DEEPEST}


def _deepest(field: Field, series: dict[int, Group], label: str) -> dict[int, float]:
    """The largest depth at which each seed came to 90 % probe accuracy; half the smallest depth for none."""
    steps = field.steps("probe_accuracy", _TRAINED)
    seeds = set.intersection(*(set(group.trials[label]) for group in series.values()))
    return {
        seed: max(
            (d for d, group in series.items() if math.isfinite(steps.get(group.trials[label][seed], math.inf))),
            default=smaller_than(series),
        )
        for seed in sorted(seeds)
    }


def accuracy(field: Field) -> Evidence:
    """Disabling half of the units for good costs more than half a point; beside it the net with half the width."""
    found = []
    for group in field.where("relu", init__dead=0.5):
        whole = field.alike(group, "init.dead", "relu").get(0.0)
        if whole:
            found.append((group, whole))
    if not found:
        return Evidence(missing=["relu with init.dead 0.5 and 0, all else equal"])
    dead, whole = found[0]
    metric = field.metric("test_accuracy")
    loss, idle = _between(field, whole, dead, "relu")
    notes = []
    width = getattr(whole.setting.architecture, "width", None)
    half = field.alike(whole, "architecture.width", "relu").get(width // 2) if isinstance(width, int) else None
    if half:
        control = mean_interval(100 * _between(field, whole, half, "relu")[0])
        size, low, high = (f"{value:.2f}".replace("-", "−") for value in (control.mean, control.low, control.high))
        told = f"control: half the width costs {size} points [{low}, {high}], so lost capacity alone explains that much"
        notes.append(told)
    else:
        notes.append("without its control, a net of half the width: lost capacity alone may explain as much")
    share = mean_interval(field.single(dead, "relu", metric)).n
    contrast = Contrast("intervention", loss, "greater", 0.005, idle)
    several = (f"{share} nets with half of their units dead", _idle_pairs(idle, idle + len(loss)))
    numbers = ", ".join(filter(None, several))
    part = Part(f"accuracy none dead − half dead ({whole.about})", [contrast], "points", 100, numbers)
    return Evidence([part], notes=notes)


def _between(field: Field, left: Group, right: Group, label: str) -> tuple[np.ndarray, int]:
    """left − right in final test accuracy of one activation in two groups, by seed; how many seeds neither learned."""
    metric, stuck = field.metric("test_accuracy"), field.metric("stuck")
    own, other = left.trials[label], right.trials[label]
    pairs = [(own[seed], other[seed]) for seed in own if seed in other]
    told = [(a, b) for a, b in pairs if not stuck.get(a) == stuck.get(b) == 1]
    return np.array([metric[a] - metric[b] for a, b in told]), len(pairs) - len(told)
