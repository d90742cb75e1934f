"""How often the statistics err, by simulation: `python tests/calibration.py` prints the table of docs/statistics.md.

Every study is simulated whole: six levels against one baseline over ten seeds. It takes some minutes on one core; the
default tests run a short form.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))

from reluexp.stats import compare_pairs, mean_interval
from reluexp.stats.across import interquartile_mean

__all__ = ["Rates", "bootstrap_coverage", "coverage", "families", "tasks_coverage"]

Draw = Callable[[np.random.Generator, int], np.ndarray]
LEVELS, SEEDS, STUDIES, MARGIN = 6, 10, 2000, 0.005


def normal(rng: np.random.Generator, count: int) -> np.ndarray:
    """Differences of mean 0 and deviation 1."""
    return rng.normal(0, 1, count)


def lognormal(rng: np.random.Generator, count: int) -> np.ndarray:
    """Skewed differences of mean 0: lognormal(0, 0.5) less its mean."""
    return rng.lognormal(0, 0.5, count) - math.exp(0.125)


def discrete(rng: np.random.Generator, count: int) -> np.ndarray:
    """Differences in steps, with many ties and zeros, as accuracies on a small test set have."""
    return rng.integers(-2, 3, count).astype(float)


class Rates(NamedTuple):
    """Shares of families with any significant p, any claim of better or worse, and any wrong claim of equality."""

    significant: float
    beyond: float
    equal: float
    studies: int

    @property
    def bound(self) -> float:
        """5 % and three standard errors of a share of that many studies."""
        return 0.05 + 3 * math.sqrt(0.05 * 0.95 / self.studies)


def simulated(draw: Draw, studies: int, shift: float, scale: float) -> Iterator[pd.DataFrame]:
    """The pairs of each study: every level against the baseline, which all of them share."""
    rng = np.random.default_rng(20_211_108)
    for _ in range(studies):
        base = draw(rng, SEEDS)
        whole = [scale * (draw(rng, SEEDS) - base) / math.sqrt(2) + shift for _ in range(LEVELS)]
        yield pd.DataFrame(
            {
                "activation": np.repeat([f"a{level}" for level in range(LEVELS)], SEEDS),
                "seed": np.tile(np.arange(SEEDS), LEVELS),
                **{"value": np.concatenate(whole), "base": 0.0, "difference": np.concatenate(whole)},
                **{"sound": True, "unknown": False},
            }
        )


def families(draw: Draw, studies: int = STUDIES) -> Rates:
    """Errors in families of six comparisons with one baseline: without a difference, then with one of the margin."""
    significant = beyond = equal = 0
    for found in simulated(draw, studies, 0.0, 0.02):
        table = compare_pairs(found, ["activation"], margin=MARGIN)
        significant += bool((table["p_holm"] <= 0.05).any())
        beyond += bool(table["verdict"].isin(["better", "worse"]).any())
    for found in simulated(draw, studies, MARGIN, 0.002):
        equal += bool((compare_pairs(found, ["activation"], margin=MARGIN)["verdict"] == "equal").any())
    return Rates(significant / studies, beyond / studies, equal / studies, studies)


def coverage(draw: Draw, studies: int = STUDIES, seeds: int = SEEDS) -> float:
    """How often the 95 % t interval of the mean difference holds the true one, 0."""
    rng = np.random.default_rng(7)
    found = [mean_interval(draw(rng, seeds)) for _ in range(studies)]
    return sum(own.low <= 0 <= own.high for own in found) / studies


def bootstrap_coverage(draw: Draw, studies: int = 400, seeds: int = 20) -> float:
    """The same of the BCa interval."""
    rng, held = np.random.default_rng(7), 0
    for _ in range(studies):
        d = draw(rng, seeds)
        found = pd.DataFrame(
            {"activation": "a", "value": d, "base": 0.0, "difference": d, "sound": True, "unknown": False}
        )
        row = compare_pairs(found, ["activation"]).iloc[0]
        held += bool(row["bca_low"] <= 0 <= row["bca_high"])
    return held / studies


def tasks_coverage(draw: Draw, studies: int = 600, tasks: int = 3, seeds: int = 5) -> float:
    """How often the bounds of the interquartile mean over several data sets, of centres ½ apart, hold the true one."""
    rng, held = np.random.default_rng(7), 0
    centres = np.arange(tasks) / 2
    truth = stats.trim_mean(np.concatenate([centre + draw(rng, 200_000) for centre in centres]), 0.25)
    for _ in range(studies):
        _, low, high = interquartile_mean([centre + draw(rng, seeds) for centre in centres])
        held += bool(low <= truth <= high)
    return held / studies


def main() -> None:
    """Prints the table."""
    print("| differences | any p ≤ 0.05 | any better or worse | any wrong equal | bound | t interval covers |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, draw in (("normal", normal), ("lognormal(0, 0.5)", lognormal), ("in five steps", discrete)):
        rates = families(draw)
        shares = [f"{100 * share:.1f} %" for share in (*rates[:3], rates.bound, coverage(draw))]
        print(f"| {name} | {' | '.join(shares)} |", flush=True)
    for name, draw in (("normal", normal), ("lognormal(0, 0.5)", lognormal)):
        shown = f"t interval {100 * coverage(draw, seeds=20):.1f} %, BCa {100 * bootstrap_coverage(draw):.1f} %"
        print(f"20 seeds, {name}: {shown} (2,000 and 400 studies)", flush=True)
    shares = [f"{100 * tasks_coverage(draw):.1f} %" for draw in (normal, lognormal, discrete)]
    print(f"three data sets, five seeds, interquartile mean: {', '.join(shares)} (600 studies)", flush=True)


if __name__ == "__main__":
    main()
