"""The short form of tests/calibration.py: errors stay within their bounds, and a broken correction would not."""

from __future__ import annotations

import pytest
from calibration import Draw, coverage, discrete, families, lognormal, normal, tasks_coverage

STUDIES = 60


@pytest.mark.slow
@pytest.mark.parametrize("draw", [normal, discrete], ids=["normal", "in steps"])
def test_families_without_a_difference_seldom_claim_one(draw: Draw) -> None:
    rates = families(draw, STUDIES)
    assert rates.significant <= rates.bound
    assert rates.beyond <= rates.bound
    assert rates.equal <= rates.bound


def test_intervals_cover_the_truth() -> None:
    assert 0.93 <= coverage(normal, 2000) <= 0.97
    assert coverage(lognormal, 2000) >= 0.90


def test_bounds_over_data_sets_cover_the_truth_from_five_seeds_and_plain_percentiles_would_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reluexp.stats.across._RESAMPLES", 500)
    wide = tasks_coverage(normal, 100)
    monkeypatch.setattr("reluexp.stats.across.expanded_tail", lambda sizes: 0.025)
    assert tasks_coverage(normal, 100) + 0.03 < wide >= 0.95


@pytest.mark.slow
def test_without_the_correction_the_bound_would_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reluexp.stats.comparison.holm", lambda p: p)
    assert families(normal, STUDIES).significant > 0.12
