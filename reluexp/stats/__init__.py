"""What a study's frames say: pure functions from frames to frames.

The trial is the unit of replication; axes other than the one compared are never pooled as if they were seeds. A
*setting* is one combination of activation and the other grid axes.
"""

from __future__ import annotations

from reluexp.stats.across import Across, across_tasks
from reluexp.stats.choice import chosen, scores, sensitivity
from reluexp.stats.comparison import compare, compare_pairs, compare_study
from reluexp.stats.contrasts import Contrast, Decision, decide, page, simes, together
from reluexp.stats.differences import along_axes, differences
from reluexp.stats.dying import disabled, dying
from reluexp.stats.ends import over_sites
from reluexp.stats.finals import final_metrics, summary
from reluexp.stats.hypotheses import hypothesis_table, marked
from reluexp.stats.intervals import Interval, aggregate, column_intervals, curves, mean_interval, sound
from reluexp.stats.outcomes import ACCURACY, LOSS, Outcome, outcome_of, tuned_by, was_trained
from reluexp.stats.pairs import pairs
from reluexp.stats.ranks import Ranks, rank_levels
from reluexp.stats.readings import MOMENTS, none_at_all, readings
from reluexp.stats.relations import relation
from reluexp.stats.results import Results
from reluexp.stats.settings import (
    axis_names,
    axis_of,
    common_setting,
    groups,
    has_many_axes,
    in_order,
    learned,
    matching,
    other_axes,
    outcomes_told,
    setting_columns,
    setting_name,
    settings,
)
from reluexp.stats.signed_rank import ALPHA, SignedRank, holm, pairs_for, pairs_to_resolve, signed_rank, smallest_p
from reluexp.stats.survival import Survival, survival_of
from reluexp.stats.targets import describe_targets, headline_rows, headline_target, steps_to_level, steps_to_target
from reluexp.stats.times import compare_times
from reluexp.stats.unlearned import unlearned

__all__ = [
    "ACCURACY",
    "ALPHA",
    "LOSS",
    "MOMENTS",
    "Across",
    "Contrast",
    "Decision",
    "Interval",
    "Outcome",
    "Ranks",
    "Results",
    "SignedRank",
    "Survival",
    "across_tasks",
    "aggregate",
    "along_axes",
    "axis_names",
    "axis_of",
    "chosen",
    "column_intervals",
    "common_setting",
    "compare",
    "compare_pairs",
    "compare_study",
    "compare_times",
    "curves",
    "decide",
    "describe_targets",
    "differences",
    "disabled",
    "dying",
    "final_metrics",
    "groups",
    "has_many_axes",
    "headline_rows",
    "headline_target",
    "holm",
    "hypothesis_table",
    "in_order",
    "learned",
    "marked",
    "matching",
    "mean_interval",
    "none_at_all",
    "other_axes",
    "outcome_of",
    "outcomes_told",
    "over_sites",
    "page",
    "pairs",
    "pairs_for",
    "pairs_to_resolve",
    "rank_levels",
    "readings",
    "relation",
    "scores",
    "sensitivity",
    "setting_columns",
    "setting_name",
    "settings",
    "signed_rank",
    "simes",
    "smallest_p",
    "sound",
    "steps_to_level",
    "steps_to_target",
    "summary",
    "survival_of",
    "together",
    "tuned_by",
    "unlearned",
    "was_trained",
]
