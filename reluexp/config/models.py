"""What a config says, as frozen models with bounds; importing this module imports neither torch nor pandas."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from reluexp.catalogue.activations import ACTIVATIONS
from reluexp.catalogue.architectures import ARCHITECTURES
from reluexp.catalogue.datasets import DATASETS, DatasetOptions
from reluexp.catalogue.inits import INITS
from reluexp.catalogue.optimizers import OPTIMIZERS
from reluexp.catalogue.registry import Options, Registry, message_of
from reluexp.catalogue.schedules import SCHEDULES
from reluexp.config.inference import Hypothesis, Tune

__all__ = ["CHOICES", "PARTS", "Config", "Probe", "Setting", "Train"]

_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


class _Own(Options):
    """What the user's own is given may be anything that a file of results can say again."""

    model_config = ConfigDict(extra="allow")
    name: str

    @model_validator(mode="after")
    def arguments_can_be_said_again(self) -> Self:
        """What JSON has no word for would be something else when results are read, and the trial's name another one."""
        for key, value in (self.model_extra or {}).items():
            try:
                json.dumps(value, allow_nan=False)
            except TypeError as error:
                raise ValueError(f"what YAML has words for as {key}; {message_of(error)}") from error
            except ValueError as error:
                text = "leave it out, or give null, and let the code mean it"
                raise ValueError(f"a finite number for {key}; {text}") from error
        return self


class UserActivation(_Own):
    """An activation of the user's own, `package.module:attribute`; other keys are its arguments."""


class UserArchitecture(_Own):
    """An architecture of the user's own, `package.module:attribute`; other keys are its arguments."""


class UserDataset(DatasetOptions, _Own):
    """A data set of the user's own, `package.module:attribute`; other keys are its arguments."""

    model_config = ConfigDict(extra="allow")


class Choice:
    """Annotation of a field that names one entry of a registry: its name alone, or a mapping with `name` in it."""

    def __init__(self, registry: Registry[Any], default: str, own: type[Options] | None = None) -> None:
        self.registry, self.default, self.own = registry, default, own
        members = [Annotated[model, Tag(name)] for name, model in registry.models.items()]
        if own:
            members.append(Annotated[own, Tag("user")])
        self.union = Annotated[Union[tuple(members)], Discriminator(self._tag_of)]  # noqa: UP007 made at run time

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._spelt_out, handler.generate_schema(self.union))

    def _spelt_out(self, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value:
            return {"name": self.default, **value}
        return {"name": value} if isinstance(value, str) else value

    def _tag_of(self, value: Any) -> str | None:
        name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
        if not isinstance(name, str):
            return None
        return "user" if self.own and ":" in name else name

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        forms: list[dict[str, Any]] = [{"enum": self.registry.names}]
        if self.own:
            forms.append({"type": "string", "pattern": r"^[\w.]+:[\w.]+$"})
        return {"anyOf": [*forms, handler(schema)]}


class Train(Options):
    """How networks are trained."""

    outside_identity: ClassVar[frozenset[str]] = frozenset({"save_weights"})
    newer: ClassVar[frozenset[str]] = frozenset({"precision"})

    epochs: int = Field(20, ge=0, le=1_000_000, description="passes over the training split")
    batch_size: int = Field(64, ge=1, le=10_000_000, description="samples per step; the last batch may be smaller")
    optimizer: Annotated[Any, Choice(OPTIMIZERS, "sgd")] = Field("sgd", validate_default=True)
    schedule: Annotated[Any, Choice(SCHEDULES, "constant")] = Field("constant", validate_default=True)
    clip_norm: float | None = Field(
        None, gt=0, description="largest L2 norm of the whole gradient; no clipping if null"
    )
    deterministic: bool = Field(False, description="on a GPU: exact repetition where the kernels allow it, slower")
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32",
        description="of linear maps and convolutions in training, on a GPU; weights stay, and all is measured, in "
        "float32",
    )
    save_weights: bool = Field(True, description="keep the final weights of every trial")


class Probe(Options):
    """What is measured, on which samples, how often."""

    size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="training samples that units are measured on; auto: N/32 within [320, 2048]"
    )
    every: int = Field(1, ge=1, description="epochs between light measurements (forward only)")
    full: Literal["log", "every", "last"] = Field(
        "log",
        description="when gradients are measured too: epochs 0, 1, 4, 16, … and the last (of those "
        "measured), every measurement, the last",
    )
    early: int = Field(0, ge=0, le=1000, description="light measurements at log-spaced steps of the first epoch")
    metrics: Literal["full", "basic", "network"] = Field(
        "full", description="basic: without effective rank and causes; network: trials and epochs only"
    )


