"""What a study's frames say: final metrics, intervals over seeds, times to a target, paired differences.

Pure functions from frames to frames. The trial is the unit of replication; axes other than the one compared are never
pooled as if they were seeds. A *setting* is one combination of activation and the other grid axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from scipy import stats

from reluexp.catalogue.activations import ACTIVATIONS, style_of

__all__ = [
    "METRICS",
    "Interval",
    "Results",
    "aggregate",
    "axis_names",
    "can_die",
    "column_intervals",
    "curves",
    "describe_targets",
    "final_metrics",
    "groups",
    "headline_target",
    "in_order",
    "mean_interval",
    "other_axes",
    "over_sites",
    "paired_difference",
    "paired_differences",
    "setting_columns",
    "settings",
    "sound",
    "steps_to_target",
    "summary",
]

METRICS = (
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "probe_accuracy",
    "dead_fraction",
    "born_dead_fraction",
    "off_fraction",
    "zero_fraction",
    "grad_norm",
)
"""the columns of `final_metrics` that have a mean over seeds"""

_FROM_EPOCHS = ("test_accuracy", "test_loss", "train_accuracy", "probe_accuracy", "grad_norm")
_WAY = (50, 90, 95, 99)


class Results(Protocol):
    """What the statistics and the report need of a study; `reluexp.load` returns one."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def provenance(self) -> dict[str, Any]: ...
    @property
    def axes(self) -> list[str]: ...
    @property
    def baseline(self) -> str | None: ...
    @property
    def targets(self) -> dict[str, list[float]] | None: ...
    @property
    def trials(self) -> pd.DataFrame: ...
    @property
    def epochs(self) -> pd.DataFrame: ...
    @property
    def layers(self) -> pd.DataFrame: ...
    @property
    def units(self) -> pd.DataFrame: ...
    @property
    def timing(self) -> pd.DataFrame: ...


class Interval(NamedTuple):
    """A mean of n values and the bounds of its interval; the bounds are NaN where n is below 2."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; False without an interval."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Mean with its t interval (Student 1908); values that are not finite are left out, and n says so.

    >>> mean_interval([1.0, 2.0, 3.0, float("nan")]).n
    3
    """
    frame = pd.DataFrame({"value": np.asarray(list(values), dtype=float)})
    row = aggregate(frame, [], "value", level).iloc[0]
    return Interval(float(row["mean"]), float(row["low"]), float(row["high"]), int(row["n"]))


def aggregate(frame: pd.DataFrame, by: Sequence[str], metric: str, level: float = 0.95) -> pd.DataFrame:
    """Mean, low, high and n of a metric's finite values for each combination of `by` (one row if `by` is empty)."""
    keys = list(by)
    values = frame[keys].assign(_value=_finite(frame[metric]), _all=0)
    grouped = values.groupby(keys or ["_all"], sort=False, dropna=False)["_value"]
    with np.errstate(over="ignore", invalid="ignore"):
        found = grouped.agg(mean="mean", error="sem", n="count").reset_index()
    if not keys and found.empty:
        found = pd.DataFrame({"mean": [math.nan], "error": [math.nan], "n": [0]})
    half = _half_width(found["error"], found["n"], level)
    found = found.assign(low=found["mean"] - half, high=found["mean"] + half)
    return found[[*keys, "mean", "low", "high", "n"]]


def sound(epochs: pd.DataFrame, metric: str) -> pd.Series:
    """A metric's finite values; an accuracy is NaN where its loss is not finite, being an accident of argmax there."""
    values, loss = _finite(epochs[metric]), metric.replace("accuracy", "loss")
    measured = loss in epochs and not metric.startswith("train_")
    return values.where(_finite(epochs[loss]).notna()) if measured else values


