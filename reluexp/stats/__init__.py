"""What a study's frames say: pure functions from frames to frames.

The trial is the unit of replication; axes other than the one compared are never pooled as if they were seeds. A
*setting* is one combination of activation and the other grid axes.
"""

from __future__ import annotations

from reluexp.stats.differences import paired_difference, paired_differences
from reluexp.stats.ends import over_sites
from reluexp.stats.finals import METRICS, final_metrics, summary
from reluexp.stats.intervals import Interval, aggregate, column_intervals, curves, mean_interval, sound
from reluexp.stats.results import Results
from reluexp.stats.settings import axis_names, can_die, groups, in_order, other_axes, setting_columns, settings
from reluexp.stats.targets import describe_targets, headline_target, steps_to_target

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
