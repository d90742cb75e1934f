"""What a config says of its answers: expectations stated beforehand, and axes that each activation is tuned over."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from reluexp.catalogue.metrics import METRICS, is_time
from reluexp.catalogue.registry import Options, nearest

__all__ = ["TUNING_OFFSET", "Hypothesis", "Tune"]

TUNING_OFFSET = 1_000_000
"""the seeds used for choosing are this and the numbers after it, so that they are not those of the comparison"""

Level = str | int | float | bool | dict[str, Any]


def _whole(axis: str) -> str:
    return "train.optimizer.lr" if axis == "train.lr" else axis


class Hypothesis(Options):
    """One expectation: in every setting (or those of `where`) a level lies above, below or beside another."""

    metric: str = Field(
        description="a column that can be compared, such as test_accuracy, or a time to a target: steps_to_95%, or of "
        "those in `targets` such as steps_to_test_accuracy_0.9"
    )
    activation: Level | None = Field(None, description="the level that is compared; short for `level` by activation")
    by: str = Field("activation", description="the axis whose levels are compared")
    level: Level | None = Field(None, description="the level that is compared, as the grid has it")
    against: Level | None = Field(None, description="the level it is compared with; default: the baseline")
    direction: Literal["greater", "less", "equal"] = Field(
        description="greater: level − against > margin; less: < −margin; equal: within ±margin"
    )
    margin: float | None = Field(None, gt=0, description="smallest difference that matters; default: that of `margins`")
    at: Literal["last", "best", "auc"] = Field("last", description="the end, best on validation, or the mean")
    where: dict[str, Level] | None = Field(None, description="values of other axes that it is confined to")

    @field_validator("metric")
    @classmethod
    def metric_is_known(cls, value: str) -> str:
        """A misspelt metric must be found before training."""
        if value not in METRICS and not is_time(value):
            raise ValueError(f"a metric: {', '.join(METRICS)}, steps_to_<target>{nearest(value, list(METRICS))}")
        return value

    @field_validator("by")
    @classmethod
    def rates_have_a_short_name(cls, value: str) -> str:
        """As everywhere in a config."""
        return _whole(value)

    @field_validator("where")
    @classmethod
    def so_have_those_of_where(cls, value: dict[str, Level] | None) -> dict[str, Level] | None:
        """As everywhere in a config."""
        return value and {_whole(axis): level for axis, level in value.items()}

    @model_validator(mode="after")
    def one_level_is_named(self) -> Hypothesis:
        """Either `activation`, or `by` and `level`."""
        if (self.activation is None) == (self.level is None):
            raise ValueError("a hypothesis with either `activation`, or `by` and `level`")
        if self.activation is not None and self.by != "activation":
            raise ValueError("a hypothesis with `level` rather than `activation` where `by` is another axis")
        if self.by != "activation" and self.against is None:
            raise ValueError("a hypothesis that says what it is `against`, since `by` is not the activation")
        return self


class Tune(Options):
    """Each activation gets its own best setting of some axes, chosen on the validation split with other seeds."""

    over: Annotated[list[str], Field(min_length=1)] = Field(
        description="grid axes to choose by, such as train.optimizer.lr; grids with one value are left alone"
    )
    grids: list[int] | None = Field(
        None, description="places of the grids of a union that are tuned, from 0; default: all with several values"
    )
    seeds: int = Field(3, ge=1, le=10_000, description="networks per candidate, with seeds of their own")
    metric: Literal["validation_accuracy", "validation_loss"] = Field(
        "validation_accuracy", description="what the choice is made by, at the end of training"
    )

    @field_validator("over")
    @classmethod
    def activations_are_compared_not_chosen(cls, value: list[str]) -> list[str]:
        """The activation is what the tuning is for."""
        if any(axis.partition(".")[0] == "activation" for axis in value):
            raise ValueError("axes other than the activation, such as train.optimizer.lr")
        return list(map(_whole, value))
