"""The pipeline's configuration: one YAML file, checked before anything runs.

`workflows/config/schema.json` is generated from these classes (`posescale config-schema`), for editors; a test keeps
the two equal. No torch here: the workflow is planned by this module alone.
"""

import difflib
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)  # fmt: skip

from posescale.cards import component
from posescale.errors import ConfigError, PosescaleError
from posescale.recipes import Recipe

Name = str


def _check_changes(changes: dict[str, Any]) -> dict[str, Any]:
    try:
        Recipe().override(**changes)
    except PosescaleError as error:
        raise ValueError(str(error)) from error
    return changes


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Size(_Section):
    """How much a split holds."""

    sequences: PositiveInt
    """Videos, each camera's apart."""
    frames: PositiveInt
    """Frames of all of them."""


class Dataset(_Section):
    """What a study trains and scores on."""

    name: Name
    """Dataset id, as listed by `posescale datasets`."""
    source: str | None = None
    """Folder of the raw data; the environment variable POSESCALE_DATA when not set; not needed by synthetic data."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What the dataset's reader is asked for (its card lists them)."""
    expected: Size | None = None
    """Size of its training split, for forecasts made before the data are there."""


class Training(_Section):
    """How a study's models are trained: the recipe of each card, with the same changes for all."""

    recipe: str = "small"
    """Name of the recipe on each model's card."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Fields of the recipe set alike for every model: epochs, steps_per_epoch, batch ..."""

    _known_fields = field_validator("changes")(_check_changes)


class ModelChoice(_Section):
    """What one model of a study does differently from the others."""

    frames: list[PositiveInt] | None = None
    """Its clip lengths T."""
    recipe: str | None = None
    """Its recipe."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Fields of its recipe that are set, besides the study's."""
    start: str | None = None
    """File of pretrained weights, where its recipe starts from such."""

    _known_fields = field_validator("changes")(_check_changes)


class Machine(_Section):
    """What trainings and evaluations run on."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Kind of device."""
    devices: PositiveInt = 1
    """Devices that one training shares its batches among."""
    threads: PositiveInt = 1
    """Threads that torch may use."""
    workers: NonNegativeInt = 0
    """Processes that read clips ahead."""


class Cost(_Section):
    """Which costs are counted."""

    models: list[Name] = Field(default_factory=list)
    """Models beyond the trained ones."""
    frames: list[PositiveInt] = [9, 27, 81, 243]
    """Clip lengths T."""


class Latency(_Section):
    """Which latencies and memory peaks are measured, and how long each cell may take."""

    models: list[Name] = Field(default_factory=list)
    """Models beyond the trained ones."""
    frames: list[PositiveInt] = [9, 27, 81, 243]
    """Clip lengths T."""
    batch: PositiveInt = 1
    """Clips per call."""
    threads: PositiveInt = 1
    """Threads torch may use."""
    rounds: PositiveInt = 3
    """Interleaved rounds over all cells."""
    seconds: PositiveFloat = 0.5
    """Busy seconds per cell and round."""