def column_intervals(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low, high and n of each column of [trial, x]: what `aggregate` gives, for a matrix that may hold NaN.

    >>> [part.tolist() for part in column_intervals(np.array([[1.0, 2.0], [1.0, np.nan]]))]
    [[1.0, 2.0], [1.0, nan], [1.0, nan], [2, 1]]
    """
    finite = np.isfinite(values)
    n = finite.sum(0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = np.where(finite, values, 0.0).sum(0) / n
        squares = np.where(finite, values - mean, 0.0) ** 2
        half = _half_width(np.sqrt(squares.sum(0) / (n - 1) / n), n, level)
    return mean, mean - half, mean + half, n


def curves(frame: pd.DataFrame, metric: str, by: Sequence[str], x: str = "epoch", level: float = 0.95) -> pd.DataFrame:
    """Mean, low, high and n over trials at each x, for each combination of `by`; the band is pointwise."""
    return aggregate(frame, [*by, x], metric, level).sort_values([*by, x], kind="stable", ignore_index=True)


def can_die(label: str) -> bool:
    """Whether units with this activation can be dead exactly; a user's own is taken to, as nothing is known of it."""
    name = label.partition("(")[0]
    return ACTIVATIONS[name].half_line if name in ACTIVATIONS else True


def in_order(values: Iterable[Any], axis: str) -> list[Any]:
    """The distinct values as tables and figures list them: activations by catalogue, numbers by size, then by name."""
    known = ACTIVATIONS.names

    def place(value: Any) -> tuple[float, float, str]:
        if axis == "activation":
            name = str(value).partition("(")[0]
            return (known.index(name) if name in known else len(known), 0.0, str(value))
        if isinstance(value, (int, float, np.number)):
            return (0, float(value), "")
        return (1, 0.0, str(value))

    return sorted(set(values), key=place)


def axis_names(axes: Sequence[str]) -> dict[str, str]:
    """Short names of dotted axes: the last part where that is unique.

    >>> axis_names(["architecture.depth", "train.optimizer.lr"])
    {'architecture.depth': 'depth', 'train.optimizer.lr': 'lr'}
    """
    last = [axis.rpartition(".")[2] for axis in axes]
    return {axis: part if last.count(part) == 1 else axis for axis, part in zip(axes, last, strict=True)}


def other_axes(study: Results) -> list[str]:
    """The grid's axes besides the activation."""
    return [axis for axis in study.axes if axis != "activation"]


def setting_columns(study: Results) -> list[str]:
    """The columns that tell one setting from another: the activation first, then the other axes."""
    return ["activation", *other_axes(study)]


def settings(study: Results) -> pd.DataFrame:
    """The trials, in the order of settings and seeds, with axis values that can be grouped by."""
    frame = study.trials.copy()
    for axis in setting_columns(study):
        frame[axis] = [_groupable(value) for value in frame[axis]]
    frame["stuck"] = frame["stuck"].eq(True).fillna(False).astype(bool)
    columns = [*other_axes(study), "activation"]
    ranks = {axis: {value: i for i, value in enumerate(in_order(frame[axis], axis))} for axis in columns}
    keys = pd.DataFrame({axis: frame[axis].map(ranks[axis]) for axis in columns}).assign(seed=frame["seed"])
    return frame.loc[keys.sort_values([*columns, "seed"], kind="stable").index].reset_index(drop=True)


def groups(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """The parts of a frame for each combination of `by`, in order of appearance; the whole if `by` is empty."""
    if not by:
        yield {}, frame
        return
    for key, part in frame.groupby(list(by), sort=False, dropna=False):
        yield dict(zip(by, key, strict=True)), part


def over_sites(layers: pd.DataFrame, metric: str, by: Sequence[str] = ("trial", "epoch", "step")) -> pd.DataFrame:
    """A site metric averaged over the hidden sites by their widths, so that every unit counts once.

    Rows without a site (the output layer) and values that are not finite enter no average.
    """
    keys = list(by)
    if layers.empty or metric not in layers:
        return pd.DataFrame({key: [] for key in [*keys, metric]})
    rows = layers.assign(_value=_finite(layers[metric]))
    rows = rows[rows["site"].notna() & rows["_value"].notna()]
    weight = rows["width"].astype(float)
    sums = rows[keys].assign(_total=rows["_value"] * weight, _weight=weight).groupby(keys).sum()
    return (sums["_total"] / sums["_weight"]).rename(metric).reset_index()


def final_metrics(study: Results) -> pd.DataFrame:
    """One row per trial: its setting, seed, outcome and METRICS at the end, and `steps_to_<target>` columns.

    A diverged trial keeps its last finite values, else chance; a failed one has none. Steps are inf for never.
    """
    final = _finals(study)
    for metric in study.targets or ("probe_accuracy",):
        steps = steps_to_target(study, metric)
        for target, part in steps.groupby("target", sort=False):
            final[f"steps_to_{target}"] = final["trial"].map(part.set_index("trial")["steps"])
    return final


def summary(study: Results, level: float = 0.95, final: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per setting: counts of outcomes, `<metric>_{mean,low,high,n}`, and medians of the steps to each target.

    `test_accuracy_learned_*` leave out diverged and stuck trials. A median is inf when half of the trials or more never
    reached the target; `<steps>_never` counts them. `final` is `final_metrics(study)`, if it is at hand.
    """
    keys = setting_columns(study)
    final = final_metrics(study) if final is None else final
    learned = final["outcome"].eq("finished") & ~final["stuck"]
    final = final.assign(test_accuracy_learned=final["test_accuracy"].where(learned))
    table = _counts(final, keys)
    for metric in (*METRICS, "test_accuracy_learned"):
        part = aggregate(final, keys, metric, level).set_index(keys)
        table = table.join(part.add_prefix(f"{metric}_"))
    for column in [name for name in map(str, final.columns) if name.startswith("steps_to_")]:
        steps = final.groupby(keys, sort=False)[column]
        table[f"{column}_median"] = steps.median()
        table[f"{column}_never"] = steps.agg(lambda values: int(np.isinf(values).sum()))
        table[f"{column}_n"] = steps.count()
    return table.reset_index()


def steps_to_target(study: Results, metric: str = "probe_accuracy") -> pd.DataFrame:
    """Steps at which each trial reached each target: trial, target, rule, value, steps (inf: never, NaN: failed).

    Interpolated linearly between measurements; reached when it holds at two in a row.
    """
    trials, targets = settings(study), _targets(study, metric)
    paths = _paths(study.epochs, metric)
    sign = -1.0 if metric.endswith("loss") else 1.0
    found = []
    for where, part in groups(trials, other_axes(study)):
        for target in _matching(targets, where).to_dict("records"):
            for trial, outcome in zip(part["trial"], part["outcome"], strict=True):
                steps, values = paths.get(trial, (np.empty(0), np.empty(0)))
                reached = math.nan if outcome == "failed" else _crossing(steps, sign * values, sign * target["value"])
                found.append((trial, target["target"], target["rule"], target["value"], reached))
    return pd.DataFrame(found, columns=["trial", "target", "rule", "value", "steps"])


def describe_targets(study: Results) -> str:
    """The rule behind every target, for a table's caption."""
    rules = [rule for metric in study.targets or ("probe_accuracy",) for rule in _targets(study, metric)["rule"]]
    chosen = [rule for rule in dict.fromkeys(rules) if not study.targets] or list(dict.fromkeys(rules))
    return (
        "Steps to a target are interpolated between measurements and count when the target holds at two in a row; "
        f"medians, with never ranked last. Targets: {'; '.join(chosen)}."
    )


def headline_target(study: Results) -> tuple[str, str]:
    """The target that tables show when they show one, as its column in `final_metrics` and its rule in words."""
    metric = next(iter(study.targets), "probe_accuracy") if study.targets else "probe_accuracy"
    rows = _targets(study, metric).drop_duplicates("target")
    chosen = rows[rows["target"] == "95%"] if not study.targets else rows.tail(1)
    return f"steps_to_{chosen['target'].iloc[0]}", str(chosen["rule"].iloc[0])


def paired_differences(
    study: Results,
    metric: str = "test_accuracy",
    by: str = "activation",
    baseline: str | None = None,
    final: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Level minus baseline, paired by seed and every other axis: one row per other-axes combination and level.

    Columns: the other axes, `by`, metric, baseline, mean, low, high, n (pairs). Pairs without a finite difference are
    dropped; without a baseline the frame is empty. These are exploratory: nothing is corrected for their number.
    """
    base = baseline or study.baseline
    others = [axis for axis in setting_columns(study) if axis != by]
    final = final_metrics(study) if final is None else final
    own = final.loc[final[by] == base, [*others, "seed", metric]]
    pairs = final.loc[final[by] != base, [*others, by, "seed", metric]].merge(
        own, on=[*others, "seed"], suffixes=("", "_base"), how="inner"
    )
    pairs["difference"] = pairs[metric] - pairs[f"{metric}_base"]
    found = aggregate(pairs, [*others, by], "difference")
    found.insert(len(others) + 1, "metric", metric)
    found.insert(len(others) + 2, "baseline", base)
    return found


def paired_difference(
    study: Results, metric: str, level: str, baseline: str, where: Mapping[str, Any] | None = None
) -> Interval:
    """Mean difference of one activation to another, paired by seed, in the one combination of other axes `where`.

    Raises ValueError when `where` leaves several combinations: axes are never pooled as if they were seeds.
    """
    found = paired_differences(study, metric, baseline=baseline)
    found = _matching(found[found["activation"] == level], where or {})
    if len(found) > 1:
        raise ValueError(f"several settings have {level!r}; name one by {', '.join(other_axes(study))}")
    if found.empty:
        return Interval(math.nan, math.nan, math.nan, 0)
    row = found.iloc[0]
    return Interval(float(row["mean"]), float(row["low"]), float(row["high"]), int(row["n"]))


def _half_width(error: Any, n: Any, level: float) -> Any:
    """Half of the t interval from standard errors; NaN where n is below 2."""
    return stats.t.ppf((1 + level) / 2, np.where(n > 1, n - 1, np.nan)) * error


def _finite(values: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def _groupable(value: Any) -> Any:
    if isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (float, np.number)):
        return "not set" if math.isnan(value) else value
    return "not set" if value is None or value is pd.NA else str(value)


def _finals(study: Results) -> pd.DataFrame:
    trials = settings(study)
    frame = trials[["trial", *setting_columns(study), "seed", "outcome", "stuck"]].copy()
    for metric in _FROM_EPOCHS:
        frame[metric] = _end_of_training(study, trials, metric)
    for metric in ("dead_fraction", "off_fraction", "zero_fraction"):
        frame[metric] = frame["trial"].map(_over_all_units(study.layers, metric))
    frame["dead_fraction"] = _finite(trials["dead_fraction"]).fillna(frame["dead_fraction"])
    frame["born_dead_fraction"] = frame["trial"].map(_over_all_units(study.layers, "dead_fraction", first=True))
    frame.loc[frame["outcome"] == "failed", list(METRICS)] = math.nan
    return frame[["trial", *setting_columns(study), "seed", "outcome", "stuck", *METRICS]]


def _end_of_training(study: Results, trials: pd.DataFrame, metric: str) -> pd.Series:
    """The last finite value of each trial; of a diverged one that has none, what chance gives."""
    values = trials["trial"].map(_last_finite(study.epochs, metric))
    chance = {"accuracy": 1 / trials["classes"], "loss": np.log(trials["classes"])}
    default = chance.get(metric.rpartition("_")[2], pd.Series(math.nan, index=trials.index))
    return values.where(values.notna() | (trials["outcome"] != "diverged"), default)


def _last_finite(epochs: pd.DataFrame, metric: str) -> pd.Series:
    if epochs.empty or metric not in epochs:
        return pd.Series(dtype=float)
    rows = epochs[["trial", "step"]].assign(value=sound(epochs, metric)).dropna().sort_values("step", kind="stable")
    return rows.drop_duplicates("trial", keep="last").set_index("trial")["value"]


def _over_all_units(layers: pd.DataFrame, metric: str, first: bool = False) -> pd.Series:
    """A site metric over all hidden units of each trial, at its first or last measurement."""
    if layers.empty or metric not in layers:
        return pd.Series(dtype=float)
    rows = layers[layers["site"].notna() & layers[metric].notna()]
    step = rows.groupby("trial")["step"].transform("min" if first else "max")
    return over_sites(rows[rows["step"] == step], metric, ["trial"]).set_index("trial")[metric]


def _counts(final: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    flags = final[keys].assign(
        trials=1,
        finished=final["outcome"].eq("finished"),
        diverged=final["outcome"].eq("diverged"),
        stuck=final["stuck"],
        failed=final["outcome"].eq("failed"),
    )
    return flags.groupby(keys, sort=False).sum().astype(int)


def _matching(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def _targets(study: Results, metric: str) -> pd.DataFrame:
    """The targets of a metric for each combination of the other axes: those columns, target, rule, value."""
    others = other_axes(study)
    shown = metric.replace("_", " ")
    given = (study.targets or {}).get(metric)
    if given is None:
        return _relative_targets(study, metric)
    sign = "≤" if metric.endswith("loss") else "≥"
    rows = [
        {**where, "target": f"{metric}_{value:g}", "rule": f"{shown} {sign} {value:g}", "value": float(value)}
        for where, _ in groups(settings(study), others)
        for value in given
    ]
    return pd.DataFrame(rows, columns=[*others, "target", "rule", "value"])


def _relative_targets(study: Results, metric: str) -> pd.DataFrame:
    others, shown = other_axes(study), metric.replace("_", " ")
    trials = settings(study)
    ended = trials["outcome"] != "failed"
    final = trials.assign(value=_end_of_training(study, trials, metric).where(ended))
    rows = []
    for where, part in groups(final, others):
        chance = 1 / float(part["classes"].iloc[0])
        goal, whose = _goal(part, chance, study.baseline)
        for share in _WAY:
            rule = f"{share} % of the way from chance to the median final {shown} of {whose}"
            value = chance + share / 100 * (goal - chance)
            rows.append({**where, "target": f"{share}%", "rule": rule, "value": value})
    return pd.DataFrame(rows, columns=[*others, "target", "rule", "value"])


def _goal(part: pd.DataFrame, chance: float, baseline: str | None) -> tuple[float, str]:
    """The median that targets are shares of, and whose it is; NaN when nobody got beyond chance."""
    found = part.groupby("activation", sort=False)["value"].median().dropna()
    medians = {str(label): float(value) for label, value in found.items()}
    if medians.get(str(baseline), chance) > chance:
        return medians[str(baseline)], style_of(str(baseline))[0]
    best = max(medians, key=lambda label: medians[label], default="")
    if medians.get(best, chance) <= chance:
        return math.nan, "nobody: no activation got beyond chance"
    return medians[best], f"{style_of(best)[0]} (the best; the baseline did not get beyond chance or is absent)"


def _paths(epochs: pd.DataFrame, metric: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and finite values of each trial's measurements, in order."""
    if epochs.empty or metric not in epochs:
        return {}
    rows = epochs[["trial", "step"]].assign(value=sound(epochs, metric)).sort_values(["trial", "step"], kind="stable")
    names, starts = np.unique(rows["trial"].to_numpy(str), return_index=True)
    steps = np.split(rows["step"].to_numpy(float), starts[1:])
    values = np.split(rows["value"].to_numpy(float), starts[1:])
    return dict(zip(map(str, names), zip(steps, values, strict=True), strict=True))


def _crossing(steps: np.ndarray, values: np.ndarray, target: float) -> float:
    """The interpolated step at which `values` comes to stay at or above `target` for two measurements; inf if never."""
    above = values >= target
    held = np.flatnonzero(above[:-1] & above[1:])
    if held.size == 0:
        return math.inf
    i = int(held[0])
    if i == 0 or math.isnan(values[i - 1]):
        return float(steps[i])
    share = (target - values[i - 1]) / (values[i] - values[i - 1])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))