class Setting(Options):
    """Everything but the seed that decides a trial's numbers."""

    dataset: Annotated[Any, Choice(DATASETS, "digits", UserDataset)] = Field("digits", validate_default=True)
    architecture: Annotated[Any, Choice(ARCHITECTURES, "mlp", UserArchitecture)] = Field("mlp", validate_default=True)
    activation: Annotated[Any, Choice(ACTIVATIONS, "relu", UserActivation)] = Field("relu", validate_default=True)
    init: Annotated[Any, Choice(INITS, "he_normal")] = Field("he_normal", validate_default=True)
    train: Train = Train.model_validate({})
    probe: Probe = Probe.model_validate({})


PARTS = tuple(Setting.model_fields)
"""the parts of a setting"""

CHOICE_OF: dict[str, Choice] = {
    name: own
    for model in (Setting, Train)
    for name, field in model.model_fields.items()
    for own in field.metadata
    if isinstance(own, Choice)
}
"""how each field that names an entry is read"""

CHOICES: dict[str, Registry[Any]] = {name: own.registry for name, own in CHOICE_OF.items()}
"""the registry behind each of them"""

Seed = Annotated[int, Field(ge=0, lt=2**62)]


def _differing(values: list[Any]) -> list[Any]:
    if len(set(map(repr, values))) < len(values):
        raise ValueError("values that differ from each other")
    return values


Axis = Annotated[list[Any], Field(min_length=1), AfterValidator(_differing)]
Target = Literal["probe_accuracy", "validation_accuracy", "test_accuracy", "probe_loss", "validation_loss", "test_loss"]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class Baseline(Options):
    """What the statistics compare against."""

    activation: Annotated[Any, Choice(ACTIVATIONS, "relu", UserActivation)] = Field("relu", validate_default=True)


class Config(Setting):
    """A study: a base setting, a grid over it, and seeds."""

    study: str = Field(
        min_length=1, max_length=100, description="name of the folder in the results; a mapping in Python must give it"
    )
    seeds: Annotated[int, Field(ge=1, le=1_000_000)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        10, description="n for the seeds 0 … n − 1, or a list"
    )
    grid: Annotated[list[dict[str, Axis]], BeforeValidator(_listed)] = Field(
        default_factory=list,
        description="dotted keys and the values each takes: their product; a list of mappings is a union",
        json_schema_extra={"type": ["array", "object"]},
    )
    baseline: Baseline = Field(
        Baseline.model_validate({}),
        description="{activation: …}: what the others are compared with; relu unless given",
    )
    targets: dict[Target, Annotated[list[float], Field(min_length=1)]] | None = Field(
        None, description="levels fixed beforehand that times are measured to"
    )
    margins: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="smallest differences that matter, by metric"
    )
    hypotheses: list[Hypothesis] | None = Field(
        None, description="what is expected; kept in study.yaml before training, so that the report can tell it apart"
    )
    tune: Tune | None = Field(None, description="axes that each activation has its own best value of")
    cost: bool = Field(False, description="time each activation's forward and backward pass after training")

    @field_validator("study")
    @classmethod
    def study_is_a_plain_folder_name(cls, value: str) -> str:
        """A study's name must be one folder on every file system."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value) or value.endswith("."):
            raise ValueError("a name of letters, digits, '.', '_' and '-' that begins with a letter or digit")
        if value.partition(".")[0].lower() in _RESERVED:
            raise ValueError("a name that is not reserved on Windows")
        return value

    @field_validator("seeds")
    @classmethod
    def seeds_differ(cls, value: int | list[int]) -> int | list[int]:
        """The same seed twice would count one network as two."""
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError("seeds that differ from each other")
        return value

    @property
    def seed_list(self) -> list[int]:
        """Every seed, in order."""
        return self.seeds if isinstance(self.seeds, list) else list(range(self.seeds))

    @property
    def axes(self) -> list[str]:
        """The dotted names of all grid axes, in order of appearance."""
        return list(dict.fromkeys(axis for grid in self.grid for axis in grid))