class Study(_Section):
    """One dataset, some models, the same budget for all."""

    title: str
    """Heading in the report."""
    dataset: Dataset
    models: list[Name]
    """Model ids, as listed by `posescale models`."""
    controls: list[Name] = ["ground_truth", "mean_pose", "copy_previous"]
    """Controls that bound every table."""
    frames: list[PositiveInt]
    """Clip lengths T that models are trained at."""
    seeds: list[int] = [0, 1, 2]
    """Seeds; three at least for an interval worth the name."""
    selections: list[Literal["last", "val-best"]] = ["last", "val-best"]
    """Which weights are scored. The test split never selects."""
    training: Training = Training()
    per_model: dict[Name, ModelChoice] = Field(default_factory=dict)
    """Models that differ from the rest: their own clip lengths, recipe, changes or pretrained weights."""
    cost: Cost = Cost()
    latency: Latency = Latency()

    @field_validator("models", "controls")
    @classmethod
    def _known_models(cls, names: list[str]) -> list[str]:
        for name in names:
            try:
                component(name)
            except PosescaleError as error:
                raise ValueError(str(error)) from error
        return names

    @model_validator(mode="after")
    def _recipes_exist(self) -> "Study":
        if stray := set(self.per_model) - set(self.models):
            raise ValueError(f"per_model names {', '.join(sorted(stray))}, which models does not list")
        for model in self.models:
            try:
                self.recipe(model)
            except PosescaleError as error:
                raise ValueError(str(error)) from error
        return self

    def choice(self, model: str) -> ModelChoice:
        """What a model does differently."""
        return self.per_model.get(model, ModelChoice())

    def recipe_name(self, model: str) -> str:
        """Name of a model's recipe on its card."""
        return self.choice(model).recipe or self.training.recipe

    def changes(self, model: str) -> dict[str, Any]:
        """What is changed in a model's recipe."""
        return self.training.changes | self.choice(model).changes

    def recipe(self, model: str) -> Recipe:
        """A model's recipe, with the changes.

        Raises:
            ConfigError: its card has none of that name, or a change does not suit it.
        """
        known = component(model).card.recipes
        name = self.recipe_name(model)
        if name not in known:
            raise ConfigError(f"{model} has no recipe {name!r}; its card has {', '.join(known) or 'none'}")
        return known[name].override(**self.changes(model))

    def cells(self) -> list[tuple[str, int]]:
        """Every model at each of its clip lengths."""
        return [(m, frames) for m in self.models for frames in self.choice(m).frames or self.frames]

    def all_frames(self) -> list[int]:
        """Every clip length that a model is trained at."""
        return sorted({frames for _, frames in self.cells()})

    def cost_models(self) -> list[str]:
        """Models whose cost is counted."""
        return list(dict.fromkeys([*self.models, *self.cost.models]))

    def latency_models(self) -> list[str]:
        """Models whose latency and memory are measured."""
        return list(dict.fromkeys([*self.models, *self.latency.models]))


class Config(_Section):
    """A run of the pipeline: `results/<name>/` and one report."""

    name: str = Field(pattern=r"^[a-z0-9_-]+$")
    """Folder below `results/`."""
    title: str
    """Title of the report."""
    report: str = "reports/published"
    """Folder of the report; it is replaced as a whole."""
    claims: bool = True
    """Whether the ledger of published numbers is part of the run."""
    machine: Machine = Machine()
    """What trainings and evaluations run on."""
    published: list[str] = Field(default_factory=list)
    """Folders of committed records shown beside the run's own (below `results/published/`)."""
    studies: dict[str, Study]
    """Studies by short name (a folder name)."""


def parse(values: dict[str, Any], origin: str = "config") -> Config:
    """Check a configuration.

    Raises:
        ConfigError: names each wrong key, what was found there and what is allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: " + "; ".join(_explain(e) for e in error.errors())) from error


def read(path: Path | str) -> Config:
    """Read and check a configuration file."""
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    return parse(values, str(path))


def _explain(error: dict[str, Any]) -> str:
    where = ".".join(map(str, error["loc"])) or "top level"
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']} (found {error['input']!r})"
    allowed = list(_section_at(error["loc"][:-1]).model_fields)
    near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{where}: unknown key; {hint}allowed here: {', '.join(allowed)}"


def _section_at(loc: tuple[Any, ...]) -> type[BaseModel]:
    sections = {
        "dataset": Dataset, "expected": Size, "training": Training, "cost": Cost, "latency": Latency,
        "machine": Machine,
    }  # fmt: skip
    if not loc:
        return Config
    if len(loc) > 1 and loc[-2] == "per_model":
        return ModelChoice
    return sections.get(loc[-1], Study)


def data_source(dataset: Dataset) -> str | None:
    """Folder of a dataset's raw files: its own `source`, else POSESCALE_DATA, else None."""
    return dataset.source or os.environ.get("POSESCALE_DATA")
