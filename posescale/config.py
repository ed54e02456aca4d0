"""The pipeline's configuration: one YAML file, checked before anything runs.

`workflows/config/schema.json` is generated from these classes (`posescale config-schema`), for editors; a test keeps
the two equal. No torch here: the workflow is planned by this module alone.
"""

import difflib
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from posescale.cards import component
from posescale.errors import ConfigError, PosescaleError
from posescale.recipes import Recipe

Name = str


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Dataset(_Section):
    """What a study trains and scores on."""

    name: Name
    """Dataset id, as listed by `posescale datasets`."""
    source: str | None = None
    """Folder of the raw data; the environment variable POSESCALE_DATA when not set; not needed by synthetic data."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What the dataset's reader is asked for (its card lists them)."""


class Training(_Section):
    """How a study's models are trained: the recipe of each card, with the same changes for all."""

    recipe: str = "small"
    """Name of the recipe on each model's card."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Fields of the recipe set alike for every model: epochs, steps_per_epoch, batch ..."""

    @field_validator("changes")
    @classmethod
    def _known_fields(cls, changes: dict[str, Any]) -> dict[str, Any]:
        try:
            Recipe().override(**changes)
        except PosescaleError as error:
            raise ValueError(str(error)) from error
        return changes


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
    sections = {"dataset": Dataset, "training": Training, "cost": Cost, "latency": Latency}
    if not loc:
        return Config
    return sections.get(loc[-1], Study)


def data_source(dataset: Dataset) -> str | None:
    """Folder of a dataset's raw files: its own `source`, else POSESCALE_DATA, else None."""
    return dataset.source or os.environ.get("POSESCALE_DATA")
